"""How near an answer is to its own factual, in features."""

from __future__ import annotations

import pytest
import torch

from diffcf.causal import CausalGraph, Factor, Intervention
from diffcf.evaluation.evaluator.reader import EvaluatorReader
from diffcf.evaluation.metrics.identity import Identity
from diffcf.evaluation.plan import FactualBatch
from diffcf.evaluation.readings import ReaderScores
from diffcf.io.errors import CheckpointError
from diffcf.methods import Counterfactual
from diffcf.networks import build_network

GRAPH = CausalGraph([Factor("old", "binary"), Factor("bald", "binary")], [("old", "bald")])


def _identity(features: torch.Tensor, factual: torch.Tensor, column: int = 0) -> float:
    identity = Identity(GRAPH, features.shape[1])
    identity.update(features, factual, column, torch.arange(len(factual)))
    return float(identity.compute()["identity"])


def test_the_same_picture_is_1_and_anothers_0() -> None:
    factual = torch.randn(40, 16)
    assert _identity(factual, factual) == pytest.approx(1)
    # As far as others are on average, here exactly: each answer is compared with every other.
    others = [_identity(factual.roll(k, 0), factual) for k in range(1, 40)]
    assert sum(others) / len(others) == pytest.approx(0, abs=1e-6)


def test_scores_by_image_have_the_mean_that_is_computed() -> None:
    identity, rows = Identity(GRAPH, 16), torch.arange(40)
    factual = torch.randn(40, 16)
    for column in range(2):
        identity.update(factual + torch.rand(40, 1) * torch.randn(40, 16), factual, column, rows)
    for _ in range(2):  # and it is not another one afterwards
        means = identity.compute()
        found = identity.by_image()
        assert found.keys() == means.keys()
        for name, (index, scores) in found.items():
            assert torch.equal(index, rows)
            assert scores.mean() == pytest.approx(float(means[name]), abs=1e-6)
            assert scores.max() <= 1


def test_it_falls_with_distance_and_knows_no_scale() -> None:
    factual, noise = torch.randn(40, 16), torch.randn(40, 16)
    values = [_identity(factual + share * noise, factual) for share in (0.1, 0.3, 1.0)]
    assert 1 > values[0] > values[1] > values[2] > 0
    assert _identity(3 * (factual + 0.3 * noise), 5 * factual) == pytest.approx(values[1])


def test_one_image_is_left_out_and_batches_do_not_matter() -> None:
    one = Identity(GRAPH, 4)
    one.update(torch.randn(1, 4), torch.randn(1, 4), 0, torch.tensor([0]))
    assert one.compute() == {} == one.intervals()
    factual, answer, index = torch.randn(6, 4), torch.randn(6, 4), torch.arange(6)
    whole, parts = Identity(GRAPH, 4), Identity(GRAPH, 4)
    whole.update(answer, factual, 1, index)
    for part in index.split(1):
        parts.update(answer[part], factual[part], 1, part)
    assert whole.compute() == parts.compute()
    low, high = whole.intervals()["identity/bald"]
    assert low < high


@pytest.mark.parametrize("network", ["GlobalPosteriorProjector", "LocalPosteriorProjector"])
def test_it_is_measured_where_the_evaluator_has_features(network: str) -> None:
    small = {"channels": [8, 8]} if network.startswith("Global") else {"channels": 8}
    spec = {"class_path": f"diffcf.networks.{network}", "init_args": small}
    weights = build_network(spec, GRAPH).state_dict()
    reader = EvaluatorReader(GRAPH, spec, weights, (3, 16, 16))
    scores = ReaderScores(GRAPH, reader, "evaluator/", 0, torch.zeros(1, len(GRAPH)), ["bald"])
    batch = FactualBatch(torch.rand(4, 3, 16, 16), torch.zeros(4, 2), torch.arange(4))
    do = Intervention.from_do({"bald": 1.0}, GRAPH, 4)
    answer = Counterfactual(batch.image.clone(), batch.factors, do)
    scores.single(answer, batch.factors, batch, 1, do.mask.any(dim=1))
    scores.null(answer, batch, torch.ones(4, dtype=torch.bool))
    result = scores.results(lambda metric: metric.compute())
    if network.startswith("Global"):
        assert float(result["evaluator/identity/bald"]) == pytest.approx(1)
    else:
        assert not any("identity" in name for name in result)
        with pytest.raises(CheckpointError, match="features"):
            reader.features(batch.image)
