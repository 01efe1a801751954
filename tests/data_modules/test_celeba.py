"""CelebA from its standard folder: both kinds of tables, official partition, renamed attributes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from data_modules.celeba import CelebADataModule
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.commands.main import main
from diffcf.io.errors import DataError, GraphError
from diffcf.training.datasets import load_data

GRAPHS = Path(__file__).parents[2] / "experiments" / "graphs"
NAMES = ("5_o_Clock_Shadow", "Male", "Smiling", "Narrow_Eyes", "Mouth_Slightly_Open", "No_Beard")
COUNT = 10


def attributes(place: int) -> list[int]:
    """1 or -1 for each attribute; Male is the parity, so that every row differs from its next."""
    return [1 if (place + 1) >> bit & 1 else -1 for bit in range(len(NAMES))]


def partition(place: int) -> int:
    return 0 if place < 6 else 1 if place < 8 else 2


def name(place: int) -> str:
    return f"{place + 1:06d}.jpg"


def write_txt(root: Path) -> None:
    lines = [str(COUNT), " ".join(NAMES) + " "]
    for place in range(COUNT):
        lines.append(name(place) + "".join(f" {value:2d}" for value in attributes(place)))
    (root / "list_attr_celeba.txt").write_text("\r\n".join(lines) + "\r\n", newline="")
    lines = [f"{name(place)} {partition(place)}" for place in range(COUNT)]
    (root / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")


def write_csv(root: Path) -> None:
    lines = [",".join(["image_id", *NAMES])]
    lines += [",".join([name(p), *map(str, attributes(p))]) for p in range(COUNT)]
    (root / "list_attr_celeba.csv").write_text("\n".join(lines))
    lines = ["image_id,partition", *(f"{name(p)},{partition(p)}" for p in range(COUNT))]
    (root / "list_eval_partition.csv").write_text("\n".join(lines[:1] + lines[:0:-1]))


def write_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for place in range(COUNT):
        image = Image.new("RGB", (178, 218), "white")
        image.paste((place * 20,) * 3, (15, 35, 163, 183))  # the central 148 × 148 pixels
        image.save(folder / name(place), quality=95)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_images(tmp_path / "img_align_celeba")
    write_txt(tmp_path)
    return tmp_path


def module(root: Path, **arguments: object) -> CelebADataModule:
    given = {"graph": GRAPHS / "celeba_smile.yaml", "image_size": 16, "batch_size": 2}
    return CelebADataModule(root, **given | arguments)


def prepared(root: Path, **arguments: object) -> CelebADataModule:
    built = module(root, **arguments)
    built.setup()
    return built


def test_the_png_archive_is_read_by_the_tables_of_the_jpeg_one(root: Path) -> None:
    folder = (root / "img_align_celeba").rename(root / "img_align_celeba_png")
    expected = prepared(root).images_of("test", torch.arange(2))
    for file in folder.iterdir():
        Image.open(file).save(file.with_suffix(".png"))
        file.unlink()
    assert torch.equal(prepared(root).images_of("test", torch.arange(2)), expected)


def test_letterbox_shows_the_whole_file(root: Path) -> None:
    built = prepared(root, crop=None, fit="letterbox", ground=0)
    (image,) = built.images_of("train", torch.tensor([5]))
    assert (image[:, :, [0, -1]] == -1).all(), "bars beside"
    assert (image[:, [0, -1], 4:-4] > 0.9).all(), "the white edge above and below"
    with pytest.raises(ValueError, match="crop must be left out"):
        module(root, fit="letterbox")


def test_the_official_partition_and_the_attributes_are_read(root: Path) -> None:
    built = prepared(root)
    assert built.graph.names == ("Male", "Smiling", "Narrow_Eyes", "Mouth_Slightly_Open")
    wanted = torch.tensor([attributes(place)[1:5] for place in range(COUNT)])
    rows = {"train": slice(0, 6), "val": slice(6, 8), "test": slice(8, 10)}
    for stage, part in rows.items():
        assert torch.equal(built.factors_of(stage), (wanted[part] == 1).float())


def test_the_centre_of_every_face_is_its_own(root: Path) -> None:
    built = prepared(root)
    images = built.images_of("train", torch.arange(6))
    wanted = torch.arange(6.0).mul(20)[:, None, None, None].expand_as(images)
    torch.testing.assert_close((images + 1) * 127.5, wanted, atol=12, rtol=0)


def test_all_layouts_give_the_same_data(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("kaggle")
    write_images(other / "img_align_celeba" / "img_align_celeba")
    write_csv(other)
    first, second = prepared(root), prepared(other)
    for stage in ("train", "val", "test"):
        rows = torch.arange(first.size_of(stage))
        assert torch.equal(first.factors_of(stage), second.factors_of(stage))
        assert torch.equal(first.images_of(stage, rows), second.images_of(stage, rows))


def test_a_yaml_file_describes_it(root: Path) -> None:
    arguments = {
        "root": str(root),
        "graph": str(GRAPHS / "celeba_beard.yaml"),
        "attributes": dict.fromkeys(("Young", "Bald", "Beard"), "not No_Beard"),
        "scene": None,
        "image_size": 16,
        "batch_size": 2,
    }
    spec = {"class_path": "data_modules.celeba.CelebADataModule", "init_args": arguments}
    (root / "data.yaml").write_text(yaml.safe_dump({"data": spec}))
    built = load_data(root / "data.yaml")
    built.prepare_data()
    built.setup()
    assert built.factors_of("train").shape == (6, 4)


def test_attributes_are_renamed_and_negated(root: Path) -> None:
    graph = CausalGraph([Factor("Beard", "binary"), Factor("Stubble", "binary")])
    renamed = {"Beard": "not No_Beard", "Stubble": "5_o_Clock_Shadow"}
    built = prepared(root, graph=graph, attributes=renamed)
    values = torch.tensor([attributes(place) for place in range(6)])
    assert torch.equal(built.factors_of("train")[:, 0], (values[:, 5] == -1).float())
    assert torch.equal(built.factors_of("train")[:, 1], (values[:, 0] == 1).float())


@pytest.mark.parametrize("graph", ["celeba_smile", "celeba_beard"])
def test_the_graphs_of_the_benchmark_are_valid_and_binary(graph: str) -> None:
    built = CausalGraph.from_yaml(GRAPHS / f"{graph}.yaml")
    assert built.binary.all() and len(built) == 4
    assert CelebADataModule("nowhere", built, {built.names[-1]: "not No_Beard"}).graph == built


def test_an_absent_dataset_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        module(tmp_path / "celeba").prepare_data()
    for word in ("img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"):
        assert str(tmp_path / "celeba" / word) in str(error.value)
    assert "never downloaded" in str(error.value)
    write_images(tmp_path / "celeba" / "img_align_celeba")
    write_txt(tmp_path / "celeba")
    (tmp_path / "celeba" / "list_eval_partition.txt").unlink()
    with pytest.raises(DataError, match="list_eval_partition") as error:
        module(tmp_path / "celeba").prepare_data()
    assert "list_attr" not in str(error.value)


def edit(file: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        text = (root / file).read_text()
        assert change(text) != text
        (root / file).write_text(change(text))

    return spoil


ATTR, PART = "list_attr_celeba.txt", "list_eval_partition.txt"
MISTAKES = {
    "missing image": (
        lambda root: (root / "img_align_celeba" / "000003.jpg").unlink(),
        ["000003.jpg", "row 5", "does not exist"],
    ),
    "wrong count": (
        edit(ATTR, lambda text: text.replace("10\n", "11\n", 1)),
        ["row 1", "11 images", "10 rows"],
    ),
    "no count": (edit(ATTR, lambda text: text.split("\n", 1)[1]), ["row 1", "number of images"]),
    "cut row": (edit(ATTR, lambda text: text[:-4]), ["row 12", "6 words", "7"]),
    "unknown attribute": (
        edit(ATTR, lambda text: text.replace("Smiling", "Grinning")),
        ["'Smiling'", "Grinning"],
    ),
    "odd value": (
        edit(ATTR, lambda text: text.replace("000002.jpg -1  1", "000002.jpg -1  3")),
        ["row 4", "'Male'", "'3'"],
    ),
    "zero for no": (
        edit(ATTR, lambda text: text.replace("000001.jpg  1 -1", "000001.jpg  1  0")),
        ["'Male'", "0 too"],
    ),
    "duplicate": (
        edit(ATTR, lambda text: text.replace("000004.jpg", "000003.jpg")),
        ["row 6", "row 5 already"],
    ),
    "no partition": (
        edit(PART, lambda text: text.replace("000004.jpg 0\n", "")),
        ["000004.jpg", "row 6", "list_eval_partition"],
    ),
    "odd partition": (
        edit(PART, lambda text: text.replace("000004.jpg 0", "000004.jpg 3")),
        ["row 4", "'3' is no split"],
    ),
    "no validation": (
        edit(PART, lambda text: text.replace(" 1\n", " 0\n")),
        ["'partition'", "0 val rows"],
    ),
    "empty": (lambda root: (root / ATTR).write_text(""), ["is empty"]),
    "no rows": (
        lambda root: (root / ATTR).write_text(f"0\n{' '.join(NAMES)}\n"),
        ["has no rows"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_error(root: Path, mistake: str) -> None:
    spoil, words = MISTAKES[mistake]
    spoil(root)
    with pytest.raises(DataError) as error:
        module(root).prepare_data()
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_factors_must_be_binary_and_renamings_known() -> None:
    with pytest.raises(GraphError, match="'Male' is continuous"):
        CelebADataModule("nowhere", CausalGraph([Factor("Male")]))
    with pytest.raises(GraphError, match="Unknown factor 'Bread'"):
        module(Path("nowhere"), attributes={"Bread": "not No_Beard"})


# --- a copy of part of the images ---


@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_the_table_of_a_partial_copy_can_be_cut(
    root: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "csv":
        for file in root.glob("*.txt"):
            file.unlink()
        write_csv(root)
    whole = prepared(root).factors_of("train")
    for place in (1, 4, 7):
        (root / "img_align_celeba" / name(place)).unlink()
    said = r"3 of 10 images that .* names do not exist, .*000002.jpg.*diffcf data <config> --cut"
    with pytest.raises(DataError, match=said):
        module(root).prepare_data()
    config, cut = root / "c.yaml", root / f"cut.{kind}"
    arguments = {"root": str(root), "graph": str(GRAPHS / "celeba_smile.yaml"), "batch_size": 2,
                 "image_size": 16}  # fmt: skip
    spec = {"class_path": "data_modules.CelebADataModule", "init_args": arguments}
    config.write_text(yaml.safe_dump({"data": spec}))
    assert main(["data", str(config)]) == 2
    assert "3 of 10 images" in capsys.readouterr().err
    assert main(["data", str(config), "--cut", str(cut)]) == 0
    assert f"7 rows whose images exist: {cut}" in capsys.readouterr().out
    original = (root / f"list_attr_celeba.{kind}").read_bytes().splitlines()
    kept = [line for line in original if line[:10].decode() not in map(name, (1, 4, 7))]
    if kind == "txt":
        kept[0] = b"7"
    assert cut.read_bytes().splitlines() == kept, "as it stands there, with every column"
    built = prepared(root, table=cut)
    assert [built.size_of(stage) for stage in ("train", "val", "test")] == [4, 1, 2]
    assert torch.equal(built.factors_of("train"), whole[[0, 2, 3, 5]])
    assert main(["data", str(config), "--cut", str(cut)]) == 2, "it exists"
    assert main(["data", str(config), "--cut", str(root / "other.parquet")]) == 2
    assert main(["data", str(config), f"--data.table={cut}", "--out", str(root / "s.png")]) == 0
    assert "7 images; in use 4 train, 1 val, 2 test" in capsys.readouterr().out


def test_one_missing_image_is_named_and_a_wrong_folder_too(root: Path) -> None:
    (root / "img_align_celeba" / name(3)).unlink()
    with pytest.raises(DataError, match=r"000004\.jpg .*row 6\) does not exist"):
        module(root).prepare_data()
    for file in (root / "img_align_celeba").glob("*.jpg"):
        file.rename(file.with_name(f"x{file.name}"))
    with pytest.raises(DataError, match=r"None of the 10 images .*: check the folder"):
        module(root).prepare_data()
