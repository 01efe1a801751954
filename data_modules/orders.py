"""In which order training sees its images: shuffled anew in each epoch, some of them more often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor
from torch.utils.data.distributed import DistributedSampler


class ShuffledOrder(DistributedSampler[int]):
    """A new order every epoch, a function of seed and epoch alone, shared among the processes.

    So a resumed run meets the images that the unbroken run would have met, and P processes with
    batches of B see at every step what one process sees with batches of P · B: the ``length``
    images of an epoch are dealt out like cards, an equal number to each process.
    """

    def __init__(self, length: int, seed: int, processes: int = 1, rank: int = 0) -> None:
        self.length, self.seed, self.epoch = length, seed, 0
        self.num_replicas, self.rank = processes, rank
        self.skip = 0  # images of the first epoch that were seen before the run was cut short
        self._first: int | None = None
        self._ahead = 0

    def go_on(self, epoch: int, skip: int) -> None:
        """Begin with that epoch, without its first ``skip`` images, whatever epoch is set next.

        Lightning counts an epoch too few in a run that was resumed where an epoch ended.
        """
        self.epoch = self._first = epoch
        self.skip = skip

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning."""
        if self._first is not None:
            self._ahead, self._first = self._first - epoch, None
        self.epoch = epoch + self._ahead

    def __len__(self) -> int:
        return self.length // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        generator = Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        skip, self.skip = self.skip, 0
        whole = len(self) * self.num_replicas
        order = self._drawn(generator)[skip:whole]
        # In parts: a list of all numbers would take several times the memory of the tensor.
        for part in order[self.rank :: self.num_replicas].split(4096):
            yield from part.tolist()

    def _drawn(self, generator: Generator) -> Tensor:
        """The items of an epoch, ``[length]``."""
        return torch.randperm(self.length, generator=generator)


class RaisedOrder(ShuffledOrder):
    """An order in which some groups of items make up a share of every epoch, at least.

    All others come once in an epoch. The items of a group come equally often, give or take once,
    and so often that they are its share of the epoch; once, where they are more than that anyway.

    Args:
        groups: of each ``[N]`` bool, some of the N items, and its share. No item is in two groups,
            and the shares come to less than 1.
        seed, processes, rank: see :class:`ShuffledOrder`.
    """

    def __init__(
        self, groups: Sequence[tuple[Tensor, float]], seed: int, processes: int = 1, rank: int = 0
    ) -> None:
        together = torch.stack([items for items, _ in groups]).any(dim=0)
        self._others = (~together).nonzero()[:, 0]
        unit = len(self._others) / (1 - sum(share for _, share in groups))
        self._groups = [
            (chosen, max(round(unit * share), len(chosen)))
            for chosen, share in ((items.nonzero()[:, 0], share) for items, share in groups)
        ]
        length = len(self._others) + sum(count for _, count in self._groups)
        super().__init__(length, seed, processes, rank)

    def _drawn(self, generator: Generator) -> Tensor:
        parts = [self._others]
        for chosen, count in self._groups:
            parts.append(chosen[repeated(len(chosen), count, generator)])
        items = torch.cat(parts)
        return items[torch.randperm(len(items), generator=generator)]


def repeated(count: int, draws: int, generator: Generator) -> Tensor:
    """``draws`` of the numbers 0 … ``count`` - 1, in random order, each as often as another."""
    rounds = -(-draws // count)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)])[:draws]
