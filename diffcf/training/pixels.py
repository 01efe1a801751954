"""Mean and spread of a dataset's pixels, and networks that ask for them by the word ``auto``."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jsonargparse import Namespace

from diffcf.io import SPEC_KEY, SettingsError
from diffcf.methods import read_trained
from diffcf.training.datasets import FactorData, make_data

AUTO = "auto"
IMAGES, AT_ONCE = 4096, 256


class PixelStatistics(NamedTuple):
    """Mean and standard deviation of all pixels and channels, in [-1, 1] units."""

    data_mean: float
    data_std: float


def pixel_statistics(data: FactorData) -> PixelStatistics:
    """Of the training images, or of 4,096 spread evenly over them; to three decimals."""
    count = data.size_of("train")
    rows = torch.linspace(0, count - 1, min(count, IMAGES)).round().long()
    total = torch.zeros(3, dtype=torch.float64)
    for part in rows.split(AT_ONCE):
        pixels = data.images_of("train", part).double()
        total += torch.stack([torch.ones_like(pixels), pixels, pixels.square()]).flatten(1).sum(1)
    mean, square = (total[1:] / total[0]).tolist()
    # A network divides by the spread: of pictures that are all one colour, it is not 0.
    return PixelStatistics(round(mean, 3), max(round((square - mean**2) ** 0.5, 3), 0.001))


def settle_pixels(config: Namespace) -> None:
    """Replace ``auto`` for ``data_mean`` and ``data_std`` in a run's config by numbers.

    They are those of the checkpoint that the run goes on from, or else measured on its data.

    Raises:
        SettingsError: where the checkpoint's networks have no such numbers.
    """
    asking = list(_asking(config.model))
    if not asking:
        return
    if config.get("ckpt_path"):
        stored = read_trained(Path(config.ckpt_path)).get(SPEC_KEY)
        for place, key in asking:
            place[key] = _stored(stored, key)
        return
    with torch.random.fork_rng():
        data = make_data(config.data.as_dict(), "This run")
        data.prepare_data()
        data.setup()
        found = pixel_statistics(data)._asdict()
    for place, key in asking:
        place[key] = found[key]


Settings = MutableMapping[str, Any] | Namespace


def _asking(settings: object) -> Iterator[tuple[Settings, str]]:
    """Where in a model's settings ``auto`` stands for one of the two."""
    if isinstance(settings, dict | Namespace):
        for key, value in (settings if isinstance(settings, dict) else vars(settings)).items():
            if key in PixelStatistics._fields and value == AUTO:
                yield settings, key
            yield from _asking(value)


def _stored(settings: object, key: str) -> float:
    found = list(_values(settings, key))
    if len(found) != 1:
        raise SettingsError(
            f"The checkpoint does not say its {key}: give the number, not '{AUTO}'."
        )
    return found[0]


def _values(settings: object, key: str) -> Iterator[float]:
    for name, value in settings.items() if isinstance(settings, dict) else ():
        if name == key and isinstance(value, float | int):
            yield float(value)
        yield from _values(value, key)
