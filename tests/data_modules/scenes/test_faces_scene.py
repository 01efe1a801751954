"""The cartoon faces: known random mechanisms, pictures, ruler."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.nn.functional import interpolate

from data_modules.scenes.faces.painting import FREE, RAMPS
from data_modules.scenes.faces.picture import APPEARANCE, ATTRIBUTES, draw_canvas, draw_faces
from data_modules.scenes.faces.readout import (
    HAIR,
    NOISE,
    SPREAD,
    hair_tones,
    log_likelihood,
    prepare_templates,
    read_faces,
)
from data_modules.scenes.faces.scene import GRAPHS, MECHANISMS, CartoonFaces, sample_faces
from diffcf.causal.graph import CausalGraph

SMILE, BEARD = CartoonFaces("smile"), CartoonFaces("beard")
SCENES = pytest.mark.parametrize("scene", [SMILE, BEARD], ids=["smile", "beard"])


def sample(scene: CartoonFaces, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return scene.sample(count, torch.Generator().manual_seed(seed))


def act(scene: CartoonFaces, factors: Tensor, name: str, value: float) -> Tensor:
    mask = torch.zeros_like(factors, dtype=torch.bool)
    mask[:, scene.graph.column(name)] = True
    return scene.counterfactual(factors, torch.full_like(factors, value), mask)


@SCENES
def test_the_graph_is_that_of_the_celeba_experiments(scene: CartoonFaces) -> None:
    name = "smile" if scene is SMILE else "beard"
    assert scene.graph == CausalGraph.from_yaml(f"experiments/graphs/celeba_{name}.yaml")
    assert not scene.identified and scene.graph.names == GRAPHS[name]


@SCENES
def test_samples_follow_the_mechanisms(scene: CartoonFaces) -> None:
    factors, noise = sample(scene, 40_000)
    assert noise.shape == (40_000, len(scene.noise_names))
    column = {name: factors[:, k] for k, name in enumerate(scene.graph.names)}
    for child, (intercept, weights) in MECHANISMS.items():
        if child not in column:
            continue
        logit = intercept + sum(weight * column[parent] for parent, weight in weights.items())
        for value in logit.unique():
            rows = logit == value
            rate = column[child][rows].mean()
            assert abs(rate - torch.sigmoid(value)) < 0.02, (child, value)


def test_counterfactual_probabilities_are_those_of_the_same_noise() -> None:
    """Against a simulation: keep each face's u, flip the cause, see how the effect fell."""
    generator = torch.Generator().manual_seed(0)
    count = 200_000
    u = torch.rand(count, generator=generator).logit()
    male = (torch.rand(count, generator=generator) < 0.5).float()
    smiling = (torch.rand(count, generator=generator) < 0.5).float()
    intercept, weights = MECHANISMS["Narrow_Eyes"]
    base = intercept + weights["Male"] * male

    def narrow(smile: Tensor) -> Tensor:
        return (base + weights["Smiling"] * smile + u > 0).float()

    factors = torch.stack([male, smiling, narrow(smiling), torch.zeros(count)], dim=1)
    eyes = SMILE.graph.column("Narrow_Eyes")
    for value in (0.0, 1.0):
        expected = act(SMILE, factors, "Smiling", value)[:, eyes]
        happened = narrow(torch.full_like(smiling, value))
        for group in torch.unique(factors[:, :3], dim=0):
            rows = (factors[:, :3] == group).all(1)
            assert abs(expected[rows].mean() - happened[rows].mean()) < 0.02


@SCENES
def test_non_descendants_stay_and_values_are_set(scene: CartoonFaces) -> None:
    factors, _ = sample(scene, 300)
    for name in scene.graph.names:
        acted = act(scene, factors, name, 1.0)
        for other in set(scene.graph.names) - scene.graph.descendants(name) - {name}:
            column = scene.graph.column(other)
            assert torch.equal(acted[:, column], factors[:, column])
        assert (acted[:, scene.graph.column(name)] == 1).all()
        assert ((acted >= 0) & (acted <= 1)).all()


@SCENES
def test_the_ruler_is_right_and_shrugs_off_noise(scene: CartoonFaces) -> None:
    factors, noise = sample(scene, 150)
    images = scene.render(factors, 64, noise)
    assert images.shape == (150, 3, 64, 64) and images.min() >= -1 and images.max() <= 1
    assert ((scene.read(images) > 0.5) == (factors > 0.5)).float().mean() >= 0.999
    noisy = images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    assert ((scene.read(noisy) > 0.5) == (factors > 0.5)).float().mean() >= 0.995


def test_every_combination_of_all_attributes_is_read() -> None:
    for scene in (SMILE, BEARD):
        factors = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
        hidden = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        _, looks = sample(scene, 128, seed=3)
        looks[:, :3] = hidden.repeat(16, 1)
        factors = factors.repeat_interleave(8, 0)
        read = scene.read(scene.render(factors, 64, looks))
        assert ((read > 0.5) == (factors > 0.5)).all()


