"""``diffcf audit WEIGHTS CLASSIFIER IMAGE…``: what a factor does to the output of a classifier.

Writes a folder: ``audit.json`` (average effects with intervals, flips, groups, where they come
from), ``effects.csv`` (the scores of each image under each intervention), ``report.md`` and the
pictures of the images that moved most. **Naming a Python callable or a TorchScript file runs it.**

``diffcf audit WEIGHTS --planted 40 --data CONFIG`` measures the audit itself
(:mod:`diffcf.commands.audit.planted`).
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from diffcf.api import Model, load
from diffcf.causal import Units, parse_do, scaled_do
from diffcf.commands.arguments import Seed, add_batch_size, add_device, add_weights
from diffcf.commands.audit.images import SAMPLED, AuditImages, audited
from diffcf.commands.audit.planted import planted, planted_table
from diffcf.commands.measuring import provenance, write_measured
from diffcf.evaluation import Audit, Classifier, load_classifier
from diffcf.io import (
    SettingsError,
    check_new,
    file_digest,
    public,
    whole_folder,
    write_json,
    write_text,
)
from diffcf.reporting import audit_page, effects_table, moved_figure, save_figure
from diffcf.training import sampling_record

RECORD = "audit.json"
THRESHOLD = 0.5


def audit(args: Sequence[str]) -> None:
    """Command ``diffcf audit``; ``--help`` lists the arguments.

    Raises:
        SettingsError: for arguments that do not fit together.
        OutputError: when the folder exists: nothing is overwritten.
    """
    parsed = _parser().parse_args(list(args))
    _check_arguments(parsed)
    check_new(parsed.out)
    (_audit if parsed.planted is None else _measure)(parsed)


def _audit(parsed: Namespace) -> None:
    started, model = time.perf_counter(), load(parsed.weights, parsed.device)
    classifier = load_classifier(parsed.classifier, model.device)
    chosen = audited(model, parsed.images or [], parsed.data, parsed.count, parsed.seed)
    found = _ask(model, classifier, chosen, parsed)
    record: dict[str, Any] = {
        "effects": found.effects,
        "groups": found.groups,
        "notes": found.notes,
    }
    record["provenance"] = _provenance(model, chosen, parsed, classifier, started)
    with whole_folder(parsed.out) as folder:
        _write(found, record, chosen, folder)
    print(effects_table(found))
    for note in found.notes:
        print(f"Warning: {note}", file=sys.stderr)
    print(f"report.md, {RECORD}, effects.csv and the pictures are in {parsed.out}")


def _measure(parsed: Namespace) -> None:
    started, model = time.perf_counter(), load(parsed.weights, parsed.device)
    chosen = audited(model, (), parsed.data, parsed.count, parsed.seed)
    record = planted(model, chosen, parsed.planted, parsed)
    record["provenance"] = _provenance(model, chosen, parsed, None, started)
    write_measured(record, planted_table(record["contrasts"]), "planted", parsed.out)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="diffcf audit",
        description="What a factor does to the output of a classifier. A Python callable or a "
        "TorchScript file is a program, and naming it runs it: name what you trust.",
    )
    add_weights(parser)
    place = (
        "package.module:name or file.py:name (a network, or a function that takes nothing and "
        "returns one), a TorchScript file (.pt), or an ONNX file (.onnx, extra diffcf[onnx]). It "
        "takes images [B, C, S, S] in [-1, 1] and gives scores [B] or [B, L]. It is run."
    )
    parser.add_argument("classifier", type=str, nargs="?", help=place)
    parser.add_argument("images", type=Path, nargs="*", help="Image files, or folders of them.")
    parser.add_argument("--data", type=Path, help="YAML of the data instead: its test split.")
    count = f"How many images: the first of the files, or a random sample ({SAMPLED}) of the data."
    parser.add_argument("--count", type=PositiveInt, help=count)
    parser.add_argument("--do", action="append", type=str, help="name=value; may be repeated.")
    versus = "name=value to compare with, may be repeated; the images as they are if left out."
    parser.add_argument("--versus", action="append", type=str, help=versus)
    names = "Without --do: whose values to compare, may be repeated; all if left out."
    parser.add_argument("--factor", action="append", type=str, help=names)
    strata = "Effects within the groups of this factor, too; may be repeated."
    parser.add_argument("--strata", action="append", type=str, help=strata)
    parser.add_argument("--units", type=Units, default="native", help="Of the values of --do.")
    threshold = f"From which on a single score decides for 1; {THRESHOLD} if left out."
    parser.add_argument("--threshold", type=float, help=threshold)
    measured = "Measure the audit itself, on so many classifiers of a known bias; needs a scene."
    parser.add_argument("--planted", type=PositiveInt, help=measured)
    parser.add_argument("--seed", type=Seed, default=0, help="Of samples and of noise.")
    add_batch_size(parser)
    add_device(parser)
    parser.add_argument("--out", type=Path, required=True, help="Folder to make.")
    return parser


def _check_arguments(parsed: Namespace) -> None:
    if (parsed.planted is None) == (parsed.classifier is None):
        raise SettingsError("Name a classifier to audit, or --planted to measure the audit itself.")
    if parsed.planted is not None:
        for name in ("do", "versus", "factor", "strata", "threshold"):
            if parsed[name] is not None:
                raise SettingsError(f"--{name} is for a classifier of yours: leave it out.")
        if parsed.data is None:
            raise SettingsError(
                "--planted needs data that a scene drew: name their YAML by --data."
            )
    if parsed.versus is not None and parsed.do is None:
        raise SettingsError("--versus compares with what --do sets: give both, or --factor names.")
    if parsed.do is not None and parsed.factor is not None:
        raise SettingsError("--do says what to set, --factor has its values chosen: give one.")


def _ask(model: Model, classifier: Classifier, chosen: AuditImages, parsed: Namespace) -> Audit:
    graph = model.graph
    do, versus = (
        None if texts is None else scaled_do(parse_do(texts, graph), graph, parsed.units)
        for texts in (parsed.do, parsed.versus)
    )
    return model.audit(
        classifier,
        chosen.images,
        chosen.factors,
        do,
        versus,
        parsed.factor,
        parsed.strata or (),
        "scaled",
        THRESHOLD if parsed.threshold is None else parsed.threshold,
        parsed.batch_size,
        parsed.seed,
    )


def _provenance(
    model: Model,
    chosen: AuditImages,
    parsed: Namespace,
    classifier: Classifier | None,
    started: float,
) -> dict[str, Any]:
    """Where the numbers come from, without folders of this machine."""
    file = None if classifier is None else classifier.file
    asked = ("weights", "data", "do", "versus", "factor", "strata", "units", "threshold", "seed")
    content = None if file is None else file_digest(file)
    return provenance(model, parsed, (*asked, "planted"), started) | public(
        {
            "classifier": None if classifier is None else classifier.name,
            "classifier's content": content,
            "images": len(chosen.names),
            "graph": model.graph.to_dict(),
            "sampling": sampling_record(model.sampling),
            "training": model.module.training_record.as_dict(),
        }
    )


def _write(found: Audit, record: dict[str, Any], chosen: AuditImages, folder: Path) -> None:
    write_json(record, folder / RECORD)
    with (folder / "effects.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(_rows(found, chosen.names))
    figures = {}
    for place, scores in enumerate(found.scores.contrasts):
        figures[scores.contrast.title] = f"moved_{place}.png"
        figure = moved_figure(scores, chosen.images, chosen.names)
        save_figure(figure, folder / f"moved_{place}.png")
    origin = record["provenance"]
    settings = (
        f"Classifier `{origin['classifier']}`, {origin['images']} images, counterfactuals by "
        f"`{origin['weights']}`. {origin['device']}."
    )
    write_text(audit_page(found, "Audit of a classifier", settings, figures), folder / "report.md")


def _rows(found: Audit, names: Sequence[str]) -> Iterator[list[object]]:
    """A row per contrast, image and output: scores before and after, total and direct effect."""
    yield ["contrast", "image", "output", "factual", "before", "after", "total", "direct"]
    for scores in found.scores.contrasts:
        title, factual = scores.contrast.title, found.scores.factual
        columns = [factual, *scores.total, scores.total[1] - scores.total[0]]
        columns += [scores.direct[1] - scores.direct[0]]
        for row, name in enumerate(names):
            for output in range(factual.shape[1]):
                yield [title, name, output, *(float(each[row, output]) for each in columns)]
