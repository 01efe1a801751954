from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_results import grid, record, write

from diffcf.io.errors import ResultsError
from diffcf.reporting.ablation import ablation_markdown
from diffcf.reporting.comparison import (
    ablation_table,
    comparison_tables,
    cost_points,
)
from diffcf.reporting.results import MethodResults, find_results, sampling_text
from diffcf.reporting.tables import ComparisonTable, as_markdown

ROOT = Path(__file__).parents[3]


def made(folder: Path) -> dict[str, ComparisonTable]:
    return {table.name: table for table in comparison_tables("toy", find_results(folder)["toy"])}


def column(table: ComparisonTable, heading: str) -> dict[str, str]:
    """A column's text by row, bold marked by stars."""
    place = next(i for i, h in enumerate(table.headings[1:]) if h.startswith(heading))
    cells = {row.title: row.cells[place] for row in table.rows}
    return {name: f"**{c.text}**" if c.best else c.text for name, c in cells.items()}


def test_seeds_are_averaged_and_the_best_trained_method_is_bold(tmp_path) -> None:
    main = made(grid(tmp_path))["main"]
    assert column(main, "ACM roots") == {
        "ours": "**0.0150 ± 0.0071**",
        "Peer & Co_1": "0.0300",
        "exact": "0.0010",  # better, but no method that was trained
        "do nothing": "0.2000",
    }
    assert column(main, "PSNR exact")["Peer & Co_1"] == "**35.0**", "here more is better"
    assert list(column(main, "n").values()) == ["2", "1", "", ""]
    assert "↓" in main.headings[1] and "↑" in main.headings[4]


def test_ties_are_all_bold_as_they_are_shown(tmp_path) -> None:
    for method, acm in (("ours", 0.01000), ("peer", 0.01001), ("other", 0.02)):
        write(tmp_path, record("toy", method, 0, acm))
    shown = column(made(tmp_path)["main"], "ACM roots")
    assert [shown[name] for name in ("ours", "peer", "other")] == [
        "**0.0100**",
        "**0.0100**",
        "0.0200",
    ]


def test_what_intervals_do_not_tell_from_the_best_is_bold_as_well(tmp_path) -> None:
    for method, acm, half in (("ours", 0.010, 0.003), ("near", 0.013, 0.003), ("far", 0.02, 0.003)):
        known = record("toy", method, 0, acm)
        known["intervals"] = {"acm/roots": [acm - half, acm + half]}
        write(tmp_path, known)
    write(tmp_path, record("toy", "unsure", 0, 0.0101))
    shown = column(made(tmp_path)["main"], "ACM roots")
    assert [shown[name] for name in ("ours", "near", "far", "unsure")] == [
        "**0.0100**",
        "**0.0130**",
        "0.0200",
        "0.0101",  # no interval says that chance made it
    ]


def test_seeds_that_scatter_tell_less(tmp_path) -> None:
    for method, values in (("ours", (0.01, 0.03)), ("peer", (0.024, 0.026)), ("far", (0.08, 0.1))):
        for seed, acm in enumerate(values):
            known = record("toy", method, seed, acm)
            known["intervals"] = {"acm/roots": [acm - 0.001, acm + 0.001]}
            write(tmp_path, known)
    shown = column(made(tmp_path)["main"], "ACM roots")
    bold = {name for name, text in shown.items() if text.startswith("**")}
    assert bold == {"ours", "peer"}


def test_on_the_same_images_small_differences_count(tmp_path) -> None:
    """Images are far more different than methods, but one method is better on nearly all."""
    hard = np.random.default_rng(0).uniform(0, 0.1, 200)
    better, noise = hard + 0.001, np.random.default_rng(1).normal(0, 0.002, 200)
    for method, scores in (("ours", hard), ("worse", better + noise), ("equal", hard + noise)):
        known = record("toy", method, 0, scores.mean())
        known["intervals"] = {"acm/roots": [scores.mean() - 0.005, scores.mean() + 0.005]}
        rows = "".join(f"{image},{score:.6f}\n" for image, score in enumerate(scores))
        write(tmp_path, known).with_suffix(".csv").write_text(f"image,acm/roots\n{rows}")
    shown = column(made(tmp_path)["main"], "ACM roots")
    bold = {name for name, text in shown.items() if text.startswith("**")}
    assert bold == {"ours", "equal"}
    for file in tmp_path.glob("toy/*/0.csv"):
        file.unlink()
    shown = column(made(tmp_path)["main"], "ACM roots")
    assert shown["worse"].startswith("**"), "by intervals alone it cannot be told"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "image,acm\n1,x\n",
        "image,acm\n1,2\n1,3\n",
        "image,acm\n1.5,2\n",
        "image,acm/roots\n" + "".join(f"{image},0.5\n" for image in range(8)),  # of another test
    ],
)
def test_scores_by_image_of_another_shape_or_test_are_one_sentence(tmp_path, text: str) -> None:
    write(tmp_path, record("toy", "ours", 0, 0.01)).with_suffix(".csv").write_text(text)
    with pytest.raises(ResultsError, match=r"0.csv has (no )?scores .* or remove the file"):
        made(tmp_path)


