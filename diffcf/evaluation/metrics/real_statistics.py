"""What FID needs of real images, kept on disk: it is the same for every method, seed and epoch.
 The cache file's name is a hash of the images' bytes and of how they
were measured, so a cache fits or has another name. Its folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save
from torch import Generator, Tensor
from tqdm import tqdm

from diffcf.evaluation.metrics.frechet import GaussianStatistics, RealStatistics
from diffcf.evaluation.metrics.inception import FeatureNetwork, to_bytes
from diffcf.io import OutputError

CACHE = Path(".diffcf_cache/fid")
VERSION = 1  # of the measuring and the file: a new one makes every old cache unused
SAMPLE = 10_000  # images whose features are kept for KID

Batches = Callable[[], Iterable[Tensor]]
"""Called, it gives the set's batches ``[B, C, H, W]`` in [-1, 1], from the first."""


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
    """What FID, sFID and KID need of real images, read from disk or measured (with a bar) and kept.

    In a distributed run every process calls it with the whole set: the first one measures, the
    others wait and read.

    Args:
        images: called twice at most: to hash the images and to measure them.
        network: turns them into features, on its own device.
        folder: where the statistics are kept.

    Raises:
        UnavailableError: when the folder cannot be written to.
        ValueError: when there is no image, or one is not as :func:`to_bytes` wants it.
    """
    name, count = _fingerprint(images, network.signature)
    file = folder / f"{name}.safetensors"
    with _first_process_first():
        found = _load(file)
        if found is not None:
            return found
        measured = _measure(images, count, network)
        try:
            _save(measured, file)
        except OSError as error:
            problem = f"cannot be written to {folder} ({error.strerror or error})"
            raise OutputError(
                f"Statistics of real images {problem}: name another folder."
            ) from None
        return measured


def _fingerprint(images: Batches, signature: str) -> tuple[str, int]:
    """A hash of the images' bytes and of how they are measured, and how many they are."""
    digest, count = hashlib.sha256(repr((VERSION, SAMPLE, signature)).encode()), 0
    for batch in images():
        for pixels in to_bytes(batch).cpu():  # one by one: batches are no part of the set
            digest.update(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes())
        count += len(batch)
    if not count:
        raise ValueError("FID needs real images, but the set is empty.")
    return digest.hexdigest()[:20], count


def _measure(images: Batches, count: int, network: FeatureNetwork) -> RealStatistics:
    chosen = torch.randperm(count, generator=Generator().manual_seed(0)) < SAMPLE
    totals: list[GaussianStatistics] = []
    sample, start = [], 0
    with tqdm(total=count, desc="FID, real images", unit=" images") as bar:
        for batch in images():
            pool, spatial = (features.cpu() for features in network.features(batch))
            if totals:
                totals[0].add(pool)
                totals[1].add(spatial)
            else:
                totals = [GaussianStatistics.of(pool), GaussianStatistics.of(spatial)]
            sample.append(pool[chosen[start : start + len(batch)]].float())
            start += len(batch)
            bar.update(len(batch))
    return RealStatistics(totals[0], totals[1], torch.cat(sample))


@contextmanager
def _first_process_first() -> Iterator[None]:
    """The first process goes through alone, then all the others."""
    together = dist.is_available() and dist.is_initialized()
    if together and dist.get_rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if together and dist.get_rank() == 0:
            dist.barrier()


def _save(statistics: RealStatistics, file: Path) -> None:
    """Whole or not at all."""
    tensors = {"sample": statistics.sample}
    for name, part in (("pool", statistics.pool), ("spatial", statistics.spatial)):
        tensors |= {f"{name}_total": part.total, f"{name}_outer": part.outer}
    content = {"count": str(statistics.pool.count), "sha256": _digest(tensors)}
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.stem}-{uuid4().hex}.tmp")
    try:
        temporary.write_bytes(save(tensors, content))
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _load(file: Path) -> RealStatistics | None:
    """None where there is no such file, or (said in a line) a damaged one."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            content = stored.metadata()
        if _digest(tensors) != content["sha256"]:
            raise ValueError("its bytes have changed")
        count = int(content["count"])
        pool, spatial = (
            GaussianStatistics(count, tensors[f"{name}_total"], tensors[f"{name}_outer"])
            for name in ("pool", "spatial")
        )
        return RealStatistics(pool, spatial, tensors["sample"])
    except Exception as error:  # safetensors' own errors, lacking names, and our check
        print(f"The statistics in {file} are damaged ({error}): they are measured anew.")
        return None


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
