"""Two gloo processes under Lightning's DDP are worth one with twice the batch."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from processes import as_torchrun
from small_runs import ROOT, add_callback, measure_least, tiny, undrawn
from torch import Tensor

from data_modules.loading import FactorImages, training_loader
from data_modules.orders import ShuffledOrder
from diffcf.commands.main import main
from diffcf.methods import load_method

TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]


class KeepWeights(Callback):
    """Every process's weights at the end of training, before they are averaged over steps."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self.folder.mkdir(exist_ok=True)
        name = f"{trainer.world_size}_{trainer.global_rank}_{trainer.global_step}.pt"
        torch.save(pl_module.state_dict(), self.folder / name)


class DieOnce(Callback):
    """Kills the second process before its last image, once both have answered about one."""

    def __init__(self, part: str, marker: str) -> None:
        self.part, self.marker = Path(part), Path(marker)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_rank != 1 or batch_idx != 2 or self.marker.exists():
            return
        end = time.monotonic() + 200
        while not all(map(self.answered, (0, 1))):
            assert time.monotonic() < end, "it takes too long"
            time.sleep(0.01)
        self.marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def answered(self, rank: int) -> bool:
        lines = self.part / f"answered-{rank}.jsonl"
        return lines.exists() and b"\n" in lines.read_bytes()


def alone(*command: str) -> None:
    torch.set_num_threads(1)
    with undrawn():
        assert main(command) == 0


