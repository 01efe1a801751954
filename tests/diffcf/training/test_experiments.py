"""Every experiment: valid, and fit, test and counterfactuals on small data."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from morpho_files import write_morphomnist
from small_runs import ROOT, measure_least, tiny, undrawn

from diffcf.commands.ablate import ablation_parser
from diffcf.commands.faces import write_faces
from diffcf.commands.main import main
from diffcf.evaluation.protocol import EvaluationProtocol
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.engine import Sampling
from diffcf.training.cli import cli

CARD = ROOT / "experiments/gpu.yaml"  # which goes on top of the others
MUON = ROOT / "experiments/muon.yaml"  # likewise
FOUND = ROOT / "experiments/hints/found.yaml"
FACES = ROOT / "experiments/latents/faces.yaml"  # on top of one of the other latents
FIRST_STAGE = ROOT / "experiments/first_stage.yaml"  # which answers no interventions
EXPERIMENTS = sorted(
    p.stem for p in (ROOT / "experiments").glob("*.yaml") if p not in (CARD, MUON, FIRST_STAGE)
)
# Tested by all that a test can measure, with pictures: of binary factors and of a table (and in
# commands/test_cli.py of a scene, whose exact images are known). Of others what is their own.
WHOLE = {"celeba_smile", "own_data"}
# Their settings are those of another but for sizes, or a graph: trained, and not tested besides.
LIKE_OTHERS = {"pendulum", "shadow_pointlight", "celeba_beard", "celeba_smile_sample"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """What the experiments on files read: faces in CelebA's layout, a table of your own, digits."""
    folder = tmp_path_factory.mktemp("folders")
    write_faces(folder / "faces", 160)
    own = {"image_size": 32, "train_size": 16, "val_size": 4, "test_size": 6, "batch_size": 8}
    spec = {"class_path": "data_modules.pendulum.PendulumDataModule", "init_args": own}
    (folder / "own.yaml").write_text(yaml.safe_dump(spec))
    assert main(["export", str(folder / "own.yaml"), str(folder / "own")]) == 0
    write_morphomnist(folder / "digits", 64)
    return {name: folder / name for name in ("faces", "own", "digits")}


def small_data(name: str, folders: dict[str, Path]) -> dict[str, Any]:
    """What a small run needs other than the defaults of small_runs.tiny."""
    if name == "flow":
        return {"image_size": 64}
    if name.startswith("celeba"):
        # The cartoon faces' ruler needs 64 pixels.
        return {"root": str(folders["faces"]), "image_size": 64, "num_workers": 0}
    if name == "morphomnist":
        return {"root": str(folders["digits"])}
    if name == "own_data":
        own = folders["own"]
        paths = {"images": "images", "table": "factors.csv", "graph": "graph.yaml"}
        return {key: str(own / file) for key, file in paths.items()}
    return {}


