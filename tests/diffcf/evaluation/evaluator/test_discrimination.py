"""AUROC, F1, calibration and agreement of evaluators whose readings are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Factor
from diffcf.evaluation import agreement, binary_scores
from diffcf.evaluation.evaluator.discrimination import calibration_error
from diffcf.io import CheckpointError

GRAPH = CausalGraph([Factor("bald", "binary"), Factor("age"), Factor("same", "binary")])


class Given:
    """Reads what it was given, in the order of the images."""

    def __init__(self, readings: list[list[float]], graph: CausalGraph = GRAPH) -> None:
        self.graph, self._readings = graph, torch.tensor(readings)

    def read(self, images: Tensor) -> Tensor:
        return self._readings[images[:, 0, 0, 0].long()]


def batches(factors: list[list[float]]) -> list[dict[str, Tensor]]:
    image = torch.arange(len(factors)).float().view(-1, 1, 1, 1)
    parts = zip(image.split(3), torch.tensor(factors).split(3), strict=True)
    return [{"image": images, "factors": part} for images, part in parts]


TRUTH = [[0.0, 0.2, 1.0], [0.0, 0.4, 1.0], [0.0, 0.1, 1.0], [1.0, 0.9, 1.0]]


def test_scores_of_a_rare_factor() -> None:
    never = Given([[0.1, 0.5, 1.0], [0.2, 0.5, 1.0], [0.1, 0.5, 1.0], [0.3, 0.5, 1.0]])
    scores = binary_scores(never, batches(TRUTH))
    assert set(scores) == {"bald"}, "a factor that never varies, and a continuous one, have none"
    bald = scores["bald"]
    assert bald["positive"] == 0.25 and bald["auroc"] == 1.0
    assert bald["f1"] == 0.0 and bald["balanced_error"] == 0.5, "it never says yes"


def test_calibration_is_that_of_the_weights_of_training() -> None:
    half = torch.full((4,), 0.5)
    truth = torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert calibration_error(half, truth, torch.ones(4)) == pytest.approx(0.25)
    balanced = torch.tensor([2 / 3, 2 / 3, 2 / 3, 2.0])
    assert calibration_error(half, truth, balanced) == pytest.approx(0.0, abs=1e-6)
    reader = Given([[0.5, 0.5, 1.0]] * 4)
    found = [binary_scores(reader, batches(TRUTH), b)["bald"]["calibration"] for b in (0.0, 1.0)]
    assert found == pytest.approx([0.25, 0.0], abs=1e-6)


def test_agreement_is_of_readings_not_of_truth() -> None:
    one = Given([[0.9, 0.2, 0.0], [0.6, 0.2, 0.0], [0.1, 0.2, 0.0], [0.2, 0.2, 0.0]])
    two = Given([[0.7, 0.4, 0.0], [0.4, 0.2, 0.0], [0.3, 0.2, 0.0], [0.4, 0.2, 0.0]])
    assert agreement(one, two, batches(TRUTH)) == pytest.approx(
        {"bald": 0.75, "age": 0.95, "same": 1.0}
    )
    with pytest.raises(CheckpointError, match="reads size, this one bald"):
        agreement(one, Given([[0.0]], CausalGraph([Factor("size")])), batches(TRUTH))
