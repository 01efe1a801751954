"""Do two methods differ? A paired bootstrap, held to what it says."""

from __future__ import annotations

import numpy as np
import pandas as pd

from diffcf.reporting.pairing import differ


def scores(values: np.ndarray, first: int = 0) -> pd.Series:
    return pd.Series(values, index=range(first, first + len(values)))


def test_equal_methods_differ_as_often_as_the_level_says() -> None:
    random, found = np.random.default_rng(0), 0
    for _ in range(200):
        image = random.normal(0, 5, 60)
        own, other = (scores(image + random.normal(0, 1, 60)) for _ in range(2))
        found += bool(differ([own], [other]))
    assert 1 <= found <= 24, "5% of 200"


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
    assert not differ([scores(image)], [scores(image[10:], 10)])
    assert differ([scores(image)], [scores(image, 60)]) is None
