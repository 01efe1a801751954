"""The Pendulum scene: true mechanism, renderer against matplotlib, read-out as exact as claimed."""

from collections.abc import Callable
from functools import partial
from math import cos, pi, sin, tan
from typing import Any

import numpy as np
import pytest
import torch
from acting import act as act_in
from matplotlib.patches import Circle, Patch, Polygon
from PIL import Image
from torch import Tensor

from data_modules.scenes.pendulum import COLOURS, PendulumScene, pendulum_frame, published_grid
from data_modules.scenes.unmixing import unmix
from diffcf.causal.interface import Scene
from diffcf.io.pixels import from_bytes, to_picture

SCENE = PendulumScene()
act = partial(act_in, SCENE)
FACTORS, IS_TEST = SCENE.published_grid()
ANGLE, LIGHT, LENGTH, POSITION = range(4)


def random_visible(n: int, seed: int = 0) -> Tensor:
    """Factors drawn independently, so that the shadow disagrees with angle and light."""
    factors = torch.rand(3 * n, 4, generator=torch.Generator().manual_seed(seed))
    return factors[SCENE.visible(factors)][:n]


def matplotlib_patches(angle: float, light: float) -> list[Patch]:
    """What the published script draws, in its order."""

    def project(x: float, y: float, base: float) -> float:
        return x + (base - y) / tan(light)

    ball = (10 + 8 * sin(angle), 10.5 - 8 * cos(angle))
    near, far = (project(10 + r * sin(angle), 10.5 - r * cos(angle), -0.5) for r in (0.0, 9.5))
    middle, half = (near + far) / 2, max(3.0, abs(near - far)) / 2
    return [
        Polygon([(10, 10.5), ball], color="black", linewidth=3),
        Circle(ball, 1.5, color="firebrick"),
        Circle((project(10, 10.5, 20.5), 20.5), 3, color="orange"),
        Polygon([(middle - half, -0.5), (middle + half, -0.5)], color="black", linewidth=3),
    ]


@pytest.fixture(scope="module")
def matplotlib_batch(matplotlib_picture: Callable[..., Tensor]) -> Callable[..., Any]:
    def batch(n: int, size: int, snap: bool) -> tuple[Tensor, Tensor]:
        rows = torch.linspace(5, len(FACTORS) - 40, n).long()
        rows[0] = 40 * 87  # hangs straight down: matplotlib snaps the rod as well
        images = [
            matplotlib_picture(matplotlib_patches(*row), size, (0, 20), (-1, 21), snap)
            for row in published_grid()[rows, :2].tolist()
        ]
        return torch.stack(images), FACTORS[rows]

    return batch


# --- the published grid and the mechanism ---


