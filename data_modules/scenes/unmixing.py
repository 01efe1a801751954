"""What rulers share: which colour each pixel has, and where a colour is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

THRESHOLD = 0.25
CHUNK_PIXELS = 2**22  # read at once, to bound the memory; 1,024 images at 64 pixels
Rgb = tuple[float, float, float]
Colours = Mapping[str, Rgb]


def checked_square(images: Tensor) -> Tensor:
    """``images`` themselves; ValueError unless they are ``[B, 3, S, S]``."""
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(f"Cannot read images {tuple(images.shape)}: they must be [B, 3, S, S].")
    return images


def displayed(images: Tensor) -> Tensor:
    """Images as a screen shows them: float32 within [-1, 1], NaN white."""
    return images.float().nan_to_num(nan=1.0, posinf=1.0, neginf=-1.0).clamp(-1, 1)


def unmix(images: Tensor, colours: Colours) -> dict[str, Tensor]:
    """Weights ``[B, H, W]`` of each of four colours in ``[B, 3, H, W]`` images; they sum to 1.

    Pixels beyond [-1, 1] count as they would be displayed, NaN as white.
    """
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
    toward = torch.tensor(colour, device=images.device) - base
    direction = toward / toward.square().sum()
    return torch.einsum("bchw,c->bhw", (images.float() + 1) / 2, direction) - base @ direction


def read_in_chunks(
    read_chunk: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor
) -> tuple[Tensor, Tensor]:
    """Read ``[B, 3, S, S]`` images some at a time: values and whether found, ``[B, K]`` each.

    Raises:
        ValueError: when the images are not square RGB.
    """
    chunks = checked_square(images).split(CHUNK_PIXELS // images.shape[-1] ** 2)
    parts = [read_chunk(chunk) for chunk in chunks]
    values, found = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(found)


def centroid(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centroid x, y (pixels, y up) of the strong parts of ``[B, H, W]``, and whether any exist."""
    height, width = weight.shape[1:]
    strong = weight > THRESHOLD
    kept = weight.clamp(min=0) * dilate(dilate(strong).mT).mT
    total = kept.sum((1, 2)).clamp(min=1e-6)
    x = (kept.sum(1) * (torch.arange(width, device=weight.device) + 0.5)).sum(1) / total
    y = (kept.sum(2) * (height - torch.arange(height, device=weight.device) - 0.5)).sum(1) / total
    return x, y, strong.any(2).any(1)


def dilate(mask: Tensor) -> Tensor:
    """Grow a bool ``[..., N]`` mask by one element on either side of its last dimension."""
    grown = mask.clone()
    grown[..., 1:] |= mask[..., :-1]
    grown[..., :-1] |= mask[..., 1:]
    return grown
