"""What CausalVAE and CausalDiffAE have to keep, checked alike."""

from __future__ import annotations

from pathlib import Path

import torch
from stirring import stir
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.methods import CounterfactualModule, load_method
from diffcf.methods.engine import Sampling
from diffcf.methods.peers.causal_latents import LatentModule

SAMPLING = Sampling(steps=3)

MIXED = CausalGraph(
    [
        Factor("shape", "categorical", categories=("cube", "ball", "cone")),
        Factor("lit", "binary"),
        Factor("size"),
        Factor("shade"),
    ],
    [("shape", "size"), ("size", "shade"), ("lit", "shade")],
)


def mixed_batch(images: int = 6, size: int = 16) -> tuple[Tensor, Tensor]:
    """Images and factors of :data:`MIXED`, without meaning."""
    levels = torch.stack([torch.arange(images) % 3 / 2, torch.arange(images) % 2], dim=1)
    factors = torch.cat([levels, torch.rand(images, 2)], dim=1)
    return torch.rand(images, 3, size, size) * 2 - 1, factors


def check_null_intervention(model: LatentModule, image: Tensor, factors: Tensor) -> None:
    world = model.method(SAMPLING).abduct(image, factors)
    answer = world.predict({})
    torch.testing.assert_close(world.factors, factors)
    torch.testing.assert_close(answer.factors, factors, rtol=0, atol=0)
    drawn = model.draw(model.encode(image), world.stochastic_code, SAMPLING).clamp(-1, 1)
    torch.testing.assert_close(answer.image, drawn, rtol=0, atol=0)


def check_only_effects_move(model: CounterfactualModule, image: Tensor, factors: Tensor) -> None:
    """On Pendulum: light moves the shadow and leaves the angle alone; a shadow moves nothing."""
    world = model.method(SAMPLING).abduct(image, factors)
    light = world.predict({"light": 0.9}).factors
    assert (light[:, 1] == 0.9).all()
    torch.testing.assert_close(light[:, 0], factors[:, 0], rtol=0, atol=0)
    assert (light[:, 2:] != factors[:, 2:]).all()
    shadow = world.predict({"shadow_length": 0.9}).factors
    torch.testing.assert_close(shadow[:, [0, 1, 3]], factors[:, [0, 1, 3]], rtol=0, atol=0)


def check_round_trip(model: CounterfactualModule, image: Tensor, folder: Path) -> None:
    """A checkpoint answers as the model that wrote it."""
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, folder / "last.ckpt")
    loaded = load_method(folder / "last.ckpt")
    assert type(loaded) is type(model) and loaded.settings == model.settings
    model.eval()
    first = model.graph.names[0]
    ours, theirs = (m.method(SAMPLING).abduct(image).predict({first: 1.0}) for m in (model, loaded))
    torch.testing.assert_close(ours.image, theirs.image)
    torch.testing.assert_close(ours.factors, theirs.factors)


def check_every_parameter_learns(
    model: CounterfactualModule, image: Tensor, factors: Tensor
) -> None:
    stir(model)
    terms = model.losses(image, factors)
    assert all(torch.isfinite(value) and value.dim() == 0 for value in terms.values())
    torch.stack([value for value in terms.values() if value.requires_grad]).sum().backward()
    named = list(model.named_parameters())
    assert not [name for name, p in named if p.grad is None or not torch.isfinite(p.grad).all()]
    idle = [name for name, p in named if p.grad is not None and not p.grad.any()]
    assert not idle


def check_every_kind(model: CounterfactualModule, image: Tensor, factors: Tensor) -> None:
    """On :data:`MIXED`: categories, binary factors and numbers, read and set."""
    stir(model)
    model.eval()
    code = model.read(image)
    assert code.shape == (len(image), 6)
    assert ((code[:, :4] >= 0) & (code[:, :4] <= 1)).all()
    torch.testing.assert_close(code[:, :3].sum(dim=1), torch.ones(len(image)))
    world = model.method(SAMPLING).abduct(image)
    assert torch.isin(world.factors[:, 0], torch.tensor([0.0, 0.5, 1.0])).all()
    answer = world.predict({"shape": "cone", "lit": torch.tensor([0.0, 1.0] * (len(image) // 2))})
    assert (answer.factors[:, 0] == 1).all() and answer.image.shape == image.shape
    seen = world.reabduct(answer)
    assert seen.image is answer.image
    torch.testing.assert_close(seen.factors, world.factors, rtol=0, atol=0)
    torch.testing.assert_close(seen.noise, world.noise, rtol=0, atol=0)
    assert not torch.equal(seen.latents, world.latents)
