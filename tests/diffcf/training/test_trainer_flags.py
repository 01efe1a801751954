"""Every flag of Lightning's Trainer works, or says in one sentence why not."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from small_runs import add_callback, measure_least, tiny, undrawn

from diffcf.commands.main import main
from diffcf.evaluation import EvaluationProtocol
from diffcf.io import CheckpointError, DiffcfError, SettingsError
from diffcf.methods import DiffusionCounterfactuals
from diffcf.training.flags import checkpoint_path, settings_errors, settle_flags

WORKS: dict[str, dict[str, Any]] = {
    "nothing to see": {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "enable_autolog_hparams": False,
        "detect_anomaly": True,
        "deterministic": True,
        "benchmark": False,
        "profiler": "simple",
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        "max_steps": 1,
    },
    "everything": {
        "logger": True,
        "enable_progress_bar": True,
        "accelerator": "cpu",
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
        "accumulate_grad_batches": 2,
        "gradient_clip_val": 0.5,
        "gradient_clip_algorithm": "value",
        "max_time": "00:00:05:00",
        "min_steps": 1,
        "min_epochs": 1,
        "reload_dataloaders_every_n_epochs": 1,
        "use_distributed_sampler": False,
        "sync_batchnorm": True,
        "limit_train_batches": 2,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 1,
        "log_every_n_steps": 1,
        "val_check_interval": 1,
        "precision": "bf16-mixed",
        "inference_mode": True,
        "max_steps": 1,
    },
    "one batch": {
        "overfit_batches": 1,
        "max_epochs": 1,
        "max_steps": -1,
        "check_val_every_n_epoch": 1,
        "val_check_interval": 1.0,
        "limit_val_batches": 0,
    },
    "a look": {"fast_dev_run": True},
}
REFUSED: list[tuple[str, Any, str]] = [
    ("barebones", True, "fast_dev_run"),
    ("precision", "bf16-true", "bf16-mixed"),
    ("precision", "16-true", "bf16-mixed"),
    ("precision", "64-true", "32-true"),
    ("precision", "transformer-engine", "32-true"),
    ("accumulate_grad_batches", 0, "at least 1"),
    ("limit_train_batches", 0, "trains nothing"),
    ("limit_train_batches", 2.5, "limit_train_batches"),
    ("accelerator", "nosuch", "accelerator"),
    ("devices", 0, "devices"),
    ("strategy", "nosuch", "strategy"),
    ("strategy", "fsdp", "GPU"),
    ("max_steps", -5, "max_steps"),
    ("max_time", "nonsense", "duration"),
    ("profiler", "nosuch", "profiler"),
    ("gradient_clip_algorithm", "nosuch", "gradient_clip_algorithm"),
    ("plugins", ["nosuch"], "nosuch"),
]
ELSEWHERE = {"limit_test_batches", "limit_predict_batches", "callbacks", "default_root_dir"}
NOT_FOR_USERS = {"model_registry"}  # of Lightning's own cloud


def options(flags: dict[str, Any]) -> list[str]:
    return [f"--trainer.{name}={json.dumps(value).strip(chr(34))}" for name, value in flags.items()]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The quick preset with its progress bar, on sixteen images, measured as little as can be."""
    folder = tmp_path_factory.mktemp("flags")
    path = tiny(folder, train_size=16, val_size=2, test_size=2)
    measure_least(path)
    add_callback(path, "diffcf.training.ProgressBar")
    whole = yaml.safe_load(Path(path).read_text())
    del whole["trainer"]["enable_progress_bar"]
    Path(path).write_text(yaml.safe_dump(whole))
    return path


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, config: str, tmp_path_factory: pytest.TempPathFactory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("run")
    command = ["fit", "--config", config, "--out", str(out), *options(WORKS[request.param])]
    with undrawn():
        return request.param, out, main(command)


@pytest.mark.parametrize("run", WORKS, indirect=True)
def test_flags_that_work(run) -> None:
    name, out, status = run
    assert status == 0
    kept = name in ("everything", "one batch")
    assert (out / "last.ckpt").exists() == kept, "and nothing else keeps a checkpoint"


@pytest.mark.parametrize("run", ["one batch"], indirect=True)
def test_predict_takes_its_limit_and_the_last_checkpoint(run, config: str) -> None:
    _, out, _ = run
    limit = options({"limit_predict_batches": 1})
    assert main(["predict", "--config", config, f"--out={out}", "--ckpt_path=last", *limit]) == 0


def test_guidance_always_has_its_gradients() -> None:
    defaults = {k: p.default for k, p in inspect.signature(Trainer).parameters.items()}
    config = Namespace(trainer=Namespace(**defaults))
    settle_flags(config, "test")
    assert config.trainer.inference_mode is False


