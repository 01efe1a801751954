"""The HVAE baseline: what stays the same in its worlds, what it trains, and its checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from stirring import stir

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.nscm import NSCM
from diffcf.methods import load_method
from diffcf.methods.interface import predict_sequence
from diffcf.methods.peers.diff_scm import FactorPredictor
from diffcf.methods.peers.hvae import ConditionalHVAE
from diffcf.methods.peers.hvae_dscm import HierarchicalVAE, transport
from diffcf.methods.peers.latent_networks import Gaussian
from diffcf.networks.factory import build_network

ROOT = Path(__file__).parents[4]
MIXED = CausalGraph(
    [
        Factor("size"),
        Factor("sunny", "binary"),
        Factor("shape", "categorical", categories=("cube", "ball", "cone")),
    ],
    [("sunny", "shape")],
)


def awake(graph: CausalGraph) -> HierarchicalVAE:
    """A small model in which no layer is zero any more, with half of its training over."""
    model = HierarchicalVAE(
        graph,
        hvae=partial(
            ConditionalHVAE,
            channels=[8, 16],
            encoder=[8, 8],
            latents=2,
            prior=4,
            condition=8,
            broadcast=8,
        ),
        predictor=partial(FactorPredictor, encoder={"channels": [8, 16], "condition": 8}),
        nscm=partial(NSCM, hidden=[8]),
        finetune=0.4,
    )
    stir(model)
    model.time_spent = 0.5
    return model


@pytest.fixture
def trained(graph: CausalGraph) -> HierarchicalVAE:
    return awake(graph).eval()


# --- worlds ---


def test_doing_nothing_returns_the_image_itself(trained: HierarchicalVAE, small_batch) -> None:
    image, factors = small_batch["image"], small_batch["factors"]
    world = trained.method().abduct(image, factors)
    assert not torch.allclose(world.explained.drawn.mean, image, atol=0.1), "μ alone is not it"
    assert torch.equal(world.predict({}).image, image.clamp(-1, 1))
    assert torch.equal(world.predict({}).factors, factors)


def test_an_intervention_moves_the_image_and_what_it_causes(
    trained: HierarchicalVAE, small_batch
) -> None:
    image, factors = small_batch["image"], small_batch["factors"]
    world = trained.method().abduct(image, factors)
    leaf = world.predict({"shadow_length": 0.9})
    assert torch.equal(leaf.factors[:, [0, 1, 3]], factors[:, [0, 1, 3]])
    assert (leaf.factors[:, 2] == 0.9).all()
    root = world.predict({"light": 0.3})
    assert torch.equal(root.factors[:, 0], factors[:, 0])
    expected = trained.nscm.predict(
        factors, world.exogenous, root.intervention.values, root.intervention.mask
    )
    assert torch.equal(root.factors, expected.clamp(0, 1))
    assert not torch.allclose(root.factors[:, 2:], factors[:, 2:])
    for answer in (leaf, root):
        assert not torch.allclose(answer.image, image)
        assert answer.image.abs().max() <= 1


def test_abduction_and_prediction_are_deterministic(trained: HierarchicalVAE, small_batch) -> None:
    answers = [
        trained.method().abduct(small_batch["image"]).predict({"angle": 0.2}).image
        for _ in range(2)
    ]
    assert torch.equal(*answers)


def test_factors_that_are_not_given_are_read(trained: HierarchicalVAE, small_batch) -> None:
    reading = trained.predictor(small_batch["image"])
    expected = trained.nscm.refine(reading.mean, reading.variance)
    world = trained.method().abduct(small_batch["image"])
    assert torch.equal(world.factors, expected.clamp(0, 1))
    given = trained.method().abduct(small_batch["image"], small_batch["factors"])
    assert torch.equal(given.factors, small_batch["factors"])


def test_a_world_seen_in_its_answer_keeps_its_causal_noise(
    trained: HierarchicalVAE, small_batch
) -> None:
    world = trained.method().abduct(small_batch["image"], small_batch["factors"])
    answer = world.predict({"angle": 0.8})
    seen = world.reabduct(answer)
    assert torch.equal(seen.exogenous, world.exogenous)
    assert torch.equal(seen.factors, world.factors)
    assert torch.equal(seen.image, answer.image)
    assert not torch.equal(seen.explained.latents[0], world.explained.latents[0])
    assert torch.equal(seen.predict(answer.intervention).image, answer.image), "still done"
    later = predict_sequence(world, [answer.intervention, answer.intervention])
    assert torch.equal(later[1].image, answer.image)


def test_images_that_are_no_images_are_refused(trained: HierarchicalVAE) -> None:
    with pytest.raises(ValueError, match="NaN or infinite pixels"):
        trained.method().abduct(torch.full((1, 3, 32, 32), torch.nan))


def test_pixel_noise_is_kept_in_units_of_its_scale_and_never_grows() -> None:
    factual = Gaussian(torch.tensor([0.2, 0.2]), torch.tensor([0.1, 0.1]).log())
    other = Gaussian(torch.tensor([-0.4, -0.4]), torch.tensor([0.05, 0.8]).log())
    moved = transport(torch.tensor([0.4, 0.4]), factual, other)  # two standard deviations up
    torch.testing.assert_close(moved, torch.tensor([-0.3, -0.2]))


# --- training ---


def test_every_loss_term_is_finite_and_learns_its_own_network(graph, small_batch) -> None:
    model = awake(graph)
    model.time_spent = 0.7
    names = {"hvae": "hvae", "predictor": "predictor", "nscm": "nscm", "counterfactual": "hvae"}
    terms = model.losses(small_batch["image"], small_batch["factors"])
    assert names.keys() <= terms.keys()
    for term, owner in names.items():
        assert torch.isfinite(terms[term])
        model.zero_grad()
        terms[term].backward(retain_graph=True)
        for name, network in model.networks():
            reached = any(p.grad is not None and p.grad.any() for p in network.parameters())
            assert reached == (name == owner), f"{term} → {name}"


def test_counterfactuals_are_trained_on_in_the_last_part_only(graph, small_batch) -> None:
    model = awake(graph)
    for progress, expected in ((0.0, False), (0.59, False), (0.61, True), (1.0, True)):
        model.time_spent = progress
        terms = model.losses(small_batch["image"], small_batch["factors"])
        assert ("counterfactual" in terms) == expected


def test_the_divergence_counts_from_nothing_to_beta(graph, small_batch) -> None:
    model = awake(graph)
    model.beta, model.beta_warmup, pixels = 3.0, 0.2, 3 * 32 * 32
    for progress, beta in ((0.0, 0.0), (0.1, 1.5), (0.2, 3.0), (1.0, 3.0)):
        model.time_spent = progress
        torch.manual_seed(1)
        explained = model.hvae(small_batch["image"], small_batch["factors"])
        terms = model._elbo(small_batch["image"], explained)
        likelihood = terms["hvae"] - beta * terms["kl"] / pixels
        model.beta = 0.0
        torch.testing.assert_close(likelihood, model._elbo(small_batch["image"], explained)["hvae"])
        model.beta = 3.0


def test_factors_of_every_kind_train_and_answer() -> None:
    model = awake(MIXED)
    model.time_spent = 1.0
    image = torch.rand(6, 3, 32, 32) * 2 - 1
    factors = torch.tensor([[0.1 * i, float(i % 2), (i % 3) / 2] for i in range(6)])
    assert all(torch.isfinite(v) for v in model.losses(image, factors).values())
    world = model.method().abduct(image)
    answer = world.predict({"shape": "cone", "size": 0.4})
    assert (answer.factors[:, 2] == 1).all() and torch.isfinite(answer.image).all()


def test_a_few_steps_bring_the_losses_down(graph, small_batch) -> None:
    model = awake(graph).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        terms = model.losses(small_batch["image"], small_batch["factors"])
        optimizer.zero_grad()
        (terms["hvae"] + terms["predictor"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append((terms["mse"].item(), terms["nll"].item()))
    assert history[-1][0] < 0.5 * history[0][0] and history[-1][1] < history[0][1]


def test_a_checkpoint_answers_as_the_model_did(trained, small_batch, tmp_path) -> None:
    checkpoint = {"state_dict": trained.state_dict()}
    trained._trainer = None
    trained.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "model.ckpt")
    loaded = load_method(tmp_path / "model.ckpt")
    assert isinstance(loaded, HierarchicalVAE)
    first, second = (
        m.method().abduct(small_batch["image"]).predict({"light": 0.7}) for m in (trained, loaded)
    )
    assert torch.equal(first.image, second.image)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"finetune": 1.5}, "finetune must lie in"),
        ({"beta_warmup": -0.1}, "beta_warmup must lie in"),
        ({"balance": 2.0}, "balance must lie in"),
    ],
)
def test_shares_out_of_range_are_refused(graph, setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HierarchicalVAE(graph, **setting)


def test_the_benchmark_describes_it(graph: CausalGraph) -> None:
    text = (ROOT / "experiments/benchmarks/methods/hvae_dscm.yaml").read_text()
    model = yaml.safe_load(text)["model"]
    assert model["class_path"] == "diffcf.methods.HierarchicalVAE"
    arguments = model["init_args"]
    for name in ("hvae", "predictor", "nscm"):
        build_network(arguments[name], graph)
    assert HierarchicalVAE(graph, **arguments).spec["hvae"] == arguments["hvae"]
