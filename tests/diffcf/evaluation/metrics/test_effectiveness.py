from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from processes import in_two
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.evaluation.metrics.axioms import Effectiveness, effectiveness_error

COLOURS = ("red", "green", "blue")
GRAPH = CausalGraph(
    [Factor("size"), Factor("lit", "binary"), Factor("colour", "categorical", categories=COLOURS)],
    [("size", "lit")],
)
SIZE, LIT, COLOUR = range(3)


def _factors(column: int, values: list[float]) -> Tensor:
    """Factors of which only one column is told, the others being NaN where allowed."""
    factors = torch.full((len(values), 3), torch.nan)
    factors[:, column] = torch.tensor(values)
    return factors


def _result(column: int, read: list[float], value: list[float]) -> dict[str, float]:
    metric = Effectiveness(GRAPH)
    metric.update(_factors(column, read), _factors(column, value), column)
    return {name: round(result.item(), 4) for name, result in metric.compute().items()}


# --- hand-made cases ---


def test_continuous_factors_have_an_error_and_no_more() -> None:
    assert _result(SIZE, [0.2, 0.9], [0.3, 0.6]) == {
        "effectiveness": 0.2,
        "effectiveness/size": 0.2,
        "effectiveness/roots": 0.2,
    }


def test_binary_factors() -> None:
    result = _result(LIT, [0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
    assert result["effectiveness/lit"] == 0.35
    assert result["accuracy/lit"] == 0.5
    assert result["effectiveness_f1/lit"] == 0.5, "one hit, one false alarm, one miss"
    assert result["effectiveness_auroc/lit"] == 0.75, "three of four pairs are in order"


def test_categories_are_right_or_wrong() -> None:
    result = _result(COLOUR, [0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 0.5, 0.5])
    assert result["accuracy/colour"] == 0.5 and result["effectiveness/colour"] == 0.5
    # red: precision 1/2, recall 1; green: precision 1, recall 1/3; blue: never set, once read.
    assert result["effectiveness_f1/colour"] == round((2 / 3 + 1 / 2 + 0) / 3, 4)
    near = effectiveness_error(_factors(COLOUR, [0.2, 0.3]), torch.zeros(2, 3), GRAPH, COLOUR)
    assert near.tolist() == [0, 1], "the nearest category counts"


def test_a_category_that_never_occurs_does_not_count() -> None:
    assert _result(COLOUR, [0.0, 0.5], [0.0, 0.5])["effectiveness_f1/colour"] == 1


def test_means_over_roots_and_leaves() -> None:
    metric = Effectiveness(GRAPH)
    for column, error in ((SIZE, 0.1), (LIT, 0.3), (COLOUR, 1.0)):
        metric.update(_factors(column, [error]), _factors(column, [0.0]), column)
    result = {name: round(value.item(), 4) for name, value in metric.compute().items()}
    assert result["effectiveness/roots"] == 0.1
    assert result["effectiveness/leaves"] == 0.65
    assert result["effectiveness"] == round(1.4 / 3, 4)


# --- scores of the whole set ---


def test_scores_that_mean_nothing_are_left_out() -> None:
    ones = _result(LIT, [0.9, 0.4], [1, 1])
    assert "effectiveness_auroc/lit" not in ones and ones["effectiveness_f1/lit"] == 0.6667
    zeros = _result(LIT, [0.9, 0.4], [0, 0])
    assert not {"effectiveness_auroc/lit", "effectiveness_f1/lit"} & set(zeros)
    assert zeros["accuracy/lit"] == 0.5


def test_auroc_heeds_only_the_order_of_readings() -> None:
    read, value = torch.rand(50), (torch.rand(50) > 0.5).float()
    plain, beyond = (_result(LIT, r.tolist(), value.tolist()) for r in (read, 9 * read - 3))
    assert plain["effectiveness_auroc/lit"] == beyond["effectiveness_auroc/lit"]
    mirrored = _result(LIT, (1 - read).tolist(), value.tolist())["effectiveness_auroc/lit"]
    assert mirrored == pytest.approx(1 - plain["effectiveness_auroc/lit"], abs=1e-4)
    assert _result(LIT, [0.5] * 4, [1, 0, 1, 0])["effectiveness_auroc/lit"] == 0.5, "ties"


def test_scores_have_no_interval() -> None:
    means = {"effectiveness", "effectiveness/lit", "effectiveness/leaves", "accuracy/lit"}
    assert set(_fed(range(24)).intervals(resamples=20)) >= means
    for name in _fed(range(24)).intervals(resamples=20):
        assert "f1" not in name and "auroc" not in name


# --- batches, processes ---


def _fed(*batches: range) -> Effectiveness:
    """24 images under an intervention on each factor, given batch by batch."""
    generator = torch.Generator().manual_seed(5)
    read, target = torch.rand(2, 24, 3, generator=generator)
    target[:, LIT] = (target[:, LIT] > 0.5).float()
    target[:, COLOUR] = (2 * target[:, COLOUR]).round() / 2
    metric = Effectiveness(GRAPH)
    for batch in batches:
        index = torch.tensor(list(batch))
        for column in range(3):
            metric.update(read[index], target[index], column, index)
    return metric


def test_batch_size_and_repeated_images_do_not_matter() -> None:
    whole = _fed(range(24)).compute()
    assert {"effectiveness_f1/lit", "effectiveness_auroc/lit", "accuracy/colour"} < set(whole)
    parts = _fed(range(12, 24), range(5), range(3, 12))
    assert parts.compute() == whole


def test_two_processes_agree_with_one(tmp_path) -> None:
    in_two(_half, tmp_path)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == _fed(range(24)).compute()


def _half(rank: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.save(_fed(range(rank, 24, 2)).compute(), f"{out}/{rank}.pt")
    dist.destroy_process_group()


# --- errors ---


def test_only_the_column_set_has_to_be_read() -> None:
    metric = Effectiveness(GRAPH)
    metric.update(_factors(SIZE, [0.5]), _factors(SIZE, [0.5]), SIZE)
    for column in (LIT, COLOUR):
        with pytest.raises(ValueError, match=f"'{GRAPH.names[column]}' that is NaN or infinite"):
            metric.update(_factors(SIZE, [0.5]), torch.zeros(1, 3), column)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="Effectiveness has seen no image"):
        Effectiveness(GRAPH).compute()
    with pytest.raises(ValueError, match=r"factors \[B, 3\], got \(2, 3\) and \(1, 3\)"):
        Effectiveness(GRAPH).update(torch.zeros(2, 3), torch.zeros(1, 3), SIZE)
    with pytest.raises(ValueError, match=r"got \(2, 4\) and \(2, 4\)"):
        Effectiveness(GRAPH).update(torch.zeros(2, 4), torch.zeros(2, 4), SIZE)
