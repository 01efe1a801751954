"""Which counterfactuals to add to training images: so that groups balance, or at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Generator, Tensor

from diffcf.causal import CausalGraph, Intervention, uniform_factors
from diffcf.evaluation import Strata
from diffcf.io import DataError, SettingsError


@dataclass(frozen=True)
class Additions:
    """M counterfactuals: of which images ``[M]``, and what is set, ``[M, K]``."""

    source: Tensor
    do: Intervention


def balanced_columns(graph: CausalGraph, names: Sequence[str]) -> list[int]:
    """Columns of factors; GraphError for a name that is none's, SettingsError for one twice."""
    columns = [graph.column(name) for name in names]
    if len(set(columns)) < len(columns):
        raise SettingsError(f"--balance {','.join(names)} names a factor twice: name it once.")
    return columns


def balanced(
    graph: CausalGraph, factors: Tensor, names: Sequence[str], generator: Generator
) -> Additions:
    """Counterfactuals that make all combinations of some factors' groups equally frequent.

    A discrete factor's groups are its levels, a number's the terciles of the images. Each
    combination is brought to the size of the largest one by images of others, drawn at random and
    equally often, in all of which all these factors are set: a discrete one to its level, a number
    to the value of some image of the tercile.

    Args:
        graph: the factors.
        factors: of the images, ``[N, K]`` in [0, 1] units. One in which a factor to balance is NaN
            neither counts nor is a source.
        names: of the factors to balance.
        generator: of all that is drawn.

    Raises:
        GraphError, SettingsError: see :func:`balanced_columns`.
        DataError: where no image has labels of all of them.
    """
    columns = balanced_columns(graph, names)
    known = (~factors[:, columns].isnan().any(dim=1)).nonzero()[:, 0]
    if not len(known):
        raise DataError(f"No training image has labels of {', '.join(names)}: balance others.")
    labelled = factors[known]
    strata = [Strata.of(graph, labelled, name) for name in names]
    groups = torch.stack([each.group for each in strata], dim=1)
    cells = [
        (groups == torch.tensor(cell)).all(dim=1)
        for cell in product(*(range(len(each.labels)) for each in strata))
    ]
    most = max(int(cell.sum()) for cell in cells)
    sources, values = [], []
    for cell, wanted in zip(cells, product(*(range(len(s.labels)) for s in strata)), strict=True):
        lacking, others = most - int(cell.sum()), known[~cell]
        if not lacking:
            continue
        sources.append(_drawn(others, lacking, generator))
        made = torch.zeros(lacking, len(graph))
        for column, group, each in zip(columns, wanted, strata, strict=True):
            own = labelled[each.group == group, column]
            if not len(own):  # of a discrete factor alone: a tercile has an image
                own = torch.tensor([group / (len(each.labels) - 1)])
            made[:, column] = _drawn(own, lacking, generator)
        values.append(made)
    mask = torch.zeros(len(graph), dtype=torch.bool)
    mask[columns] = True
    made = torch.cat([torch.zeros(0, len(graph)), *values])
    source = torch.cat([torch.zeros(0, dtype=torch.long), *sources])
    return Additions(source, Intervention(made, mask.expand(made.shape)))


def at_random(graph: CausalGraph, count: int, times: int, generator: Generator) -> Additions:
    """``times`` counterfactuals of each of ``count`` images, in each of which one factor is set.

    Every factor is set equally often, to a value that is uniform over its range or its levels.
    """
    source = torch.arange(count).repeat_interleave(times)
    # Which factor comes first is drawn for each image, so that all have a share of every one.
    start = torch.randint(len(graph), (count,), generator=generator).repeat_interleave(times)
    column = (start + torch.arange(times).repeat(count)) % len(graph)
    values = uniform_factors(graph, len(source), generator)
    return Additions(source, Intervention(values, column[:, None] == torch.arange(len(graph))))


def _drawn(values: Tensor, count: int, generator: Generator) -> Tensor:
    """``count`` of ``values`` ``[N]`` in random order, each as often as another, but for one."""
    rounds = -(-count // len(values))
    order = [torch.randperm(len(values), generator=generator) for _ in range(rounds)]
    return values[torch.cat(order)[:count]]
