"""Whether two methods differ, on the same images: scores image by image, and a paired bootstrap.

The images of a test are easy or hard for every method alike. Means over them differ by less than
their intervals say when images are drawn for each method apart, so they are drawn for both at once
(Efron & Tibshirani, An introduction to the bootstrap, 1993, chapters 8 and 16); seeds are drawn
for each method, as no seed of one belongs to a seed of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from diffcf.io import ResultsError

ImageScores: TypeAlias = Mapping[str, "pd.Series[float]"]
"""Scores by the names of ``metrics.json``, each by the image's row in the set."""

RESAMPLES = 2000
_LEVEL = 0.95


def read_scores(path: Path) -> ImageScores | None:
    """What ``diffcf test`` wrote as ``images.csv``; None where there is no such file.

    Raises:
        ResultsError: for a file of another shape.
    """
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path, index_col="image", dtype=float)
    except (ValueError, KeyError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise ResultsError(f"{path} has no scores by image (diffcf test): {error}.") from None
    if not table.index.is_unique or not np.isfinite(table.to_numpy()[table.notna()]).all():
        raise ResultsError(f"{path} has no scores by image: an image is there twice, or no number.")
    return {str(name): table[name].dropna() for name in table}


def differ(own: Sequence[pd.Series[float]], other: Sequence[pd.Series[float]]) -> bool | None:
    """Whether the means of two methods differ at 95%, from scores by image of each of their seeds.

    None where they have fewer than two images in common, so that nothing can be said.
    """
    images = own[0].index
    for scores in (*own, *other):
        images = images.intersection(scores.index)
    if len(images) < 2:
        return None
    random = np.random.default_rng(0)
    drawn = random.multinomial(len(images), np.full(len(images), 1 / len(images)), RESAMPLES)
    apart = np.zeros(RESAMPLES)
    for sign, seeds in ((1, own), (-1, other)):
        means = np.stack([s.loc[images].to_numpy() for s in seeds]) @ drawn.T / len(images)
        chosen = random.integers(len(seeds), size=(len(seeds), RESAMPLES))
        apart += sign * np.take_along_axis(means, chosen, axis=0).mean(axis=0)
    low, high = np.quantile(apart, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return bool(low > 0 or high < 0)
