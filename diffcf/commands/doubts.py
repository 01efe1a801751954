"""What answers say that the data do not teach, and the warnings about it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from diffcf.api import Model
from diffcf.causal import extrapolation
from diffcf.methods import DiffusionCounterfactuals

Entries = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""Of an image, or in a sweep one for each value."""


class Doubts:
    """Names of the factors that any answer marks, for the warnings at the end."""

    def __init__(self) -> None:
        self.undetermined: set[str] = set()
        self.extrapolated: set[str] = set()

    def noting(self, rows: Iterable[tuple[str, Entries]]) -> Iterator[tuple[str, Entries]]:
        """The rows themselves, of which what they mark is noted."""
        for name, entry in rows:
            for each in [entry] if isinstance(entry, Mapping) else entry:
                self.undetermined.update(each["undetermined"])
                self.extrapolated.update(each.get("extrapolated", ()))
            yield name, entry

    def warn(self, model: Model) -> None:
        """Say which changes the data do not teach, and what the images show instead."""
        ties, names = model.module.ties, model.graph.names
        for name in names:
            if ties is not None and name in self.undetermined:
                print(f"Warning: {ties.sentence(name)}", file=sys.stderr)
        ours = isinstance(model.module, DiffusionCounterfactuals)
        if self.undetermined and ours and model.sampling.undetermined == "keep":
            kept = (
                "The images keep what the factual shows of it; --undetermined draw draws it anyway."
            )
            print(kept, file=sys.stderr)
        for name in names:
            if name in self.extrapolated:
                print(f"Warning: {extrapolation(model.graph, name)}", file=sys.stderr)
