"""Changed descriptions of a benchmark: cells, or one SettingsError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from grids import write, write_grid
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentError, ArgumentParser
from mutations import FUZZ, mutated

from diffcf.commands.benchmark.grid import Grid
from diffcf.evaluation.protocol import EvaluationProtocol
from diffcf.io.errors import SettingsError

PARTS = ("grid", "toy", "common", "protocol")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A small grid, and what its files hold."""
    folder = tmp_path_factory.mktemp("grid")
    toy = {"title": "Toy", "sampling": {"steps": 3}, "search": [{}, {"sampling.steps": 2}]}
    model = {"model": {"class_path": "toy_method.ToyMethod", "init_args": {"clip": 1.0}}}
    path = write_grid(folder, toy={**model, **toy})
    content = yaml.safe_load(path.read_text())
    content["methods"]["b"] = {"config": "toy.yaml", "set": {"model.init_args.clip": 2.0}}
    write(path, content)
    return folder, {n: yaml.safe_load((folder / f"{n}.yaml").read_text()) for n in PARTS}


@pytest.mark.parametrize("part", PARTS)
@FUZZ
@given(data=st.data())
def test_a_changed_description_has_cells_or_is_one_error(whole, part: str, data) -> None:
    folder, contents = whole
    try:
        write(folder / f"{part}.yaml", data.draw(mutated(contents[part])))
        grid = Grid.load(folder / "grid.yaml")
        for cell in grid.cells(folder / "runs"):
            assert cell.results.is_relative_to(grid.results)
            assert cell.folder.is_relative_to(folder / "runs")
    except SettingsError:
        pass
    finally:
        write(folder / f"{part}.yaml", contents[part])


@FUZZ
@given(mutated({"steps": 2, "cycles": 3, "images": 4, "min_change": 0.1, "factors": ["a"]}))
def test_a_changed_protocol_is_one_or_one_error(spec: Any) -> None:
    """As a command reads it: types first, by jsonargparse, then ranges."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--protocol", type=EvaluationProtocol)
    try:
        built = parser.instantiate_classes(parser.parse_object({"protocol": spec})).protocol
    except (ArgumentError, SettingsError):
        return
    assert spec is None or isinstance(built, EvaluationProtocol)
