"""Changes that the data do not teach: the picture keeps the factual, and the answer says so."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from stirring import stir
from torch import Tensor

import diffcf
from data_modules import SunlightDataModule
from data_modules.scenes import SunlightScene
from diffcf.api import Model
from diffcf.app.gallery import Subject
from diffcf.app.inference import open_worlds
from diffcf.app.session import Session
from diffcf.causal.graph import CausalGraph
from diffcf.causal.intervention import Intervention
from diffcf.causal.nscm import NSCM
from diffcf.causal.tie_search import find_ties
from diffcf.causal.ties import Function, Ties
from diffcf.commands.main import main
from diffcf.diffusion import ClassifierFree, ConstantGuidance, Feedback
from diffcf.methods import (
    CounterfactualEngine,
    DiffusionCounterfactuals,
    Sampling,
    load_method,
    predict_sequence,
    write_weights,
)
from diffcf.networks import LocalPosteriorProjector, NetworkFactory, RegionMixer, UNet
from diffcf.networks.first_stage import ConvAutoencoder

SCENE = SunlightScene()
GRID = SCENE.published_grid()
TIES = find_ties(SCENE.graph, GRID)
FLOOR = SCENE.graph.column("floor_colour")
LIGHT = SCENE.graph.column("light_colour")
AREA = SCENE.graph.column("shadow_area")
AREA_OF = Function("shadow_area", ("shape", "size", "light_position"), 0.003)


class TrueModel:
    """The scene's own causal model, in place of an NSCM that has learned it."""

    graph: CausalGraph = SCENE.graph

    def abduct(self, factors: Tensor, keys: Tensor | None = None) -> Tensor:
        return factors.new_zeros(len(factors), sum(self.graph.widths))

    def predict(self, factors: Tensor, exogenous: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        return SCENE.counterfactual(factors, values, mask)


def made(
    first_stage: NetworkFactory | None = None,
    mixing: NetworkFactory | None = None,
    **form: int,
) -> DiffusionCounterfactuals:
    model = DiffusionCounterfactuals(
        SCENE.graph,
        generator=partial(UNet, channels=[8, 16], condition=16, attention_heads=2, **form),
        projector=partial(LocalPosteriorProjector, channels=8, condition=8, **form),
        nscm=partial(NSCM, hidden=[8]),
        first_stage=first_stage,
        mixing=mixing,
    )
    stir(model)
    return model.eval()


@pytest.fixture
def networks() -> DiffusionCounterfactuals:
    return made()


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    factors = GRID[:: len(GRID) // 3][:3]
    return SCENE.render(factors, 32), factors


def engine(
    model: DiffusionCounterfactuals, sampling: Sampling, ties: Ties | None = TIES
) -> CounterfactualEngine:
    return CounterfactualEngine(model.generator, model.projector, TrueModel(), sampling, ties=ties)


def other(colour: Tensor) -> Tensor:
    """The next of the six colours."""
    return ((5 * colour).round() + 1) % 6 / 5


SAMPLINGS = {
    "plain": Sampling(steps=2),
    "anchored and guided": Sampling(ConstantGuidance(3.0), steps=2, anchored=True),
    "free in groups": Sampling(steps=2, free=ClassifierFree(2.0, kept=1.3)),
    "free from the factual": Sampling(
        steps=2, anchored=True, free=ClassifierFree(2.0, from_factual=True)
    ),
    "feedback": Sampling(steps=2, anchored=True, feedback=Feedback(1.0)),
    "guidance alone": Sampling(ConstantGuidance(3.0), steps=2, conditional=False),
}


@pytest.mark.parametrize("name", SAMPLINGS)
def test_a_floor_set_alone_leaves_the_picture_as_nothing_does(networks, batch, name: str) -> None:
    image, factors = batch
    world = engine(networks, SAMPLINGS[name]).abduct(image, factors)
    answer = world.predict({"floor_colour": other(factors[:, FLOOR])})
    assert torch.equal(answer.image, world.predict({}).image)
    assert torch.equal(answer.factors[:, FLOOR], other(factors[:, FLOOR])), "as it was set"
    assert answer.undetermined.nonzero().tolist() == [[row, FLOOR] for row in range(3)]
    free = engine(networks, SAMPLINGS[name], ties=None).abduct(image, factors)
    drawn = free.predict({"floor_colour": other(factors[:, FLOOR])})
    assert not torch.equal(drawn.image, answer.image) and drawn.undetermined is None


@pytest.mark.parametrize("name", SAMPLINGS)
def test_a_light_whose_floor_follows_is_drawn(networks, batch, name: str) -> None:
    image, factors = batch
    do = {"light_colour": other(factors[:, LIGHT])}
    answer = engine(networks, SAMPLINGS[name]).abduct(image, factors).predict(do)
    free = engine(networks, SAMPLINGS[name], ties=None).abduct(image, factors).predict(do)
    assert torch.equal(answer.image, free.image)
    assert torch.equal(answer.factors[:, FLOOR], other(factors[:, FLOOR]))
    assert not answer.undetermined.any()


def test_other_interventions_beside_it_are_drawn(networks, batch) -> None:
    image, factors = batch
    world = engine(networks, Sampling(steps=2)).abduct(image, factors)
    both = world.predict({"floor_colour": other(factors[:, FLOOR]), "size": 0.9})
    assert torch.equal(both.image, world.predict({"size": 0.9}).image)
    held = world.predict({"light_colour": other(factors[:, LIGHT]), "floor_colour": factors[0, 4]})
    assert held.undetermined[:, LIGHT].any(), "a light whose floor is held"


def test_each_image_is_judged_by_itself(networks, batch) -> None:
    image, factors = batch
    sampling = Sampling(steps=2)
    values, mask = factors.clone(), torch.zeros_like(factors, dtype=torch.bool)
    mask[0, FLOOR] = mask[1, LIGHT] = mask[2, FLOOR] = mask[2, LIGHT] = True
    values[0, FLOOR] = other(factors[0, FLOOR])
    values[1, LIGHT] = other(factors[1, LIGHT])
    values[2, [FLOOR, LIGHT]] = other(factors[2, LIGHT])
    do = Intervention(values, mask)
    answer = engine(networks, sampling).abduct(image, factors).predict(do)
    free = engine(networks, sampling, ties=None).abduct(image, factors)
    assert torch.equal(answer.image[0], free.predict({}).image[0])
    assert torch.equal(answer.image[1:], free.predict(do).image[1:])
    assert answer.undetermined.nonzero().tolist() == [[0, FLOOR]]


def test_it_can_be_drawn_anyway(networks, batch) -> None:
    image, factors = batch
    do = {"floor_colour": other(factors[:, FLOOR])}
    sampling = Sampling(steps=2, undetermined="draw")
    answer = engine(networks, sampling).abduct(image, factors).predict(do)
    free = engine(networks, sampling, ties=None).abduct(image, factors).predict(do)
    assert torch.equal(answer.image, free.image)
    assert answer.undetermined[:, FLOOR].all(), "and is said all the same"
    with pytest.raises(ValueError, match="keep or draw, not 'guess'"):
        Sampling(undetermined="guess")  # type: ignore[arg-type]


def test_a_sequence_goes_on_from_what_was_drawn(networks, batch) -> None:
    image, factors = batch
    world = engine(networks, Sampling(steps=2, anchored=True)).abduct(image, factors)
    dos = [{"floor_colour": other(factors[:, FLOOR])}, {"size": 0.9}]
    first, second = predict_sequence(world, [world.intervention(do) for do in dos])
    torch.testing.assert_close(first.image, image, atol=1e-4, rtol=0)
    alone = world.predict({"size": 0.9})
    torch.testing.assert_close(second.image, alone.image, atol=1e-3, rtol=0)
    chosen = world.select(torch.tensor([1, 1]))
    again = chosen.predict({"floor_colour": other(factors[1:2, FLOOR]).expand(2)})
    assert again.undetermined[:, FLOOR].all()


# --- functions of several causes ---


@pytest.mark.parametrize("name", SAMPLINGS)
def test_an_area_set_alone_leaves_the_picture_and_one_that_follows_is_drawn(
    networks, batch, name: str
) -> None:
    image, factors = batch
    world = engine(networks, SAMPLINGS[name], Ties(SCENE.graph, [], [AREA_OF])).abduct(
        image, factors
    )
    free = engine(networks, SAMPLINGS[name], None).abduct(image, factors)
    alone = {"shadow_area": (factors[:, AREA] + 0.5) % 1}
    answer = world.predict(alone)
    assert torch.equal(answer.image, world.predict({}).image)
    assert answer.undetermined.nonzero().tolist() == [[row, AREA] for row in range(3)]
    assert not torch.equal(free.predict(alone).image, answer.image)
    moved = world.predict({"size": 0.9})
    assert torch.equal(moved.image, free.predict({"size": 0.9}).image)
    assert not moved.undetermined.any()
    as_it_follows = {"size": 0.9, "shadow_area": moved.factors[:, AREA]}
    assert not world.predict(as_it_follows).undetermined.any()
    against = world.predict({"size": 0.9, "shadow_area": (moved.factors[:, AREA] + 0.5) % 1})
    assert against.undetermined[:, AREA].all()
    assert torch.equal(against.image, world.predict(as_it_follows).image), "what follows is drawn"


def test_composites_teach_what_functions_leave_open() -> None:
    model, mixing = made(), made(mixing=RegionMixer)
    for each in (model, mixing):
        each.ties = Ties(SCENE.graph, TIES.all, [AREA_OF])
    assert model.untaught is not None and model.untaught.functions == (AREA_OF,)
    assert mixing.untaught is not None and mixing.untaught.functions == ()
    assert mixing.untaught.all == model.untaught.all == TIES.all


@pytest.mark.parametrize("mixing", [None, RegionMixer])
def test_weights_know_whether_composites_taught_them(mixing, tmp_path: Path) -> None:
    """Whoever loads them has no configuration: the mixing is not part of the networks."""
    model = made(mixing=mixing)
    model.ties = Ties(SCENE.graph, TIES.all, [AREA_OF])
    write_weights(model, Sampling(steps=2), tmp_path / "a.safetensors")
    again = load_method(tmp_path / "a.safetensors")
    assert again.untaught is not None
    assert again.untaught.functions == (() if mixing else (AREA_OF,))
    write_weights(again, Sampling(steps=2), tmp_path / "copy.safetensors")
    copy = load_method(tmp_path / "copy.safetensors")
    assert copy.untaught is not None and copy.untaught.functions == again.untaught.functions


def test_latents_keep_the_factual_too(batch) -> None:
    image, factors = batch
    stage = partial(ConvAutoencoder, latent_channels=4, channels=[8, 16])
    model = made(stage, image_channels=4, patch=1)
    model.ties = TIES
    world = model.method(Sampling(steps=2)).abduct(image, factors)
    answer = world.predict({"floor_colour": other(factors[:, FLOOR])})
    assert torch.equal(answer.image, world.predict({}).image)
    assert answer.undetermined[:, FLOOR].all()


# --- in Python, files and commands ---


def test_python_and_the_explorer_say_so(networks, batch) -> None:
    image, factors = batch
    networks.ties = TIES
    model = Model(networks, Sampling(steps=2))
    answer = model.counterfactual(image, {"floor_colour": other(factors[:, FLOOR])}, factors)
    assert answer.undetermined.nonzero().tolist() == [[row, FLOOR] for row in range(3)]
    worlds = open_worlds(model, Subject(image[0], "one", factors[0], SCENE))
    session = Session(worlds)
    assert not session.undetermined
    floor = SCENE.graph.factors[FLOOR]
    session.set("floor_colour", floor.text(float(other(factors[0, FLOOR]))))
    assert list(session.undetermined) == ["floor_colour"]
    networks.ties = None
    silent = Model(networks, Sampling(steps=2))
    untold = silent.counterfactual(image, {"floor_colour": other(factors[:, FLOOR])}, factors)
    assert not untold.undetermined.any(), "weights that do not know their data"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Trained for a step."""
    path = tmp_path_factory.mktemp("sunlight") / "last.ckpt"
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_steps=1, accelerator="cpu", enable_checkpointing=False, limit_val_batches=0, **quiet
    )
    data = SunlightDataModule(32, batch_size=8, train_size=200, val_size=2, test_size=2)
    trainer.fit(made(), data)
    trainer.save_checkpoint(path)
    return path


def test_fit_finds_ties_and_weights_keep_them(run: Path, tmp_path: Path) -> None:
    model = load_method(run)
    assert model.ties is not None
    assert [(tie.first, tie.second) for tie in model.ties.all] == [("light_colour", "floor_colour")]
    model.ties = Ties(SCENE.graph, model.ties.all, [AREA_OF])
    write_weights(model, Sampling(steps=2), tmp_path / "a.safetensors")
    again = load_method(tmp_path / "a.safetensors")
    assert again.ties is not None and again.ties.all == model.ties.all
    assert again.ties.functions == (AREA_OF,)
    model.ties = None
    write_weights(model, Sampling(steps=2), tmp_path / "old.safetensors")
    assert load_method(tmp_path / "old.safetensors").ties is None


def test_shipped_weights_know_no_ties_and_answer_as_ever(graph, small_batch) -> None:
    model = diffcf.load("pendulum", sampling=Sampling(steps=2))
    assert model.module.ties is None
    answer = model.counterfactual(small_batch["image"], {"shadow_length": 0.9})
    assert not answer.undetermined.any()


def test_the_command_warns_and_its_record_names_them(run: Path, tmp_path: Path, capsys) -> None:
    config = tmp_path / "data.yaml"
    config.write_text(
        "class_path: data_modules.SunlightDataModule\n"
        "init_args: {image_size: 32, batch_size: 2, train_size: 4, val_size: 2, test_size: 3}\n"
    )
    export = ["export", str(config), str(tmp_path / "few"), "--splits", "[test]"]
    assert main(export) == 0
    ask = ["counterfactual", str(run), str(tmp_path / "few/images"), "--steps", "2"]
    ask += ["--factors", str(tmp_path / "few/factors.csv"), "--do", "floor_colour=Coral"]
    capsys.readouterr()
    pictures = {}
    for way in ("keep", "draw"):
        out = tmp_path / way
        assert main([*ask, "--undetermined", way, "--out", str(out)]) == 0
        said = capsys.readouterr().err
        rows = json.loads((out / "factors.json").read_text())["images"]
        changed = [n for n, r in rows.items() if r["factual"][FLOOR] != r["target"][0][FLOOR]]
        named = {name: row["undetermined"] for name, row in rows.items()}
        assert changed and all((named[n] == ["floor_colour"]) == (n in changed) for n in named)
        assert "Warning: floor_colour is not determined: it goes with light_colour" in said
        assert ("keep what the factual shows" in said) == (way == "keep")
        pictures[way] = [(out / f"{name}.png").read_bytes() for name in changed]
    assert pictures["keep"] != pictures["draw"]
