"""The parts of the structural equations: noise maps, truncated logistics, soft graphs."""

from __future__ import annotations

import itertools

import pytest
import torch

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.mechanisms import NoiseMap, truncated_logistic
from diffcf.causal.structure import EdgeGates, acyclicity, strongest_dag


def test_noise_map_is_monotone_and_knows_its_jacobian() -> None:
    torch.manual_seed(0)
    shape = 3 * torch.randn(24, dtype=torch.float64)
    z = torch.linspace(-1, 2, 301, dtype=torch.float64, requires_grad=True)
    noise_map = NoiseMap(torch.tensor(0.4).double(), shape.expand(301, -1), 0.01)
    u = noise_map.to_noise(z)
    (slope,) = torch.autograd.grad(u.sum(), z)
    assert (u.diff() > 0).all()
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(u) + slope.log()
    torch.testing.assert_close(noise_map.log_prob(z), expected)


def test_binary_abduction_explains_the_observation_for_any_logit() -> None:
    logits = torch.linspace(-60, 60, 2001, dtype=torch.float64)
    for positive in (True, False):
        observed = torch.full_like(logits, positive, dtype=torch.bool)
        u = truncated_logistic(logits, observed, torch.rand_like(logits)).float()
        assert u.isfinite().all()
        assert torch.equal(logits + u > 0, observed)


def test_binary_abduction_samples_the_posterior() -> None:
    """Averaged over observations drawn from the mechanism, the noise is logistic again."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.full((200_000,), 0.7, dtype=torch.float64)
    observed = torch.rand(logits.shape, generator=generator) < torch.sigmoid(logits)
    u = truncated_logistic(logits, observed, torch.rand(200_000, generator=generator).double())
    levels = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    torch.testing.assert_close(u.quantile(levels), levels.logit(), rtol=0, atol=0.03)


@pytest.mark.parametrize("size", [2, 3])
def test_acyclicity_is_zero_exactly_for_dags(size: int) -> None:
    for bits in itertools.product([False, True], repeat=size * size):
        matrix = torch.tensor(bits).reshape(size, size)
        powers = [torch.linalg.matrix_power(matrix.double(), n) for n in range(1, size + 1)]
        cyclic = bool(sum(p.diagonal().sum() for p in powers) > 0)
        assert (acyclicity(matrix.double()) > 1e-9) == cyclic


def test_strongest_dag_drops_the_weakest_edge_of_a_cycle() -> None:
    strength = torch.tensor([[0.0, 0.9, 0.0], [0.0, 0.0, 0.6], [0.7, 0.4, 0.0]])
    kept = strongest_dag(strength)
    assert kept.nonzero().tolist() == [[0, 1], [2, 0]]
    for seed in range(50):
        weights = torch.rand(6, 6, generator=torch.Generator().manual_seed(seed))
        assert acyclicity(strongest_dag(weights, 0.2).double()) == 0


def test_gates_are_binary_and_spare_the_diagonal() -> None:
    torch.manual_seed(0)
    draws = EdgeGates(CausalGraph([Factor(name) for name in "abcde"])).sample(300)
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert draws.diagonal(dim1=1, dim2=2).eq(0).all()
    assert 0.45 < draws.mean() / 0.8 < 0.55


def test_score_is_the_gradient_of_the_expected_likelihood() -> None:
    torch.manual_seed(0)
    gates = EdgeGates(CausalGraph([Factor(name) for name in "abc"]))
    torch.nn.init.normal_(gates.logits)
    worth = torch.randn(3, 3)
    draws = gates.sample(200_000)
    (estimate,) = torch.autograd.grad(gates.score(draws, (draws * worth).sum(-1)), gates.logits)
    expected = (gates.probabilities() * worth).sum(-1).mean()
    (exact,) = torch.autograd.grad(expected, gates.logits)
    torch.testing.assert_close(estimate, exact, rtol=0, atol=3e-3)
