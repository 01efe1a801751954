"""How a card computes, and what is said when it runs out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from diffcf.io import SettingsError

GIB = 2**30


class CardSettings(Callback):
    """Settings of training on a card; nothing on the processor.

    Args:
        tf32: whether a CUDA card may round the factors of single-precision products to 10 bits
            while training, which its tensor cores need; tests and answers stay exact, and bf16
            and 16-bit products are as they are.

    Attributes:
        shortage: one sentence about the memory that a step lacked, once it did.
    """

    def __init__(self, tf32: bool = True) -> None:
        self.tf32 = tf32
        self.shortage: str | None = None
        self._before: tuple[str, bool] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and self.tf32 and trainer.strategy.root_device.type == "cuda":
            self._before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._before is not None:
            torch.set_float32_matmul_precision(self._before[0])
            torch.backends.cudnn.allow_tf32 = self._before[1]
            self._before = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, torch.OutOfMemoryError):
            data = trainer.datamodule  # type: ignore[attr-defined]
            setting = "batch_size" if trainer.training else "eval_batch_size"
            size = getattr(data, setting, None)
            self.shortage = shortage(setting, size, trainer.strategy.root_device)


@contextmanager
def memory_errors(trainer: Trainer) -> Iterator[None]:
    """A card that runs out of memory is one sentence of its :class:`CardSettings`.

    Raises:
        SettingsError: for torch.OutOfMemoryError.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        said = (c.shortage for c in callbacks if isinstance(c, CardSettings) and c.shortage)
        raise SettingsError(
            next(said, None) or shortage("batch_size", None, trainer.strategy.root_device)
        ) from error


def shortage(setting: str, size: int | None, device: torch.device) -> str:
    """The sentence for a step with ``size`` images (the data's ``setting``) that did not fit."""
    used = ""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        peak = torch.cuda.max_memory_allocated(device)
        used = f" ({peak / GIB:.1f} of {total / GIB:.1f} GiB were in use)"
    if size is None or size < 2:
        return (
            f"{device} has too little memory for a step{used}: take a smaller batch, image_size or "
            "network, or a card with more."
        )
    remedy = f"try --data.{setting} {size // 2}, half of it, which is an estimate"
    if setting == "batch_size":
        remedy += ", with --trainer.accumulate_grad_batches 2 for the same images in a step"
    return f"{device} has too little memory for {setting} {size}{used}: {remedy}."