def test_fid_of_other_choices_of_counterfactuals_is_not_compared(tmp_path) -> None:
    write(tmp_path, record("toy", "ours", 0, 0.01, fid=20.0, fid_factuals=256))
    write(tmp_path, record("toy", "peer", 0, 0.01, fid=20.0, fid_factuals=256))
    assert "FID ↓" in made(tmp_path)["main"].headings
    write(tmp_path, record("toy", "peer", 0, 0.01, fid=20.0))
    with pytest.raises(ResultsError, match=r"toy/peer/0.json and of toy/ours/0.json"):
        made(tmp_path)


def test_one_method_alone_is_best_of_nothing(tmp_path) -> None:
    write(tmp_path, record("toy", "ours", 0, 0.01))
    tables = made(tmp_path)
    assert not any(cell.best for row in tables["main"].rows for cell in row.cells)
    assert "components" not in tables, "one is no comparison"


def test_errors_are_parted_by_what_a_factor_has_to_do_with_the_one_set(tmp_path) -> None:
    pairs = {"a/a": 0.01, "a/b": 0.02, "a/c": 0.04, "b/a": 0.1, "b/b": 0.5, "b/c": 0.06}
    pairs |= {"c/a": 0.2, "c/b": 0.3, "c/c": 0.7}
    write(tmp_path, record("toy", "ours", 0, 0.01, **{f"acm/{k}": v for k, v in pairs.items()}))
    parts = made(tmp_path)["parts"]
    expected = {"set, a root": "0.0100", "set, a leaf": "0.7000"}
    expected |= {"effects": "0.0400", "the others": "0.2000"}
    assert {name: column(parts, name)["ours"] for name in expected} == expected


def test_factors_in_between_are_those_of_the_graph(tmp_path) -> None:
    shown = column(made(grid(tmp_path))["main"], "ACM intermediate")
    assert shown["Peer & Co_1"] == "0.0600" and shown["do nothing"] == "0.3000"
    for path in tmp_path.rglob("*.json"):
        old = json.loads(path.read_text())
        del old["provenance"]["graph"]
        path.write_text(json.dumps(old))
    assert not any(h.startswith("ACM intermediate") for h in made(tmp_path)["main"].headings)


def test_a_column_that_nobody_has_is_left_out_and_a_partial_one_says_so(tmp_path) -> None:
    assert not any("FID" in heading for heading in made(grid(tmp_path))["main"].headings)
    write(tmp_path, record("toy", "ours", 1, 0.02, fid=12.34))
    main = made(tmp_path)["main"]
    assert column(main, "FID") == {
        "ours": "12.3 (n = 1)",
        "Peer & Co_1": "",
        "exact": "",
        "do nothing": "",
    }


def test_a_sequence_has_a_column_for_each_step(tmp_path) -> None:
    table = made(grid(tmp_path))["sequence"]
    assert table.headings == ("method", "step 1 ↓", "step 2 ↓", "last / first", "n")
    assert column(table, "step 2")["Peer & Co_1"] == "0.0600"


def test_components_are_ours_beside_doing_nothing(tmp_path) -> None:
    rows = [row.title for row in made(grid(tmp_path))["components"].rows]
    assert rows == ["ours", "ours without mixing", "do nothing"]


def test_cost_says_what_was_spent_and_who_takes_steps(tmp_path) -> None:
    cost = made(grid(tmp_path))["cost"]
    assert column(cost, "parameters")["ours"] == "2.50 ± 0.00"
    assert column(cost, "training")["Peer & Co_1"] == "2.0"
    assert column(cost, "of processor")["Peer & Co_1"] == "1.0"
    assert column(cost, "evaluations")["Peer & Co_1"] == "**2**"
    notes = " ".join(cost.notes)
    assert "ours, no guidance, 30 steps" in notes and "Peer & Co_1, " not in notes
    assert "4 images at a time" in notes
    assert "Trained on a trainer; budget 30 processor minutes; tested on a tester" in notes


