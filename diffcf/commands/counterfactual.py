"""``diffcf counterfactual WEIGHTS IMAGE… --do light=0.8``: what-if questions from the shell.

Writes a folder: ``<image>.png`` with the counterfactual (``<image>_1.png``, ``_2`` … for a sequence
of interventions), ``sheet.png`` with factual, counterfactual and difference side by side, and
``factors.json``. With ``--sweep light=0:1:9``, ``<image>.png`` is a strip with the counterfactual
of every value. With ``--factors table.csv``, factors that its cells tell are not read off images.
With ``--uncrop true``, ``uncropped/`` has each counterfactual put back into the whole picture, at
the file's own size (``<image>_1.png``, ``_2`` … in a sweep, too).
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

from data_modules import observed_factors
from diffcf import diffusion
from diffcf.api import Answer, Model, load
from diffcf.causal import Do, Units, parse_do, parse_sweep, scaled_do
from diffcf.commands.numbers import Side, Steps
from diffcf.io import (
    RECORD,
    SHEET,
    DataError,
    ImageTransform,
    InterventionError,
    OutputError,
    check_writable,
    decode,
    from_bytes,
    image_files,
    mark,
    uncrop,
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
ROWS = 12
"""How many images the picture of all shows."""
UNCROPPED = "uncropped"
"""Folder of the answers put back into whole pictures."""


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
    asked = {name: parsed[name] for name in ("weights", "units", "do", "then", "sweep", "seed")}
    asked["table"] = None if parsed.factors is None else str(parsed.factors)
    with whole_folder(parsed.out) as out:
        transform, names = model.image_transform(parsed.size), list(files)
        told = _observed(model, list(files.values()), parsed)
        for start in range(0, len(files), parsed.batch_size):
            some = names[start : start + parsed.batch_size]
            pixels = [decode(files[name], transform) for name in some]
            images = torch.stack([from_bytes(image) for image in pixels])
            known = told[start : start + parsed.batch_size]
            entries, drawn = answer(model, some, images, known, parsed, out)
            rows |= entries
            if parsed.uncrop:
                _uncrop({files[name]: drawn[name] for name in some}, transform, out / UNCROPPED)
        asked |= {"transform": transform.to_dict(), "factors": list(model.graph.names)}
        write_json({**asked, "images": rows}, out / RECORD)
    print(f"{len(files)} images answered: {parsed.out}")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="diffcf counterfactual", description="Ask what-if questions.")
    parser.add_argument("weights", type=str, help="Checkpoint, weights file or shipped name.")
    parser.add_argument("images", type=Path, nargs="+", help="Image files, or folders of them.")
    parser.add_argument("--do", action="append", type=str, help="name=value; may be repeated.")
    parser.add_argument("--then", action="append", type=str, help="name=value, set next.")
    parser.add_argument("--sweep", type=str, help="name=first:last:count, instead of --do.")
    parser.add_argument("--units", type=Units, default="native", help="Of values, in and out.")
    table = "Table of observed factors: a row per image; what it leaves out is read."
    parser.add_argument("--factors", type=Path, help=table)
    parser.add_argument("--image_column", default="image", type=str, help="Of that table.")
    named = 'Columns not named like their factor: {"age": "Age (years)"}.'
    parser.add_argument("--columns", type=dict[str, str], help=named)
    parser.add_argument("--rule", type=str, help=f"Guidance: {', '.join(RULES)}.")
    parser.add_argument("--steps", type=Steps, help="Steps of inversion and of sampling.")
    doubt = "Probability that a factor breaks its mechanism; at 1, readings stay as they are."
    parser.add_argument("--doubt", type=float, help=doubt)
    parser.add_argument("--seed", type=int, default=0, help="Of the noise of discrete factors.")
    parser.add_argument("--size", type=Side, help="Side of the images; as in training if left out.")
    whole = "Also put answers back into the whole pictures, at their own size."
    parser.add_argument("--uncrop", type=bool, default=False, help=whole)
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


def _observed(model: Model, files: list[Path], parsed: Namespace) -> Tensor:
    """Factors ``[N, K]`` in [0, 1] units that the table tells of the files, NaN elsewhere."""
    if parsed.factors is None:
        return torch.full((len(files), len(model.graph)), torch.nan)
    found = observed_factors(
        parsed.factors,
        model.graph,
        files,
        parsed.image_column,
        parsed.columns,
        parsed.units == "scaled",
    )
    if not model.module.reads and found.isnan().any():
        row, column = found.isnan().nonzero()[0].tolist()
        raise DataError(
            f"These weights read no factors off images, and {parsed.factors} does not tell "
            f"{model.graph.names[column]} of {files[row]}: fill its cell."
        )
    return found


Answers = tuple[dict[str, object], dict[str, list[Tensor]]]
"""By image: its entry in the record, and its counterfactuals ``[C, S, S]``."""


def _answer(
    model: Model, names: list[str], images: Tensor, told: Tensor, parsed: Namespace, out: Path
) -> Answers:
    """Draw the counterfactuals of a batch, one intervention after another."""
    world = model.abduct(images, _known(told), seed=parsed.seed)
    steps = [parsed.do, *([text] for text in parsed.then or ())]
    dos = [parse_do(texts, model.graph) for texts in steps]
    answers = world.sequence([scaled_do(do, model.graph, parsed.units) for do in dos])
    for step, answer in enumerate(answers):
        suffix = f"_{step + 1}" if len(answers) > 1 else ""
        for name, image in zip(names, answer.image, strict=True):
            save_image(image, out / f"{name}{suffix}.png")
    columns = {"factual": images, **{_title(dos[k]): a.image.cpu() for k, a in enumerate(answers)}}
    columns["difference"] = 1 - (answers[-1].image.cpu() - images).abs()
    if not (out / f"{SHEET}.png").exists():
        save_figure(_sheet(names, columns), out / f"{SHEET}.png")
    drawn = {name: [a.image[row] for a in answers] for row, name in enumerate(names)}
    return dict(zip(names, _rows(model, answers, told, parsed.units), strict=True)), drawn


def _sweep(
    model: Model, names: list[str], images: Tensor, told: Tensor, parsed: Namespace, out: Path
) -> Answers:
    """Draw a strip for each image, one picture for each value."""
    factor, values = parse_sweep(parsed.sweep, model.graph)
    dos: list[Do] = [{factor: value} for value in values]
    rows: dict[str, object] = {}
    drawn: dict[str, list[Tensor]] = {}
    for name, image, given in zip(names, images, told[:, None], strict=True):
        world = model.abduct(image[None], _known(given), seed=parsed.seed)
        answers = [world.predict(scaled_do(do, model.graph, parsed.units)) for do in dos]
        shown = {_title(do): a.image.cpu() for do, a in zip(dos, answers, strict=True)}
        save_figure(_sheet([name], {"factual": image[None], **shown}), out / f"{name}.png")
        rows[name] = [row for a in answers for row in _rows(model, [a], given, parsed.units)]
        drawn[name] = [a.image[0] for a in answers]
    return rows, drawn


def _uncrop(drawn: dict[Path, list[Tensor]], transform: ImageTransform, folder: Path) -> None:
    """Save the counterfactuals of each file in its whole picture; no data set counts these."""
    folder.mkdir(exist_ok=True)
    for file, answers in drawn.items():
        for step, picture in enumerate(uncrop(file, transform, answers)):
            suffix = f"_{step + 1}" if len(answers) > 1 else ""
            name = f"{file.stem}{suffix}.png"
            picture.save(folder / name, "PNG", pnginfo=mark(UNCROPPED))


def _known(told: Tensor) -> Tensor | None:
    """None where nothing is observed: weights that read nothing then say so themselves."""
    return None if told.isnan().all() else told


def _rows(
    model: Model, answers: list[Answer], told: Tensor, units: Units
) -> list[dict[str, object]]:
    """The entry of each image of a batch in ``factors.json``; ``--do`` takes its values."""
    graph, last = model.graph, answers[-1]

    def rows(factors: Tensor) -> list[list[float | str]]:
        native = graph.native_rows(factors)
        if units == "native":
            return native
        pairs = zip(factors.tolist(), native, strict=True)
        return [
            [n if isinstance(n, str) else z for z, n in zip(*row, strict=True)] for row in pairs
        ]

    clipped = torch.stack([answer.clipped for answer in answers]).any(dim=0)
    beyond = [[n for n, c in zip(graph.names, row, strict=True) if c] for row in clipped.tolist()]

    nothing, given = [None] * len(last.image), (~told.isnan()).tolist()
    columns: dict[str, Iterable[object]] = {
        "factual": rows(last.factors),
        "given": [[n for n, told in zip(graph.names, row, strict=True) if told] for row in given],
        "exogenous": nothing if last.exogenous is None else last.exogenous.tolist(),
        "target": zip(*(rows(answer.target) for answer in answers), strict=True),
        "read": rows(model.read(last.image)) if model.module.reads else nothing,
        "clipped": beyond,
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
