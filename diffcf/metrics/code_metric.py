"""The base of metrics of a code: it keeps codes and factors of all images until the end."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from diffcf.graph import CausalGraph

__all__ = ["CodeMetric", "check_finite"]

UNKNOWN = -1


class CodeMetric(Metric):
    """Keeps codes and factors, every image once and in the order of the images.

    So neither batches nor processes can be told from the result. Here an image is not a number, so
    there is no mean over images, and no bootstrap interval.

    Args:
        graph: names the factors and tells discrete ones.
        codes: how many numbers a code has; None for as many as there are factors.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    codes: list[Tensor]
    factors: list[Tensor]
    index: list[Tensor]

    def __init__(self, graph: CausalGraph, codes: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.graph = graph
        self.width = len(graph) if codes is None else codes
        for name in ("codes", "factors", "index"):
            self.add_state(name, [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        # No list stays empty: a process that saw no image must still take part in the gathering.
        none = torch.zeros(0, device=self.device)
        self._append(none.view(0, self.width), none.view(0, len(self.graph)), none)

    def update(self, codes: Tensor, factors: Tensor, index: Tensor | None = None) -> None:
        """Add images.

        Args:
            codes: ``[B, E]``.
            factors: what is observed of the images, ``[B, K]`` in [0, 1] units.
            index: which image each row is of, ``[B]``; an image that comes again counts once.
                Without it every row is an image of its own.

        Raises:
            ValueError: for shapes that do not fit, and values that are not finite.
        """
        name, count = type(self).__name__, len(codes)
        if codes.shape != (count, self.width) or factors.shape != (count, len(self.graph)):
            raise ValueError(
                f"{name} takes codes [B, {self.width}] and factors [B, {len(self.graph)}], got "
                f"{list(codes.shape)} and {list(factors.shape)}."
            )
        check_finite(codes, factors, name)
        if index is None:
            index = torch.full((count,), UNKNOWN, device=codes.device)
        self._append(codes, factors, index.to(codes.device))

    def compute(self) -> dict[str, Tensor]:
        """Results by name.

        Raises:
            ValueError: without any image, and as the functional form does.
        """
        index = dim_zero_cat(self.index)
        if len(index) == 0:
            raise ValueError(
                f"{type(self).__name__} has seen no image: update it before computing."
            )
        # Rows of unknown images are told apart by numbers that no known image has.
        unknown = index == UNKNOWN
        fresh = int(index.max()) + 1 + torch.arange(int(unknown.sum()), device=index.device)
        index = index.masked_scatter(unknown, fresh)
        order = index.argsort(stable=True)
        kept = order[torch.cat([index.new_ones(1), index[order].diff()]) != 0]
        measured = self._measured(dim_zero_cat(self.codes)[kept], dim_zero_cat(self.factors)[kept])
        return {name: torch.tensor(value, device=self.device) for name, value in measured.items()}

    def _append(self, codes: Tensor, factors: Tensor, index: Tensor) -> None:
        self.codes.append(codes.detach().float())
        self.factors.append(factors.detach().float())
        self.index.append(index.long())

    @abstractmethod
    def _measured(self, codes: Tensor, factors: Tensor) -> dict[str, float]:
        """Results by name of codes ``[N, E]`` and factors ``[N, K]``."""


def check_finite(codes: Tensor, factors: Tensor, name: str) -> None:
    for what, values in (("code", codes), ("factor", factors)):
        if not torch.isfinite(values).all():
            raise ValueError(f"{name} met a {what} that is NaN or infinite: find out whence.")
