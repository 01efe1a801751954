"""``diffcf new``: an experiment on one's own images, and a guess at their graph."""

from __future__ import annotations

import csv
import shlex
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser
from PIL import Image
from small_runs import ROOT

from diffcf.causal import CausalGraph, Factor
from diffcf.commands.main import main
from diffcf.commands.new_experiment.texts import experiment_text, graph_text
from diffcf.evaluation import EvaluationProtocol
from diffcf.training import load_data
from diffcf.training.cli import cli

COLUMNS = [
    "image",
    "split",
    "Age (years)",
    "hat",
    "windows",
    "smile",
    "number",
    "shot",
    "intervened",
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where commands run: 24 pictures and a table of them."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my images", "RGB")
    with (tmp_path / "t.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for row in range(24):
            split = "train" if row < 16 else "val" if row < 20 else "test"
            hat, label = ("cap", "no: #1", "round")[row % 3], "" if row == 3 else row % 2
            cells = [20 + row / 3, hat, row % 4, label, f"no {row}", 5, "hat" if row == 4 else ""]
            table.writerow([f"{row}.png", split, *cells])
    return tmp_path


def write(folder: Path, mode: str) -> None:
    folder.mkdir()
    for row in range(24):
        Image.new(mode, (40, 36), row * 7 if mode == "L" else (row * 7, 50, 90)).save(
            folder / f"{row}.png"
        )


def new(*words: str) -> int:
    return main(["new", *words])


GIVEN = ("--images", "my images", "--table", "t.csv")


def test_what_is_written_loads_with_the_factors_of_the_table(folder: Path, capsys) -> None:
    assert new("sub/mine.yaml", *GIVEN) == 0
    said = capsys.readouterr().out.splitlines()
    graph = CausalGraph.from_yaml("sub/graph.yaml")
    assert graph.factors == (
        Factor("Age_years", low=20, high=20 + 23 / 3),
        Factor("hat", "categorical", categories=("cap", "no: #1", "round")),
        Factor("windows", "integer", 0, 3),
        Factor("smile", "binary"),
    )
    assert not graph.edges
    text = Path("sub/graph.yaml").read_text()
    assert "number: it has 24 different texts" in text and "shot: every label is '5'" in text
    assert "# - [Age_years, hat]" in text
    module = load_data(Path("sub/mine.yaml"), ["--data.batch_size=4"])
    module.prepare_data()
    module.setup()
    assert module.available == {"train": 16, "val": 4, "test": 4}
    assert module.factors_of("train").isnan().sum() == 1
    assert said[:2] == [
        "sub/mine.yaml is written.",
        "sub/graph.yaml is written. Its factors are guessed and it has no edges: correct it.",
    ]
    commands = [shlex.split(line) for line in said[3:]]
    assert [words[1] for words in commands] == ["data", "fit", "counterfactual"]
    assert commands[2][2:4] == ["runs/mine/last.ckpt", "my images"]


def test_the_next_commands_run(folder: Path, capsys) -> None:
    """``data`` as printed, and ``fit`` as far as the model is built."""
    assert new("mine.yaml", *GIVEN) == 0
    shown = capsys.readouterr().out.splitlines()[3]
    assert main([*shlex.split(shown)[1:], "--data.batch_size=4"]) == 0
    few = ["--data.batch_size=4", "--trainer.logger=false"]
    built = cli(["--config", "mine.yaml", *few], run=False)
    assert built.model.generator.data_std == 0.205, "the number that `data` prints"
    assert built.model.graph.names == ("Age_years", "hat", "windows", "smile")
    assert built.trainer.default_root_dir == "runs/mine"


def test_a_graph_that_is_there_stays_as_it_is(folder: Path) -> None:
    text = (
        "factors: {smile: {kind: binary}, Age_years: {range: [0, 90]}}\nedges: [[Age_years, smile]]"
    )
    Path("known.yaml").write_text(text)
    assert new("mine.yaml", *GIVEN, "--graph", "known.yaml") == 0
    assert Path("known.yaml").read_text() == text and not Path("graph.yaml").exists()
    graph = load_data(Path("mine.yaml")).graph
    assert graph.edges == (("Age_years", "smile"),)


def test_grey_images_and_a_table_without_a_split(folder: Path) -> None:
    write(folder / "grey", "L")
    rows = [f"{row},{row}.5" for row in range(24)]  # names without their ending
    Path("plain.csv").write_text("\n".join(["image,size", *rows]))
    assert new("mine.yaml", "--images", "grey", "--table", "plain.csv") == 0
    config = yaml.safe_load(Path("mine.yaml").read_text())
    assert config["data"]["init_args"]["channels"] == 1
    assert "split_column" not in config["data"]["init_args"]
    for network in ("generator", "projector"):
        assert config["model"]["init_args"][network]["init_args"]["image_channels"] == 1
    module = load_data(Path("mine.yaml"), ["--data.batch_size=4"])
    module.setup()
    assert sum(module.available.values()) == 24


def table(text: str) -> tuple[str, ...]:
    Path("wrong.csv").write_text(text)
    return ("mine.yaml", "--images", "my images", "--table", "wrong.csv")


WRONG = {
    "exists already": lambda: ("there.yaml", *GIVEN),
    "Image folder nowhere does not exist": lambda: ("m.yaml", "--images", "nowhere", *GIVEN[2:]),
    "Table none.csv does not exist": lambda: ("m.yaml", *GIVEN[:2], "--table", "none.csv"),
    "has no column 'image', only file, a": lambda: table("file,a\n0.png,1\n1.png,2\n"),
    "has no column of a factor": lambda: table("image,split\n0.png,train\n"),
    "a: every label is '1'; b: it has no label": lambda: table("image,a,b\n0.png,1,\n1.png,1,\n"),
    "None of the 2 images": lambda: table("image,a\nx.png,1\ny.png,2\n"),
    "Factor 'zoom' of there.yaml has no column": lambda: (
        "m.yaml",
        *GIVEN,
        "--graph",
        "there.yaml",
    ),
    "is not valid YAML": lambda: ("m.yaml", *GIVEN, "--graph", "broken.yaml"),
    "experiment and graph at once": lambda: ("graph.yaml", *GIVEN),
    "cannot be written": lambda: ("t.csv/m.yaml", *GIVEN),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(
    folder: Path, sentence: str, capsys
) -> None:
    Path("there.yaml").write_text("factors: {zoom: {}}")
    Path("broken.yaml").write_text("factors: [")
    arguments = WRONG[sentence]()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert new(*arguments) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert sentence in said
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_the_preset_of_experiments_is_what_the_command_writes() -> None:
    mine, experiment = Path("data/mine"), Path("experiments/own_data.yaml")
    paths = (experiment, mine / "images", mine / "factors.csv", mine / "graph.yaml")
    assert (ROOT / experiment).read_text(encoding="utf-8") == experiment_text(*paths)


def test_its_protocol_is_the_standard_one() -> None:
    config = yaml.safe_load((ROOT / "experiments/own_data.yaml").read_text())
    (own,) = [
        callback["init_args"]["protocol"]
        for callback in config["trainer"]["callbacks"]
        if callback["class_path"].endswith("CounterfactualCallback")
    ]
    assert own == yaml.safe_load((ROOT / "experiments/protocols/standard.yaml").read_text())
    parser = ArgumentParser()
    parser.add_class_arguments(EvaluationProtocol, "protocol")
    read = parser.instantiate_classes(parser.parse_object({"protocol": own})).protocol
    assert asdict(read) == asdict(EvaluationProtocol())


@pytest.mark.parametrize(
    "path", ["a: b, [c] #d/$e", "'quoted' \"twice\"", "null", "0x1", "zwei\nzeilen"]
)
def test_paths_stand_in_it_as_they_are_whatever_they_contain(path: str) -> None:
    files = (Path(f"{path}.yaml"), Path(path), Path(path), Path(path))
    config = yaml.safe_load(experiment_text(*files, columns={"a": path}))
    data = config["data"]["init_args"]
    assert [data[key] for key in ("images", "table", "graph")] == [path] * 3
    assert data["columns"] == {"a": path}
    assert config["trainer"]["default_root_dir"] == str(Path("runs") / Path(f"{path}.yaml").stem)


def test_a_graph_is_read_as_it_was_guessed(tmp_path) -> None:
    categories = ("yes", "01", "a: b", "<<", "#x", "null", "[", "zwei\nzeilen", "é")
    factors = [
        Factor("null", "categorical", categories=categories),
        Factor("yes", low=-1e-7, high=1e22),
        Factor("on", "integer", -3, 10**5),
    ]
    text = graph_text(Path("zwei\nzeilen.csv"), factors, {"a\nb: c": "it has '\n'"})
    (tmp_path / "graph.yaml").write_text(text, encoding="utf-8")
    assert CausalGraph.from_yaml(tmp_path / "graph.yaml") == CausalGraph(factors)
