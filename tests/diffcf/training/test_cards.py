"""Training on a card, for which the processor stands in: settings, lack of memory, hints."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from small_runs import measure_least, tiny
from torch import Tensor
from torch.utils.data import DataLoader

from diffcf.commands.main import main
from diffcf.io import SettingsError
from diffcf.training import CardSettings, without_hints
from diffcf.training.callbacks.card import memory_errors, shortage
from diffcf.training.flags import check_card
from diffcf.training.hints import LOGGERS

ONE_LINE = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


class Hungry(LightningModule):
    """Runs out of memory in a step of training, or of validation."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage, self.weight = stage, torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self._take("fit")
        return self.weight.sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self._take("validate")

    def _take(self, stage: str) -> None:
        if stage == self.stage:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Sized(LightningDataModule):
    batch_size, eval_batch_size = 512, 96

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(torch.zeros(2, 1))  # type: ignore[arg-type]

    val_dataloader = train_dataloader


@pytest.mark.parametrize(
    "stage, words",
    [
        ("fit", r"batch_size 512: try --data\.batch_size 256, half of it, which is an estimate"),
        ("validate", r"eval_batch_size 96: try --data\.eval_batch_size 48, .* estimate\.$"),
    ],
)
def test_a_step_that_does_not_fit_names_a_batch(stage: str, words: str, tmp_path: Path) -> None:
    trainer = Trainer(
        accelerator="cpu", max_steps=2, num_sanity_val_steps=0, callbacks=[CardSettings()],
        default_root_dir=tmp_path, enable_checkpointing=False, **ONE_LINE,
    )  # fmt: skip
    with pytest.raises(SettingsError, match=words), memory_errors(trainer):
        trainer.fit(Hungry(stage), datamodule=Sized())


def test_a_single_image_that_does_not_fit_is_told_otherwise() -> None:
    assert "smaller batch, image_size or network" in shortage("batch_size", 1, torch.device("cpu"))


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_errors(Trainer(logger=False)):
        raise RuntimeError("shapes do not match")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a card")
def test_a_card_that_is_not_there_is_one_sentence(tmp_path: Path, capsys) -> None:
    command = ["fit", "--config", tiny(tmp_path), "--trainer.accelerator", "gpu"]
    assert main(command) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("diffcf: accelerator gpu needs a card")
    assert said.endswith("take --trainer.accelerator cpu, or auto.")
    with pytest.raises(SettingsError, match="accelerator cuda needs a card"):
        check_card("cuda")
    check_card("auto")


def test_the_processor_computes_as_before(tmp_path: Path) -> None:
    precision = torch.get_float32_matmul_precision()
    settings = CardSettings()
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path, **ONE_LINE)
    settings.setup(trainer, LightningModule(), "fit")
    assert torch.get_float32_matmul_precision() == precision
    settings.teardown(trainer, LightningModule(), "fit")
    assert torch.get_float32_matmul_precision() == precision


# --- hints ---


class Listener(logging.Handler):
    """Keeps what a user would read."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def listener(monkeypatch):
    heard = Listener()
    # Whatever another test of this process, or a library that it loads, did to the loggers.
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)
    for name in LOGGERS:
        said = logging.getLogger(name)
        for attribute, value in (("disabled", False), ("propagate", True), ("level", logging.INFO)):
            monkeypatch.setattr(said, attribute, value)
        said.manager._clear_cache()
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    for logger in loggers:
        logger.addHandler(heard)
    yield heard
    for logger in loggers:
        logger.removeHandler(heard)


@pytest.fixture
def brief(tmp_path: Path) -> str:
    """The quick preset, measured as little as can be."""
    path = tiny(tmp_path, train_size=8, val_size=2, test_size=2)
    measure_least(path)
    return path


def test_a_fit_and_its_test_give_no_hints(brief: str, listener: Listener) -> None:
    torch.set_num_threads(1)
    trained = ["--ckpt_path", str(Path(brief).parent / "last.ckpt")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("always", FutureWarning)
        short = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0"]
        assert main(["fit", "--config", brief, *short]) == 0
        assert main(["test", "--config", brief, *trained]) == 0
    said = [*listener.lines, *(str(warning.message) for warning in caught)]
    said = [line for line in said if "LightningCLI's args parameter" not in line]  # cites pytest's
    harmless = ("Seed set", "available:", "left out", "checkpoint at", "checkpoint path", "stopped")
    assert [line for line in said if not any(word in line for word in harmless)] == []
    assert any("stopped: `max_steps=1` reached" in line for line in said), "what a user needs stays"


def test_what_is_no_such_hint_is_shown(listener: Listener) -> None:
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with without_hints(), warnings.catch_warnings(record=True) as caught:
        log.warning("The loss is 3.")
        log.warning("You are using a CUDA device ('H100') that has Tensor Cores. To properly …")
        warnings.warn("The 'train_dataloader' does not have many workers which …", stacklevel=1)
        warnings.warn("Pixels are black.", stacklevel=1)
    assert listener.lines == ["The loss is 3."]
    assert [str(warning.message) for warning in caught] == ["Pixels are black."]
