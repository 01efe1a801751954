"""The rooms of docs/architecture.md: imports run one way, doors open, and open without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
STUBS = sorted(
    path.relative_to(ROOT)
    for package in ("diffcf", "data_modules")
    for path in (ROOT / package).rglob("__init__.pyi")
)
QUICK = [
    ["--help"],
    ["table", "experiments/results/pendulum/seed0.json"],
    ["tables", "--check", "--readme", "README.md"],
    ["weights", "--check", "diffcf/weights/pendulum.safetensors"],
]


def test_imports_run_one_way(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0


def test_nothing_lies_beside_the_rooms() -> None:
    modules = {path.name for path in (ROOT / "diffcf").glob("*.py*")}
    assert modules <= {"__init__.py", "__init__.pyi", "__main__.py"}
    assert (ROOT / "diffcf/py.typed").is_file()


@pytest.mark.parametrize("stub", STUBS, ids=str)
def test_every_public_name_of_a_room_is_there(stub: Path) -> None:
    room = import_module(".".join(stub.parent.parts))
    tree = ast.parse((ROOT / stub).read_text(encoding="utf-8"))
    named = {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert named == set(room.__all__)
    for name in named:
        assert getattr(room, str(name)) is not None


def test_commands_that_need_no_network_do_not_import_torch() -> None:
    code = (
        "import sys; from diffcf.commands.main import main\n"
        f"for arguments in {QUICK!r}:\n"
        "    assert main(arguments) == 0, arguments\n"
        "    assert 'torch' not in sys.modules, f'{arguments} imported torch'\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
