"""What a counterfactual costs: parameters, network evaluations, seconds and memory.

Measured at the start of a test, before anything else has used memory, on a few test images whose
factors are given: one abduction and one prediction of the first factor in causal order, set to the
value that the next image has.
"""

from __future__ import annotations

import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from itertools import chain
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from diffcf.causal import CausalGraph, Intervention
from diffcf.io import device_name, work
from diffcf.methods import Method

IMAGES = 32  # at most, that a test takes to measure cost
RUNS, COUNTED = 3, 4


@dataclass(frozen=True)
class Cost:
    """What one counterfactual costs, for images answered ``images`` at a time.

    Attributes:
        parameters: of all networks of the method, those that only training needs included.
        abduction, prediction, guidance: images that pass through the method's networks; those that
            pass with gradients are guidance.
        abduction_seconds, prediction_seconds: of the median of three runs; by the wall on a card,
            of all threads together on a processor.
        memory: peak in MiB, see :func:`peak_memory`.
        device: the card, or the processor and its threads.
        threads: of torch on the processor.
    """

    parameters: int
    abduction: float
    prediction: float
    guidance: float
    abduction_seconds: float
    prediction_seconds: float
    memory: float
    images: int
    device: str
    threads: int

    def metrics(self) -> dict[str, float]:
        """Numbers by key, as ``metrics.json`` has them."""
        return {
            "cost/parameters": float(self.parameters),
            "cost/evaluations": self.abduction + self.prediction,
            "cost/evaluations/abduction": self.abduction,
            "cost/evaluations/prediction": self.prediction,
            "cost/evaluations/guidance": self.guidance,
            "cost/seconds": self.abduction_seconds + self.prediction_seconds,
            "cost/seconds/abduction": self.abduction_seconds,
            "cost/seconds/prediction": self.prediction_seconds,
            "cost/memory": self.memory,
        }


@torch.no_grad()
def measure_cost(
    method: Method,
    networks: Iterable[tuple[str, nn.Module]],
    graph: CausalGraph,
    image: Tensor,
    factors: Tensor,
) -> Cost:
    """Predict for the first images once, to warm up and to count, then for all, three times timed.

    Random generators are left as they were. In a distributed run every process has to call it:
    networks may be spread over processes.

    Args:
        method: what is measured.
        networks: its networks by name (:meth:`CounterfactualModule.networks`).
        graph: the causal graph.
        image: ``[B, C, H, W]`` in [-1, 1], on the device to measure.
        factors: ``[B, K]`` in [0, 1] units.
    """
    networks = list(networks)
    device, count = image.device, len(image)
    mask = torch.zeros_like(factors, dtype=torch.bool)
    mask[:, graph.column(graph.order[0])] = True
    do = Intervention(torch.where(mask, factors.roll(1, 0), 0.0), mask)
    cards = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(cards):
        abduction, prediction, guidance = _evaluations(method, networks, image, factors, do)
        runs = [_seconds(method, image, factors, do) for _ in range(RUNS)]
    abduction_seconds, prediction_seconds = sorted(runs, key=sum)[RUNS // 2]
    return Cost(
        parameters=sum(p.numel() for _, network in networks for p in network.parameters()),
        abduction=abduction,
        prediction=prediction,
        guidance=guidance,
        abduction_seconds=abduction_seconds / count,
        prediction_seconds=prediction_seconds / count,
        memory=peak_memory(device),
        images=count,
        device=device_name(device),
        threads=torch.get_num_threads(),
    )


def _evaluations(
    method: Method,
    networks: Iterable[tuple[str, nn.Module]],
    image: Tensor,
    factors: Tensor,
    do: Intervention,
) -> tuple[float, float, float]:
    """Evaluations of abduction, prediction and guidance, by the first few of the images."""
    few = min(COUNTED, len(image))
    with EvaluationCounter(networks) as counter:
        world = method.abduct(image[:few], factors[:few])
        abduction, guided = counter.take()
        world.predict(do.rows(slice(few)))
        prediction, more = counter.take()
    return abduction / few, prediction / few, (guided + more) / few


def peak_memory(device: torch.device) -> float:
    """MiB that this process has held at most so far.

    On a CUDA card, what torch has allocated on it. Elsewhere the resident set of the whole process
    (``ru_maxrss``), with libraries, data and a training that went before in the same process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # there bytes, here KiB


class EvaluationCounter:
    """A context that counts the images that pass through networks.

    A call counts as many images as the first four-dimensional tensor among its arguments, or else
    its results, has rows; calls without one (of causal mechanisms) count nothing. A network of
    which another method than ``forward`` is called counts as often as its most used layer. Calls
    with gradients switched on are guidance: all else runs without.
    """

    def __init__(self, networks: Iterable[tuple[str, nn.Module]]) -> None:
        self._networks = [network for _, network in networks]
        self._depth: Counter[nn.Module] = Counter()
        self._images: dict[tuple[nn.Module, bool], Counter[nn.Module]] = {}
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for network in self._networks:
            self._hooks.append(network.register_forward_pre_hook(self._enter))
            for layer in network.modules():
                if layer is network or next(layer.parameters(recurse=False), None) is not None:
                    hook = self._counted(network)
                    self._hooks.append(layer.register_forward_hook(hook, with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def take(self) -> tuple[int, int]:
        """Images without and with gradients since the last time."""
        totals = [0, 0]
        for (network, guides), images in self._images.items():
            whole = images.pop(network, 0)
            totals[guides] += whole + max(images.values(), default=0)
        self._images.clear()
        return totals[0], totals[1]

    def _enter(self, network: nn.Module, _: object) -> None:
        self._depth[network] += 1

    def _counted(self, network: nn.Module) -> Callable[..., None]:
        def count(layer: nn.Module, args: object, kwargs: object, output: object) -> None:
            if layer is network:
                self._depth[network] -= 1
            if self._depth[network] == 0:  # within a forward, the layers are part of that call
                calls = self._images.setdefault((network, torch.is_grad_enabled()), Counter())
                tensors = _tensors((args, kwargs, output))
                calls[layer] += next((len(x) for x in tensors if x.dim() == 4), 0)

        return count


def _tensors(value: object) -> Iterator[Tensor]:
    """All tensors in nested tuples, mappings and dataclasses, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        yield from chain.from_iterable(map(_tensors, value))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _tensors(vars(value))


def _seconds(
    method: Method, image: Tensor, factors: Tensor, do: Intervention
) -> tuple[float, float]:
    """Seconds of abduction and of prediction."""
    started = work(image.device)
    world = method.abduct(image, factors)
    abducted = work(image.device)
    world.predict(do)
    return abducted - started, work(image.device) - abducted
