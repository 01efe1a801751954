"""What the README and docs/ tell to run, runs: Python as it stands, commands by their parsers."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from doc_pages import PAGES, ROOT, Block, blocks, codes
from jsonargparse import ArgumentParser

from diffcf.commands.main import COMMANDS, main
from diffcf.networks.unet import UNet

ANYWHERE = {"export", "grep", "source", "wandb"}
"""Commands that are not ours and need nothing of ours."""
STANDS_FOR = {"mine.yaml": "experiments/own_data.yaml"}
"""A file that the pages have `diffcf new` write, and the one in a clone that has the same text."""


class Parsed(Exception):
    """The arguments were understood."""


@pytest.fixture
def only_parsing(monkeypatch) -> None:
    """Commands stop once their arguments are parsed; ``my_package`` stands for a user's own."""
    whole, inner = ArgumentParser.parse_args, []

    def parse(self, *args, **kwargs):
        # jsonargparse parses the options of a class by a parser within the parser.
        inner.append(self)
        parsed = whole(self, *args, **kwargs)
        inner.pop()
        if not inner:
            raise Parsed
        return parsed

    monkeypatch.setattr(ArgumentParser, "parse_args", parse)

    class Plain(argparse.ArgumentParser):
        """Of commands that start without jsonargparse."""

        def parse_args(self, *args, **kwargs):
            super().parse_args(*args, **kwargs)
            raise Parsed

    monkeypatch.setattr("diffcf.commands.tables.ArgumentParser", Plain)
    package = ModuleType("my_package")
    package.MyGenerator = type("MyGenerator", (UNet,), {"__module__": "my_package"})
    monkeypatch.setitem(sys.modules, "my_package", package)
    monkeypatch.setattr(sys, "argv", ["diffcf"])  # or LightningCLI warns of pytest's
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("block", [b for b in blocks("python") if b.runs], ids=str)
def test_python_runs(block: Block, tmp_path, monkeypatch) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("block", [b for b in blocks("", "bash", "sh") if b.runs], ids=str)
def test_commands_are_understood(block: Block, only_parsing, capsys) -> None:
    for words in _commands(block.text):
        _understood(words, capsys)


def test_commands_within_the_text_are_understood(only_parsing, capsys) -> None:
    for code in sorted({code for page in PAGES for code in codes(page)}):
        words = code.split()
        if words[0] == "diffcf" and len(words) == 2:
            assert words[1] in {*COMMANDS, "--help", "fit", "validate", "test", "predict"}, code
        elif words[0] in ("diffcf", "make") and len(words) > 1 and not _is_part(code):
            _understood(shlex.split(code), capsys)


@pytest.mark.parametrize(
    "wrong", ["data --nope", "fit --config experiments/none.yaml", "data experiments/flow.yaml two"]
)
def test_a_wrong_command_is_noticed(wrong: str, only_parsing, capsys) -> None:
    with pytest.raises(pytest.fail.Exception):
        _understood(["diffcf", *wrong.split()], capsys)


def _is_part(code: str) -> bool:
    """Whether a command is quoted in part: with an ellipsis, or down to an option's name."""
    return "…" in code or code.split()[-1].startswith("--")


def _commands(text: str) -> Iterator[list[str]]:
    """Every command as words: comments and variables before it gone, ``&&`` taken apart."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                yield words


def _understood(words: list[str], capsys) -> None:
    program, *rest = words
    if program == "diffcf":
        words = [word.rstrip("…") for word in rest if word != "…"]
        _parses([STANDS_FOR.get(word, word) for word in words], capsys)
    elif program == "python" and rest[0].endswith(".py"):
        assert (ROOT / rest[0]).is_file(), f"{rest[0]} does not exist"
    elif program in ("torchrun", "python"):
        module, *arguments = rest[rest.index("-m") + 1 :]
        if module == "pytest":
            assert all((ROOT / word).exists() for word in arguments if word.startswith("tests/"))
        else:
            assert module == "diffcf"
            _parses(arguments, capsys)
    elif program == "make":
        _made(rest)
    elif program == "sbatch":
        assert (ROOT / rest[-1]).is_file()
    elif program == "ssh":
        _understood(rest[rest.index("diffcf") :], capsys)
    elif program == "pip":
        assert rest[0] == "install" and (rest[-1] == "." or rest[-1].startswith("diffcf["))
    else:
        assert program in ANYWHERE, f"{program} is not known here"


def _parses(arguments: list[str], capsys) -> None:
    """Fails with the parser's own words."""
    try:
        with pytest.raises(Parsed):
            main(arguments)
    except SystemExit as stop:
        said = capsys.readouterr()
        if stop.code or "--help" not in arguments:
            pytest.fail(f"diffcf {shlex.join(arguments)}\n{said.err}")


def _made(words: list[str]) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", text, flags=re.M))
    variables = set(re.findall(r"^([A-Z]+) \?=", text, flags=re.M))
    for word in words:
        name, assigned, value = word.partition("=")
        assert name in (variables if assigned else targets), f"make has no {word}"
        assert name != "CONFIG" or (ROOT / value).is_file(), f"{value} does not exist"
