"""The HVAE's networks: an exogenous prior, bounded scales, one way to draw."""

from __future__ import annotations

import pytest
import torch
from stirring import stir

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.methods.peers.hvae import LOG_SCALE, ConditionalHVAE, Explained

MIXED = CausalGraph(
    [
        Factor("size"),
        Factor("sunny", "binary"),
        Factor("shape", "categorical", categories=("cube", "ball", "cone")),
    ],
    [("sunny", "shape")],
)


def awake(graph: CausalGraph) -> ConditionalHVAE:
    """A small network in which no layer is zero any more."""
    network = ConditionalHVAE(
        graph, channels=[8, 16], encoder=[8, 8], latents=2, prior=4, condition=8, broadcast=8
    )
    stir(network, std=0.2)
    return network


def explain(network: ConditionalHVAE, batch: dict, sample: bool = False) -> Explained:
    with torch.no_grad():
        return network(batch["image"], batch["factors"], sample=sample)


def test_an_image_is_explained_on_every_grid(graph: CausalGraph, small_batch: dict) -> None:
    explained = explain(awake(graph), small_batch)
    assert [tuple(z.shape) for z in explained.latents] == [(8, 2, 4, 4), (8, 2, 8, 8)]
    assert explained.drawn.mean.shape == small_batch["image"].shape
    assert explained.kl.shape == (8,) and (explained.kl > 0).all()


def test_drawing_again_gives_the_same_picture_bit_for_bit(
    graph: CausalGraph, small_batch: dict
) -> None:
    network = awake(graph)
    explained = explain(network, small_batch)
    with torch.no_grad():
        again = network.draw(explained.latents, small_batch["factors"])
    assert torch.equal(again.mean, explained.drawn.mean)
    assert torch.equal(again.log_scale, explained.drawn.log_scale)
    assert torch.equal(explain(network, small_batch).drawn.mean, explained.drawn.mean)
    assert not torch.equal(explain(network, small_batch, True).drawn.mean, explained.drawn.mean)


def test_factors_reach_the_drawing_and_never_the_prior(
    graph: CausalGraph, small_batch: dict
) -> None:
    network = awake(graph)
    explained = explain(network, small_batch)
    streams: list[torch.Tensor] = []
    network.down[0].remember.register_forward_hook(lambda *call: streams.append(call[2]))
    factors = small_batch["factors"]
    with torch.no_grad():
        one, other = (network.draw(explained.latents, f) for f in (factors, 1 - factors))
    assert torch.equal(*streams), "p(z_i | z_<i) has nothing else to go by"
    assert not torch.allclose(one.mean, other.mean)


def test_every_grid_of_latents_reaches_the_drawing(graph: CausalGraph, small_batch: dict) -> None:
    network = awake(graph)
    explained = explain(network, small_batch)
    for i in range(2):
        moved = [z + (i == j) for j, z in enumerate(explained.latents)]
        with torch.no_grad():
            drawn = network.draw(moved, small_batch["factors"])
        assert not torch.allclose(drawn.mean, explained.drawn.mean)


def test_scales_stay_within_their_bounds(graph: CausalGraph, small_batch: dict) -> None:
    network = awake(graph)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(30)
    explained = explain(network, small_batch)
    scale = explained.drawn.scale
    assert scale.min() > 0.0099 and scale.max() < 1.0001
    with torch.no_grad():
        prior = network.down[0].prior(1e6 * torch.randn(2, 4, 4, 4))
    assert prior.log_scale.abs().max() <= LOG_SCALE


def test_every_parameter_learns(graph: CausalGraph, small_batch: dict) -> None:
    network = awake(graph)
    explained = network(small_batch["image"], small_batch["factors"])
    error = explained.drawn.standardised(small_batch["image"]).square().mean()
    (error + explained.drawn.log_scale.mean() + explained.kl.mean()).backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_factors_of_every_kind_condition_it() -> None:
    network = awake(MIXED)
    image = torch.rand(4, 3, 32, 32)
    factors = torch.tensor([[0.3, 0.0, 0.0], [0.3, 1.0, 0.0], [0.3, 0.0, 0.5], [0.3, 0.0, 1.0]])
    with torch.no_grad():
        latents = network(image[:1].expand(4, -1, -1, -1), factors[:1].expand(4, -1)).latents
        mean = network.draw([z[:1].expand_as(z) for z in latents], factors).mean
    for row in range(1, 4):
        assert not torch.allclose(mean[0], mean[row])


def test_every_grid_needs_its_encoder(graph: CausalGraph) -> None:
    with pytest.raises(ValueError, match=r"each of the 3 grids of 'channels', got \[8, 16\]"):
        ConditionalHVAE(graph, channels=[8, 16, 16], encoder=[8, 16])


def test_sides_that_do_not_fit_are_refused(graph: CausalGraph) -> None:
    with pytest.raises(ValueError, match=r"multiples of 8, got \(20, 32\): change image_size"):
        awake(graph)(torch.zeros(1, 3, 20, 32), torch.zeros(1, 4))
