from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import diffcf
from data_modules.scenes.faces.scene import CartoonFaces
from data_modules.scenes.pendulum import PendulumScene
from diffcf.commands.main import main
from diffcf.commands.weights import check
from diffcf.diffusion import ChangeFilter, ClassifierFree, Feedback, PolyakGuidance
from diffcf.io.errors import CheckpointError
from diffcf.methods import WEIGHTS, Sampling, sampling_to_spec
from diffcf.training.tracking import sampling_record

SHIPPED = sorted(WEIGHTS.glob("*.safetensors"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_weights_metrics_and_cards_belong_together(path: Path) -> None:
    assert path.stat().st_size < 10_000_000
    check(path)
    assert main(["weights", "--check", str(path)]) == 0


def test_changed_weights_metrics_or_cards_are_found_out(tmp_path: Path) -> None:
    for file in WEIGHTS.glob("pendulum.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "pendulum.safetensors"
    check(path)
    card = path.with_suffix(".md")
    card.write_text(card.read_text().replace("0.00", "0.01"))
    with pytest.raises(CheckpointError, match="is not the card"):
        check(path)
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(record | {"weights": "0"}))
    with pytest.raises(CheckpointError, match="not the file that its metrics"):
        check(path)


def test_shipped_pendulum_does_what_its_card_says() -> None:
    scene = PendulumScene()
    factors = scene.published_grid()[0].float()
    factors = factors[scene.visible(factors)][::331][:16]
    images = scene.render(factors, 64)
    light = factors[:, 1].flip(0).clamp(0, 1)
    mask = torch.zeros_like(factors, dtype=torch.bool)
    mask[:, 1] = True
    truth = scene.counterfactual(factors, torch.where(mask, light[:, None], 0.0), mask)
    seen = scene.visible(truth)
    answer = diffcf.load("pendulum").counterfactual(images, do={"light": light})
    assert (answer.factors - factors).abs().mean() < 0.01, "it reads the factual"
    error = (scene.read(answer.image) - truth).abs()[seen].mean()
    nothing = (factors - truth).abs()[seen].mean()
    assert error < 0.02 < nothing
    nothing_done = diffcf.load("pendulum").counterfactual(images, do={})
    torch.testing.assert_close(nothing_done.image, images, atol=1e-4, rtol=0)


def test_shipped_faces_do_what_their_card_says() -> None:
    scene = CartoonFaces("smile")
    factors, noise = scene.sample(16, torch.Generator().manual_seed(7))
    images = scene.render(factors, 64, noise)
    opposite = 1 - factors[:, 1]
    answer = diffcf.load("faces").counterfactual(images, do={"Smiling": opposite})
    read = scene.read(answer.image)
    assert ((read[:, 1] > 0.5) == (opposite > 0.5)).float().mean() > 0.9
    assert ((read[:, 0] > 0.5) == (factors[:, 0] > 0.5)).all(), "not an effect of Smiling"
    exact = scene.render(answer.target, 64, noise)
    error, nothing = ((exact - x).square().mean() for x in (answer.image, images))
    assert error < 0.5 * nothing, "it is the same person"


def test_a_fresh_process_answers() -> None:
    code = (
        "import diffcf\n"
        "model = diffcf.load('pendulum')\n"
        "import torch\n"
        "images = torch.rand(2, 3, 64, 64) * 2 - 1\n"
        "print(*model.counterfactual(images, do={'light': 0.8}).image.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 3 64 64\n"


def test_a_checkpoint_and_metrics_of_another_training_are_refused(tmp_path: Path, capsys) -> None:
    metrics = WEIGHTS / "pendulum.json"
    assert main(["weights", "--check", str(tmp_path / "none.safetensors")]) == 2
    assert main(["weights", str(tmp_path / "a.ckpt"), str(metrics), "--out", "x.safetensors"]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    "there, out, words",
    [
        ("w.safetensors", "w.safetensors", "exists already"),
        ("w.json", "w.safetensors", "exists already"),
        ("other", "w.json", "does not end in .safetensors"),
    ],
)
def test_weights_replace_nothing_and_are_named_as_weights(
    there: str, out: str, words: str, tmp_path: Path, capsys
) -> None:
    (tmp_path / there).write_text("somebody's")
    metrics = str(WEIGHTS / "pendulum.json")
    assert main(["weights", "pendulum", metrics, "--out", str(tmp_path / out)]) == 2
    assert words in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "somebody's"


def test_half_size_weights_tell_nothing_of_the_machine(tmp_path: Path) -> None:
    record = json.loads((WEIGHTS / "faces.json").read_text())
    config = record["provenance"]["config"]
    config["data"]["init_args"]["root"] = "/home/somebody/pictures"
    config["trainer"]["default_root_dir"] = "/home/somebody/runs/flow"
    metrics, out = tmp_path / "metrics.json", tmp_path / "half.safetensors"
    metrics.write_text(json.dumps(record))
    made = ["weights", str(WEIGHTS / "faces.safetensors"), str(metrics), "--also", str(metrics)]
    assert main([*made, "--half", "true", "--out", str(out)]) == 0
    check(out)
    assert out.stat().st_size < 0.55 * (WEIGHTS / "faces.safetensors").stat().st_size
    assert "somebody" not in out.with_suffix(".json").read_text()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    whole, half = (diffcf.load(path).read(images) for path in (WEIGHTS / "faces.safetensors", out))
    torch.testing.assert_close(half, whole, atol=0.02, rtol=0)


def test_weights_keep_how_the_test_drew(tmp_path: Path) -> None:
    sampling = Sampling(
        guidance=PolyakGuidance(2.0),
        free=ClassifierFree(3.0, from_factual=True, focus=0.8),
        feedback=Feedback(2.0, beyond=1.5),
        change_filter=ChangeFilter(radius=2),
        steps=4,
        anchored=True,
    )
    record = json.loads((WEIGHTS / "pendulum.json").read_text())
    record["provenance"]["sampling"] = sampling_record(sampling)
    metrics, out = tmp_path / "metrics.json", tmp_path / "out.safetensors"
    metrics.write_text(json.dumps(record))
    assert (
        main(["weights", str(WEIGHTS / "pendulum.safetensors"), str(metrics), "--out", str(out)])
        == 0
    )
    assert sampling_to_spec(diffcf.load(str(out)).sampling) == sampling_to_spec(sampling)
