"""``diffcf counterfactual WEIGHTS IMAGE… --do light=0.8``: what-if questions from the shell.

Writes a folder: ``<image>.png`` with the counterfactual (``<image>_1.png``, ``_2`` … for a sequence
of interventions), ``sheet.png`` with factual, counterfactual and difference side by side, and
``factors.json``. With ``--sweep light=0:1:9``, ``<image>.png`` is a strip with the counterfactual
of every value. With ``--factors table.csv``, factors that its cells tell are not read off images.
With ``--uncrop true``, ``uncropped/`` has each counterfactual put back into the whole picture, at
the file's own size (``<image>_1.png``, ``_2`` … in a sweep, too). With ``--draws 16``, they are the
draws of the last step, and ``spread/`` has a map of where they differ.

Any number of images takes the memory of a few batches: files are decoded before their batch is
answered, and answers written while the next batch is. A run that ends early leaves what is answered
in ``<out>.part``, and the same command goes on from there. Beyond 10,000 images ``factors.json``
says what was asked, and ``factors.parquet`` has the rows.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from torch import Tensor
from tqdm import tqdm

from data_modules import observed_factors
from diffcf import diffusion
from diffcf.api import Model, load
from diffcf.causal import Units
from diffcf.commands.answer_files import save
from diffcf.commands.answering import Drawn, Question, draw
from diffcf.commands.arguments import Side, Steps, add_batch_size, add_device, add_weights
from diffcf.commands.doubts import Doubts
from diffcf.io import (
    RECORD,
    SHEET,
    Answered,
    AnswerFolder,
    DataError,
    ImageTransform,
    InterventionError,
    OutputError,
    UnusableImage,
    WriteBehind,
    check_table,
    check_writable,
    checked_file,
    decode,
    from_bytes,
    image_files,
    read_ahead,
    write_answers,
)
from diffcf.methods import FRESH, sampling_to_spec, weights_digest

RULES: dict[str, type[diffusion.Guidance]] = {
    "none": diffusion.NoGuidance,
    "constant": diffusion.ConstantGuidance,
    "variance_balanced": diffusion.VarianceBalancedGuidance,
    "line_search": diffusion.LineSearchGuidance,
    "polyak": diffusion.PolyakGuidance,
    "gauss_newton": diffusion.GaussNewtonGuidance,
}
MOST_KEPT = 1024
"""Draws of a batch that are in memory together: it has fewer images where they are many."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def counterfactual(args: Sequence[str]) -> None:
    """Command ``diffcf counterfactual``; ``--help`` lists the arguments."""
    parsed = _parser().parse_args(list(args))
    model = _model(parsed)
    if bool(parsed.do) == bool(parsed.sweep):
        raise InterventionError("Ask something: --do name=value, or --sweep name=first:last:count.")
    drawn = {"draws": parsed.draws, "fresh": parsed.fresh}
    question = _question(model, parsed)
    files = image_files(parsed.images, () if parsed.sweep else (SHEET,))
    _check_out(parsed)
    check_table(len(files))
    images = Images.of(model, files, parsed)
    asked = {name: parsed[name] for name in ("weights", "units", "do", "then", "sweep", "seed")}
    asked |= (drawn if parsed.draws > 1 else {}) | ({"backtrack": True} if parsed.backtrack else {})
    asked["table"] = None if parsed.factors is None else str(parsed.factors)
    asked |= {"transform": images.transform.to_dict(), "factors": list(model.graph.names)}
    settings = {"sampling": sampling_to_spec(model.sampling), "uncrop": parsed.uncrop}
    settings["weights' content"] = weights_digest(model.module)
    overwrite, remedy = parsed.overwrite, "add --overwrite true"
    with AnswerFolder(parsed.out, asked | settings, images.keys, overwrite, remedy) as out:
        _check_out(parsed)  # the run that held it may have finished it
        with _kept(out, len(files)):
            # Strips are drawn one by one: the answers about a batch may be thousands of images.
            kept = max(MOST_KEPT // parsed.draws, 1)
            batch_size = 1 if parsed.sweep else min(parsed.batch_size, kept)
            _answer_all(model, question, images, batch_size, out)
            doubts = Doubts()
            rows = doubts.noting(out.rows(files))
            write_answers(asked, model.graph.names, rows, len(files), out.folder)
            out.finish()
    print(f"{len(files)} images answered: {parsed.out}")
    doubts.warn(model)


@dataclass(frozen=True)
class Images:
    """What is asked about.

    Attributes:
        files: image files by the name of the answer, N.
        transform: how they become images.
        told: their factors that are observed, ``[N, K]`` in [0, 1] units, NaN elsewhere.
        keys: by name, what stands for the file's content and what is told of it.
        uncrop: whether answers are put back into the whole pictures.
    """

    files: dict[str, Path]
    transform: ImageTransform
    told: Tensor
    keys: dict[str, str]
    uncrop: bool

    @classmethod
    def of(cls, model: Model, files: dict[str, Path], parsed: Namespace) -> Images:
        """DataError for a file or a table cell that cannot be used, as far as no pixel says so."""
        transform, told = model.image_transform(parsed.size), _observed(model, files, parsed)
        keys = {name: _key(files[name], told[row]) for row, name in enumerate(files)}
        return cls(files, transform, told, keys, parsed.uncrop)


def _answer_all(
    model: Model, question: Question, asked: Images, batch_size: int, out: AnswerFolder
) -> None:
    """Answer about all images that are not answered yet, and note each in ``out``."""
    names, files, keys = list(asked.files), asked.files, asked.keys
    # A run that goes on has the batches of one that was never stopped: bits depend on the batch.
    batches = [names[start : start + batch_size] for start in range(0, len(names), batch_size)]
    left = [k for k, some in enumerate(batches) if not all(out.has(n, keys[n]) for n in some)]
    decoded = read_ahead(
        partial(decode, transform=asked.transform), ([files[n] for n in batches[k]] for k in left)
    )

    def write(drawn: Drawn, is_first: bool) -> None:
        whole = [files[name] for name in drawn.names], asked.transform
        saved = save(drawn, out.folder, is_first, whole if asked.uncrop else None)
        columns = zip(drawn.names, drawn.rows, saved, strict=True)
        out.note(Answered(name, keys[name], row, written) for name, row, written in columns)

    done, draws = len(names) - sum(len(batches[k]) for k in left), question.draws
    quiet = None if len(left) * draws > 2 else True  # None: unless it is a terminal
    unit = " images" if draws == 1 else " draws"
    bar = tqdm(total=len(names) * draws, initial=done * draws, unit=unit, disable=quiet)
    with closing(decoded), bar, WriteBehind() as writer:
        for k, pixels in zip(left, decoded, strict=True):
            images = torch.stack([from_bytes(image) for image in pixels])
            told = asked.told[k * batch_size : k * batch_size + len(images)]
            tick = partial(bar.update, len(images))
            drawn = draw(model, question, batches[k], images, told, tick)
            writer.put(partial(write, drawn, k == 0))


@contextmanager
def _kept(out: AnswerFolder, count: int) -> Iterator[None]:
    """Says, when the block fails, what of the work is kept."""
    try:
        yield
    except BaseException as error:
        if len(out):
            print(
                f"{len(out)} of {count} images are answered, and kept in {out.part}: the same "
                "command goes on from there.",
                file=sys.stderr,
            )
        if isinstance(error, KeyboardInterrupt):
            raise SystemExit(INTERRUPTED) from None
        raise


def _check_out(parsed: Namespace) -> None:
    """OutputError when the folder holds something that must stay, or cannot be written."""
    if parsed.out.is_symlink() or (parsed.out.exists() and not parsed.overwrite):
        raise OutputError(f"{parsed.out} exists: name another folder, or --overwrite true.")
    if parsed.out.exists() and not (parsed.out / RECORD).is_file():
        raise OutputError(
            f"{parsed.out} holds something else than answers (no {RECORD}): name another folder."
        )
    check_writable(parsed.out)


def _key(file: Path, told: Tensor) -> str:
    """Stands for an image file and the factors ``[K]`` that are told of it; DataError without."""
    try:
        status = checked_file(file)
    except UnusableImage as error:
        raise DataError(f"Image {file} {error.problem}: {error.remedy}.") from None
    said = (str(file.absolute()), status.st_size, status.st_mtime_ns, told.tolist())
    return hashlib.sha256(repr(said).encode()).hexdigest()[:20]


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="diffcf counterfactual", description="Ask what-if questions.")
    add_weights(parser)
    parser.add_argument("images", type=Path, nargs="+", help="Image files, or folders of them.")
    forms = "name=value, += -= *= by a value, name~uniform:low:high …; may end in: if name<value."
    parser.add_argument("--do", action="append", type=str, help=f"{forms} May be repeated.")
    parser.add_argument("--then", action="append", type=str, help="The same, done next.")
    parser.add_argument("--sweep", type=str, help="name=first:last:count, instead of --do.")
    causes = "Cut no mechanism: move the causes so that the values of --do follow."
    parser.add_argument("--backtrack", type=bool, default=False, help=causes)
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
    untaught = "What becomes of a change that the training data do not teach; as trained."
    parser.add_argument("--undetermined", type=Literal["keep", "draw"], help=untaught)
    parser.add_argument("--seed", type=int, default=0, help="Of the noise of discrete factors.")
    several = "Counterfactuals of each image, of what abduction leaves open; of the last step."
    parser.add_argument("--draws", type=PositiveInt, default=1, help=several)
    content = "Share of an image's noise that draws draw anew where its content changes."
    parser.add_argument("--fresh", type=float, default=FRESH, help=content)
    parser.add_argument("--size", type=Side, help="Side of the images; as in training if left out.")
    whole = "Also put answers back into the whole pictures, at their own size."
    parser.add_argument("--uncrop", type=bool, default=False, help=whole)
    add_batch_size(parser)
    add_device(parser)
    anew = "Replace the folder, and unfinished answers to another question."
    parser.add_argument("--overwrite", type=bool, default=False, help=anew)
    parser.add_argument("--out", type=Path, required=True, help="Folder to write.")
    return parser


def _model(parsed: Namespace) -> Model:
    model, rule = load(parsed.weights, parsed.device), parsed.rule
    changes = {"steps": parsed.steps, "contamination": parsed.doubt}
    changes["undetermined"] = parsed.undetermined
    if rule is not None and rule not in RULES:
        raise InterventionError(f"There is no rule {rule}; there are {', '.join(RULES)}.")
    if rule is not None and not isinstance(model.sampling.guidance, RULES[rule]):
        changes["guidance"] = RULES[rule]()
    changes = {name: value for name, value in changes.items() if value is not None}
    return Model(model.module, replace(model.sampling, **changes))


def _question(model: Model, parsed: Namespace) -> Question:
    return Question.of(
        model,
        [parsed.do, *([text] for text in parsed.then or ())],
        parsed.sweep,
        parsed.units,
        parsed.seed,
        parsed.draws,
        parsed.fresh,
        parsed.backtrack,
    )


def _observed(model: Model, named: dict[str, Path], parsed: Namespace) -> Tensor:
    """Factors ``[N, K]`` in [0, 1] units that the table tells of the files, NaN elsewhere."""
    files = list(named.values())
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
