"""The moving average of the weights in a few operations a step, wherever the weights lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class ForeachEMA(EMAWeightAveraging):
    """Lightning's EMAWeightAveraging, whose step takes as many operations as there are lists.

    Lightning's averages one parameter after the other, asks the device at every step whether it
    has begun, and keeps the average on the processor while the weights are on a card. This one
    averages all parameters by one call, asks once, and keeps the average beside the weights.
    Averages are equal to rounding, and either callback goes on from the other's checkpoints.

    Args:
        decay: weight of the old average at each update, in [0, 1].
        use_buffers: whether buffers are averaged as well, instead of copied.
        device: where the average lies; None for where training takes place.
        kwargs: see :class:`lightning.pytorch.callbacks.EMAWeightAveraging`.
    """

    def __init__(
        self,
        decay: float = 0.999,
        use_buffers: bool = True,
        device: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(device=device, use_buffers=use_buffers, decay=decay, **kwargs)
        self.decay = decay

    @property
    def state_key(self) -> str:
        """Lightning's name, under which its own callback and earlier versions keep the state."""
        return EMAWeightAveraging.__qualname__

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None and stage == "fit":
            device = self._device or trainer.strategy.root_device
            average = ForeachAverage(self._average_model.module, self.decay, self._use_buffers)
            self._average_model = average.to(device)


class ForeachAverage(AveragedModel):
    """A running average of modules like ``module``, which it takes over as its own."""

    def __init__(self, module: nn.Module, decay: float, use_buffers: bool) -> None:
        nn.Module.__init__(self)  # the other one's would copy the module again
        self.module, self.decay, self.use_buffers = module, decay, use_buffers
        self.register_buffer("n_averaged", torch.tensor(0, dtype=torch.long))
        self._begun = False  # known without asking the device
        names, kept = [name for name, _ in module.named_buffers()], module.state_dict().keys()
        # Those that no checkpoint holds are constants, and copied once.
        self._varying = [name for name in names if name in kept]
        self._constant = [name for name in names if name not in kept]

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        averages: list[Tensor] = list(self.module.parameters())
        values: list[Tensor] = list(model.parameters())
        copies, originals = (_buffers(part, self._varying) for part in (self.module, model))
        if self.use_buffers:
            averages, values = averages + copies, values + originals
            copies, originals = [], []
        if not self._begun and not int(self.n_averaged):
            copies, originals = copies + averages, originals + values
        else:
            _average(averages, values, self.decay)
        if not self._begun:
            copies = copies + _buffers(self.module, self._constant)
            originals = originals + _buffers(model, self._constant)
        if copies:
            torch._foreach_copy_(copies, originals)
        self.n_averaged += 1
        self._begun = True


def _buffers(module: nn.Module, names: Sequence[str]) -> list[Tensor]:
    return [module.get_buffer(name) for name in names]


def _average(averages: list[Tensor], values: list[Tensor], decay: float) -> None:
    """All floats at once; whole numbers (counts among buffers) are cut, as by Lightning."""
    pairs = [(a, v.to(a.device)) for a, v in zip(averages, values, strict=True)]
    floats = [(a, v) for a, v in pairs if a.is_floating_point()]
    if floats:
        old, new = zip(*floats, strict=True)
        torch._foreach_lerp_(old, new, 1 - decay)
    for average, value in pairs:
        if not average.is_floating_point():
            average.copy_(average * decay + value * (1 - decay))
