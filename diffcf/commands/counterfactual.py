"""``diffcf counterfactual WEIGHTS IMAGE… --do light=0.8``: what-if questions from the shell.

Writes a folder: ``<image>.png`` with the counterfactual (``<image>_1.png``, ``_2`` … for a sequence
of interventions), ``sheet.png`` with factual, counterfactual and difference side by side, and
``factors.json``. With ``--sweep light=0:1:9``, ``<image>.png`` is a strip with the counterfactual
of every value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from matplotlib.figure import Figure
from torch import Tensor

from diffcf import diffusion
from diffcf.api import Answer, Model, Units, load
from diffcf.causal import Do, parse_do, parse_sweep
from diffcf.commands.numbers import Side, Steps
from diffcf.io import (
    InterventionError,
    OutputError,
    check_writable,
    decode,
    from_bytes,
    image_files,
    whole_folder,
    write_json,
)
from diffcf.reporting import save_figure, save_image, show

RULES: dict[str, type[diffusion.Guidance]] = {
    "none": diffusion.NoGuidance,
    "constant": diffusion.ConstantGuidance,
    "variance_balanced": diffusion.VarianceBalancedGuidance,
    "line_search": diffusion.LineSearchGuidance,
    "polyak": diffusion.PolyakGuidance,
    "gauss_newton": diffusion.GaussNewtonGuidance,
}
SHEET, ROWS = "sheet", 12
"""Name of the picture of all, and how many it shows."""
RECORD = "factors.json"


def counterfactual(args: Sequence[str]) -> None:
    """Command ``diffcf counterfactual``; ``--help`` lists the arguments."""
    parsed = _parser().parse_args(list(args))
    model = _model(parsed)
    if bool(parsed.do) == bool(parsed.sweep):
        raise InterventionError("Ask something: --do name=value, or --sweep name=first:last:count.")
    files = image_files(parsed.images, () if parsed.sweep else (SHEET,))
    if parsed.out.is_symlink() or (parsed.out.exists() and not parsed.overwrite):
        raise OutputError(f"{parsed.out} exists: name another folder, or --overwrite true.")
    if parsed.out.exists() and not (parsed.out / RECORD).is_file():
        raise OutputError(
            f"{parsed.out} holds something else than answers (no {RECORD}): name another folder."
        )
    check_writable(parsed.out)
    rows: dict[str, object] = {}
    answer = _sweep if parsed.sweep else _answer
    asked = {name: parsed[name] for name in ("weights", "units", "do", "then", "sweep")}
    with whole_folder(parsed.out) as out:
        form, names = model.image_form(parsed.size), list(files)
        for start in range(0, len(files), parsed.batch_size):
            some = names[start : start + parsed.batch_size]
            pixels = [decode(files[name], form, str(files[name])) for name in some]
            images = torch.stack([from_bytes(image) for image in pixels])
            rows |= answer(model, some, images, parsed, out)
        write_json({**asked, "factors": list(model.graph.names), "images": rows}, out / RECORD)
    print(f"{len(files)} images answered: {parsed.out}")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="diffcf counterfactual", description="Ask what-if questions.")
    parser.add_argument("weights", type=str, help="Checkpoint, weights file or shipped name.")
    parser.add_argument("images", type=Path, nargs="+", help="Image files, or folders of them.")
    parser.add_argument("--do", action="append", type=str, help="name=value; may be repeated.")
    parser.add_argument("--then", action="append", type=str, help="name=value, set next.")
    parser.add_argument("--sweep", type=str, help="name=first:last:count, instead of --do.")
    parser.add_argument("--units", type=Units, default="native", help="Of values, in and out.")
    parser.add_argument("--rule", type=str, help=f"Guidance: {', '.join(RULES)}.")
    parser.add_argument("--steps", type=Steps, help="Steps of inversion and of sampling.")
    doubt = "Probability that a factor breaks its mechanism; at 1, readings stay as they are."
    parser.add_argument("--doubt", type=float, help=doubt)
    parser.add_argument("--size", type=Side, help="Side of the images; as in training if left out.")
    parser.add_argument(
        "--batch_size", type=PositiveInt, default=32, help="Images answered at once."
    )
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, …")
    parser.add_argument("--overwrite", type=bool, default=False, help="Replace the folder.")
    parser.add_argument("--out", type=Path, required=True, help="Folder to write.")
    return parser


def _model(parsed: Namespace) -> Model:
    model, rule = load(parsed.weights, parsed.device), parsed.rule
    changes = {"steps": parsed.steps, "contamination": parsed.doubt}
    if rule is not None and rule not in RULES:
        raise InterventionError(f"There is no rule {rule}; there are {', '.join(RULES)}.")
    if rule is not None and not isinstance(model.sampling.guidance, RULES[rule]):
        changes["guidance"] = RULES[rule]()
    changes = {name: value for name, value in changes.items() if value is not None}
    return Model(model.module, replace(model.sampling, **changes))


def _answer(
    model: Model, names: list[str], images: Tensor, parsed: Namespace, out: Path
) -> dict[str, object]:
    """Draw the counterfactuals of a batch, one intervention after another; rows by image."""
    world = model.abduct(images)
    steps = [parsed.do, *([text] for text in parsed.then or ())]
    dos = [parse_do(texts, model.graph) for texts in steps]
    answers = world.sequence(dos, parsed.units)
    for step, answer in enumerate(answers):
        suffix = f"_{step + 1}" if len(answers) > 1 else ""
        for name, image in zip(names, answer.image, strict=True):
            save_image(image, out / f"{name}{suffix}.png")
    columns = {"factual": images, **{_title(dos[k]): a.image.cpu() for k, a in enumerate(answers)}}
    columns["difference"] = 1 - (answers[-1].image.cpu() - images).abs()
    if not (out / f"{SHEET}.png").exists():
        save_figure(_sheet(names, columns), out / f"{SHEET}.png")
    return dict(zip(names, _rows(model, answers, parsed.units), strict=True))


def _sweep(
    model: Model, names: list[str], images: Tensor, parsed: Namespace, out: Path
) -> dict[str, object]:
    """Draw a strip for each image, one picture for each value; rows by image."""
    factor, values = parse_sweep(parsed.sweep, model.graph)
    dos: list[Do] = [{factor: value} for value in values]
    rows: dict[str, object] = {}
    for name, image in zip(names, images, strict=True):
        world = model.abduct(image[None])
        answers = [world.predict(do, parsed.units) for do in dos]
        shown = {_title(do): a.image.cpu() for do, a in zip(dos, answers, strict=True)}
        save_figure(_sheet([name], {"factual": image[None], **shown}), out / f"{name}.png")
        rows[name] = [row for a in answers for row in _rows(model, [a], parsed.units)]
    return rows


def _rows(model: Model, answers: list[Answer], units: Units) -> list[dict[str, object]]:
    """The entry of each image of a batch in ``factors.json``."""
    graph, last = model.graph, answers[-1]

    def rows(factors: Tensor) -> list[list[float | str]]:
        scaled = units == "scaled"
        return factors.tolist() if scaled else graph.native_rows(graph.to_scaled(factors))

    nothing = [None] * len(last.image)
    columns: dict[str, Iterable[object]] = {
        "factual": rows(last.factors),
        "exogenous": nothing if last.exogenous is None else last.exogenous.tolist(),
        "target": zip(*(rows(answer.target) for answer in answers), strict=True),
        "read": rows(model.read(last.image, units)) if model.module.reads else nothing,
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _title(do: Do) -> str:
    pairs = ((n, v if isinstance(v, str) else f"{v:.3g}") for n, v in do.items())
    return "do(" + ", ".join(f"{name} = {value}" for name, value in pairs) + ")"


def _sheet(names: list[str], columns: dict[str, Tensor]) -> Figure:
    """A row per image."""
    lines = min(len(names), ROWS)
    figure = Figure((1.3 * len(columns), 1.3 * lines + 0.3), dpi=150, layout="constrained")
    grid = figure.subplots(lines, len(columns), squeeze=False)
    for (line, row), name in zip(enumerate(grid), names, strict=False):
        label = name.encode("utf-8", "replace").decode()  # a file may have any name
        row[0].set_ylabel(label, fontsize=6, parse_math=False)
        for axis, (title, images) in zip(row, columns.items(), strict=True):
            show(axis, images[line])
            if line == 0:
                axis.set_title(title, fontsize=6, parse_math=False)
    return figure
