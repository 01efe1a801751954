"""A run has a folder of its own, and nothing finished is ever written over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from small_runs import tiny
from torch.utils.data import DataLoader

from diffcf.commands.main import main
from diffcf.io import OutputError, check_new, versions, write_json
from diffcf.methods import DiffusionCounterfactuals
from diffcf.training import CounterfactualWriter, LastCheckpoint
from diffcf.training.folders import results_folder

SHORT = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0"]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run_folders")
    config = tiny(folder / "first", train_size=16, val_size=2, test_size=2)
    assert main(["fit", "--config", config, *SHORT]) == 0
    return config, folder / "first/last.ckpt"


def test_the_same_command_again_is_refused_and_changes_nothing(trained, tmp_path, capsys) -> None:
    config, last = trained
    before = digest(last)
    assert main(["fit", "--config", config, *SHORT]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"diffcf: {last} holds a training already")
    assert f"--ckpt_path {last}" in said and "--out" in said
    # Another training's checkpoint is no right to this one's.
    other = tmp_path / "last.ckpt"
    other.write_bytes(last.read_bytes())
    assert main(["fit", "--config", config, *SHORT, "--ckpt_path", str(other)]) == 2
    assert digest(last) == before


def test_out_is_the_folder_of_everything_and_a_resumed_run_goes_on_in_it(trained, tmp_path) -> None:
    config, last = trained
    before, out = digest(last), tmp_path / "second"
    old = set(last.parent.rglob("*"))
    assert main(["fit", "--config", config, *SHORT, "--out", str(out)]) == 0
    assert (out / "last.ckpt").is_file() and list((out / "logs").rglob("config.yaml"))
    resumed = ["--trainer.max_steps=2", "--trainer.limit_val_batches=0", "--out", str(out)]
    assert main(["fit", "--config", config, *resumed, "--ckpt_path", str(out / "last.ckpt")]) == 0
    assert torch.load(out / "last.ckpt", weights_only=True)["global_step"] == 2
    assert digest(last) == before and set(last.parent.rglob("*")) == old


def test_a_checkpoint_that_cannot_be_gone_on_from_stays_as_it_was(trained, capsys) -> None:
    config, last = trained
    before = digest(last)
    more = ["--trainer.max_steps=2", "--trainer.limit_val_batches=0", "--ckpt_path", str(last)]
    other = ["--model.muon", "{generator: 0.02}"]  # groups of weights that its optimiser had not
    assert main(["fit", "--config", config, *more, *other]) == 2
    assert "'muon' that it was trained with" in capsys.readouterr().err
    assert digest(last) == before


class Fails(DiffusionCounterfactuals):
    def on_train_start(self) -> None:
        raise KeyboardInterrupt


def test_a_trainer_from_python_is_refused_and_one_that_fails_at_once_saves_nothing(
    model, small_batch, tmp_path: Path
) -> None:
    def fit(model: DiffusionCounterfactuals) -> None:
        rows = [{k: v[i] for k, v in small_batch.items()} for i in range(4)]
        last = LastCheckpoint(str(tmp_path))
        trainer = Trainer(
            accelerator="cpu", max_steps=1, logger=False, enable_model_summary=False,
            enable_progress_bar=False, default_root_dir=tmp_path, callbacks=[last],
        )  # fmt: skip
        trainer.fit(model, DataLoader(rows, 2))  # type: ignore[arg-type]

    (tmp_path / "last.ckpt").write_bytes(b"a training")
    with pytest.raises(OutputError, match="holds a training already"):
        fit(model)
    assert (tmp_path / "last.ckpt").read_bytes() == b"a training"
    (tmp_path / "last.ckpt").unlink()
    model.__class__ = Fails
    with pytest.raises(SystemExit):
        fit(model)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_job_that_slurm_submits_again_goes_on(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "last.ckpt").touch()
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    last = LastCheckpoint(str(tmp_path))
    with pytest.raises(OutputError):
        last.check_free(trainer, None)
    (tmp_path / "hpc_ckpt_1.ckpt").touch()
    with pytest.raises(OutputError):
        last.check_free(trainer, None)
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "diffcf")
    last.check_free(trainer, None)


def test_results_of_one_test_do_not_replace_those_of_another(tmp_path: Path) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    trainer.state.fn = TrainerFn.TESTING
    for name in ("test", "test_2", "test_3"):
        folder = results_folder(trainer, "test")
        assert folder == tmp_path / "counterfactuals" / name
        write_json({}, folder / "metrics.json")
    trainer.state.fn = TrainerFn.FITTING  # whose validations follow each other
    write_json({}, tmp_path / "counterfactuals/val/metrics.json")
    assert results_folder(trainer, "val").name == "val"


def test_counterfactuals_that_were_written_stay(tmp_path: Path) -> None:
    writer = CounterfactualWriter({"light": 0.5}, str(tmp_path))
    writer.setup(None, None, "predict")  # type: ignore[arg-type]
    write_json({}, tmp_path / "factors.json")
    with pytest.raises(OutputError, match="holds counterfactuals already"):
        writer.setup(None, None, "predict")  # type: ignore[arg-type]


def a_file(folder: Path) -> Path:
    (folder / "there").write_text("results of a day")
    return folder / "there"


@pytest.mark.parametrize(
    "place, problem",
    [
        (a_file, "exists already"),
        (lambda folder: folder, "exists already"),
        (lambda folder: a_file(folder) / "below.json", "cannot be written"),
        (lambda folder: Path("/proc/diffcf/results.json"), "cannot be written"),
        (lambda folder: folder / ("n" * 300) / "results.json", "cannot be written"),
    ],
    ids=["file", "folder", "below a file", "read-only", "long name"],
)
def test_where_results_cannot_go_is_an_error_before_the_work(
    place: Callable[[Path], Path], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=problem):
        check_new(place(tmp_path))
    check_new(tmp_path / "new/folder/results.json")
    assert not (tmp_path / "new").exists(), "looking leaves nothing"


def test_versions_that_nobody_knows_are_recorded_as_unknown(monkeypatch) -> None:
    import importlib.metadata

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    known = versions()
    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", missing)
    found = versions()
    assert known.keys() == found.keys() and found["python"] == known["python"]
    assert {found[name] for name in found if name != "python"} == {"unknown"}
