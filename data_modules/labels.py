"""Labels that are missing: hidden on purpose, and what no dataset may lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from diffcf.causal import CausalGraph
from diffcf.io import DataError, SettingsError


def checked_labels(labels: float) -> float:
    """``labels`` itself; SettingsError unless it is a share in (0, 1]."""
    if not 0 < labels <= 1:
        raise SettingsError(
            f"labels is the share of the training images that keep their labels, in (0, 1], not "
            f"{labels}."
        )
    return labels


def checked_share(name: str, share: float) -> float:
    """``share`` of an epoch, of this ``name``; SettingsError unless it lies in [0, 1)."""
    if not 0 <= share < 1:
        raise SettingsError(f"{name} must lie in [0, 1), not {share}.")
    return share


def hide_labels(factors: Tensor, rows: Tensor, share: float, generator: Generator) -> Tensor:
    """Factors ``[N, K]``, of ``rows`` all NaN but for a random ``share`` of them, one at least."""
    order = rows[torch.randperm(len(rows), generator=generator)]
    factors = factors.clone()
    factors[order[max(1, round(share * len(rows))) :]] = torch.nan
    return factors


def check_labels(
    graph: CausalGraph,
    factors: Tensor,
    split: Mapping[str, Tensor],
    origin: Sequence[str] | None = None,
) -> None:
    """DataError for a factor without a label in training, or a label that a score would need.

    ``factors`` ``[N, K]`` are NaN where a label is missing; ``origin`` says where each row stands.
    """
    for stage in ("val", "test"):
        lacking = factors[split[stage]].isnan().nonzero()
        if len(lacking):
            place, column = lacking[0].tolist()
            row = int(split[stage][place])
            where = f"row {row}" if origin is None else origin[row]
            raise DataError(
                f"The label of '{graph.names[column]}' is missing in {where}, which is for "
                f"{stage}: fill it in, or give the row to training, for scores need every label."
            )
    for name, column in zip(graph.names, factors[split["train"]].unbind(1), strict=True):
        if column.isnan().all():
            raise DataError(
                f"Factor '{name}' has no label in the training part: fill in some, or take the "
                "factor out of the graph."
            )
