"""Whether two methods differ on the same images, by their scores image by image.

The images of a test are easy or hard for every method alike, so that means over them differ by less
than their intervals say. What counts is each image's difference between the two: the standard error
of its mean is the paired bootstrap's, which has a closed form (Efron & Tibshirani, An introduction
to the bootstrap, 1993, chapter 5). Seeds are no pairs. Their scatter adds to the error of each
method, and as they are few, the interval is Student's, with degrees of freedom after Welch (1947).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # scipy.stats takes a second to import

from diffcf.io import ResultsError

ImageScores: TypeAlias = Mapping[str, "pd.Series[float]"]
"""Scores by the names of ``metrics.json``, each by the image's row in the set."""

FEWEST = 20  # images of which a difference can be told
SHARED = 0.9  # of the images of either method that both must have scores of
_LEVEL = 0.95
_ROUNDED = 1e-3  # relative; files have five digits


def read_scores(path: Path, record: Mapping[str, Any]) -> ImageScores | None:
    """What ``diffcf test`` wrote as ``images.csv``, beside its ``record``; None for no such file.

    Raises:
        ResultsError: for a file of another shape, or of another test.
    """
    if not path.is_file():
        return None
    remedy = "test again, or remove the file"
    try:
        table = pd.read_csv(path, dtype=float)
        table = table.set_index(table.pop("image").astype("Int64"), verify_integrity=True)
    except (ValueError, TypeError, KeyError, pd.errors.ParserError) as error:
        raise ResultsError(f"{path} has no scores by image ({error}): {remedy}.") from None
    scores = {str(name): table[name].dropna() for name in table}
    for name, of_images in scores.items():
        told = record["metrics"].get(name)
        whole = len(of_images) == record["images"] and told is not None
        if whole and not np.isclose(of_images.mean(), told, rtol=_ROUNDED, atol=1e-6):
            raise ResultsError(f"{path} has scores of another test than its JSON: {remedy}.")
    return scores


def differ(own: Sequence[pd.Series[float]], other: Sequence[pd.Series[float]]) -> bool | None:
    """Whether the means of two methods differ at 95%, from scores by image of each of their seeds.

    None where nothing can be said: of fewer than 20 images in common, or than nine in ten of those
    of any seed.
    """
    images = own[0].index
    for scores in (*own, *other):
        images = images.intersection(scores.index)
    if len(images) < max(FEWEST, SHARED * max(len(scores) for scores in (*own, *other))):
        return None
    first, second = (np.stack([s.loc[images] for s in seeds]) for seeds in (own, other))
    apart = first.mean(axis=0) - second.mean(axis=0)
    parts = [(apart.var(ddof=1) / len(images), len(images) - 1)]
    for seeds in (first, second):
        if (count := len(seeds)) > 1:
            parts.append((seeds.mean(axis=1).var(ddof=1) / count, count - 1))
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return bool(apart.mean() != 0)
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    limit = stdtrit(freedom, (1 + _LEVEL) / 2)
    return bool(abs(apart.mean()) > limit * variance**0.5)
