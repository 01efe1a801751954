"""How fast images come, and how much faster a scene draws than matplotlib."""

from __future__ import annotations

import io
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Polygon, Rectangle
from torch import Generator, Tensor

from data_modules.loading import FactorImages, evaluation_loader, training_loader
from data_modules.scenes.pendulum.picture import ball_centre, light_on
from data_modules.scenes.pendulum.scene import PendulumScene
from data_modules.stored import CachedImages
from diffcf.commands.speed.timing import Row, ratio_row, seconds
from diffcf.io import device_name, versions, write_json

DRAWN = 64
BY_HAND = 8
"""Pictures of a turn: by the scene, by matplotlib."""


def loading(data: Any, repeats: int) -> list[Row]:
    """Images per second of the training loader, and of the scene's read-out."""

    cpu = torch.device("cpu")

    def epoch() -> None:
        for _ in data.train_dataloader():
            pass

    size = len(data.train_dataloader().dataset)
    rows = [_rate("training loader", seconds({"": epoch}, repeats, cpu)[""], size)]
    if data.scene is not None:
        image = next(iter(data.train_dataloader()))["image"]
        read: Callable[[], Any] = partial(data.scene.read, image)
        taken = seconds({"": read}, repeats, cpu)[""]
        rows.append(_rate("scene's read-out", taken, len(image)))
    return rows


def rendering(image_size: int, repeats: int) -> list[Row]:
    """Pendulum pictures per second: our scene's over matplotlib's."""
    scene = PendulumScene()
    factors, _ = scene.published_grid()
    chosen = factors[torch.linspace(0, len(factors) - 1, DRAWN).long()]

    def by_hand() -> None:
        for row in scene.graph.to_native(chosen[:BY_HAND]):
            pendulum_by_matplotlib(row, image_size)

    turns: dict[str, Callable[[], Any]]
    turns = {"scene": partial(scene.render, chosen, image_size), "matplotlib": by_hand}
    taken = seconds(turns, repeats, torch.device("cpu"))
    by_scene, by_matplotlib = taken["scene"], taken["matplotlib"]
    each = [time * DRAWN / BY_HAND for time in by_matplotlib]  # as many pictures as the scene's
    return [
        ratio_row("scene renderer / matplotlib, images/s", each, by_scene, "≥ 50"),
        _rate("scene renderer", by_scene, DRAWN),
        _rate("matplotlib", by_matplotlib, BY_HAND),
    ]


def pendulum_by_matplotlib(native: Tensor, image_size: int) -> np.ndarray:
    """One pendulum as the published script draws it, uint8 ``[S, S, 3]``.

    Args:
        native: angle, light, shadow length and position, ``[4]``.
        image_size: S, the side in pixels of a 1 inch figure.
    """
    angle, light, length, position = native.unbind()
    figure = Figure(figsize=(1, 1), dpi=image_size)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    (x, y), sun = ball_centre(angle), light_on(light)
    left, right = float(position - length / 2), float(position + length / 2)
    axes.add_patch(Polygon([(10, 10.5), (float(x), float(y))], color="black", linewidth=3))
    axes.add_patch(Ellipse((float(x), float(y)), 3, 3, color="firebrick"))
    axes.add_patch(Ellipse((float(sun), 20.5), 6, 6, color="orange"))
    axes.add_patch(Rectangle((left, -0.5), right - left, 0, color="black", linewidth=3))
    axes.set_xlim(0, 20)
    axes.set_ylim(-1, 21)
    axes.axis("off")
    buffer = io.BytesIO()
    canvas.print_rgba(buffer)
    pixels = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
    return pixels.reshape(image_size, image_size, 4)[..., :3]


def _rate(what: str, times: list[float], count: int) -> Row:
    spread = (count / max(times), count / min(times))
    return Row(what, count / median(times), "images/s", spread)


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
