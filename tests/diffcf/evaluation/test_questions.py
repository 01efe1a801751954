"""A question changes something, or it is not asked: it is counted, and never a success."""

from __future__ import annotations

import pytest
import torch

from diffcf.causal import CausalGraph, Factor
from diffcf.evaluation import CounterfactualEvaluation, DoNothing, EvaluationProtocol
from diffcf.evaluation import InterventionPlan as Plan
from diffcf.io import DiffcfError
from diffcf.reporting import print_table, seeds_table

COUNT = 256
HATS = ("cap", "crown", "none")
PEOPLE = CausalGraph(
    [Factor("bald", "binary"), Factor("income", high=1000.0), Factor("hat", categories=HATS,
     kind="categorical")]
)  # fmt: skip


def people(bald: int = 5, crowns: int = 1, constant: bool = False) -> torch.Tensor:
    """Factors ``[256, 3]``: a rare attribute, a log-normal, and a category with a rare level."""
    generator = torch.Generator().manual_seed(0)
    income = torch.randn(COUNT, generator=generator).exp() / 1000
    factors = torch.zeros(COUNT, 3)
    factors[:bald, 0] = 1
    factors[:, 1] = 0.3 if constant else income
    factors[:, 2] = 1.0
    factors[:crowns, 2] = 0.5
    return factors


@pytest.mark.parametrize("values", ["marginal", "uniform"])
@pytest.mark.parametrize(("bald", "crowns"), [(1, 1), (5, 40), (0, 1), (COUNT, 255)])
def test_every_question_sets_another_value(values: str, bald: int, crowns: int) -> None:
    factors = people(bald, crowns)
    plan = Plan(PEOPLE, factors, EvaluationProtocol(values=values, steps=6))  # type: ignore[arg-type]
    assert plan.left_out == {}
    held = factors
    for name, do in plan.single.items():
        assert do.mask[:, PEOPLE.column(name)].all()
        assert not (do.mask & (do.values == factors)).any(), name
    for do in plan.sequence:
        assert (do.mask.sum(dim=1) == 1).all()
        assert not (do.mask & (do.values == held)).any()
        held = torch.where(do.mask, do.values, held)
    assert torch.equal(plan.single["bald"].values[:, 0], 1 - factors[:, 0]), "it is flipped"


def test_marginal_values_occur_and_uniform_ones_need_not() -> None:
    factors = people()
    plan = Plan(PEOPLE, factors, EvaluationProtocol())
    for name in ("income", "hat"):
        column = PEOPLE.column(name)
        assert torch.isin(plan.single[name].values[:, column], factors[:, column]).all()
    uniform = Plan(PEOPLE, factors, EvaluationProtocol(values="uniform"))
    assert (uniform.single["hat"].values[:, 2] == 0).any(), "no one here wears a cap"


def test_least_changes_are_in_units_of_the_data_where_the_range_is_far_wider() -> None:
    factors = people()
    middle = factors[:, 1].quantile(torch.tensor([0.05, 0.95]))
    least = 0.05 * 2 * float(middle[1] - middle[0])
    change = (Plan(PEOPLE, factors, EvaluationProtocol()).single["income"].values - factors)[:, 1]
    assert least * 0.95 <= change.abs().min() < 0.05, "the whole range would leave out nearly all"
    spread = torch.rand(COUNT, 3, generator=torch.Generator().manual_seed(1)).round(decimals=3)
    wide = CausalGraph([Factor("a"), Factor("b"), Factor("c")])
    for do in Plan(wide, spread, EvaluationProtocol(min_change=0.2)).single.values():
        assert (do.values - spread)[do.mask].abs().min() >= 0.2, "of the range that they fill"


def test_a_few_values_beside_a_crowd_are_found() -> None:
    graph, factors = CausalGraph([Factor("age")]), torch.full((COUNT, 1), 0.5)
    factors[7] = 0.9
    plan = Plan(graph, factors, EvaluationProtocol(steps=0))
    assert plan.left_out == {} and (plan.single["age"].values != factors).all()


@pytest.mark.parametrize("few", [1, COUNT])
def test_what_has_no_other_value_is_left_out_and_counted(few: int) -> None:
    factors = people(crowns=0, constant=True)[:few]
    plan = Plan(PEOPLE, factors, EvaluationProtocol(steps=3, sequence_images=8))
    assert list(plan.single) == ["bald"]
    assert plan.left_out["income"] == plan.left_out["hat"] == few
    steps = [plan.left_out.get(f"step_{k}", 0) for k in (1, 2, 3)]
    assert sum(steps) == 2 * min(few, 8), "each image meets each factor once"
    # Any value is another one where values need not occur.
    free = EvaluationProtocol(values="uniform", steps=3)
    assert Plan(PEOPLE, factors, free).left_out == {}


