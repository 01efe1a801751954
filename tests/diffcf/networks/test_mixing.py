from __future__ import annotations

import torch
from torch import Tensor, nn

from data_modules.scenes.pendulum import PendulumScene
from diffcf.causal.posterior import LocalPosterior
from diffcf.networks.rectangles import Rectangles, sum_along, sum_within
from diffcf.networks.region_mixing import RegionMixer


def test_sums_over_rectangles_equal_those_over_their_pixels() -> None:
    contrast = torch.rand(3, 12, 10, dtype=torch.float64)
    cuts = Rectangles.random((3, 20), (12, 10), contrast.device)
    within, along = sum_within(contrast, cuts), sum_along(contrast, cuts)
    for n in range(20):
        region = cuts.regions(torch.full((3,), n)).double()
        filled = region.flatten(1).any(dim=1)  # an empty rectangle has an edge but no seam
        torch.testing.assert_close(within[:, n], (region * contrast).sum(dim=(1, 2)))
        down = (region[:, 1:] != region[:, :-1]).double() * (contrast[:, 1:] + contrast[:, :-1])
        right = region[..., 1:] != region[..., :-1]
        across = right.double() * (contrast[..., 1:] + contrast[..., :-1])
        seam = down.sum(dim=(1, 2)) + across.sum(dim=(1, 2))
        torch.testing.assert_close(along[filled, n], seam[filled])


def test_halves_are_every_straight_cut_once() -> None:
    cuts = Rectangles.halves(2, (3, 4), torch.device("cpu"))
    top, left, bottom, right = cuts.bounds
    areas = (bottom - top) * (right - left)
    assert areas.tolist() == [[4, 8, 3, 6, 9]] * 2


class Anywhere(nn.Module):
    """A projector that has not learned where to look."""

    def forward(self, image: Tensor, t: Tensor) -> LocalPosterior:
        attention = torch.full((len(image), 2, 8, 8), 1 / 64)
        mean = torch.full((len(image), 2), 0.5)
        return LocalPosterior(mean, mean, attention, attention, attention)


def test_every_place_answers_for_the_image_that_supplied_it() -> None:
    """Each image is flat with its own factor as colour, so the picture tells the label."""
    factors = torch.rand(16, 1).expand(-1, 2)
    image = factors[:, :1, None, None].expand(-1, 3, 32, 32)
    mixed, targets = RegionMixer(fraction=1.0).for_projector(image, factors, Anywhere())
    centres = mixed[:, :1].unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    pure = centres.std(dim=-1) < 1e-6  # cells that no seam crosses
    torch.testing.assert_close(targets[:, :1][pure], centres.mean(dim=-1)[pure])
    assert (mixed.flatten(1).std(dim=1) > 0).any()


def test_fraction_zero_mixes_nothing() -> None:
    image, factors = torch.rand(8, 3, 32, 32), torch.rand(8, 2)
    mixed, targets = RegionMixer(fraction=0.0).for_projector(image, factors, Anywhere())
    torch.testing.assert_close(mixed, image)
    torch.testing.assert_close(targets, factors[:, :, None, None].expand(-1, -1, 8, 8))


class Oracle(nn.Module):
    """Reads by the scene's ruler and attends where each factor is drawn."""

    def __init__(self, scene: PendulumScene) -> None:
        super().__init__()
        self.scene, self.graph = scene, scene.graph

    def forward(self, image: Tensor, t: Tensor) -> LocalPosterior:
        mean = self.scene.read(image)
        attention = torch.zeros(len(image), 4, 16, 16)
        dark = torch.nn.functional.adaptive_avg_pool2d(1 - image.amin(dim=1, keepdim=True), 16)
        bands = {0: slice(4, 13), 1: slice(0, 4), 2: slice(13, 16), 3: slice(13, 16)}
        for factor, rows in bands.items():
            attention[:, factor, rows] = dark[:, 0, rows]
        attention /= attention.sum(dim=(2, 3), keepdim=True).clamp_min(1e-9)
        variance = torch.full_like(mean, 1e-4)
        return LocalPosterior(mean, variance, attention, attention, attention)


def test_composites_for_the_generator_are_rightly_labelled(scene: PendulumScene) -> None:
    factors = scene.published_grid()[0].float()
    factors = factors[scene.visible(factors)][torch.randperm(7000)[:96]]
    image = scene.render(factors, 64)
    composite = RegionMixer(fraction=1.0).for_generator(image, factors, Oracle(scene))
    assert 0.1 < composite.mixed.float().mean() < 1.0
    off = (scene.read(composite.image) - composite.factors).abs()
    assert off.max() < 0.04  # tolerance, standard deviation, and the ruler's own error
    untouched = ~composite.mixed
    torch.testing.assert_close(composite.image[untouched], image[untouched])
    torch.testing.assert_close(composite.factors[untouched], factors[untouched])
    # They show combinations that observation never shows: some factors of each source.
    some_own = (composite.factors == factors).any(dim=1)
    some_other = (composite.factors != factors).any(dim=1)
    assert (some_own & some_other)[composite.mixed].float().mean() > 0.5


def test_a_missing_label_is_missing_where_its_image_shows() -> None:
    factors = torch.rand(16, 1).expand(-1, 2).clone()
    image = factors[:, :1, None, None].expand(-1, 3, 32, 32)
    factors[::2, 1] = torch.nan
    missing = factors[factors[:, 1].isnan(), 0]
    mixed, targets = RegionMixer(fraction=1.0).for_projector(image, factors, Anywhere())
    assert (mixed.flatten(1).std(dim=1) > 0).any()
    from_missing = torch.isin(targets[:, 0], missing)
    assert torch.equal(targets[:, 1].isnan(), from_missing) and not targets[:, 0].isnan().any()


def test_no_composite_for_the_generator_takes_a_missing_label(scene: PendulumScene) -> None:
    factors = scene.published_grid()[0].float()
    factors = factors[scene.visible(factors)][torch.randperm(7000)[:96]]
    image, given = scene.render(factors, 64), factors.clone()
    given[::3, 1] = given[1::3] = torch.nan
    composite = RegionMixer(fraction=1.0).for_generator(image, given, Oracle(scene))
    assert composite.mixed.any() and not composite.factors[composite.mixed].isnan().any()
    untouched = ~composite.mixed
    torch.testing.assert_close(composite.factors[untouched], given[untouched], equal_nan=True)
    torch.testing.assert_close(composite.image[untouched], image[untouched])


def test_no_factor_is_always_left_with_another(scene: PendulumScene) -> None:
    """Ball, sun and shadow: each pair is parted in a good share of composites."""
    factors = scene.published_grid()[0].float()
    factors = factors[scene.visible(factors)][torch.randperm(7000)[:256]]
    image = scene.render(factors, 64)
    composite = RegionMixer(fraction=1.0).for_generator(image, factors, Oracle(scene))
    own = (composite.factors == factors)[composite.mixed]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (own[:, first] != own[:, second]).float().mean() > 0.15
