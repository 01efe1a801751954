"""The unfinished folder of answers: what counts as answered, who may write, what is recorded."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from diffcf.io import answer_table
from diffcf.io.answer_folder import AnswerFolder
from diffcf.io.answer_table import check_table, write_answers
from diffcf.io.errors import OutputError, UnavailableError
from diffcf.io.journal import Answered
from diffcf.io.tables import read_table

ASKED = {"seed": 0, "do": ["light=1"]}
KEYS = {name: name * 3 for name in "abc"}


def answer(folder: AnswerFolder, *names: str) -> None:
    for name in names:
        (folder.folder / f"{name}.png").write_text(f"answer {name}")
    folder.note(Answered(n, KEYS[n], {"factual": [1.5, n]}, [f"{n}.png"]) for n in names)


def answered(folder: AnswerFolder) -> list[str]:
    return [name for name, key in KEYS.items() if folder.has(name, key)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Of three images two are answered."""
    with AnswerFolder(tmp_path / "out", ASKED, KEYS) as folder:
        answer(folder, "a", "b")
    return tmp_path / "out"


def test_a_run_goes_on_and_leaves_the_folder_alone(out: Path) -> None:
    assert not out.exists()
    with AnswerFolder(out, ASKED, KEYS) as folder:
        assert answered(folder) == ["a", "b"] and len(folder) == 2
        answer(folder, "c")
        rows = dict(folder.rows("cab"))
        folder.finish()
    assert rows == {name: {"factual": [1.5, name]} for name in "cab"} and list(rows) == [*"cab"]
    assert sorted(os.listdir(out)) == ["a.png", "b.png", "c.png"]
    assert os.listdir(out.parent) == ["out"]


@pytest.mark.parametrize("cut", [1, 10, 1000])
def test_a_torn_line_is_not_written(out: Path, cut: int) -> None:
    lines = out.with_name("out.part") / "answered-0.jsonl"
    content = lines.read_bytes()
    lines.write_bytes(content[: max(len(content) - cut, 0)])
    with AnswerFolder(out, ASKED, KEYS) as folder:
        left = answered(folder)
        assert left == (["a"] if cut < 1000 else [])
        assert os.listdir(folder.folder) == [f"{name}.png" for name in left]
        answer(folder, *(name for name in "abc" if name not in left))
    with AnswerFolder(out, ASKED, KEYS) as folder:
        assert answered(folder) == ["a", "b", "c"]


@pytest.mark.parametrize("content", [None, "", "answer", "answer B"])
def test_an_answer_whose_file_is_not_whole_is_given_again(out: Path, content: str | None) -> None:
    file = out.with_name("out.part") / "answers/b.png"
    file.unlink() if content is None else file.write_text(content)
    with AnswerFolder(out, ASKED, KEYS) as folder:
        assert answered(folder) == ["a"] and os.listdir(folder.folder) == ["a.png"]


def test_what_was_asked_about_other_content_is_removed(out: Path) -> None:
    with AnswerFolder(out, ASKED, {"b": KEYS["b"], "a": "another"}) as folder:
        assert answered(folder) == ["b"] and os.listdir(folder.folder) == ["b.png"]


def test_another_question_is_refused_or_starts_anew(out: Path) -> None:
    with pytest.raises(OutputError, match=r"another question \(another seed\)") as said:
        AnswerFolder(out, ASKED | {"seed": 1}, KEYS, remedy="add --overwrite true").claim()
    assert "or add --overwrite true to start anew." in str(said.value)
    with AnswerFolder(out, ASKED, KEYS) as folder:
        assert answered(folder) == ["a", "b"], "a refusal costs nothing"
    with AnswerFolder(out, ASKED | {"seed": 1}, KEYS, overwrite=True) as folder:
        assert not answered(folder)
    assert os.listdir(out.parent) == [], "where nothing is answered, nothing stays"


def test_one_run_at_a_time(out: Path) -> None:
    with AnswerFolder(out, ASKED, KEYS) as folder:
        with pytest.raises(OutputError, match=f"Another run is writing {out}: wait for it"):
            AnswerFolder(out, ASKED, KEYS, overwrite=True).claim()
        answer(folder, "c")
        folder.finish()
    assert len(os.listdir(out)) == 3


