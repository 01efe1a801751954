"""What the analytic read-outs, or *rulers*, share: how much of a colour is where in an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d, max_pool2d, pad

from data_modules.scenes.drawing import Rgb

F = TypeVar("F", bound=Callable[..., object])

THRESHOLD = 0.25  # weight of a colour from which a pixel certainly has it
CHUNK_PIXELS = 2**22  # read at once, to bound the memory; 1,024 images at 64 pixels


def cached(function: F) -> F:
    """Decorate what computes constant tensors: once for each set of arguments, and outside
    inference mode, so that autograd can use them wherever the first call happened."""
    constant = torch.inference_mode(False)(torch.no_grad()(function))
    return cast(F, lru_cache(maxsize=32)(constant))


def displayed(images: Tensor) -> Tensor:
    """Images as a screen shows them: float32 within [-1, 1], NaN white."""
    return images.float().nan_to_num(nan=1.0, posinf=1.0, neginf=-1.0).clamp(-1, 1)


def read_in_chunks(
    read_some: Callable[[Tensor], Tensor], images: Tensor, chunk: int | None = None
) -> Tensor:
    """Read ``[B, 3, S, S]`` images ``chunk`` at a time: ``[B, K]``. ValueError for other shapes."""
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(f"Cannot read images {tuple(images.shape)}: they must be [B, 3, S, S].")
    chunk = chunk or CHUNK_PIXELS // images.shape[-1] ** 2
    return torch.cat([read_some(part) for part in images.split(chunk)])


def unmix(images: Tensor, colours: Mapping[str, Rgb]) -> dict[str, Tensor]:
    """Weights ``[B, H, W]`` of each of four colours in ``[B, 3, H, W]`` images, as they would be
    displayed; the weights sum to 1."""
    channels = pad((displayed(images) + 1) / 2, (0, 0, 0, 0, 0, 1), value=1.0)
    equations = torch.tensor([(*rgb, 1.0) for rgb in colours.values()], dtype=torch.float64).T
    inverse = torch.linalg.inv(equations).to(channels)
    weights = torch.einsum("kc,bchw->kbhw", inverse, channels)
    return dict(zip(colours, weights, strict=True))


def share(images: Tensor, colour: Rgb, ground: Rgb) -> Tensor:
    """How much of ``colour`` is mixed into ``ground``, ``[B, H, W]``, in ``[B, 3, H, W]`` images.

    Where only these two colours can be, this is far less noisy than un-mixing all four.
    """
    base = torch.tensor(ground, device=images.device)
    towards = torch.tensor(colour, device=images.device) - base
    direction = towards / towards.square().sum()
    return torch.einsum("bchw,c->bhw", (images.float() + 1) / 2, direction) - base @ direction


def strong_parts(weight: Tensor) -> Tensor:
    """Weights ``[B, N]`` or ``[B, H, W]``, zero except above THRESHOLD and beside such a pixel."""
    pool = max_pool1d if weight.ndim == 2 else max_pool2d
    near = pool((weight > THRESHOLD).to(weight)[:, None], 3, stride=1, padding=1)[:, 0]
    return weight.clamp(min=0) * near


def centroid(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centroid x, y (pixels, y up) of the strong parts of ``[B, H, W]``, and whether any exist."""
    height, width = weight.shape[1:]
    kept = strong_parts(weight)
    total = kept.sum((1, 2)).clamp(min=1e-6)
    x = (kept.sum(1) * (torch.arange(width, device=weight.device) + 0.5)).sum(1) / total
    y = (kept.sum(2) * (height - torch.arange(height, device=weight.device) - 0.5)).sum(1) / total
    return x, y, kept.flatten(1).any(1)


def interpolated(measures: Tensor, values: Tensor, measured: Tensor) -> Tensor:
    """Values ``[B]`` at ``measured`` ``[B]``, by linear interpolation in a table of ascending
    ``measures`` ``[N]`` and their ``values`` ``[N]``, whose first and last pieces go on outside."""
    measures, values = measures.to(measured.device), values.to(measured.device)
    upper = torch.searchsorted(measures, measured.contiguous()).clamp(1, len(measures) - 1)
    lower = upper - 1
    slope = (values[upper] - values[lower]) / (measures[upper] - measures[lower])
    return values[lower] + slope * (measured - measures[lower])
