"""Observed factors from a table: matched to files by name, and partial where nobody looked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data_modules import observed_factors
from diffcf.causal import CausalGraph, Factor
from diffcf.io import DataError, GraphError

GRAPH = CausalGraph(
    [Factor("age", high=100.0), Factor("bald", "binary"),
     Factor("hat", "categorical", categories=("cap", "crown"))]
)  # fmt: skip
AGE = {"age": "Age (years)"}


def written(folder: Path, text: str) -> Path:
    file = folder / "known.csv"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    "names",
    [("a.jpg", "b.c"), ("x/a.png", "y\\b.c.png"), ("a", "b.c.tif"), ("a.png", "/y/b.c.PNG")],
)
def test_rows_find_their_files_whatever_folder_and_ending(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    table = f"image,Age (years),bald,hat\n{names[1]},30,,crown\n{names[0]},50,yes,\nc.png,1,1,cap\n"
    files = [Path("somewhere/a.png"), Path("b.c.png")]
    found = observed_factors(written(tmp_path, table), GRAPH, files, columns=AGE)
    expected = torch.tensor([[0.5, 1, torch.nan], [0.3, torch.nan, 1]])
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_columns_may_be_left_out(tmp_path: Path) -> None:
    found = observed_factors(
        written(tmp_path, "file,bald\na.png,0\n"), GRAPH, [Path("a.png")], "file"
    )
    assert found[0, 1] == 0 and found[0, [0, 2]].isnan().all()
    scaled = written(tmp_path, "image,age,hat\na.png,0.25,cap\n")
    found = observed_factors(scaled, GRAPH, [Path("a.png")], scaled=True)
    assert found[0, 0] == 0.25 and found[0, 2] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,age\nb.png,3\n", r"no row for a\.png: add one"),
        ("image,age\na.webp,3\nx/a.jpg,4\n", r"names a\.png in the rows 2 and 3"),
        ("image,aage\na.png,3\n", "none of the factors age, bald, hat"),
        ("image,age\na.png,300\n", "row 2, column 'age': 300 lies outside the range"),
        ("image,age\na.png,1_0\n", "row 2, column 'age': '1_0' is not a number"),
        ("image,age\na.png,3\nb.png,4\n,\n", ""),
        ("name,age\na.png,3\n", "no column 'image'"),
    ],
)
def test_a_wrong_table_is_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    if not message:
        assert observed_factors(file, GRAPH, [Path("a.png")])[0, 0] == pytest.approx(0.03)
        return
    with pytest.raises(DataError, match=message):
        observed_factors(file, GRAPH, [Path("a.png")])


def test_the_column_map_must_fit(tmp_path: Path) -> None:
    file = written(tmp_path, "image,age\na.png,3\n")
    with pytest.raises(GraphError, match="Unknown factor 'aage'"):
        observed_factors(file, GRAPH, [Path("a.png")], columns={"aage": "age"})
    with pytest.raises(DataError, match="no column 'Age'"):
        observed_factors(file, GRAPH, [Path("a.png")], columns={"age": "Age"})
