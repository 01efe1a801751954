"""Random keys: noise of an image is a function of seed, image and column, and of nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mutations import FUZZ
from small_nscms import CATEGORICAL, make

from diffcf.causal.keys import image_keys, row_keys, uniform_noise


@FUZZ
@given(st.permutations(range(9)), st.integers(1, 9), st.integers())
def test_neither_order_nor_subset_nor_batch_changes_the_noise(
    rows: list[int], size: int, seed: int
) -> None:
    images = torch.rand(9, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = {"rows": row_keys(torch.arange(9), seed), "images": image_keys(images, seed)}
    torch.manual_seed(seed % 2**32)  # nothing global matters
    for start in range(0, 9, size):
        some = torch.tensor(rows[start : start + size])
        assert torch.equal(row_keys(some, seed), whole["rows"][some])
        assert torch.equal(image_keys(images[some], seed), whole["images"][some])
        noise = uniform_noise(whole["rows"][some], 4)
        assert torch.equal(noise, uniform_noise(whole["rows"], 4)[some])


def test_a_row_has_the_same_noise_for_ever() -> None:
    """Answers of today can be drawn again tomorrow: these numbers stay."""
    noise = uniform_noise(row_keys(torch.tensor([0, 7]), 3), 2)
    expected = [[0.14563735892139051, 0.946918291046638], [0.6928887546499256, 0.46047815878154397]]
    assert noise.tolist() == expected


def test_the_noise_is_uniform_and_independent() -> None:
    keys = torch.stack([row_keys(torch.arange(20_000), seed) for seed in (0, 1)])
    columns = torch.cat([uniform_noise(each, 3) for each in keys], dim=1)
    assert columns.min() >= 0 and columns.max() <= 1
    levels = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    for column in columns.unbind(1):
        torch.testing.assert_close(column.quantile(levels), levels, rtol=0, atol=0.015)
    correlation = torch.corrcoef(columns.T) - torch.eye(6)
    assert correlation.abs().max() < 0.03, "of columns and of seeds"
    assert abs(torch.corrcoef(torch.stack([columns[1:, 0], columns[:-1, 0]]))[0, 1]) < 0.03


def test_another_picture_has_another_key_and_the_same_one_the_same() -> None:
    image = torch.randint(0, 256, (1, 3, 16, 16)) / 127.5 - 1
    key = image_keys(image)
    changed = image.clone()
    changed[0, 1, 5, 5] += 0.01 if changed[0, 1, 5, 5] < 0.9 else -0.01
    others = [changed, image.flip(-1), image.roll(1, -1), image.transpose(2, 3), image.flip(1)]
    keys = [int(image_keys(other)) for other in others] + [int(image_keys(image, 1)), int(key)]
    assert len(set(keys)) == len(keys)
    # Where a batch lies in memory, and rounding of its numbers, change no picture.
    kept = image.expand(2, -1, -1, -1).contiguous(memory_format=torch.channels_last)
    assert (image_keys(kept) == key).all()
    assert image_keys(image.double() + 1e-4) == key and image_keys(image.half()) == key


def test_keys_of_discrete_factors_are_asked_for() -> None:
    nscm, factors = make(CATEGORICAL), torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"noise of 'shape' is drawn.*image_keys or row_keys"):
        nscm.abduct(factors)