@pytest.mark.parametrize("name, value, words", REFUSED)
def test_flags_that_say_why_not(name: str, value: Any, words: str) -> None:
    defaults = {k: p.default for k, p in inspect.signature(Trainer).parameters.items()}
    trainer = Namespace(**defaults | {"accelerator": "cpu", "logger": False, name: value})
    with pytest.raises(SettingsError, match=words), settings_errors(building=True):
        settle_flags(Namespace(trainer=trainer), "fit")
        Trainer(**vars(trainer))


def test_the_walk_leaves_out_no_flag() -> None:
    walked = {name for flags in WORKS.values() for name in flags} | {name for name, *_ in REFUSED}
    assert set(inspect.signature(Trainer).parameters) == walked | ELSEWHERE | NOT_FOR_USERS


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--data.init_args.batch_size=0"], "diffcf: batch_size must be at least 1, not 0."),
        (["--data.init_args.batch_size=64"], "diffcf: batch_size 64 exceeds the 16 training"),
        (["--model.generator.patch=0"], "diffcf: patch of network 'diffcf.networks.UNet' must be"),
        (["--model.generator.image_channels=1", "--trainer.num_sanity_val_steps=0"],
         "diffcf: UNet (generator) takes images of 1 channels, got 3"),
        (["--seed_everything=-1"], "diffcf: The settings do not work: -1 is not in bounds"),
    ],
    ids=lambda value: value[0].partition("=")[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_arguments_that_do_not_work(
    arguments: list[str], said: str, config: str, tmp_path: Path, capsys
) -> None:
    assert main(["fit", "--config", config, "--out", str(tmp_path / "run"), *arguments]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(said)


@pytest.mark.parametrize(
    "path, words",
    [
        ("best", "one checkpoint is kept"),
        ("registry:model", "one checkpoint is kept"),
        ("last", "last.ckpt does not exist"),
        ("nosuch.ckpt", "nosuch.ckpt does not exist"),
        ("weights.safetensors", "no state of a training"),
    ],
)
def test_what_is_no_checkpoint_to_go_on_from(path: str, words: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.safetensors").touch()
    trainer = Namespace(callbacks=None, default_root_dir="runs")
    with pytest.raises(CheckpointError, match=words):
        checkpoint_path(Namespace(ckpt_path=path, trainer=trainer), "fit")


def test_the_weights_of_other_networks_are_refused(model: DiffusionCounterfactuals) -> None:
    weights = model.state_dict()
    name = next(iter(weights))
    with pytest.raises(CheckpointError, match=f"other networks .*{name}"):
        model.load_state_dict(weights | {name: torch.zeros(7, 7)})


def test_what_is_wrong_with_a_program_is_no_matter_of_settings() -> None:
    def wrapped() -> None:  # as a parser does
        try:
            undefined  # type: ignore[name-defined]  # noqa: B018
        except NameError as error:
            raise ValueError("does not validate") from error

    with pytest.raises(ValueError) as caught, settings_errors(building=True):
        wrapped()
    assert not isinstance(caught.value, DiffcfError)


@pytest.mark.parametrize(
    "scaler, clip, fused", [(None, None, True), (object(), None, False), (None, 0.5, False)]
)
def test_clipping_never_sees_scaled_gradients(
    scaler: object, clip: float | None, fused: bool, model: DiffusionCounterfactuals
) -> None:
    """16-mixed scales gradients by 65,536, and a fused optimizer would undo it after clipping."""
    plugin = SimpleNamespace(scaler=scaler)
    model._trainer = SimpleNamespace(precision_plugin=plugin, gradient_clip_val=clip)  # type: ignore
    model.time_spent = 0.0
    assert model.configure_optimizers()["optimizer"].defaults["fused"] is fused  # type: ignore


def test_a_method_without_a_reader_says_so(model: DiffusionCounterfactuals, small_batch) -> None:
    engine = model.method()
    engine.projector = None
    with pytest.raises(SettingsError, match="reads no factors off images"):
        engine.abduct(small_batch["image"])


def test_one_image_for_fid_is_refused_before_a_test() -> None:
    with pytest.raises(SettingsError, match="fid_images of a protocol"):
        EvaluationProtocol(fid_images=1)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"learning_rate": -1.0}, "learning_rate must be"),
        ({"clip": float("nan")}, "clip must be"),
        ({"weights": {"projector": -1.0}}, "the weight of 'projector' must be"),
        ({"warmup": 3.0}, "warmup is a share"),
    ],
)
def test_numbers_of_a_training_have_a_range(graph, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        DiffusionCounterfactuals(graph, **arguments)


def test_a_weight_of_no_loss_term_is_named(model: DiffusionCounterfactuals, small_batch) -> None:
    model.weights = {"nosuch": 1.0}
    with pytest.raises(SettingsError, match="no loss term 'nosuch' to weigh: there are projector"):
        model.training_step(small_batch, 0)
