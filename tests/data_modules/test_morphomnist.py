"""Morpho-MNIST from IDX files and a CSV: what is read, how it is parted, what is refused."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from morpho_files import write_idx, write_morphomnist

from data_modules import MorphoMNISTDataModule
from diffcf.causal import CausalGraph, Factor
from diffcf.io.errors import DataError, GraphError, SettingsError

STAGES = ("train", "val", "test")
IMAGES, DIGITS, TABLE = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "t10k-morpho.csv"


def loaded(root: Path, **arguments) -> MorphoMNISTDataModule:
    module = MorphoMNISTDataModule(root, **{"batch_size": 4, **arguments})
    module.prepare_data()
    module.setup()
    return module


def rows_of(module: MorphoMNISTDataModule) -> dict[str, list[float]]:
    """Thickness, which tells the images apart, of each part."""
    return {stage: module.factors_of(stage)[:, 0].tolist() for stage in STAGES}


@pytest.mark.parametrize("packed", [True, False])
def test_images_and_factors_are_those_of_the_files(packed: bool, tmp_path: Path) -> None:
    images, native = write_morphomnist(tmp_path, 40, packed=packed)
    module = loaded(tmp_path)
    for stage in STAGES:
        factors = module.graph.to_native(module.factors_of(stage))
        rows = (factors[:, :1] - native[:, 0]).abs().argmin(dim=1)
        torch.testing.assert_close(factors, native[rows].float(), atol=1e-3, rtol=0)
        shown = module.images_of(stage, torch.arange(module.size_of(stage)))
        assert shown.shape[1:] == (1, 32, 32) and shown.min() == -1
        inside = ((shown[:, 0, 2:30, 2:30] + 1) * 127.5).round().byte()
        assert torch.equal(inside, images[rows])
        shown[:, :, 2:30, 2:30] = -1
        assert (shown == -1).all(), "the border is black"


def test_one_part_is_divided_by_the_seed(tmp_path: Path) -> None:
    write_morphomnist(tmp_path, 60)
    one, same, other = (rows_of(loaded(tmp_path, seed=seed)) for seed in (3, 3, 4))
    assert one == same and one["test"] != other["test"]
    everything = [value for rows in one.values() for value in rows]
    assert len(everything) == len(set(everything)) == 60
    few = loaded(tmp_path, seed=3, train_size=20, val_size=2, test_size=3)
    assert [few.size_of(stage) for stage in STAGES] == [20, 2, 3]
    assert set(rows_of(few)["test"]) <= set(one["test"])


def test_two_parts_stay_apart(tmp_path: Path) -> None:
    write_morphomnist(tmp_path, 40, "train")
    _, test = write_morphomnist(tmp_path, 10, "t10k", seed=1)
    module = loaded(tmp_path)
    assert [module.size_of(stage) for stage in STAGES] == [36, 4, 10]
    torch.testing.assert_close(
        module.graph.to_native(module.factors_of("test"))[:, 0], test[:, 0], atol=1e-4, rtol=0
    )


def test_the_graph_may_do_without_the_digit(tmp_path: Path) -> None:
    write_morphomnist(tmp_path, 40)
    (tmp_path / DIGITS).unlink()
    factors = [Factor("intensity", low=0.0, high=255.0), Factor("thickness", high=10.0)]
    module = loaded(tmp_path, graph=CausalGraph(factors, [("thickness", "intensity")]))
    read = module.scene.read(module.images_of("test", torch.arange(4)))
    assert (read - module.factors_of("test")).abs().max() < 0.05


def test_labels_are_hidden_and_nothing_is_drawn(tmp_path: Path) -> None:
    write_morphomnist(tmp_path, 60)
    known = ~loaded(tmp_path, labels=0.25).factors_of("train").isnan().any(dim=1)
    assert int(known.sum()) == 12
    with pytest.raises(SettingsError, match="no scene that could draw"):
        MorphoMNISTDataModule(tmp_path, interventional=8)


def cut(name: str, lines: Callable[[list[str]], list[str]]) -> Callable[[Path], object]:
    """Changes the lines of a text file."""

    def change(root: Path) -> None:
        text = (root / name).read_text().splitlines()
        (root / name).write_text("\n".join(lines(text)) + "\n")

    return change


def packed(name: str, content: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Changes what a packed file holds."""

    def change(root: Path) -> None:
        path = root / name
        path.write_bytes(gzip.compress(content(gzip.decompress(path.read_bytes()))))

    return change


