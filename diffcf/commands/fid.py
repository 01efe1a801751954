"""FID of one folder of images against another: ``diffcf fid data/real runs/generated``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt
from torch import Tensor
from tqdm import tqdm

from diffcf.api import load
from diffcf.evaluation import CACHE, GenerationQuality, bias_note, load_inception, real_statistics
from diffcf.io import (
    FORMATS,
    DataError,
    ImageTransform,
    UnusableImage,
    check_new,
    device_name,
    device_of,
    from_bytes,
    pictures,
    read_picture,
    versions,
    write_json,
)


def fid(args: Sequence[str]) -> None:
    """Command ``diffcf fid``; ``--help`` lists the arguments."""
    parser = ArgumentParser(prog="diffcf fid", description="FID, sFID and KID of two folders.")
    parser.add_argument("real", type=Path, help="Folder of real images.")
    parser.add_argument("generated", type=Path, help="Folder of generated images.")
    views = "Weights whose transform (crop, size, …) both folders get; else they are taken whole."
    parser.add_argument("--weights", type=str, help=views)
    parser.add_argument("--batch_size", type=PositiveInt, default=64, help="Images at a time.")
    parser.add_argument("--cache_dir", type=Path, default=CACHE, help="For real statistics.")
    card = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--out", type=Path, help="JSON file to write the results to.")
    parser.add_argument("--device", default=card, help="Where the network runs.")
    config = parser.parse_args(list(args))
    if config.out is not None:
        check_new(config.out)
    started = time.perf_counter()
    device = device_of(config.device)
    transform = None if config.weights is None else load(config.weights).image_transform()
    real, generated = (
        FolderImages(folder, config.batch_size, transform)
        for folder in (config.real, config.generated)
    )
    for folder, found in ((config.real, real), (config.generated, generated)):
        if len(found) < 2:
            raise DataError(f"Folder {folder} has one image; a distribution needs two or more.")
    network = load_inception().to(device)
    statistics = real_statistics(lambda: real, network, config.cache_dir)
    quality = GenerationQuality(network, statistics).to(device)
    with tqdm(total=len(generated), desc="FID, generated images", unit=" images") as bar:
        for images in generated:
            quality.update(images)
            bar.update(len(images))
    result = {name: float(value) for name, value in quality.compute().items()}
    print(f"FID   {result['fid']:.4f}\nsFID  {result['sfid']:.4f}")
    print(f"KID   {result['kid']:.6f} ± {result['kid_std']:.6f}")
    seconds, where = time.perf_counter() - started, device_name(device)
    if config.out is not None:
        origin = {
            "real": len(real),
            "generated": len(generated),
            "seconds": round(seconds, 1),
            "device": where,
            "transform": None if transform is None else transform.to_dict(),
            "network": network.signature,
            "versions": versions(),
        }
        write_json({"metrics": result, "provenance": origin}, config.out)
    print(f"{len(generated)} images against {len(real)} real ones, {seconds:.1f} s on {where}")
    if note := bias_note(len(generated), len(real)):
        print(note)


class FolderImages:
    """The pictures of a folder and its subfolders, in the order of their names.

    Our own sheets, strips and figures are left out, with a line. Iterating gives batches
    ``[B, 3, H, W]`` in [-1, 1], each of files of one size: decoded as a data module does, and whole
    unless there is a ``transform``.

    Raises:
        DataError: when the folder is missing or has no images, or a file cannot be read.
    """

    def __init__(
        self, folder: Path, batch_size: int, transform: ImageTransform | None = None
    ) -> None:
        if not folder.is_dir():
            raise DataError(f"Folder {folder} does not exist: check the path.")
        self.files, ours = pictures(folder, below=True)
        self.batch_size, self.transform = batch_size, transform
        if ours:
            print(f"{folder}: left out {len(ours)} by-products of diffcf, such as {ours[0].name}")
        if not self.files:
            raise DataError(f"Folder {folder} has no {', '.join(FORMATS)} images: name another.")

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Tensor]:
        batch: list[Tensor] = []
        for file in self.files:
            image = self._decoded(file)
            if batch and (len(batch) == self.batch_size or image.shape != batch[0].shape):
                yield torch.stack(batch)
                batch = []
            batch.append(image)
        yield torch.stack(batch)

    def _decoded(self, file: Path) -> Tensor:
        try:
            if self.transform is None:
                pixels = np.asarray(read_picture(file).convert("RGB")).transpose(2, 0, 1)
            else:
                pixels = self.transform.apply(self.transform.picture(file))
        except UnusableImage as error:
            raise DataError(f"Image {file} {error}.") from None
        return from_bytes(pixels).expand(3, -1, -1)
