"""Styles: the ways in which one and the same scene becomes pixels.

A picture of given factors depends on who rasterises it and who scales it. ``subpixel`` draws every
edge where it is. ``published`` draws as matplotlib does, whose Agg backend *snaps* paths that
consist of horizontal and vertical strokes alone to whole pixels, at dpi = image size. The other
styles draw in that way at another dpi and scale the picture: ``published_bilinear`` is what a
published 96-pixel file becomes in this package's image reader.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data_modules.scenes.unmixing import cached
from diffcf.causal import Scene

PUBLISHED_SIZE = 96  # pixels: the side of the published files
CALIBRATION_IMAGES = 256


@dataclass(frozen=True)
class Style:
    """How a scene is drawn.

    Attributes:
        snapped: whether horizontal and vertical strokes lie on whole pixels, as matplotlib's.
        drawn_at: side in pixels at which it is drawn; None for the asked one.
        times: side at which it is drawn, in multiples of the asked one, where ``drawn_at`` is None.
        resample: name of Pillow's filter that scales it to the asked size.
    """

    snapped: bool
    drawn_at: int | None = None
    times: int = 1
    resample: str = "BOX"

    def drawn_size(self, image_size: int) -> int:
        """The side in pixels of what is drawn for pictures of ``image_size``."""
        return self.drawn_at or self.times * image_size


STYLES = {
    "subpixel": Style(False),
    "published": Style(True),
    "published_box": Style(True, PUBLISHED_SIZE),
    "published_bilinear": Style(True, PUBLISHED_SIZE, resample="BILINEAR"),
    "published_bicubic": Style(True, PUBLISHED_SIZE, resample="BICUBIC"),
    "published_lanczos": Style(True, PUBLISHED_SIZE, resample="LANCZOS"),
    "supersampled": Style(False, times=2),
}


def checked_style(name: str) -> Style:
    """The style of that name; ValueError when there is none."""
    if name not in STYLES:
        raise ValueError(f"There is no style {name!r}: use one of {', '.join(STYLES)}.")
    return STYLES[name]


def draw_in_style(draw: Callable[[int], Tensor], style: Style, image_size: int) -> Tensor:
    """Pictures ``[B, 3, S, S]`` in [-1, 1], of what ``draw`` gives at a side in pixels."""
    drawn = style.drawn_size(image_size)
    images = draw(drawn)
    if drawn == image_size:
        return images
    weights = resize_matrix(drawn, image_size, style.resample).to(images)
    # Filters with negative lobes overshoot at edges; files cannot.
    return torch.einsum("oh,bchw,pw->bcop", weights, images, weights).clamp(-1, 1)


@cached
def resize_matrix(size: int, to: int, resample: str) -> Tensor:
    """Weights ``[to, size]`` by which a filter of Pillow's, antialiased, scales a row of pixels."""
    rows = Image.fromarray(np.eye(size, dtype=np.float32))
    scaled = rows.resize((size, to), Image.Resampling[resample])
    return torch.from_numpy(np.array(scaled))


class StyledScene(Scene):
    """A scene that is drawn, and read, in one of :data:`STYLES`.

    Its ruler is calibrated for each style and image size: sizes and places by tables of the style's
    own drawings, and what snapping shifts on average by :meth:`_calibration`.

    Args:
        style: name of the style; ValueError for one that does not exist.
    """

    styles = tuple(STYLES)

    def __init__(self, style: str = "subpixel") -> None:
        self.style, self.drawing = style, checked_style(style)

    @abstractmethod
    def measured(self, images: Tensor) -> Tensor:
        """Factors ``[B, K]`` as they are measured, before correction; NaN for what is missing."""

    def read(self, images: Tensor) -> Tensor:
        """See :meth:`Scene.read`; what is missing in an image reads 0."""
        size = self.checked_size(images.shape[-1])
        read = self.measured(images)
        if self.drawing.snapped:
            read = read - self._calibration(size)[0].to(read)
        return read.nan_to_num(nan=0.0)

    def reading_error(self, image_size: int) -> dict[str, float]:
        """See :meth:`Scene.reading_error`; of random visible factors, drawn in 8 bits."""
        return dict(zip(self.graph.names, self._calibration(image_size)[1].tolist(), strict=True))

    def _calibration(self, image_size: int) -> tuple[Tensor, Tensor]:
        """Mean error of what is measured, and mean absolute error without it, ``[K]`` each."""
        return _calibrated(type(self), self.style, image_size)


@cached
def _calibrated(kind: type[StyledScene], style: str, image_size: int) -> tuple[Tensor, Tensor]:
    scene = kind(style)
    generator = torch.Generator().manual_seed(0)
    # Without snapping nothing is corrected, and errors are small: fewer images tell them.
    count = CALIBRATION_IMAGES if scene.drawing.snapped else CALIBRATION_IMAGES // 4
    factors = torch.rand(4 * count, len(scene.graph.names), generator=generator)
    factors = factors[scene.visible(factors)][:count]
    images = ((scene.render(factors, image_size) + 1) * 127.5).round() / 127.5 - 1
    error = scene.measured(images) - factors
    bias = error.mean(0) if scene.drawing.snapped else torch.zeros(error.shape[1])
    return bias, (error - bias).abs().mean(0)
