"""Measures in the features of networks: which can be had, and what they need of real images.

FID, sFID and KID need Inception, LPIPS needs AlexNet. Where these are not installed the measures
are left out, with a line that says what is missing. CLD needs the latents of an evaluator.

Statistics of real images (:func:`real_statistics`) are kept on disk, under a hash of the images'
bytes and of how they were measured. Their folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_info
from torch import Generator, Tensor
from torchmetrics import Metric
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from tqdm import tqdm

from diffcf.evaluation.evaluator.reader import EvaluatorReader
from diffcf.evaluation.metrics.cld import CLD, Latents
from diffcf.evaluation.metrics.frechet import (
    GaussianStatistics,
    GenerationQuality,
    RealStatistics,
    distances,
)
from diffcf.evaluation.metrics.inception import FeatureNetwork, load_inception, to_pixels
from diffcf.evaluation.protocol import EvaluationData, EvaluationProtocol
from diffcf.io import (
    CheckpointError,
    DataError,
    SettingsError,
    UnavailableError,
    read_tensors,
    write_tensors,
)

BATCH = 128
# Observed images that CLD compares with, and classes of a continuous factor: hundreds per class.
OBSERVED, CLASSES = 1000, 5
BACKBONE = "alexnet-owt-7be5be79.pth"  # of LPIPS, as torchvision names it
CACHE = Path(".diffcf_cache/fid")
VERSION = 2  # of the measuring and the file: a new one makes every old cache unused
SAMPLE = 10_000  # real images whose features are kept for KID

Batches = Callable[[], Iterable[Tensor]]
"""Called, it gives the set's batches ``[B, C, H, W]`` in [-1, 1], from the first."""


@dataclass(frozen=True)
class Perceptual:
    """How to make the metrics of one method; None for those that cannot or should not be had."""

    quality: Callable[[], GenerationQuality] | None = None
    # FID, sFID and KID of test images as they are, by their rows, and of training images.
    unchanged: Callable[[Tensor], dict[str, float]] | None = None
    floor: Callable[[], dict[str, float]] | None = None
    lpips: Callable[[], Metric] | None = None
    cld: Callable[[], CLD] | None = None
    encode: Callable[[Tensor], Latents] | None = None  # images to the latents that CLD compares

    @classmethod
    def of(
        cls,
        protocol: EvaluationProtocol,
        data: EvaluationData,
        device: torch.device,
        evaluator: EvaluatorReader | None = None,
    ) -> Perceptual:
        """What ``protocol`` asks for, as far as it is at hand; CLD where ``evaluator`` encodes.

        Raises:
            SettingsError: for a set of fewer than two images, real or drawn, where FID is asked.
        """
        quality, unchanged, floor, lpips, cld, encode = (None,) * 6
        if protocol.fid_images:
            try:
                quality, unchanged, floor = _quality(protocol, data, device)
            except UnavailableError as error:
                rank_zero_info(f"FID, sFID and KID are left out: {error}")
        if protocol.lpips:
            if reason := lpips_unavailable():
                rank_zero_info(f"LPIPS is left out: {reason}")
            else:
                lpips = load_lpips
        if evaluator is not None and evaluator.encodes:
            cld, encode = _cld(protocol, data, evaluator), evaluator.latents
        return cls(quality, unchanged, floor, lpips, cld, encode)


def _quality(
    protocol: EvaluationProtocol, data: EvaluationData, device: torch.device
) -> tuple[
    Callable[[], GenerationQuality],
    Callable[[Tensor], dict[str, float]],
    Callable[[], dict[str, float]] | None,
]:
    """How to make the metric, what images as they are score, and, where the real images are
    held-out ones, the floor."""
    held_out = protocol.fid_real == "held_out"
    of_train = _train_rows(protocol, data, protocol.fid_images)
    rows, split = (_held_out_rows(protocol, data), "test") if held_out else (of_train, "train")
    if min(len(rows), data.size_of("test"), protocol.images or len(rows)) < 2:
        raise SettingsError(
            "FID compares sets of two images or more: set fid_images of the protocol to 0, or "
            "measure more images."
        )
    network = load_inception().to(device)
    real = real_statistics(lambda: _images(data, split, rows), network)

    def unchanged(rows: Tensor) -> dict[str, float]:
        others = real_statistics(lambda: _images(data, "test", rows), network)
        return distances(real, others) | {"fid_images": len(rows)}

    def floor() -> dict[str, float]:
        others = real_statistics(lambda: _images(data, "train", of_train), network)
        return {f"{name}_floor": value for name, value in distances(real, others).items()}

    def quality() -> GenerationQuality:
        return GenerationQuality(network, real).to(device)

    return quality, unchanged, floor if held_out else None


def _cld(
    protocol: EvaluationProtocol, data: EvaluationData, evaluator: EvaluatorReader
) -> Callable[[], CLD]:
    rows = _train_rows(protocol, data, data.size_of("train"))
    whole = ~data.factors_of("train")[rows].isnan().any(dim=1)
    rows = rows[whole][:OBSERVED]
    means, log_variances = zip(*map(evaluator.latents, _images(data, "train", rows)), strict=True)
    latents = (torch.cat(means), torch.cat(log_variances))
    factors = data.factors_of("train")[rows]
    return lambda: CLD(evaluator.graph, latents, factors, CLASSES)


