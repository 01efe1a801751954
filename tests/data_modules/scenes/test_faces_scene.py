"""The cartoon faces: known random mechanisms, pictures, ruler."""

import pytest
import torch
from torch import Tensor

from data_modules.scenes.faces import GRAPHS, MECHANISMS, CartoonFaces
from diffcf.graph import CausalGraph

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
    factors, noise = sample(scene, 300)
    images = scene.render(factors, 64, noise)
    assert images.shape == (300, 3, 64, 64) and images.min() >= -1 and images.max() <= 1
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
