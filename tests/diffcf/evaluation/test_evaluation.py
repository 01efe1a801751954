"""The whole procedure: references score what they must, and nothing depends on how it is run."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.distributed as dist
from processes import in_two

from data_modules.scenes.flow import FlowScene
from data_modules.scenes.pendulum import PendulumScene
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.interface import Scene
from diffcf.causal.intervention import Intervention
from diffcf.evaluation.evaluate import CounterfactualEvaluation
from diffcf.evaluation.plan import InterventionPlan
from diffcf.evaluation.protocol import EvaluationProtocol
from diffcf.evaluation.references import DoNothing, ExactMethod
from diffcf.io.errors import GraphError, SettingsError
from diffcf.methods.interface import Counterfactual

COUNT = 24
SHORT = EvaluationProtocol(steps=3, sequence_images=8, cycles=3, cycle_images=6, reverse_images=10)


def _images(scene: PendulumScene) -> tuple[torch.Tensor, torch.Tensor]:
    factors = scene.published_grid()[0].float()
    factors = factors[scene.visible(factors)][::311][:COUNT]
    return scene.render(factors, 64), factors


def _evaluate(scene: PendulumScene, exact: bool, batch: int = COUNT, rows=None) -> dict[str, float]:
    image, factors = _images(scene)
    evaluation = CounterfactualEvaluation(scene.graph, factors, SHORT, scene)
    method = ExactMethod(scene) if exact else DoNothing(scene.graph)
    for part in (torch.arange(COUNT) if rows is None else rows).split(batch):
        evaluation.update(method, image[part], part)
    return evaluation.compute() | {f"span/{k}": v[0] for k, v in evaluation.intervals().items()}


@cache
def _whole(exact: bool) -> dict[str, float]:
    """All images in one batch."""
    return _evaluate(PendulumScene(), exact)


def test_a_perfect_method_scores_the_rulers_floor() -> None:
    result = _whole(exact=True)
    assert (
        result["acm"] < 0.001 and result["acm/step_3"] < 0.001 and result["effectiveness"] < 0.001
    )
    assert result["psnr/roots"] == pytest.approx(100) and result["ssim"] == pytest.approx(1)
    assert result["composition/1"] == 0 and result["composition/3"] == 0
    assert result["minimality"] == 0
    assert result["reversibility"] < 1e-6
    assert "acm/step_growth" not in result, "there is no error that could grow"
    for name, value in result.items():
        if name.startswith("exact/"):
            assert result[name.removeprefix("exact/")] == value, "it is its own reference"


def test_doing_nothing_scores_what_stands_beside_every_table() -> None:
    result = _whole(exact=False)
    for name in ("acm/roots", "acm/leaves", "acm/step_1", "acm/step_3", "psnr/roots"):
        assert result[name] == pytest.approx(result[f"do_nothing/{name}"])
    assert result["acm/step_growth"] == pytest.approx(result["acm/step_3"] / result["acm/step_1"])
    assert result["acm/roots"] > 0.1 and result["acm/leaves"] > 0.03
    assert result["composition/1"] == result["reversibility"] == result["minimality"] == 0


def test_changing_everything_is_caught() -> None:
    result = _whole(exact=True)
    for name in ("composition/1", "composition/3", "reversibility", "minimality"):
        assert result[f"change_everything/{name}"] > 0.02 > result[name], name


def test_batch_size_changes_neither_interventions_nor_metrics(scene: PendulumScene) -> None:
    whole, parts = _whole(exact=False), _evaluate(scene, False, 7)
    for name, value in whole.items():
        if "seconds" not in name:
            assert parts[name] == pytest.approx(value, abs=1e-5), name


def test_two_processes_agree_with_one_though_the_sampler_hands_out_images_twice(tmp_path) -> None:
    alone = _whole(exact=False)
    in_two(_share, tmp_path)
    for rank in range(2):
        shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert set(shared) == set(alone)
        for name, value in alone.items():
            if "seconds" not in name:
                assert shared[name] == pytest.approx(value, abs=1e-6), name


def _share(rank: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    rows = torch.arange(rank, COUNT, 2)
    # As DistributedSampler pads: the second process meets the first image again.
    rows = torch.cat([rows, torch.zeros(1, dtype=torch.long)]) if rank else rows
    torch.save(_evaluate(PendulumScene(), exact=False, batch=5, rows=rows), f"{out}/{rank}.pt")
    dist.destroy_process_group()


# --- which interventions are made ---


def test_plans_follow_the_seed_and_show_only_what_can_be_read(scene: PendulumScene) -> None:
    factors = scene.published_grid()[0].float()
    factors = factors[scene.visible(factors)][::97]
    known = (scene.counterfactual, scene.visible)
    plans = [
        InterventionPlan(scene.graph, factors, EvaluationProtocol(seed=s), *known)
        for s in (0, 0, 1)
    ]
    assert torch.equal(plans[0].sequence[3].values, plans[1].sequence[3].values)
    assert not torch.equal(plans[0].sequence[3].values, plans[2].sequence[3].values)
    held = Intervention.none(factors)
    for step, do in enumerate(plans[0].sequence):
        assert (do.mask.sum(dim=1) == 1).all()
        if step:
            assert not (do.mask & plans[0].sequence[step - 1].mask).any()
        held = held.then(do)
        target = scene.counterfactual(factors, held.values, held.mask)
        assert scene.visible(target).float().mean() > 0.99


@pytest.mark.parametrize("values", ["marginal", "uniform"])
def test_values_differ_from_the_factual_by_at_least_min_change(
    scene: PendulumScene, values: str
) -> None:
    factors = scene.published_grid()[0].float()
    factors = factors[scene.visible(factors)][::97]
    protocol = EvaluationProtocol(values=values, min_change=0.2)  # type: ignore[arg-type]
    plan = InterventionPlan(scene.graph, factors, protocol, scene.counterfactual, scene.visible)
    for do in plan.single.values():
        change = torch.where(do.mask, (do.values - factors).abs(), 1.0).amin(dim=1)
        assert (change >= 0.2).float().mean() > 0.97


def test_a_protocol_names_its_factors_and_what_is_wrong_with_it(scene: PendulumScene) -> None:
    image, factors = _images(scene)
    protocol = EvaluationProtocol(factors=["light"], steps=0, cycles=0, reverse_images=0)
    evaluation = CounterfactualEvaluation(scene.graph, factors, protocol, scene)
    evaluation.update(DoNothing(scene.graph), image, torch.arange(COUNT))
    result = evaluation.compute()
    assert "acm/light" in result and "acm/angle" not in result and "reversibility" not in result
    with pytest.raises(GraphError, match="Unknown factor 'sun'"):
        CounterfactualEvaluation(scene.graph, factors, EvaluationProtocol(factors=["sun"]), scene)
    with pytest.raises(SettingsError, match="min_change"):
        EvaluationProtocol(min_change=0.7)
    with pytest.raises(SettingsError, match="only reader, evaluator, is not at hand"):
        CounterfactualEvaluation(
            scene.graph, factors, EvaluationProtocol(readers=("evaluator",)), scene
        )


def test_a_second_reader_reports_under_its_name(scene: PendulumScene) -> None:
    class Blind:
        def read(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images), 4), 0.5)

    image, factors = _images(scene)
    short = EvaluationProtocol(steps=0, cycles=0, reverse_images=0)
    evaluation = CounterfactualEvaluation(scene.graph, factors, short, scene, evaluator=Blind())
    evaluation.update(ExactMethod(scene), image, torch.arange(COUNT))
    result = evaluation.compute()
    assert result["acm"] < 0.001 < 0.1 < result["evaluator/acm"]
    assert result["exact/evaluator/acm"] == result["evaluator/acm"]


def test_where_all_else_is_an_effect_nothing_has_to_be_kept(scene: PendulumScene) -> None:
    chain = CausalGraph([Factor("angle"), Factor("length")], [("angle", "length")])
    protocol = EvaluationProtocol(factors=["angle"], steps=0, cycles=0, reverse_images=0)
    image, factors = _images(scene)

    class Reader:
        def read(self, images: torch.Tensor) -> torch.Tensor:
            return scene.read(images)[:, :2]

    evaluation = CounterfactualEvaluation(chain, factors[:, :2], protocol, evaluator=Reader())
    evaluation.update(DoNothing(chain), image, torch.arange(COUNT))
    result = evaluation.compute()
    assert "acm/angle" in result and "kept" not in result


# --- worlds that are known in part, or not at all ---

QUICK = EvaluationProtocol(steps=2, cycles=0, reverse_images=0, min_change=0.0)
RAIN = CausalGraph([Factor("rain", "binary"), Factor("wet", "binary")], [("rain", "wet")])


class RandomScene(Scene):
    """Draws its two factors as grey levels; ``wet`` follows ``rain`` with a probability."""

    graph, identified, noise_names = RAIN, False, ("shade",)

    def counterfactual(self, factors, values, mask):
        acted = torch.where(mask, values, factors)
        wet = torch.where(mask[:, 1], acted[:, 1], 0.2 + 0.5 * acted[:, 0])
        return torch.stack([acted[:, 0], wet], dim=1)

    def read(self, images):
        return (images[:, 0, 0, ::4] > 0).float()

    def render(self, factors, image_size, noise=None):
        return _paint(factors, noise)

    def visible(self, factors):
        return torch.ones(len(factors), dtype=torch.bool)


def _paint(factors: torch.Tensor, shade: torch.Tensor | float = 1.0) -> torch.Tensor:
    factors = 0.5 + shade * (factors - 0.5)
    return (2 * factors - 1).repeat_interleave(4, 1)[:, None, None].expand(-1, 3, 8, 8)


class DrawingEngine:
    """Answers as a causal model that draws ``wet`` anew, at the true rate or never."""

    def __init__(self, honest: bool) -> None:
        self.honest = honest

    def abduct(self, image, factors, keys=None):
        self.image, self.factors = image, factors
        return self

    def reabduct(self, answer):
        return self

    def predict(self, do):
        acted = torch.where(do.mask, do.values, self.factors)
        if self.honest and do.mask[0, 0]:
            acted[:, 1] = (torch.rand(len(acted)) < 0.2 + 0.5 * acted[:, 0]).float()
        return Counterfactual(_paint(acted), acted, do)


def test_random_mechanisms_are_judged_by_their_rates() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(2, (4000, 2), generator=generator).float()
    results = {}
    for honest in (True, False):
        evaluation = CounterfactualEvaluation(RAIN, factors, QUICK, RandomScene())
        evaluation.update(DrawingEngine(honest), _paint(factors), torch.arange(4000))
        results[honest] = evaluation.compute()
        assert results[honest]["acm"] == 0 and results[honest]["accuracy/rain"] == 1
        assert "psnr/rain" not in results[honest]
    assert results[True]["rate_error"] < 0.03 < 0.15 < results[False]["rate_error"]
    assert results[True]["true_rate/rain=1/wet"] == pytest.approx(0.7)


def test_what_the_model_drew_can_be_painted_though_no_one_knows_what_would_have_been() -> None:
    factors, shade = torch.randint(2, (200, 2)).float(), 0.5 + torch.rand(200, 1) / 2
    evaluation = CounterfactualEvaluation(RAIN, factors, QUICK, RandomScene(), shade)
    answered = evaluation.update(DrawingEngine(True), _paint(factors, shade), torch.arange(200))
    result = evaluation.compute()
    target = answered.single["rain"].factors
    assert torch.equal(answered.exact["rain"], _paint(target, shade))
    # The engine paints the right factors, but forgets the shade.
    error = (target - 0.5) * (1 - shade)
    floor = -10 * error.square().mean(dim=1).log10()
    assert result["psnr/rain"] == pytest.approx(float(floor.mean()), abs=0.01)
    assert result["do_nothing/psnr/rain"] < result["psnr/rain"]
    assert not any(name.startswith(("exact/", "change_everything/")) for name in result)


def test_doing_nothing_is_judged_by_what_the_model_drew() -> None:
    factors = torch.randint(2, (200, 2)).float()
    evaluation = CounterfactualEvaluation(RAIN, factors, QUICK, RandomScene())
    evaluation.update(DrawingEngine(True), _paint(factors), torch.arange(200))
    result = evaluation.compute()
    assert result["do_nothing/acm/rain/wet"] > 0.2, "effects of rain count against it"


def test_without_a_scene_pictures_are_compared_but_nothing_is_read(scene: PendulumScene) -> None:
    image, factors = _images(scene)
    evaluation = CounterfactualEvaluation(scene.graph, factors, SHORT)
    answered = evaluation.update(DoNothing(scene.graph), image, torch.arange(COUNT))
    result = set(evaluation.compute())
    assert {"psnr/reconstruction", "composition/1", "reversibility"} <= result
    assert not any("acm" in name or "minimality" in name for name in result)
    assert answered.exact == {} and set(answered.single) == set(scene.graph.names)


def test_image_noise_is_kept_by_exact_counterfactuals() -> None:
    scene = FlowScene()
    factors, _, noise = scene.published_grid()
    rows = torch.arange(0, 8100, 900)
    noise = torch.full_like(noise, 0.05)
    image = scene.render(factors[rows], 64, noise[rows])
    evaluation = CounterfactualEvaluation(scene.graph, factors[rows], QUICK, scene, noise[rows])
    answered = evaluation.update(DoNothing(scene.graph), image, torch.arange(9))
    do = evaluation.plan.single["ball_size"]
    target = scene.counterfactual(factors[rows], do.values, do.mask)
    assert torch.equal(answered.exact["ball_size"], scene.render(target, 64, noise[rows]))
    assert not torch.equal(answered.exact["ball_size"], scene.render(target, 64))
    assert evaluation.compute()["exact/psnr"] == pytest.approx(100)
