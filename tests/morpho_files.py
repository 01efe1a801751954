"""Files as Morpho-MNIST has them, of straight strokes whose direction is the digit."""

from __future__ import annotations

import gzip
import struct
from math import pi
from pathlib import Path

import torch
from torch import Tensor

from data_modules.scenes.morphomnist import published_intensity


def draw_strokes(thickness: Tensor, intensity: Tensor, digit: Tensor, side: int = 28) -> Tensor:
    """Images uint8 ``[N, side, side]`` of thickness (pixels), intensity (grey levels) and digit."""
    axis = torch.arange(side) - (side - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    # Aslant: along the pixels half of a stroke can be edge, and darker than its intensity.
    angle = (digit * pi / 10 + 0.2)[:, None, None]
    along = (x * angle.cos() + y * angle.sin()).abs()
    across = y * angle.cos() - x * angle.sin()
    distance = torch.hypot((along - 7).clamp(min=0), across)
    cover = (thickness[:, None, None] / 2 + 0.5 - distance).clamp(0, 1)
    return (intensity[:, None, None] * cover).round().byte()


def sample_factors(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Native thickness, intensity and digit ``[N]`` by the published mechanism."""
    generator = torch.Generator().manual_seed(seed)
    # Three pixels and more: most of a thinner stroke is edge.
    thickness = 3 + 2.3 * torch.rand(count, generator=generator)
    noise = torch.randn(count, generator=generator)
    return thickness, published_intensity(thickness, noise), torch.arange(count) % 10


def write_idx(file: Path, values: Tensor) -> None:
    """``values``, uint8, as an IDX file, packed where the name ends in ``.gz``."""
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    content = head + values.numpy().tobytes()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


def write_morphomnist(
    root: Path, count: int, prefix: str = "t10k", packed: bool = True, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The three files of a part in ``root``.

    Returns images uint8 ``[N, 28, 28]`` and native factors ``[N, 3]``: thickness, intensity, digit.
    """
    root.mkdir(exist_ok=True)
    thickness, intensity, digit = sample_factors(count, seed)
    images, ending = draw_strokes(thickness, intensity, digit), ".gz" if packed else ""
    write_idx(root / f"{prefix}-images-idx3-ubyte{ending}", images)
    write_idx(root / f"{prefix}-labels-idx1-ubyte{ending}", digit.byte())
    values = zip(thickness.tolist(), intensity.tolist(), strict=True)
    rows = [f"{place},{t},{i}" for place, (t, i) in enumerate(values)]
    table = "\n".join(["index,thickness,intensity", *rows])
    (root / f"{prefix}-morpho.csv").write_text(table + "\n")
    return images, torch.stack([thickness, intensity, digit], dim=1)
