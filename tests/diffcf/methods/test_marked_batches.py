"""Training on rows that lack labels, and on rows in which somebody set a factor."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from built_methods import METHODS, MIXED, built, mixed_batch
from stirring import stir
from torch import Tensor
from torch.nn import functional as F

from diffcf.causal import CausalGraph, Marks
from diffcf.causal.nscm import NSCM
from diffcf.io import SettingsError
from diffcf.methods import CounterfactualModule
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.peers.conditional import ConditionalDiffusion
from diffcf.networks.projector import LocalPosteriorProjector
from diffcf.networks.unet import UNet

each_method = pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
GENERATOR = partial(UNet, channels=[8, 16], condition=16, attention_heads=2)


def gradients(model: CounterfactualModule, network: str, *batch: Any) -> list[Tensor]:
    """Of all that is minimised, to one network; by the same random numbers every time."""
    model.zero_grad()
    torch.manual_seed(0)
    model.total(model.train().losses(*batch)).backward()
    parameters = model.get_submodule(network).parameters()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    assert any(gradient.any() for gradient in expected)
    for gradient, other in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-8)


def marked(factors: Tensor) -> tuple[Tensor, Marks]:
    """Factors without some labels, the rows with the most not first, and their marks."""
    observed = torch.ones_like(factors, dtype=torch.bool)
    observed[0], observed[2, 1:], observed[3, 0] = False, False, False
    intervened = torch.zeros_like(observed)
    intervened[4, 3] = intervened[5, 0] = True
    return factors.masked_fill(~observed, torch.nan), Marks(observed, intervened)


@each_method
def test_every_method_learns_from_what_is_there(path: Path) -> None:
    model, _ = built(path, MIXED)
    model.time_spent = 0.9  # late in training everything takes part
    image, factors = mixed_batch()
    terms = model.train().losses(image, *marked(factors))
    assert all(term.dim() == 0 and term.isfinite() for term in terms.values())
    model.total(terms).backward()
    for name, network in model.networks():
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        assert any(g.any() for g in grads) and all(g.isfinite().all() for g in grads), name


@each_method
def test_marks_that_mark_nothing_change_nothing(path: Path) -> None:
    model, _ = built(path, MIXED)
    model.time_spent = 0.9
    batch = mixed_batch()
    whole = torch.ones_like(batch[1], dtype=torch.bool)
    found = []
    for given in (batch, (*batch, Marks(whole, ~whole))):
        torch.manual_seed(0)
        found.append(model.train().losses(*given))
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, msg=name)


CAUSAL = {
    "causal_diffae": "mechanisms",
    "causal_vae": "causal",
    "classifier_free": "nscm",
    "decoupled_guidance": "nscm",
    "diff_scm": "nscm",
    "hvae_dscm": "nscm",
}


@pytest.mark.parametrize("method", CAUSAL)
def test_no_method_fits_a_mechanism_to_what_was_set(method: str) -> None:
    model, _ = built(METHODS[0].with_stem(method), MIXED)
    image, factors = mixed_batch()
    whole = torch.ones_like(factors, dtype=torch.bool)
    terms = {"nscm": "nscm", "mechanisms": "mechanisms", "causal": "mask"}
    name = terms[CAUSAL[method]]
    term = model.train().losses(image, factors, Marks(whole, whole))[name]
    term.backward()
    network = model.get_submodule(CAUSAL[method])
    assert not any(p.grad is not None and p.grad.any() for p in network.parameters())
    model.losses(image, factors, Marks(whole, ~whole))[name].backward()
    assert any(p.grad is not None and p.grad.any() for p in network.parameters())


# --- the generator's condition ---


def graph_of(batch: dict[str, Tensor]) -> CausalGraph:
    names = [f"f{k}" for k in range(batch["factors"].shape[1])]
    return CausalGraph.from_dict({"factors": {n: {} for n in names}, "edges": [["f0", "f2"]]})


def ours(graph: CausalGraph, **settings: Any) -> DiffusionCounterfactuals:
    torch.manual_seed(0)
    projector = partial(LocalPosteriorProjector, channels=8, condition=8)
    networks = {"generator": GENERATOR, "projector": projector, "nscm": partial(NSCM, hidden=[8])}
    model = DiffusionCounterfactuals(graph, **networks, **settings)
    stir(model)
    model._trainer = None
    return model


def conditional(graph: CausalGraph, **settings: Any) -> ConditionalDiffusion:
    torch.manual_seed(0)
    model = ConditionalDiffusion(graph, GENERATOR, partial(NSCM, hidden=[8]), **settings)
    stir(model)
    model._trainer = None
    return model


@pytest.mark.parametrize("kind", [ours, conditional])
def test_a_dropped_label_conditions_the_generator_on_nothing(kind: Any, small_batch: dict) -> None:
    graph = graph_of(small_batch)
    image, factors = small_batch["image"], small_batch["factors"]
    nothing = torch.zeros_like(factors, dtype=torch.bool)
    never = {"factor_dropout": 0.0, "all_dropout": 0.0}
    missing = torch.full_like(factors, torch.nan), Marks(nothing, nothing)
    found = gradients(kind(graph, **never), "generator", image, *missing)
    always = {"factor_dropout": 0.0, "all_dropout": 1.0}
    assert_equal(found, gradients(kind(graph, **always), "generator", image, factors))
    told = gradients(kind(graph, **never), "generator", image, factors)
    assert any(not torch.allclose(g, other) for g, other in zip(found, told, strict=True))


def test_a_missing_label_leaves_the_condition_on_the_others(small_batch: dict) -> None:
    graph = graph_of(small_batch)
    image, factors = small_batch["image"], small_batch["factors"]
    model = ours(graph, factor_dropout=0.0, all_dropout=0.0)
    observed = torch.ones_like(factors, dtype=torch.bool)
    observed[:, 1] = False
    marks = Marks(observed, torch.zeros_like(observed))
    given = factors.masked_fill(~observed, torch.nan)
    base = gradients(model, "generator", image, given, marks)
    other = given.clone()
    other[:, 0] = 1 - other[:, 0]
    moved = gradients(model, "generator", image, other, marks)
    assert any(not torch.allclose(g, o) for g, o in zip(base, moved, strict=True))


# --- the projector ---


def test_the_projector_learns_nothing_of_a_factor_without_labels(small_batch: dict) -> None:
    graph = graph_of(small_batch)
    image, factors = small_batch["image"], small_batch["factors"]
    model = ours(graph)
    observed = torch.ones_like(factors, dtype=torch.bool)
    observed[:, 1] = False
    marks = Marks(observed, torch.zeros_like(observed))
    gradients(model, "projector", image, factors.masked_fill(~observed, torch.nan), marks)
    head = model.get_submodule("projector").head.weight.grad.flatten(1).any(dim=1)
    assert head.tolist() == [True, False, True, True] * 2, "mean and scale of every factor"


def test_the_projector_is_trained_on_the_rows_with_most_labels(small_batch: dict) -> None:
    """Half of a batch trains it: here the half that has labels, wherever it stands."""
    graph = graph_of(small_batch)
    image, factors = small_batch["image"], small_batch["factors"]
    model = ours(graph, projector_share=0.5)
    observed = torch.zeros_like(factors, dtype=torch.bool)
    observed[4:] = True
    marks = Marks(observed, torch.zeros_like(observed))
    given = factors.masked_fill(~observed, torch.nan)
    torch.manual_seed(0)
    found = model.train().losses(image, given, marks)["projector"]
    torch.manual_seed(0)
    first = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3])
    expected = model.losses(image[first], factors[first])["projector"]
    torch.testing.assert_close(found, expected)


def test_pseudo_labels_teach_the_generator_alone(small_batch: dict) -> None:
    graph = graph_of(small_batch)
    image, factors = small_batch["image"], small_batch["factors"]
    observed = torch.zeros_like(factors, dtype=torch.bool)
    observed[:2] = True
    batch = (
        image,
        factors.masked_fill(~observed, torch.nan),
        Marks(observed, torch.zeros_like(observed)),
    )
    for network, changes in (("projector", False), ("generator", True), ("nscm", False)):
        found = [
            gradients(ours(graph, pseudo_labels=sure, all_dropout=0.0), network, *batch)
            for sure in (0.0, 10.0)  # never, and always
        ]
        same = all(torch.allclose(a, b) for a, b in zip(*found, strict=True))
        assert same != changes, network


# --- batches of a data module ---


def test_a_step_takes_the_marks_of_its_batch(small_batch: dict) -> None:
    graph = graph_of(small_batch)
    model = ours(graph)
    model.log = model.log_dict = lambda *args, **kwargs: None
    nothing = torch.zeros_like(small_batch["factors"], dtype=torch.bool)
    # Of factors that are not observed no value counts, NaN or not.
    batch = small_batch | {"observed": nothing}
    model.training_step(batch, 0).backward()
    for network in ("projector", "nscm"):
        parameters = model.get_submodule(network).parameters()
        assert not any(p.grad is not None and p.grad.any() for p in parameters)


def test_a_method_that_knows_no_marks_says_so(small_batch: dict) -> None:
    class Unmarked(ConditionalDiffusion):
        def losses(self, image: Tensor, factors: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            return {"mean": F.mse_loss(self.generator(image, factors[:, 0]), image)}

    graph = graph_of(small_batch)
    model = Unmarked(graph, GENERATOR, partial(NSCM, hidden=[8]))
    model.log = model.log_dict = lambda *args, **kwargs: None
    model._trainer = None
    model.training_step(small_batch, 0)
    marked = small_batch | {"intervened": torch.ones_like(small_batch["factors"]).bool()}
    with pytest.raises(SettingsError, match=r"^Unmarked knows neither missing labels nor"):
        model.training_step(marked, 0)
