"""Do two methods differ on the same images? As often as the level says, and no oftener."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from diffcf.reporting.pairing import differ


def scores(values: np.ndarray, first: int = 0) -> pd.Series:
    return pd.Series(values, index=range(first, first + len(values)))


@pytest.mark.parametrize("images", [20, 200])
@pytest.mark.parametrize(
    ("seeds", "scatter"),
    [(1, 0.0), (2, 0.0), (2, 1.0), (3, 0.0), (3, 1.0)],  # of one seed no scatter is known
)
def test_equal_methods_differ_as_often_as_the_level_says(
    images: int, seeds: int, scatter: float
) -> None:
    random, found = np.random.default_rng(0), 0
    for _ in range(300):
        image = random.normal(0, 5, images)
        both = [
            [
                scores(image + random.normal(0, 1, images) + scatter * random.normal())
                for _ in range(seeds)
            ]
            for _ in range(2)
        ]
        found += bool(differ(*both))
    assert found <= 27, "at most 5% of 300, and three standard errors"
    assert found >= 4 or seeds > 1, "nor is it overcautious where no seeds are to be allowed for"


def test_a_difference_on_every_image_is_one_however_much_images_differ() -> None:
    image = np.random.default_rng(0).normal(0, 100, 50)
    assert differ([scores(image)], [scores(image + 0.01)])
    assert not differ([scores(image)], [scores(image)])


def test_seeds_that_scatter_tell_less() -> None:
    image = np.random.default_rng(0).normal(0, 1, 50)
    own = [scores(image + seed) for seed in (-1.0, 0.0, 1.0)]
    other = [scores(image + seed) for seed in (-0.8, 0.2, 1.2)]
    assert not differ(own, other)
    assert differ(own[1:2], other[1:2]), "one seed of each: nothing is known of their scatter"


def test_images_that_one_was_not_asked_about_are_left_out() -> None:
    image = np.random.default_rng(0).normal(0, 1, 50)
    assert not differ([scores(image)], [scores(image[3:], 3)])
    assert differ([scores(image)], [scores(image[3:] + 1, 3)])


def test_of_few_images_or_of_other_ones_nothing_is_said() -> None:
    image = np.random.default_rng(0).normal(0, 1, 50)
    assert differ([scores(image)], [scores(image, 60)]) is None
    assert differ([scores(image)], [scores(image[10:] + 1, 10)]) is None
    assert differ([scores(image[:8])], [scores(image[:8] + 1)]) is None
