"""Morpho-MNIST as Deep SCM has it: digits of known thickness and intensity, in IDX files and a CSV.

Nothing is downloaded. Files are as those of causal-gen (Ribeiro et al., 2023,
https://github.com/biomedia-mira/causal-gen) and as Deep SCM's script writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from data_modules.base import FactorImageDataModule, carve
from data_modules.columns import checked_fractions, factor_tensor, number_tensor, random_split
from data_modules.idx import read_idx
from data_modules.loading import Loaded
from data_modules.scenes.morphomnist import MorphoMNIST, abducted_noise
from data_modules.stored import as_graph
from diffcf.causal import CausalGraph, Factor
from diffcf.io import (
    DataError,
    GraphError,
    ImageTransform,
    SettingsError,
    Table,
    read_table,
)

TRAIN, TEST = "train", "t10k"  # how the names of the files of each part begin
CALIBRATION = 2500  # training images that the ruler is made of, and tried on
KINDS = {"thickness": "continuous", "intensity": "continuous", "digit": "categorical"}


def published_graph() -> CausalGraph:
    """Thickness (pixels) → intensity (grey levels), and the digit, which has no part in it.

    The ranges are not those of some files, so that all parts share them: a thickness is never below
    0.5 and above 7 once in a million, and the equation keeps intensity between 64 and 255.
    """
    digits = Factor("digit", "categorical", categories=tuple("0123456789"))
    thickness = Factor("thickness", low=0.5, high=7.0)
    factors = [thickness, Factor("intensity", low=64.0, high=255.0), digits]
    return CausalGraph(factors, [("thickness", "intensity")])


class MorphoMNISTDataModule(FactorImageDataModule):
    """Handwritten digits, one channel, with thickness, intensity and digit as factors.

    ``root`` holds ``t10k-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte`` (either may be packed, in
    ``.gz``) and ``t10k-morpho.csv`` with the columns ``thickness`` and ``intensity``, a row for
    each image in their order; or the same of ``train``, or both. With both, ``t10k`` is for test;
    one alone is parted at random by ``seed``.

    Args:
        root: the folder.
        graph: of thickness, intensity and, unless left out, digit, or its YAML file; None for
            :func:`published_graph`. No value may lie outside its factor's range.
        image_size: side S of the images in pixels; the files' 28 are bordered by black, never
            scaled, so that thickness keeps its unit.
        mechanism: "deep_scm" where intensity follows Deep SCM's published equation, so that the
            true counterfactual factors are known, and a ruler is made of training images
            (:class:`data_modules.scenes.morphomnist.MorphoMNIST`). None for other tables: then an
            evaluator reads, and the method's own causal model says what should be there.
        val_fraction: part of the images (of the training images, with both parts) for validation.
        test_fraction: part of the images for test, where there is one part alone.
        common: see :class:`FactorImageDataModule`.

    Raises:
        GraphError: for a graph of other factors or kinds.
        UnavailableError: without the library of the ruler (``diffcf[morpho]``).
    """

    transform: ImageTransform

    def __init__(
        self,
        root: str | Path,
        graph: CausalGraph | str | Path | None = None,
        image_size: int = 32,
        mechanism: Literal["deep_scm"] | None = "deep_scm",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        **common: Any,
    ) -> None:
        given = published_graph() if graph is None else as_graph(graph)
        _check_factors(given)
        super().__init__(given, None if mechanism is None else MorphoMNIST(given), **common)
        self.root, self.fractions = Path(root), checked_fractions(val_fraction, test_fraction)
        # A picture of the files' own size would have to be scaled: it is refused.
        self.transform = ImageTransform(image_size, crop=image_size, channels=1)

    def prepare_data(self) -> None:
        """Check the files, so that mistakes show before training."""
        self.load(Generator().manual_seed(self.seed))

    def load(self, generator: Generator) -> Loaded:
        parts = {prefix: part for prefix in (TRAIN, TEST) if (part := self._part(prefix))}
        if not parts:
            raise DataError(
                f"Folder {self.root} has no Morpho-MNIST: put {_images(TEST)}, {_digits(TEST)} and "
                f"{_table(TEST)} there, or those of {TRAIN}, or both; they are never downloaded."
            )
        images, factors = map(torch.cat, zip(*parts.values(), strict=True))
        split = self._parted({prefix: len(part[1]) for prefix, part in parts.items()}, generator)
        if isinstance(self.scene, MorphoMNIST):
            self._check_mechanism(factors)
            rows = split["train"][:CALIBRATION]  # they are in random order
            self.scene.calibrate(images[rows], factors[rows])
        return Loaded(images, factors, split)

    def _parted(self, counts: dict[str, int], generator: Generator) -> dict[str, Tensor]:
        total = sum(counts.values())
        if min(counts.values()) < 3:
            raise DataError(
                f"{self.root} has {total} images, too few to part: give 3 or more of each part."
            )
        if len(counts) < 2:
            return random_split(total, *self.fractions, generator)
        rest, test = torch.arange(total).split([counts[TRAIN], counts[TEST]])
        train, val = carve(rest, self.fractions[0], generator)
        return {"train": train, "val": val, "test": test}

    def _part(self, prefix: str) -> tuple[Tensor, Tensor] | None:
        """Images uint8 ``[N, 1, S, S]`` and factors ``[N, K]`` of a part; None where it is not."""
        wanted = [_images(prefix), _table(prefix)]
        wanted += [_digits(prefix)] if "digit" in self.graph.names else []
        files = {name: _found(self.root / name) for name in wanted}
        if not any(files.values()):
            return None
        for name, file in files.items():
            if file is None:
                raise DataError(f"{self.root / name} (or .gz) does not exist: put it there.")
        present = {name: file for name, file in files.items() if file is not None}
        images = self._bordered(present[_images(prefix)])
        table = _measured(present[_table(prefix)], len(images))
        tables = {"thickness": table, "intensity": table}
        if (file := present.get(_digits(prefix))) is not None:
            digits = [str(digit) for digit in read_idx(file, 1).tolist()]
            _check_count(file, len(digits), len(images))
            tables["digit"] = Table(file, {"digit": digits}, range(1, len(digits) + 1))
        columns = [factor_tensor(tables[factor.name], [factor]) for factor in self.graph.factors]
        return images, torch.cat(columns, dim=1)

    def _bordered(self, file: Path) -> Tensor:
        images, size = read_idx(file, 3), self.transform.size
        height, width = images.shape[1:]
        if height != width:
            raise DataError(f"{file} has images of {height} × {width} pixels: they must be square.")
        if (border := size - width) < 0:
            raise SettingsError(
                f"image_size is {size}, less than the {width} pixels of {file}: raise it."
            )
        left = border // 2
        return pad(images, (left, border - left, left, border - left))[:, None]

    def _check_mechanism(self, factors: Tensor) -> None:
        """DataError where the published equation would need a noise that is no standard normal."""
        native = self.graph.to_native(factors.double())
        columns = (native[:, self.graph.column(name)] for name in ("thickness", "intensity"))
        noise = abducted_noise(*columns)
        mean, deviation = float(noise.mean()), float(noise.std())
        if max(abs(mean), abs(deviation - 1)) > 0.1 + 5 / len(noise) ** 0.5:
            raise DataError(
                f"Intensity in {self.root} does not follow Deep SCM's equation, whose noise would "
                f"have mean {mean:.2f} and deviation {deviation:.2f} instead of 0 and 1: set "
                "mechanism to null, and have an evaluator read."
            )


def _images(prefix: str) -> str:
    return f"{prefix}-images-idx3-ubyte"


def _digits(prefix: str) -> str:
    return f"{prefix}-labels-idx1-ubyte"


def _table(prefix: str) -> str:
    return f"{prefix}-morpho.csv"


def _found(path: Path) -> Path | None:
    """The file of that name, or the packed one."""
    packed = path.with_name(f"{path.name}.gz")
    return next((file for file in (path, packed) if file.is_file()), None)


def _check_count(file: Path, count: int, images: int) -> None:
    if count != images:
        raise DataError(
            f"{file} has {count:,} rows for {images:,} images: take the files of one part together."
        )


def _measured(file: Path, images: int) -> Table:
    """Thickness and intensity of as many images; DataError unless rows are in their order."""
    table = read_table(file, ["thickness", "intensity"], ["index"])
    _check_count(file, len(table), images)
    if "index" in table.columns:
        displaced = number_tensor(table, ["index"])[:, 0] != torch.arange(images)
        if displaced.any():
            place = int(displaced.nonzero()[0])
            problem = f"it should be {place}: put the rows in the order of the images."
            raise table.error(place, "index", problem)
    return table


def _check_factors(graph: CausalGraph) -> None:
    for factor in graph.factors:
        if KINDS.get(factor.name) != factor.kind:
            known = ", ".join(f"{name} ({kind})" for name, kind in KINDS.items())
            raise GraphError(
                f"Factor '{factor.name}' is {factor.kind}, where Morpho-MNIST has {known}: "
                "correct the graph."
            )
    if lacking := {"thickness", "intensity"} - set(graph.names):
        raise GraphError(f"The graph lacks '{min(lacking)}', which Morpho-MNIST has: add it.")
