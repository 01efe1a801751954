"""What interventional images are worth: lines, what one is worth in the other's images, figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from made_results import record, write

from diffcf.commands.main import main
from diffcf.reporting.interventional import (
    Lines,
    images_worth,
    interventional_lines,
    interventional_table,
)
from diffcf.reporting.interventional_figure import interventional_figure
from diffcf.reporting.results import MethodResults, find_results

WITH = {0: 0.01, 128: 0.008}
WITHOUT = {0: 0.04, 8: 0.03, 128: 0.005}


def made(folder: Path, **models: Mapping[int, float]) -> list[MethodResults]:
    """A method for each model and number of images, with these ACMs of roots."""
    for model, reached in models.items():
        for count, acm in reached.items():
            one = record("toy", f"{model}_{count}", 0, acm)
            one["benchmark"]["title"] = f"{model} mixing, {count} images"
            config = one["provenance"]["config"]
            config["data"] = {"init_args": {"interventional": count}}
            config["model"] = {"init_args": {"mixing": model}}
            write(folder, one)
    return find_results(folder)["toy"]


def lines(folder: Path, **models: Mapping[int, float]) -> Lines:
    return interventional_lines(made(folder, **models))


def test_trainings_of_one_model_are_a_line_by_the_number_of_images(tmp_path: Path) -> None:
    shown = lines(tmp_path, without=WITHOUT, with_=WITH)
    found = {line.label: line for line in shown.lines}
    assert set(found) == {"with_ mixing", "without mixing"}
    leaves = {count: s.values[0] for count, s in found["without mixing"].leaves.items()}
    assert list(leaves) == [0, 8, 128]
    assert leaves == {count: pytest.approx(3 * acm) for count, acm in WITHOUT.items()}
    assert shown.nothing == 0.1


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (WITH, WITHOUT, (0, pytest.approx(74.7, rel=0.01))),  # .8 of the way from log 9 to log 129
        (WITHOUT, WITH, None),  # nothing is gained
        ({0: 0.03, 8: 0.02}, WITHOUT, (0, pytest.approx(8))),
        ({0: 0.001, 8: 0.001}, WITHOUT, (0, None)),  # never reached
        ({8: 0.02, 32: 0.01}, {0: 0.04, 8: 0.03}, (8, None)),
    ],
)
def test_what_one_reaches_with_the_fewest_is_worth_images_of_the_other(
    one, other, expected, tmp_path
) -> None:
    by_label = {line.label[0]: line for line in lines(tmp_path, a=one, b=other).lines}
    assert images_worth(by_label["a"], by_label["b"]) == expected


def test_the_table_has_a_row_for_each_number_and_says_what_it_is_worth(tmp_path: Path) -> None:
    table = interventional_table("toy", made(tmp_path, without=WITHOUT, with_=WITH))
    assert table is not None
    assert [row.title for row in table.rows] == ["0", "8", "128", "do nothing"]
    at_8 = dict(zip(table.headings[1:], table.rows[1].cells, strict=True))
    assert at_8["without mixing: leaves"].text == "0.0900"
    assert at_8["with_ mixing: leaves"].text == "", "not measured with 8"
    (note,) = table.notes
    assert "with_ mixing" in note and "about 75" in note


def test_trainings_that_saw_as_many_images_are_no_line(tmp_path: Path) -> None:
    methods = made(tmp_path, a={0: 0.01}, b={0: 0.02})
    assert interventional_lines(methods).lines == []
    assert interventional_table("toy", methods) is None


def test_the_figure_shows_every_training_and_doing_nothing(tmp_path: Path) -> None:
    shown = lines(tmp_path, without=WITHOUT, with_=WITH)
    (axis,) = interventional_figure(shown, "toy").axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["0", "8", "128"]
    labels = {text.get_text() for text in axis.get_legend().get_texts()}
    assert labels == {"with_ mixing", "without mixing", "do nothing"}


def test_the_command_draws_it_and_sees_that_it_is_old(tmp_path: Path, capsys) -> None:
    made(tmp_path, without=WITHOUT, with_=WITH)
    command = ["tables", "--results", str(tmp_path)]
    assert main(command) == 0
    assert (tmp_path / "tables/toy/interventional.png").stat().st_size > 5000
    assert (tmp_path / "tables/toy/interventional.md").exists()
    assert main([*command, "--check"]) == 0
    made(tmp_path, without=WITHOUT | {8: 0.02})
    with pytest.raises(SystemExit, match="1"):
        main([*command, "--check"])
    assert "interventional.png" in capsys.readouterr().err
