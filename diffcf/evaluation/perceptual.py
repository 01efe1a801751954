"""Measures in the features of networks: FID, sFID, KID, LPIPS; CLD in the evaluator's latents.

The weights of the former come with optional packages. Where these are not installed the measures
are left out, with a line that says what is missing; no other network ever stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Generator, Tensor
from torchmetrics import Metric
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

from diffcf.evaluation.evaluator.reader import EvaluatorReader
from diffcf.evaluation.metrics.cld import CLD, Latents
from diffcf.evaluation.metrics.frechet import GenerationQuality
from diffcf.evaluation.metrics.inception import load_inception
from diffcf.evaluation.metrics.real_statistics import bias_note, real_statistics
from diffcf.evaluation.protocol import Protocol
from diffcf.io import UnavailableError

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
            except UnavailableError as error:
                rank_zero_info(f"FID, sFID and KID are left out: {error}")
        if protocol.lpips:
            try:
                load_lpips()
                lpips = load_lpips
            except UnavailableError as error:
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


BACKBONE = "alexnet-owt-7be5be79.pth"


def lpips_unavailable() -> str | None:
    """What LPIPS lacks on this machine, in a sentence; None where it can be measured.

    >>> reason = lpips_unavailable()
    >>> reason is None or reason.startswith("LPIPS needs")
    True
    """
    if find_spec("torchvision") is None:
        return "LPIPS needs torchvision: run pip install torchvision."
    file = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE
    if not file.is_file():
        return f"LPIPS needs torchvision's AlexNet: put {BACKBONE} into {file.parent}."
    return None


def load_lpips() -> LearnedPerceptualImagePatchSimilarity:
    """LPIPS (AlexNet) of colour images in [-1, 1], as a metric over pairs of images.

    Raises:
        UnavailableError: when the machine lacks what it needs.
    """
    reason = lpips_unavailable()
    if reason is not None:
        raise UnavailableError(reason)
    return LearnedPerceptualImagePatchSimilarity(net_type="alex")
