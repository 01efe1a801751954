"""Shadow: the 18,522 published factor combinations of either light, drawn by us or as published.

Our ray caster re-creates the images, not Blender's pixels; the published modules load those. There
is no published split: a seeded part of the images is for test.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from data_modules.base import carve, fraction
from data_modules.columns import checked_fractions, random_split
from data_modules.scene_module import SceneDataModule
from data_modules.scenes import PointlightScene, ShadowScene, SunlightScene
from data_modules.stored import ImageTable, StoredImageDataModule
from diffcf.causal import CausalGraph, Factor
from diffcf.io import DataError, SettingsError, parse_number, to_bytes

DRAWN_AT_ONCE = 1024  # images; their floats take 50 MB at 64 pixels


class ShadowDataModule(SceneDataModule):
    """What both lights share; use :class:`SunlightDataModule` or :class:`PointlightDataModule`.

    Combinations are in the order of the published loops: shape, object colour, size, light colour
    and, innermost, light position. Images are held as bytes: at 64 pixels all 18,522 take 230 MB.
    Without ``train_size`` and so on, 16,670 are for training and validation, 1,852 for test.

    Args:
        image_size: 32, 64, 96, 128 or 256.
        test_fraction: part of the combinations that is for test, in (0, 1), chosen by ``seed``.
        val_fraction, common: see :class:`SceneDataModule`.
    """

    scene: ShadowScene

    def __init__(
        self,
        image_size: int = 64,
        test_fraction: float = 0.1,
        val_fraction: float = 0.1,
        **common: Any,
    ) -> None:
        super().__init__(image_size, val_fraction, **common)
        self.test_fraction = fraction("test_fraction", test_fraction)

    def grid(self) -> tuple[Tensor, Tensor, None]:
        factors = self.scene.published_grid()
        is_test = torch.zeros(len(factors), dtype=torch.bool)
        generator = Generator().manual_seed(self.seed)
        is_test[carve(torch.arange(len(factors)), self.test_fraction, generator)[1]] = True
        return factors, is_test, None

    def draw(self, factors: Tensor, noise: Tensor | None) -> Tensor:
        """Images as bytes, uint8 ``[N, 3, S, S]``."""
        images = torch.empty(len(factors), 3, self.image_size, self.image_size, dtype=torch.uint8)
        for rows in torch.arange(len(factors)).split(DRAWN_AT_ONCE):
            images[rows] = to_bytes(self.scene.render(factors[rows], self.image_size))
        return images


class SunlightDataModule(ShadowDataModule):
    """Shape, object colour, size, light position and colour, shadow area, floor colour."""

    scene_class = SunlightScene


class PointlightDataModule(ShadowDataModule):
    """The factors of Sunlight, and position and colour of the bright spot on the floor."""

    scene_class = PointlightScene


SUNLIGHT_PATTERN = (
    r"(?P<shape>[A-Za-z]+)_(?P<object_colour>[A-Za-z]+)_Size_(?P<size>[\d.]+)"
    r"_LightPosition_(?P<light_position>[\d.]+)_LightColor_(?P<light_colour>[A-Za-z]+)"
    r"_ShadowArea_(?P<shadow_area>-?[\d.]+)_FloorColor_(?P<floor_colour>[A-Za-z]+)"
)
POINTLIGHT_PATTERN = (
    SUNLIGHT_PATTERN
    + r"_Brightest_X_-?[\d.]+_Y_-?[\d.]+_RGB_ ?\((?P<spot_colour>\d+, ?\d+, ?\d+)\)"
)
SLACK = 1e-4  # of a range, for rounding


class PublishedShadowDataModule(StoredImageDataModule):
    """What both lights share; use the Sunlight or the Pointlight class below.

    All ``.png`` files below ``root`` are read, in subfolders too, with factors from their names.
    The shadow area in a name was measured in the picture (which is 15 by 15 there) and not on the
    floor, so its range is taken from the names. The spot of a point light is below it, so
    ``spot_position`` is the light's position; the picture coordinates in the names are not used.
    Blender does not draw as we do: no scene can read these images, hence there are no exact
    counterfactuals.

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
        common: see :class:`StoredImageDataModule`.

    Raises:
        DataError: for a folder without images, and for a file whose name does not match or holds
            an unknown word or a number out of range.
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
        self.fractions = checked_fractions(val_fraction, test_fraction)
        files = self.root.rglob("*.png")
        self._files = sorted(file.relative_to(self.root).as_posix() for file in files)
        if len(self._files) < 3:  # one for each of training, validation and test
            raise DataError(
                f"Folder {self.root} holds {len(self._files)} PNG files, too few: unpack the "
                "published Shadow images there; they are never downloaded."
            )
        self._native = _factors_of_names(self.root, self._files, pattern, graph)
        areas = self._native[:, graph.column("shadow_area")]
        low, high = area_range or (float(areas.min()), float(areas.max()))
        if not low < high:
            raise SettingsError(
                f"Shadow areas from {low:g} to {high:g} are no range: give 'area_range', the least "
                "and the largest, or more images."
            )
        area = Factor("shadow_area", "continuous", low, high)
        factors = [area if factor.name == area.name else factor for factor in graph.factors]
        taken = CausalGraph(factors, graph.edges, graph.known, graph.forbidden)
        super().__init__(taken, None, image_size=image_size, crop=None, channels=3, **common)

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
        split = random_split(len(factors), *self.fractions, generator)
        origin = ["its name"] * len(factors)
        return ImageTable(self.root, self._files, factors.float(), origin, split)


