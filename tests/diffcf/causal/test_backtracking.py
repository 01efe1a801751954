"""Backtracking: causes that would have led to a value, by the mechanisms as they are."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from small_nscms import CATEGORICAL, CONTINUOUS, make
from stirring import stir
from torch import Tensor

from diffcf.api import Model
from diffcf.causal import NSCM, Intervention, backtrack, row_keys
from diffcf.commands.main import main
from diffcf.io import InterventionError, SettingsError
from diffcf.methods import CausalVAE, DiffusionCounterfactuals, Sampling, write_weights
from diffcf.networks import LocalPosteriorProjector, UNet
from diffcf.reporting import save_image

LENGTH = CONTINUOUS.column("length")


def wanted(values: Tensor, column: int, like: Tensor) -> Intervention:
    mask = (torch.arange(like.shape[1]) == column).expand(like.shape)
    return Intervention(torch.where(mask, values[:, None], 0.0), mask)


def factual(nscm: NSCM, count: int = 6) -> tuple[Tensor, Tensor]:
    keys = row_keys(torch.arange(count), 3)
    nothing = torch.zeros(count, len(nscm.graph))
    factors = nscm.draw(keys, nothing, nothing.bool())[0].detach().clamp(0, 1)
    return factors, nscm.abduct(factors, keys).detach().float()


def test_the_value_comes_out_of_the_mechanisms() -> None:
    nscm = make(CONTINUOUS)
    factors, exogenous = factual(nscm)
    other = factors[:, LENGTH].roll(1)  # one that some causes lead to
    found = backtrack(nscm, factors, exogenous, wanted(other, LENGTH, factors))
    assert found.reached.all()
    decoded = nscm.decode(found.exogenous).float()
    torch.testing.assert_close(decoded[:, LENGTH], other, atol=5e-3, rtol=0)
    made = torch.where(found.do.mask, found.do.values, factors)
    torch.testing.assert_close(made, decoded, atol=5e-3, rtol=0)
    torch.testing.assert_close(made[:, LENGTH], other)
    torch.testing.assert_close(found.distance, (found.exogenous - exogenous).norm(dim=1))
    # Noise of what is no cause of it has no reason to move.
    still = CONTINUOUS.column("position")
    torch.testing.assert_close(found.exogenous[:, still], exogenous[:, still], atol=1e-3, rtol=0)


def test_no_nearer_noise_does_it() -> None:
    nscm = make(CONTINUOUS)
    factors, exogenous = factual(nscm, 1)
    value = factors[:, LENGTH] + 0.1
    found = backtrack(nscm, factors, exogenous, wanted(value, LENGTH, factors))
    tried = exogenous + torch.randn(50_000, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        does = (nscm.decode(tried)[:, LENGTH] - value).abs() < 1e-3
    nearest = (tried[does] - exogenous).norm(dim=1).min()
    assert found.distance[0] < nearest + 0.02


def test_the_factual_value_moves_nothing_and_an_answer_is_that_of_its_image() -> None:
    nscm = make(CONTINUOUS)
    factors, exogenous = factual(nscm)
    same = backtrack(nscm, factors, exogenous, wanted(factors[:, LENGTH], LENGTH, factors))
    assert (same.distance < 0.05).all() and same.reached.all()
    other = factors[:, LENGTH].roll(1)
    whole = backtrack(nscm, factors, exogenous, wanted(other, LENGTH, factors))
    row = slice(2, 3)
    alone = backtrack(nscm, factors[row], exogenous[row], wanted(other[row], LENGTH, factors[row]))
    torch.testing.assert_close(alone.do.values, whole.do.values[row], atol=1e-3, rtol=0)


def test_discrete_factors_cannot_be_backtracked_from() -> None:
    nscm = make(CATEGORICAL)
    factors, exogenous = factual(nscm)
    lit = CATEGORICAL.column("lit")
    with pytest.raises(InterventionError, match="lit is binary"):
        backtrack(nscm, factors, exogenous, wanted(1 - factors[:, lit], lit, factors))
    size = CATEGORICAL.column("size")
    found = backtrack(nscm, factors, exogenous, wanted(factors[:, size] * 0.9, size, factors))
    shape = CATEGORICAL.column("shape")  # a cause whose noise is a draw stays
    assert not found.do.mask[:, shape].any()


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    module = DiffusionCounterfactuals(
        CONTINUOUS,
        generator=partial(UNet, channels=[8, 16], condition=16, attention_heads=2),
        projector=partial(LocalPosteriorProjector, channels=8, condition=8),
        nscm=partial(NSCM, hidden=[8]),
        mixing=None,
    )
    stir(module)
    module.image_shape = (3, 32, 32)
    return Model(module.eval(), Sampling(steps=2))


def test_python_answers_with_the_causes(model: Model) -> None:
    images, factors = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 4)
    abducted = model.abduct(images, factors)
    answer = abducted.backtrack({"light": 0.3})  # of a root, the root itself
    torch.testing.assert_close(answer.target[:, 1], torch.full((2,), 0.3))
    assert answer.reached.all() and answer.intervened[:, 1].all()
    assert not answer.intervened[:, 0].any()
    moved = abducted.predict({"light": 0.3})
    torch.testing.assert_close(answer.target, moved.target, atol=2e-2, rtol=0)
    peer = CausalVAE(CONTINUOUS)
    peer.image_shape = (3, 32, 32)
    with pytest.raises(SettingsError, match="backtrack"):
        Model(peer.eval(), Sampling()).abduct(images, factors).backtrack({"light": 0.3})


def test_the_command_says_how_far_fetched_the_causes_are(
    model: Model, tmp_path: Path, capsys
) -> None:
    weights, out = tmp_path / "small.safetensors", tmp_path / "out"
    write_weights(model.module, model.sampling, weights)
    save_image(torch.rand(3, 32, 32), tmp_path / "one.png")
    ask = ["counterfactual", str(weights), str(tmp_path / "one.png"), "--do", "light=0.3"]
    ask += ["--backtrack", "true", "--out", str(out)]
    assert main([*ask, "--then", "angle=0.2"]) == 2 and "--backtrack" in capsys.readouterr().err
    assert main(ask) == 0
    record = json.loads((out / "factors.json").read_text())
    row = record["images"]["one"]
    assert row["distance"] > 0 and row["reached"] is True and "light" in row["intervened"]
    assert record["backtrack"] is True
