"""Noticing that a training diverged, without making the host wait at every step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from diffcf.io import DivergenceError

EVERY = 16  # steps between two looks


class DivergenceWatch:
    """Remembers, on the device, the first step at which each loss term was not finite.

    The host looks at every :data:`EVERY` th step, and whenever :meth:`check` is called.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._first = torch.empty(0)  # step of each term, -1 while it is finite
        self._value = torch.empty(0)  # what it was then
        self._unseen = 0

    def see(self, terms: Mapping[str, Tensor], step: int) -> None:
        """Look at the terms (scalars) of a step; DivergenceError as of :meth:`check`."""
        values = torch.stack([value.detach().float() for value in terms.values()])
        if self._names != tuple(terms) or self._first.device != values.device:
            self.check()
            self._names = tuple(terms)
            self._first, self._value = torch.full_like(values, -1.0), values
        broke = ~values.isfinite() & (self._first < 0)
        self._first = self._first.masked_fill(broke, float(step))
        self._value = torch.where(broke, values, self._value)
        self._unseen += 1
        if self._unseen >= EVERY:
            self.check()

    def check(self) -> None:
        """DivergenceError when a term was not finite, naming the first and its step."""
        if not self._unseen:
            return
        self._unseen = 0
        first = self._first.tolist()
        broken = [k for k, step in enumerate(first) if step >= 0]
        if broken:
            k = min(broken, key=first.__getitem__)
            raise DivergenceError(
                f"Loss term '{self._names[k]}' is {float(self._value[k])} at step {first[k]:.0f}: "
                "lower learning_rate, or look at the batch."
            )
