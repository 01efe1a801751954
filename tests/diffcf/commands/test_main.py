"""The front door: help, version, suggestions and completion of the shell."""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from diffcf.commands import completion
from diffcf.commands import main as front
from diffcf.commands.main import COMMANDS, GROUPS, LIGHTNING, main


def test_one_page_shows_every_command_with_a_line_and_an_example(capsys) -> None:
    assert main([]) == 0
    page = capsys.readouterr().out
    assert main(["--help"]) == 0 and capsys.readouterr().out == page
    assert list(GROUPS) == ["Ask", "Train and test", "Data", "Compare", "Share"]
    for name, command in COMMANDS.items():
        assert f"\n  {name} " in page and command.does in page
        assert f"diffcf {command.example}" in page and shlex.split(command.example)[0] == name
    assert max(map(len, page.splitlines())) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_page_says(name: str) -> None:
    if (place := COMMANDS[name].place) != LIGHTNING:
        module, _, function = place.partition(":")
        assert callable(getattr(import_module(f"diffcf.commands.{module}"), function))


def test_version(capsys) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"diffcf {version('diffcf')}\n"


def test_output_that_nobody_reads_ends_in_silence() -> None:
    grid = Path(__file__).parents[3] / "experiments/benchmarks/pendulum.yaml"
    command = [sys.executable, "-m", "diffcf", "benchmark", "--list", str(grid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()  # as head does, once it has seen enough
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_verbose_version_has_what_a_report_needs(capsys) -> None:
    assert main(["--version", "--verbose"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"diffcf {version('diffcf')}"
    said = dict(line.split(maxsplit=1) for line in lines)
    for package in ("torch", "lightning", "torchmetrics", "zuko", "jsonargparse"):
        assert said[package] == version(package)
    assert said["python"] == platform.python_version()
    assert said["platform"] and said["devices"].startswith("cpu")
    assert main(["--version", "--verbos"]) == 2


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("conterfactual", "counterfactual"),
        ("Test", "test"),
        ("train", "fit"),
        ("--versoin", "--version"),
        ("benchmrak", "benchmark"),
        ("nosuch", None),
        ("-x", None),
        ("two\nlines", None),
        ("", None),
    ],
)
def test_a_word_that_is_no_command(typed: str, meant: str | None, capsys) -> None:
    assert main([typed, "--config", "x"]) == 2
    out, said = capsys.readouterr()
    assert not out and len(said.splitlines()) == 1 and "`diffcf --help`" in said
    assert ("did you mean" in said) == (meant is not None)
    assert meant is None or meant in said


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_and_options(monkeypatch) -> None:
    some = {name: COMMANDS[name] for name in ("faces", "counterfactual")}
    monkeypatch.setattr(completion, "COMMANDS", some)
    monkeypatch.setattr(front, "COMMANDS", some)

    def completed(*words: str) -> list[str]:
        typed = " ".join(map(shlex.quote, words))
        ask = f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _diffcf; "
        script = completion.script("bash") + ask + 'echo "${COMPREPLY[@]}"'
        return subprocess.check_output(["bash", "-c", script], text=True).split()

    assert completed("diffcf", "f") == ["faces"]
    assert completed("diffcf", "faces", "--c") == ["--count"]
    assert set(completed("diffcf", "counterfactual", "--s")) == {
        "--sweep", "--steps", "--size", "--seed",
    }  # fmt: skip
    assert completed("diffcf", "faces", "data") == [], "files are bash's own matter"
    assert completion.script("zsh").count("bashcompinit") == 2


@pytest.mark.parametrize(
    "line",
    [
        "counterfactual pendulum x.png --do light=1 --out a --batch_size -1",
        "counterfactual pendulum x.png --do light=1 --out a --batch_size 0",
        "counterfactual pendulum x.png --do light=1 --out a --size 0",
        "counterfactual pendulum x.png --do light=1 --out a --size 100000",
        "counterfactual pendulum x.png --do light=1 --out a --steps 0",
        "counterfactual pendulum x.png --do light=1 --out a --steps 100000000",
        "app pendulum --size -1",
        "fid a b --batch_size 0",
        "faces a --seed -1",
        "faces a --seed 99999999999999999999",
        "ablate pendulum --seed -1",
        "bench experiments/pendulum.yaml --repeats 0",
        "bench experiments/pendulum.yaml --images -3",
        "loading-speed --images [0]",
        "loading-speed --image_size 0",
        "benchmark grid.yaml --search --search_minutes -1",
        "benchmark grid.yaml --search --search_images 0",
        "export experiments/pendulum.yaml a --images 0",
    ],
)
def test_numbers_out_of_range_end_a_command_before_it_begins(
    line: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line))
    assert ended.value.code == 2 and not list(tmp_path.iterdir())
    assert line.split("--")[-1].split()[0] in capsys.readouterr().err, "the option is named"


@pytest.mark.parametrize("device, reason", [("gpu", "is no device"), ("cuda:99", "does not work")])
def test_a_device_that_is_not_there_is_one_sentence(device: str, reason: str, capsys) -> None:
    assert main(["counterfactual", "pendulum", "x.png", "--out=a", f"--device={device}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"diffcf: '{device}' {reason}") and "name cpu" in said


def test_a_size_that_the_networks_do_not_take_is_one_sentence(tmp_path: Path, capsys) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    asked = ["counterfactual", "pendulum", str(tmp_path / "x.png"), "--do", "light=1"]
    assert main([*asked, "--size", "33", "--out", str(tmp_path / "out")]) == 2
    assert "image sides that are multiples of 4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["fit", "ablate pendulum", "evaluator --out x"])
def test_a_config_that_is_no_text_is_one_sentence(command: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main([*command.split(), "--config", str(path)]) == 2
    assert "is not a text file" in capsys.readouterr().err


def test_a_folder_below_a_file_is_one_sentence(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    runs = ["--runs", str(tmp_path / "file/runs"), "--only", "ours/0"]
    grid = str(Path(__file__).parents[3] / "experiments/benchmarks/pendulum.yaml")
    assert main(["benchmark", grid, *runs, "--search"]) == 2
    assert "Not a directory" in capsys.readouterr().err
    asked = ["counterfactual", "pendulum", "x.png", "--do", "light=1"]
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    asked[2] = str(tmp_path / "x.png")
    assert main([*asked, "--out", str(tmp_path / "file/answers")]) == 2
    assert "cannot be written" in capsys.readouterr().err
