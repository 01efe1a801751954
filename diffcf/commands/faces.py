"""Write cartoon faces as a folder in CelebA's layout: ``diffcf faces data/faces --count 4000``.

They stand in where CelebA is not at hand: the same code loads them, and their causal mechanisms are
known (:mod:`data_modules.scenes.faces.scene`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from torch import Generator, Tensor
from tqdm import tqdm

from data_modules.celeba import IMAGE, IMAGES, NOISE
from data_modules.scenes.faces.picture import APPEARANCE, ATTRIBUTES, draw_canvas
from data_modules.scenes.faces.scene import sample_faces
from diffcf.commands.arguments import Seed
from diffcf.io import DataError, OutputError, whole_folder

VERSION = 2  # of the pictures and the files: a new one makes other folders of the same seed
MARKER = "cartoon_faces.json"
# CelebA's names, in its order; its column for beards is their absence.
COLUMNS = ["Bald", "Male", "Mouth_Slightly_Open", "Narrow_Eyes", "No_Beard", "Smiling", "Young"]
QUALITY = 95
LEAST = 10  # images, for one in each split
BATCH = 64


def faces(args: Sequence[str]) -> None:
    """Command ``diffcf faces``; ``--help`` lists the arguments."""
    description = "Write cartoon faces as a folder in CelebA's layout."
    parser = ArgumentParser(prog="diffcf faces", description=description)
    parser.add_argument("root", type=Path, help="Folder to make.")
    parser.add_argument("--count", type=int, default=4000, help="How many faces.")
    parser.add_argument("--seed", type=Seed, default=0, help="Chooses the faces.")
    config = parser.parse_args(list(args))
    new = write_faces(config.root, config.count, config.seed)
    print(f"{config.root} {'has' if new else 'had'} {config.count} cartoon faces.")


def write_faces(root: str | Path, count: int, seed: int = 0) -> bool:
    """Write ``count`` faces, the first 80% for training, 10% for validation, 10% for test.

    Makes ``img_align_celeba/000001.jpg`` and on (178 × 218 pixels), ``list_attr_celeba.txt``,
    ``list_eval_partition.txt``, ``scene_noise.csv`` (everything the pictures depend on, so that
    exact counterfactuals can be drawn) and a marker. The folder appears once it is complete.
    Returns False, and does nothing, where the same faces are there already.

    Raises:
        DataError: when the folder holds anything else, or ``count`` is below 10.
        OutputError: when the folder cannot be written.
    """
    root = Path(root)
    if count < LEAST:
        raise DataError(f"count must be at least {LEAST}, for faces in every split, not {count}.")
    marker = {"version": VERSION, "count": count, "seed": seed}
    if _is_there(root, marker):
        return False
    try:
        with whole_folder(root, shared=True) as unfinished:
            _write(unfinished, marker)
    except OutputError:
        if not _is_there(root, marker):  # another process was not faster
            raise
    return True


def _is_there(root: Path, marker: dict[str, int]) -> bool:
    """Whether ``root`` holds these faces; DataError when it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    problem = "already holds something else"
    try:
        found = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found == marker:
        if sum(1 for _ in (root / IMAGES).glob("*.jpg")) == marker["count"]:
            return True
        problem = "has lost some of its images"
    elif isinstance(found, dict):
        others = ", ".join(f"{name} {value}" for name, value in found.items())
        problem = f"already holds other faces ({others})"
    raise DataError(f"Folder {root} {problem}: delete it, or name another.")


def _write(folder: Path, marker: dict[str, int]) -> None:
    count = marker["count"]
    (folder / IMAGES).mkdir(parents=True)
    attributes, looks = sample_faces(count, Generator().manual_seed(marker["seed"]))
    names = [f"{number:06d}.jpg" for number in range(1, count + 1)]
    with tqdm(total=count, desc="Drawing faces", unit="image") as progress:
        for start in range(0, count, BATCH):
            part = slice(start, start + BATCH)
            canvas = draw_canvas(attributes[part], looks[part]).mul_(255).round_().clamp_(0, 255)
            for name, pixels in zip(names[part], canvas.byte().movedim(1, 3).numpy(), strict=True):
                Image.fromarray(pixels).save(folder / IMAGES / name, quality=QUALITY)
            progress.update(len(canvas))
    _write_lines(folder / "list_attr_celeba.txt", _attribute_lines(names, attributes))
    train, val = int(0.8 * count), int(0.9 * count)
    partition = [f"{name} {(place >= train) + (place >= val)}" for place, name in enumerate(names)]
    _write_lines(folder / "list_eval_partition.txt", partition)
    # Everything the pictures depend on: attributes (0 or 1) and looks, factors or not.
    drawn = torch.cat([attributes, looks], 1).numpy()
    table = pd.DataFrame(drawn, names, [*ATTRIBUTES, *APPEARANCE])
    lines = table.to_csv(index_label=IMAGE, float_format="%.7g").splitlines()
    _write_lines(folder / NOISE, lines)
    _write_lines(folder / MARKER, [json.dumps(marker)])


def _attribute_lines(names: list[str], attributes: Tensor) -> list[str]:
    """The original format: number of images, names of attributes, and 1 or -1 of every image."""
    places = [ATTRIBUTES.index(column.removeprefix("No_")) for column in COLUMNS]
    lacks = torch.tensor([column.startswith("No_") for column in COLUMNS])
    signs = torch.where((attributes[:, places] > 0.5) ^ lacks, 1, -1).tolist()
    rows = (f"{n} {' '.join(f'{s:2d}' for s in row)}" for n, row in zip(names, signs, strict=True))
    return [str(len(names)), " ".join(COLUMNS), *rows]


def _write_lines(file: Path, lines: list[str]) -> None:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
