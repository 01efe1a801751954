"""The references must have the faults that they are there for, and no other."""

from __future__ import annotations

import pytest
import torch

from data_modules.scenes.faces.scene import CartoonFaces
from data_modules.scenes.flow import FlowScene
from data_modules.scenes.pendulum import PendulumScene
from diffcf.causal.interface import Scene
from diffcf.causal.intervention import Intervention
from diffcf.evaluation.metrics.acm import absolute_counterfactual_mismatch
from diffcf.evaluation.references import ChangeEverything, DoNothing, ExactMethod
from diffcf.methods.interface import Method, predict_sequence

BATCH = 16
Parts = tuple[Scene, torch.Tensor, torch.Tensor, torch.Tensor | None]


@pytest.fixture(scope="module", params=["pendulum", "flow"])
def parts(request: pytest.FixtureRequest) -> Parts:
    """A scene, factors, their images, and the images' noise."""
    scene: Scene = PendulumScene() if request.param == "pendulum" else FlowScene()
    factors, _, *noise = scene.published_grid()
    rows = scene.visible(factors).nonzero()[:, 0]
    rows = rows[:: len(rows) // BATCH][:BATCH]
    e = noise[0][rows].float() if noise else None
    return scene, factors[rows], scene.render(factors[rows], 64, e), e


def _singles(scene: Scene, factors: torch.Tensor) -> dict[str, Intervention]:
    """On each factor, the value of the next image in turn whose counterfactual can be shown."""
    result = {}
    for column, name in enumerate(scene.graph.names):
        mask = torch.zeros_like(factors, dtype=torch.bool)
        mask[:, column] = True
        values = torch.where(mask, factors, 0.0)
        for shift in range(1, BATCH):
            drawn = torch.where(mask, factors.roll(shift, 0), 0.0)
            shown = scene.visible(scene.counterfactual(factors, drawn, mask))
            changes = (drawn - factors)[:, column].abs() > 0.05
            same = (values == torch.where(mask, factors, 0.0)).all(1)
            values = torch.where((shown & changes & same)[:, None], drawn, values)
        result[name] = Intervention(values, mask)
    return result


def _acm(scene: Scene, image: torch.Tensor, target: torch.Tensor) -> float:
    return absolute_counterfactual_mismatch(scene.read(image), target).mean().item()


def test_the_exact_method_is_exact(parts: Parts) -> None:
    scene, factors, image, noise = parts
    world = ExactMethod(scene, noise).abduct(image, factors)
    for name, do in _singles(scene, factors).items():
        answer = world.predict(do)
        target = scene.counterfactual(factors, do.values, do.mask)
        assert torch.equal(answer.factors, target)
        assert _acm(scene, answer.image, target) < 0.001, name


def test_the_exact_method_leaves_unchanged_what_nothing_changes(parts: Parts) -> None:
    scene, factors, image, noise = parts
    factual = image + 0.01 * torch.randn_like(image)  # not what the scene would draw
    world = ExactMethod(scene, noise).abduct(factual, factors)
    assert torch.equal(world.predict({}).image, factual)
    same = Intervention(factors, torch.ones_like(factors, dtype=torch.bool))
    assert torch.equal(world.predict(same).image, factual), "set to what they are"
    half = same.mask.clone()
    half[BATCH // 2 :] = False
    moved = world.predict(Intervention(1 - factors, ~half)).image
    assert torch.equal(moved[: BATCH // 2], factual[: BATCH // 2])
    assert (moved[BATCH // 2 :] != factual[BATCH // 2 :]).flatten(1).any(1).all()


def test_the_exact_method_undoes_what_it_did(parts: Parts) -> None:
    scene, factors, image, noise = parts
    for name, do in _singles(scene, factors).items():
        undo = Intervention(torch.where(do.mask, factors, 0.0), do.mask)
        world = ExactMethod(scene, noise).abduct(image, factors)
        there, back = predict_sequence(world, [do, undo])
        assert not torch.equal(there.image, image)
        assert torch.equal(back.image, image), name
        # likewise for who has only the counterfactual's image and factors
        other = ExactMethod(scene, noise).abduct(there.image, there.factors)
        again = other.predict(undo)
        assert (again.image - image).abs().mean() < 1e-3


def test_doing_nothing_keeps_the_image_and_what_is_not_set(parts: Parts) -> None:
    scene, factors, image, _ = parts
    world = DoNothing(scene.graph).abduct(image, factors)
    first, last = scene.graph.names[0], scene.graph.names[-1]
    answer = world.predict({first: 0.25})
    assert torch.equal(answer.image, image)
    assert (answer.factors[:, 0] == 0.25).all()
    assert torch.equal(answer.factors[:, 1:], factors[:, 1:]), "effects stay too"
    steps = [Intervention.from_do({name: 0.5}, scene.graph, BATCH) for name in (first, last)]
    both = predict_sequence(world, steps)[1]
    assert (both.factors[:, [0, -1]] == 0.5).all() and torch.equal(both.image, image)


def test_changing_everything_has_the_right_factors_and_changes_the_rest(parts: Parts) -> None:
    scene, factors, image, noise = parts
    exact = ExactMethod(scene, noise).abduct(image, factors)
    world = ChangeEverything(scene, noise).abduct(image, factors)
    for do in (Intervention.none(factors), *_singles(scene, factors).values()):
        right, answer = exact.predict(do), world.predict(do)
        assert torch.equal(answer.factors, right.factors)
        assert answer.image.abs().max() <= 1
        excess = (answer.image - image).abs() - (right.image - image).abs()
        per_image = excess.clamp_min(0).flatten(1).mean(1) / 2
        assert per_image.min() > 0.02, "of the full range, over the whole picture"


def test_the_haze_differs_between_interventions_and_is_the_same_every_time(parts: Parts) -> None:
    scene, factors, image, noise = parts
    world = ChangeEverything(scene, noise).abduct(image, factors)
    haze = ChangeEverything(scene, noise)._haze
    first, second = scene.graph.names[:2]
    dos = [{}, {first: 0.2}, {first: 0.8}, {second: 0.2}, {first: 0.2, second: 0.2}]
    assert torch.equal(world.predict(dos[1]).image, world.predict(dos[1]).image)
    hazes = [haze(image, Intervention.from_do(do, scene.graph, BATCH)) for do in dos]
    for i, one in enumerate(hazes):
        for other in hazes[:i]:
            assert (one - other).abs().mean() > 0.005


def test_changing_everything_neither_composes_nor_reverses(parts: Parts) -> None:
    scene, factors, image, noise = parts
    world = ChangeEverything(scene, noise).abduct(image, factors)
    assert (world.predict({}).image - image).abs().mean() > 0.05
    do = _singles(scene, factors)[scene.graph.names[0]]
    undo = Intervention(torch.where(do.mask, factors, 0.0), do.mask)
    back = predict_sequence(world, [do, undo])[-1]
    assert torch.allclose(back.factors, factors, atol=1e-5)
    assert (back.image - image).abs().mean() > 0.05


def test_batch_size_does_not_matter(parts: Parts) -> None:
    scene, factors, image, noise = parts
    do = _singles(scene, factors)[scene.graph.names[1]]
    for method in (ExactMethod, ChangeEverything):
        whole = method(scene, noise).abduct(image, factors).predict(do).image
        for rows in torch.arange(BATCH).split(5):
            part = method(scene, None if noise is None else noise[rows])
            answer = part.abduct(image[rows], factors[rows]).predict(
                Intervention(do.values[rows], do.mask[rows])
            )
            torch.testing.assert_close(answer.image, whole[rows])


def test_what_cannot_be_answered_is_said(parts: Parts) -> None:
    scene, factors, image, noise = parts
    methods: list[Method] = [ExactMethod(scene, noise), DoNothing(scene.graph)]
    for method in methods:
        with pytest.raises(ValueError, match="give it the observed ones"):
            method.abduct(image)
        with pytest.raises(ValueError, match=r"factors \[B, 4\], got .* and \[16, 3\]"):
            method.abduct(image, factors[:, :3])
    for kind in (ExactMethod, ChangeEverything):
        with pytest.raises(ValueError, match="which CartoonFaces does not determine"):
            kind(CartoonFaces())
        with pytest.raises(ValueError, match="without their jet_gravity"):
            kind(FlowScene())
        with pytest.raises(ValueError, match="noise of 3 images and was given 16"):
            kind(FlowScene(), torch.zeros(3, 1)).abduct(image, factors)
    with pytest.raises(ValueError, match=r"amplitude must lie in \(0, 1\], not 2"):
        ChangeEverything(scene, noise, amplitude=2)