def test_a_typical_face_and_nonsense() -> None:
    factors, _ = sample(SMILE, 4)
    assert SMILE.render(factors, 64).shape == (4, 3, 64, 64)
    assert SMILE.visible(factors).all()
    wild = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 3
    wild[0], wild[1], wild[2] = torch.nan, torch.inf, 1.0
    read = SMILE.read(wild)
    assert ((read >= 0) & (read <= 1)).all()
    with pytest.raises(ValueError, match="image_size 63"):
        SMILE.render(factors, 63)
    with pytest.raises(ValueError, match="graph 'hat'"):
        CartoonFaces("hat")  # type: ignore[arg-type]


def any_faces(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """All combinations of attributes equally often, with random looks."""
    generator = torch.Generator().manual_seed(seed)
    attributes = (torch.rand(count, 7, generator=generator) < 0.5).float()
    return attributes, sample_faces(count, generator)[1]


def accuracy(images: Tensor, attributes: Tensor) -> Tensor:
    """The part of the images whose attribute the ruler reads right, ``[7]``."""
    return ((read_faces(images) > 0.5) == (attributes > 0.5)).float().mean(0)


@pytest.mark.parametrize("size", [64, 128])
def test_the_ruler_is_right_on_all_combinations(size: int) -> None:
    attributes, looks = any_faces(300 if size == 64 else 120, seed=size)
    images = draw_faces(attributes, looks, size)
    assert accuracy(images, attributes).min() >= 0.99
    assert (read_faces(images) - attributes).abs().mean() < 0.002


def test_the_ruler_bears_jpeg_blur_and_a_colour_cast() -> None:
    attributes, looks = any_faces(120, seed=1)
    canvas = draw_canvas(attributes, looks).mul(255).round().byte().movedim(1, 3).numpy()
    files = []
    for pixels in canvas:
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=90)
        small = Image.open(file).crop((15, 35, 163, 183))
        files.append(np.asarray(small.resize((64, 64), Image.Resampling.BILINEAR)))
    decoded = torch.from_numpy(np.stack(files)).movedim(3, 1) / 127.5 - 1
    images = draw_faces(attributes, looks, 64)
    # The renderer draws what the data module makes of the file.
    assert (decoded - images).abs().mean() < 0.015
    half = interpolate(interpolate(images, (32, 32), mode="area"), (64, 64), mode="bilinear")
    cast = 0.85 * images + torch.tensor([0.1, -0.05, -0.1]).view(1, 3, 1, 1)
    for spoilt in (decoded, half, cast):
        assert accuracy(spoilt, attributes).min() >= 0.99


def test_the_likelihood_is_that_of_the_normal_distribution() -> None:
    shares = torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(0))
    seen = torch.rand(1, 3, 5, generator=torch.Generator().manual_seed(1))
    tones = hair_tones()[0][::7]
    found = log_likelihood(seen, prepare_templates(shares, tones).to("cpu"))[0]
    spread = torch.tensor([SPREAD[name] for name in FREE])
    expected = torch.empty(2, len(tones))
    for m, share in enumerate(shares):
        free, fixed = share[:4], share[4:]
        covariance = free.T @ spread.square().diag() @ free + NOISE**2 * torch.eye(5)
        for t, tone in enumerate(tones):
            colours = torch.stack([torch.tensor(RAMPS[name]).mean(0) for name in FREE])
            colours[HAIR] = tone
            normal = MultivariateNormal(fixed + colours.T @ free, covariance)
            expected[m, t] = normal.log_prob(seen[0]).sum()
    gap = found - expected  # the same for all paintings: a term of the image alone
    torch.testing.assert_close(gap, gap[0, 0].expand_as(gap), atol=2e-3, rtol=1e-4)


def test_batches_do_not_change_a_picture() -> None:
    attributes, looks = any_faces(40)
    extreme = torch.tensor([[span.low for span in APPEARANCE.values()]] * 20)
    looks[:20] = extreme
    whole = draw_faces(attributes, looks, 64)
    alone = torch.cat([draw_faces(attributes[[i]], looks[[i]], 64) for i in range(40)])
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=0)
    assert draw_faces(attributes[:0], looks[:0], 64).shape == (0, 3, 64, 64)
    assert read_faces(whole[:0]).shape == (0, 7)


def test_attributes_show_in_their_own_rows() -> None:
    """Which of the 64 rows an attribute changes, whatever the others are."""
    attributes, looks = any_faces(60)
    rows = {"Bald": (0, 46), "Narrow_Eyes": (22, 39), "Smiling": (36, 55), "Beard": (30, 63)}
    rows["Mouth_Slightly_Open"] = rows["Smiling"]
    for name, (top, bottom) in rows.items():
        faces = []
        for value in (0.0, 1.0):
            acted = attributes.clone()
            acted[:, ATTRIBUTES.index(name)] = value
            faces.append(draw_faces(acted, looks, 64))
        changed = ((faces[0] - faces[1]).abs() > 1e-4).any(3).any(1)
        assert changed[:, top:bottom].any(1).all()
        assert not changed[:, :top].any() and not changed[:, bottom:].any()


def test_what_cannot_be_drawn_or_read_is_refused() -> None:
    attributes, looks = any_faces(2)
    looks[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        draw_faces(attributes, looks, 64)
    for shape in ((3, 64, 64), (1, 1, 64, 64), (1, 3, 64, 96), (1, 3, 32, 32)):
        with pytest.raises(ValueError):
            read_faces(torch.zeros(shape))
