from __future__ import annotations

import re
from pathlib import Path

from made_results import grid

from diffcf.commands.tables import all_tables
from diffcf.reporting.results import find_results
from diffcf.reporting.tables import as_latex, escape

ABLATION = Path(__file__).parents[3] / "experiments/results/pendulum/ablation.json"


def written(folder: Path) -> list[str]:
    grid(folder)
    (folder / "toy/ablation.json").write_text(ABLATION.read_text())
    tables = all_tables(folder, find_results(folder))
    assert {name for _, name in tables} == {
        "main",
        "parts",
        "sequence",
        "components",
        "directions",
        "cost",
        "ablation",
    }
    return [as_latex(table, f"tab:{name}") for (_, name), table in tables.items()]


def test_environments_and_braces_are_balanced_and_all_is_ascii_or_text(tmp_path) -> None:
    for text in written(tmp_path):
        begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
        assert begun == ["table", "tabular"] and ended == ["tabular", "table"]
        bare = re.sub(r"\\[{}$&%#_\\]", "", text)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        assert text.isascii(), set(re.findall(r"[^\x00-\x7f]", text))
        assert "%" not in bare.split("\n", 1)[1], "it would begin a comment"


def test_every_line_has_as_many_columns_as_are_declared(tmp_path) -> None:
    for text in written(tmp_path):
        columns = re.search(r"\\begin{tabular}{(l(?:r+))}", text)
        assert columns is not None
        lines = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(lines) > 2
        for line in lines:
            assert len(re.findall(r"(?<!\\)&", line)) == len(columns[1]) - 1, line
        for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
            assert rule in text


def test_titles_are_escaped_and_the_best_is_bold(tmp_path) -> None:
    main = written(tmp_path)[0]
    assert r"Peer \& Co\_1 & 0.0300" in main
    assert r"\textbf{0.0150 $\pm$ 0.0071}" in main
    assert r"\emph{do nothing}" in main


def test_no_mark_escapes() -> None:
    assert escape(r"50% of $x_1^2 & {a}~\b#") == (
        r"50\% of \$x\_1\textasciicircum{}2 \& \{a\}\textasciitilde{}\textbackslash{}b\#"
    )
