"""The Shadow scenes: published grid and areas, true mechanism, pictures, ruler."""

from math import pi

import pytest
import torch
from acting import act
from torch import Tensor

from data_modules.scenes.shadow.geometry import POINT, SUN
from data_modules.scenes.shadow.scene import (
    PointlightScene,
    ShadowScene,
    SunlightScene,
    natural_area,
)
from diffcf.evaluation.metrics.acm import absolute_counterfactual_mismatch

SUNLIGHT, POINTLIGHT = SunlightScene(), PointlightScene()
SCENES = pytest.mark.parametrize("scene", [SUNLIGHT, POINTLIGHT], ids=["sun", "point"])


def some(scene: ShadowScene, n: int, seed: int = 0) -> Tensor:
    factors = scene.published_grid()
    rows = torch.randperm(len(factors), generator=torch.Generator().manual_seed(seed))
    return factors[rows[:n]]


# --- the grid and the mechanism ---


@SCENES
def test_the_grid_holds_every_combination_once(scene: ShadowScene) -> None:
    factors = scene.published_grid()
    assert factors.shape == (18522, len(scene.graph))
    assert len(factors[:, :5].unique(dim=0)) == 18522
    assert factors.min() >= -1e-6 and factors.max() <= 1 + 1e-6
    colour, floor = (scene.graph.column(name) for name in ("light_colour", "floor_colour"))
    assert torch.equal(factors[:, colour], factors[:, floor])


def test_areas_are_those_of_closed_forms() -> None:
    size = torch.tensor([0.4, 1.0, 1.6]).repeat(9).double()
    position = torch.arange(9).repeat_interleave(3).double()
    zero = torch.zeros_like(size)
    # A cube of side 2s in the sun: the square swept along the shift of its upper face.
    shift = 2 * size / 5 * (position - 4).abs()
    cube = natural_area(torch.stack([zero, zero, size, position], 1), SUN)
    torch.testing.assert_close(cube, 2 * (2 * size) * shift, atol=1e-6, rtol=0)
    # Under a lamp straight above, its upper face is thrown larger by 8 / (8 - 2s).
    above = natural_area(torch.stack([zero, zero, size, zero + 4], 1), POINT)
    magnified = (2 * size * 8 / (8 - 2 * size)) ** 2 - (2 * size) ** 2
    torch.testing.assert_close(above, magnified, atol=1e-6, rtol=0)
    # A sphere under a sun straight above throws the disc that its body covers.
    sphere = natural_area(torch.stack([zero + 1, zero, size, zero + 4], 1), SUN)
    assert (sphere <= pi * size.square() * 1.001).all() and (sphere >= 0).all()


@SCENES
def test_root_interventions_lead_to_the_published_combination(scene: ShadowScene) -> None:
    factors, other = some(scene, 300), some(scene, 300, seed=1)
    roots = ("shape", "object_colour", "size", "light_position", "light_colour")
    target = act(scene, factors, **{name: other[:, scene.graph.column(name)] for name in roots})
    torch.testing.assert_close(target, other, atol=2e-5, rtol=0)


@SCENES
def test_what_is_set_stays_and_only_descendants_move(scene: ShadowScene) -> None:
    factors, other = some(scene, 200), some(scene, 200, seed=1)
    assert torch.equal(act(scene, factors), factors)
    for name in scene.graph.names:
        column = scene.graph.column(name)
        acted = act(scene, factors, **{name: other[:, column]})
        assert torch.equal(acted[:, column], other[:, column])
        for untouched in set(scene.graph.names) - scene.graph.descendants(name) - {name}:
            place = scene.graph.column(untouched)
            assert torch.equal(acted[:, place], factors[:, place])


@SCENES
def test_noise_of_an_effect_survives_an_intervention_on_its_cause(scene: ShadowScene) -> None:
    factors = some(scene, 200)
    step = act(scene, factors, floor_colour=0.4)
    light, floor = (scene.graph.column(name) for name in ("light_colour", "floor_colour"))
    places = (5 * step[:, [light, floor]]).round()
    offset = (places[:, 1] - places[:, 0]) % 6
    moved = (5 * act(scene, step, light_colour=0.8)[:, floor]).round()
    assert torch.equal(moved, (4 + offset) % 6)
    there_and_back = act(scene, act(scene, step, light_colour=0.8), light_colour=step[:, light])
    assert torch.equal(there_and_back, step)


