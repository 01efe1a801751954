from __future__ import annotations

import pytest
import torch

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.intervention import Intervention
from diffcf.io.errors import GraphError, InterventionError

GRAPH = CausalGraph([Factor("light"), Factor("smile", "binary")])


def test_numbers_spread_and_vectors_stay() -> None:
    do = Intervention.from_do({"light": torch.tensor([0.1, 0.9]), "smile": 1}, GRAPH, 2)
    torch.testing.assert_close(do.values, torch.tensor([[0.1, 1.0], [0.9, 1.0]]))
    assert do.mask.all()


@pytest.mark.parametrize(
    ("do", "error", "message"),
    [
        ({"sun": 0.5}, GraphError, "Unknown factor 'sun': the factors are light, smile"),
        ({"light": 1.5}, InterventionError, r"do\(light=1.5\) is outside"),
        ({"light": torch.tensor([0.2, -0.1])}, InterventionError, r"do\(light=-0.1\) is outside"),
        ({"light": float("nan")}, InterventionError, r"do\(light\) is not a finite number"),
        ({"light": torch.zeros(3)}, InterventionError, r"shape \(3,\).*each of the 2 images"),
        ({"light": torch.zeros(2, 1)}, InterventionError, r"shape \(2, 1\)"),
        ({"smile": 0.5}, InterventionError, r"do\(smile\) sets a binary factor"),
    ],
)
def test_what_does_not_fit_is_named(do: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Intervention.from_do(do, GRAPH, 2)


def test_what_was_set_stays_set_until_it_is_set_anew() -> None:
    first = Intervention.from_do({"light": 0.2}, GRAPH, 1)
    second = Intervention.from_do({"smile": 1}, GRAPH, 1)
    third = Intervention.from_do({"light": 0.7}, GRAPH, 1)
    held = first.then(second).then(third)
    torch.testing.assert_close(held.values, torch.tensor([[0.7, 1.0]]))
    assert held.mask.all()
    assert not Intervention.none(torch.zeros(1, 2)).mask.any()
