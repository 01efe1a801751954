"""The front door: help, version, suggestions and completion of the shell."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from importlib import import_module
from importlib.metadata import version

import pytest

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
    assert set(completed("diffcf", "counterfactual", "--s")) == {"--sweep", "--steps", "--size"}
    assert completed("diffcf", "faces", "data") == [], "files are bash's own matter"
    assert completion.script("zsh").count("bashcompinit") == 2