# --- the picture ---


@SCENES
@pytest.mark.parametrize("size", [32, 64])
def test_pictures_have_range_and_do_not_depend_on_the_batch(scene: ShadowScene, size: int) -> None:
    factors = some(scene, 12)
    images = scene.render(factors, size)
    assert images.shape == (12, 3, size, size) and images.dtype == torch.float32
    assert images.min() >= -1 and images.max() <= 1 and images.std() > 0.1
    torch.testing.assert_close(scene.render(factors[5:7], size), images[5:7])
    assert scene.render(factors[:0], size).shape == (0, 3, size, size)


@SCENES
def test_each_factor_changes_its_part_of_the_picture(scene: ShadowScene) -> None:
    factors = some(scene, 40)
    corner = scene.render(factors, 64)[:, :, :4, :4]
    tinted = act(scene, factors, light_colour=(factors[:, 4] + 0.4) % 1.2)
    tinted[:, scene.graph.column("floor_colour")] = factors[:, scene.graph.column("floor_colour")]
    if scene is SUNLIGHT:
        assert torch.equal(scene.render(tinted, 64)[:, :, :4, :4], corner), "the floor stays"
    repainted = act(scene, factors, floor_colour=(factors[:, 4] + 0.4) % 1.2)
    assert ((scene.render(repainted, 64)[:, :, :4, :4] - corner).abs().amax(1) > 0.02).all()


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size 63"):
        SUNLIGHT.render(some(SUNLIGHT, 1), 63)
    with pytest.raises(ValueError, match="NaN"):
        SUNLIGHT.render(torch.full((1, 7), torch.nan), 64)


# --- the ruler ---


def errors(scene: ShadowScene, factors: Tensor, noise: float = 0.0) -> Tensor:
    images = scene.render(factors, 64)
    images += noise * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return absolute_counterfactual_mismatch(scene.read(images), factors, scene.graph)


@SCENES
def test_the_ruler_is_right_on_the_grid(scene: ShadowScene) -> None:
    error = errors(scene, some(scene, 100))
    assert (error[:, scene.graph.categorical] == 0).all()
    assert error.mean(0).max() <= 0.006


@SCENES
def test_the_ruler_is_right_where_effects_disagree_with_causes(scene: ShadowScene) -> None:
    factors, other = some(scene, 60), some(scene, 60, seed=1)
    for name in scene.graph.leaves:
        acted = act(scene, factors, **{name: other[:, scene.graph.column(name)]})
        acted = acted[scene.visible(acted)]
        assert len(acted) > 40
        error = errors(scene, acted)
        assert (error[:, scene.graph.categorical] == 0).float().mean() >= 0.99
        assert error.mean(0).max() <= 0.01


@SCENES
def test_noise_hardly_moves_the_ruler(scene: ShadowScene) -> None:
    error = errors(scene, some(scene, 80), noise=0.03)
    assert (error[:, scene.graph.categorical] == 0).float().mean() >= 0.99
    assert error.mean(0).max() <= 0.015


@SCENES
def test_anything_is_read_and_never_as_nan(scene: ShadowScene) -> None:
    wild = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 3
    wild[0], wild[1], wild[2], wild[3] = torch.nan, torch.inf, -torch.inf, 1.0
    read = scene.read(wild)
    assert read.shape == (6, len(scene.graph)) and torch.isfinite(read).all()
    with pytest.raises(ValueError):
        scene.read(torch.zeros(1, 1, 64, 64))


@SCENES
def test_published_pictures_are_visible_and_hidden_shadows_are_not(scene: ShadowScene) -> None:
    factors = some(scene, 300)
    assert scene.visible(factors).all()
    assert not scene.visible(factors + 1.0).any()
    behind = scene.visible(act(scene, factors, shadow_area=0.0))
    assert 0.1 < behind.float().mean() < 0.95, "some shrunken shadows vanish behind their bodies"
