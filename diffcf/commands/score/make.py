"""``diffcf score --make pendulum --out task``: write a :mod:`diffcf.commands.score.task`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from diffcf.causal import CausalGraph
from diffcf.commands.dataset_folder import write_graph
from diffcf.commands.score.task import (
    COLUMNS,
    DATASETS,
    FACTORS,
    FACTUALS,
    GRAPH,
    QUESTIONS,
    RECORD,
    SPLIT,
    Question,
    digest_of,
    factual_name,
    questions,
    set_up,
)
from diffcf.evaluation import EvaluationProtocol, InterventionPlan
from diffcf.io import (
    DataError,
    SettingsError,
    file_digest,
    version_of,
    versions,
    whole_folder,
    write_json,
)
from diffcf.reporting import save_image
from diffcf.training import FactorData, read_data

SIZE, IMAGES = 64, 256
"""Of the built-in data, as the benchmark has them."""

README = """\
# Counterfactual images: {dataset}

Each row of `task.csv` asks: what would the picture `image` have looked like, had `factor` been
`value`? Draw the answer and save it in a folder of yours, under the name in the column `answer`.

- Pictures are {channels} PNG files of {size} × {size} pixels, 8 bits a channel, no alpha channel;
  answers are such files, too. Change nothing in this folder: answers go into a folder of their own.
- `graph.yaml` says which factor causes which, and their ranges. An intervention changes the factor
  that is set and its effects, and nothing else.
- `factors.csv` has the observed factors of each picture. Values are in the units of `graph.yaml`;
  a binary factor is 0 or 1, a category is named.
- Rows without a factor ask for the picture as it is, after whatever your method does to draw one
  (encode, set nothing, decode). They are optional: without them composition is not measured.
- A part of the answers is scored as such, and the scores then say so.

{count} questions about {images} pictures. Score the answers by

    diffcf score THIS_FOLDER YOUR_ANSWERS --out RESULT
"""


def make(
    name: str, out: Path, images: int | None = None, size: int | None = None, seed: int = 0
) -> str:
    """Write the task of a dataset, one of :data:`DATASETS` or a YAML file, to the folder ``out``.

    Returns a line that says what was made. ``images`` and ``size`` are of the test split, ``seed``
    of the values asked; None takes those of the data.

    Raises:
        SettingsError: for a name that is neither.
        DataError: for data that cannot be loaded.
    """
    dataset, spec = described(name, images, size)
    data = set_up(spec, f"The description of {name}", training=False)
    # What follows upon an answer cannot be asked of files.
    protocol = EvaluationProtocol(steps=0, cycles=0, reverse_images=0, seed=seed)
    plan = InterventionPlan.of(data.graph, data.factors_of(SPLIT), protocol, data.scene)
    asked = list(questions(data.graph, plan))
    with whole_folder(out) as folder:
        shape = _write_images(data, folder)
        _write_table(folder / QUESTIONS, COLUMNS, map(_cells, asked))
        rows = enumerate(data.graph.native_rows(plan.factors))
        head = ["image", *data.graph.names]
        _write_table(folder / FACTORS, head, ([factual_name(k), *row] for k, row in rows))
        write_graph(data.graph, folder)
        record = {
            "dataset": dataset,
            "data": spec,
            "split": SPLIT,
            "images": len(plan.factors),
            "size": shape[-1],
            "channels": shape[0],
            "questions": _counts(data.graph, asked),
            "left_out": plan.left_out,
            "protocol": vars(protocol),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "made_by": f"diffcf {version_of('diffcf')}: score --make {name}",
            "versions": versions(),
            "files": _digests(folder),
        }
        record = json.loads(json.dumps(record))  # tuples become lists
        write_json(record | {"digest": digest_of(record)}, folder / RECORD)
        (folder / "README.md").write_text(_readme(record), encoding="utf-8")
    return f"{len(asked)} questions about {len(plan.factors)} images are in {out}"


def described(name: str, images: int | None, size: int | None) -> tuple[str, dict[str, Any]]:
    """The dataset's name in results, and the description of its data module."""
    spec: dict[str, Any]
    if name in DATASETS:
        dataset, class_path, arguments = DATASETS[name]
        images, size = images or IMAGES, size or SIZE
        spec = {"class_path": class_path, "init_args": arguments}
    elif Path(name).suffix in (".yaml", ".yml"):
        dataset, spec = Path(name).stem, _read(Path(name))
    else:
        known = ", ".join(DATASETS)
        raise SettingsError(
            f"There is no dataset '{name:.100}': name one of {known}, or the YAML of a data module."
        )
    sizes = {"test_size": images, "image_size": size}
    given = {key: value for key, value in sizes.items() if value is not None}
    return dataset, {**spec, "init_args": {**(spec.get("init_args") or {}), **given}}


def _read(path: Path) -> dict[str, Any]:
    spec = read_data(path)
    if not isinstance(spec, dict) or not isinstance(spec.get("init_args") or {}, dict):
        raise DataError(f"{path} describes no data module: give it a class_path and init_args.")
    return spec


def _readme(record: dict[str, Any]) -> str:
    counted = {"count": sum(record["questions"].values())}
    kind = {"channels": "grey" if record["channels"] == 1 else "RGB"}
    return README.format(**{**record, **counted, **kind})


def _write_images(data: FactorData, folder: Path) -> tuple[int, ...]:
    """Returns the shape ``(C, S, S)`` of the images."""
    (folder / FACTUALS).mkdir()
    shape: tuple[int, ...] = ()
    for row in track(range(data.size_of(SPLIT)), description="factuals"):
        image = data.images_of(SPLIT, torch.tensor([row]))[0]
        save_image(image, folder / factual_name(row))
        shape = tuple(image.shape)
    return shape


def _write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(head)
        table.writerows(rows)


def _cells(question: Question) -> list[str]:
    return [getattr(question, column) for column in COLUMNS]


def _counts(graph: CausalGraph, asked: Sequence[Question]) -> dict[str, int]:
    """How many questions set each factor, and under "" nothing."""
    names = [question.factor for question in asked]
    return {name: names.count(name) for name in ("", *graph.names)}


def _digests(folder: Path) -> dict[str, str]:
    """Of all files that make the task, by their names in it."""
    files = [folder / name for name in (QUESTIONS, FACTORS, GRAPH)]
    files += sorted((folder / FACTUALS).iterdir())
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in files}
