"""Hints: where in the picture a factor is written."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from stirring import stir
from torch.nn import functional as F

from data_modules.scenes import PointlightScene, SunlightScene
from diffcf.api import load
from diffcf.causal import NSCM, CausalGraph, Factor, LocalPosterior, Tie, Ties
from diffcf.commands.speed.dispatch import Dispatched
from diffcf.diffusion import Feedback
from diffcf.io import DataError, GraphError, SettingsError
from diffcf.methods import (
    CounterfactualEngine,
    DiffusionCounterfactuals,
    Sampling,
    write_weights,
)
from diffcf.methods.hints import Hints, regions, told_where_written, towards, unchanged
from diffcf.methods.places import FOUND, PARTS, background, found_places
from diffcf.networks import LocalPosteriorProjector, RegionMixer, UNet
from diffcf.networks.first_stage import ConvAutoencoder

GRAPH = CausalGraph([Factor("floor"), Factor("light"), Factor("size")])


@pytest.mark.parametrize("scene", [SunlightScene(), PointlightScene()], ids=["sun", "point"])
def test_the_background_of_a_lit_floor_is_the_floor(scene) -> None:
    factors = scene.published_grid()[:: len(scene.published_grid()) // 12]
    found = background(scene.render(factors, 64)).bool()
    share = found.float().mean(dim=(1, 2))
    assert (share > 0.5).all() and (share < 1).all(), "the body is none of it"
    assert found[:, [0, -1]].float().mean() > 0.9, "nor is the frame cut off"
    # Of one shape and place the body is where it is, whatever its colour and that of the light.
    body = scene.graph.column("object_colour"), scene.graph.column("light_colour")
    other = factors.clone()
    other[:, body[0]], other[:, body[1]] = 1 - factors[:, body[0]], 1 - factors[:, body[1]]
    other[:, scene.graph.column("floor_colour")] = other[:, body[1]]
    again = background(scene.render(other, 64)).bool()
    assert (found == again).float().mean() > 0.97


@pytest.mark.parametrize("scene", [SunlightScene(), PointlightScene()], ids=["sun", "point"])
def test_the_background_is_what_takes_the_floors_colour(scene) -> None:
    """Shadows with it, and pixels at the body's edge in part."""
    factors = scene.published_grid()[:: len(scene.published_grid()) // 60]
    other = factors.clone()
    for name in ("floor_colour", *(["spot_colour"] if scene.light.is_point else [])):
        column = scene.graph.column(name)
        other[:, column] = (other[:, column] + 0.6) % 1.2
    image, wanted = scene.render(factors, 64), scene.render(other, 64)
    found = background(image)[:, None]
    change = wanted - image
    assert (change * (1 - found)).abs().sum() < 0.01 * change.abs().sum()
    still = (change == 0).all(dim=1, keepdim=True)
    assert found[still].mean() < 0.02
    rim = (found > 0) & (found < 1)
    assert 0.002 < rim.float().mean() < 0.1
    # Of a mixed pixel the floor's share takes the colour: what nearby floor changes by, less.
    nearby = F.max_pool2d(change.abs().amax(dim=1, keepdim=True), 3, stride=1, padding=1)
    shares = change.abs().amax(dim=1, keepdim=True) / nearby.clamp_min(1e-3)
    assert (found - shares)[rim].abs().mean() < 0.25


def test_black_grey_and_colourless_things_are_no_shadows() -> None:
    image = torch.full((1, 3, 16, 16), -0.5)
    image[:, 0] = 0.5  # a reddish wall
    image[..., 4:9, 4:9] = -1.0  # black
    assert background(image)[0, 4:9, 4:9].max() < 0.01
    grey = torch.full((1, 3, 16, 16), 0.6)
    grey[..., 4:9, 4:9] = 0.0  # a grey thing before a grey wall
    assert background(grey)[0, 4:9, 4:9].max() == 0
    assert background(grey[:, :1])[0, 4:9, 4:9].max() == 0, "nor where there is no colour at all"


def test_an_object_at_the_border_is_no_background() -> None:
    image = torch.full((1, 3, 16, 16), -0.5)
    image[..., :10, 4:9] = 0.9  # it reaches the upper edge
    found = background(image)[0]
    assert found[:10, 4:9].sum() == 0 and found.sum() == 256 - 50


@pytest.mark.parametrize("scene", [SunlightScene(), PointlightScene()], ids=["sun", "point"])
def test_a_lamps_spot_is_the_highlight_and_an_even_floor_has_none(scene) -> None:
    factors = scene.published_grid()[:: len(scene.published_grid()) // 12]
    found = found_places(scene.render(factors, 64))
    assert set(found) == set(FOUND)
    together = torch.stack([found[place] for place in PARTS]).sum(dim=0)
    torch.testing.assert_close(together, torch.ones_like(together))
    light, around = found["background_highlight"], found["background"]
    if scene.light.is_point:
        spot = scene.graph.column("spot_colour")
        other = factors.clone()
        other[:, spot] = 1 - other[:, spot]
        changed = (scene.render(other, 64) - scene.render(factors, 64)).abs().amax(dim=1) * around
        assert torch.corrcoef(torch.stack([light.flatten(), changed.flatten()]))[0, 1] > 0.9
    else:
        assert light.max() == 0


def test_what_is_soft_is_drawn_whole_and_given_back_in_part() -> None:
    spot = torch.linspace(0, 1, 4).expand(1, 4, 4)  # it fades into the floor
    masks = torch.stack([1 - spot, spot, torch.ones_like(spot)], dim=1)
    parts = regions(masks)
    assert len(parts) == 2 and all(region.told[2] for region in parts)
    before, after = torch.tensor([[0.2, 0.2, 0.2]]), torch.tensor([[0.2, 0.9, 0.2]])
    moved = towards(parts, before, after)
    for (told, weight), (_, was) in zip(moved, parts, strict=True):
        inside = spot[:, None] > 0
        expected = torch.where(inside, float(told[1]), was)
        torch.testing.assert_close(weight, expected)
    torch.testing.assert_close(unchanged(parts, before, after), 1 - spot[:, None])
    for still in (towards(parts, before, before), parts):
        torch.testing.assert_close([w for _, w in still], [w for _, w in parts])
    assert (unchanged(parts, before, before) == 1).all(), "to the last bit"
    every = towards(parts, before, before + 0.1)
    torch.testing.assert_close([w for _, w in every], [w for _, w in parts])


def test_masks_are_where_the_places_say(tmp_path: Path) -> None:
    drawn = Image.new("L", (64, 64))
    drawn.paste(255, (32, 0, 64, 64))
    drawn.save(tmp_path / "right.png")
    image = torch.full((2, 3, 8, 8), -1.0)
    image[:, :, 3:5, 3:5] = 1.0
    places = {"floor": "background", "light": "object", "size": [0.0, 0.25, 0.5, 1.0]}
    masks = Hints(GRAPH, places).masks(image)
    assert masks.shape == (2, 3, 8, 8) and torch.equal(
        masks[:, 0] + masks[:, 1], torch.ones(2, 8, 8)
    )
    assert masks[0, 1].sum() == 4 and masks[0, 2].sum() == 4 * 6
    assert masks[0, 2, :4, 2:].min() == 1
    hints = Hints(GRAPH, {"light": str(tmp_path / "right.png")})
    (tmp_path / "right.png").unlink()
    masks = Hints(GRAPH, hints.to_dict()).masks(image)
    assert torch.equal(masks, hints.masks(image))
    assert masks[0, 1, :, :3].max() < 0.1 and masks[0, 1, :, 5:].min() > 0.9
    assert (masks[:, [0, 2]] == 1).all(), "without a hint a factor may be written anywhere"


@pytest.mark.parametrize(
    ("places", "error", "said"),
    [
        ({"sun": "object"}, GraphError, "Unknown factor 'sun'"),
        ({"size": [0.0, 0.0, 1.2, 1.0]}, SettingsError, "hint of 'size'.*inside"),
        ({"size": [0.5, 0.0, 0.5, 1.0]}, SettingsError, "hint of 'size'"),
        ({"size": [0.5, 0.0]}, SettingsError, "top, left, bottom and right"),
        ({"size": [[0.0, 1.0], [2.0, 0.0]]}, SettingsError, "rows of numbers"),
        ({"size": [[0.0, 1.0], [1.0]]}, SettingsError, "rows of numbers"),
        ({"size": []}, SettingsError, "top, left, bottom and right"),
        ({"size": "nowhere.png"}, DataError, "nowhere.png.*does not exist"),
    ],
)
def test_an_impossible_place_is_one_sentence(places, error, said: str) -> None:
    with pytest.raises(error, match=said):
        Hints(GRAPH, places)


def test_every_place_belongs_to_one_region_or_in_parts_to_several() -> None:
    masks = torch.rand(2, 3, 4, 4)
    masks[:, 2] = masks[:, 0]
    found = regions(masks)
    torch.testing.assert_close(sum(r.weight for r in found), torch.ones(2, 1, 4, 4))
    for column in range(3):
        told = sum(r.weight for r in found if r.told[column])
        torch.testing.assert_close(told[:, 0], masks[:, column])
    assert all(r.told[0] == r.told[2] for r in found), "they share a place"
    sharp = torch.zeros(1, 3, 4, 4)
    sharp[:, 0, :2], sharp[:, 1, 2:], sharp[:, 2] = 1.0, 1.0, 1.0
    assert len(regions(sharp)) == 2, "no region is empty"


def test_the_generator_is_told_what_is_written_at_a_place_and_nothing_else() -> None:
    masks = torch.ones(2, 3, 4, 4)
    masks[:, 0, 2:], masks[:, 1, :2] = 0.0, 0.0  # floor above, light below, size anywhere

    def generator(x_t, t, factors=None, mask=None):
        if factors is None:
            return x_t + 5
        code = torch.where(mask, factors, torch.tensor([10.0, 100.0, 1000.0]))
        return x_t + code.sum(dim=1)[:, None, None, None]

    told = told_where_written(generator, regions(masks))
    x, t = torch.zeros(4, 1, 4, 4), torch.zeros(4)  # a batch and its copy
    factors = torch.tensor([[1.0, 2.0, 3.0]] * 4)
    v = told(x, t, factors)
    assert (v[:, :, :2] == 104).all() and (v[:, :, 2:] == 15).all()
    mask = torch.tensor([[True, True, False]] * 4)
    assert (told(x, t, factors, mask)[:, :, :2] == 1101).all()
    assert (told(x, t) == 5).all()
    # A light that the data tie to the floor is what goes with this floor, and the other way round.
    ties = Ties(GRAPH, [Tie("floor", "light", ((0.0, 8.0), (1.0, 7.0), (2.0, 6.0)))])
    tied = told_where_written(generator, regions(masks), ties)(
        x, t, torch.tensor([[1.0, 6.0, 3.0]] * 4)
    )
    assert (tied[:, :, :2] == 1 + 7 + 3).all() and (tied[:, :, 2:] == 2 + 6 + 3).all()


# --- a method that heeds them ---


def made(**settings: object) -> DiffusionCounterfactuals:
    shape = {"image_channels": 4, "patch": 1} if "first_stage" in settings else {"patch": 4}
    module = DiffusionCounterfactuals(
        GRAPH,
        generator=partial(UNet, channels=[8, 8], condition=8, attention_heads=1, **shape),
        projector=partial(LocalPosteriorProjector, channels=8, condition=8, **shape),
        nscm=partial(NSCM, hidden=[8]),
        hints={"floor": "background", "light": "object"},
        **settings,
    )
    stir(module)
    return module.eval()


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.full((3, 3, 32, 32), -0.5) + 0.3 * torch.rand(3, 1, 1, 1)
    image[..., 12:20, 12:20] = 0.8
    return image, torch.rand(3, 3)


ANCHORED = Sampling(steps=3, anchored=True)


def test_hints_leave_no_factor_untold_to_a_generator_that_was_always_told_all() -> None:
    module = made(factor_dropout=0.0)
    with pytest.raises(SettingsError, match="leave it without floor, light in places"):
        module.method(ANCHORED)
    module.ties = Ties(GRAPH, [Tie("floor", "light", ((0.0, 0.0), (1.0, 1.0)))])
    module.method(ANCHORED)
    module.take_hints({"floor": "background", "size": "object"})
    with pytest.raises(SettingsError, match="without size in places"):
        module.method(ANCHORED)
    module.take_hints({"floor": "background"})
    module.method(ANCHORED)  # elsewhere the light tells it


def test_a_place_stays_where_nothing_that_is_written_there_moves() -> None:
    world = made().method(ANCHORED).abduct(*pictures())
    for do, moves in (({"floor": 0.9}, False), ({"light": 0.9}, True), ({"size": 0.9}, True)):
        body = world.predict(do).image[..., 13:19, 13:19]
        assert torch.equal(body, world.image[..., 13:19, 13:19]) != moves, do
    assert not torch.equal(world.predict({"floor": 0.9}).image, world.image)


@pytest.mark.parametrize("latent", [False, True], ids=["pixels", "latents"])
def test_with_hints_the_null_intervention_is_still_exact(latent: bool) -> None:
    stage = {"first_stage": partial(ConvAutoencoder, latent_channels=4, channels=[8, 8])}
    world = made(**(stage if latent else {})).method(ANCHORED).abduct(*pictures())
    torch.testing.assert_close(world.predict({}).image, world.image, atol=1e-5, rtol=0)
    changed = world.predict({"floor": 0.9}).image
    assert not torch.allclose(changed, world.image, atol=1e-3)
    few = world.select(torch.tensor([2, 0]))
    again = few.predict({"floor": 0.9}).image
    torch.testing.assert_close(again, changed[[2, 0]], atol=1e-4, rtol=0)


def test_a_factor_of_the_object_does_not_move_a_background_that_sees_itself_alone() -> None:
    module, (image, factors) = made(), pictures()

    def generator(x_t, t, factors=None, mask=None):  # every pixel by itself
        return x_t + torch.where(mask, factors, 0.5).sum(dim=1)[:, None, None, None]

    engine = CounterfactualEngine(generator, None, module.nscm, ANCHORED, hints=module.hints)
    world = engine.abduct(image, factors)
    body = module.hints.masks(image)[:, 1].bool()[:, None].expand_as(image)
    for name, inside in (("light", body), ("floor", ~body)):
        moved = (world.predict({name: 1.0}).image - image).abs() > 1e-4
        assert moved[inside].any() and not moved[~inside].any()


@pytest.mark.parametrize("latent", [False, True], ids=["pixels", "latents"])
def test_the_next_step_finds_places_where_the_answer_has_them(latent: bool) -> None:
    stage = {"first_stage": partial(ConvAutoencoder, latent_channels=4, channels=[8, 8])}
    world = made(**(stage if latent else {})).method(ANCHORED).abduct(*pictures())
    answer = world.predict({"size": 0.9})
    image = world.image.clone()
    image[..., 10:24, 10:24] = 0.8  # a body that grew
    again = world.reabduct(replace(answer, image=image))
    after = again.predict({"floor": 0.1}).image
    if not latent:
        assert torch.equal(after[..., 11:23, 11:23], image[..., 11:23, 11:23]), "it is no floor"
    anew = (getattr(again, "inner", again)).drawn.written
    was = (getattr(world, "inner", world)).drawn.written
    assert anew[:, 1].sum() > was[:, 1].sum()
    torch.testing.assert_close(again.predict({}).image, image, atol=1e-5, rtol=0)


def test_places_that_were_given_stay_in_a_sequence() -> None:
    module, (image, factors) = made(), pictures()
    engine = CounterfactualEngine(module.generator, None, module.nscm, ANCHORED)
    world = engine.abduct(image, factors, written=module.hints.masks(image))
    again = world.reabduct(world.predict({"size": 0.9}))
    assert torch.equal(again.drawn.written, world.drawn.written)


@pytest.mark.parametrize("feedback", [None, Feedback()], ids=["plain", "feedback"])
def test_regions_are_found_once_and_not_for_each_step_or_answer(feedback) -> None:
    module, (image, factors) = made(), pictures()
    module.ties = Ties(GRAPH, [Tie("floor", "light", ((0.0, 0.0), (1.0, 1.0)))])
    method = module.method(Sampling(steps=2, anchored=True, feedback=feedback))
    with Dispatched() as abducting:
        world = method.abduct(image, factors)
    assert any("hints.py" in place for place in abducting.waits)
    part = world.select(torch.tensor([2]))
    with Dispatched() as answering:
        answers = [world.predict({"floor": value}).image for value in (0.1, 0.9)]
        part.predict({"floor": 0.1})
    assert not [place for place in answering.waits if "hints.py" in place]
    anew = method.abduct(image, factors).predict({"floor": 0.9})
    assert torch.equal(answers[1], anew.image), "the answer before left the regions as they were"


def test_weights_carry_their_hints(tmp_path: Path) -> None:
    module, (image, factors) = made(), pictures()
    write_weights(module, ANCHORED, tmp_path / "w.safetensors", torch.float32)
    loaded = load(tmp_path / "w.safetensors")
    assert loaded.module.hints.to_dict() == module.hints.to_dict()
    methods = loaded.method, module.method(ANCHORED)
    one, other = (m.abduct(image, factors).predict({"light": 0.1}).image for m in methods)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_a_factor_is_read_where_it_is_written() -> None:
    local = torch.zeros(1, 3, 2, 2)
    local[0, :, :, 0], local[0, :, :, 1] = 0.2, 0.8  # the halves say different things
    attention = torch.full_like(local, 0.25)
    whole = LocalPosterior(local.mean((2, 3)), local[..., 0, 0], attention, local, 0 * local + 0.01)
    where = torch.ones(1, 3, 8, 8)
    where[0, 0, :, 4:] = where[0, 1, :, :4] = 0.0
    read = whole.within(where, GRAPH.code_owner)
    torch.testing.assert_close(read.mean, torch.tensor([[0.2, 0.8, 0.5]]))
    torch.testing.assert_close(read.variance, torch.tensor([[0.01, 0.01, 0.1]]))
    torch.testing.assert_close(read.attention.sum((2, 3)), torch.ones(1, 3))
    nowhere = whole.within(torch.zeros_like(where), GRAPH.code_owner)
    torch.testing.assert_close(nowhere.mean, whole.mean)


class Undecided(LocalPosteriorProjector):
    """Looks at all places alike, and reads nothing."""

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> LocalPosterior:
        at = super().forward(x_t, t)
        even = torch.full_like(at.attention, 1 / at.attention[0, 0].numel())
        unsure = torch.ones_like(at.variance)
        return LocalPosterior(at.mean, unsure, even, at.local_mean, 0 * at.local_mean + 1)


def test_hints_part_names_that_attention_cannot() -> None:
    torch.manual_seed(0)
    image, factors = torch.rand(16, 3, 16, 16) - 0.5, torch.rand(16, 3)
    projector, mixer = Undecided(GRAPH, channels=8, condition=8), RegionMixer(seam_limit=1.0)
    plain = mixer.for_generator(image, factors, projector)
    assert not plain.mixed.any(), "no cut has all of one factor and none of another"
    halves = {"floor": [0.0, 0.0, 0.5, 1.0], "light": [0.5, 0.0, 1.0, 1.0]}
    hints = Hints(GRAPH, halves | {"size": [0.5, 0.0, 1.0, 1.0]})
    found = mixer.candidates(image, projector, hints.masks(image))
    made = mixer.for_generator(image, factors, projector, found)
    assert made.mixed.any()
    other = found.other[made.mixed]
    floor, light = (made.factors[made.mixed, k] for k in (0, 1))
    swapped = floor == factors[other, 0]
    assert torch.equal(light == factors[other, 1], ~swapped)
    upper = made.image[made.mixed][:, :, 0]
    source = torch.where(swapped[:, None, None], image[other][:, :, 0], image[made.mixed][:, :, 0])
    assert torch.equal(upper, source), "the floor's label is that of the image above"


def test_what_has_to_be_found_cannot_steer_mixing_in_latents() -> None:
    stage = partial(ConvAutoencoder, latent_channels=4, channels=[8, 8])
    with pytest.raises(SettingsError, match="Region mixing in latents"):
        made(first_stage=stage, mixing=RegionMixer())


def test_a_method_trains_with_hints(small_batch, graph) -> None:
    module = DiffusionCounterfactuals(
        graph,
        generator=partial(UNet, channels=[8, 8], condition=8, attention_heads=1),
        projector=partial(LocalPosteriorProjector, channels=8, condition=8),
        nscm=partial(NSCM, hidden=[8]),
        mixing=RegionMixer(),
        hints={"light": [0.0, 0.0, 0.4, 1.0], "angle": "object"},
    )
    terms = module.losses(small_batch["image"], small_batch["factors"])
    module.total(terms).backward()
    assert all(torch.isfinite(value) for value in terms.values())


def test_a_hint_settles_a_tie_that_the_data_left() -> None:
    module, (image, factors) = made(), pictures()
    factors[:, 1] = factors[:, 0]
    same = tuple((k / 64, k / 64) for k in range(65))
    module.ties = Ties(GRAPH, [Tie("floor", "light", same)])
    answers = {}
    for hinted in (frozenset[str](), module.hinted):
        module.hinted = hinted
        answer = module.method(ANCHORED).abduct(image, factors).predict({"floor": 0.9})
        answers[bool(hinted)] = answer
    assert answers[False].undetermined is not None and answers[False].undetermined[:, 0].any()
    said = answers[True].undetermined
    assert said is None or not said.any()
