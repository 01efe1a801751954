"""`--precision auto`: bfloat16 where the device multiplies it in hardware, else 32 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace
from small_runs import tiny

from diffcf.commands.main import main
from diffcf.training import settle_flags

NOTHING = {"cuda": False, "cuda_bf16": False, "mps": False, "avx512": False, "amx": False}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Makes torch find a machine that has what is named, and nothing else."""

    def has(*parts: str) -> None:
        found = NOTHING | dict.fromkeys(parts, True)

        def card_bf16(including_emulation: bool = True) -> bool:
            return found["cuda_bf16"] or including_emulation

        monkeypatch.setattr("torch.cuda.is_available", lambda: found["cuda"])
        monkeypatch.setattr("torch.cuda.is_bf16_supported", card_bf16)
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: found["mps"])
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: found["avx512"])
        monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: found["amx"])

    return has


def settled(accelerator: str, **options: Any) -> str:
    """The Trainer's precision, where the config says 16-mixed."""
    trainer = Namespace(
        accelerator=accelerator, precision="16-mixed", callbacks=None, accumulate_grad_batches=1,
        barebones=False, limit_train_batches=None, enable_progress_bar=None, logger=None,
        enable_model_summary=None, enable_checkpointing=None,
    )  # fmt: skip
    settle_flags(Namespace(trainer=trainer, **options), "fit")
    return trainer.precision


@pytest.mark.parametrize(
    "parts, accelerator, precision",
    [
        ((), "cpu", "32-true"),
        ((), "auto", "32-true"),
        (("avx512",), "cpu", "bf16-mixed"),
        (("amx",), "auto", "bf16-mixed"),
        (("cuda", "cuda_bf16"), "auto", "bf16-mixed"),
        (("cuda", "cuda_bf16"), "gpu", "bf16-mixed"),
        (("cuda", "cuda_bf16"), "cuda", "bf16-mixed"),
        (("cuda", "cuda_bf16"), "cpu", "32-true"),
        (("cuda",), "auto", "32-true"),  # which would emulate it
        (("cuda", "avx512"), "gpu", "32-true"),
        (("cuda", "avx512"), "cpu", "bf16-mixed"),
        (("mps", "avx512"), "auto", "32-true"),
        (("mps", "avx512"), "mps", "32-true"),
        (("mps", "avx512"), "cpu", "bf16-mixed"),
    ],
)
def test_auto_asks_what_will_be_trained_on(
    machine, parts: tuple[str, ...], accelerator: str, precision: str
) -> None:
    machine(*parts)
    assert settled(accelerator, precision="auto") == precision


def test_without_auto_the_trainers_own_precision_holds(machine) -> None:
    machine("amx")
    assert settled("cpu") == settled("cpu", precision=None) == "16-mixed"


@pytest.mark.parametrize("parts, precision", [((), "32-true"), (("amx",), "bf16-mixed")])
def test_a_run_records_what_it_was_trained_in(
    machine, parts: tuple[str, ...], precision: str, tmp_path: Path
) -> None:
    machine(*parts)
    config = tiny(tmp_path / "run", train_size=16, val_size=2, test_size=2)
    flags = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--trainer.logger=false"]
    out = tmp_path / "out"
    assert main(["fit", f"--config={config}", "--precision=auto", f"--out={out}", *flags]) == 0
    saved = yaml.safe_load((out / "config.yaml").read_text())
    assert saved["trainer"]["precision"] == precision
    weights = torch.load(out / "last.ckpt", weights_only=True)["state_dict"].values()
    assert all(value.dtype != torch.bfloat16 for value in weights)


def test_another_word_is_refused_by_the_parser(tmp_path: Path, capsys) -> None:
    config = tiny(tmp_path / "run")
    with pytest.raises(SystemExit):
        main(["fit", f"--config={config}", "--precision=half"])
    assert "precision" in capsys.readouterr().err
