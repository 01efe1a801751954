"""Compiled steps are the steps they were, and leave nothing behind in what is stored."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from diffcf.causal import Marks
from diffcf.io import SettingsError
from diffcf.methods import DiffusionCounterfactuals
from diffcf.methods.compilation import Compilation, graphs


def _terms(model: DiffusionCounterfactuals, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    torch.manual_seed(3)
    marks = Marks.of(batch)
    return model.losses(batch["image"], batch["factors"], *([] if marks is None else [marks]))


@pytest.fixture(autouse=True)
def _nothing_compiled_yet() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize("marked", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_step_is_one_graph(
    model: DiffusionCounterfactuals, small_batch: dict[str, Tensor], monkeypatch, marked: bool
) -> None:
    """Traced whole, and with the same random numbers the same to the last bit."""
    if marked:
        observed = torch.arange(8)[:, None] % 4 != torch.arange(4)
        factors = small_batch["factors"].masked_fill(~observed, torch.nan)
        small_batch = small_batch | {"factors": factors, "observed": observed}
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **_: compile_(f, backend="eager", fullgraph=True, dynamic=False)
    )
    eager = _terms(model, small_batch)
    model.compilation.wanted = True
    model.compilation.start(torch.device("cpu"))
    before = graphs()
    compiled = _terms(model, small_batch)
    _terms(model, small_batch)
    assert graphs() - before == 1
    assert compiled.keys() == eager.keys()
    for name, value in compiled.items():
        torch.testing.assert_close(value, eager[name])


@pytest.mark.slow
def test_compiled_by_inductor_a_step_and_an_answer_are_the_same(
    model: DiffusionCounterfactuals, small_batch: dict[str, Tensor], monkeypatch
) -> None:
    monkeypatch.setattr("torch._inductor.config.fallback_random", True)
    image, eager = small_batch["image"], _terms(model, small_batch)
    drawn = model.eval().method().abduct(image).predict({"light": 0.7}).image
    keys = list(model.state_dict())
    model.compilation.wanted = True
    model.compilation.start(torch.device("cpu"))
    for name, value in _terms(model.train(), small_batch).items():
        torch.testing.assert_close(value, eager[name], atol=1e-4, rtol=1e-4)
    again = model.eval().method().abduct(image).predict({"light": 0.7}).image
    torch.testing.assert_close(again, drawn, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == keys


def test_auto_compiles_on_a_card_alone() -> None:
    made = Compilation("auto")
    made.start(torch.device("cpu"))
    assert not made.active and made(graphs) is graphs


def test_without_a_compiler_true_says_what_is_missing(monkeypatch) -> None:
    def none() -> str:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", none)
    with pytest.raises(SettingsError, match="compile: true needs a C\\+\\+ compiler"):
        Compilation(True).start(torch.device("cpu"))


def test_a_copy_of_a_model_compiles_its_own_networks(model: DiffusionCounterfactuals) -> None:
    model.compilation = Compilation(True)
    model.compilation.start(torch.device("cpu"))
    assert not deepcopy(model).compilation.active
