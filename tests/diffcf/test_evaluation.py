"""The ruler's own floor and ceiling: a perfect method, and one that does nothing."""

from __future__ import annotations

import pytest
import torch

from data_modules.scenes.flow import FlowScene
from data_modules.scenes.pendulum import PendulumScene
from diffcf.counterfactual import Counterfactual
from diffcf.evaluation import CounterfactualEvaluation
from diffcf.graph import CausalGraph, Factor
from diffcf.intervention import Intervention
from diffcf.protocol import InterventionPlan


class SceneEngine:
    """Answers with the scene's own renders (``perfect``) or with the factual image."""

    def __init__(self, scene: PendulumScene, perfect: bool) -> None:
        self.scene, self.perfect = scene, perfect

    def abduct(self, image: torch.Tensor, factors: torch.Tensor) -> SceneEngine:
        self.image, self.factors = image, factors
        return self

    def predict(self, do: Intervention) -> Counterfactual:
        target = self.scene.counterfactual(self.factors, do.values, do.mask)
        image = self.scene.render(target, 64) if self.perfect else self.image
        return Counterfactual(image, target, do, [])

    def sequence(self, image, steps, factors) -> list[Counterfactual]:
        held, answers = Intervention.none(factors), []
        for step in steps:
            held = held.then(step)
            answers.append(self.predict(held))
        return answers


def _evaluate(scene: PendulumScene, perfect: bool, batch: int = 24) -> dict[str, float]:
    factors = scene.published_grid()[0].float()
    factors = factors[scene.visible(factors)][::311][:24]
    image = scene.render(factors, 64)
    evaluation = CounterfactualEvaluation(scene.graph, scene, factors, steps=5, seed=0)
    for rows in torch.arange(24).split(batch):
        evaluation.update(SceneEngine(scene, perfect), image[rows], rows)
    return evaluation.compute()


def test_a_perfect_method_scores_the_rulers_floor(scene: PendulumScene) -> None:
    result = _evaluate(scene, perfect=True)
    assert result["acm"] < 0.001
    assert result["acm/step_5"] < 0.001
    assert result["psnr/roots"] > 60 and result["psnr/reconstruction"] > 60


def test_doing_nothing_scores_what_stands_beside_every_table(scene: PendulumScene) -> None:
    result = _evaluate(scene, perfect=False)
    for name in ("acm/roots", "acm/leaves", "acm/step_1", "acm/step_5"):
        assert result[name] == pytest.approx(result[f"do_nothing/{name}"])
    assert result["acm/roots"] > 0.1
    assert result["acm/leaves"] > 0.03


def test_batch_size_changes_neither_interventions_nor_metrics(scene: PendulumScene) -> None:
    whole, parts = _evaluate(scene, False, 24), _evaluate(scene, False, 7)
    for name, value in whole.items():
        if "seconds" not in name:
            assert parts[name] == pytest.approx(value, abs=1e-5), name


def test_plans_follow_the_seed_and_show_only_what_can_be_read(scene: PendulumScene) -> None:
    factors = scene.published_grid()[0].float()
    factors = factors[scene.visible(factors)][::97]
    arguments = (scene.graph, factors, scene.counterfactual, scene.visible)
    plans = [InterventionPlan(*arguments, steps=5, seed=seed) for seed in (0, 0, 1)]
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


# --- worlds that are known in part, or not at all ---

RAIN = CausalGraph([Factor("rain", "binary"), Factor("wet", "binary")], [("rain", "wet")])


class RandomScene:
    """Draws its two factors as grey levels; ``wet`` follows ``rain`` with a probability."""

    identified, noise_names = False, ()

    def counterfactual(self, factors, values, mask):
        acted = torch.where(mask, values, factors)
        wet = torch.where(mask[:, 1], acted[:, 1], 0.2 + 0.5 * acted[:, 0])
        return torch.stack([acted[:, 0], wet], dim=1)

    def read(self, images):
        return (images[:, 0, 0, :2] > 0).float()


def _paint(factors: torch.Tensor) -> torch.Tensor:
    return (2 * factors - 1)[:, None, None, :].expand(-1, 3, 2, 2)


class DrawingEngine:
    """Answers as a causal model that draws ``wet`` anew, at the true rate or never."""

    def __init__(self, honest: bool) -> None:
        self.honest = honest

    def abduct(self, image, factors):
        self.image, self.factors = image, factors
        return self

    def predict(self, do):
        acted = torch.where(do.mask, do.values, self.factors)
        if self.honest and do.mask[0, 0]:
            acted[:, 1] = (torch.rand(len(acted)) < 0.2 + 0.5 * acted[:, 0]).float()
        return Counterfactual(_paint(acted), acted, do, [])

    def sequence(self, image, steps, factors):
        return SceneEngine.sequence(self.abduct(image, factors), image, steps, factors)


def test_random_mechanisms_are_judged_by_their_rates() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(2, (4000, 2), generator=generator).float()
    results = {}
    for honest in (True, False):
        evaluation = CounterfactualEvaluation(RAIN, RandomScene(), factors, steps=2)
        evaluation.update(DrawingEngine(honest), _paint(factors), torch.arange(4000))
        results[honest] = evaluation.compute()
        assert results[honest]["acm"] == 0 and results[honest]["accuracy/rain"] == 1
        assert "psnr/rain" not in results[honest]
    assert results[True]["rate_error"] < 0.03 < 0.15 < results[False]["rate_error"]
    assert results[True]["true_rate/rain=1/wet"] == pytest.approx(0.7)


def test_without_a_scene_only_the_reconstruction_is_measured(scene: PendulumScene) -> None:
    factors = scene.published_grid()[0][:8]
    image = scene.render(factors, 32)
    evaluation = CounterfactualEvaluation(scene.graph, None, factors, steps=5)
    example = evaluation.update(SceneEngine(scene, False), image, torch.arange(8))
    assert set(evaluation.compute()) == {"psnr/reconstruction", "seconds_per_counterfactual"}
    assert example.exact == {} and set(example.counterfactual) == set(scene.graph.names)


def test_image_noise_is_kept_by_exact_counterfactuals() -> None:
    scene = FlowScene()
    factors, _, noise = scene.published_grid()
    rows = torch.arange(0, 8100, 900)
    noise = torch.full_like(noise, 0.05)
    image = scene.render(factors[rows], 64, noise[rows])
    evaluation = CounterfactualEvaluation(scene.graph, scene, factors[rows], 0, noise=noise[rows])
    example = evaluation.update(SceneEngine(scene, False), image, torch.arange(9))
    do = evaluation.plan.single["ball_size"]
    target = scene.counterfactual(factors[rows], do.values, do.mask)
    assert torch.equal(example.exact["ball_size"], scene.render(target, 64, noise[rows]))
    assert not torch.equal(example.exact["ball_size"], scene.render(target, 64))
