"""What counterfactuals among its training images are worth to a classifier."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Factor
from diffcf.evaluation import (
    EXACT,
    FACTUAL,
    Labelled,
    class_threshold,
    measure_augmentation,
)
from diffcf.io import GraphError, SettingsError

GRAPH = CausalGraph(
    [
        Factor("cause"),
        Factor("effect"),
        Factor("lit", "binary"),
        Factor("hue", "categorical", categories=("a", "b")),
    ],
    [("cause", "effect")],
)


def pictures(cause: Tensor, effect: Tensor) -> Tensor:
    """A bright square for the cause, a faint one for the effect, 16 × 16."""
    image = torch.full((len(cause), 1, 16, 16), -0.5)
    image[:, 0, :8, :8] += cause[:, None, None]
    image[:, 0, 8:, 8:] += 0.2 * effect[:, None, None]
    return image


def test_counterfactuals_free_a_classifier_of_what_goes_along_with_its_label() -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.rand(256, generator=generator) < 0.5
    other = torch.rand(256, generator=generator) < 0.5
    factual = Labelled(pictures(label.float(), label.float()), label)
    broken = Labelled(pictures(label.float(), other.float()), other)
    rows = torch.arange(256)
    train, test = rows < 128, rows >= 128
    found = measure_augmentation(
        Labelled(factual.image[train], label[train]),
        {"exact": Labelled(broken.image[train], other[train])},
        {
            "observed": Labelled(factual.image[test], label[test]),
            "set": Labelled(broken.image[test], other[test]),
        },
        steps=60,
        seed=0,
    )
    assert found[FACTUAL]["observed"] == 1.0
    assert found[FACTUAL]["set"] < 0.75  # it reads the cause, which is right half of the time
    assert found[EXACT]["set"] > 0.95


def test_classes_of_a_number_are_parted_at_its_median() -> None:
    factors = torch.tensor([[0.1, 0.2, 1.0, 0.0], [0.9, 0.3, 0.0, 1.0], [0.4, torch.nan, 0.0, 0.0]])
    assert class_threshold(GRAPH, "cause", factors) == pytest.approx(0.4)
    assert class_threshold(GRAPH, "effect", factors) == pytest.approx(0.2)  # labels that are known
    assert class_threshold(GRAPH, "lit", factors) == 0.5


def test_classes_need_a_factor_with_an_order() -> None:
    factors = torch.zeros(2, 4)
    with pytest.raises(SettingsError, match="hue"):
        class_threshold(GRAPH, "hue", factors)
    with pytest.raises(GraphError, match="nothing"):
        class_threshold(GRAPH, "nothing", factors)
