"""How fast images come, and how much faster a scene draws than matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Polygon, Rectangle
from torch import Tensor

from data_modules.scenes.pendulum import PendulumScene
from data_modules.scenes.pendulum_picture import ball_centre, light_on
from diffcf.bench.timing import Row, ratio_row, seconds

__all__ = ["loading", "pendulum_by_matplotlib", "rendering"]

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
