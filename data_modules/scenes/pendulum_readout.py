"""The ruler: measure the pendulum's four factors in any image, by arithmetic.

Each pixel is un-mixed into white, orange, firebrick and black (:mod:`.unmixing`). Then

- light: the x-centroid of orange, inverted by a monotone calibration because the sun is clipped;
- angle: the direction from the pivot to the centroid of firebrick;
- shadow: the black in the shadow's rows, averaged per column, is a darkness profile; its area is
  the length and its centroid the position. The rod ends above those rows.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from data_modules.scenes.drawing import interval_coverage
from data_modules.scenes.frame import IMAGE_SIZES, Frame
from data_modules.scenes.pendulum_picture import (
    COLOURS,
    PIVOT,
    draw,
    pendulum_frame,
    shadow_rows,
)
from data_modules.scenes.unmixing import THRESHOLD, centroid, dilate, read_in_chunks, unmix

__all__ = ["read_native"]

CALIBRATION_POINTS = 1025
# Lights a little outside the published 60…147 (in π/200) still have a calibrated sun.
CALIBRATION_RANGE = (torch.pi * 56 / 200, torch.pi * 151 / 200)


def read_native(images: Tensor) -> tuple[Tensor, Tensor]:
    """Measure ``[B, 3, S, S]`` images in [-1, 1].

    Returns:
        Native angle, light (radians), length and position as float32 ``[B, 4]``, and ``[B, 4]``
        bool, whether there was anything to measure: elsewhere the value is meaningless but finite.

    Raises:
        ValueError: when the images are not square RGB of a size that the scene draws.
    """
    return read_in_chunks(_read_chunk, images)


def _read_chunk(images: Tensor) -> tuple[Tensor, Tensor]:
    frame = pendulum_frame(images.shape[-1])
    weights = unmix(images, COLOURS)
    angle, ball_found = _read_angle(weights["firebrick"], frame)
    light, sun_found = _read_light(weights["orange"], frame)
    length, position, shadow_found = _read_shadow(weights["black"], frame)
    found = torch.stack([ball_found, sun_found, shadow_found, shadow_found], dim=1)
    return torch.stack([angle, light, length, position], dim=1), found


def _read_angle(firebrick: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    x, y, found = centroid(firebrick)
    across = (x - frame.x(PIVOT[0])) / frame.unit_x
    below = (frame.y(PIVOT[1]) - y) / frame.unit_y
    return torch.atan2(across, below), found


def _read_light(orange: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    x, _, found = centroid(orange)
    centroids, lights = (table.to(x.device) for table in _light_calibration(frame.image_size))
    upper = torch.searchsorted(centroids, x.contiguous()).clamp(1, len(centroids) - 1)
    lower = upper - 1
    # The first and last pieces extend beyond the table: nothing is clamped.
    slope = (lights[upper] - lights[lower]) / (centroids[upper] - centroids[lower])
    return lights[lower] + slope * (x - centroids[lower]), found


@lru_cache(maxsize=len(IMAGE_SIZES))
def _light_calibration(image_size: int) -> tuple[Tensor, Tensor]:
    """Centroid of the drawn sun against the light, both ``[N]``, by ascending centroid."""
    lights = torch.linspace(*CALIBRATION_RANGE, CALIBRATION_POINTS)
    # Cached tensors must serve autograd too, wherever the first read happened.
    with torch.inference_mode(False), torch.no_grad():
        native = pad(lights[:, None], (1, 2))
        parts = [unmix(draw(some, image_size), COLOURS)["orange"] for some in native.split(256)]
        centroids = torch.cat([centroid(part)[0] for part in parts])
    order = centroids.argsort()
    return centroids[order], lights[order]


def _read_shadow(black: Tensor, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
    # Only the stroke's best covered rows: its rim would tell where the stroke lies, not how dark
    # it is, and matplotlib's snapping moves the rim of the published images.
    bottom, top = (torch.tensor([edge]) for edge in shadow_rows(frame))
    first, last = frame.box[2:]
    cover = interval_coverage(bottom, top, torch.arange(first, last))[0]
    rows = frame.image_size - 1 - first - (cover > cover.max() - 1e-4).nonzero()[:, 0]
    profile = black[:, rows.to(black.device)].mean(1).clamp(min=0) / float(cover.max())
    strong = profile > THRESHOLD
    kept = profile * dilate(strong)
    total = kept.sum(1)
    centres = torch.arange(black.shape[2], device=black.device) + 0.5
    x = (kept * centres).sum(1) / total.clamp(min=1e-6)
    position = (x - frame.x(0.0)) / frame.unit_x
    return total / frame.unit_x, position, strong.any(1)
