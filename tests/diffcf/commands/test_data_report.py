"""``diffcf data``: what it prints and draws, and what it refuses."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.commands.data import draw_graph
from diffcf.commands.main import main

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "small.yaml"
    path.write_text(
        "class_path: data_modules.pendulum.PendulumDataModule\n"
        "init_args: {image_size: 32, train_size: 200, val_size: 20, test_size: 30}\n"
    )
    return path


@pytest.fixture(scope="module")
def report(config: Path) -> tuple[str, Path]:
    """What is printed of the small dataset, and its sheet."""
    sheet, out = config.with_name("sheet.png"), io.StringIO()
    with redirect_stdout(out):
        assert main(["data", str(config), "--out", str(sheet)]) == 0
    return out.getvalue(), sheet


def test_it_prints_counts_factors_and_graph_and_draws_a_sheet(report: tuple[str, Path]) -> None:
    printed, sheet = report
    assert (
        "7,308 images; in use 200 train of 4,934 (train_size), 20 val of 548 (val_size)" in printed
    )
    assert "30 test of 1,826 (test_size), of 3 × 32 × 32 pixels" in printed
    assert "data_mean 0.9" in printed and "data_std 0.3" in printed and "Warning" not in printed
    assert "shadow_length" in printed and "3 … 12.57" in printed
    assert "angle → shadow_length, shadow_position" in printed
    pixels = torch.tensor(list(Image.open(sheet).convert("L").getdata()))
    assert pixels.float().std() > 10


def test_arguments_are_those_of_fit(config, tmp_path, capsys) -> None:
    command = ["data", str(config), "--out", str(tmp_path / "sheet.png")]
    assert main([*command, "--data.test_size", "7", "--data.init_args.val_size=9"]) == 0
    printed = capsys.readouterr().out
    assert "200 train of 4,934 (train_size), 9 val of 548 (val_size), 7 test" in printed
    assert main([*command, "--data.tset_size", "7"]) == 2
    assert "tset_size" in capsys.readouterr().err
    assert main([*command, "--cut", str(tmp_path / "t.csv")]) == 2
    assert "draws its images: there is no table to cut" in capsys.readouterr().err


@pytest.mark.parametrize("missing", [False, True], ids=["all labels", "some labels"])
def test_it_warns_of_what_no_one_can_learn(missing, tmp_path, capsys) -> None:
    (tmp_path / "images").mkdir()
    rows = ["image,split,age,bald,hat"]
    for k in range(6):
        Image.new("L", (8, 8), 255 * (k % 2)).save(tmp_path / f"images/{k}.png")
        rows.append(f"{k}.png,{('train', 'train', 'val', 'test')[k % 4]},5,{k % 2},cap")
    if missing:  # of a training row each
        rows[1], rows[2] = "0.png,train,,0,cap", "1.png,train,5,1,"
    (tmp_path / "t.csv").write_text("\n".join(rows))
    (tmp_path / "graph.yaml").write_text(
        "factors: {age: {range: [0, 10]}, bald: {kind: binary}, hat: {categories: [cap, crown]}}"
    )
    config = tmp_path / "own.yaml"
    config.write_text(
        f"class_path: data_modules.FactorTableDataModule\n"
        f"init_args: {{images: {tmp_path}/images, table: {tmp_path}/t.csv, image_size: 8,\n"
        f"  graph: {tmp_path}/graph.yaml, split_column: split, batch_size: 1}}\n"
    )
    assert main(["data", str(config), "--out", str(tmp_path / "sheet.png")]) == 0
    printed = capsys.readouterr().out
    assert "Warning: age is 5.00 in all training images" in printed
    assert "Warning: no training image has hat = crown." in printed
    assert "bald is" not in printed
    assert "data_mean 0, data_std 1" in printed
    assert "6 images; in use 4 train, 1 val, 1 test, of 3 × 8 × 8 pixels" in printed


def test_it_counts_missing_labels_and_interventional_images(
    config, report, tmp_path, capsys
) -> None:
    command = ["data", str(config), "--out", str(tmp_path / "sheet.png")]
    assert "Missing" not in report[0] and "Interventional" not in report[0]
    assert main([*command, "--data.labels", "0.25", "--data.interventional", "10"]) == 0
    printed = capsys.readouterr().out
    assert (
        "Missing labels of 210 training images: angle 150, light 150, shadow_length 150, "
        "shadow_position 150" in printed
    )
    assert (
        "Interventional images of train: 10 of 210; set are angle 3, light 3, shadow_length 2, "
        "shadow_position 2" in printed
    )
    assert "nan" not in printed and "7,308 images" in printed


def test_it_says_what_the_table_does_not_determine(report, tmp_path, capsys) -> None:
    printed, _ = report
    assert "Note: shadow_position follows from angle and light in every training image" in printed
    assert (
        "no training image has light in its lower third with shadow_position in its up" in printed
    )
    assert "undetermined" not in printed
    sunlight = tmp_path / "sunlight.yaml"
    sunlight.write_text(
        "class_path: data_modules.SunlightDataModule\n"
        "init_args: {image_size: 32, train_size: 300, val_size: 2, test_size: 2}\n"
    )
    assert main(["data", str(sunlight), "--out", str(tmp_path / "b.png")]) == 0
    printed = capsys.readouterr().out
    (warning,) = [line for line in printed.splitlines() if line.startswith("Warning")]
    assert warning.startswith("Warning: light_colour and floor_colour determine each other")
    assert "do(floor_colour) is undetermined" in warning
    assert "do(light_colour), which moves both, is taught" in warning
    command = ["data", str(sunlight), "--out", str(tmp_path / "c.png"), "--data.interventional"]
    assert main([*command, "128"]) == 0
    printed = capsys.readouterr().out
    assert "Warning: light_colour and floor_colour determine" not in printed
    assert "floor_colour is written in the background" in printed
    assert main([*command, "16"]) == 0
    assert "are too few to tell where either is written" in capsys.readouterr().out
    sunlight.write_text(sunlight.read_text().replace("Sunlight", "Pointlight"))
    assert main([*command, "128"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "is written in the" in line]
    assert len(told) == 1 and "spot_position" in told[0], "of three with one colour none is heeded"


@pytest.mark.parametrize("name", ["pendulum", "flow"])
def test_experiments_serve_as_they_are(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["--data.train_size=100", "--data.test_size=20"]
    assert main(["data", str(ROOT / f"experiments/{name}.yaml"), *few]) == 0
    assert (tmp_path / f"runs/data/{name}.png").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {}", "has no data module"),
        ("- a", "has no data module"),
        ("data: {class_path: no.Such}", "does not describe a data module"),
        ("data: {class_path: data_modules.flow.FlowDataModule, init_args: {x: 1}}", "does not"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_mistakes_are_one_line(text: str, message: str, tmp_path, capsys) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert main(["data", str(tmp_path / "c.yaml")]) == 2
    assert message in capsys.readouterr().err
    assert main(["data", str(tmp_path / "none.yaml")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_the_graph_as_text() -> None:
    graph = CausalGraph([Factor("a"), Factor("b"), Factor("c"), Factor("d")], [("a", "b")])
    assert set(draw_graph(graph).splitlines()) == {"a → b", "c (alone)", "d (alone)"}
