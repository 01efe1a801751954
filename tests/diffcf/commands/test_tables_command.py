from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_results import grid, record, write

from diffcf.commands.main import main
from diffcf.commands.tables import refreshed
from diffcf.io.errors import ResultsError

BEGIN, END = "<!-- diffcf tables: toy main -->\n", "<!-- end -->"


def run(folder: Path, *options: str) -> int:
    return main(["tables", "--results", str(folder), *options])


def test_tables_and_figure_are_written_and_checked(tmp_path, capsys) -> None:
    grid(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, "--check")
    assert stop.value.code == 1 and not (tmp_path / "tables").exists(), "a check writes nothing"
    assert run(tmp_path) == 0
    names = {path.name for path in (tmp_path / "tables/toy").iterdir()}
    tables = [
        f"{n}.{s}"
        for n in ("main", "parts", "sequence", "components", "directions", "cost")
        for s in ("md", "tex")
    ]
    assert names == {*tables, "quality_cost.png"}
    assert run(tmp_path, "--check") == 0
    text = (tmp_path / "tables/toy/main.md").read_text()
    assert "| ours | **0.0150 ± 0.0071** |" in text and "| *do nothing* | 0.2000 |" in text
    capsys.readouterr()


@pytest.mark.parametrize("changed", ["results", "table", "figure"])
def test_a_check_finds_what_differs(tmp_path, capsys, changed: str) -> None:
    run(grid(tmp_path))
    if changed == "results":
        write(tmp_path, record("toy", "ours", 0, 0.0123))
    elif changed == "table":
        path = tmp_path / "tables/toy/main.tex"
        path.write_text(path.read_text().replace("0.0300", "0.0200"))
    else:  # pixels of other results
        other = tmp_path / "other"
        write(other, record("toy", "ours", 0, 0.0123))
        run(other)
        (other / "tables/toy/quality_cost.png").rename(tmp_path / "tables/toy/quality_cost.png")
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, "--check")
    assert stop.value.code == 1
    error = capsys.readouterr().err
    expected = {"results": "main.md", "table": "main.tex", "figure": "quality_cost.png"}
    assert expected[changed] in error


def test_errors_are_one_line(tmp_path, capsys) -> None:
    assert run(tmp_path) == 2
    assert capsys.readouterr().err.startswith(f"diffcf: There are no results in {tmp_path}")


def test_a_readmes_blocks_are_replaced_and_nothing_else(tmp_path) -> None:
    run(grid(tmp_path))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{BEGIN}old{END}\n\nbetween {END}\n{BEGIN}{END}after\n")
    with pytest.raises(SystemExit):
        run(tmp_path, "--check", "--readme", str(readme))
    assert "old" in readme.read_text()
    assert run(tmp_path, "--readme", str(readme)) == 0
    table = (tmp_path / "tables/toy/main.md").read_text()
    block = f"{BEGIN}{table}{END}"
    assert readme.read_text() == f"before\n\n{block}\n\nbetween {END}\n{block}after\n"
    assert run(tmp_path, "--check", "--readme", str(readme)) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BEGIN, "has no end"),
        (f"{BEGIN}{BEGIN}{END}", "has no end"),
        (BEGIN.replace("main", "mean") + END, "asks for the table 'toy mean'.*toy main"),
    ],
)
def test_a_readme_that_cannot_be_filled_stays_as_it_is(tmp_path, text: str, message: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(ResultsError, match=message):
        refreshed(readme, {("toy", "main"): lambda: "table"})
    assert run(grid(tmp_path), "--readme", str(readme)) == 2
    assert readme.read_text() == text
    assert not (tmp_path / "tables").exists(), "nothing is written when something is wrong"
    with pytest.raises(ResultsError, match="does not exist"):
        refreshed(tmp_path / "none.md", {})


def test_several_texts_are_filled_or_none(tmp_path) -> None:
    run(grid(tmp_path))
    one, two = tmp_path / "one.md", tmp_path / "two.md"
    one.write_text(f"{BEGIN}{END}\n")
    two.write_text(f"{BEGIN.replace('main', 'none')}{END}\n")
    assert run(tmp_path, "--readme", str(one), str(two)) == 2
    assert one.read_text() == f"{BEGIN}{END}\n"
    two.write_text(f"{BEGIN.replace('main', 'cost')}{END}\n")
    assert run(tmp_path, "--readme", str(one), str(two)) == 0
    assert "| ours |" in one.read_text() and "| ours |" in two.read_text()


def test_results_of_a_single_file_are_named_by_their_method(tmp_path, capsys) -> None:
    peer = record("toy", "a_peer", 0, 0.03, cost__evaluations=2.0)
    peer["provenance"]["training"] = {}
    path = tmp_path / "one.json"
    path.write_text(json.dumps(peer))
    assert main(["table", str(path)]) == 0
    out = capsys.readouterr().out
    assert "| **a peer** |" in out and "8 held-out images each; untrained." in out
