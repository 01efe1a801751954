"""How fast images come: training loader, cache files, and scenes that draw and read them."""

from __future__ import annotations

import io
import multiprocessing
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Polygon, Rectangle
from numpy.lib.format import open_memmap
from torch import Generator, Tensor

from data_modules.image_cache import CachedImages
from data_modules.loading import FactorImages, evaluation_loader, training_loader
from data_modules.scenes import CartoonFaces, FlowScene, PendulumScene
from data_modules.scenes.pendulum import ball_centre, sun_x
from diffcf.causal import Scene
from diffcf.commands.arguments import Side
from diffcf.commands.speed import Call, Row, ratio_row, seconds
from diffcf.io import check_new, device_name, versions, write_json
from diffcf.training import FactorData

CPU = torch.device("cpu")

DRAWN, BY_HAND = 64, 8
"""Pictures of a turn: by a scene, by matplotlib."""
CHUNK, FACTORS = 1000, 4
"""Of the cache file: images written at once, and numbers beside each image."""


def loading(data: FactorData, repeats: int) -> list[Row]:
    """Images per second of the training loader, and of the scene's read-out."""
    taken = seconds({"": lambda: deque(data.train_dataloader(), maxlen=0)}, repeats, CPU)
    rows = [_rate("training loader", taken[""], data.size_of("train"))]
    if data.scene is not None:
        image = next(iter(data.train_dataloader()))["image"]
        taken = seconds({"": partial(data.scene.read, image)}, repeats, CPU)
        rows.append(_rate("scene's read-out", taken[""], len(image)))
    return rows


def rendering(repeats: int) -> list[Row]:
    """Images of 64 pixels that scenes draw and read per second, beside matplotlib's pendulum."""
    pendulum, flow, faces = PendulumScene(), FlowScene(), CartoonFaces()
    grid, (flows, _, jet) = pendulum.published_grid()[0], flow.published_grid()
    people, looks = faces.sample(DRAWN, Generator().manual_seed(0))
    drawn: dict[str, tuple[Scene, Tensor, Tensor | None]] = {
        "pendulum": (pendulum, _spread(grid), None),
        "flow": (flow, _spread(flows), _spread(jet)),
        "faces": (faces, people, looks),
    }
    turns: dict[str, Call] = {}
    for name, (scene, factors, noise) in drawn.items():
        turns[f"{name}, drawn"] = partial(scene.render, factors, 64, noise)
        turns[f"{name}, read"] = partial(scene.read, scene.render(factors, 64, noise))

    def by_hand() -> None:
        for row in pendulum.graph.to_native(_spread(grid)[:BY_HAND]):
            pendulum_by_matplotlib(row, 64)

    by_matplotlib = "pendulum, by matplotlib"
    turns[by_matplotlib] = by_hand
    taken = seconds(turns, repeats, CPU)
    each = [time * DRAWN / BY_HAND for time in taken[by_matplotlib]]  # as many as the scene's
    least = {"pendulum, drawn": 1500, "flow, drawn": 1000, "faces, drawn": 150, "faces, read": 300}
    ratio = "scene renderer / matplotlib, images/s"
    rows = [ratio_row(ratio, each, taken["pendulum, drawn"], "≥ 50")]
    for name, times in taken.items():
        count = BY_HAND if name == by_matplotlib else DRAWN
        rows.append(_rate(name, times, count, f"≥ {least[name]}" if name in least else ""))
    return rows


def _spread(rows: Tensor) -> Tensor:
    """As many of the rows as are drawn, evenly spread."""
    return rows[torch.linspace(0, len(rows) - 1, DRAWN).long()]


def pendulum_by_matplotlib(native: Tensor, image_size: int) -> np.ndarray:
    """One pendulum as the published script draws it, uint8 ``[S, S, 3]``.

    ``native`` are its angle, light, shadow length and position, ``[4]``.
    """
    angle, light, length, position = native.unbind()
    figure = Figure(figsize=(1, 1), dpi=image_size)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    (x, y), sun = ball_centre(angle), sun_x(light)
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


def _rate(what: str, times: list[float], count: int, target: str = "") -> Row:
    return Row.over(what, [count / time for time in times], "images/s", target)


def loading_speed(args: Sequence[str]) -> None:
    """Command ``diffcf loading-speed``; ``--help`` lists the arguments."""
    description = "Throughput and memory of the image cache."
    parser = ArgumentParser(prog="diffcf loading-speed", description=description)
    parser.add_argument(
        "--images", type=list[PositiveInt], default=[20_000, 100_000], help="Cache sizes."
    )
    parser.add_argument(
        "--image_size", type=Side, default=64, help="Side of the images, in pixels."
    )
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="Where caches are written.")
    parser.add_argument("--out", type=Path, help="JSON file to write as well.")
    config = parser.parse_args(list(args))
    if config.out is not None:
        check_new(config.out)
    context = multiprocessing.get_context("spawn")  # no count's memory is another's
    rows: list[dict[str, float]] = []
    for count in config.images:
        with tempfile.TemporaryDirectory(dir=config.folder) as folder, context.Pool(1) as pool:
            row = pool.apply(_cache_row, (count, config.image_size, folder))
        if not rows:
            print("  ".join(f"{name:>14}" for name in row))
        print("  ".join(f"{value:>14}" for value in row.values()), flush=True)
        rows.append(row)
    if config.out is not None:
        origin = {"device": device_name(CPU), "versions": versions()}
        record = {"image_size": config.image_size, "rows": rows, "provenance": origin}
        write_json(record, config.out)


def _cache_row(count: int, size: int, folder: str) -> dict[str, float]:
    """Throughput and memory growth with a cache of ``count`` images of ``size`` pixels."""
    torch.set_num_threads(1)
    file, shape = Path(folder) / f"{count}.npy", (count, 3, size, size)
    cache, generator = open_memmap(file, "w+", np.uint8, shape), np.random.default_rng(0)
    for start in range(0, count, CHUNK):
        part = cache[start : start + CHUNK]
        part[:] = generator.integers(0, 256, part.shape, np.uint8)
    factors = torch.rand(count, FACTORS, generator=Generator().manual_seed(0))
    images = FactorImages(CachedImages(file, shape), factors, torch.arange(count))
    train = training_loader(images, 64, 0, seed=0)
    evaluation = evaluation_loader(images, 128, 0)
    for loader in (train, evaluation):  # what any first batch costs is not growth
        deque(islice(loader, 20), maxlen=0)
    before, speeds = _resident(), []
    for loader in (train, evaluation):
        started = time.perf_counter()
        seen = sum(len(batch["image"]) for batch in loader)
        speeds.append(seen / (time.perf_counter() - started))
    after = _resident()
    return {
        "images": count,
        "cache MiB": round(file.stat().st_size / 2**20),
        "train/s": round(speeds[0]),
        "evaluation/s": round(speeds[1]),
        "RSS +MiB": round(after["VmRSS"] - before["VmRSS"], 1),
        "anonymous +MiB": round(after["RssAnon"] - before["RssAnon"], 1),
    }


def _resident() -> dict[str, float]:
    """Memory of this process in MiB, by the names of ``/proc/self/status``."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = (line.split() for line in lines if line.startswith(("VmRSS", "RssAnon")))
    return {name.rstrip(":"): int(kib) / 1024 for name, kib, _ in fields}
