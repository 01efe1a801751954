"""Runs of Weights & Biases, offline: what is in them; and what is said where W&B cannot start."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import wandb
import yaml
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from offline_run import OfflineRun, read_offline
from PIL import Image
from processes import in_background
from small_runs import ROOT, tiny

from diffcf.commands.main import main
from diffcf.training.tracking import WandbRecorder

PRESET = str(ROOT / "experiments/trainer/wandb.yaml")
ONE_LINE = "--trainer.logger=lightning.pytorch.loggers.WandbLogger"


class Doorbell:
    """A server that counts who comes, and answers nobody."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.rung = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            self.rung += 1
            connection.close()

    def around(self, folder: Path) -> dict[str, str]:
        """An environment without key, in which every way out leads here."""
        ways = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "https_proxy"), self.address)
        parts = ("DATA", "CACHE", "CONFIG", "ARTIFACT")
        places = {f"WANDB_{part}_DIR": str(folder / part.lower()) for part in parts}
        return ways | places | {"WANDB_BASE_URL": self.address, "NETRC": str(folder / "netrc")}


@pytest.fixture(scope="module")
def offline(tmp_path_factory) -> Iterator[tuple[Path, Doorbell]]:
    """A tiny fit, its test and the run of a sweep, in one folder."""
    torch.set_num_threads(1)
    folder, doorbell = tmp_path_factory.mktemp("wandb"), Doorbell()
    # A run writes the config.yaml of its own into the folder.
    config = str(Path(tiny(folder, eval_batch_size=4)).rename(folder / "small.yaml"))
    kept = dict(os.environ)
    swept = folder / "swept.yaml"
    swept.write_text("wandb_version: 1\nseed_everything: {value: 3}\n")
    sweep = {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "r1", "WANDB_SWEEP_PARAM_PATH": str(swept)}
    few = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--seed_everything=3"]
    try:
        os.environ |= doorbell.around(folder) | {"WANDB_MODE": "offline", "WANDB_RUN_ID": "fit"}
        run(["fit", "--config", config, "--config", PRESET])
        os.environ |= {"WANDB_RUN_ID": "test", "WANDB_NAME": "tested"}
        run(["test", "--config", config, ONE_LINE, "--ckpt_path", str(folder / "last.ckpt")])
        os.environ |= sweep
        run(["fit", "--config", config, "--config", PRESET, *few])
        yield folder, doorbell
    finally:
        os.environ.clear()
        os.environ.update(kept)


def run(command: list[str]) -> None:
    """A command as in a process of its own, of which W&B's part ends with it."""
    assert main(command) == 0
    wandb.finish()
    wandb.teardown()


def read(folder: Path, name: str) -> OfflineRun:
    (found,) = folder.rglob(f"offline-run-*-{name}")
    return read_offline(found)


def test_the_config_is_there_once_and_nested(offline) -> None:
    folder, _ = offline
    fit = read(folder, "fit")
    updates = [key for key in fit.config_updates if not key.startswith("_wandb")]
    assert len(updates) == len(set(updates)), "nothing is logged twice"
    assert not any("." in key or "/" in key for key in updates), "nothing is flattened"
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert fit.config["seed_everything"] == 0
    assert fit.config["model"] == saved["model"]
    assert fit.config["model"]["init_args"]["generator"]["init_args"]["channels"] == [8, 16]
    assert fit.config["data"]["init_args"]["image_size"] == 32
    callback = fit.config["trainer"]["callbacks"]["CounterfactualCallback"]["init_args"]
    assert callback["sampling"]["guidance"]["class_path"].endswith("GaussNewtonGuidance")
    assert callback["sampling"]["steps"] == 2 and callback["protocol"]["cycles"] == 2
    assert fit.config["trainer"]["max_steps"] == 6


@pytest.mark.parametrize("name, stage", [("fit", "val"), ("test", "test")])
def test_a_run_holds_metrics_pictures_curve_and_table(offline, name: str, stage: str) -> None:
    folder, _ = offline
    logged = read(folder, name).logged
    keys = ["acm", "acm/light", "psnr", "psnr/roots"]
    if stage == "val":
        assert {"train/loss", "train/generator"} <= set(logged)
    assert all(isinstance(logged[f"{stage}/{key}"], float) for key in keys)
    for picture in ("grid", "lambda_t"):
        (file,) = logged[f"{stage}/{picture}.filenames"]
        path = next(folder.rglob(file))
        assert Image.open(path).size[0] == logged[f"{stage}/{picture}.width"] > 100
    # 4 factors × 2 guided steps.
    assert logged[f"{stage}/lambda_t_curve_table.nrows"] == 8
    assert logged[f"{stage}/counterfactuals._type"] == "table-file"
    assert logged[f"{stage}/counterfactuals.nrows"] == 4 * 4