@pytest.mark.parametrize("path", sorted((ROOT / "experiments/trainer").glob("*.yaml")))
def test_each_trainer_goes_on_top_of_an_experiment(path: Path, capsys) -> None:
    command = ["fit", "--config", str(ROOT / "experiments/pendulum.yaml"), "--config", str(path)]
    if path.stem == "fsdp":
        command += [
            "--model.class_path",
            "diffcf.methods.ShardedDiffusionCounterfactuals",
        ]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    for key, value in yaml.safe_load(path.read_text())["trainer"].items():
        found = printed["trainer"][key]
        assert found == value or found["class_path"] == value["class_path"], key
    own = yaml.safe_load((ROOT / "experiments/pendulum.yaml").read_text())
    for room, key in (("model", "head_start"), ("model", "muon")):
        found = printed[room]["init_args"][key]
        assert found == own[room]["init_args"][key], "the experiment's own stays"
    assert printed["trainer"]["max_steps"] == own["trainer"]["max_steps"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_config_is_valid_and_the_preset_for_a_card_goes_on_top(name: str, capsys) -> None:
    path = ROOT / f"experiments/{name}.yaml"
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(path), "--config", str(CARD), "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    own, card = (yaml.safe_load(file.read_text()) for file in (path, CARD))
    for room in ("data", "model"):
        arguments = printed[room]["init_args"]
        assert printed[room]["class_path"] == own[room]["class_path"]
        assert arguments.items() >= card[room]["init_args"].items()
    assert printed["trainer"].items() >= card["trainer"].items() and printed["card"]["tf32"] is True
    rate = printed["model"]["init_args"]["learning_rate"]
    assert rate == own["model"]["init_args"]["learning_rate"], "the experiment's own stays"
    assert printed["trainer"]["max_steps"] == own["trainer"]["max_steps"]
    assert len(printed["trainer"]["callbacks"]) == len(own["trainer"]["callbacks"])


def test_the_preset_for_a_card_builds_what_it_says() -> None:
    config = [str(ROOT / "experiments/pendulum.yaml"), str(CARD)]
    on_cpu = ["--trainer.accelerator=cpu", "--trainer.logger=false"]
    built = cli(["--config", config[0], "--config", config[1], *on_cpu], run=False)
    assert built.datamodule.batch_size == 512 and built.datamodule.resident == "auto"
    assert built.trainer.precision == "bf16-mixed" and built.model.channels_last
    (optimizer,) = built.trainer.strategy.optimizers or [None]
    assert optimizer is None, "nothing trains yet"
    built.model.trainer = built.trainer
    groups = built.model.configure_optimizers()["optimizer"].param_groups
    rates = {group["initial_lr"] for group in groups if not group["matrices"]}
    assert rates == {3e-3, 5e-3}
    by_muon = {group["initial_lr"] for group in groups if group["matrices"]}
    assert by_muon == {2 * rate for rate in built.model.muon.values()}, "as the others"


def test_muon_goes_on_top_of_an_experiment() -> None:
    config = [str(ROOT / "experiments/pendulum.yaml"), str(MUON)]
    given = ["--config", config[0], "--config", config[1], "--trainer.logger=false"]
    built = cli(given, run=False)
    built.model.trainer = built.trainer
    groups = built.model.configure_optimizers()["optimizer"].param_groups
    by_muon = {group["initial_lr"]: group["params"] for group in groups if group["matrices"]}
    assert by_muon.keys() == set(built.model.muon.values())
    for name, rate in built.model.muon.items():
        weights = list(getattr(built.model, name).parameters())
        chosen = {id(weight) for weight in by_muon[rate]}
        assert chosen == {id(weight) for weight in weights if weight.ndim > 1}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments/published").glob("*.yaml")), ids=lambda path: path.stem
)
def test_published_images_go_on_top_of_their_experiment(path: Path, capsys) -> None:
    command = ["fit", "--config", str(ROOT / "experiments" / path.name), "--config", str(path)]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    data = yaml.safe_load(path.read_text())["data"]
    assert printed["data"]["class_path"] == data["class_path"]
    assert printed["data"]["init_args"].items() >= data["init_args"].items()
    assert printed["model"]["init_args"]["learning_rate"] == 1.5e-3, "the experiment's own stays"
    assert f"experiments/published/{path.name}" in path.read_text(), "it says how to run it"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments/styles").glob("*.yaml")), ids=lambda path: path.stem
)
def test_styles_go_on_top_of_their_experiment(path: Path) -> None:
    configs = ["--config", str(ROOT / "experiments" / path.name), "--config", str(path)]
    built = cli([*configs, "--trainer.logger=false"], run=False)
    assert len(set(built.datamodule.train_styles)) > 5
    assert built.model.generator.style.width == 8
    assert f"experiments/styles/{path.name}" in path.read_text(), "it says how to run it"


GIVEN = sorted(set((ROOT / "experiments/hints").glob("*.yaml")) - {FOUND})


@pytest.mark.parametrize("name", ["shadow_sunlight", "shadow_pointlight"])
def test_hints_that_are_found_go_on_top_of_both_shadows(name: str) -> None:
    configs = ["--config", str(ROOT / f"experiments/{name}.yaml"), "--config", str(FOUND)]
    built = cli([*configs, "--trainer.logger=false"], run=False)
    assert built.model.finds_hints and built.datamodule.interventional == 128


@pytest.mark.parametrize("path", GIVEN, ids=lambda path: path.stem)
def test_hints_go_on_top_of_their_experiment(path: Path) -> None:
    configs = ["--config", str(ROOT / "experiments" / path.name), "--config", str(path)]
    built = cli([*configs, "--trainer.logger=false"], run=False)
    assert {"floor_colour", "light_colour"} <= built.model.hinted
    assert f"experiments/hints/{path.name}" in path.read_text(), "it says how to run it"


