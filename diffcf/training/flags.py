"""Flags of Lightning's Trainer: those that contradict a config give way, or are refused at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import (
    Checkpoint,
    DeviceStatsMonitor,
    LearningRateMonitor,
    ModelSummary,
)
from lightning.pytorch.callbacks import ProgressBar as AnyProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from diffcf.io import CheckpointError, DiffcfError, SettingsError, class_at
from diffcf.methods import WEIGHTS_SUFFIX, read_checkpoint
from diffcf.training.folders import parts

LONGEST = 500  # characters of a cited error
PRECISIONS = ("32", "32-true", "16", "16-mixed", "bf16", "bf16-mixed")
"""Weights stay in 32 bits; "16" and "bf16" are older names of the mixed ones."""
FAULTS = (NameError, AttributeError, AssertionError, NotImplementedError)
"""Errors of a program, which no setting causes: they keep their traceback."""
KEYWORDS = ("best", "hpc", "registry")
"""What Lightning takes for a ``ckpt_path`` besides paths, and we do not."""


def settle_flags(config: Namespace, command: str | None) -> None:
    """Fit the parsed config of LightningCLI to its trainer's flags.

    Callbacks that a flag rules out are left out. Guidance needs gradients, which
    ``inference_mode`` cannot give back, so that it is off whatever the config says.

    Raises:
        SettingsError: for flags that this program cannot follow.
    """
    trainer = config.trainer
    trainer.inference_mode = False
    check_card(trainer.accelerator)
    if config.get("precision") == "auto":
        trainer.precision = "bf16-mixed" if has_bf16(trainer.accelerator) else "32-true"
    ruled_out = tuple(_ruled_out(trainer))
    if trainer.callbacks is not None:
        trainer.callbacks = [
            part
            for part in parts(trainer.callbacks)
            if not issubclass(class_at(part.class_path, object), ruled_out)
        ]
    if trainer.precision is not None and str(trainer.precision) not in PRECISIONS:
        raise SettingsError(
            f"precision {trainer.precision} is not for these networks, which read factors and "
            "abduct noise in single precision: take 32-true, bf16-mixed or 16-mixed."
        )
    if trainer.accumulate_grad_batches < 1:
        raise SettingsError(
            f"accumulate_grad_batches must be at least 1, not {trainer.accumulate_grad_batches}."
        )
    if trainer.barebones:
        raise SettingsError(
            "barebones leaves out the callbacks that train, save and measure here: take "
            "--trainer.fast_dev_run for a quick look, diffcf bench for speed."
        )
    if command == "fit" and _is_nothing(trainer.limit_train_batches):
        raise SettingsError("limit_train_batches 0 trains nothing: give it 1 or more, or a share.")


def check_card(accelerator: object) -> None:
    """SettingsError when the Trainer is to have a card, and there is none."""
    wanted = {"gpu": ("cuda", "mps"), "cuda": ("cuda",), "mps": ("mps",)}.get(str(accelerator), ())
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted and not any(found[kind] for kind in wanted):
        built = "" if torch.version.cuda else ", which is built without CUDA,"
        raise SettingsError(
            f"accelerator {accelerator} needs a card, and torch {torch.__version__}{built} finds "
            "none on this machine: take --trainer.accelerator cpu, or auto."
        )


def has_bf16(accelerator: object) -> bool:
    """Whether what the Trainer will take multiplies bfloat16 in hardware."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator != "cpu" and torch.backends.mps.is_available():
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _ruled_out(trainer: Namespace) -> Iterator[type[Callback]]:
    """Callbacks that the Trainer refuses to have together with its flags."""
    if trainer.enable_progress_bar is False:
        yield AnyProgressBar
    if trainer.enable_model_summary is False:
        yield ModelSummary
    if trainer.enable_checkpointing is False:
        yield Checkpoint
    if trainer.logger is False:
        yield LearningRateMonitor
        yield DeviceStatsMonitor


def _is_nothing(limit: object) -> bool:
    return limit is not None and limit == 0


def checkpoint_path(config: Namespace, command: str) -> Path:
    """The file that ``--ckpt_path`` names; ``last`` is the one of the config's LastCheckpoint.

    Raises:
        CheckpointError: for Lightning's other words, where there is no such file, and for one that
            is not ours or that ``fit`` cannot go on from.
    """
    if not config.ckpt_path:
        raise CheckpointError("--ckpt_path is empty: name a checkpoint, or leave it out.")
    path = Path(config.ckpt_path)
    if str(path) == "last" and not path.exists():
        folders = (part.get("init_args") or {} for part in parts(config.trainer.callbacks))
        found = [a["dirpath"] for a in folders if a.get("dirpath") is not None]
        path = Path(found[-1] if found else config.trainer.default_root_dir or ".") / "last.ckpt"
    if not path.exists():
        if str(path).partition(":")[0] in KEYWORDS:
            raise CheckpointError(
                f"--ckpt_path {path} is not known here, where one checkpoint is kept, the last: "
                "name its path, or 'last'."
            )
        raise CheckpointError(f"Checkpoint {path} does not exist: check the path.")
    if path.suffix == WEIGHTS_SUFFIX:
        if command == "fit":
            problem = "holds weights and no state of a training"
            raise CheckpointError(f"{path} {problem}: name a checkpoint to go on from.")
    elif path.is_file() and "pytorch-lightning_version" not in read_checkpoint(path):
        raise CheckpointError(
            f"{path} holds no state of a training: name a checkpoint that `diffcf fit` wrote."
        )
    return path


@contextmanager
def settings_errors(*, building: bool = False) -> Iterator[None]:
    """Lightning's objections to flags as one sentence; all of a class to its arguments as well.

    Args:
        building: the block only calls constructors, whose errors are about their arguments.
    """
    kinds = (MisconfigurationException, *((ValueError, TypeError, ImportError) * building))
    try:
        yield
    except (DiffcfError, UnicodeDecodeError):
        raise
    except kinds as error:
        causes = list(_causes(error))
        if any(isinstance(cause, FAULTS) for cause in causes):
            raise
        own = (str(cause) for cause in causes if isinstance(cause, DiffcfError))
        raise SettingsError(next(own, None) or _sentence(error)) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _sentence(error: BaseException) -> str:
    """What was wrong, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    # Of a union, jsonargparse says for every kind why it is not that one.
    text = text.partition("Errors: - ")[2].partition(" - Expected a <class")[0] or text
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
    return f"The settings do not work: {text.rstrip('.')}."