def _train_rows(protocol: EvaluationProtocol, data: EvaluationData, count: int) -> Tensor:
    """A seeded choice of the training split."""
    order = torch.randperm(data.size_of("train"), generator=Generator().manual_seed(protocol.seed))
    return order[:count]


def _held_out_rows(protocol: EvaluationProtocol, data: EvaluationData) -> Tensor:
    """The first images of the test split behind those that are measured."""
    size = data.size_of("test")
    rows = torch.arange(min(protocol.images or size, size), size)[: protocol.fid_images]
    if len(rows) < 2:
        raise SettingsError(
            f"All {size} images of the test split are measured, and none is left to compare with: "
            "set images of the protocol lower, or fid_real to train."
        )
    return rows


def _images(data: EvaluationData, split: str, rows: Tensor) -> Iterator[Tensor]:
    return (data.images_of(split, part) for part in rows.split(BATCH))


def lpips_unavailable() -> str | None:
    """What LPIPS lacks on this machine, in a sentence; None where it can be measured."""
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
    if reason := lpips_unavailable():
        raise UnavailableError(reason)
    return LearnedPerceptualImagePatchSimilarity(net_type="alex")


def bias_note(generated: int, real: int, size: int = 2048) -> str | None:
    """A sentence for readers of an FID from few images; None where both sets suffice."""
    if min(generated, real) > size:
        return None
    return (
        f"FID of {generated:,} generated against {real:,} real images is biased: a covariance in "
        f"{size:,} dimensions is rank-deficient below {size + 1:,} images. Compare it only between "
        "equal numbers of images, and prefer KID."
    )


def real_statistics(
    images: Batches, network: FeatureNetwork, folder: Path = CACHE
) -> RealStatistics:
    """What FID, sFID and KID need of real images, read from ``folder`` or measured and kept there.

    ``images`` is called to hash the images, and perhaps to measure them. In a distributed run every
    process calls this with the whole set: the first one measures, the others wait and read.

    Raises:
        OutputError: when the folder cannot be written to.
        ValueError: when there is no image, or one is not as :func:`to_pixels` wants it.
    """
    name, count = _fingerprint(images, network.signature)
    file = folder / f"{name}.safetensors"
    with _first_process_first():
        found = _load(file)
        if found is None:
            found = _measure(images, count, network)
            _save(found, file)
        return found


def _fingerprint(images: Batches, signature: str) -> tuple[str, int]:
    """A hash of the images' bytes and of how they are measured, and how many they are."""
    digest, count = hashlib.sha256(repr((VERSION, SAMPLE, signature)).encode()), 0
    for batch in images():
        for pixels in to_pixels(batch).cpu():  # one by one: batches are no part of the set
            digest.update(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes())
        count += len(batch)
    if not count:
        raise DataError("FID needs real images, but the set is empty.")
    return digest.hexdigest()[:20], count


def _measure(images: Batches, count: int, network: FeatureNetwork) -> RealStatistics:
    chosen = torch.randperm(count, generator=Generator().manual_seed(0)) < SAMPLE
    totals: list[GaussianStatistics] = []
    sample, start = [], 0
    with tqdm(total=count, desc="FID, real images", unit=" images") as bar:
        for batch in images():
            features = [part.cpu() for part in network.features(batch)]
            totals = totals or [GaussianStatistics.of(part[:0]) for part in features]
            for total, part in zip(totals, features, strict=True):
                total.add(part)
            sample.append(features[0][chosen[start : start + len(batch)]].float())
            start += len(batch)
            bar.update(len(batch))
    return RealStatistics(totals[0], totals[1], torch.cat(sample))


@contextmanager
def _first_process_first() -> Iterator[None]:
    """The first process goes through alone, then all the others."""
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else None
    if rank:
        dist.barrier()
    try:
        yield
    finally:
        if rank == 0:
            dist.barrier()


def _save(statistics: RealStatistics, file: Path) -> None:
    tensors = {"sample": statistics.sample}
    for name, part in (("pool", statistics.pool), ("spatial", statistics.spatial)):
        tensors |= {f"{name}_total": part.total, f"{name}_outer": part.outer}
    about = {"count": statistics.pool.count, "sha256": _digest(tensors)}
    write_tensors(tensors, about, file, shared=True)


def _load(file: Path) -> RealStatistics | None:
    """None where there is no such file, or a damaged one, which a line reports."""
    if not file.is_file():
        return None
    try:
        tensors, about = read_tensors(file, "statistics")
        if _digest(tensors) != about["sha256"]:
            raise ValueError("its bytes have changed")
        pool, spatial = (
            GaussianStatistics(about["count"], tensors[f"{name}_total"], tensors[f"{name}_outer"])
            for name in ("pool", "spatial")
        )
        return RealStatistics(pool, spatial, tensors["sample"])
    except (CheckpointError, KeyError, ValueError) as error:
        print(f"The statistics in {file} are damaged ({error}): they are measured anew.")
        return None


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
