"""The Flow scene: true mechanism, renderer against matplotlib, read-out as exact as claimed."""

from collections.abc import Callable
from functools import partial
from math import sqrt

import numpy as np
import pytest
import torch
from acting import act as act_in
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon, Rectangle
from torch import Tensor

from data_modules.scenes.flow import COLOURS, FlowScene, published_grid

SCENE = FlowScene()
act = partial(act_in, SCENE)
FACTORS, IS_TEST, NOISE = SCENE.published_grid()
BALL, HEIGHT, HOLE, FLOW = range(4)


def random_factors(n: int, seed: int = 0) -> Tensor:
    """Drawn independently, so that they disagree with the mechanism."""
    return torch.rand(n, 4, generator=torch.Generator().manual_seed(seed))


def published_artists(ball: float, height: float, hole: float, e: float) -> list[Artist]:
    """What the published script draws, in its order: patches first, then lines."""
    deep = hole / 3
    y = np.linspace(deep, 0.5)
    x = 8 + np.sqrt(2 * (0.98 + e) * height * (deep - y))
    black = {"color": "black", "linewidth": 2}
    cap = {"solid_capstyle": "projecting", "linewidth": 2}
    return [
        Rectangle((3, 0), 5, 5 + height, color="lightskyblue"),
        Polygon([(3, 0), (3, 19)], **black),
        Polygon([(8, 0), (8, deep)], **black),
        Polygon([(8, deep + 0.4), (8, 19)], **black),
        Circle((5.5, ball + 0.5), ball, color="firebrick"),
        Line2D(x, y, color="lightskyblue", **cap),
        Line2D([0, 20], [0.2, 0.2], color="black", **cap),
    ]


# --- the published grid and the mechanism ---


