from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.distributed as dist
from processes import in_two
from torch import Tensor

from diffcf.causal import CausalGraph, Factor
from diffcf.evaluation.metrics.image_metric import ImageMetric, factor_means


class Means(ImageMetric):
    """The mean of each of two groups, and the sum of both."""

    def __init__(self) -> None:
        super().__init__(groups=2, quantities=1)

    def update(self, values: Tensor, group: int = 0, index: Tensor | None = None) -> None:
        self._add(values[:, None], group, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        result = {f"group_{g}": means[:, g, 0] for g in seen}
        return result | {"sum": means[:, list(seen), 0].sum(dim=1)}


def _normal(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


# --- rows ---


def test_an_image_counts_once_in_each_group() -> None:
    metric = Means()
    metric.update(torch.tensor([1.0, 2.0]), 0, torch.tensor([5, 6]))
    metric.update(torch.tensor([2.0, 6.0]), 0, torch.tensor([6, 7]))  # image 6 comes again
    metric.update(torch.tensor([9.0]), 1, torch.tensor([6]))  # and in another group
    result = metric.compute()
    assert result["group_0"] == 3 and result["group_1"] == 9
    values, group, index = metric.rows()
    assert index.tolist() == [5, 6, 6, 7] and group.tolist() == [0, 0, 1, 0]
    assert values.flatten().tolist() == [1, 2, 9, 6]


def test_rows_without_an_index_are_images_of_their_own() -> None:
    metric = Means()
    metric.update(torch.tensor([1.0, 1.0, 4.0]))
    metric.update(torch.tensor([6.0]), index=torch.tensor([0]))
    assert metric.compute()["group_0"] == 3
    assert len(metric.rows()[2].unique()) == 4


def test_scores_by_image_have_the_mean_that_is_computed() -> None:
    metric, images = Means(), torch.arange(3, 23)
    first, second = _normal(20), _normal(20, seed=1)
    metric.update(first.flip(0), 0, images.flip(0))
    metric.update(second, 1, images)
    metric.update(torch.tensor([7.0]), 0, torch.tensor([99]))  # not asked the other question
    found, means = metric.by_image(), metric.compute()
    assert found.keys() == means.keys()
    assert found["group_0"][0].tolist() == [*images.tolist(), 99]
    assert torch.equal(found["group_0"][1][:-1], first.double())
    assert found["group_0"][1].mean() == pytest.approx(float(means["group_0"]))
    assert torch.equal(found["sum"][0], images), "only those that were asked both"
    assert torch.allclose(found["sum"][1], (first + second).double())


def test_order_and_batches_do_not_matter() -> None:
    values, shuffled = _normal(40), torch.randperm(40)
    whole, parts = Means(), Means()
    for group in range(2):
        whole.update(values, group, torch.arange(40))
        for rows in shuffled.split(7):
            parts.update(values[rows], group, rows)
    for a, b in zip(whole.rows(), parts.rows(), strict=True):
        assert torch.equal(a, b)
    assert whole.compute() == parts.compute()
    assert whole.intervals(resamples=50) == parts.intervals(resamples=50)


def test_reset_forgets() -> None:
    metric = Means()
    metric.update(torch.tensor([1.0]))
    metric.reset()
    metric.update(torch.tensor([3.0]))
    assert metric.compute()["group_0"] == 3


# --- intervals ---


def test_intervals_cover_the_mean_and_shrink_with_images() -> None:
    widths = {}
    for n in (50, 800):
        metric = Means()
        metric.update(_normal(n))
        low, high = metric.intervals()["group_0"]
        assert low < metric.compute()["group_0"] < high
        widths[n] = high - low
        assert widths[n] == pytest.approx(2 * 1.96 * _normal(n).std().item() / n**0.5, rel=0.15)
    assert widths[800] == pytest.approx(widths[50] / 4, rel=0.3)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(200):
        metric = Means()
        metric.update(_normal(60, seed))
        low, high = metric.intervals(level=0.8, resamples=200)["group_0"]
        covered += low < 0 < high
    assert 0.7 < covered / 200 < 0.9


def test_all_rows_of_an_image_are_drawn_together() -> None:
    """Whatever is drawn, v and 1 - v of the same image add up to 1."""
    values = torch.rand(30)
    together, apart = Means(), Means()
    for group, part in enumerate((values, 1 - values)):
        together.update(part, group, torch.arange(30))
        apart.update(part, group)
    low, high = together.intervals(resamples=200)["sum"]
    assert low == pytest.approx(1) and high == pytest.approx(1)
    low, high = apart.intervals(resamples=200)["sum"]
    assert high - low > 0.05


def test_a_resample_without_a_rare_group_is_skipped() -> None:
    metric = Means()
    metric.update(torch.rand(9), 0, torch.arange(9))
    metric.update(torch.tensor([0.5]), 1, torch.tensor([3]))
    assert metric.intervals(resamples=200)["group_1"] == (0.5, 0.5)


# --- processes ---


def test_two_processes_agree_with_one(tmp_path) -> None:
    alone = _fed(list(range(9)))
    means, intervals = alone.compute(), alone.intervals(resamples=50)
    in_two(_process, tmp_path)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for case in CASES:
            assert found[case]["means"] == means, case
            assert found[case]["intervals"] == intervals, case
            assert found[case]["own"] == 2 * len(CASES[case][rank]), "its rows alone"


# Which images each process sees: as many as there are, as a distributed sampler evens them out by
# handing out one twice, and none at all.
CASES = {
    "ragged": ([0, 2, 4, 6, 8], [1, 3, 5, 7]),
    "repeated": ([0, 2, 4, 6, 8], [1, 3, 5, 7, 0]),
    "idle": ([], [0, 1, 2, 3, 4, 5, 6, 7, 8]),
}


def _fed(images: list[int]) -> Means:
    """Nine images at most, with a row in each group."""
    metric, index = Means(), torch.tensor(images, dtype=torch.long)
    for group in range(2 if images else 0):
        metric.update(_normal(9, group)[index], group, index)
    return metric


def _process(rank: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = {}
    for case, images in CASES.items():
        metric = _fed(images[rank])
        means, intervals = metric.compute(), metric.intervals(resamples=50)
        found[case] = {"means": means, "intervals": intervals, "own": sum(map(len, metric.values))}
    torch.save(found, f"{out}/{rank}.pt")
    dist.destroy_process_group()


# --- errors and names ---


def test_groups_and_index_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="groups 0 to 1, got"):
        Means().update(torch.zeros(2), 2)
    with pytest.raises(ValueError, match="groups 0 to 1, got"):
        Means().update(torch.zeros(2), -1)
    with pytest.raises(ValueError, match="for each of 3 images, got 3 and 2"):
        Means().update(torch.zeros(3), 0, torch.arange(2))


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="Means has seen no image: update it before computing"):
        Means().compute()
    with pytest.raises(ValueError, match="seen no image"):
        Means().intervals()
    for broken in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="Means met a value that is NaN or infinite"):
            Means().update(torch.tensor([1.0, broken]))
    with pytest.raises(ValueError, match=r"takes rows of 1 values, got \(2, 3\)"):
        Means()._add(torch.zeros(2, 3), 0, None)


def test_factor_means_leaves_out_what_never_occurred() -> None:
    means = torch.tensor([[1.0, torch.nan, 5.0]])
    graph = CausalGraph([Factor(name) for name in "abc"], [("a", "b"), ("a", "c")])
    result = factor_means("psnr", means, [0, 2], graph)
    assert {name: value.item() for name, value in result.items()} == {
        "psnr": 3,
        "psnr/a": 1,
        "psnr/c": 5,
        "psnr/roots": 1,
        "psnr/leaves": 5,
    }
