"""A benchmark of seconds, on a handful of small images."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from diffcf.commands.main import main

ROOT = Path(__file__).parents[4]
TOY = {"model": {"class_path": "toy_method.ToyMethod", "init_args": {"learning_rate": 0.01}}}
BROKEN = {"model": {"class_path": "toy_method.BrokenMethod"}}


def write_grid(folder: Path, minutes: float = 0.02, **methods: dict[str, Any]) -> Path:
    """The grid's file; ``methods`` by name, of which ``toy`` is always one."""
    common = yaml.safe_load((ROOT / "experiments/benchmarks/common/pendulum.yaml").read_text())
    common["data"]["init_args"] |= {
        "image_size": 32,
        "batch_size": 4,
        "train_size": 64,
        "val_size": 6,
        "test_size": 6,
    }
    for callback in common["trainer"]["callbacks"]:
        arguments = callback.setdefault("init_args", {})
        if "minutes" in arguments:
            arguments["minutes"] = minutes
        if "every_n_train_steps" in arguments:
            arguments["every_n_train_steps"] = 20
        if "protocol" in arguments:
            arguments |= {"protocol": "protocol.yaml", "samples": 1}
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "common.yaml", common)
    write(folder / "protocol.yaml", {"steps": 2, "cycles": 2, "resamples": 20})
    grid: dict[str, Any] = {
        "dataset": "small",
        "common": "common.yaml",
        "seeds": [0],
        "results": "results",
        "methods": {},
    }
    for name, method in {**methods, "toy": methods.get("toy", TOY)}.items():
        write(folder / f"{name}.yaml", method)
        grid["methods"][name] = f"{name}.yaml"
    return write(folder / "grid.yaml", grid)


def write(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def change(path: Path, **parts: Any) -> None:
    """Replace top-level parts of a YAML file."""
    write(path, yaml.safe_load(path.read_text()) | parts)


@dataclass
class Told:
    """What a command printed, and its exit status."""

    out: str
    err: str
    status: int


def run(grid: Path, *options: str) -> Told:
    """``diffcf benchmark``, with its runs beside the grid."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(["benchmark", str(grid), "--runs", str(grid.parent / "runs"), *options])
        except SystemExit as stop:
            status = int(str(stop.code))
    return Told(out.getvalue(), err.getvalue(), status)