def test_the_grid_is_the_published_one() -> None:
    native = published_grid()
    assert FACTORS.shape == (7308, 4)
    assert (int(IS_TEST.sum()), int((~IS_TEST).sum())) == (1826, 5482)
    assert IS_TEST.nonzero()[:3, 0].tolist() == [4, 8, 12]
    expected = torch.tensor([-40, 60, -40, 61]) * pi / 200
    torch.testing.assert_close(native[:2, :2].flatten(), expected.double())
    assert native[:, LENGTH].amax().item() == pytest.approx(12.577, abs=1e-3)
    assert native[:, POSITION].aminmax().min.item() == pytest.approx(2.008, abs=1e-3)
    assert native[:, POSITION].aminmax().max.item() == pytest.approx(19.606, abs=1e-3)
    assert (native[:, LENGTH] == 3).double().mean().item() == pytest.approx(0.396, abs=1e-3)
    torch.testing.assert_close(FACTORS.amin(0), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(FACTORS.amax(0), torch.ones(4), atol=1e-6, rtol=0)


def test_the_graph() -> None:
    assert isinstance(SCENE, Scene)
    assert SCENE.graph.names == ("angle", "light", "shadow_length", "shadow_position")
    assert SCENE.graph.roots == ("angle", "light")
    assert SCENE.graph.leaves == ("shadow_length", "shadow_position")
    assert len(SCENE.graph.edges) == 4


def test_root_interventions_lead_to_the_published_neighbour() -> None:
    moved = act(FACTORS[:87], angle=float(FACTORS[87 * 50, ANGLE]))
    torch.testing.assert_close(moved, FACTORS[87 * 50 : 87 * 51], atol=2e-6, rtol=0)


def test_null_intervention_and_non_descendants_are_untouched() -> None:
    factors = random_visible(500)
    assert torch.equal(act(factors), factors)
    for name in SCENE.graph.names:
        acted = act(factors, **{name: 0.3})
        for other in set(SCENE.graph.names) - SCENE.graph.descendants(name) - {name}:
            column = SCENE.graph.column(other)
            assert torch.equal(acted[:, column], factors[:, column])
        assert (acted[:, SCENE.graph.column(name)] == 0.3).all()


def test_each_sample_has_its_own_intervention() -> None:
    factors = random_visible(64)
    generator = torch.Generator().manual_seed(1)
    values, mask = torch.rand(64, 4, generator=generator), torch.rand(64, 4) < 0.4
    together = SCENE.counterfactual(factors, values, mask)
    one_by_one = [
        SCENE.counterfactual(factors[i : i + 1], values[i : i + 1], mask[i : i + 1])
        for i in range(64)
    ]
    torch.testing.assert_close(together, torch.cat(one_by_one))
    assert torch.equal(together[mask], values[mask])


def test_the_shadows_own_noise_survives_an_intervention_on_its_cause() -> None:
    factors = FACTORS[2000:2500]
    shifted = act(factors, shadow_position=0.5)
    offset = shifted[:, POSITION] - factors[:, POSITION]
    moved, plain = act(shifted, light=0.4), act(factors, light=0.4)
    torch.testing.assert_close(moved[:, POSITION] - plain[:, POSITION], offset, atol=1e-5, rtol=0)
    longest = act(act(factors, shadow_length=0.0), angle=0.5)
    assert (longest[:, LENGTH] >= 0).all()


# --- the picture ---


@pytest.mark.parametrize("size", [96, 64])
@pytest.mark.parametrize("style", ["subpixel", "published"])
def test_the_renderer_agrees_with_matplotlib(
    style: str, size: int, matplotlib_batch: Callable[..., Any]
) -> None:
    scene = PendulumScene(style)
    theirs, factors = matplotlib_batch(16, size, snap=style == "published")
    ours = scene.render(factors, size)
    difference = (ours - theirs).abs().mean((1, 2, 3)) / 2
    assert difference.max() <= 0.001  # the bar is 0.004
    gap = (scene.read(ours) - scene.read(theirs)).abs()
    assert gap.max() <= 0.003


@pytest.mark.parametrize("resample", ["BOX", "BILINEAR", "BICUBIC", "LANCZOS"])
def test_resized_styles_are_what_pillow_makes_of_a_published_file(
    resample: str, matplotlib_batch: Callable[..., Any]
) -> None:
    theirs, factors = matplotlib_batch(8, 96, snap=True)
    ours = PendulumScene(f"published_{resample.lower()}").render(factors, 64)
    for image, drawn in zip(theirs, ours, strict=True):
        small = to_picture(image).resize((64, 64), Image.Resampling[resample])
        assert (from_bytes(np.asarray(small)).permute(2, 0, 1) - drawn).abs().mean() / 2 <= 0.001


def test_supersampling_hardly_changes_what_is_exact_already() -> None:
    smooth = PendulumScene("supersampled").render(FACTORS[::300], 64)
    assert (smooth - SCENE.render(FACTORS[::300], 64)).abs().mean() / 2 < 0.001


def test_snapping_quantises_the_shadow_of_published_images(
    matplotlib_batch: Callable[..., Any],
) -> None:
    theirs, factors = matplotlib_batch(24, 96, snap=True)
    error = (SCENE.read(theirs) - factors)[SCENE.visible(factors)].abs().mean(0)
    assert error[:2].max() < 0.001
    assert 0.004 < error[LENGTH] < 0.015
    assert 0.001 < error[POSITION] < 0.005


def test_images_have_range_colours_and_white_margins() -> None:
    image = SCENE.render(FACTORS[3000:3001], 64)
    assert image.shape == (1, 3, 64, 64) and image.dtype == torch.float32
    assert image.aminmax() == (-1, 1)
    left, right, bottom, top = pendulum_frame(64).box
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[64 - top : 64 - bottom, left:right] = True
    assert (image[0, :, ~inside] == 1).all()
    weights = unmix(image, COLOURS)
    torch.testing.assert_close(torch.stack(list(weights.values())).sum(0), torch.ones(1, 64, 64))
    assert all(weights[colour].max() > 0.99 for colour in COLOURS)


def test_batches_and_chunks_do_not_change_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = random_visible(9)
    whole = SCENE.render(factors, 32)
    monkeypatch.setattr("data_modules.scenes.drawing.CHUNK_PIXELS", 2 * 32**2)
    torch.testing.assert_close(SCENE.render(factors, 32), whole)
    assert SCENE.render(factors[:0], 32).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("size", [0, 63, 256])
def test_unknown_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"image_size {size}"):
        SCENE.render(FACTORS[:1], size)


def test_factors_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        SCENE.render(torch.full((1, 4), torch.nan), 32)


# --- the ruler ---


@pytest.mark.parametrize("size", PendulumScene.image_sizes)
def test_the_ruler_is_exact_on_renders(size: int) -> None:
    for factors in (FACTORS[::61][SCENE.visible(FACTORS[::61])], random_visible(100)):
        error = (SCENE.read(SCENE.render(factors, size)) - factors).abs()
        assert error.mean(0).max() <= 0.001
        assert error.max() <= (0.0015 if size >= 64 else 0.003)


