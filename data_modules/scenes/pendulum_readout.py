"""The ruler: measure the pendulum's four factors in any image, by arithmetic.

Each pixel is un-mixed into white, orange, firebrick and black: three channels and a sum of one
give four equations for four weights. Then

- light: the x-centroid of orange, inverted by a monotone calibration because the sun is clipped;
- angle: the direction from the pivot to the centroid of firebrick;
- shadow: the black in the shadow's rows, averaged per column, is a darkness profile; its area is
  the length and its centroid the position. The rod ends above those rows.

Faint haze must not add up over a whole picture, so only pixels (columns) with more than a quarter
of a colour count, and their immediate neighbours, which hold the anti-aliased rims. On true
renders that selection keeps everything, so the measurement stays exact.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from data_modules.scenes.drawing import interval_coverage
from data_modules.scenes.pendulum_picture import COLOURS, IMAGE_SIZES, PIVOT, Frame, draw

__all__ = ["read_native", "unmix"]

THRESHOLD = 0.25
CHUNK_PIXELS = 2**22  # read at once, to bound the memory; 1,024 images at 64 pixels
CALIBRATION_POINTS = 1025
# Lights a little outside the published 60…147 (in π/200) still have a calibrated sun.
CALIBRATION_RANGE = (torch.pi * 56 / 200, torch.pi * 151 / 200)


def unmix(images: Tensor) -> dict[str, Tensor]:
    """Weights ``[B, H, W]`` of each colour in ``[B, 3, H, W]`` images; they sum to 1 per pixel.

    Pixels beyond [-1, 1] count as they would be displayed, NaN as white.
    """
    shown = images.float().nan_to_num(nan=1.0, posinf=1.0, neginf=-1.0).clamp(-1, 1)
    channels = pad((shown + 1) / 2, (0, 0, 0, 0, 0, 1), value=1.0)
    equations = torch.tensor([(*rgb, 1.0) for rgb in COLOURS.values()], dtype=torch.float64).T
    inverse = torch.linalg.inv(equations).to(channels)
    weights = torch.einsum("kc,bchw->kbhw", inverse, channels)
    return dict(zip(COLOURS, weights, strict=True))


def read_native(images: Tensor) -> tuple[Tensor, Tensor]:
    """Measure ``[B, 3, S, S]`` images in [-1, 1].

    Returns:
        Native angle, light (radians), length and position as float32 ``[B, 4]``, and ``[B, 4]``
        bool, whether there was anything to measure: elsewhere the value is meaningless but finite.

    Raises:
        ValueError: when the images are not square RGB of a size that the scene draws.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(f"Cannot read images {tuple(images.shape)}: they must be [B, 3, S, S].")
    frame = Frame(images.shape[-1])
    size = CHUNK_PIXELS // frame.image_size**2
    parts = [_read_chunk(chunk, frame) for chunk in images.split(size)]
    native, found = zip(*parts, strict=True)
    return torch.cat(native), torch.cat(found)


def _read_chunk(images: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    weights = unmix(images)
    angle, ball_found = _read_angle(weights["firebrick"], frame)
    light, sun_found = _read_light(weights["orange"], frame)
    length, position, shadow_found = _read_shadow(weights["black"], frame)
    found = torch.stack([ball_found, sun_found, shadow_found, shadow_found], dim=1)
    return torch.stack([angle, light, length, position], dim=1), found


def _centroid(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centroid x, y (pixels, y up) of the strong parts of ``[B, H, W]``, and whether any exist."""
    height, width = weight.shape[1:]
    strong = weight > THRESHOLD
    kept = weight.clamp(min=0) * _dilate(_dilate(strong).mT).mT
    total = kept.sum((1, 2)).clamp(min=1e-6)
    x = (kept.sum(1) * (torch.arange(width, device=weight.device) + 0.5)).sum(1) / total
    y = (kept.sum(2) * (height - torch.arange(height, device=weight.device) - 0.5)).sum(1) / total
    return x, y, strong.any(2).any(1)


def _dilate(mask: Tensor) -> Tensor:
    """Grow a bool ``[..., N]`` mask by one element on either side of its last dimension."""
    grown = mask.clone()
    grown[..., 1:] |= mask[..., :-1]
    grown[..., :-1] |= mask[..., 1:]
    return grown


def _read_angle(firebrick: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    x, y, found = _centroid(firebrick)
    across = (x - frame.x(PIVOT[0])) / frame.unit_x
    below = (frame.y(PIVOT[1]) - y) / frame.unit_y
    return torch.atan2(across, below), found


def _read_light(orange: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    x, _, found = _centroid(orange)
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
        parts = [unmix(draw(some, image_size))["orange"] for some in native.split(256)]
        centroids = torch.cat([_centroid(part)[0] for part in parts])
    order = centroids.argsort()
    return centroids[order], lights[order]


def _read_shadow(black: Tensor, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
    # Only the stroke's best covered rows: its rim would tell where the stroke lies, not how dark
    # it is, and matplotlib's snapping moves the rim of the published images.
    bottom, top = (torch.tensor([edge]) for edge in frame.shadow_rows)
    first, last = frame.box[2:]
    cover = interval_coverage(bottom, top, torch.arange(first, last))[0]
    rows = frame.image_size - 1 - first - (cover > cover.max() - 1e-4).nonzero()[:, 0]
    profile = black[:, rows.to(black.device)].mean(1).clamp(min=0) / float(cover.max())
    strong = profile > THRESHOLD
    kept = profile * _dilate(strong)
    total = kept.sum(1)
    centres = torch.arange(black.shape[2], device=black.device) + 0.5
    x = (kept * centres).sum(1) / total.clamp(min=1e-6)
    position = (x - frame.x(0.0)) / frame.unit_x
    return total / frame.unit_x, position, strong.any(1)
