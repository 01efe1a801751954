"""Answers put back into the whole picture that a network saw part of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from diffcf.io.errors import DataError
from diffcf.io.images import STRIP, WHITE, UnusableImage
from diffcf.io.pixels import from_bytes
from diffcf.io.transform import Box, ImageTransform


def uncrop(
    source: Path | BytesIO, transform: ImageTransform, answers: Sequence[Tensor]
) -> Iterator[Image.Image]:
    """The whole picture of a file, at its own size, as each answer ``[C, S, S]`` changes it.

    ``source`` is the file, or its content, whose length the caller bounds.

    What is added to the file's pixels is the difference, scaled up, between the answer and what the
    network saw of the file. So pixels stay exactly as they were where the answer changes nothing,
    and outside of what the network saw. Pictures are as decoded: upright, opaque, of 8 bits.

    Raises:
        DataError: as :func:`decode`.
    """
    try:
        picture = transform.picture(source)
        kept, (left, top, right, bottom) = transform.placement(*picture.size)
        factual = from_bytes(transform.apply(picture))
    except UnusableImage as error:
        named = f"Image {source}" if isinstance(source, Path) else "This file"
        raise DataError(f"{named} {error.problem}: {error.remedy}.") from None
    for answer in answers:
        change = (answer.detach().cpu().float() - factual) * (WHITE / 2)
        yield _changed(picture, change[:, top:bottom, left:right].numpy(), kept)


def _changed(picture: Image.Image, change: np.ndarray, box: Box) -> Image.Image:
    """The picture with ``change`` ``[C, h, w]``, in grey levels, scaled up and added in a box."""
    mode = "RGB" if len(change) == 3 else picture.mode
    whole = np.array(picture.convert(mode))
    left, top, right, bottom = box
    part = np.atleast_3d(whole[top:bottom, left:right])  # a view
    size, rows = (right - left, bottom - top), max(STRIP // (right - left), 1)
    for channel in range(part.shape[2]):
        small = Image.fromarray(change[channel if len(change) > 1 else 0])
        added = np.asarray(small.resize(size, Image.Resampling.BILINEAR))
        for start in range(0, size[1], rows):
            strip = slice(start, start + rows)
            part[strip, :, channel] = (
                (part[strip, :, channel] + added[strip]).round().clip(0, WHITE)
            )
    return Image.fromarray(whole)
