from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from processes import in_two
from projection import Projection, made_images
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

import diffcf.evaluation.perceptual as fid_module
from diffcf.evaluation.metrics.frechet import (
    GaussianStatistics,
    GenerationQuality,
    frechet_distance,
    kernel_distance,
)
from diffcf.evaluation.perceptual import real_statistics
from diffcf.io.errors import OutputError


def _gaussian(variance: Tensor, mean: Tensor) -> GaussianStatistics:
    """Statistics with exactly this mean and diagonal covariance."""
    size = len(variance)
    arms = torch.diag((variance * (2 * size - 1) / 2).sqrt())
    return GaussianStatistics.of(torch.cat([arms, -arms]) + mean)


def _statistics(images: Tensor, folder: Path):
    return real_statistics(lambda: images.split(16), Projection(), folder)


# --- the distances ---


def test_diagonal_gaussians_have_the_closed_form() -> None:
    a, b = torch.tensor([[4.0, 1.0, 0.0], [1.0, 9.0, 0.25]]).double()
    shift = torch.tensor([1.0, -2.0, 0.5]).double()
    expected = (shift.square() + (a.sqrt() - b.sqrt()).square()).sum()
    found = frechet_distance(_gaussian(a, shift), _gaussian(b, torch.zeros(3).double()))
    assert found == pytest.approx(float(expected), abs=1e-9)


def test_a_rotation_of_both_changes_nothing() -> None:
    one, other = torch.randn(2, 40, 6).double()
    other = other * torch.arange(1, 7) + 0.3
    turn = torch.linalg.qr(torch.randn(6, 6).double()).Q
    pairs = [(one, other), (one @ turn, other @ turn)]
    before, after = (
        frechet_distance(GaussianStatistics.of(a), GaussianStatistics.of(b)) for a, b in pairs
    )
    assert after == pytest.approx(before, rel=1e-9)


@pytest.mark.parametrize("count", [7, 300])
def test_torchmetrics_agrees_with_and_without_full_rank(count: int) -> None:
    real, generated = made_images(count), made_images(count, seed=1) * 0.6 + 0.1
    oracle = FrechetInceptionDistance(feature=Projection())
    oracle.update(real, real=True)
    oracle.update(generated, real=False)
    of = [GaussianStatistics.of(Projection()(x)) for x in (real, generated)]
    assert frechet_distance(*of) == pytest.approx(float(oracle.compute()), rel=1e-5)


@pytest.mark.parametrize("count", [5, 60])
def test_a_set_is_at_no_distance_from_itself_and_a_shift_shows(count: int) -> None:
    features = torch.randn(count, 20)
    same = frechet_distance(GaussianStatistics.of(features), GaussianStatistics.of(features))
    moved = frechet_distance(GaussianStatistics.of(features), GaussianStatistics.of(features + 0.5))
    assert same == pytest.approx(0, abs=1e-10)
    assert moved == pytest.approx(20 * 0.25, rel=1e-5)


def test_statistics_may_be_added_in_parts() -> None:
    features = torch.randn(31, 5)
    whole, parts = GaussianStatistics.of(features), GaussianStatistics.of(features[:4])
    for part in features[4:].split(9):
        parts.add(part)
    assert parts.count == 31
    torch.testing.assert_close(parts.mean, features.double().mean(0))
    torch.testing.assert_close(parts.covariance, whole.covariance)
    torch.testing.assert_close(parts.covariance, features.double().T.cov())


def test_distances_need_two_images_and_one_size() -> None:
    one, two = GaussianStatistics.of(torch.ones(1, 3)), GaussianStatistics.of(torch.ones(2, 4))
    with pytest.raises(ValueError, match="got 1 and 2"):
        frechet_distance(one, two)
    with pytest.raises(ValueError, match="got 4 and 3"):
        frechet_distance(two, GaussianStatistics.of(torch.ones(2, 3)))
    with pytest.raises(ValueError, match="got 1 and 2"):
        kernel_distance(torch.ones(1, 3), torch.ones(2, 3))


