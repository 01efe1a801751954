from __future__ import annotations

import pytest
import torch
from latent_checks import MIXED, mixed_batch

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.methods.peers.causal_latents import LabelPrior, LatentMechanisms
from diffcf.methods.peers.causal_vae import CausalVAE
from diffcf.methods.peers.latent_networks import Gaussian, LatentDecoder, LatentUNet
from diffcf.networks.unet import UNet


def test_what_the_prior_places_it_reads_back() -> None:
    prior = LabelPrior(MIXED, dimensions=3)
    factors = mixed_batch()[1]
    latents = prior.location(factors)
    assert latents.shape == (6, 6, 3) and latents.abs().max() <= 1
    torch.testing.assert_close(prior.factors(latents), factors)
    torch.testing.assert_close(prior.code(latents), MIXED.encode(factors))


def test_an_unsure_latent_is_read_as_a_probability() -> None:
    graph = CausalGraph([Factor("lit", "binary"), Factor("size")])
    code = LabelPrior(graph, 2).code(torch.tensor([[[0.0, 0.4], [0.0, 0.4]]]))
    torch.testing.assert_close(code, torch.tensor([[0.6, 0.6]]))
    outside = LabelPrior(graph, 2).code(torch.full((1, 2, 2), 3.0))
    torch.testing.assert_close(outside, torch.tensor([[1.0, 2.0]]))


def test_the_divergence_is_torchs() -> None:
    q = Gaussian(torch.randn(4, 2, 3), (torch.rand(4, 2, 3) + 0.1).log())
    prior = torch.distributions.Normal(torch.zeros(()), 0.3)
    posterior = torch.distributions.Normal(q.mean, q.variance.sqrt())
    expected = torch.distributions.kl_divergence(posterior, prior).mean()
    torch.testing.assert_close(q.divergence(0.0, 0.3), expected)


@pytest.fixture
def chain() -> LatentMechanisms:
    factors = [Factor(name) for name in ("d", "c", "b", "a", "alone")]
    return LatentMechanisms(CausalGraph(factors, [("a", "b"), ("b", "c"), ("c", "d")]), 2, [8])


def test_noise_that_was_abducted_gives_the_latents_back(chain: LatentMechanisms) -> None:
    noise = torch.randn(5, 5, 2)
    latents = chain.generate(noise)
    assert chain.depth == 3
    torch.testing.assert_close(latents - chain(latents), noise)
    torch.testing.assert_close(latents[:, 3:], noise[:, 3:], rtol=0, atol=0)


def test_an_intervention_reaches_what_it_causes_and_nothing_else(chain: LatentMechanisms) -> None:
    latents = torch.randn(2, 5, 2)
    noise, location = latents - chain(latents), torch.full((2, 5, 2), 0.7)
    fixed = torch.zeros(2, 5, dtype=torch.bool)
    fixed[0, 2] = True  # b, in the first sample only
    result = chain.predict(latents, noise, location, fixed)
    assert chain.reached(fixed)[0].tolist() == [True, True, False, False, False]
    torch.testing.assert_close(result[1], latents[1], rtol=0, atol=0)
    torch.testing.assert_close(result[0, 3:], latents[0, 3:], rtol=0, atol=0)
    assert (result[0, 2] == 0.7).all() and (result[0, :2] != latents[0, :2]).all()
    torch.testing.assert_close((result - chain(result))[0, :2], noise[0, :2])


def test_a_set_effect_ignores_its_causes(chain: LatentMechanisms) -> None:
    latents = torch.randn(3, 5, 2)
    noise, location = latents - chain(latents), torch.full((3, 5, 2), -0.2)
    fixed = torch.zeros(3, 5, dtype=torch.bool)
    fixed[:, [1, 3]] = True  # c and a
    result = chain.predict(latents, noise, location, fixed)
    assert (result[:, [1, 3]] == -0.2).all()
    assert chain.reached(fixed)[0].tolist() == [True, False, True, False, False]


def test_a_mechanism_hears_its_causes_alone(chain: LatentMechanisms) -> None:
    latents = torch.randn(1, 5, 2, requires_grad=True)
    chain(latents)[0, 1].sum().backward()  # c, caused by b
    assert latents.grad is not None
    assert latents.grad[0].any(dim=1).tolist() == [False, False, True, False, False]


def test_categories_cause_by_all_their_columns() -> None:
    edges = LatentMechanisms(MIXED, 2, [4]).edges
    assert edges.shape == (6, 6) and edges[4].tolist() == [1, 1, 1, 0, 0, 0]


def test_dimensions_are_said_once() -> None:
    model = CausalVAE(MIXED, dimensions=3)
    assert all(spec["init_args"] == {"dimensions": 3} for spec in model.spec.values())
    with pytest.raises(ValueError, match="dimensions must be at least 1, not 0"):
        CausalVAE(MIXED, dimensions=0)


def test_the_decoder_draws_any_size_that_fits(graph: CausalGraph) -> None:
    decoder = LatentDecoder(graph, 2, channels=[8, 16], condition=8, broadcast=8)
    latents = torch.randn(2, 4, 2)
    assert decoder(latents, (32, 16)).shape == (2, 3, 32, 16)
    with pytest.raises(ValueError, match=r"multiples of 8, got \(30, 32\)"):
        decoder(latents, (30, 32))


def test_the_u_net_hears_latents_where_ours_hears_factors(graph: CausalGraph) -> None:
    net = LatentUNet(graph, 2, channels=[8, 16], condition=16, attention_heads=2)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x_t, t, latents = torch.randn(2, 3, 32, 32), torch.rand(2), torch.randn(2, 4, 2)
    assert net(x_t, t, latents).shape == x_t.shape
    assert not torch.allclose(net(x_t, t, latents), net(x_t, t, latents + 0.1))
    torch.testing.assert_close(net.residual_scale(t), UNet.residual_scale(net, t))
