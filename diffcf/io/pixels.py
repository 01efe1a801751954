"""Images as floats in [-1, 1] and as bytes: every conversion between the two is made here."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_bytes(images: Tensor) -> Tensor:
    """Floats in [-1, 1] of any shape as the nearest uint8 in 0…255; what lies beyond is clipped."""
    scaled = images.detach().float().add(1).mul_(127.5)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)


def from_bytes(pixels: Tensor | np.ndarray) -> Tensor:
    """uint8 in 0…255 of any shape as float32 in [-1, 1]."""
    values = pixels if isinstance(pixels, Tensor) else torch.from_numpy(pixels.copy())
    return values.to(torch.float32, copy=True).div_(127.5).sub_(1)


def to_picture(image: Tensor) -> Image.Image:
    """An image ``[C, H, W]`` in [-1, 1] as an 8-bit picture: grey for one channel, else RGB."""
    array = to_bytes(image).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
