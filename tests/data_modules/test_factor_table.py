"""A folder, a table and a graph: they load and train, and every mistake shows before training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
import yaml
from PIL import Image

from data_modules.factor_table import FactorTableDataModule
from data_modules.scenes.pendulum import PendulumScene
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.io.errors import DataError, GraphError, OutputError
from diffcf.training.datasets import load_data

GRAPH = {
    "factors": {
        "red": {"range": [0, 255]},
        "bright": {"kind": "binary"},
        "shape": {"categories": ["wide", "high"]},
    },
    "edges": [["red", "bright"]],
}
ROWS = 20


def value(place: int) -> tuple[int, int, str]:
    """Red, bright and shape of an image."""
    return place * 10, int(place * 10 > 90), ("wide", "high")[place % 2]


def picture(place: int) -> Image.Image:
    red, _, shape = value(place)
    size = (13, 7) if shape == "wide" else (6, 11)
    mode = ("RGB", "RGBA")[place % 3 == 0]
    return Image.new(mode, size, (red, 50, 50, 255)[: len(mode)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``images/`` with twenty pictures of all sizes, ``factors.csv`` and ``graph.yaml``."""
    (tmp_path / "images" / "more").mkdir(parents=True)
    lines = ["image,note,shape,red,bright"]
    for place in range(ROWS):
        name = f"{place}.png" if place % 4 else f"more/{place}.png"
        picture(place).save(tmp_path / "images" / name)
        red, bright, shape = value(place)
        lines.append(f"{name},anything,{shape},{red},{bright}")
    (tmp_path / "factors.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump(GRAPH, sort_keys=False))
    return tmp_path


def module(folder: Path, **arguments: object) -> FactorTableDataModule:
    given = {
        "images": folder / "images",
        "table": folder / "factors.csv",
        "graph": folder / "graph.yaml",
        "image_size": 8,
        "batch_size": 4,
    }
    return FactorTableDataModule(**given | arguments)


def prepared(folder: Path, **arguments: object) -> FactorTableDataModule:
    built = module(folder, **arguments)
    built.setup()
    return built


def test_the_graph_exists_before_setup(folder: Path) -> None:
    built = module(folder)
    assert built.graph.names == ("red", "bright", "shape") and built.scene is None
    graph = CausalGraph([Factor("red", low=0, high=255)])
    assert module(folder, graph=graph).graph is graph


def test_images_belong_to_their_factors(folder: Path) -> None:
    built = prepared(folder, val_fraction=0.2, test_fraction=0.25)
    assert [built.size_of(stage) for stage in ("train", "val", "test")] == [11, 4, 5]
    for loader in (built.train_dataloader(), built.val_dataloader(), built.test_dataloader()):
        for batch in loader:
            assert batch["image"].shape[1:] == (3, 8, 8) and batch["image"].min() >= -1
            red = (batch["image"][:, 0, 4, 4] + 1) / 2
            torch.testing.assert_close(red, batch["factors"][:, 0])
            assert torch.equal(batch["factors"][:, 1], (batch["factors"][:, 0] > 91 / 255).float())


def test_the_seed_chooses_the_split(folder: Path) -> None:
    first, same, other = (prepared(folder, seed=seed, test_fraction=0.4) for seed in (0, 0, 1))
    assert torch.equal(first.factors_of("test"), same.factors_of("test"))
    assert not torch.equal(first.factors_of("test"), other.factors_of("test"))


def test_a_split_column_is_obeyed(folder: Path) -> None:
    file = folder / "factors.csv"
    head, *lines = file.read_text().splitlines()
    words = ["test", "validation", "train", "train"]
    body = [f"{line},{words[place % 4]}" for place, line in enumerate(lines)]
    file.write_text("\n".join([f"{head},part", *body]))
    built = prepared(folder, split_column="part")
    assert [built.size_of(stage) for stage in ("train", "val", "test")] == [10, 5, 5]
    reds = built.factors_of("test")[:, 0] * 255
    torch.testing.assert_close(reds, torch.arange(0.0, 200, 40))


def test_a_split_may_be_written_as_any_binary_is(folder: Path) -> None:
    file = folder / "factors.csv"
    head, *lines = file.read_text().splitlines()
    words = ["0.0", "1.0", "2", "+0"]
    body = [f"{line},{words[place % 4]}" for place, line in enumerate(lines)]
    file.write_text("\n".join([f"{head},part", *body]))
    built = prepared(folder, split_column="part")
    assert [built.size_of(stage) for stage in ("train", "val", "test")] == [10, 5, 5]


def test_columns_may_be_named_otherwise(folder: Path) -> None:
    file = folder / "factors.csv"
    plain = prepared(folder).factors_of("train")
    text = file.read_text()
    file.write_text(text.replace("red", '"Red, in levels"', 1))
    with pytest.raises(DataError, match="no column 'red'"):
        prepared(folder)
    mapped = prepared(folder, columns={"red": "Red, in levels"})
    assert torch.equal(mapped.factors_of("train"), plain)
    with pytest.raises(GraphError, match="Unknown factor 'rod'"):
        prepared(folder, columns={"rod": "Red, in levels"})


def test_names_may_be_absolute(folder: Path) -> None:
    file = folder / "factors.csv"
    plain = prepared(folder).images_of("test", torch.arange(2))
    head, *lines = file.read_text().splitlines()
    place = head.split(",").index("image")
    rows = [line.split(",") for line in lines]
    root = prepared(folder).images.resolve()
    rows = [[str(root / c) if k == place else c for k, c in enumerate(row)] for row in rows]
    file.write_text("\n".join([head, *map(",".join, rows)]))
    assert torch.equal(prepared(folder).images_of("test", torch.arange(2)), plain)


def test_parquet_and_csv_give_the_same_data(folder: Path) -> None:
    rows = [value(place) for place in range(ROWS)]
    names = [f"{place}.png" if place % 4 else f"more/{place}.png" for place in range(ROWS)]
    red, bright, shape = (list(column) for column in zip(*rows, strict=True))
    content = {"file": names, "red": red, "bright": bright, "shape": shape}
    pyarrow.parquet.write_table(pyarrow.table(content), folder / "factors.parquet")
    parquet = prepared(folder, table=folder / "factors.parquet", image_column="file")
    text = prepared(folder)
    for stage in ("train", "val", "test"):
        assert torch.equal(parquet.factors_of(stage), text.factors_of(stage))
    rows = torch.arange(text.size_of("train"))
    assert torch.equal(parquet.images_of("train", rows), text.images_of("train", rows))


def test_the_cache_is_built_once_beside_the_images(folder: Path) -> None:
    module(folder).prepare_data()
    (cache,) = (folder / "images" / ".diffcf_cache").iterdir()
    before = cache.stat().st_mtime_ns
    prepared(folder)
    prepared(folder, seed=3)
    assert list(cache.parent.iterdir()) == [cache] and cache.stat().st_mtime_ns == before
    prepared(folder, cache_dir=folder / "elsewhere")
    assert len(list((folder / "elsewhere").iterdir())) == 1


def test_grey_images_have_one_channel(folder: Path) -> None:
    batch = next(iter(prepared(folder, channels=1).train_dataloader()))
    assert batch["image"].shape == (4, 1, 8, 8)


def test_a_scene_must_have_the_factors_of_the_graph(folder: Path) -> None:
    scene = PendulumScene()
    assert module(folder, graph=scene.graph, scene=scene, image_size=64).scene is scene
    with pytest.raises(GraphError, match=r"angle, .* differ from the graph's, red"):
        module(folder, scene=scene, image_size=64)
    with pytest.raises(ValueError, match="image_size 8"):
        module(folder, graph=scene.graph, scene=scene)


def test_a_yaml_file_describes_it(folder: Path) -> None:
    arguments = {"images": "images", "table": "factors.csv", "graph": "graph.yaml"}
    paths = {name: str(folder / file) for name, file in arguments.items()}
    spec = {
        "class_path": "data_modules.factor_table.FactorTableDataModule",
        "init_args": paths | {"batch_size": 4},
    }
    (folder / "data.yaml").write_text(yaml.safe_dump({"data": spec}))
    built = load_data(folder / "data.yaml")
    built.setup()
    assert built.graph.names == ("red", "bright", "shape")
    assert built.images_of("test", torch.tensor([0])).shape == (1, 3, 64, 64)


def test_names_in_the_table_may_lack_their_ending_or_have_another(folder: Path) -> None:
    expected = prepared(folder).images_of("train", torch.arange(8))
    in_table("\n3.png", "\n3")(folder)
    in_table("\n5.png", "\n5.jpg")(folder)
    assert torch.equal(prepared(folder).images_of("train", torch.arange(8)), expected)


# --- mistakes: each one clear error, before training ---


def in_table(old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        file = folder / "factors.csv"
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8", newline="")

    return spoil


def on_disk(change: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda folder: change(folder / "images" / "3.png")


def cut_jpeg(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-100])


def as_latin(folder: Path) -> None:
    file = folder / "factors.csv"
    file.write_bytes(file.read_bytes().replace(b"anything,high,30", b"M\xfcll,high,30"))


def ambiguous(folder: Path) -> None:
    in_table("\n3.png", "\n3")(folder)
    Image.new("RGB", (8, 8)).save(folder / "images" / "3.bmp")


MISTAKES = {
    "truncated JPEG": (on_disk(cut_jpeg), ["3.png", "row 5", "cannot be read"]),
    "zero-byte file": (on_disk(lambda path: path.write_bytes(b"")), ["3.png", "row 5", "empty"]),
    "missing image": (on_disk(Path.unlink), ["3.png", "row 5", "does not exist"]),
    "text for an image": (
        on_disk(lambda path: path.write_text("hello")),
        ["3.png", "row 5", "none of PNG"],
    ),
    "wrong column": (in_table(",red,", ",rouge,"), ["'red'", "image, note, shape, rouge, bright"]),
    "no image column": (in_table("image,", "picture,"), ["'image'", "picture, note"]),
    "duplicate column": (in_table(",note,", ",red,"), ["row 1", "'red' twice"]),
    "infinite cell": (in_table(",high,30,", ",high,inf,"), ["row 5", "'red'", "not finite"]),
    "out of range": (in_table(",high,30,", ",high,300,"), ["row 5", "'red'", "300", "0 … 255"]),
    "no number": (in_table(",high,30,", ",high,lots,"), ["row 5", "'red'", "'lots'"]),
    "not binary": (in_table("high,30,0", "high,30,7"), ["row 5", "'bright'", "'7'"]),
    "no category": (in_table(",high,30,", ",deep,30,"), ["row 5", "'shape'", "wide, high"]),
    "duplicate name": (in_table("\n3.png", "\n2.png"), ["row 5", "'image'", "row 4 already"]),
    "outside": (in_table("\n3.png", "\n../3.png"), ["row 5", "'image'", "outside"]),
    "ambiguous name": (ambiguous, ["row 5", "3.bmp or 3.png", "write its ending"]),
    "two names of one file": (in_table("\n3.png", "\n2.bmp"), ["row 4", "row 5", "keep one"]),
    "ragged row": (in_table("high,30,0", "high,30"), ["row 5", "4 cells", "5"]),
    "not UTF-8": (as_latin, ["row 5", "UTF-8", "0xfc"]),
    "empty table": (lambda folder: (folder / "factors.csv").write_text(""), ["is empty"]),
    "no table": (lambda folder: (folder / "factors.csv").unlink(), ["does not exist"]),
    "no folder": (lambda folder: (folder / "images").rename(folder / "x"), ["does not exist"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_error_before_training(folder: Path, mistake: str) -> None:
    spoil, words = MISTAKES[mistake]
    spoil(folder)
    with pytest.raises(DataError) as error:
        module(folder).prepare_data()
    message = str(error.value)
    assert all(word in message for word in words), message
    assert str(folder) in message and "\n" not in message
    assert not list(folder.glob("**/*.npy")) and not list(folder.glob("**/*.tmp"))


def test_a_byte_order_mark_and_crlf_change_nothing(folder: Path) -> None:
    plain = prepared(folder)
    file = folder / "factors.csv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    marked = prepared(folder)
    assert torch.equal(plain.factors_of("train"), marked.factors_of("train"))
    in_table("high,30,0", "high,30,7")(folder)
    with pytest.raises(DataError, match="row 5"):
        prepared(folder)


def test_two_rows_are_too_few(folder: Path) -> None:
    file = folder / "factors.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:3]))
    with pytest.raises(DataError, match="2 rows"):
        prepared(folder)


def test_a_cache_that_cannot_be_written_names_cache_dir(folder: Path) -> None:
    (folder / "images" / ".diffcf_cache").write_text("in the way")
    with pytest.raises(OutputError, match="cache_dir"):
        prepared(folder)


@pytest.mark.parametrize(
    "arguments",
    [
        {"image_size": 0},
        {"crop": 0},
        {"channels": 4},
        {"val_fraction": 0.0},
        {"test_fraction": 1.5},
        {"batch_size": 0},
    ],
    ids=str,
)
def test_wrong_arguments_are_named(folder: Path, arguments: dict[str, int | float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        module(folder, **arguments)
