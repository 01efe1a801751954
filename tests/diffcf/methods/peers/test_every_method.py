"""What any method of the benchmark owes: each YAML of experiments/benchmarks/methods, untrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from built_methods import METHODS, MIXED, built, mixed_batch
from torch import Tensor

from diffcf.causal.intervention import Intervention
from diffcf.methods import EncodedMethod, load_method
from diffcf.methods.interface import predict_sequence


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return mixed_batch()


each_method = pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)


@each_method
def test_factors_follow_the_graph(path: Path, batch: tuple[Tensor, Tensor]) -> None:
    model, sampling = built(path, MIXED)
    image, factors = batch
    world = model.method(sampling).abduct(image, factors)
    assert torch.equal(world.image, image) and torch.equal(world.factors, factors)
    null = world.predict({})
    assert null.image.shape == image.shape and null.image.abs().max() <= 1
    answer = world.predict({"sun": 0.9})
    assert torch.equal(world.factors_under({"sun": 0.9}), answer.factors), "without drawing too"
    assert answer.factors.shape == factors.shape and answer.image.isfinite().all()
    torch.testing.assert_close(answer.factors[:, 0], torch.full((6,), 0.9), atol=0.02, rtol=0)
    # Neither is caused by the sun.
    torch.testing.assert_close(answer.factors[:, 1:3], null.factors[:, 1:3])


@each_method
def test_it_works_in_the_latents_of_a_first_stage(
    path: Path, batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    model, sampling = built(path, MIXED, latents=True)
    image, factors = batch
    seen = model.seen({"image": image})
    assert seen.shape == (6, 4, 8, 8)
    model.check_form(seen)
    terms = model.losses(seen, factors)
    assert all(value.isfinite() for value in terms.values())
    model.total(terms).backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learned and not any(name.startswith("first_stage") for name in learned)
    model.image_shape = (3, 32, 32)
    world = model.method(sampling).abduct(image, factors)
    null, answer = world.predict({}), world.predict({"sun": 0.9})
    assert torch.equal(world.image, image) and answer.image.shape == image.shape
    assert max(part.image.abs().max() for part in (null, answer)) <= 1
    assert not torch.equal(answer.image, null.image)
    if model.reads:
        method = model.method(sampling)
        assert isinstance(method, EncodedMethod)
        if (read := method.read(image)) is not None:
            assert torch.equal(method.abduct(image).factors, MIXED.clip(read)[0])
        assert model.read(image).shape == (6, sum(MIXED.widths))

    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "latent.ckpt")
    again = load_method(tmp_path / "latent.ckpt").method(sampling).abduct(image, factors)
    assert torch.equal(again.predict({"sun": 0.9}).image, answer.image)


@each_method
def test_answers_do_not_depend_on_the_rest_of_the_batch(
    path: Path, batch: tuple[Tensor, Tensor]
) -> None:
    model, sampling = built(path, MIXED)
    image, factors = batch
    method = model.method(sampling)
    whole = method.abduct(image, factors).predict({"shape": 0.5})
    rows = torch.tensor([4, 1])
    part = method.abduct(image[rows], factors[rows]).predict({"shape": 0.5})
    torch.testing.assert_close(whole.image[rows], part.image, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(whole.factors[rows], part.factors, atol=1e-5, rtol=0)


@each_method
def test_what_is_predicted_beyond_a_range_is_clipped_and_said_so(
    path: Path, batch: tuple[Tensor, Tensor]
) -> None:
    model, sampling = built(path, MIXED)
    for parameter in model.parameters():
        parameter.detach().mul_(3)
    image, factors = batch
    beyond = factors.clone()
    beyond[0, 0], beyond[1, 3], beyond[2, 3] = 1.4, -0.3, 1 + 1e-7
    world = model.method(sampling).abduct(image, beyond)
    assert torch.equal(world.factors, beyond.clamp(0, 1))
    assert world.clipped is not None
    assert world.clipped.nonzero().tolist() == [[0, 0], [1, 3]], "rounding is no clipping"
    do = Intervention.from_do({"sun": 1.0, "shape": "cone"}, MIXED, len(image))
    answer, raw = world.predict(do), world.target(do)
    assert torch.equal(answer.factors, raw.clamp(0, 1))
    assert torch.equal(world.factors_under(do), answer.factors)
    assert torch.equal(answer.clipped, (raw < -1e-6) | (raw > 1 + 1e-6))
    # What was predicted can be set, and setting it changes nothing else.
    pinned = {name: answer.factors[:, k] for k, name in enumerate(MIXED.names)}
    assert torch.equal(world.factors_under(pinned), answer.factors)


@each_method
def test_interventions_in_turn_add_up(path: Path, batch: tuple[Tensor, Tensor]) -> None:
    model, sampling = built(path, MIXED)
    image, factors = batch
    world = model.method(sampling).abduct(image, factors)
    nothing = world.predict({}).intervention
    steps = [
        type(nothing)(torch.full_like(factors, 0.25), torch.arange(4).expand(6, 4) == column)
        for column in (0, 3)
    ]
    last = predict_sequence(world, steps)[-1]
    assert last.intervention.mask[:, [0, 3]].all() and not last.intervention.mask[:, 1:3].any()
    torch.testing.assert_close(last.factors[:, 3], torch.full((6,), 0.25), atol=0.02, rtol=0)


@each_method
def test_a_checkpoint_answers_as_the_model_that_wrote_it(
    path: Path, batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    model, sampling = built(path, MIXED)
    image, factors = batch
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "model.ckpt")
    loaded = load_method(tmp_path / "model.ckpt")
    assert type(loaded) is type(model)
    answers = []
    for either in (model, loaded):
        answers.append(either.method(sampling).abduct(image, factors).predict({"male": 1.0}))
    torch.testing.assert_close(answers[0].image, answers[1].image)
    torch.testing.assert_close(answers[0].factors, answers[1].factors)


@each_method
def test_every_network_learns(path: Path, batch: tuple[Tensor, Tensor]) -> None:
    model, _ = built(path, MIXED)
    model.time_spent = 0.9  # late in training everything takes part
    terms = model.train().losses(*batch)
    assert all(term.dim() == 0 and term.isfinite() for term in terms.values())
    sum(term for term in terms.values() if term.requires_grad).backward()
    for name, network in model.networks():
        assert any(p.grad is not None and p.grad.any() for p in network.parameters()), name


@each_method
def test_factors_are_read_or_asked_for(path: Path, batch: tuple[Tensor, Tensor]) -> None:
    model, sampling = built(path, MIXED)
    if model.reads:
        world = model.method(sampling).abduct(batch[0])
        assert world.factors.shape == batch[1].shape and world.factors.isfinite().all()
        assert model.read(batch[0]).shape == (6, sum(MIXED.widths))
    else:
        with pytest.raises(ValueError, match="reads no factors"):
            model.method(sampling).abduct(batch[0])


@each_method
def test_each_method_states_the_search_that_chose_its_settings(path: Path) -> None:
    stated = yaml.safe_load(path.read_text())

    def current(key: str) -> Any:
        value: Any = stated
        for part in key.split("."):
            value = value[part]
        return value

    assert any(all(current(k) == v for k, v in entry.items()) for entry in stated["search"])
