"""The file names of the published Shadow images, read as factors.

Names are those that the published scripts write (``Polyhedron_Generation_Sunlight_v6.py`` and
``Polyhedron_Generation_Pointlight_v5.py`` of github.com/Jiagengzhu/Shadow-dataset-for-crl)::

    Cube_Red_Size_0.4_LightPosition_0_LightColor_SkyBlue_ShadowArea_1.234_FloorColor_SkyBlue.png
    …_FloorColor_SkyBlue_Brightest_X_1.234_Y_5.678_RGB_ (190, 215, 215).png

the second under a point light. Known traps: octahedra are called "Ocrahedron", and a blank follows
``_RGB_``. The downloadable archives were not at hand here: that their names are the scripts' is an
assumption, and another pattern adapts the reading where they differ.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from data_modules.tables import DataError
from diffcf.graph import CausalGraph, Factor

__all__ = ["POINTLIGHT_PATTERN", "SUNLIGHT_PATTERN", "factors_of_names"]

SUNLIGHT_PATTERN = (
    r"(?P<shape>[A-Za-z]+)_(?P<object_colour>[A-Za-z]+)_Size_(?P<size>[\d.]+)"
    r"_LightPosition_(?P<light_position>[\d.]+)_LightColor_(?P<light_colour>[A-Za-z]+)"
    r"_ShadowArea_(?P<shadow_area>-?[\d.]+)_FloorColor_(?P<floor_colour>[A-Za-z]+)"
)
POINTLIGHT_PATTERN = (
    SUNLIGHT_PATTERN
    + r"_Brightest_X_-?[\d.]+_Y_-?[\d.]+_RGB_ ?\((?P<spot_colour>\d+, ?\d+, ?\d+)\)"
)
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