def test_untrained_methods_stand_in_the_tables_too(tmp_path) -> None:
    untrained = record("toy", "ours", 0, 0.1)
    untrained["provenance"]["training"] = {}
    write(tmp_path, untrained)
    tables = made(tmp_path)
    assert tables["main"].notes[1].startswith("Untrained; tested on")
    assert not any(h.startswith("training") for h in tables["cost"].headings)


def test_who_takes_steps_is_told_by_evaluations() -> None:
    drawn = record("toy", "ours", 0, 0.1)
    assert sampling_text(drawn) == "no guidance, 30 steps"
    drawn["provenance"]["sampling"]["free"] = {"rule": "ClassifierFree", "weight": 1.5}
    assert sampling_text(drawn) == "ClassifierFree, 30 steps"
    drawn["metrics"]["cost/evaluations"] = 2.0
    assert sampling_text(drawn) is None
    drawn["provenance"]["sampling"]["steps"] = 2
    assert sampling_text(drawn) is None, "encoding and decoding are no two steps"
    del drawn["provenance"]["method"]
    assert sampling_text(drawn) == "ClassifierFree, 2 steps", "records of old are all of ours"


def test_points_are_mean_acm_against_seconds(tmp_path) -> None:
    methods = find_results(grid(tmp_path))["toy"]
    points, nothing = cost_points(methods)
    assert points["ours"] == [(0.2, pytest.approx(0.02)), (0.2, pytest.approx(0.04))]
    assert nothing == pytest.approx(0.15)
    bare = MethodResults("bare", "bare", ({"metrics": {"acm/roots": 0.1, "acm/leaves": 0.1}},))
    assert cost_points([bare]).methods == {}, "no seconds, no point"


# --- guidance rules ---


@pytest.mark.parametrize("name", ["pendulum", "flow"])
def test_the_ablation_shows_what_diffcf_ablate_shows(name: str) -> None:
    path = ROOT / f"experiments/results/{name}/ablation.json"
    lines = as_markdown(ablation_table(name, path)).replace("**", "").splitlines()
    theirs = ablation_markdown(json.loads(path.read_text())["rows"]).splitlines()
    plain = [line.replace(" ↓", "").replace(" ↑", "") for line in lines]
    assert plain[0] == theirs[0]
    assert set(theirs[3:]) <= set(plain)
    assert "64 held-out images" in lines[-1]


def test_an_ablation_of_something_else_is_refused(tmp_path) -> None:
    (tmp_path / "ablation.json").write_text("[]")
    with pytest.raises(ResultsError, match="not written by `diffcf ablate`"):
        ablation_table("toy", tmp_path / "ablation.json")


# --- results that cannot be compared ---


def test_no_results_is_one_clear_error(tmp_path) -> None:
    with pytest.raises(ResultsError, match=r"no results in .*: run `diffcf benchmark` first"):
        find_results(tmp_path / "nowhere")


def test_only_seeds_are_read(tmp_path) -> None:
    write(tmp_path, record("toy", "ours", 0, 0.1))
    (tmp_path / "toy/ours/search.json").write_text("{}")
    assert [len(m.records) for m in find_results(tmp_path)["toy"]] == [1]


def test_a_file_that_is_not_ours_is_named(tmp_path) -> None:
    grid(tmp_path)
    alien = tmp_path / "toy/ours/7.json"
    for text, message in (
        ("{", "is not JSON"),
        ("{}", "not written by `diffcf test`"),
        (json.dumps(record("toy", "ours", 7, 0.1) | {"benchmark": None}), "by `diffcf benchmark`"),
    ):
        alien.write_text(text)
        with pytest.raises(ResultsError, match=message) as raised:
            find_results(tmp_path)
        assert str(alien) in str(raised.value)


def test_datasets_are_not_mixed(tmp_path) -> None:
    path = write(tmp_path, record("toy", "ours", 0, 0.1))
    path.write_text(json.dumps(record("flow", "ours", 0, 0.1)))
    with pytest.raises(ResultsError, match=r"move it to flow/ours/0\.json"):
        find_results(tmp_path)


def test_methods_that_met_other_questions_are_not_compared(tmp_path) -> None:
    grid(tmp_path)
    other = record("toy", "peer", 0, 0.1)
    other["protocol"]["steps"] = 5
    other["images"] = 9
    write(tmp_path, other)
    with pytest.raises(ResultsError, match=r"toy/peer/0.json and .* differ in images, steps"):
        find_results(tmp_path)
