"""``diffcf data``: what it prints and draws, and what it refuses."""

from __future__ import annotations

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


def test_it_prints_counts_factors_and_graph_and_draws_a_sheet(config, tmp_path, capsys) -> None:
    assert main(["data", str(config), "--out", str(tmp_path / "sheet.png")]) == 0
    printed = capsys.readouterr().out
    assert "200 train, 20 val, 30 test images of 3 × 32 × 32" in printed
    assert "shadow_length" in printed and "3 … 12.57" in printed
    assert "angle → shadow_length, shadow_position" in printed
    pixels = torch.tensor(list(Image.open(tmp_path / "sheet.png").convert("L").getdata()))
    assert pixels.float().std() > 10


@pytest.mark.parametrize("name", ["pendulum", "flow"])
def test_experiments_serve_as_they_are(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", str(ROOT / f"experiments/{name}.yaml")]) == 0
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
