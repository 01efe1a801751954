"""Images between [-1, 1] and bytes."""

import numpy as np
import torch

from diffcf.io.pixels import from_bytes, to_bytes, to_picture


def test_every_level_comes_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(from_bytes(levels)), levels)
    assert torch.equal(from_bytes(levels.numpy()[::-1]), from_bytes(levels).flip(0))
    assert from_bytes(levels).aminmax() == (-1, 1)


def test_bytes_are_nearest_and_clipped() -> None:
    image = torch.tensor([-3.0, -1.0, -0.001, 0.999, 1.0, 7.0], dtype=torch.float64)
    kept = image.clone()
    assert to_bytes(image).tolist() == [0, 0, 127, 255, 255, 255]
    assert torch.equal(image, kept)


def test_a_picture_is_grey_or_colour() -> None:
    image = torch.rand(3, 4, 6) * 2 - 1
    picture = to_picture(image)
    assert picture.mode == "RGB" and picture.size == (6, 4)
    assert np.array_equal(np.asarray(picture), to_bytes(image).permute(1, 2, 0).numpy())
    assert to_picture(image[:1]).mode == "L"
