"""What every image file becomes before a network sees it: one object, recorded with the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from diffcf.io.errors import DataError
from diffcf.io.images import MAX_PIXELS, WHITE, UnusableImage, read_picture
from diffcf.io.numbers import is_whole

Fit = Literal["crop", "letterbox"]
Resample = Literal["bilinear", "box", "bicubic", "lanczos"]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""
LARGEST_SIDE = 8192


@dataclass(frozen=True)
class ImageTransform:
    """From an image file to a network's input; ValueError for a setting outside its range.

    A picture is made upright and opaque (:func:`diffcf.io.images.read_picture`), fitted into a
    square, scaled with antialiasing, and made grey or colour. A smaller picture is enlarged.

    Attributes:
        size: side S of the square result, in pixels.
        crop: side of the central square that is kept, in pixels of the file; None: the largest. A
            file that is smaller than that is refused, unless it has S × S pixels already, as
            answers and exported images have: it is taken as it is.
        channels: 3 for colour, 1 for grey.
        fit: "crop" keeps the central square alone; "letterbox" keeps the whole picture, between
            bars that make it square.
        resample: the filter that scales; "bilinear" and "box" never overshoot.
        value_range: of grey files of more than 8 bits, the values that become black and white, such
            as ``(0, 4095)`` for 12 bits; None takes 0 and 65535 for those of 16 bits.
        ground: grey level, 0 to 255, of the bars and behind transparent pixels.
    """

    size: int
    crop: int | None = None
    channels: int = 3
    fit: Fit = "crop"
    resample: Resample = "bilinear"
    value_range: tuple[float, float] | None = None
    ground: int = WHITE

    def __post_init__(self) -> None:
        if not _whole(self.size, 1, LARGEST_SIDE):
            raise ValueError(f"image_size must be 1 to {LARGEST_SIDE}, not {self.size!r:.100}.")
        if self.crop is not None and not _whole(self.crop, 1, MAX_PIXELS):
            raise ValueError(f"crop must be at least 1 or left out, not {self.crop!r:.100}.")
        if self.channels not in (1, 3):
            raise ValueError(
                f"channels must be 1 (grey) or 3 (colour), not {self.channels!r:.100}."
            )
        if self.fit not in ("crop", "letterbox"):
            raise ValueError(f"fit must be crop or letterbox, not {self.fit!r:.100}.")
        if self.fit == "letterbox" and self.crop is not None:
            raise ValueError(
                f"crop must be left out (null) with fit: letterbox, not {self.crop}: the whole "
                "picture is kept."
            )
        if self.resample not in ("bilinear", "box", "bicubic", "lanczos"):
            raise ValueError(
                f"resample must be bilinear, box, bicubic or lanczos, not {self.resample!r:.100}."
            )
        if self.value_range is not None:
            object.__setattr__(self, "value_range", _checked_range(self.value_range))
        if not _whole(self.ground, 0, WHITE):
            raise ValueError(f"ground must be a grey level, 0 to 255, not {self.ground!r:.100}.")

    @classmethod
    def from_dict(cls, described: object) -> ImageTransform:
        """The transform that :meth:`to_dict` described; ValueError for anything else."""
        if not isinstance(described, Mapping):
            raise ValueError(f"A transform is described by its settings, not {described!r:.100}.")
        if unknown := set(described) - {field.name for field in fields(cls)}:
            raise ValueError(f"A transform has no {min(map(str, unknown)):.100}.")
        if "size" not in described:
            raise ValueError("A transform needs a size.")
        return cls(**described)

    def to_dict(self) -> dict[str, object]:
        """Plain text, numbers and lists, as JSON holds them."""
        listed = None if self.value_range is None else list(self.value_range)
        return asdict(self) | {"value_range": listed}

    def __str__(self) -> str:
        """For people, such as ``central 148 × 148 pixels, to 64 × 64 by bilinear, colour``."""
        kept = (
            f"central {self.crop} × {self.crop} pixels" if self.crop else "largest central square"
        )
        bars = "" if self.ground == WHITE else f", on grey {self.ground}"
        deep = ""
        if self.value_range is not None:
            deep = ", {:g} … {:g} as black … white".format(*self.value_range)
        return (
            f"{'whole picture, between bars' if self.fit == 'letterbox' else kept}, to "
            f"{self.size} × {self.size} by {self.resample}, "
            f"{'grey' if self.channels == 1 else 'colour'}{bars}{deep}"
        )

    def picture(self, source: Path | BytesIO, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """The whole picture in a file or its content, decoded; UnusableImage when it cannot be."""
        return read_picture(source, self.ground, self.value_range, max_pixels)

    def placement(self, width: int, height: int) -> tuple[Box, Box]:
        """Which box of a picture of that size is kept, and which box of the result shows it.

        Raises:
            UnusableImage: for a picture smaller than the crop.
        """
        if self.fit == "letterbox":
            longest = max(width, height)
            wide, high = (max(round(side * self.size / longest), 1) for side in (width, height))
            left, top = (self.size - wide) // 2, (self.size - high) // 2
            return (0, 0, width, height), (left, top, left + wide, top + high)
        side = self.crop or min(width, height)
        if side > min(width, height):
            if (width, height) != (self.size, self.size):
                raise UnusableImage(
                    f"has {width} × {height} pixels, less than the crop of {side}",
                    "give it in the size of the training files, or train with a lower crop",
                )
            side = self.size
        left, top = (width - side) // 2, (height - side) // 2
        return (left, top, left + side, top + side), (0, 0, self.size, self.size)

    def apply(self, picture: Image.Image) -> np.ndarray:
        """``[C, S, S]`` uint8 of a picture in mode "L" or "RGB"; errors as :meth:`placement`."""
        kept, shown = self.placement(*picture.size)
        if kept != (0, 0, *picture.size):
            picture = picture.crop(kept)
        if picture.size != (size := (shown[2] - shown[0], shown[3] - shown[1])):
            # Pillow widens the filter when it shrinks.
            picture = picture.resize(size, Image.Resampling[self.resample.upper()])
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        if shown != (0, 0, self.size, self.size):
            square = Image.new(picture.mode, (self.size, self.size), (self.ground,) * self.channels)
            square.paste(picture, shown[:2])
            picture = square
        pixels = np.asarray(picture)
        return pixels.reshape(self.size, self.size, self.channels).transpose(2, 0, 1)


def _whole(value: object, low: int, high: int) -> bool:
    return is_whole(value) and low <= value <= high


def _checked_range(value: Sequence[float]) -> tuple[float, float]:
    ends = list(value) if isinstance(value, list | tuple) else []
    numbers = all(type(end) in (int, float) and isfinite(end) for end in ends)
    if len(ends) != 2 or not numbers or not ends[0] < ends[1]:
        raise ValueError(
            f"value_range must be two numbers, what is black and what is white, not {value!r:.100}."
        )
    return float(ends[0]), float(ends[1])


def decode(path: Path, transform: ImageTransform, origin: str | None = None) -> np.ndarray:
    """One file as ``[C, S, S]`` uint8.

    Raises:
        DataError: naming file and ``origin`` (the table row that names it, if one does), for a
            picture that is broken, too large, or smaller than the crop.
    """
    try:
        return transform.apply(transform.picture(path))
    except UnusableImage as error:
        named = f"Image {path}" if origin is None else f"Image {path} ({origin})"
        raise DataError(f"{named} {error.problem}: {error.remedy}.") from None


def decode_bytes(
    content: bytes, transform: ImageTransform, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """As :func:`decode`, from the content of a file, of at most ``max_pixels``."""
    try:
        return transform.apply(transform.picture(BytesIO(content), max_pixels))
    except UnusableImage as error:
        raise DataError(f"This file {error.problem}: {error.remedy}.") from None