def test_a_folder_that_came_meanwhile_stays(out: Path) -> None:
    with AnswerFolder(out, ASKED, KEYS) as folder:
        out.mkdir()
        (out / "mine").touch()
        with pytest.raises(OutputError, match="not empty"):
            folder.finish()
    assert os.listdir(out) == ["mine"]
    with AnswerFolder(out, ASKED, KEYS, overwrite=True) as folder:
        folder.finish()
    assert sorted(os.listdir(out)) == ["a.png", "b.png"] and os.listdir(out.parent) == ["out"]


def test_a_full_disk_costs_only_what_did_not_fit(out: Path, monkeypatch) -> None:
    written = os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) < 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(descriptor, content[:30])

    with AnswerFolder(out, ASKED, KEYS) as folder:
        with monkeypatch.context() as patch, pytest.raises(OutputError, match="free some space"):
            patch.setattr(os, "write", full)
            answer(folder, "c")
        assert answered(folder) == ["a", "b"]
        answer(folder, "c")
    with AnswerFolder(out, ASKED, KEYS) as folder:
        assert answered(folder) == ["a", "b", "c"]


def test_processes_answer_together(out: Path) -> None:
    first, second = (AnswerFolder(out, ASKED, KEYS, process=k) for k in (0, 1))
    first.claim()
    for folder in (first, second):
        folder.open()
        assert answered(folder) == ["a", "b"]
    answer(second, "c")
    # Where the first process of a run dies, another may still be at work for a while.
    straggler = AnswerFolder(out, ASKED, KEYS, process=1)
    with pytest.raises(OutputError, match="Another run is writing"):
        straggler.open()
    second.close()
    assert first.join() == 3 and sorted(first.names) == ["a", "b", "c"]
    first.finish()
    first.close()
    assert len(os.listdir(out)) == 3


# --- the record ---

ROWS: dict[str, dict[str, object]] = {
    name: {
        "factual": [0.1 * k, "no"],
        "given": ["light"] if k else [],
        "exogenous": [0.25, k],
        "target": [[1.5, "cone"]],
        "read": [k / 3, "cube"],
        "clipped": [],
    }
    for k, name in enumerate(("a", 'b"\n\udcff', "c"))
}
FACTORS = ["light", "shape"]


def rows(sweep: bool = False) -> Iterator[tuple[str, Mapping | list]]:
    return ((name, [row, row] if sweep else row) for name, row in ROWS.items())


def test_the_record_is_laid_out_as_json_lays_it_out(tmp_path: Path) -> None:
    for sweep in (False, True):
        write_answers(ASKED, FACTORS, rows(sweep), 3, tmp_path)
        whole = json.dumps({**ASKED, "images": dict(rows(sweep))}, indent=2) + "\n"
        assert (tmp_path / "factors.json").read_text() == whole


@pytest.mark.parametrize("sweep", [False, True])
def test_many_rows_are_a_table(tmp_path: Path, monkeypatch, sweep: bool) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(answer_table, "MOST_IN_JSON", 2)
    monkeypatch.setattr(answer_table, "GROUP", 2)
    write_answers(ASKED, FACTORS, rows(sweep), 3, tmp_path)
    record = json.loads((tmp_path / "factors.json").read_text())
    assert record == {**ASKED, "images": "factors.parquet"}
    names = ["image", *(f"{part}.{n}" for part in ("factual", "target", "read") for n in FACTORS)]
    names += ["given", "exogenous", "clipped", *(["answer"] if sweep else [])]
    found = read_table(tmp_path / "factors.parquet", names).columns
    times = 2 if sweep else 1
    for place, (name, row) in enumerate(ROWS.items()):
        at = place * times
        assert found["image"][at] == name.encode("utf-8", "replace").decode()
        for part, values in (("factual", row["factual"]), ("target", row["target"][0])):  # type: ignore[index]
            assert [found[f"{part}.{n}"][at] for n in FACTORS] == values
        assert found["given"][at] == row["given"] and found["exogenous"][at] == row["exogenous"]
    if sweep:
        assert found["answer"] == [1, 2] * 3


def test_a_table_without_pyarrow_is_one_sentence(monkeypatch) -> None:
    monkeypatch.setattr(answer_table, "find_spec", lambda _: None)
    check_table(10_000)
    with pytest.raises(UnavailableError, match=r"pip install 'diffcf\[parquet\]'") as said:
        check_table(10_001)
    assert "\n" not in str(said.value)
