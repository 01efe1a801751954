"""Measures by networks that were trained on photographs: FID, sFID, KID, LPIPS.

Their weights come with optional packages. Where these are not installed the measures are left out,
with a line that says what is missing; no other network ever stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Generator, Tensor
from torchmetrics import Metric

from diffcf.fid import bias_note, real_statistics
from diffcf.metrics.frechet import GenerationQuality
from diffcf.metrics.inception import FidUnavailable, load_inception
from diffcf.metrics.lpips import LpipsUnavailable, load_lpips
from diffcf.protocol import Protocol

__all__ = ["Perceptual"]

_BATCH = 128


@dataclass(frozen=True)
class Perceptual:
    """How to make the metrics of one method; None for those that cannot or should not be had."""

    quality: Callable[[], GenerationQuality] | None = None
    lpips: Callable[[], Metric] | None = None

    @classmethod
    def of(cls, protocol: Protocol, data: Any, device: torch.device) -> Perceptual:
        """What ``protocol`` asks for, as far as this machine has it.

        Real images are a seeded choice of the training split of ``data``.
        """
        quality, lpips = None, None
        if protocol.fid_images:
            try:
                quality = _quality(protocol, data, device)
            except FidUnavailable as error:
                rank_zero_info(f"FID, sFID and KID are left out: {error}")
        if protocol.lpips:
            try:
                load_lpips()
                lpips = load_lpips
            except LpipsUnavailable as error:
                rank_zero_info(f"LPIPS is left out: {error}")
        return cls(quality, lpips)


def _quality(
    protocol: Protocol, data: Any, device: torch.device
) -> Callable[[], GenerationQuality]:
    network = load_inception().to(device)
    size = data.size_of("train")
    order = torch.randperm(size, generator=Generator().manual_seed(protocol.seed))
    rows = order[: protocol.fid_images]

    def images() -> Iterator[Tensor]:
        return (data.images_of("train", part) for part in rows.split(_BATCH))

    real = real_statistics(images, network)
    note = bias_note(protocol.fid_images, len(rows))
    if note is not None:
        rank_zero_info(note)
    return lambda: GenerationQuality(network, real).to(device)
