"""What nobody can learn from a dataset's training images, in sentences for ``diffcf data``."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from diffcf.causal import (
    CausalGraph,
    Ties,
    find_functions,
    find_ties,
    find_unseen,
    intervened_of,
)
from diffcf.methods import find_hints
from diffcf.training import FactorData

SHOWN = 8  # combinations that are listed one by one
REMEDY = (
    "give a hint where in the picture one of them is written, or a few images in which somebody "
    "set one (rows that say so in a column 'intervened')"
)


def limits(module: FactorData) -> Iterator[str]:
    """Sentences without a full stop, the gravest first: those that warn begin with ``Warning``."""
    graph, factors, intervened = module.graph, module.factors_of("train"), intervened_of(module)
    for problem in absent_values(graph, factors):
        yield f"Warning: {problem}"
    ties = find_ties(graph, factors, intervened)
    for problem in _tied(graph, ties):
        yield f"Warning: {problem}"
    for found in (find_hints(graph, module) or (None, []))[1]:
        if found.places:
            yield f"Note: {found}: hints auto of the model has answers heed it"
        else:
            alone = _dos([*found.tie.names])
            yield f"Warning: {found}: {alone} may be drawn wrongly; {REMEDY}"
    for function in find_functions(graph, factors, intervened, ties):
        *others, last = function.causes
        causes = f"{', '.join(others)} and {last}" if others else last
        exactly = f"to {function.error:.2g} of its range" if function.error else "exactly"
        yield (
            f"Note: {function.effect} follows from {causes} in every training image ({exactly}), "
            f"so that do({function.effect}) breaks what they never break: only composites (region "
            "mixing) or images in which it was set teach it, and without either answers keep the "
            "factual there"
        )
    unseen = find_unseen(graph, factors, ties)
    for each in unseen[:SHOWN]:
        pairs = zip(each.factors, each.values, strict=True)
        having = " with ".join(_having(graph, name, value) for name, value in pairs)
        yield f"Note: no training image has {having} (by chance {each.expected:.0f} would)"
    if len(unseen) > SHOWN:
        yield f"Note: {len(unseen) - SHOWN} more pairs of values are in no training image"


def known_labels(column: Tensor) -> Tensor:
    """The labels ``[N]`` of a factor that are there: not NaN."""
    return column[~column.isnan()]


def absent_values(graph: CausalGraph, factors: Tensor) -> Iterator[str]:
    """Constant factors, and categories without a row, of training rows ``[N, K]``."""
    for factor, column in zip(graph.factors, factors.T, strict=True):
        labels = known_labels(column)
        if factor.categories:
            found = set(factor.category(labels).tolist())
            lacking = [name for k, name in enumerate(factor.categories) if k not in found]
            if lacking:
                yield f"no training image has {factor.name} = {', '.join(lacking)}"
        elif (labels == labels[0]).all():
            value = factor.text(float(labels[0]))
            yield f"{factor.name} is {value} in all training images: its effects cannot be learned"


def _tied(graph: CausalGraph, ties: Ties) -> Iterator[str]:
    for tie in ties.all:
        alone = [name for name in tie.names if tie.other(name) not in graph.descendants(name)]
        taught = [name for name in tie.names if name not in alone]
        text = (
            f"{tie.first} and {tie.second} determine each other in every training image, which "
            "leaves open which of the names is which part of the picture: "
            f"{_dos(alone)} is undetermined, and answers keep the factual there"
        )
        if taught:
            text += f" ({_dos(taught)}, which moves both, is taught)"
        yield f"{text}; {REMEDY}"


def _dos(names: list[str]) -> str:
    return " or ".join(f"do({name})" for name in names) + (" alone" if len(names) > 1 else "")


def _having(graph: CausalGraph, name: str, value: str) -> str:
    return (
        f"{name} {value}" if graph.factors[graph.column(name)].continuous else f"{name} = {value}"
    )
