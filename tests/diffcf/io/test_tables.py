"""Tables of factors: every way to write them, and one clear error per mistake."""

import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch

from data_modules.columns import factor_tensor
from diffcf.causal.factor import Factor
from diffcf.io.errors import DataError
from diffcf.io.tables import Table, image_names, read_header, read_table

ANGLE = Factor("angle", "continuous", -1.0, 3.0)
SMILE = Factor("smile", "binary")
SHAPE = Factor("shape", "categorical", categories=("cube", "ball", "cone"))


def written(folder: Path, text: str | bytes, name: str = "factors.csv") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def column(values: list, name: str = "angle") -> Table:
    return Table(Path("t.csv"), {name: values}, list(range(2, len(values) + 2)))


@pytest.mark.parametrize(
    "text",
    [
        "image,angle\na.png,1.5\nb.png,2\n",
        "\ufeffimage,angle\r\na.png,1.5\r\nb.png,2\r\n",
        "image,angle\ra.png,1.5\rb.png,2",
        "image;angle\na.png;1.5\nb.png;2",
        "angle\timage\textra\n1.5\ta.png\t\n2\tb.png\tx,y",
        '"image","angle"\n"a.png","1.5"\n\n"b.png","2"\n\n',
        " image , angle\na.png,1.5\nb.png,2\n",
        "image,angle,\na.png,1.5,\nb.png,2\n",
        "image,angle\na.png,1.5,,\n , \nb.png,2\n,\n,,,\n",
        'image;"a, b, c";angle\na.png;x;1.5\nb.png;"y;\nz";2\n',
        "image,note,angle,note\na.png,x,1.5,y\nb.png,,2,\n",
    ],
    ids=[
        "plain",
        "BOM and CRLF",
        "CR",
        "semicolon",
        "tab",
        "quotes and blank lines",
        "blanks",
        "blank column",
        "blank cells and rows",
        "commas in a heading",
        "a repeated column",
    ],
)
def test_all_common_kinds_of_csv_read_alike(tmp_path: Path, text: str) -> None:
    table = read_table(written(tmp_path, text), ["image", "angle"])
    assert table.columns == {"image": ["a.png", "b.png"], "angle": ["1.5", "2"]}


