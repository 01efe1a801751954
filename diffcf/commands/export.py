"""Write a dataset as files anyone can read: ``diffcf export experiments/flow.yaml data/flow``.

The folder has ``images/*.png``, ``factors.csv`` (a row per image, native units, with its split; a
missing label is an empty cell, and a column ``intervened`` says what was set, if anything was) and
``graph.yaml``: the layout that :class:`data_modules.FactorTableDataModule` reads, and an example of
what your own data should look like.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt
from rich.progress import track

from diffcf.causal import intervened_of
from diffcf.commands.dataset_folder import dataset_folder, set_cell
from diffcf.io import OutputError, SettingsError, check_writable, whole_folder
from diffcf.training import FactorData, load_data

Split = Literal["train", "val", "test"]


def export(args: Sequence[str]) -> None:
    """Command ``diffcf export``; OutputError when the folder exists: nothing is overwritten."""
    parser = ArgumentParser(prog="diffcf export", description="Write a dataset as PNG and CSV.")
    parser.add_argument("config", type=Path, help="YAML of an experiment, or of a data module.")
    parser.add_argument("out", type=Path, help="Folder to make.")
    parser.add_argument("--splits", type=list[Split], default=["train", "val", "test"])
    parser.add_argument("--images", type=PositiveInt, help="Of each split, the first; else all.")
    config = parser.parse_args(list(args))
    module, out = load_data(config.config), config.out
    if out.exists():
        raise OutputError(f"{out} exists already: remove it, or name another folder.")
    if not config.splits:
        raise SettingsError("--splits names no split: name train, val or test.")
    check_writable(out)
    module.prepare_data()
    module.setup()
    with whole_folder(out) as unfinished:
        count = _write(module, unfinished, config.splits, config.images)
    print(f"{count} images, factors.csv and graph.yaml are in {out}")


def _write(module: FactorData, folder: Path, splits: Sequence[Split], images: int | None) -> int:
    """Returns how many images it wrote."""
    by_hand = {stage: intervened_of(module, stage) for stage in splits}
    marked = ["intervened"] if any(mask is not None for mask in by_hand.values()) else []
    with dataset_folder(folder, module.graph, ["split", *marked]) as written:
        for stage in splits:
            factors, mask = module.factors_of(stage)[:images], by_hand[stage]
            for row in track(range(len(factors)), description=stage):
                image = module.images_of(stage, torch.tensor([row]))[0]
                chosen = "" if mask is None else set_cell(module.graph, mask[row])
                written.add(image, factors[row], [stage, *(chosen for _ in marked)])
    return written.count