def test_kid_is_that_of_torchmetrics() -> None:
    real, generated = torch.randn(2, 3, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = KernelInceptionDistance(feature=nn.Identity(), subsets=50, subset_size=2)
        oracle.update(real[:2], real=True)
        oracle.update(generated[:2], real=False)
    expected, spread = oracle.compute()
    kid, kid_std = kernel_distance(real[:2], generated[:2])
    assert kid == pytest.approx(float(expected), rel=1e-5)
    assert kid_std == pytest.approx(float(spread), abs=1e-5)


def test_kid_is_unbiased_and_repeats_itself() -> None:
    real, same, other = torch.randn(3, 200, 6)
    kid, kid_std = kernel_distance(real, same)
    far, _ = kernel_distance(real, other + 1)
    assert abs(kid) < 2 * kid_std < far
    assert kernel_distance(real, same) == (kid, kid_std)


# --- the metric ---


def test_the_metric_knows_neither_batches_nor_repeats(tmp_path) -> None:
    statistics, images = _statistics(made_images(50), tmp_path), made_images(40, seed=2) * 0.8
    whole, parts = (GenerationQuality(Projection(), statistics) for _ in range(2))
    whole.update(images)
    for rows in torch.arange(40).flip(0).split(7):
        parts.update(images[rows], rows)
    parts.update(images[3:9], torch.arange(3, 9))
    expected = whole.compute()
    assert {k: int(expected[k]) for k in ("fid_images", "fid_real_images")} == {
        "fid_images": 40,
        "fid_real_images": 50,
    }
    for name, value in parts.compute().items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)
    whole.reset()
    whole.update(made_images(50))
    again = whole.compute()
    assert float(again["fid"]) == pytest.approx(0, abs=1e-6)
    assert float(again["sfid"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_image_is_an_error(tmp_path) -> None:
    quality = GenerationQuality(Projection(), _statistics(made_images(4), tmp_path))
    with pytest.raises(ValueError, match="has seen no image"):
        quality.compute()


def test_two_processes_agree_with_one(tmp_path) -> None:
    real, images = made_images(30), made_images(20, seed=2)
    alone = GenerationQuality(Projection(), _statistics(real, tmp_path / "alone"))
    alone.update(images, torch.arange(20))
    expected = alone.compute()
    in_two(_share, tmp_path)
    for rank in range(2):
        shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert shared["calls"] == (2 if rank == 0 else 0), "the second process read the cache"
        for name, value in expected.items():
            torch.testing.assert_close(shared["unequal"][name], value, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(shared["one idle"][name], value, atol=1e-6, rtol=1e-5)


def _share(rank: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    network = Projection()
    statistics = real_statistics(lambda: made_images(30).split(16), network, Path(out) / "shared")
    result: dict[str, object] = {"calls": network.calls}
    images = made_images(20, seed=2)
    # 13 and 7 images and one twice, as a distributed sampler hands them out; then all and none.
    shares = {"unequal": ([*range(13)], [*range(13, 20), 0]), "one idle": ([*range(20)], [])}
    for name, rows in shares.items():
        quality = GenerationQuality(network, statistics)
        if rows[rank]:
            quality.update(images[rows[rank]], torch.tensor(rows[rank]))
        result[name] = quality.compute()
    torch.save(result, f"{out}/{rank}.pt")
    dist.destroy_process_group()


# --- statistics on disk ---


def test_real_images_are_measured_once(tmp_path) -> None:
    images, network = made_images(40), Projection()
    first = real_statistics(lambda: images.split(40), network, tmp_path)
    assert network.calls == 1
    again = real_statistics(lambda: images.split(7), network, tmp_path)
    assert network.calls == 1, "batches are no part of the set"
    assert again.pool.count == again.spatial.count == 40
    for a, b in ((first.pool, again.pool), (first.spatial, again.spatial)):
        torch.testing.assert_close((a.total, a.outer), (b.total, b.outer))
    torch.testing.assert_close(first.sample, again.sample)
    real_statistics(lambda: [images.flip(-1)], network, tmp_path)
    assert network.calls == 2, "other images"
    network.signature = "another"
    real_statistics(lambda: [images], network, tmp_path)
    assert network.calls == 3, "another network"
    assert len(list(tmp_path.iterdir())) == 3, "and nothing temporary is left"


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_measured_anew_and_said_to_be(tmp_path, capsys, damage: str) -> None:
    images, network = made_images(40), Projection()
    whole = real_statistics(lambda: [images], network, tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content[:-100] if damage == "cut" else content)
    capsys.readouterr()
    again = real_statistics(lambda: [images], network, tmp_path)
    assert network.calls == 2
    assert "are damaged" in capsys.readouterr().out
    torch.testing.assert_close(again.pool.outer, whole.pool.outer)
    real_statistics(lambda: [images], network, tmp_path)
    assert network.calls == 2 and "damaged" not in capsys.readouterr().out


def test_features_are_kept_of_so_manymade_images(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(fid_module, "SAMPLE", 5)
    statistics = _statistics(made_images(40), tmp_path)
    assert statistics.sample.shape == (5, 12) and statistics.pool.count == 40


def test_no_images_and_no_room_are_errors(tmp_path) -> None:
    with pytest.raises(ValueError, match="the set is empty"):
        real_statistics(list, Projection(), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="name a place that can be written to"):
        _statistics(made_images(4), tmp_path / "file")
