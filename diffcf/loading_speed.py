"""How fast images come from the cache, and what memory that takes.

    diffcf loading-speed --images '[20000,100000]' --out loading.json

For each number of images a process of its own writes a cache of random pixels, then goes once
through the training loader and once through the evaluation loader. Memory growth is what the
process holds in addition after both: all of it (VmRSS) and what is not part of a file (RssAnon),
Linux only.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser
from torch import Generator, Tensor

from data_modules.image_cache import CachedImages
from data_modules.loading import FactorImages, evaluation_loader, training_loader
from diffcf.report import device_name, versions, write_json

__all__ = ["loading_speed", "measure"]

CHUNK = 1000
FACTORS = 4


def resident() -> dict[str, float]:
    """Memory of this process in MiB, by the names of ``/proc/self/status``."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = (line.split() for line in lines if line.startswith(("VmRSS", "RssAnon")))
    return {name.rstrip(":"): int(kib) / 1024 for name, kib, _ in fields}


def write_cache(file: Path, shape: tuple[int, int, int, int]) -> None:
    """A cache of random pixels; ``shape`` is ``(N, C, S, S)``."""
    generator = np.random.default_rng(0)
    with file.open("wb") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, shape[0], CHUNK):
            stream.write(generator.bytes(min(CHUNK, shape[0] - start) * int(np.prod(shape[1:]))))


def images_per_second(loader: Iterable[dict[str, Tensor]]) -> float:
    """One pass through a loader."""
    start, count = time.perf_counter(), 0
    for batch in loader:
        count += len(batch["image"])
    return count / (time.perf_counter() - start)


def measure(count: int, size: int, folder: str) -> dict[str, float]:
    """Throughput and memory growth with a cache of ``count`` images of ``size`` pixels."""
    torch.set_num_threads(1)
    file, shape = Path(folder) / f"{count}.npy", (count, 3, size, size)
    write_cache(file, shape)
    factors = torch.rand(count, FACTORS, generator=Generator().manual_seed(0))
    images = FactorImages(CachedImages(file, shape), factors, torch.arange(count))
    train = training_loader(images, 64, 0, seed=0)
    evaluation = evaluation_loader(images, 128, 0)
    for loader in (train, evaluation):  # what any first batch costs is not growth
        for _ in islice(loader, 20):
            pass
    before = resident()
    result = {"train": images_per_second(train), "evaluation": images_per_second(evaluation)}
    after = resident()
    file.unlink()
    return result | {name: after[name] - before[name] for name in after}


def loading_speed(args: Sequence[str]) -> None:
    """Command ``diffcf loading-speed``; ``--help`` lists the arguments."""
    parser = ArgumentParser(
        prog="diffcf loading-speed", description="Throughput and memory of the image cache."
    )
    parser.add_argument("--images", type=list[int], default=[20_000, 100_000], help="Cache sizes.")
    parser.add_argument("--image_size", type=int, default=64, help="Side of the images, in pixels.")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="Where caches are written.")
    parser.add_argument("--out", type=Path, help="JSON file to write as well.")
    config = parser.parse_args(list(args))
    heads = ("images", "cache MiB", "train/s", "evaluation/s", "RSS +MiB", "anonymous +MiB")
    print("  ".join(f"{head:>14}" for head in heads))
    context: Any = multiprocessing.get_context("spawn")
    rows = []
    for count in config.images:
        with tempfile.TemporaryDirectory(dir=config.folder) as folder, context.Pool(1) as pool:
            r = pool.apply(measure, (count, config.image_size, folder))
        cache = count * 3 * config.image_size**2 / 2**20
        speed = (f"{r['train']:.0f}", f"{r['evaluation']:.0f}")
        memory = (f"{r['VmRSS']:.1f}", f"{r['RssAnon']:.1f}")
        row = (f"{count}", f"{cache:.0f}", *speed, *memory)
        print("  ".join(f"{cell:>14}" for cell in row), flush=True)
        rows.append(dict(zip(heads, map(float, row), strict=True)))
    if config.out is not None:
        origin = {"device": device_name(torch.device("cpu")), "versions": versions()}
        record = {"image_size": config.image_size, "rows": rows, "provenance": origin}
        write_json(record, config.out)
