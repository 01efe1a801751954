"""The wheel: what is in it, and what it says where shipped weights are not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from PIL import Image
from small_runs import ROOT

ASK_TWICE = """
import os, sys
from diffcf.commands.main import main
print(main(["graph", "pendulum"]))
os.environ["DIFFCF_WEIGHTS"] = sys.argv[1]
sys.exit(main(["graph", "pendulum"]))
"""
START = """
import sys
from diffcf.commands.main import main
words = ["new", "mine.yaml", "--images", "images", "--table", "factors.csv"]
sys.exit(main(words) or main(["data", "mine.yaml", "--data.batch_size=2"]))
"""
BUILD = "from setuptools import build_meta; print(build_meta.build_wheel('out'))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built in a copy, as building leaves folders."""
    copy = tmp_path_factory.mktemp("build")
    for package in ("diffcf", "data_modules"):
        unread = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, copy / package, ignore=unread)
    for file in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / file, copy)
    built = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=copy, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    assert "Deprecat" not in built.stderr
    return copy / "out" / built.stdout.split()[-1]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory) -> Path:
    """A folder to import it from."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_a_wheel_has_all_code_and_types_and_no_weights(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {
        str(path.relative_to(ROOT))
        for package in ("diffcf", "data_modules")
        for ending in ("py", "pyi", "css", "yaml")
        for path in (ROOT / package).rglob(f"*.{ending}")
    }
    assert code <= names and "diffcf/py.typed" in names
    assert not any(name.endswith(".safetensors") for name in names)
    assert wheel.stat().st_size < 2_000_000


def test_a_wheel_says_where_to_get_weights_and_takes_them_from_a_folder(installed: Path) -> None:
    """``diffcf graph pendulum`` by what is installed there, from a folder without a clone."""
    kept = {name: value for name, value in os.environ.items() if name != "DIFFCF_WEIGHTS"}
    done = subprocess.run(
        [sys.executable, "-c", ASK_TWICE, str(ROOT / "diffcf/weights")],
        cwd=installed,
        env=kept | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    missing, _, found = done.stdout.partition("2\n")
    assert done.returncode == 0 and not missing, done.stderr
    assert "pendulum.safetensors" in done.stderr and "DIFFCF_WEIGHTS" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "shadow_length" in found


def test_a_wheel_starts_an_experiment_on_images_of_your_own(installed: Path, tmp_path) -> None:
    """``diffcf new`` and ``diffcf data``, from a folder without a clone."""
    (tmp_path / "images").mkdir()
    for row in range(9):
        Image.new("RGB", (64, 64), (row, 9, 9)).save(tmp_path / f"images/{row}.png")
    rows = [f"{row}.png,{row * row}.5,{row % 2}" for row in range(9)]
    (tmp_path / "factors.csv").write_text("\n".join(["image,size,smile", *rows]))
    done = subprocess.run(
        [sys.executable, "-c", START],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "9 images; in use 7 train, 1 val, 1 test" in done.stdout
    written = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    assert written["trainer"]["default_root_dir"] == "runs/mine"


def test_what_names_the_version_agrees() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version = {{{version}}}" in (ROOT / "README.md").read_text()


def test_the_citation_has_what_its_format_asks_for() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software"
    assert {"message", "title", "authors"} <= set(cited)
    for work in (cited, *cited.get("references", [])):
        assert work["title"] and work["authors"]
        for author in work["authors"]:
            assert set(author) <= {"name"} or {"family-names", "given-names"} == set(author)