def test_the_grid_is_the_published_one() -> None:
    native = published_grid()
    assert native.shape == (8100, 4)
    assert int(IS_TEST.sum()) == 1620 and IS_TEST.nonzero()[:3, 0].tolist() == [4, 9, 14]
    first = torch.tensor([5 / 30, (5 / 30) ** 3 + 1, 6, sqrt(2 * 0.98 * 1.0046296 * 1.5)])
    torch.testing.assert_close(native[0].float(), first, atol=1e-4, rtol=0)
    assert native[1, HOLE] == 7 and native[9, HEIGHT] > native[0, HEIGHT]
    torch.testing.assert_close(FACTORS.amin(0), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(FACTORS.amax(0), torch.ones(4), atol=1e-6, rtol=0)
    assert NOISE.shape == (8100, 1) and NOISE.min() == pytest.approx(0.01)
    assert 0.65 < (NOISE < 0.0101).float().mean() < 0.71  # |n| < 1
    assert torch.equal(SCENE.published_grid()[2], NOISE)


def test_the_graph() -> None:
    assert SCENE.graph.names == ("ball_size", "water_height", "hole", "water_flow")
    assert set(SCENE.graph.edges) == {
        ("ball_size", "water_height"),
        ("water_height", "water_flow"),
        ("hole", "water_flow"),
    }


def test_another_ball_keeps_raw_and_moves_height_and_flow() -> None:
    rows = torch.arange(270)  # radius 5, every raw and hole
    bigger = act(FACTORS[rows], ball_size=float(FACTORS[270 * 20, BALL]))
    torch.testing.assert_close(bigger, FACTORS[rows + 270 * 20], atol=3e-6, rtol=0)
    assert ((bigger - FACTORS[rows])[:, [HEIGHT, FLOW]] > 0).all()
    assert torch.equal(bigger[:, HOLE], FACTORS[rows, HOLE])


def test_another_hole_moves_the_flow_alone() -> None:
    deeper = act(FACTORS[:1], hole=float(FACTORS[5, HOLE]))
    torch.testing.assert_close(deeper, FACTORS[5:6], atol=2e-6, rtol=0)


def test_what_is_set_stays_and_only_descendants_move() -> None:
    factors = random_factors(300)
    assert torch.equal(act(factors), factors)
    for name in SCENE.graph.names:
        acted = act(factors, **{name: 0.3})
        moved = SCENE.graph.descendants(name)
        for other in SCENE.graph.names:
            column = SCENE.graph.column(other)
            if other == name:
                assert (acted[:, column] == 0.3).all()
            elif other in moved:
                assert (acted[:, column] != factors[:, column]).float().mean() > 0.9
            else:
                assert torch.equal(acted[:, column], factors[:, column])
    both = act(factors, ball_size=0.9, water_height=0.2)
    torch.testing.assert_close(both[:, FLOW], act(factors, water_height=0.2)[:, FLOW])


def test_each_sample_has_its_own_intervention() -> None:
    factors = random_factors(64)
    values, mask = random_factors(64, seed=1), random_factors(64, seed=2) < 0.4
    together = SCENE.counterfactual(factors, values, mask)
    for i in range(64):
        alone = SCENE.counterfactual(factors[i : i + 1], values[i : i + 1], mask[i : i + 1])
        torch.testing.assert_close(alone[0], together[i])
    assert torch.equal(together[mask], values[mask])


def test_the_flows_own_noise_survives_an_intervention_on_its_cause() -> None:
    factors = FACTORS[3000:3200]
    shifted = act(factors, water_flow=0.5)
    offset = shifted[:, FLOW] - factors[:, FLOW]
    moved, plain = act(shifted, hole=0.4), act(factors, hole=0.4)
    expected = (plain[:, FLOW] + offset).clamp(min=float(act(moved, water_flow=0)[0, FLOW]) - 1)
    torch.testing.assert_close(moved[:, FLOW], expected, atol=1e-5, rtol=0)


# --- the picture ---


@pytest.mark.parametrize("size", [96, 64])
@pytest.mark.parametrize("style", ["subpixel", "published"])
def test_the_renderer_agrees_with_matplotlib(
    style: str, size: int, matplotlib_picture: Callable[..., Tensor]
) -> None:
    scene, snap = FlowScene(style), style == "published"
    rows = torch.linspace(3, 8090, 4 if snap else 16).long()
    native = published_grid()[rows]
    theirs = torch.stack(
        [
            matplotlib_picture(published_artists(*row[:3], e), size, (0, 20), (0, 20), snap)
            for row, e in zip(native.tolist(), NOISE[rows, 0].tolist(), strict=True)
        ]
    )
    ours = scene.render(FACTORS[rows], size, NOISE[rows])
    difference = (ours - theirs).abs().mean((1, 2, 3)) / 2
    assert difference.max() <= 0.001  # the bar is 0.004
    gap = (scene.read(ours) - scene.read(theirs)).abs()
    # Agg paints body and outline one after the other, which lets the ground shine through.
    assert gap[:, [HOLE, FLOW]].max() <= 0.002 and gap.max() <= 0.015


def test_jet_noise_moves_the_jet_and_nothing_else() -> None:
    factors = FACTORS[4000:4010]
    calm, wild = (SCENE.render(factors, 64, torch.full((10, 1), e)) for e in (0.01, 0.04))
    assert torch.equal(SCENE.render(factors, 64), calm)
    changed = (calm != wild).any(1)
    assert changed.any() and not changed[:, :, :26].any() and not changed[:, :40].any()


def test_batches_do_not_change_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = random_factors(9)
    whole = SCENE.render(factors, 64)
    monkeypatch.setattr("data_modules.scenes.drawing.CHUNK_PIXELS", 2 * 64**2)
    torch.testing.assert_close(SCENE.render(factors, 64), whole)
    assert SCENE.render(factors[:0], 64).shape == (0, 3, 64, 64)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size 63"):
        SCENE.render(FACTORS[:1], 63)
    with pytest.raises(ValueError, match="NaN"):
        SCENE.render(torch.full((1, 4), torch.nan), 64)


# --- the ruler ---


@pytest.mark.parametrize("size", SCENE.image_sizes)
def test_the_ruler_is_exact_on_renders(size: int) -> None:
    fewer = 1 if size <= 64 else 4  # large pictures take long
    for factors in (FACTORS[:: 81 * fewer], random_factors(100 // fewer)):
        error = (SCENE.read(SCENE.render(factors, size)) - factors).abs()
        assert error.max() <= 0.001  # the bar is 0.003


@pytest.mark.parametrize("style", ["published", "published_bilinear", "supersampled"])
def test_the_ruler_is_calibrated_for_each_style(style: str) -> None:
    scene, factors = FlowScene(style), random_factors(50, seed=7)
    error = scene.read(scene.render(factors, 64)) - factors
    assert error.mean(0).abs().max() < 0.005
    stated = torch.tensor(list(scene.reading_error(64).values()))
    torch.testing.assert_close(error.abs().mean(0), stated, atol=0.002, rtol=0.2)


def test_unknown_jet_noise_costs_the_flow_a_thousandth() -> None:
    error = (SCENE.read(SCENE.render(FACTORS[::60], 64, NOISE[::60])) - FACTORS[::60]).abs()
    assert error.mean(0).max() <= 0.001 and error[:, FLOW].max() <= 0.02


def test_noise_and_haze_hardly_move_the_ruler() -> None:
    factors = random_factors(80)
    images = SCENE.render(factors, 64)
    noisy = images + 0.02 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    error = (SCENE.read(noisy) - factors).abs()
    assert error.mean(0).max() < 0.003 and error.max() < 0.015
    tint = torch.tensor(COLOURS["lightskyblue"]).view(1, 3, 1, 1) * 2 - 1
    hazy = torch.where((images == 1).all(1, keepdim=True), 0.9 * images + 0.1 * tint, images)
    assert (SCENE.read(hazy) - factors).abs().mean(0).max() < 0.012


def test_nothing_to_read_never_is_nan() -> None:
    blank = SCENE.read(torch.ones(2, 3, 64, 64))
    assert (blank[:, [BALL, FLOW]] == 0).all() and torch.isfinite(blank).all()
    wild = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 3
    wild[0], wild[1], wild[2], wild[3] = torch.nan, torch.inf, -torch.inf, -1.0
    assert torch.isfinite(SCENE.read(wild)).all()
    assert SCENE.read(wild[:0]).shape == (0, 4)
    for shape in ((3, 64, 64), (1, 1, 64, 64), (1, 3, 64, 96), (1, 3, 50, 50)):
        with pytest.raises(ValueError):
            SCENE.read(torch.zeros(shape))


def test_visible_is_the_published_range() -> None:
    assert SCENE.visible(FACTORS).all()
    assert not SCENE.visible(torch.tensor([[0.5, 1.2, 0.5, 0.5], [0.5, 0.5, 0.5, -0.1]])).any()