def halved(root: Path) -> None:
    path = root / IMAGES
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BREAKS: dict[str, Callable[[Path], object]] = {
    "has no Morpho-MNIST": lambda root: [path.unlink() for path in root.iterdir()],
    r"t10k-morpho\.csv .* does not exist": lambda root: (root / TABLE).unlink(),
    r"t10k-labels-idx1-ubyte .* does not exist": lambda root: (root / DIGITS).unlink(),
    "is no IDX file, since it begins with 01": packed(IMAGES, lambda data: b"\1" + data[1:]),
    "is no IDX file, since it begins with nothing": packed(IMAGES, lambda data: b""),
    "type 13 in 3 dimensions": packed(IMAGES, lambda data: data[:2] + b"\x0d" + data[3:]),
    "type 8 in 3 dimensions": lambda root: (root / DIGITS).write_bytes(
        (root / IMAGES).read_bytes()
    ),
    "holds only": packed(IMAGES, lambda data: data[:-5]),
    "holds more": packed(DIGITS, lambda data: data + b"\0"),
    "not usable": packed(DIGITS, lambda data: data[:4] + bytes(4)),
    "cannot be read": halved,
    "39 rows for 40 images": cut(TABLE, lambda lines: lines[:-1]),
    "38 rows for 40 images": lambda root: write_idx(root / DIGITS, torch.zeros(38).byte()),
    "'intensity'": cut(TABLE, lambda lines: [line.rpartition(",")[0] for line in lines]),
    "row 2, column 'intensity': the cell is empty": cut(
        TABLE, lambda lines: [lines[0], "0,2.0,nan", *lines[2:]]
    ),
    "outside the range": cut(TABLE, lambda lines: [lines[0], "0,70.0,100.0", *lines[2:]]),
    "row 2, column 'index': it should be 0": cut(
        TABLE, lambda lines: [lines[0], *reversed(lines[1:])]
    ),
    "'11' is no category": lambda root: write_idx(root / DIGITS, torch.full((40,), 11).byte()),
    "does not follow Deep SCM's equation": cut(
        TABLE, lambda lines: [lines[0], *(f"{k},{3 - k / 20},150.0" for k in range(40))]
    ),
    "must be square": lambda root: write_idx(root / IMAGES, torch.zeros(40, 28, 20).byte()),
}


@pytest.mark.parametrize("message", BREAKS)
def test_wrong_files_are_one_sentence(message: str, tmp_path: Path) -> None:
    root = tmp_path / "files"
    write_morphomnist(root, 40)
    BREAKS[message](root)
    with pytest.raises(DataError, match=message) as error:
        MorphoMNISTDataModule(root, batch_size=4).prepare_data()
    assert "\n" not in str(error.value)


def test_another_mechanism_goes_without_a_true_model(tmp_path: Path) -> None:
    write_morphomnist(tmp_path, 40)
    cut(TABLE, lambda lines: [lines[0], *(f"{k},{3 - k / 20},150.0" for k in range(40))])(tmp_path)
    assert loaded(tmp_path, mechanism=None).scene is None


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    write_morphomnist(tmp_path, 40)
    with pytest.raises(SettingsError, match="image_size is 24"):
        loaded(tmp_path, image_size=24)
    with pytest.raises(GraphError, match="'slant' is continuous"):
        MorphoMNISTDataModule(tmp_path, graph=CausalGraph([Factor("slant")]))
    with pytest.raises(GraphError, match="lacks 'intensity'"):
        MorphoMNISTDataModule(tmp_path, graph=CausalGraph([Factor("thickness", high=9.0)]))
