"""Images and differences as PNG."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["RAMP", "data_url", "difference", "png", "thumbnail"]

RAMP = ((255, 255, 255), (250, 204, 140), (226, 92, 66), (128, 24, 84), (38, 10, 60))
"""Colours of a difference, from none to the whole scale and beyond."""
GHOST = 0.16
"""How much of the factual shows through where nothing differs, so that the eye finds its place."""


def png(image: Tensor) -> bytes:
    """An image ``[C, H, W]`` in [-1, 1], grey or colour, pixel by pixel."""
    pixels = ((image.detach() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    array = pixels.permute(1, 2, 0).cpu().numpy()
    return _encoded(Image.fromarray(array[..., 0] if array.shape[2] == 1 else array))


def thumbnail(image: Tensor, side: int = 64) -> bytes:
    """As :func:`png`, no larger than ``side``."""
    picture = Image.open(BytesIO(png(image)))
    picture.thumbnail((side, side))
    return _encoded(picture)


def difference(one: Tensor, other: Tensor, scale: float) -> bytes:
    """How much two images ``[C, H, W]`` in [-1, 1] differ, the most of any channel, in colour.

    Args:
        one: which also shows through, faintly.
        other: of the same shape.
        scale: the share of the whole range of a pixel that gets the last colour.
    """
    size = ((one - other).abs().amax(0) / 2 / scale).clamp(0, 1).cpu().numpy()
    stops = np.linspace(0, 1, len(RAMP))
    colour = np.stack([np.interp(size, stops, channel) for channel in np.transpose(RAMP)], -1)
    grey = ((one.mean(0) + 1) / 2).clamp(0, 1).cpu().numpy()[..., None]
    shade = 1 - GHOST * (1 - grey) * (1 - size[..., None])
    return _encoded(Image.fromarray((colour * shade).round().astype(np.uint8)))


def data_url(content: bytes) -> str:
    """A PNG as the source of an image element."""
    return f"data:image/png;base64,{b64encode(content).decode()}"


def _encoded(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
