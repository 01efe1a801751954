"""``diffcf evaluator`` as a user runs it, on small data."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule

from data_modules.pendulum import PendulumDataModule
from data_modules.scenes.pendulum import PendulumScene
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.commands.evaluator import build, evaluator
from diffcf.commands.faces import write_faces
from diffcf.evaluation.evaluator.reader import EvaluatorReader
from diffcf.io.errors import CheckpointError, GraphError, OutputError
from diffcf.io.transform import ImageTransform
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.networks.unet import UNet
from diffcf.training.callbacks.counterfactual import CounterfactualCallback

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "experiments/evaluators").glob("*.yaml"))


def _tiny(folder: Path) -> Path:
    """The Pendulum evaluator cut down to seconds; it writes to ``folder / "out"``."""
    config = yaml.safe_load((ROOT / "experiments/evaluators/pendulum.yaml").read_text())
    small = {"image_size": 32, "batch_size": 8, "train_size": 32, "val_size": 6, "test_size": 10}
    config["data"]["init_args"] |= small
    config["model"]["network"]["init_args"] |= {"channels": 8, "condition": 8}
    config["model"]["latents"]["init_args"] = {"image_size": 32, "latents": 4, "channels": 4}
    config["trainer"] |= {
        "max_steps": 4,
        "val_check_interval": 2,
        "logger": False,
        "callbacks": None,
        "enable_progress_bar": False,
    }
    config["out"] = str(folder / "out")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("evaluator")
    evaluator(["--config", str(_tiny(folder)), "--seed_everything", "5"])
    return folder


def test_the_folder_holds_weights_and_card(made: Path) -> None:
    names = {path.name for path in (made / "out").iterdir()}
    assert names == {"evaluator.safetensors", "card.json", "card.md"}
    assert not (made / "out.part").exists()
    card = json.loads((made / "out/card.json").read_text())
    assert card["images"] == {"train": 32, "validation": 6, "test": 10}
    assert card["image_shape"] == [3, 32, 32] and card["data"] == "PendulumDataModule"
    leaves = card["counterfactual"]["shadow_length"]
    assert set(leaves) == {"error", *(f"error/{name}" for name in _graph().names)}
    for group in ("counterfactual_roots", "counterfactual_leaves"):
        assert 0 < card[group] <= 1
    training = card["training"]
    assert training["steps"] == 4 and training["seed"] == "5" and training["seconds"] > 0
    assert training["selected_step"] in (2, 4) and training["device"]
    assert card["versions"]["torch"] == torch.__version__
    assert card["config"]["data"]["init_args"]["image_size"] == 32
    text = (made / "out/card.md").read_text()
    assert "| exact counterfactuals, do(shadow_length) |" in text and "seed 5" in text
    assert "| angle | " in text


def test_the_saved_evaluator_reads_as_its_card_says(made: Path) -> None:
    reader = EvaluatorReader.load(made / "out/evaluator.safetensors", _graph())
    assert reader.card == json.loads((made / "out/card.json").read_text())
    again = EvaluatorReader.load(made / "out/evaluator.safetensors")
    data = build(["--config", str(made / "config.yaml"), "--out", str(made / "other")]).datamodule
    data.setup("test")
    images, factors = data.images_of("test", torch.arange(10)), data.factors_of("test")
    assert torch.equal(reader.read(images), again.read(images))
    error = (reader.read(images) - factors).abs().mean().item()
    assert error == pytest.approx(reader.card["test"]["error"], abs=1e-6)
    with pytest.raises(CheckpointError, match="reads no 'a', but angle"):
        EvaluatorReader.load(made / "out/evaluator.safetensors", CausalGraph([Factor("a")]))


def test_an_evaluator_of_files_seen_otherwise_is_refused(made: Path) -> None:
    card = json.loads((made / "out/card.json").read_text())
    seen = ImageTransform.from_dict(card["transform"])
    assert seen == ImageTransform(32)
    callback = CounterfactualCallback(evaluator=str(made / "out/evaluator.safetensors"))
    data = PendulumDataModule(image_size=32)
    model = DiffusionCounterfactuals(data.graph, partial(UNet, channels=[8], condition=8))
    trainer = SimpleNamespace(datamodule=data)
    callback.setup(trainer, model, "test")
    data.transform = replace(seen, crop=148)
    callback = CounterfactualCallback(evaluator=str(made / "out/evaluator.safetensors"))
    with pytest.raises(CheckpointError, match=r"seen otherwise .*central 148 × 148"):
        callback.setup(trainer, model, "test")


def test_the_same_seed_makes_the_same_evaluator(made: Path, tmp_path: Path) -> None:
    config = str(made / "config.yaml")
    evaluator(["--config", config, "--seed_everything", "5", "--out", str(tmp_path / "again")])
    one, two = (
        EvaluatorReader.load(folder / "evaluator.safetensors")
        for folder in (made / "out", tmp_path / "again")
    )
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(one.read(images), two.read(images))


def test_nothing_is_written_over(made: Path) -> None:
    before = (made / "out/evaluator.safetensors").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        evaluator(["--config", str(made / "config.yaml")])
    assert (made / "out/evaluator.safetensors").read_bytes() == before


def test_data_without_factors_are_refused(tmp_path: Path) -> None:
    config = yaml.safe_load(_tiny(tmp_path).read_text())
    config["data"] = {"class_path": f"{__name__}.Bare"}
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(GraphError, match="Bare offers no factors"):
        build(["--config", str(tmp_path / "bare.yaml")])


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    write_faces(folder / "faces", 24)
    return folder / "faces"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_config_builds_and_is_independent(path: Path, faces: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)  # graphs are named relative to it
    guided = "celeba_smile" if path.stem == "celeba" else path.stem  # one reader of all attributes
    experiment = yaml.safe_load((ROOT / f"experiments/{guided}.yaml").read_text())
    arguments = ["--config", str(path), "--out", "runs/evaluators/none"]
    if path.stem.startswith("celeba"):
        arguments += ["--data.init_args.root", str(faces)]
    built = build(arguments)
    assert built.model.graph == built.datamodule.graph
    assert built.config.seed_everything != experiment["seed_everything"]
    own, guiding = built.model.spec, experiment["model"]["init_args"]["projector"]
    assert _size(own) != _size(guiding), "another size than the network that guides"
    ours, theirs = built.config.data.init_args, experiment["data"]["init_args"]
    assert ours.image_size == theirs["image_size"]
    assert built.datamodule.seed == theirs.get("seed", 0), "which the held-out images hang on"


def _size(spec: dict[str, Any]) -> tuple[Any, ...]:
    arguments = {"patch": 4, "channels": 64, "blocks": 2, **spec["init_args"]}
    return tuple(arguments[name] for name in ("patch", "channels", "blocks"))


def _graph() -> CausalGraph:
    return PendulumScene().graph


class Bare(LightningDataModule):
    """A data module that has a graph and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = _graph()