def test_the_table_shows_what_was_asked_answered_exact_and_read(offline) -> None:
    folder, _ = offline
    fit = read(folder, "fit")
    table, files = artifact(fit, "counterfactuals")
    contents = json.loads(next(v for k, v in files.items() if k.endswith(".json")).read_text())
    rows = [dict(zip(contents["columns"], row, strict=True)) for row in contents["data"]]
    assert table.type == "run_table"
    names = ["angle", "light", "shadow_length", "shadow_position"]
    assert [row["set"] for row in rows[::4]] == names and rows[0]["row"] == 0
    for row in rows:
        given = float(row["do"].split("= ")[1].rstrip(")"))
        assert row[f"target {row['set']}"] == pytest.approx(given, abs=0.005)
        assert 0 <= row["acm"] <= 1 and all(f"read {name}" in row for name in names)
        for column in ("factual", "counterfactual", "exact"):
            assert Image.open(files[row[column]["path"]]).size == (32, 32)
    assert rows[0]["factual"]["path"] == rows[4]["factual"]["path"], "the same image, another do"
    assert rows[0]["exact"]["path"] != rows[4]["exact"]["path"]


def test_the_artifact_is_a_checkpoint_that_loads_with_its_config(offline) -> None:
    folder, _ = offline
    model, files = artifact(read(folder, "fit"), "model-fit")
    assert set(files) == {"last.ckpt", "config.yaml"} and model.type == "model"
    assert json.loads(model.metadata) == {"step": 6}
    held = torch.load(files["last.ckpt"], weights_only=True)
    assert held["global_step"] == 6
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    config = yaml.safe_load(files["config.yaml"].read_text())
    assert config["trainer"]["callbacks"] == saved["trainer"]["callbacks"], "a list, as it was"
    assert not any("model" in name for name in read(folder, "test").artifacts)


def test_a_run_of_a_sweep_has_its_own_folder_and_its_swept_value(offline) -> None:
    folder, _ = offline
    own = folder / "sweeps/s1/r1"
    assert torch.load(own / "last.ckpt", weights_only=True)["global_step"] == 1
    assert (own / "config.yaml").exists()
    swept = read(own, "r1")
    assert swept.config["seed_everything"] == 3
    assert swept.config_updates.count("seed_everything") == 1
    output = next(own.rglob("output.log"))
    assert "locked" not in output.read_text()


def test_offline_nobody_is_called(offline) -> None:
    _, doorbell = offline
    assert doorbell.rung == 0


def artifact(run: OfflineRun, named: str) -> tuple[Any, dict[str, Path]]:
    """The newest artifact whose name holds ``named``, and the copies of its files by path."""
    found = [a for name, a in run.artifacts.items() if named in name][-1]
    return found, {entry.path: Path(entry.local_path) for entry in found.manifest.contents}


def alone(folder: Path, doorbell: Doorbell, **env: str) -> tuple[int | None, str]:
    """Status and words of a fit in a process of its own, which has no terminal to ask on."""
    command = ["fit", "--config", tiny(folder), ONE_LINE]
    log = folder / "log.txt"
    process = in_background(command, log, partial(_surround, doorbell.around(folder) | env))
    process.join(120)
    process.kill()  # or it would outlive the test
    process.join()
    return process.exitcode, log.read_text()


def _surround(env: dict[str, str]) -> None:
    os.chdir(ROOT)
    for key in [key for key in os.environ if key.startswith("WANDB")]:
        del os.environ[key]
    os.environ |= env


def test_without_a_key_one_sentence_ends_it_before_training(tmp_path: Path) -> None:
    doorbell = Doorbell()
    status, words = alone(tmp_path, doorbell)
    assert status == 2
    assert words.strip().splitlines()[-1] == (
        "diffcf: Weights & Biases has no key on this machine: log in with `wandb login`, or set "
        "WANDB_MODE=offline to keep the run on this machine."
    )
    assert "Traceback" not in words and not (tmp_path / "last.ckpt").exists()
    assert doorbell.rung == 0


def test_a_server_that_does_not_answer_is_one_sentence_too(tmp_path: Path) -> None:
    doorbell = Doorbell()
    status, words = alone(tmp_path, doorbell, WANDB_API_KEY="0" * 40, WANDB_INIT_TIMEOUT="2")
    assert status == 2
    said = words.strip().splitlines()[-1]
    assert said.startswith("diffcf: Weights & Biases does not start (")
    assert said.endswith("set WANDB_MODE=offline to keep the run on this machine.")
    assert "Traceback" not in words and not (tmp_path / "last.ckpt").exists()
    assert doorbell.rung > 0, "online, the bell does ring"


def test_only_the_first_process_records(monkeypatch, tmp_path: Path) -> None:
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    trainer: Any = SimpleNamespace(loggers=[logger], callbacks=[])
    recorder = WandbRecorder()
    recorder.setup(trainer, torch.nn.Module(), "fit")
    recorder.on_fit_end(trainer, torch.nn.Module())
    assert logger._experiment is None and not list(tmp_path.iterdir())
