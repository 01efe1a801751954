"""``diffcf audit``: files of a report, and every mistake one sentence."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from PIL import Image
from stirring import stir

import diffcf
from diffcf.commands.main import main
from diffcf.diffusion import NoGuidance
from diffcf.methods import Sampling, write_weights
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.reporting import save_image

SOURCE = """
def mean(): return lambda images: images.mean(dim=(1, 2, 3))
def three(): return lambda images: images.mean(dim=(2, 3))
"""


@pytest.fixture
def folder(model: DiffusionCounterfactuals, small_batch: dict, tmp_path: Path, monkeypatch) -> Path:
    """An untrained model, a classifier, four images, and a data set's YAML."""
    stir(model)
    model.image_shape = (3, 32, 32)
    write_weights(model, Sampling(NoGuidance(), steps=2), tmp_path / "some.safetensors")
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "pictures").mkdir()
    for place, image in enumerate(small_batch["image"][:4]):
        save_image(image, tmp_path / f"pictures/{place}.png")
    small = {"image_size": 32, "train_size": 40, "val_size": 4, "test_size": 10, "batch_size": 8}
    for name, size in (("small", 32), ("large", 64)):
        data = {
            "class_path": "data_modules.PendulumDataModule",
            "init_args": small | {"image_size": size},
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(data))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore:These weights do not record")
def test_a_report_of_files(folder: Path, capsys) -> None:
    asked = ["--do", "light=1.2", "--versus", "light=1.0", "--strata", "angle"]
    command = ["audit", "some.safetensors", "mine.py:three", "pictures", *asked, "--out", "out"]
    assert main(command) == 0
    assert "light = 1.00 → light = 1.20" in capsys.readouterr().out
    record = json.loads((folder / "out/audit.json").read_text())
    (effect,) = record["effects"]
    assert len(effect["total"]) == 3 and effect["total"][0]["images"] == 4
    assert set(effect["flips"]) == {"all"}
    origin = record["provenance"]
    assert origin["classifier"] == "mine.py:three" and origin["images"] == 4
    assert str(folder) not in json.dumps(record), "no folder of this machine"
    rows = list(csv.DictReader((folder / "out/effects.csv").open()))
    assert len(rows) == 4 * 3 and {row["image"] for row in rows} == set("0123")
    means = [float(row["total"]) for row in rows if row["output"] == "1"]
    assert sum(means) / 4 == pytest.approx(effect["total"][1]["mean"])
    page = (folder / "out/report.md").read_text()
    assert "![" in page and (folder / "out/moved_0.png").is_file()
    assert Image.open(folder / "out/moved_0.png").size[0] > 100
    assert main(command) == 2 and "exists already" in capsys.readouterr().err


def test_python_and_the_command_say_the_same(folder: Path, small_batch: dict) -> None:
    settings = ["--data", "small.yaml", "--count", "5", "--factor", "shadow_length"]
    command = ["audit", "some.safetensors", "mine.py:mean", *settings, "--out", "out"]
    assert main(command) == 0
    record = json.loads((folder / "out/audit.json").read_text())
    model, batch = diffcf.load("some.safetensors"), small_batch
    do, versus = {"shadow_length": 0.4}, {"shadow_length": 0.0}
    audit = model.audit(
        lambda images: images.mean(dim=(1, 2, 3)), batch["image"], batch["factors"], do, versus
    )
    assert audit.effects[0].keys() == record["effects"][0].keys()
    assert audit.effects[0]["total"] == audit.effects[0]["direct"], "it is a leaf"
    answers = [
        model.counterfactual(batch["image"], each, batch["factors"]).image for each in (versus, do)
    ]
    moved = (answers[1] - answers[0]).mean(dim=(1, 2, 3)).mean().item()
    assert audit.effects[0]["total"][0]["mean"] == pytest.approx(moved, abs=1e-6)


def test_the_audit_itself_is_measured(folder: Path, capsys) -> None:
    settings = ["--planted", "5", "--data", "small.yaml", "--count", "8"]
    assert main(["audit", "some.safetensors", *settings, "--out", "out"]) == 0
    record = json.loads((folder / "out/planted.json").read_text())
    assert record["population"] == 10 and len(record["weights"]) == 5
    for row in record["contrasts"]:
        assert row["total"]["error"] > 0.1, "an untrained model is no good"
        assert 0 <= row["total"]["coverage"] <= 1
    assert (folder / "out/planted.md").read_text() in capsys.readouterr().out


MEAN = ["some.safetensors", "mine.py:mean"]


@pytest.mark.filterwarnings("ignore:These weights do not record")
@pytest.mark.parametrize(
    "given, said",
    [
        (["some.safetensors"], "Name a classifier"),
        (MEAN, "Name what to audit on"),
        ([*MEAN, "pictures", "--data", "small.yaml"], "Name what to audit on"),
        ([*MEAN, "pictures", "--planted", "3"], "Name a classifier"),
        (["some.safetensors", "--planted", "3"], "--data"),
        (["some.safetensors", "--planted", "3", "--data", "small.yaml", "--do", "light=1"], "--do"),
        ([*MEAN, "pictures", "--versus", "light=1"], "--versus"),
        ([*MEAN, "pictures", "--do", "light=1", "--factor", "light"], "--factor"),
        ([*MEAN, "pictures", "--do", "light=100"], "outside the factor's range"),
        ([*MEAN, "pictures", "--do", "wind=1"], "wind"),
        ([*MEAN, "pictures", "--factor", "wind"], "wind"),
        ([*MEAN, "pictures", "--do", "light=1", "--strata", "wind"], "wind"),
        ([*MEAN, "nowhere"], "does not exist"),
        ([*MEAN, "--data", "large.yaml"], "image_size"),
        (["nothing.ckpt", "mine.py:mean", "pictures"], "nothing.ckpt"),
        (["some.safetensors", "gone.pt", "pictures"], "gone.pt"),
    ],
)
def test_a_mistake_is_one_sentence(folder: Path, given: list[str], said: str, capsys) -> None:
    assert main(["audit", *given, "--out", "out"]) == 2
    text = capsys.readouterr().err.strip()
    assert said in text and len(text.splitlines()) == 1
    assert not (folder / "out").exists()


def test_what_no_scene_drew_has_no_exact_effects(folder: Path, capsys) -> None:
    assert main(["export", "small.yaml", "files"]) == 0
    places = {"images": "files/images", "table": "files/factors.csv", "graph": "files/graph.yaml"}
    data = {
        "class_path": "data_modules.FactorTableDataModule",
        "init_args": places | {"image_size": 32, "batch_size": 8},
    }
    (folder / "files.yaml").write_text(yaml.safe_dump(data))
    settings = ["--planted", "3", "--data", "files.yaml", "--out", "out"]
    assert main(["audit", "some.safetensors", *settings]) == 2
    assert "No scene" in capsys.readouterr().err