def together(folder: Path, *command: str) -> None:
    """``diffcf <command>`` in two processes of torchrun's."""
    log = folder / "log.txt"
    assert as_torchrun([*command], log) == [0, 0], log.read_text()[-3000:]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process with batches of 8, and two with batches of 4, three steps each."""
    folder = tmp_path_factory.mktemp("processes")
    two = partial(together, folder)
    for name, batch, run, options in (("one", 8, alone, []), ("two", 4, two, TWO)):
        config = tiny(folder / name, batch_size=batch)
        add_callback(config, "test_processes.KeepWeights", folder=str(folder / "weights"))
        run("fit", "--config", config, "--trainer.max_steps=3", *options)
    return folder


def weights(folder: Path, name: str) -> dict[str, Tensor]:
    return torch.load(folder / "weights" / name, weights_only=True)


def test_both_processes_hold_the_same_weights_after_every_step(trained: Path) -> None:
    start = weights(trained, "2_0_1.pt")
    for step in (1, 2, 3):
        first, second = (weights(trained, f"2_{rank}_{step}.pt") for rank in (0, 1))
        for name, value in first.items():
            torch.testing.assert_close(value, second[name], rtol=0, atol=0, msg=name)
    assert any(not torch.equal(start[name], value) for name, value in first.items())


def test_two_processes_learn_what_one_with_twice_the_batch_learns(trained: Path) -> None:
    # The NSCM's loss draws no random numbers, so that only who saw which images can differ.
    one, two = weights(trained, "1_0_3.pt"), weights(trained, "2_0_3.pt")
    mechanisms = [name for name in one if name.startswith("nscm.")]
    assert mechanisms
    for name in mechanisms:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-6, msg=name)


def test_two_processes_measure_what_one_measures(trained: Path) -> None:
    config, ckpt = str(trained / "one/config.yaml"), str(trained / "one/last.ckpt")
    found = []
    for run, options in ((alone, []), (partial(together, trained), TWO)):
        run("test", "--config", config, "--ckpt_path", ckpt, *options)
        path = next((trained / "one").rglob("test/metrics.json"))
        found.append(json.loads(path.read_text())["metrics"])
        path.unlink()
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        if "seconds" not in key and not key.startswith("cost/"):
            assert found[1][key] == pytest.approx(value, abs=1e-5), key


def test_a_run_of_two_processes_is_resumed_by_one(trained: Path) -> None:
    config = str(trained / "two/config.yaml")
    options = ["--ckpt_path", str(trained / "two/last.ckpt"), "--data.init_args.batch_size=8"]
    alone("fit", "--config", config, "--trainer.max_steps=5", *options)
    assert not (trained / "weights/1_0_4.pt").samefile(trained / "weights/1_0_3.pt")
    before, after = weights(trained, "2_0_3.pt"), weights(trained, "1_0_5.pt")
    changed = [n for n, v in before.items() if v.is_floating_point() and not v.equal(after[n])]
    assert len(changed) > len(before) / 2
    checkpoint = torch.load(trained / "two/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 5


def test_shards_are_trained_saved_whole_and_read_by_one(tmp_path: Path) -> None:
    path = Path(tiny(tmp_path / "shards", batch_size=4))
    measure_least(str(path))
    config = yaml.safe_load(path.read_text())
    config["model"]["class_path"] = "diffcf.methods.ShardedDiffusionCounterfactuals"
    fsdp = yaml.safe_load((ROOT / "experiments/trainer/fsdp.yaml").read_text())["trainer"]
    fsdp["strategy"]["init_args"]["data_parallel_size"] = 2
    config["trainer"] |= {"strategy": fsdp["strategy"], "devices": 2, "max_steps": 3}
    callbacks = config["trainer"]["callbacks"]
    config["trainer"]["callbacks"] = [c for c in callbacks if "EMA" not in c["class_path"]]
    path.write_text(yaml.safe_dump(config))
    together(tmp_path, "fit", "--config", str(path))
    ckpt = str(tmp_path / "shards/last.ckpt")
    one = ["--trainer.strategy=auto", "--trainer.devices=1"]
    alone("test", "--config", str(path), "--ckpt_path", ckpt, *one)
    record = json.loads(next(tmp_path.rglob("test/metrics.json")).read_text())
    assert record["images"] == 6 and record["provenance"]["training"]["steps"] == 3
    assert type(load_method(ckpt)).__name__ == "ShardedDiffusionCounterfactuals"


# --- answers ---


def test_answers_of_two_processes_of_which_one_dies_are_those_of_one(tmp_path: Path) -> None:
    found = {}
    for name, options in (("one", []), ("two", TWO)):
        out, config = tmp_path / name, tiny(tmp_path / f"run_{name}", eval_batch_size=1)
        part, marker = tmp_path / f"{name}.part", tmp_path / f"died_{name}"
        add_callback(config, "test_processes.DieOnce", part=str(part), marker=str(marker))
        add_callback(
            config, "diffcf.training.CounterfactualWriter",
            do={"light": 0.8}, out=str(out), sampling={"steps": 1},
        )  # fmt: skip
        if options:
            ended = as_torchrun(["predict", "--config", config, *options], tmp_path / "killed.txt")
            assert ended[0] not in (0, -signal.SIGKILL) and ended[1] == -signal.SIGKILL
            assert not out.exists()
            kept = {file: file.stat().st_mtime_ns for file in noted(part)}
            assert len({int(file.stem) % 2 for file in kept}) == 2, "of both processes"
            together(tmp_path, "predict", "--config", config, *options)
        else:
            alone("predict", "--config", config)
        assert not part.exists()
        found[name] = {file.name: file.read_bytes() for file in out.iterdir()}
    assert len(found["one"]) == 7 and found["two"] == found["one"]
    assert all((tmp_path / "two" / f.name).stat().st_mtime_ns == at for f, at in kept.items())


def noted(part: Path) -> list[Path]:
    """Files of the answers that are noted."""
    lines = [line for file in part.glob("answered-*.jsonl") for line in file.open()]
    return [part / "answers" / name for line in lines for name in json.loads(line)["files"]]


# --- who gets which images ---


def test_processes_are_dealt_the_order_of_one() -> None:
    alone = list(ShuffledOrder(21, seed=3))
    parts = [list(ShuffledOrder(21, seed=3, processes=2, rank=rank)) for rank in (0, 1)]
    assert [len(part) for part in parts] == [10, 10]
    assert not set(parts[0]) & set(parts[1])
    steps = [[*parts[0][k : k + 2], *parts[1][k : k + 2]] for k in range(0, 10, 2)]
    for k, step in enumerate(steps):
        assert sorted(step) == sorted(alone[4 * k : 4 * k + 4])


def test_the_state_of_a_loader_says_how_many_images_a_step_took() -> None:
    data = FactorImages(torch.zeros(20, 1, 2, 2), torch.zeros(20, 1), torch.arange(20))
    loader = training_loader(data, 4, 0, seed=1)
    assert loader.state_dict() == {"epoch": 0, "images": 4}
    loader.load_state_dict({"epoch": 2})  # as older checkpoints have it
    assert loader.sampler.epoch == 2
