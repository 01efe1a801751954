"""What of a method can stand in ONNX files: its networks, with inputs and outputs by name.

Everything that answers without gradients and without the causal model: the projector's reading, one
deterministic step of the generator, the style of an image, and a first stage both ways. Guidance
differentiates the projector, and the causal model draws and searches, so both stay in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from diffcf.diffusion import (
    Generator,
    Projector,
    add_noise,
    prediction_from_velocity,
    style_of,
    with_style,
)
from diffcf.io import SettingsError
from diffcf.methods.base import CounterfactualModule
from diffcf.methods.encoded import unwrapped
from diffcf.methods.engine import CounterfactualEngine
from diffcf.networks.first_stage import LatentSpace

Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]
"""Makes a random input of a shape, to compare two runtimes on."""
Shape = tuple[int, int, int]
"""``(C, H, W)``."""
TIME = "in [0, 1], 0 for a clean image and 1 for noise"
CODE = "of the factors' code, the columns under 'factors'"


@dataclass(frozen=True)
class Port:
    """An input or an output.

    Attributes:
        name: in the file.
        sides: its shape is ``[B, *sides]``.
        meaning: and units.
        draw: makes a random one; None for outputs.
        kind: of its numbers.
    """

    name: str
    sides: tuple[int, ...]
    meaning: str
    draw: Draw | None = None
    kind: Literal["float32", "bool"] = "float32"


@dataclass(frozen=True)
class Part:
    """A network that becomes a file: called by the names of its inputs, it gives its outputs."""

    file: str
    what: str
    network: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def example(self, batch: int, seed: int = 0) -> dict[str, Tensor]:
        """Random inputs by name, of a batch size; the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        return {p.name: p.draw((batch, *p.sides), generator) for p in self.inputs if p.draw}


def parts_of(model: CounterfactualModule, image: Shape) -> tuple[list[Part], dict[str, str]]:
    """The parts of a method for images ``image``, and why each of the usual others is missing.

    Raises:
        SettingsError: for a method without a diffusion generator of its own factors, and for
            images that are not the networks'.
    """
    (engine, space), name = unwrapped(model.method()), type(model).__name__
    if not isinstance(engine, CounterfactualEngine):
        raise SettingsError(
            f"{name} has no diffusion generator that is conditioned on factors, so nothing of it "
            "is exported: take weights of DiffusionCounterfactuals, DiffSCM or "
            "ConditionalDiffusion, or ask it in Python."
        )
    seen = image if space is None else _latent_shape(space, image)
    parts, missing = [], {}
    if engine.projector is None:
        missing["projector.onnx"] = f"{name} has no projector: factors are given to it"
    else:
        parts.append(_projector(engine.projector, seen, sum(model.graph.widths)))
    factors = len(model.graph) if _conditional(engine) else 0
    style = style_of(engine.generator, torch.zeros(1, *seen))
    width = 0 if style is None else style.shape[1]
    parts.append(_step(engine.generator, seen, factors, width))
    if width:
        parts.append(_style(engine.generator, seen, width))
    if space is not None:
        parts += _first_stage(space, image, seen)
    return parts, missing


def _conditional(engine: CounterfactualEngine) -> bool:
    """Whether the generator is told factors: a peer never does, a U-Net may be made without."""
    return engine.sampling.conditional and bool(getattr(engine.generator, "conditional", True))


def _latent_shape(space: LatentSpace, image: Shape) -> Shape:
    space.check(torch.zeros(1, *image))
    return space.shape_of(image)


# --- the networks ---


class _Reading(nn.Module):
    def __init__(self, projector: Projector) -> None:
        super().__init__()
        self.projector = projector

    def forward(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.projector(x_t, t)
        return posterior.mean, posterior.variance


class _Step(nn.Module):
    """DDIM's step: the predicted noise is kept, and the image made as noisy as ``t_next`` says."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        t_next: Tensor,
        condition: Tensor | None = None,
        condition_mask: Tensor | None = None,
        style: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        v = with_style(self.generator, style)(x_t, t, condition, condition_mask)
        denoised, eps = prediction_from_velocity(v, x_t, t)
        return add_noise(denoised, eps, t_next), denoised


class _Style(nn.Module):
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor | None:
        return style_of(self.generator, x)


class _Encoder(nn.Module):
    def __init__(self, space: LatentSpace) -> None:
        super().__init__()
        self.space = space

    def forward(self, image: Tensor) -> Tensor:
        return self.space.encode(image)


class _Decoder(nn.Module):
    def __init__(self, space: LatentSpace) -> None:
        super().__init__()
        self.space = space

    def forward(self, latent: Tensor) -> Tensor:
        return self.space.decode(latent)


# --- the parts ---


def _projector(projector: Projector, seen: Shape, code: int) -> Part:
    outputs = (
        Port("mean", (code,), f"mean {CODE}: [0, 1] units, or the probability of a category"),
        Port("variance", (code,), f"variance {CODE}, in squared [0, 1] units"),
    )
    inputs = _noisy(seen), Port("t", (), f"time of x_t, {TIME}", _uniform)
    return Part(
        "projector.onnx", "factors read off noisy images", _Reading(projector), inputs, outputs
    )


def _step(generator: Generator, seen: Shape, factors: int, style: int) -> Part:
    inputs = [
        _noisy(seen),
        Port("t", (), f"time of x_t, {TIME}", _uniform),
        Port("t_next", (), "time to step to, before t to sample and after it to invert", _uniform),
    ]
    if factors:
        told = "the factors to draw, in [0, 1] units"
        mask = "which of them are told; true for all, unless a factor is to be left open"
        inputs.append(Port("condition", (factors,), told, _uniform))
        inputs.append(Port("condition_mask", (factors,), mask, _coin, "bool"))
    if style:
        inputs.append(Port("style", (style,), "style.onnx of the factual image", _uniform))
    outputs = Port("x_t_next", seen, "x at t_next"), Port("denoised", seen, "clean x, predicted")
    what = "one deterministic DDIM step of the generator"
    return Part("step.onnx", what, _Step(generator), tuple(inputs), outputs)


def _style(generator: Generator, seen: Shape, width: int) -> Part:
    inputs = (Port("x", seen, "clean images, as step.onnx draws them", _normal),)
    outputs = (Port("style", (width,), "how they are drawn, an input of step.onnx"),)
    return Part("style.onnx", "the style of images", _Style(generator), inputs, outputs)


def _first_stage(space: LatentSpace, image: Shape, latent: Shape) -> list[Part]:
    pixels, latents = "images, pixels in [-1, 1]", "latents, of mean 0 and deviation 1"
    return [
        Part(
            "encoder.onnx",
            "images to the latents that the other files work on",
            _Encoder(space),
            (Port("image", image, pixels, _normal),),
            (Port("latent", latent, latents),),
        ),
        Part(
            "decoder.onnx",
            "latents to images",
            _Decoder(space),
            (Port("latent", latent, latents, _normal),),
            (Port("image", image, pixels),),
        ),
    ]


def _noisy(seen: Shape) -> Port:
    return Port("x_t", seen, "noisy images; clean ones have pixels in [-1, 1]", _normal)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator)


def _coin(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) < 0.5
