from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from latent_checks import (
    MIXED,
    check_every_kind,
    check_every_parameter_learns,
    check_null_intervention,
    check_only_effects_move,
    check_round_trip,
    mixed_batch,
)
from stirring import stir

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.methods.peers.causal_vae import CausalLayers, CausalVAE
from diffcf.methods.peers.latent_networks import Gaussian, LatentDecoder, LatentEncoder


def small(graph: CausalGraph, **settings: float) -> CausalVAE:
    return CausalVAE(
        graph,
        encoder=partial(LatentEncoder, channels=[8, 16]),
        causal=partial(CausalLayers, hidden=[8], label_hidden=4),
        decoder=partial(LatentDecoder, channels=[8, 16], condition=8, broadcast=8, blocks=1),
        **{"dimensions": 2, **settings},
    )


@pytest.fixture
def vae(graph: CausalGraph) -> CausalVAE:
    model = small(graph)
    stir(model)
    return model.eval()


def test_doing_nothing_decodes_what_was_encoded(vae: CausalVAE, small_batch: dict) -> None:
    check_null_intervention(vae, small_batch["image"], small_batch["factors"])
    world = vae.method().abduct(small_batch["image"])
    drawn = vae.decoder(vae.causal.linear(vae.encoder(small_batch["image"]).mean), (32, 32))
    torch.testing.assert_close(world.predict({}).image, drawn.clamp(-1, 1))


def test_only_effects_move(vae: CausalVAE, small_batch: dict) -> None:
    check_only_effects_move(vae, small_batch["image"], small_batch["factors"])


def test_a_checkpoint_answers_alike(vae: CausalVAE, small_batch: dict, tmp_path: Path) -> None:
    check_round_trip(vae, small_batch["image"], tmp_path)


def test_every_kind_of_factor() -> None:
    check_every_kind(small(MIXED), *mixed_batch())


@pytest.mark.parametrize(
    "graph", [MIXED, CausalGraph([Factor("a"), Factor("b")])], ids=["mixed", "no edges"]
)
def test_losses_are_finite_for_any_graph(graph: CausalGraph) -> None:
    image, factors = mixed_batch()
    terms = small(graph).losses(image, factors[:, : len(graph)])
    assert all(torch.isfinite(value) for value in terms.values())
    assert (terms["mask"] == 0) == (not graph.edges)


def test_every_parameter_learns(graph: CausalGraph, small_batch: dict) -> None:
    check_every_parameter_learns(small(graph), small_batch["image"], small_batch["factors"])


def test_the_encoder_is_not_paid_for_hiding_effects_in_causes(
    graph: CausalGraph, small_batch: dict
) -> None:
    model = small(graph)
    model.losses(small_batch["image"], small_batch["factors"])["mask"].backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.causal.perceptrons.parameters())


def test_the_causal_layer_is_the_papers(graph: CausalGraph) -> None:
    layers = CausalLayers(graph, 2, [8])
    torch.nn.init.normal_(layers.matrix)
    exogenous = Gaussian(torch.randn(3, 4, 2), torch.rand(3, 4, 2).log())
    inverse = torch.linalg.inv(torch.eye(4) - layers.matrix * graph.adjacency)
    concepts = layers.concepts(exogenous)
    torch.testing.assert_close(concepts.mean, inverse @ exogenous.mean)
    torch.testing.assert_close(concepts.variance, inverse.square() @ exogenous.variance)
    torch.testing.assert_close(layers.weights()[~graph.adjacency], torch.zeros(12))


def test_a_wide_prior_forgives_more(graph: CausalGraph, small_batch: dict) -> None:
    narrow, wide = small(graph, prior_scale=0.1), small(graph, prior_scale=1.0)
    wide.load_state_dict(narrow.state_dict())
    terms = [m.losses(small_batch["image"], small_batch["factors"]) for m in (narrow, wide)]
    assert terms[1]["alignment"] < terms[0]["alignment"]