@pytest.mark.parametrize("style", PendulumScene.styles)
def test_the_ruler_is_calibrated_for_each_style(style: str) -> None:
    scene, factors = PendulumScene(style), random_visible(150, seed=7)
    error = scene.read(scene.render(factors, 64)) - factors
    # Snapped ends are off by half a pixel of the drawing at most, a third of it in their distance.
    assert error.mean(0).abs().max() < 0.003
    stated = torch.tensor(list(scene.reading_error(64).values()))
    torch.testing.assert_close(error.abs().mean(0), stated, atol=0.002, rtol=0.2)
    assert stated.max() < 0.02
    assert PendulumScene(style).read(torch.ones(1, 3, 64, 64)).eq(0).all()


def test_a_ruler_of_another_style_misreads() -> None:
    images = PendulumScene("published_bilinear").render(FACTORS[::100], 64)
    off = (SCENE.read(images) - FACTORS[::100])[SCENE.visible(FACTORS[::100])].abs().mean(0)
    assert off[LENGTH] > 0.05


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'sharp'.*subpixel, published"):
        PendulumScene("sharp")


@pytest.mark.parametrize("size", [64, 96])
def test_noise_and_haze_hardly_move_the_ruler(size: int) -> None:
    factors = random_visible(100)
    images = SCENE.render(factors, size)
    generator = torch.Generator().manual_seed(0)
    noisy = images + 0.01 * torch.randn(images.shape, generator=generator)
    error = (SCENE.read(noisy) - factors).abs()
    assert error.mean(0).max() < 0.003
    assert error.max() < 0.008
    # A tenth of orange, firebrick and black over every white pixel.
    white = (images == 1).all(1, keepdim=True)
    for colour in ("orange", "firebrick", "black"):
        tint = torch.tensor(COLOURS[colour]).view(1, 3, 1, 1) * 2 - 1
        hazy = torch.where(white, 0.9 * images + 0.1 * tint, images)
        assert (SCENE.read(hazy) - factors).abs().mean(0).max() < 0.012


def test_the_ruler_forgives_nothing() -> None:
    one, other = torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.tensor([[0.5, 0.5, 0.2, 0.8]])
    both_half = (SCENE.render(one, 64) + SCENE.render(other, 64)) / 2
    read = SCENE.read(both_half)[0]
    # Two half-dark shadows have the length of one, and lie in the middle.
    assert read[LENGTH].item() == pytest.approx(0.2, abs=0.001)
    assert read[POSITION].item() == pytest.approx(0.5, abs=0.001)
    two_dark = torch.minimum(SCENE.render(one, 64), SCENE.render(other, 64))
    length = SCENE.graph.to_native(SCENE.read(two_dark))[0, LENGTH]
    assert length.item() == pytest.approx(
        2 * SCENE.graph.to_native(one)[0, LENGTH].item(), abs=0.01
    )


def test_the_rod_never_counts_as_shadow() -> None:
    factors = random_visible(300)
    factors[:, ANGLE] = SCENE.graph.to_scaled(torch.zeros(4))[ANGLE]  # hangs straight down
    without = SCENE.render(factors, 64)
    rod_and_ball = unmix(without, COLOURS)
    band = 64 - pendulum_frame(64).box[2] - 3  # the shadow's three rows begin here
    assert (rod_and_ball["firebrick"][:, band:].abs() < 1e-5).all()
    assert (SCENE.read(without) - factors)[:, LENGTH].abs().max() < 1e-5


def test_nothing_to_read_is_zero_and_never_nan() -> None:
    blank = torch.ones(2, 3, 64, 64)
    assert torch.equal(SCENE.read(blank), torch.zeros(2, 4))
    wild = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 3
    wild[0], wild[1], wild[2], wild[3] = torch.nan, torch.inf, -torch.inf, -1.0
    assert torch.isfinite(SCENE.read(wild)).all()
    assert SCENE.read(blank[:0]).shape == (0, 4)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 64, 32), (1, 3, 50, 50)])
def test_images_that_cannot_be_read_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        SCENE.read(torch.zeros(shape))


def test_visible_says_where_the_ruler_is_exact() -> None:
    visible = SCENE.visible(FACTORS)
    assert 0.98 < visible.float().mean() < 0.99
    hidden = torch.tensor([[0.5, 0.5, 0.0, 0.99], [0.5, 0.5, 1.0, 0.0], [0.5, 1.2, 0.0, 0.5]])
    assert not SCENE.visible(hidden).any()
    cut = SCENE.read(SCENE.render(hidden[:2], 96)) - hidden[:2]
    assert (cut[:, LENGTH] < -0.03).all()
