from __future__ import annotations

from functools import partial

import pytest
import torch
from stirring import stir

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.nscm import NSCM
from diffcf.io.errors import CheckpointError, SettingsError
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.schedule import warm_cosine
from diffcf.networks.factory import build_network, network_spec
from diffcf.networks.unet import UNet


def test_every_loss_term_is_named_finite_and_learns_its_own_network(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    stir(model)
    terms = model.losses(small_batch["image"], small_batch["factors"])
    assert {"generator", "projector", "nscm", "mixed"} <= set(terms)
    for name in ("generator", "projector", "nscm"):
        model.zero_grad()
        terms[name].backward()
        for other in ("generator", "projector", "nscm"):
            grads = [p.grad for p in getattr(model, other).parameters()]
            reached = any(g is not None and g.any() for g in grads)
            assert reached == (name == other), f"{name} → {other}"


@pytest.mark.parametrize(
    ("progress", "learning"),
    [(0.1, {"projector", "nscm"}), (0.5, {"projector", "nscm", "generator"}),
     (0.9, {"nscm", "generator"})],
)  # fmt: skip
def test_each_network_learns_in_its_own_time(
    progress: float, learning: set[str], model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    stir(model)
    model.head_start, model.projector_end, model.time_spent = 0.3, 0.7, progress
    model.total(model.train().losses(small_batch["image"], small_batch["factors"])).backward()
    for name in ("generator", "projector", "nscm"):
        gradients = [p.grad for p in model.get_submodule(name).parameters()]
        assert all(gradient is not None for gradient in gradients), "as DDP wants it"
        assert any(gradient.any() for gradient in gradients) == (name in learning), name
        rate = warm_cosine(progress, 0.1, *model.course_of(name))
        assert (rate > 0) == (name in learning), name
    every = model.eval().losses(small_batch["image"], small_batch["factors"])
    assert all(every[name] != 0 for name in ("generator", "projector", "nscm")), "in validation"


@pytest.mark.parametrize("end", [0.0, 0.3, 1.01])
def test_a_projector_is_learned_after_the_head_start(end: float, graph: CausalGraph) -> None:
    with pytest.raises(SettingsError, match="projector_end is a share of the training above"):
        DiffusionCounterfactuals(graph, head_start=0.3, projector_end=end)


def test_a_learned_graph_adds_its_penalties(graph: CausalGraph, small_batch: dict) -> None:
    model = DiffusionCounterfactuals(
        graph,
        generator=partial(UNet, channels=[8, 16], condition=16, attention_heads=2),
        nscm=partial(NSCM, hidden=[8], learned_graph=True),
    )
    terms = model.losses(small_batch["image"], small_batch["factors"])
    assert {"acyclicity", "sparsity"} <= set(terms)


def test_weights_weigh(model: DiffusionCounterfactuals, small_batch: dict) -> None:
    model.weights = {"generator": 0.0, "projector": 0.0, "nscm": 2.0}
    model.log = model.log_dict = lambda *args, **kwargs: None
    model._trainer = None
    model.__dict__["mixing"] = None
    total = model.training_step(small_batch, 0)
    expected = 2.0 * model.nscm.loss(small_batch["factors"])["nscm"]
    torch.testing.assert_close(total, expected)


def test_a_loss_that_is_not_finite_stops_training_and_is_named(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    model.log = model.log_dict = lambda *args, **kwargs: None
    with torch.no_grad():
        model.generator.head[-1].bias.fill_(torch.inf)
    with pytest.raises(FloatingPointError, match=r"'generator' is (nan|inf) at step 0"):
        for step in range(40):  # the host does not wait for the value of every step
            model.training_step(small_batch, step)


def test_weights_that_are_not_finite_are_never_saved(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    model.log = model.log_dict = lambda *args, **kwargs: None
    with torch.no_grad():
        model.generator.head[-1].bias.fill_(torch.inf)
    model.training_step(small_batch, 0)
    with pytest.raises(FloatingPointError, match="at step 0"):
        model.on_save_checkpoint({})


def test_networks_survive_as_text(graph: CausalGraph) -> None:
    spec = network_spec(partial(NSCM, hidden=[8]))
    assert spec == {"class_path": "diffcf.causal.NSCM", "init_args": {"hidden": [8]}}
    assert isinstance(build_network(spec, graph), NSCM)
    assert network_spec(spec) == spec


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"class_path": "diffcf.causal.nscm.Nothing"},
            "'diffcf.causal.nscm.Nothing' cannot be imported",
        ),
        ({"class_path": "os.path.join"}, "is not a torch.nn.Module"),
        ({"class_path": "diffcf.causal.nscm.NSCM", "init_args": {"x": 1}}, "does not take these"),
    ],
)
def test_networks_that_cannot_be_built_are_named(graph, spec: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(spec, graph)


def _save(model: DiffusionCounterfactuals, path) -> None:
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)


def test_a_checkpoint_made_in_plain_python_reloads_without_pickled_code(
    model: DiffusionCounterfactuals, small_batch: dict, tmp_path
) -> None:
    model._trainer = None
    _save(model, tmp_path / "model.ckpt")
    loaded = DiffusionCounterfactuals.load_from_checkpoint(tmp_path / "model.ckpt")
    assert loaded.graph == model.graph
    image, t = small_batch["image"], torch.zeros(8)
    torch.testing.assert_close(
        loaded.projector(image, t).mean, model.eval().projector(image, t).mean
    )


def test_wrong_checkpoints_are_refused_in_one_sentence(model, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        DiffusionCounterfactuals.load_from_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read"):
        DiffusionCounterfactuals.load_from_checkpoint(tmp_path / "text.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="not written by diffcf"):
        DiffusionCounterfactuals.load_from_checkpoint(tmp_path / "other.ckpt")
    checkpoint: dict = {}
    model._trainer = None
    model.on_save_checkpoint(checkpoint)
    other = DiffusionCounterfactuals(CausalGraph([Factor("age")]))
    with pytest.raises(CheckpointError, match=r"another graph, CausalGraph\(angle"):
        other.on_load_checkpoint(checkpoint)