class Blind:
    """Reads what the images were made of."""

    def read(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :, 0, 0]


def measured(factors: torch.Tensor, graph: CausalGraph) -> CounterfactualEvaluation:
    protocol = EvaluationProtocol(steps=2, cycles=0)
    evaluation = CounterfactualEvaluation(graph, factors, protocol, evaluator=Blind())
    images = factors[:, :, None, None].expand(-1, -1, 4, 4)
    for rows in torch.arange(len(factors)).split(100):
        evaluation.update(DoNothing(graph), images[rows], rows)
    return evaluation


def test_a_null_intervention_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    factors = people(bald=1, crowns=0, constant=True)
    evaluation = measured(factors, PEOPLE)
    metrics = evaluation.compute()
    assert metrics["effectiveness/bald"] == 1 == metrics["effectiveness"], "nothing was flipped"
    assert metrics["accuracy/bald"] == 0 and metrics["acm/bald"] == pytest.approx(1 / 3)
    assert not any("income" in name for name in metrics if name.count("/") == 1)
    assert set(evaluation.intervals()) >= {"acm", "acm/bald"}
    provenance = {"training": {}, "sampling": {"steps": 1}, "method": "x.Toy"}
    record = {"metrics": metrics, "images": COUNT, "left_out": evaluation.plan.left_out}
    said = f"{COUNT} of do(income), {COUNT} of do(hat)"
    print_table(record)
    assert said in capsys.readouterr().out.replace("\n", " ")
    assert said in seeds_table([record | {"provenance": provenance}])


def test_where_nothing_can_be_asked_the_rest_is_measured() -> None:
    graph = CausalGraph([Factor("age"), Factor("height")])
    evaluation = measured(torch.full((8, 2), 0.5), graph)
    metrics = evaluation.compute()
    assert metrics["composition/1"] == 0 and metrics["acm/null"] == 0
    assert not {"acm", "effectiveness", "reversibility"} & set(metrics)
    assert evaluation.plan.left_out["age"] == 8 and evaluation.images() == 8
    evaluation.intervals()


def test_a_protocol_sets_what_it_says_where_that_is_a_change() -> None:
    factors = people()
    low = factors[:, 1] < 0.002
    do = {"income": "+=0.2 if income<2", "hat": "crown"}
    plan = Plan(PEOPLE, factors, EvaluationProtocol(do=do, min_change=0.001, steps=2))
    assert set(plan.single) == {"income", "hat"}
    income = plan.single["income"]
    torch.testing.assert_close(income.values[low, 1], factors[low, 1] + 0.0002)
    assert not income.mask[~low].any()
    assert not plan.single["hat"].mask[0].any()  # who wears it already
    assert plan.single["hat"].mask[1:, 2].all() and (plan.single["hat"].values[1:, 2] == 0.5).all()
    assert plan.left_out["hat"] == 1 and plan.left_out["income"] == int((~low).sum())


def test_what_a_protocol_draws_is_a_function_of_its_seed() -> None:
    def drawn(seed: int) -> torch.Tensor:
        asked = EvaluationProtocol(do={"income": "~uniform:500:900"}, steps=0, seed=seed)
        return Plan(PEOPLE, people(), asked).single["income"].values[:, 1]

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    assert drawn(1).min() >= 0.5 and drawn(1).max() <= 0.9 and drawn(1).unique().numel() > 200


def test_factors_beside_those_that_are_told_are_drawn() -> None:
    asked = EvaluationProtocol(factors=["bald", "hat"], do={"hat": "cap"}, steps=0)
    plan = Plan(PEOPLE, people(), asked)
    assert set(plan.single) == {"bald", "hat"}
    assert torch.equal(plan.single["bald"].values[:, 0], 1 - people()[:, 0])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"do": {}}, "empty"),
        ({"do": {"hat": "cap"}, "factors": ["bald"]}, "hat"),
        ({"do": {"hut": "cap"}}, "hut"),
        ({"do": {"hat": "helmet"}}, "helmet"),
        ({"do": {"income": 2000.0}}, "income"),
        ({"do": {"hat": "+=1"}}, "hat"),
        ({"do": {"income": "~uniform:-1:2"}}, "income"),
    ],
)
def test_what_a_protocol_cannot_set_is_one_sentence(settings: dict, named: str) -> None:
    with pytest.raises(DiffcfError, match=named):
        Plan(PEOPLE, people(), EvaluationProtocol(steps=0, **settings))
