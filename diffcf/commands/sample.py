"""``diffcf sample WEIGHTS --count 64 --do light=1.2 --out drawn``: new images, with no factual.

Writes a folder in the layout of ``diffcf export``, which
:class:`data_modules.FactorTableDataModule` reads: ``images/*.png``, ``factors.csv`` (a row per
image, native units, the factors that the image was drawn to show) and ``graph.yaml``; ``sheet.png``
shows the first, and ``sample.json`` says what was asked. The same seed under two interventions
shows the same worlds under both. With ``--measure`` no image is drawn:
:mod:`diffcf.commands.sample_marginals`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from matplotlib.figure import Figure
from rich.progress import track
from torch import Tensor

from diffcf.api import Model, load
from diffcf.causal import Do, Units, parse_do, scaled_do
from diffcf.commands.arguments import Seed, Side, Steps, add_batch_size, add_device, add_weights
from diffcf.commands.dataset_folder import write_graph
from diffcf.commands.sample_marginals import measure
from diffcf.io import SettingsError, check_new, check_writable, whole_folder, write_json
from diffcf.methods import STEPS, weights_digest
from diffcf.reporting import save_figure, save_image, show

SHOWN = 64
"""How many images the sheet shows."""


def sample(args: Sequence[str]) -> None:
    """Command ``diffcf sample``; OutputError when the folder exists: nothing is overwritten."""
    parsed = _parser().parse_args(list(args))
    check_new(parsed.out)
    check_writable(parsed.out)
    model = load(parsed.weights, parsed.device)
    if parsed.measure is not None:
        if parsed.do:
            raise SettingsError("--measure sets every factor in turn: leave --do out.")
        measure(model, parsed)
        return
    do = scaled_do(parse_do(parsed.do or [], model.graph), model.graph, parsed.units)
    with whole_folder(parsed.out) as unfinished:
        _write(model, do, parsed, unfinished)
    print(f"{parsed.count} images, factors.csv and graph.yaml are in {parsed.out}")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="diffcf sample", description="Draw new images.")
    add_weights(parser)
    parser.add_argument("--count", type=PositiveInt, default=SHOWN, help="How many images.")
    forms = "name=value, or name~uniform:low:high, ~normal, ~choice, ~bernoulli; may be repeated."
    parser.add_argument("--do", action="append", type=str, help=forms)
    measured = "YAML of a scene's data: draw no image, compare the factors drawn with its truth."
    parser.add_argument("--measure", type=Path, help=measured)
    parser.add_argument("--units", type=Units, default="native", help="Of the values of --do.")
    parser.add_argument("--seed", type=Seed, default=0, help="Of all noise.")
    parser.add_argument("--steps", type=Steps, default=STEPS, help="Steps of sampling.")
    parser.add_argument("--size", type=Side, help="Side of the images; as in training if left out.")
    add_batch_size(parser, "drawn")
    add_device(parser)
    parser.add_argument("--out", type=Path, required=True, help="Folder to make.")
    return parser


def _write(model: Model, do: Do, parsed: Namespace, folder: Path) -> None:
    (folder / "images").mkdir()
    shown: list[Tensor] = []
    with (folder / "factors.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", *model.graph.names])
        drawn = _drawn(model, do, parsed)
        for row, (image, factors) in enumerate(track(drawn, total=parsed.count)):
            name = f"{row:06d}.png"
            save_image(image, folder / "images" / name)
            table.writerow([name, *factors])
            if len(shown) < SHOWN:
                shown.append(image)
    write_graph(model.graph, folder)
    save_figure(_sheet(shown), folder / "sheet.png")
    asked = {name: parsed[name] for name in ("weights", "count", "do", "units", "seed", "steps")}
    write_json(asked | {"weights' content": weights_digest(model.module)}, folder / "sample.json")


def _drawn(model: Model, do: Do, parsed: Namespace) -> Iterator[tuple[Tensor, list[float | str]]]:
    """Images ``[C, S, S]`` and their factors in native units."""
    for start in range(0, parsed.count, parsed.batch_size):
        count = min(parsed.batch_size, parsed.count - start)
        part = model.sample(
            count, do, seed=parsed.seed, steps=parsed.steps, size=parsed.size, start=start
        )
        rows = model.graph.native_rows(part.factors)
        yield from zip(part.image.cpu(), rows, strict=True)


def _sheet(images: Sequence[Tensor]) -> Figure:
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    figure = Figure((1.1 * columns, 1.1 * rows), dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, axis in enumerate(grid):
        if place < len(images):
            show(axis, images[place])
        else:
            axis.set_axis_off()
    return figure