def test_faces_in_latents_go_on_top_of_theirs(capsys) -> None:
    names = ("celeba_smile_sample", "latents/conv", "muon", "latents/faces")
    configs = [f"--config={ROOT / 'experiments' / name}.yaml" for name in names]
    with pytest.raises(SystemExit) as stop:
        main(["fit", *configs, "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["data"]["init_args"]["image_size"] == 128
    assert printed["model"]["init_args"]["muon"].keys() == {"generator", "projector"}
    folder = "runs/celeba_smile_sample_128"
    assert printed["trainer"]["default_root_dir"] == folder
    assert all(f"/{name}.yaml" in FACES.read_text() for name in names)


@pytest.mark.usefixtures("undrawn")
def test_a_first_stage_is_trained_and_faces_are_drawn_in_its_latents(folders, tmp_path) -> None:
    faces = {"root": str(folders["faces"]), "num_workers": 0}
    small = [
        "--model.first_stage.channels=[8,8,16]",
        "--data.image_size=64",
        "--trainer.limit_val_batches=1",
    ]
    stage = _shrunk(FIRST_STAGE, tmp_path / "stage.yaml", **faces)
    out = f"--out={tmp_path / 'stage'}"
    assert main(["fit", "--config", stage, *small, "--trainer.max_steps=2", out]) == 0

    sample = tiny(tmp_path, "celeba_smile_sample", **faces)
    measure_least(sample)
    latents = ROOT / "experiments/latents/conv.yaml"
    weights = f"--model.first_stage.weights={tmp_path / 'stage/last.ckpt'}"
    config = ["--config", sample, "--config", str(latents), *small[:2], weights]
    assert main(["fit", *config, f"--out={tmp_path / 'run'}"]) == 0
    (tmp_path / "stage/last.ckpt").unlink()
    checkpoint = f"--ckpt_path={tmp_path / 'run/last.ckpt'}"
    assert main(["test", *config[:-1], checkpoint, f"--out={tmp_path / 'run'}"]) == 0
    record = json.loads(next((tmp_path / "run").rglob("test/metrics.json")).read_text())
    assert record["metrics"]["psnr/Male"] > 0, "its pictures are of the faces' own size"


def _shrunk(path: Path, out: Path, **data: Any) -> str:
    """The config at ``path``, of a few images, as ``out``."""
    config = yaml.safe_load(path.read_text())
    few = {"batch_size": 4, "train_size": 8, "val_size": 4, "test_size": 4}
    config["data"]["init_args"] |= few | data
    config["trainer"]["val_check_interval"] = 2
    out.write_text(yaml.safe_dump(config))
    return str(out)


@pytest.mark.parametrize(
    "path", sorted(set((ROOT / "experiments/latents").glob("*.yaml")) - {FACES})
)
def test_each_kind_of_latents_goes_on_top_of_an_experiment(path: Path, capsys) -> None:
    config = ["--config", str(ROOT / "experiments/celeba_smile_sample.yaml"), "--config", str(path)]
    with pytest.raises(SystemExit) as stop:
        main(["fit", *config, "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    channels = printed["first_stage"]["init_args"]["latent_channels"]
    assert printed["generator"]["init_args"]["image_channels"] == channels


@pytest.mark.parametrize("path", sorted((ROOT / "experiments/protocols").glob("*.yaml")))
def test_each_protocol_is_valid(path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--protocol", type=EvaluationProtocol)
    parsed = parser.parse_object({"protocol": str(path)})
    assert isinstance(parser.instantiate_classes(parsed).protocol, EvaluationProtocol)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments/ablations").glob("*.yaml")), ids=lambda path: path.stem
)
def test_each_ablation_is_valid(path: Path) -> None:
    parser = ablation_parser()
    parsed = parser.parse_args(["pendulum", "--config", str(path)])
    variants = parser.instantiate_classes(parsed).variants
    assert len(variants) > 1 and all(isinstance(v, Sampling) for v in variants.values())
    assert str(path.relative_to(ROOT)) in path.read_text(), "it says how to run it"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_fits_tests_and_answers(
    name: str, folders: dict[str, Path], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(ROOT)  # graphs are named relative to it
    torch.set_num_threads(1)
    config = tiny(tmp_path, name, **small_data(name, folders))
    if name not in WHOLE:
        measure_least(config)
    with undrawn():
        built = cli(["fit", "--config", config])
    assert built.model.graph == built.datamodule.graph
    record = json.loads(next(tmp_path.rglob("val/metrics.json")).read_text())
    assert record["images"] == (4 if name in WHOLE else 1)
    if name in LIKE_OTHERS:
        return
    checkpoint = str(tmp_path / "last.ckpt")
    with nullcontext() if name in WHOLE else undrawn():
        assert main(["test", "--config", config, "--ckpt_path", checkpoint]) == 0
    record = json.loads(next(tmp_path.rglob("test/metrics.json")).read_text())
    assert record["images"] == 6 and record["metrics"]["psnr/reconstruction"] > 0
    assert name not in WHOLE or next(tmp_path.rglob("test/grid.png")).stat().st_size > 0
    model = DiffusionCounterfactuals.load_from_checkpoint(checkpoint)
    batch = next(iter(built.datamodule.test_dataloader()))
    first, method = model.graph.names[0], model.method(Sampling(steps=2))
    answer = method.abduct(batch["image"]).predict({first: 1.0})  # the last category
    assert answer.image.shape == batch["image"].shape and torch.isfinite(answer.image).all()
    assert (answer.factors[:, 0] == 1).all()