def test_the_header_has_every_heading_in_order(tmp_path: Path) -> None:
    text = written(tmp_path, ',image; x,"a, b", note,note,\n1,2,3,4,5,\n')
    assert read_header(text) == ["", "image; x", "a, b", "note", "note"]
    table = pyarrow.table({" image": ["a.png"], "angle": [1.0]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    assert read_header(tmp_path / "t.parquet") == ["image", "angle"]
    for file, problem in ((tmp_path / "no.csv", "exist"), (tmp_path / "t.xls", "neither")):
        with pytest.raises(DataError, match=problem):
            read_header(file)


def test_row_numbers_are_those_of_an_editor(tmp_path: Path) -> None:
    text = 'image,note,angle\na.png,"two\nlines",1\n\nb.png,,2\n'
    table = read_table(written(tmp_path, text), ["image"])
    assert table.rows == [2, 5]
    assert table.origin(1) == "factors.csv row 5"


def test_parquet_reads_typed_columns(tmp_path: Path) -> None:
    file = tmp_path / "split=train" / "factors.parquet"
    file.parent.mkdir()
    content = {
        "image": ["a.png", "b.png"],
        "angle": [1.5, 2.0],
        "smile": [True, False],
        "shape": pyarrow.array(["ball", "cube"]).dictionary_encode(),
    }
    pyarrow.parquet.write_table(pyarrow.table(content), file)
    table = read_table(file, ["image", "shape", "angle", "smile"])
    assert table.columns["image"] == ["a.png", "b.png"] and table.rows == [1, 2]
    factors = factor_tensor(table, [ANGLE, SMILE, SHAPE])
    torch.testing.assert_close(factors, torch.tensor([[0.625, 1, 0.5], [0.75, 0, 0]]))


def test_without_pyarrow_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'diffcf\[parquet\]'"):
        read_table(written(tmp_path, b"", "factors.parquet"), ["image"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\ufeff \r\n", "is empty"),
        ("image,angle\n", "has no rows"),
        ("image,theta\na.png,1\n", "no column 'angle': its columns are image, theta"),
        ("image,angle,angle\na.png,1,2\n", "column 'angle' twice"),
        ("image,angle\na.png,1\nb.png\n", "row 3 has 1 cells where the header has 2"),
        ("image,angle\na.png,1,2\n", "row 2 has 3 cells"),
        ('image,angle\na.png,1\n"b.png,2\nc.png,3\n', "row 3 is not CSV"),
        (b"image,angle\na.png,1\nM\xfcller.png,2\n", "row 3 is not UTF-8 .byte 0xfc"),
        ("image,angle\na.png,1\n".encode("utf-16"), "row 1 is not UTF-8"),
    ],
)
def test_a_wrong_csv_is_one_clear_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(DataError, match=message) as error:
        read_table(file, ["image", "angle"])
    assert str(file) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("factors.xlsx", "PK", "neither CSV nor Parquet"),
        ("factors.parquet", "image,angle", "is damaged"),
        ("factors.parquet", "", "is damaged"),
    ],
)
def test_other_files_are_one_clear_error(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_table(written(tmp_path, text, name), ["image"])
    assert "\n" not in str(error.value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv does not exist"):
        read_table(tmp_path / "none.csv", ["image"])
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(DataError, match=r"dir\.csv does not exist"):
        read_table(tmp_path / "dir.csv", ["image"])


def test_a_parquet_file_without_the_column_lists_its_own(tmp_path: Path) -> None:
    file = tmp_path / "f.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": ["a"], "theta": [1]}), file)
    with pytest.raises(DataError, match="no column 'angle': its columns are image, theta"):
        read_table(file, ["image", "angle"])
    spaced = pyarrow.table({"image ": ["a"], "angle": [1]})
    pyarrow.parquet.write_table(spaced, file)
    assert read_table(file, ["angle", "image"]).columns["image"] == ["a"], "as in a CSV"
    twice = pyarrow.Table.from_arrays([[1], ["a"], [2]], names=["angle", "image", "angle"])
    pyarrow.parquet.write_table(twice, file)
    assert read_table(file, ["image"]).columns["image"] == ["a"], "no one asks for the other"
    with pytest.raises(DataError, match="column 'angle' twice"):
        read_table(file, ["image", "angle"])
    pyarrow.parquet.write_table(pyarrow.table({"angle": pyarrow.array([], "double")}), file)
    with pytest.raises(DataError, match="has no rows"):
        read_table(file, ["angle"])


# --- names ---


def test_names_are_relative_to_the_folder(tmp_path: Path) -> None:
    given = ["a.png", "./b//c.png", "d/../e.png", "f\\g.png", "x\\y.png", str(tmp_path / "h.png")]
    (tmp_path / "x\\y.png").touch()  # here a name may contain it
    names = ["a.png", "b/c.png", "e.png", "f/g.png", "x\\y.png", "h.png"]
    assert image_names(column(given), "angle", tmp_path) == names


def test_an_absolute_name_may_lead_into_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for folder in ("real", "link"):
        name = str(tmp_path / "real" / "b" / "a.png")
        assert image_names(column([name]), "angle", tmp_path / folder) == ["b/a.png"]
    monkeypatch.chdir(tmp_path)
    assert image_names(column([f"{tmp_path}/link/a.png"]), "angle", Path("link")) == ["a.png"]
    with pytest.raises(DataError, match=r"row 3.*in row 2 already"):
        image_names(column(["a.png", str(tmp_path / "real/a.png")]), "angle", Path("real"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../b.png", "outside the image folder"),
        ("c/../../b.png", "outside the image folder"),
        ("/etc/b.png", "outside the image folder"),
        ("/images2/b.png", "outside the image folder"),
        ("/images/../b.png", "outside the image folder"),
        ("C:\\images\\b.png", "outside the image folder"),
        ("..\\b.png", "outside the image folder"),
        (".\\a.png", "in row 2 already"),
        ("..", "outside the image folder"),
        (" ", "empty"),
        (None, "empty"),
        ("a.png", "in row 2 already"),
        ("./a.png", "in row 2 already"),
    ],
)
def test_a_wrong_name_is_an_error_of_its_row(name: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        image_names(column(["a.png", name]), "angle", Path("/images"))
    assert "t.csv row 3, column 'angle'" in str(error.value)
