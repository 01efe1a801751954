"""Measures by networks, in the evaluation: with stand-ins, and left out in a line where absent."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from projection import Projection
from torch import Tensor

from data_modules.pendulum import PendulumDataModule
from data_modules.scenes.pendulum import PendulumScene
from diffcf.evaluation.evaluate import CounterfactualEvaluation
from diffcf.evaluation.evaluator.reader import EvaluatorReader
from diffcf.evaluation.metrics.frechet import (
    GaussianStatistics,
    GenerationQuality,
    RealStatistics,
    frechet_distance,
)
from diffcf.evaluation.perceptual import Perceptual
from diffcf.evaluation.plan import InterventionPlan
from diffcf.evaluation.protocol import EvaluationProtocol
from diffcf.evaluation.references import ExactMethod
from diffcf.io.errors import SettingsError, UnavailableError
from diffcf.networks.factory import build_network

QUICK = EvaluationProtocol(steps=0, cycles=0, reverse_images=0, fid_images=20, resamples=10)


class Colours:
    """A stand-in for Inception: mean colours, and the top row."""

    signature = "colours"

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.mean(dim=(2, 3)), images[:, 0, 0]


@pytest.fixture
def data() -> PendulumDataModule:
    data = PendulumDataModule(
        image_size=32, train_size=64, val_size=4, test_size=8, batch_size=8, eval_batch_size=8
    )
    data.setup()
    return data


@pytest.fixture
def notes(monkeypatch) -> list[str]:
    """What is said to the user; not by way of loggers, which other tests may have cut off."""
    said: list[str] = []
    for module in ("perceptual", "evaluate"):
        monkeypatch.setattr(f"diffcf.evaluation.{module}.rank_zero_info", said.append)
    return said


def _evaluate(
    data: PendulumDataModule, perceptual: Perceptual, asked: EvaluationProtocol = QUICK
) -> dict[str, float]:
    scene, factors = data.scene, data.factors_of("test")
    evaluation = CounterfactualEvaluation(data.graph, factors, asked, scene, perceptual=perceptual)
    rows = torch.arange(8)
    for part in rows.split(3):
        evaluation.update(ExactMethod(scene), data.images_of("test", part), part)
    assert ("cld" in evaluation.intervals()) == (perceptual.cld is not None)
    return evaluation.compute()


def test_fid_is_of_counterfactuals_of_as_many_images_as_there_are(data: PendulumDataModule) -> None:
    images = data.images_of("train", torch.arange(32))
    pool, spatial = Colours().features(images)
    real = RealStatistics(GaussianStatistics.of(pool), GaussianStatistics.of(spatial), pool)
    result = _evaluate(data, Perceptual(quality=lambda: GenerationQuality(Colours(), real)))
    assert result["fid_images"] == 20
    assert result["fid"] == pytest.approx(result["exact/fid"], abs=1e-6)
    assert result["change_everything/fid"] > 2 * result["fid"]


@pytest.mark.parametrize("count", [2, 5, 8, 13, 32, 1000])
def test_counterfactuals_for_fid_are_spread_over_images_and_factors(
    data: PendulumDataModule, count: int
) -> None:
    asked = replace(QUICK, fid_images=count, images=6)
    plan = InterventionPlan.of(data.graph, data.factors_of("test"), asked, data.scene)
    chosen = torch.stack(list(plan.pictured().values()))
    possible = torch.stack([do.mask.any(dim=1) for do in plan.single.values()])
    assert not (chosen & ~possible).any() and not chosen[:, 6:].any()
    assert chosen.sum() == min(count, int(possible[:, :6].sum()))
    shown = chosen.any(dim=0).sum()
    assert shown == min(count, int(possible[:, :6].any(dim=0).sum())), "as many as there are"
    sizes = chosen.sum(dim=1)
    assert sizes.max() - sizes.min() <= 2, "no factor much more often than another"


def test_for_fid_images_come_first_that_are_asked_little(data: PendulumDataModule) -> None:
    plan = InterventionPlan.of(data.graph, data.factors_of("test"), QUICK, data.scene)
    few = torch.zeros(len(plan.factors), dtype=torch.bool)
    every = {name: few.clone().fill_(name == "angle") for name in plan.single} | {"": ~few}
    every["light"][:2] = True
    plan.keep(every)
    plan.protocol = replace(QUICK, fid_images=len(few) + 1)
    chosen = torch.stack(list(plan.pictured().values()))
    assert chosen.any(dim=0).all() and chosen.sum() == len(few) + 1


def test_the_note_on_few_images_counts_those_that_were_measured(
    data: PendulumDataModule, monkeypatch, notes, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)  # the statistics are kept in a cache
    monkeypatch.setattr("diffcf.evaluation.perceptual.load_inception", Projection)
    asked = replace(QUICK, fid_images=5000)
    perceptual = Perceptual.of(asked, data, torch.device("cpu"))
    assert not notes, "nothing was measured yet"
    result = _evaluate(data, perceptual, asked)
    # Of 8 images and 4 factors; one question has no answer within the picture.
    assert result["fid_images"] == 31 and result["fid_real_images"] == 64
    (note,) = [n for n in notes if "biased" in n]
    assert "FID of 31 generated against 64 real images is biased" in note and "5,000" not in note


def test_held_out_images_bring_their_floor(data: PendulumDataModule, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("diffcf.evaluation.perceptual.load_inception", Projection)
    size = data.size_of("test")
    asked = replace(QUICK, images=size - 3, fid_images=20, fid_real="held_out")
    result = _evaluate(data, Perceptual.of(asked, data, torch.device("cpu")), asked)
    assert result["fid_real_images"] == 3, "those of the test split that are not asked"
    rest = data.images_of("test", torch.arange(size - 3, size))
    pool = Projection().features(rest)[0]
    order = torch.randperm(data.size_of("train"), generator=torch.Generator().manual_seed(0))
    others = Projection().features(data.images_of("train", order[:20]))[0]
    floor = frechet_distance(GaussianStatistics.of(pool), GaussianStatistics.of(others))
    assert result["fid_floor"] == pytest.approx(floor, rel=1e-6)
    assert {"sfid_floor", "kid_floor", "exact/fid"} <= result.keys()
    asked_about = Projection().features(data.images_of("test", torch.arange(size - 3)))[0]
    nothing = frechet_distance(GaussianStatistics.of(pool), GaussianStatistics.of(asked_about))
    assert result["do_nothing/fid"] == pytest.approx(nothing, rel=1e-6), "each photograph once"
    assert result["do_nothing/fid_images"] == result["fid_factuals"] == size - 3
    everything = replace(asked, images=None)
    with pytest.raises(SettingsError, match="none is left to compare with"):
        Perceptual.of(everything, data, torch.device("cpu"))
    with pytest.raises(SettingsError, match="fid_real of a protocol"):
        replace(asked, fid_real="best")  # type: ignore[arg-type]


def test_the_mirrored_factual_is_a_reference_where_sides_do_not_matter(
    data: PendulumDataModule,
) -> None:
    real = RealStatistics(*(GaussianStatistics.of(torch.rand(4, 3)) for _ in range(2)), Tensor())
    quality = Perceptual(quality=lambda: GenerationQuality(Colours(), real))
    factors, rows = data.factors_of("test"), torch.arange(8)
    for mirrored in (False, True):
        evaluation = CounterfactualEvaluation(
            data.graph, factors, QUICK, data.scene, perceptual=quality, mirrored=mirrored
        )
        evaluation.update(ExactMethod(data.scene), data.images_of("test", rows), rows)
        scores = evaluation.scores
        assert ("mirrored/" in scores) == mirrored
    result = scores["mirrored/"].compute()
    assert "fid" not in result, "a photograph and its mirror image are of one distribution"
    assert result["kept"] < 1 and result["composition/1"] == 0 and result["change"] > 0


def test_cld_is_measured_where_the_evaluator_has_latents(data: PendulumDataModule) -> None:
    spec = {
        "class_path": "diffcf.networks.projector.LocalPosteriorProjector",
        "init_args": {"channels": 8},
    }
    latents = {
        "class_path": "diffcf.evaluation.ImageVAE",
        "init_args": {"image_size": 32, "latents": 4, "channels": 4},
    }
    states = [build_network(s, data.graph).state_dict() for s in (spec, latents)]
    reader = EvaluatorReader(data.graph, spec, states[0], (3, 32, 32), latents=(latents, states[1]))
    none = EvaluationProtocol(fid_images=0)
    result = _evaluate(data, Perceptual.of(none, data, torch.device("cpu"), reader))
    assert 0.69 < result["cld"] < 1.7 and "cld/light" in result and "do_nothing/cld" in result


def test_what_is_not_installed_is_left_out_in_a_line(
    data: PendulumDataModule, monkeypatch, notes
) -> None:
    def absent() -> None:
        raise UnavailableError("FID needs the Inception network.")

    monkeypatch.setattr("diffcf.evaluation.perceptual.load_inception", absent)
    perceptual = Perceptual.of(EvaluationProtocol(fid_images=8), data, torch.device("cpu"))
    assert perceptual.quality is None
    assert "FID, sFID and KID are left out: FID needs the Inception network." in notes
    assert isinstance(data.scene, PendulumScene)
