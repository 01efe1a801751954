"""The published Shadow images: folders of Blender's PNG files, factors from the file names.

Two things differ from our own scenes. The shadow area is what the name says, measured in the
picture (which is 15 by 15 there) and not on the floor, so its range is taken from the names. And
Blender does not draw as we do: no scene can read these images, hence there are no exact
counterfactuals. For the names see :mod:`data_modules.published_shadow`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from data_modules.columns import checked_fractions, random_split
from data_modules.scenes.shadow.scene import PointlightScene, SunlightScene
from data_modules.stored import ImageTable, StoredImageDataModule
from diffcf.causal import CausalGraph, Factor
from diffcf.io import DataError

SUNLIGHT_PATTERN = (
    r"(?P<shape>[A-Za-z]+)_(?P<object_colour>[A-Za-z]+)_Size_(?P<size>[\d.]+)"
    r"_LightPosition_(?P<light_position>[\d.]+)_LightColor_(?P<light_colour>[A-Za-z]+)"
    r"_ShadowArea_(?P<shadow_area>-?[\d.]+)_FloorColor_(?P<floor_colour>[A-Za-z]+)"
)
POINTLIGHT_PATTERN = (
    SUNLIGHT_PATTERN
    + r"_Brightest_X_-?[\d.]+_Y_-?[\d.]+_RGB_ ?\((?P<spot_colour>\d+, ?\d+, ?\d+)\)"
)


FEWEST = 3  # images: one for each of training, validation and test
SLACK = 1e-4  # of a range, for rounding


class PublishedShadowDataModule(StoredImageDataModule):
    """What both lights share; use the Sunlight or the Pointlight class below.

    All ``.png`` files below ``root`` are read, in subfolders too. A seeded part of them is for
    test, as no split is published. The spot of a point light is below it, so ``spot_position`` is
    the light's position; the picture coordinates in the names are not used.

    Args:
        graph: of the scene that shares the factors; the range of ``shadow_area`` is replaced.
        root: folder of the images.
        pattern: regular expression that a whole file name without ``.png`` must match, with one
            named group per factor (except ``spot_position``). ``spot_colour`` is an RGB triple,
            other colours and the shape are words.
        area_range: least and largest shadow area; None takes those of the names. Give it where
            other folders must fit the same model.
        image_size: side of the images in pixels; published are 256.
        val_fraction, test_fraction: parts of all images, in (0, 1).
        common: see :class:`data_modules.stored.StoredImageDataModule`.

    Raises:
        DataError: in one sentence, for a folder without images, and for a file whose name does not
            match or holds an unknown word or a number out of range.
        ValueError: for a pattern that is wrong or lacks a group.
    """

    def __init__(
        self,
        graph: CausalGraph,
        root: str | Path,
        pattern: str,
        area_range: tuple[float, float] | None = None,
        image_size: int = 64,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        **common: Any,
    ) -> None:
        self.root = Path(root)
        self.val_fraction, self.test_fraction = checked_fractions(val_fraction, test_fraction)
        self._files = sorted(
            path.relative_to(self.root).as_posix() for path in self.root.rglob("*.png")
        )
        if len(self._files) < FEWEST:
            raise DataError(
                f"Folder {self.root} holds {len(self._files)} PNG files, too few: unpack the "
                "published Shadow images there; they are never downloaded."
            )
        self._native = factors_of_names(self.root, self._files, pattern, graph)
        areas = self._native[:, graph.column("shadow_area")]
        area_range = area_range or (float(areas.min()), float(areas.max()))
        super().__init__(_with_area(graph, area_range), None, image_size, None, 3, **common)

    def table(self, generator: Generator) -> ImageTable:
        factors = self.graph.to_scaled(self._native)
        wrong = ((factors < -SLACK) | (factors > 1 + SLACK)).nonzero()
        if len(wrong):
            row, column = wrong[0].tolist()
            factor = self.graph.factors[column]
            raise DataError(
                f"The name of {self.root / self._files[row]} has a {factor.name} outside "
                f"{factor.low:g} to {factor.high:g}: remove the file or correct its name."
            )
        split = random_split(len(self._files), self.val_fraction, self.test_fraction, generator)
        origin = ["its name"] * len(self._files)
        return ImageTable(self.root, self._files, factors.float(), origin, split)


def _with_area(graph: CausalGraph, area_range: tuple[float, float]) -> CausalGraph:
    """The graph, with that range of ``shadow_area``."""
    low, high = area_range
    if not low < high:
        raise ValueError(
            f"Shadow areas from {low:g} to {high:g} are no range: give 'area_range', the least and "
            "the largest, or more images."
        )
    area = Factor("shadow_area", "continuous", low, high)
    factors = [area if factor.name == area.name else factor for factor in graph.factors]
    return CausalGraph(factors, graph.edges)


class PublishedSunlightDataModule(PublishedShadowDataModule):
    """The published Sunlight images.

    Args:
        root: folder of the unpacked images.
        pattern, common: see :class:`PublishedShadowDataModule`.
    """

    def __init__(self, root: str | Path, pattern: str = SUNLIGHT_PATTERN, **common: Any) -> None:
        super().__init__(SunlightScene().graph, root, pattern, **common)


class PublishedPointlightDataModule(PublishedShadowDataModule):
    """The published Pointlight images.

    Args:
        root: folder of the unpacked images.
        pattern, common: see :class:`PublishedShadowDataModule`.
    """

    def __init__(self, root: str | Path, pattern: str = POINTLIGHT_PATTERN, **common: Any) -> None:
        super().__init__(PointlightScene().graph, root, pattern, **common)


MISSPELT = {"ocrahedron": "octahedron"}
SPOT_COLOURS = {
    "190,215,215": "SkyBlue",
    "215,190,215": "Plum",
    "215,215,190": "Khaki",
    "190,190,215": "Lavender",
    "190,215,190": "LightGreen",
    "215,190,190": "Coral",
}


def factors_of_names(root: Path, files: list[str], pattern: str, graph: CausalGraph) -> Tensor:
    """Native factors, float64 ``[N, K]``, of files named relative to ``root``.

    Args:
        pattern: regular expression that a whole file name without ``.png`` must match, with one
            named group per factor. ``spot_position`` has none, it is the light's position.

    Raises:
        DataError: for a name that does not match, or that has an unknown word for a category or no
            number for another factor.
        ValueError: for a pattern that is wrong or lacks a group.
    """
    compiled = _compiled(pattern, graph)
    native = torch.empty(len(files), len(graph), dtype=torch.float64)
    for row, file in enumerate(files):
        match = compiled.fullmatch(Path(file).stem)
        if match is None:
            raise DataError(
                f"The name of {root / file} is not understood: it should match {pattern}, or give "
                "another 'pattern'."
            )
        words = match.groupdict(default="")
        values = [_value(factor, words, root / file) for factor in graph.factors]
        native[row] = torch.tensor(values, dtype=torch.float64)
    return native


def _compiled(pattern: str, graph: CausalGraph) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"The pattern {pattern!r} is no regular expression: {error}.") from None
    lacking = set(graph.names) - {"spot_position"} - set(compiled.groupindex)
    if lacking:
        raise ValueError(
            f"The pattern {pattern!r} has no group (?P<{min(lacking)}>…): give it one per factor."
        )
    return compiled


def _value(factor: Factor, words: dict[str, str], path: Path) -> float:
    """The native value of one factor."""
    if factor.categories:
        return _category(factor, words[factor.name], path)
    word = words["light_position" if factor.name == "spot_position" else factor.name]
    try:
        return float(word)
    except ValueError:
        raise DataError(
            f"The name of {path} has the {factor.name} '{word}', which is no number: correct the "
            "name, or give another 'pattern'."
        ) from None


def _category(factor: Factor, word: str, path: Path) -> float:
    places = {category.lower(): place for place, category in enumerate(factor.categories)}
    spelling = word.lower().replace(" ", "")
    spelling = {**MISSPELT, **SPOT_COLOURS}.get(spelling, spelling).lower()
    if spelling not in places:
        raise DataError(
            f"The name of {path} has the unknown {factor.name} '{word}': known are "
            f"{', '.join(factor.categories)}."
        )
    return float(places[spelling])
