"""``diffcf benchmark experiments/benchmarks/pendulum.yaml``: every method, every seed, one table.

Runs the cells of a grid that are not done yet, one after another, and goes on after a failed one.
Several runners share a grid without a scheduler: each takes the cells that no other is working on
(``--threads 1`` lets two runners fill two cores). On a cluster, ``--list`` names the cells and
``--only method/seed`` runs one of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from diffcf.benchmark.grid import Cell, Grid, Method
from diffcf.benchmark.process import RunError
from diffcf.benchmark.runner import run_cell
from diffcf.benchmark.search import SearchPlan, search
from diffcf.benchmark.settings import BenchmarkError

__all__ = ["benchmark"]


def benchmark(args: Sequence[str]) -> None:
    """Command ``diffcf benchmark``; ``--help`` lists the arguments.

    Raises:
        BenchmarkError: before anything runs, when a description is broken or names are unknown.
        SystemExit: with status 1 when a cell failed, 130 after Ctrl-C.
    """
    parsed = _parser().parse_args(list(args))
    if parsed.threads < 1:
        raise BenchmarkError(f"--threads must be at least 1, not {parsed.threads}.")
    grids = [Grid.load(path) for path in parsed.grids]
    cells = _chosen([c for grid in grids for c in grid.cells(parsed.runs)], parsed.only)
    if parsed.list:
        print("\n".join(f"{cell}\t{cell.state}" for cell in cells))
        return
    try:
        failed = _search(grids, cells, parsed) if parsed.search else _run(cells, parsed.threads)
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", flush=True)
        raise SystemExit(130) from None
    if failed:
        print(f"diffcf: failed: {', '.join(failed)}.", file=sys.stderr)
        raise SystemExit(1)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="diffcf benchmark", description="Run a grid of methods × seeds.")
    parser.add_argument("grids", type=Path, nargs="+", help="YAML files, see diffcf.benchmark.grid")
    parser.add_argument(
        "--only", action="append", type=str, help="METHOD/SEED, or METHOD; may be repeated."
    )
    parser.add_argument("--list", action="store_true", help="Print the cells and their state.")
    parser.add_argument(
        "--search", action="store_true", help="Search hyper-parameters instead, on validation."
    )
    parser.add_argument("--search_minutes", type=float, default=5.0, help="Budget of a training.")
    parser.add_argument("--search_images", type=int, default=64, help="Images of a trial.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of each cell.")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="Working folder.")
    return parser


def _chosen(cells: Sequence[Cell], only: Sequence[str] | None) -> list[Cell]:
    """The cells that ``--only`` names, or all."""
    if not only:
        return list(cells)
    for name in only:
        if not any(name in (cell.name, cell.method.name) for cell in cells):
            names = ", ".join(dict.fromkeys(cell.name for cell in cells))
            raise BenchmarkError(f"There is no cell {name}; there are {names}.")
    return [cell for cell in cells if {cell.name, cell.method.name} & set(only)]


def _run(cells: Sequence[Cell], threads: int) -> list[str]:
    """Run the cells; the names of those that failed."""
    failed = []
    for number, cell in enumerate(cells, start=1):
        title = f"[{number}/{len(cells)}] {cell}"
        try:
            run_cell(cell, threads, title)
        except RunError as error:
            print(f"{title}: {error}", file=sys.stderr, flush=True)
            failed.append(str(cell))
    return failed


def _search(grids: Sequence[Grid], cells: Sequence[Cell], parsed: Any) -> list[str]:
    """Search for the methods of the cells; the names of those that failed."""
    plan = SearchPlan(parsed.search_minutes, parsed.search_images, parsed.threads)
    seeds: dict[tuple[str, str], int] = {}  # of each method, the first that was chosen
    for cell in cells:
        seeds.setdefault((cell.dataset, cell.method.name), cell.seed)
    wanted: list[tuple[Grid, Method]] = [
        (grid, method)
        for grid in grids
        for method in grid.methods.values()
        if method.search and (grid.dataset, method.name) in seeds
    ]
    if not wanted:
        raise BenchmarkError("None of these methods lists settings to try: give one a search.")
    failed = []
    for number, (grid, method) in enumerate(wanted, start=1):
        title = f"[{number}/{len(wanted)}] {grid.dataset} {method.name}"
        try:
            seed = seeds[grid.dataset, method.name]
            search(grid, method, seed, parsed.runs, plan, title)
        except RunError as error:
            print(f"{title}: {error}", file=sys.stderr, flush=True)
            failed.append(f"{grid.dataset} {method.name}")
    return failed
