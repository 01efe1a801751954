"""IDX files, in which MNIST and its kin lie: an array of bytes after a short header.

The header is big-endian: two zero bytes, the type of the numbers (8 for bytes), how many dimensions
there are, and the length of each as 32 bits. Source: Y. LeCun, C. Cortes and C. Burges, The MNIST
database of handwritten digits, http://yann.lecun.com/exdb/mnist.
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from diffcf.io import DataError

BYTES = 0x08  # the type of unsigned bytes, the only one that images and digits have
LARGEST = 2**31  # bytes that are read of one file; MNIST's 60,000 images have 47 million


def read_idx(file: Path, dimensions: int) -> Tensor:
    """The bytes of an IDX file, uint8 of as many ``dimensions``; a name in ``.gz`` is unpacked.

    Raises:
        DataError: in one sentence, when the file cannot be read or unpacked, is no IDX file of
            bytes, has other dimensions, is empty, or holds fewer or more numbers than it says.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            return _array(stream, file, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({error}): take the file anew.") from None


def _array(stream: BinaryIO | gzip.GzipFile, file: Path, dimensions: int) -> Tensor:
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise DataError(
            f"{file} is no IDX file, since it begins with {head.hex() or 'nothing'}: check the "
            "name, whose ending .gz says that it is packed."
        )
    kind, found = head[2], head[3]
    if (kind, found) != (BYTES, dimensions):
        raise DataError(
            f"{file} holds numbers of type {kind} in {found} dimensions, where bytes (type {BYTES})"
            f" in {dimensions} are due: images have three dimensions and digits one."
        )
    lengths = stream.read(4 * dimensions)
    shape = tuple(int(n) for n in np.frombuffer(lengths[: len(lengths) // 4 * 4], ">u4"))
    size = prod(shape)
    if len(shape) < dimensions or not 0 < size <= LARGEST:
        raise DataError(f"{file} says it has the shape {list(shape)}, which is not usable.")
    content = stream.read(size + 1)  # one more, to see whether the file goes on
    if len(content) != size:
        more = "more" if len(content) > size else f"only {len(content):,}"
        raise DataError(f"{file} says it has {size:,} numbers and holds {more}: take it anew.")
    return torch.from_numpy(np.frombuffer(content, np.uint8).reshape(shape).copy())
