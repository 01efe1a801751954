"""Composition and reversibility."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.evaluation.metrics.axioms import Composition, Reversibility
from diffcf.evaluation.metrics.fidelity import SequenceFidelity

GRAPH = CausalGraph([Factor("a"), Factor("b"), Factor("c")], [("a", "b")])


def _images() -> Tensor:
    return torch.rand(12, 3, 6, 6, generator=torch.Generator().manual_seed(2)) * 2 - 1


def _drawn(image: Tensor, times: int = 1) -> Tensor:
    """A method that loses a tenth of the contrast whenever it draws."""
    return image * 0.9**times


# --- composition ---


def test_a_hand_made_composition() -> None:
    composition, black = Composition(), -torch.ones(2, 1, 4, 4)
    half = black.clone()
    half[:, :, :2] = 1  # half of the pixels are white now
    composition.update(half, black, cycle=1)
    composition.update(-black, black, cycle=10)
    result = composition.compute()
    assert result["composition/1"] == 0.5 and result["composition/10"] == 1
    assert result["composition_psnr/1"].item() == pytest.approx(3.0103, abs=1e-4)
    assert result["composition_psnr/10"].item() == pytest.approx(0, abs=1e-4)
    assert set(composition.intervals(resamples=10)) == set(result)


def test_doing_nothing_composes_perfectly() -> None:
    composition = Composition(cycles=(1,))
    composition.update(_images(), _images(), cycle=1)
    assert composition.compute() == {"composition/1": 0, "composition_psnr/1": 100}


def test_errors_of_drawing_add_up_over_cycles() -> None:
    composition = Composition(cycles=(1, 3, 10))
    for cycle in composition.cycles:
        composition.update(_drawn(_images(), cycle), _images(), cycle)
    result = composition.compute()
    assert result["composition/1"] < result["composition/3"] < result["composition/10"]
    assert result["composition_psnr/1"] > result["composition_psnr/3"]


def test_a_cycle_that_never_occurred_is_left_out() -> None:
    composition = Composition(cycles=(1, 10))
    composition.update(_images(), _images(), cycle=10)
    assert set(composition.compute()) == {"composition/10", "composition_psnr/10"}


# --- reversibility ---


def test_a_hand_made_reversal() -> None:
    reversibility, factual = Reversibility(GRAPH), torch.zeros(1, 3, 4, 4)
    for column, left in enumerate((0.2, 0.4, 1.0)):
        reversibility.update(factual - left, factual, column)
    result = {name: round(value.item(), 4) for name, value in reversibility.compute().items()}
    assert result.pop("reversibility_psnr/a") == 20.0
    assert {name: v for name, v in result.items() if "psnr" not in name} == {
        "reversibility": round(0.8 / 3, 4),
        "reversibility/a": 0.1,
        "reversibility/b": 0.2,
        "reversibility/c": 0.5,
        "reversibility/roots": 0.1,
        "reversibility/leaves": 0.35,
    }


def test_what_is_wholly_undone_has_no_distance() -> None:
    reversibility = Reversibility(GRAPH)
    reversibility.update(_images(), _images(), column=2)
    result = reversibility.compute()
    assert result["reversibility"] == 0 and result["reversibility/leaves"] == 0
    assert "reversibility/roots" not in result and "reversibility/a" not in result


# --- batches, processes, errors ---


def _fed(*batches: range) -> tuple[Composition, Reversibility]:
    """12 images, given batch by batch."""
    composition, reversibility = Composition(cycles=(1, 10)), Reversibility(GRAPH)
    for batch in batches:
        index = torch.tensor(list(batch))
        factual = _images()[index]
        for cycle in composition.cycles:
            composition.update(_drawn(factual, cycle), factual, cycle, index)
        for column in range(3):
            reversibility.update(_drawn(factual, column + 1), factual, column, index)
    return composition, reversibility


def _results(*batches: range) -> dict[str, Tensor]:
    return {name: v for metric in _fed(*batches) for name, v in metric.compute().items()}


def test_batch_size_and_repeated_images_do_not_matter() -> None:
    torch.testing.assert_close(_results(range(5), range(3, 11), range(11, 12)), _results(range(12)))


def test_bad_input_is_named() -> None:
    image = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"after 1, 10 null intervention.*name 3 among its cycles"):
        Composition().update(image, image, cycle=3)
    with pytest.raises(ValueError, match=r"one shape \[B, C, H, W\], got \(2, 3, 4, 4\) and \(3,"):
        Composition().update(image, image[0], cycle=1)
    with pytest.raises(ValueError, match=r"got \(2, 3, 4, 4\) and \(1, 3, 4, 4\)"):
        Reversibility(GRAPH).update(image, image[:1], column=0)
    with pytest.raises(ValueError, match="Composition met a value that is NaN or infinite"):
        Composition().update(image * torch.nan, image, cycle=1)
    for metric in (Composition(), Reversibility(GRAPH)):
        with pytest.raises(ValueError, match=f"{type(metric).__name__} has seen no image"):
            metric.compute()


def test_a_sequence_that_decays_is_seen_step_by_step() -> None:
    fidelity = SequenceFidelity(steps=3)
    for step in range(3):
        fidelity.update(_drawn(_images(), step + 1), _images(), step)
    result = fidelity.compute()
    assert list(result) == ["psnr/step_1", "psnr/step_2", "psnr/step_3"]
    assert result["psnr/step_1"] > result["psnr/step_2"] > result["psnr/step_3"]
