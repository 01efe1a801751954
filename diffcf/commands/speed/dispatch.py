"""What a step asks of the device: operations dispatched, and those for which the host would wait.

On a card, each operation that torch dispatches is a launch that the host has to make, and small
ones take longer to launch than to run. Where the host needs a result (a number, or a size that
depends on data), or copies to or from the card in step with it, it waits until the card has done
all that was asked before. Both can be counted without a card: on the device "meta", which computes
nothing, a copy from the host shows as what it is.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diffcf.causal import Do
from diffcf.commands.speed import Row, first_set
from diffcf.commands.speed.training import train
from diffcf.methods import CounterfactualModule, DiffusionCounterfactuals, Sampling
from diffcf.training import FactorData, ForeachEMA

_WAITING = """_local_scalar_dense bincount equal is_nonzero masked_select nonzero nonzero_numpy
unique_consecutive unique_dim _unique2"""
_VIEWS = """_reshape_alias _unsafe_view alias as_strided detach diagonal empty empty_like
empty_strided expand lift_fresh new_empty permute reshape select slice split split_with_sizes
squeeze t transpose unbind unsqueeze view"""
WAITING = frozenset(f"aten.{name}" for name in _WAITING.split())
"""Operations whose result the host needs: numbers, and sizes that depend on values."""
VIEWS = frozenset(f"aten.{name}" for name in _VIEWS.split())
"""Operations that launch nothing: another view of the same memory, or memory not yet written."""
_INDEXING = ("aten.index", "aten.index_put", "aten.index_put_", "aten._index_put_impl_")
_HERE = Path(__file__).parents[2]


class Dispatched(TorchDispatchMode):
    """Counts what is dispatched while it is entered.

    Args:
        device: kind of the device that is not to be waited for; "cpu" stands for any.

    Attributes:
        counts: of each operation, by name.
        waits: of each operation for which a host would wait, by name and the line of diffcf that
            asked for it.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.device = device
        self.counts: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name, kwargs = str(func.overloadpacket), dict(kwargs or {})
        self.counts[name] += 1
        if self._waits(name, args, kwargs):
            self.waits[f"{name} at {_asked_by()}"] += 1
        return func(*args, **kwargs)

    @property
    def total(self) -> int:
        """All operations, views among them."""
        return self.counts.total()

    @property
    def launches(self) -> int:
        """Those that compute or copy: about what a card has to run."""
        return sum(count for name, count in self.counts.items() if name not in VIEWS)

    def _waits(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        if name in WAITING:
            return bool(args[0].device.type == self.device)
        if name in _INDEXING:  # by a mask, or by numbers that first have to be copied to the device
            indices = [index for index in args[1] if index is not None]
            return any(i.dtype is torch.bool or i.device != args[0].device for i in indices)
        if name == "aten._to_copy":
            target = kwargs.get("device") or args[0].device
            return _differ(args[0].device, target) and not kwargs.get("non_blocking", False)
        if name == "aten.copy_":
            waiting = not (kwargs.get("non_blocking", False) or any(args[2:]))
            return waiting and _differ(args[0].device, args[1].device)
        return False


def _differ(source: torch.device, target: torch.device | str) -> bool:
    return source.type != torch.device(target).type


def _asked_by() -> str:
    """The innermost line of the framework on the stack; of a library where none of ours is."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
    ours = [frame for frame in frames if _HERE in Path(frame.filename).parents]
    called = [
        frame for frame in frames if f"{Path(torch.__file__).parent}/utils" not in frame.filename
    ]
    frame = (ours or called)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def in_step(
    model: CounterfactualModule, data: FactorData, callbacks: Sequence[Callback] = (), step: int = 3
) -> Dispatched:
    """What the training step ``step`` (from 0) dispatches under Lightning on a CPU.

    From the start of one batch to the start of the next: loss, gradients, clipping, optimiser,
    averages (``callbacks``), logging and the next batch.
    """
    seen, started = Dispatched(), -1

    def at_batch(*_: Any) -> None:
        nonlocal started
        started += 1
        if started == step:
            seen.__enter__()
        elif started == step + 1:
            seen.__exit__(None, None, None)

    watch = LambdaCallback(on_train_batch_start=at_batch)
    train(model, data, step + 2, [watch, *callbacks], accelerator="cpu")
    return seen


def step_on_meta(model: DiffusionCounterfactuals, image: Tensor, factors: Tensor) -> Dispatched:
    """A training step of a copy of the model on the meta device, for batches of this shape.

    Loss, gradients, clipping and optimiser; what it computes from values fails there.
    """
    copy = deepcopy(model).to("meta").train()
    optimizer = copy.optimizer(fused=False)
    for group in optimizer.param_groups:
        group["foreach"] = True  # as on a card
    batch = image.to("meta"), factors.to("meta")
    with Dispatched("meta") as seen:
        terms = copy.losses(*batch)
        copy.watch.see(terms, step=0)
        copy.total(terms).backward()
        copy.on_before_optimizer_step(optimizer)
        optimizer.step()
    return seen


def answer_on_meta(
    model: DiffusionCounterfactuals,
    sampling: Sampling,
    image: Tensor,
    do: Do,
    factors: Tensor | None = None,
) -> Dispatched:
    """A counterfactual, from abduction on, of a copy of the model on the meta device."""
    method = deepcopy(model).to("meta").eval().method(sampling)
    image, factors = image.to("meta"), None if factors is None else factors.to("meta")
    with Dispatched("meta") as seen:
        method.abduct(image, factors).predict(do)
    return seen


def operations(
    model: DiffusionCounterfactuals,
    image: Tensor,
    factors: Tensor,
    sampling: Sampling,
    data: FactorData,
) -> list[Row]:
    """What a training step and a counterfactual dispatch, and what a host would wait for."""
    step = in_step(deepcopy(model).cpu(), data, [ForeachEMA()])
    do = {name: float(value) for name, value in first_set(model.graph, torch.tensor([0.7])).items()}
    answer = answer_on_meta(model, sampling, image, do)
    seen = model.seen({"image": image})
    waits = step_on_meta(model, seen, factors).waits, answer.waits
    return [
        Row("operations dispatched, a training step", step.total, "", target="≤ 1500"),
        Row("of them no mere views", step.launches, ""),
        Row("that a host would wait for", waits[0].total(), "", target="0"),
        Row("operations dispatched, a batch of counterfactuals", answer.total, ""),
        Row("of them no mere views", answer.launches, ""),
        Row("that a host would wait for", waits[1].total(), "", target="0"),
    ]
