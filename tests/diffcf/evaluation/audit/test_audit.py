"""Effects on a classifier, by exact counterfactuals of a scene: what they must be is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from small_nscms import CATEGORICAL
from torch import Tensor

from data_modules.scenes import PendulumScene
from diffcf.causal import Do
from diffcf.evaluation import (
    Audit,
    AuditScores,
    Classifier,
    Contrast,
    DoNothing,
    ExactMethod,
    PlantedClassifiers,
    Strata,
    audit_scores,
    default_contrasts,
    planted_errors,
    summarise,
)
from diffcf.io import GraphError, SettingsError

SIZE, BATCH = 64, 8
Score = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def factors(scene: PendulumScene) -> Tensor:
    grid = scene.published_grid()[0].float()
    return grid[scene.visible(grid)][::331][:20]


def scored(
    scene: PendulumScene, factors: Tensor, score: Score, contrasts: list[Contrast]
) -> AuditScores:
    method = ExactMethod(scene)
    worlds = (method.abduct(scene.render(some, SIZE), some) for some in factors.split(BATCH))
    return audit_scores(worlds, Classifier("test", score), contrasts, shown=3)


@pytest.fixture
def audited(scene: PendulumScene, factors: Tensor) -> Callable[..., Audit]:
    def run(score: Score, do: Do, versus: Do, **settings: object) -> Audit:
        contrasts = [Contrast("asked", do, versus)]
        return summarise(scored(scene, factors, score, contrasts), **settings)  # type: ignore[arg-type]

    return run


def test_an_indifferent_classifier_is_moved_by_nothing(audited) -> None:
    audit = audited(lambda images: torch.full((len(images),), 0.7), {"light": 0.9}, {"light": 0.1})
    (effect,), (groups,) = audit.effects, audit.groups
    for kind in ("total", "direct"):
        assert effect[kind] == [{"mean": 0.0, "low": 0.0, "high": 0.0, "images": 20}]
    assert all(flips["mean"] == 0 for flips in effect["flips"].values())
    assert groups["gap"] == groups["decision_gap"] == [0.0]
    assert [each["decided"][0]["mean"] for each in groups["groups"]] == [1.0] * 3


def test_who_reads_what_is_set_is_moved_by_the_change(audited, scene: PendulumScene) -> None:
    audit = audited(lambda images: scene.read(images)[:, 1], {"light": 0.8}, {"light": 0.3})
    (effect,) = audit.effects
    for kind in ("total", "direct"):
        assert effect[kind][0]["mean"] == pytest.approx(0.5, abs=0.01)
    assert effect["flips"]["up"]["mean"] == 1 and effect["flips"]["down"]["mean"] == 0


def test_what_goes_through_effects_is_total_and_not_direct(audited, scene: PendulumScene) -> None:
    audit = audited(lambda images: scene.read(images)[:, 3], {"light": 0.8}, {"light": 0.3})
    (effect,) = audit.effects
    assert abs(effect["total"][0]["mean"]) > 0.1 > 0.01 > abs(effect["direct"][0]["mean"])


@pytest.mark.parametrize("versus", [{"shadow_length": 0.1}, {}])
def test_of_a_leaf_direct_and_total_effects_are_one(audited, scene, versus) -> None:
    effect = audited(scene.read, {"shadow_length": 0.4}, versus).effects[0]
    assert effect["total"] == effect["direct"] and len(effect["total"]) == 4
    assert effect["total"][2]["mean"] > 0.1


def test_intervals_hold_their_means_and_the_most_moved_are(audited, scene) -> None:
    audit = audited(lambda images: scene.read(images)[:, 1], {"light": 0.8}, {}, strata=["angle"])
    (effect,) = audit.effects
    within = effect["strata"]["angle"]
    for mean in [*effect["total"], *effect["direct"], *(row["total"][0] for row in within)]:
        assert mean["low"] < mean["mean"] < mean["high"]
    weights = [row["total"][0]["images"] for row in within]
    means = [row["total"][0]["mean"] for row in within]
    assert sum(weights) == 20 and len(weights) == 3
    average = sum(w * m for w, m in zip(weights, means, strict=True)) / 20
    assert average == pytest.approx(effect["total"][0]["mean"])
    (scores,) = audit.scores.contrasts
    change = (scores.total[1] - scores.total[0]).abs()[:, 0]
    assert scores.moved.row.tolist() == change.argsort(descending=True)[:3].tolist()
    torch.testing.assert_close(scene.read(scores.moved.after)[:, 1], torch.full((3,), 0.8))


def test_gaps_between_groups_are_those_of_the_images(audited, scene: PendulumScene) -> None:
    """A classifier of the shadow favours some lights, though no light moves it by itself."""
    audit = audited(lambda images: scene.read(images)[:, 3], {"light": 0.8}, {"light": 0.3})
    (groups,) = audit.groups
    means = [each["score"][0]["mean"] for each in groups["groups"]]
    assert groups["gap"][0] == pytest.approx(max(means) - min(means)) and groups["gap"][0] > 0.1


def test_levels_without_images_are_named_and_left_out() -> None:
    factors = torch.tensor([[0.0, 0.2, 0.0, 1.0], [0.5, 0.4, 0.0, 0.0], [0.5, 0.6, 0.0, 1.0]])
    world = DoNothing(CATEGORICAL).abduct(torch.zeros(3, 3, 4, 4), factors)
    call = Classifier("mean", lambda images: images.mean(dim=(1, 2, 3)))
    contrasts, notes = default_contrasts(CATEGORICAL, factors)
    titles = [each.title for each in contrasts]
    assert titles[:2] == ["shape cube → sphere", "shape cube → cone"] and not notes
    assert {"lit 0 → 1", "hue red → blue"} < set(titles)
    audit = summarise(audit_scores([world], call, contrasts), strata=["shape", "lit"])
    assert [row["of"] for row in audit.effects[0]["strata"]["shape"]] == ["cube", "sphere"]
    assert len(audit.notes) == 2 and "cone" in audit.notes[0]
    with pytest.raises(GraphError, match="colour"):
        summarise(audit_scores([world], call, contrasts), strata=["colour"])


@pytest.mark.parametrize(
    "values, sizes",
    [
        ([0.0, 0.0, 1.0, 1.0, 1.0], [2, 3]),
        ([0.0, 1.0], [1, 1]),
        ([0.5] * 4, [4]),
        ([0.0] * 7 + [0.5, 1.0], [7, 2]),
        ([k / 8 for k in range(9)], [3, 3, 3]),
    ],
)
def test_bins_of_a_number_are_never_empty(
    scene: PendulumScene, values: list[float], sizes: list[int]
) -> None:
    factors = torch.tensor(values)[:, None].expand(-1, 4)
    strata = Strata.of(scene.graph, factors, "light")
    assert strata.group.bincount().tolist() == sizes
    assert len(strata.labels) == len(sizes) and not strata.empty


def test_a_number_that_never_changes_has_no_effect_to_measure(scene: PendulumScene) -> None:
    factors = torch.rand(9, 4)
    factors[:, 2] = 0.25
    contrasts, notes = default_contrasts(scene.graph, factors)
    named = {name for each in contrasts for name in each.factors}
    assert named == {*scene.graph.names} - {"shadow_length"}
    assert len(notes) == 1 and "shadow_length" in notes[0]
    with pytest.raises(SettingsError, match="shadow_length"):
        default_contrasts(scene.graph, factors, ["shadow_length"])
    with pytest.raises(GraphError, match="wind"):
        default_contrasts(scene.graph, factors, ["wind"])


def test_exact_counterfactuals_have_no_error_and_doing_nothing_has_all(
    scene: PendulumScene, factors: Tensor
) -> None:
    call = PlantedClassifiers(scene, 4, count=12)
    contrasts = default_contrasts(scene.graph, factors)[0]
    exact = scored(scene, factors, call, contrasts)
    for row in planted_errors(exact, exact, exact):
        for kind in ("total", "direct"):
            assert row[kind]["error"] == row[kind]["sampling_error"] == 0
            assert row[kind]["coverage"] == 1 and row[kind]["exact"] > 0
    world = DoNothing(scene.graph).abduct(scene.render(factors, SIZE), factors)
    nothing = audit_scores([world], Classifier("planted", call), contrasts)
    for row in planted_errors(nothing, exact, exact):
        assert row["total"]["error"] == pytest.approx(1) and row["total"]["coverage"] == 0