class PublishedSunlightDataModule(PublishedShadowDataModule):
    """The published Sunlight images; for the arguments see :class:`PublishedShadowDataModule`."""

    def __init__(self, root: str | Path, pattern: str = SUNLIGHT_PATTERN, **common: Any) -> None:
        super().__init__(SunlightScene().graph, root, pattern, **common)


class PublishedPointlightDataModule(PublishedShadowDataModule):
    """The published Pointlight images; for the arguments see :class:`PublishedShadowDataModule`."""

    def __init__(self, root: str | Path, pattern: str = POINTLIGHT_PATTERN, **common: Any) -> None:
        super().__init__(PointlightScene().graph, root, pattern, **common)


SPELLINGS = {
    "ocrahedron": "octahedron",  # misspelt in the published names
    "190,215,215": "SkyBlue",
    "215,190,215": "Plum",
    "215,215,190": "Khaki",
    "190,190,215": "Lavender",
    "190,215,190": "LightGreen",
    "215,190,190": "Coral",
}
"""Words of the names, without blanks and in lower case, that are no category."""


def _factors_of_names(root: Path, files: list[str], pattern: str, graph: CausalGraph) -> Tensor:
    """Native factors, float64 ``[N, K]``, of files named relative to ``root``."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SettingsError(f"The pattern {pattern!r} is no regular expression: {error}.") from None
    if lacking := set(graph.names) - {"spot_position"} - set(compiled.groupindex):
        raise SettingsError(
            f"The pattern {pattern!r} has no group (?P<{min(lacking)}>…): give it one per factor."
        )
    native = []
    for file in files:
        match = compiled.fullmatch(Path(file).stem)
        if match is None:
            raise DataError(
                f"The name of {root / file} is not understood: it should match {pattern}, or give "
                "another 'pattern'."
            )
        words = match.groupdict(default="")
        words["spot_position"] = words["light_position"]
        native.append([_value(factor, words[factor.name], root / file) for factor in graph.factors])
    return torch.tensor(native, dtype=torch.float64)


def _value(factor: Factor, word: str, path: Path) -> float:
    if factor.categories:
        places = {category.lower(): place for place, category in enumerate(factor.categories)}
        spelling = word.lower().replace(" ", "")
        place = places.get(SPELLINGS.get(spelling, spelling).lower())
        if place is None:
            raise DataError(
                f"The name of {path} has the unknown {factor.name} '{word}': known are "
                f"{', '.join(factor.categories)}."
            )
        return float(place)
    try:
        return parse_number(word)
    except DataError:
        raise DataError(
            f"The name of {path} has the {factor.name} '{word}', which is no number: correct the "
            "name, or give another 'pattern'."
        ) from None
