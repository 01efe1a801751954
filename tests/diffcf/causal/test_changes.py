"""Shifts, scales, distributions and conditions, and how they become hard interventions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffcf.causal import (
    Bernoulli,
    CausalGraph,
    Choice,
    Factor,
    Intervention,
    Normal,
    Scale,
    Shift,
    Uniform,
    When,
    parse_do,
    row_keys,
    scaled_do,
    written,
)
from diffcf.io import GraphError, InterventionError

GRAPH = CausalGraph(
    [
        Factor("light", low=2.0, high=6.0),
        Factor("area", low=1.0, high=100.0, scale="log"),
        Factor("count", "integer", low=0.0, high=4.0),
        Factor("hue", "categorical", categories=("red", "blue", "as if x<3")),
        Factor("lit", "binary"),
    ],
    [("light", "lit")],
)
# Native: light 3, 5.8; area 10, 100; count 1.2 (shown as 1), 3; hue red, blue; lit 1, 0.
FACTORS = torch.tensor([[0.25, 0.5, 0.3, 0.0, 1.0], [0.95, 1.0, 0.75, 0.5, 0.0]])
KEYS = row_keys(torch.arange(2))


def resolved(do: dict, units: str = "native", factors: Tensor = FACTORS) -> Intervention:
    asked = scaled_do(do, GRAPH, units)  # type: ignore[arg-type]
    keys = row_keys(torch.arange(len(factors)))
    return Intervention.from_do(asked, GRAPH, len(factors), factors=factors, keys=keys)


def native(do: Intervention, name: str) -> list[float]:
    return GRAPH.to_native(do.values)[:, GRAPH.column(name)].tolist()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("light+=0.2", [3.2, 6.0]),
        ("light-=0.5", [2.5, 5.3]),
        ("light*=1.5", [4.5, 6.0]),
        ("area*=0.1", [1.0, 10.0]),
        ("area-=20", [1.0, 80.0]),
        ("count+=1", [2.0, 4.0]),
        ("count*=2.6", [3.0, 4.0]),
    ],
)
def test_a_change_is_one_of_each_factual_value(text: str, values: list[float]) -> None:
    do = resolved(dict(parse_do([text], GRAPH)))
    name = text[: text.index("=") - 1]
    assert native(do, name) == pytest.approx(values, rel=1e-5)
    assert do.mask[:, GRAPH.column(name)].all() and do.mask.sum() == 2


def test_a_shift_of_v_sets_the_factual_and_v() -> None:
    for units, by in (("scaled", 0.03), ("native", 0.12)):
        shifted = resolved({"light": Shift(by)}, units)
        now = FACTORS if units == "scaled" else GRAPH.to_native(FACTORS)
        hard = resolved({"light": now[:, 0] + by}, units)
        torch.testing.assert_close(shifted.values, hard.values)
        assert torch.equal(shifted.mask, hard.mask)


def test_what_would_lie_beyond_the_range_is_clipped_and_said() -> None:
    do = resolved({"light": Shift(1.0), "area": Scale(1.0)})
    assert do.clipped is not None and do.clipped.nonzero().tolist() == [[1, 0]]
    assert native(do, "light") == pytest.approx([4.0, 6.0])
    below = resolved({"area": Shift(-50.0)})  # which has no logarithm
    assert below.clipped is not None and below.clipped[:, 1].tolist() == [True, False]
    anew = do.then(Intervention.from_do({"light": 0.5}, GRAPH, 2))
    assert anew.clipped is not None and not anew.clipped.any()


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("light<3.5", [0]),
        ("light<3", []),
        ("light<=3", [0]),
        ("light>=3", [0, 1]),
        ("area>10", [1]),
        ("count==1", [0]),
        ("count>1", [1]),
        ("hue==blue", [1]),
        ("hue!=blue", [0]),
        ("lit==1", [0]),
        ("lit<1", [1]),
    ],
)
def test_a_condition_touches_the_rows_that_meet_it_alone(condition: str, rows: list[int]) -> None:
    for text in ("light=5", "light+=0.5", "light~uniform:2:6"):
        always = resolved(dict(parse_do([text], GRAPH)))
        do = resolved(dict(parse_do([f"{text} if {condition}"], GRAPH)))
        assert do.mask.any(dim=1).nonzero()[:, 0].tolist() == rows
        assert torch.equal(do.values[rows], always.values[rows])


def test_a_category_may_look_like_a_condition() -> None:
    assert parse_do(["hue=as if x<3"], GRAPH) == {"hue": "as if x<3"}
    assert isinstance(parse_do(["hue=red if lit==1"], GRAPH)["hue"], When)


@pytest.mark.parametrize(
    ("change", "units", "name", "mean", "std", "ends"),
    [
        (Uniform(3.0, 5.0), "native", "light", 4.0, 2 / 12**0.5, (3.0, 5.0)),
        (Uniform(0.0, 1.0), "scaled", "light", 4.0, 4 / 12**0.5, (2.0, 6.0)),
        (Uniform(1.0, 100.0), "native", "area", 50.5, 99 / 12**0.5, (1.0, 100.0)),
        (Uniform(1.0, 3.0), "native", "count", 2.0, (2 / 3) ** 0.5, (1.0, 3.0)),
        (Normal(4.0, 0.2), "native", "light", 4.0, 0.2, (2.0, 6.0)),
        # Half of a normal: its mean is σ √(2/π).
        (Normal(2.0, 1.0), "native", "light", 2 + 0.7979, 0.6028, (2.0, 6.0)),
        (Choice((3.0, 5.0, 5.0)), "native", "light", 13 / 3, 0.9428, (3.0, 5.0)),
        (Choice(("red", "blue")), "native", "hue", 0.5, 0.5, (0.0, 1.0)),
        (Bernoulli(0.3), "native", "lit", 0.3, 0.21**0.5, (0.0, 1.0)),
    ],
)
def test_what_is_drawn_has_its_distribution(
    change, units: str, name: str, mean: float, std: float, ends: tuple[float, float]
) -> None:
    many = FACTORS[:1].expand(4000, -1)
    drawn = torch.tensor(native(resolved({name: change}, units, many), name))
    spread = 4 * std / 4000**0.5
    assert drawn.mean() == pytest.approx(mean, abs=spread)
    assert drawn.std() == pytest.approx(std, rel=0.06)
    assert drawn.min() >= ends[0] - 1e-4 and drawn.max() <= ends[1] + 1e-4


def test_a_draw_is_the_images_own_in_any_batch_and_no_other_factors() -> None:
    do = {"light": Uniform(0.0, 1.0), "area": Uniform(0.0, 1.0)}
    many = Intervention.from_do(do, GRAPH, 2, factors=FACTORS, keys=KEYS)
    alone = Intervention.from_do(do, GRAPH, 1, factors=FACTORS[1:], keys=KEYS[1:])
    assert torch.equal(many.values[1:], alone.values)
    assert len(many.values[:, :2].unique()) == 4
    other = Intervention.from_do(do, GRAPH, 2, factors=FACTORS, keys=row_keys(KEYS, 1))
    assert not torch.equal(many.values, other.values)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Shift(0.2), "+=0.2"),
        (Shift(-0.2), "-=0.2"),
        (Scale(1.5), "*=1.5"),
        (Uniform(0.2, 0.4), "~uniform:0.2:0.4"),
        (Normal(0.5, 0.1), "~normal:0.5:0.1"),
        (When(Shift(0.2), "count", "<=", 0.5), "+=0.2 if count<=0.5"),
    ],
)
def test_an_object_and_its_text_ask_the_same(given, text: str) -> None:
    objects, texts = (scaled_do({"light": each}, GRAPH, "scaled") for each in (given, text))
    assert objects == texts
    assert parse_do([f"light{text}"], GRAPH) == {"light": given}
    assert parse_do([written("light", given)], GRAPH) == {"light": given}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lit+=1", r"changes a binary factor.*set it to one of 0, 1"),
        ("hue*=2", "changes a categorical factor"),
        ("count+=0.5", "goes by whole steps"),
        ("light+=much", "'much' is not a number"),
        ("light+=1e400", "not finite"),
        ("light~uniform:1:3", r"support that leaves the factor's range, 2 … 6"),
        ("light~normal:9:1", "support that leaves"),
        ("light~normal:4:0", "not above 0"),
        ("light~uniform:5:3", "low end"),
        ("light~uniform:5", "write light~uniform:low:high"),
        ("light~gamma:1:2", "no known distribution"),
        ("light~choice:3,9", "support that leaves"),
        ("count~uniform:0.5:3", "whole numbers"),
        ("count~choice:1.5", "none of 0 … 4"),
        ("lit~uniform:0:1", "~bernoulli:p"),
        ("hue~normal:0:1", "~choice:a,b"),
        ("hue~choice:red,pink", "no category 'pink'"),
        ("light~bernoulli:0.3", "not a binary one"),
        ("lit~bernoulli:1.3", r"outside \[0, 1\]"),
        ("light=5 if moon<3", "Unknown factor 'moon'"),
        ("light=5 if light==3", "one exact value of a continuous factor"),
        ("light=5 if hue<red", "have no order"),
        ("light=5 if hue==pink", "no category 'pink'"),
        ("light=5 if area<500", "none of its values: 1 … 100"),
        ("light=5 if lit", "is not a number"),
        ("light=5 if lit==1 if lit==0", "two conditions"),
    ],
)
def test_what_does_not_fit_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises((InterventionError, GraphError), match=said):
        scaled_do(parse_do([text], GRAPH), GRAPH, "native")


def test_without_a_factual_only_values_and_draws_are_taken() -> None:
    for change in (Shift(0.1), Scale(2.0), When(0.5, "count", "<", 0.5)):
        with pytest.raises(InterventionError, match="new images have none"):
            Intervention.from_do({"light": change}, GRAPH, 2, keys=KEYS)
    drawn = Intervention.from_do({"light": Uniform(0.2, 0.4)}, GRAPH, 2, keys=KEYS)
    assert ((drawn.values[:, 0] >= 0.2) & (drawn.values[:, 0] <= 0.4)).all()
    with pytest.raises(InterventionError, match="Shift takes finite numbers"):
        Shift(float("nan"))
