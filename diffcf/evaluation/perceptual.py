"""Measures in the features of networks: FID, sFID, KID, LPIPS; CLD in the evaluator's latents.

The weights of the former come with optional packages. Where these are not installed the measures
are left out, with a line that says what is missing; no other network ever stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Generator, Tensor
from torchmetrics import Metric

from diffcf.evaluator import EvaluatorReader
from diffcf.fid import bias_note, real_statistics
from diffcf.metrics.cld import CLD, Latents
from diffcf.metrics.frechet import GenerationQuality
from diffcf.metrics.inception import FidUnavailable, load_inception
from diffcf.metrics.lpips import LpipsUnavailable, load_lpips
from diffcf.protocol import Protocol

__all__ = ["Perceptual"]

BATCH = 128
# Observed images that CLD compares with, and classes of a continuous factor: hundreds per class.
OBSERVED, CLASSES = 1000, 5


@dataclass(frozen=True)
class Perceptual:
    """How to make the metrics of one method; None for those that cannot or should not be had.

    ``encode`` gives the latents that CLD compares.
    """

    quality: Callable[[], GenerationQuality] | None = None
    lpips: Callable[[], Metric] | None = None
    cld: Callable[[], CLD] | None = None
    encode: Callable[[Tensor], Latents] | None = None

    @classmethod
    def of(
        cls,
        protocol: Protocol,
        data: Any,
        device: torch.device,
        evaluator: EvaluatorReader | None = None,
    ) -> Perceptual:
        """What ``protocol`` asks for, as far as this machine has it; CLD where latents are known.

        Real images are a seeded choice of the training split of ``data``.
        """
        quality, lpips, cld, encode = None, None, None, None
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
        if evaluator is not None and evaluator.encodes:
            cld, encode = _cld(protocol, data, evaluator), evaluator.latents
        return cls(quality, lpips, cld, encode)


def _quality(
    protocol: Protocol, data: Any, device: torch.device
) -> Callable[[], GenerationQuality]:
    network = load_inception().to(device)
    rows = _chosen(protocol, data, protocol.fid_images)
    real = real_statistics(lambda: _images(data, rows), network)
    note = bias_note(protocol.fid_images, len(rows))
    if note is not None:
        rank_zero_info(note)
    return lambda: GenerationQuality(network, real).to(device)


def _cld(protocol: Protocol, data: Any, evaluator: EvaluatorReader) -> Callable[[], CLD]:
    rows = _chosen(protocol, data, OBSERVED)
    means, log_variances = zip(*map(evaluator.latents, _images(data, rows)), strict=True)
    latents = (torch.cat(means), torch.cat(log_variances))
    factors = data.factors_of("train")[rows]
    return lambda: CLD(evaluator.graph, latents, factors, CLASSES)


def _chosen(protocol: Protocol, data: Any, count: int) -> Tensor:
    order = torch.randperm(data.size_of("train"), generator=Generator().manual_seed(protocol.seed))
    return order[:count]


def _images(data: Any, rows: Tensor) -> Iterator[Tensor]:
    return (data.images_of("train", part) for part in rows.split(BATCH))
