"""Random keys: where exogenous noise comes from, whatever batch or process an image is in.

A key is a 64-bit number that stands for one image under one seed. Noise is a function of the key
and the column alone (a counter-based generator), so neither the order of images, nor the size of a
batch, nor the number of processes, nor anything drawn before can change it. All of it is integer
arithmetic on the tensors' own device: bit for bit the same on each, and the host never waits.

Reference: Fast splittable pseudorandom number generators (SplitMix; Steele et al., 2014),
https://doi.org/10.1145/2660193.2660195
"""

from __future__ import annotations

import torch
from torch import Tensor

# Constants of SplitMix64, as int64.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_LEVELS = 127.5  # half of the levels of a byte


def row_keys(index: Tensor, seed: int = 0) -> Tensor:
    """Keys ``[B]`` (int64) of the rows ``index`` ``[B]`` (int64) of a data set.

    ``seed`` is any whole number; those that agree in their lowest 64 bits are the same.
    """
    start = _mixed(torch.full((), _signed(seed), dtype=torch.int64, device=index.device))
    return _mixed(start + index.long() * _STEP)


def image_keys(images: Tensor, seed: int = 0) -> Tensor:
    """Keys ``[B]`` (int64) of images ``[B, C, H, W]`` in [-1, 1], by what they show.

    Pixels count as the nearest of a byte's levels, so that the same picture has the same key
    wherever it was decoded.
    """
    levels = ((images.float().flatten(1) + 1) * _LEVELS).round().long()
    place = torch.arange(1, levels.shape[1] + 1, device=images.device)
    return row_keys((levels * _mixed(place * _STEP)).sum(dim=1), seed)


def uniform_noise(keys: Tensor, columns: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Independent uniform numbers ``[B, columns]`` in [0, 1] from keys ``[B]``.

    >>> first, second = uniform_noise(row_keys(torch.tensor([7, 8])), 3)
    >>> bool((first == uniform_noise(row_keys(torch.tensor([7])), 3)).all())
    True
    >>> bool((first == second).any())
    False
    """
    place = torch.arange(1, columns + 1, device=keys.device)
    bits = _mixed(keys[:, None] + place * _STEP)
    return _shifted(bits, 11).to(dtype) * 2.0**-53


def normal_noise(keys: Tensor, columns: int) -> Tensor:
    """Independent standard normal numbers ``[B, columns]`` (float64) from keys ``[B]``."""
    # Another key than that of the exogenous noise, which counts columns from 1 as well.
    uniform = uniform_noise(~keys, columns).clamp(1e-12, 1 - 1e-12)
    normal: Tensor = torch.special.ndtri(uniform)
    return normal


def _mixed(bits: Tensor) -> Tensor:
    """SplitMix64's finaliser: every bit of the result depends on every bit given."""
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        bits = (bits ^ _shifted(bits, shift)) * factor  # wraps around
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """int64 shifted right, with zeros from the left."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _signed(number: int) -> int:
    """The lowest 64 bits of a whole number, as int64 has them."""
    return (number + 2**63) % 2**64 - 2**63
