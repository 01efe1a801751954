"""``diffcf onnx``: what onnxruntime computes, what is written beside it, and what is refused."""

from __future__ import annotations

import hashlib
import json
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import onnxruntime
import pytest
import torch
from built_methods import METHODS, MIXED, built
from small_models import small_model
from stirring import stir
from torch import Tensor, nn

import diffcf
from diffcf.commands.main import main
from diffcf.diffusion import signal_level, time_grid
from diffcf.io import ImageTransform, OutputError, UnavailableError
from diffcf.methods import (
    DiffusionCounterfactuals,
    Part,
    Port,
    Sampling,
    parts_of,
    weights_digest,
    write_onnx,
    write_weights,
)
from diffcf.networks import LocalPosteriorProjector, UNet
from diffcf.networks.first_stage import ConvAutoencoder

SIZE, K, E = 8, 4, 6
SAMPLING = Sampling(steps=4, spacing=1.3)  # no guidance, not anchored, of order 1


class Exported(NamedTuple):
    weights: Path
    folder: Path
    model: diffcf.Model

    def run(self, file: str, **inputs: Tensor) -> list[Tensor]:
        session = onnxruntime.InferenceSession(
            self.folder / f"{file}.onnx", providers=["CPUExecutionProvider"]
        )
        given = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return [torch.from_numpy(value) for value in given]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Exported:
    """A small model with styles over factors of several kinds, written once: it takes seconds."""
    module = DiffusionCounterfactuals(
        MIXED,
        generator=partial(UNet, channels=[8], condition=8, attention_heads=1, style=2),
        projector=partial(LocalPosteriorProjector, channels=8, condition=8, blocks=1),
    )
    stir(module)
    module.image_shape, module.transform = (3, SIZE, SIZE), ImageTransform(SIZE)
    folder = tmp_path_factory.mktemp("onnx")
    write_weights(module, SAMPLING, folder / "small.safetensors", torch.float32)
    out = folder / "out"
    assert main(["onnx", str(folder / "small.safetensors"), "--out", str(out)]) == 0
    assert not list(folder.glob("*.part"))
    model = diffcf.load(folder / "small.safetensors")
    return Exported(folder / "small.safetensors", out, model)


def batch_of(count: int) -> tuple[Tensor, Tensor]:
    """Images that show nothing, and factors in [0, 1] units over :data:`MIXED`."""
    factors = torch.rand(count, K)
    factors[:, 1], factors[:, 2] = factors[:, 1].round(), (factors[:, 2] * 2).round() / 2
    return torch.rand(count, 3, SIZE, SIZE) * 2 - 1, factors


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_both_runtimes_agree_at_any_batch_size(exported: Exported, batch: int) -> None:
    module, (x_t, factors), t = exported.model.module, batch_of(batch), torch.rand(batch)
    mask, style = torch.rand(batch, K) < 0.5, torch.rand(batch, 2)
    with torch.no_grad():
        posterior = module.projector(x_t, t)
        v = module.generator(x_t, t, factors, mask, style)
    mean, variance = exported.run("projector", x_t=x_t, t=t)
    torch.testing.assert_close(mean, posterior.mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(variance, posterior.variance, atol=1e-5, rtol=1e-4)
    told = {"condition": factors, "condition_mask": mask, "style": style}
    same, denoised = exported.run("step", x_t=x_t, t=t, t_next=t, **told)
    torch.testing.assert_close(same, x_t, atol=1e-5, rtol=0)
    expected = signal_level(t) * x_t - (1 - signal_level(t).square()).sqrt() * v
    torch.testing.assert_close(denoised, expected, atol=1e-5, rtol=1e-4)


def test_a_loop_over_the_step_draws_what_our_unguided_sampler_does(exported: Exported) -> None:
    image, factors = batch_of(3)
    answer = exported.model.counterfactual(image, {"sun": 0.9, "shape": "cone"}, factors)
    assert (answer.image - image).abs().max() > 0.01, "nothing to compare"
    (style,) = exported.run("style", x=image)

    def walk(x_t: Tensor, times: tuple[float, ...], condition: Tensor) -> Tensor:
        mask = torch.ones_like(condition, dtype=torch.bool)
        told = {"condition": condition, "condition_mask": mask, "style": style}
        for now, then in pairwise(times):
            t, t_next = torch.full((3,), now), torch.full((3,), then)
            x_t = exported.run("step", x_t=x_t, t=t, t_next=t_next, **told)[0]
        return x_t

    times = time_grid(SAMPLING.steps, SAMPLING.t_max, SAMPLING.spacing)
    noise = walk(image, times, factors)
    drawn = walk(noise, times[::-1], answer.target).clamp(-1, 1)
    torch.testing.assert_close(drawn, answer.image, atol=1e-4, rtol=0)


def test_a_factor_that_is_masked_out_is_not_told(exported: Exported) -> None:
    (x_t, factors), t = batch_of(1), torch.tensor([0.7])
    mask = torch.tensor([[False, True, True, True]])
    inputs = {"x_t": x_t, "t": t, "t_next": t / 2, "style": torch.zeros(1, 2)}
    one, other = (
        exported.run("step", condition=told, condition_mask=mask, **inputs)[0]
        for told in (factors, factors.where(mask, 0.5))
    )
    assert torch.equal(one, other)


def test_the_record_says_what_goes_in_and_comes_out(exported: Exported) -> None:
    record = json.loads((exported.folder / "onnx.json").read_text())
    assert record["weights"] == "small.safetensors", "folders of this machine are left out"
    assert record["weights' content"] == weights_digest(exported.model.module)
    assert [factor["name"] for factor in record["factors"]] == list(MIXED.names)
    assert [c for factor in record["factors"] for c in factor["code"]] == list(range(E))
    assert record["times"][0] == 0 and len(record["times"]) == SAMPLING.steps + 1
    assert set(record["files"]) == {"projector.onnx", "step.onnx", "style.onnx"}
    assert {path.name for path in exported.folder.iterdir()} == {*record["files"], "onnx.json"}
    for name, about in record["files"].items():
        file = exported.folder / name
        assert about["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert set(about["difference from torch"]) == {"1", "3"}
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        for side, ports in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
            assert [port.name for port in ports] == [port["name"] for port in about[side]]
            shapes = [["B", *port.shape[1:]] for port in ports]
            assert shapes == [port["shape"] for port in about[side]]


# --- what there is of a method ---


@pytest.mark.parametrize(
    "name, files, told",
    [
        ("ours", ["projector.onnx", "step.onnx"], True),
        ("diff_scm", ["projector.onnx", "step.onnx"], False),
        ("classifier_free", ["step.onnx"], True),
    ],
)
def test_parts_of_a_method(name: str, files: list[str], told: bool) -> None:
    (path,) = (path for path in METHODS if path.stem == name)
    parts, missing = parts_of(built(path, MIXED)[0], (3, 32, 32))
    assert [part.file for part in parts] == files
    assert ("condition" in [port.name for port in parts[-1].inputs]) == told
    assert set(missing) == {"projector.onnx"} - set(files)


@pytest.mark.parametrize("name", ["hvae_dscm", "causal_vae", "causal_diffae"])
def test_methods_of_which_nothing_is_exported(name: str, tmp_path: Path, capsys) -> None:
    (path,) = (path for path in METHODS if path.stem == name)
    module, sampling = built(path, MIXED)
    module.image_shape, module.transform = (3, 32, 32), ImageTransform(32)
    write_weights(module, sampling, tmp_path / "peer.safetensors")
    weights, out = tmp_path / "peer.safetensors", tmp_path / "out"
    assert f"{type(module).__name__} has no diffusion" in refused(weights, out, capsys)
    assert not out.exists()


def test_a_first_stage_is_written_both_ways(tmp_path: Path) -> None:
    stage = partial(ConvAutoencoder, channels=[8], latent_channels=4)
    module = small_model(MIXED, SAMPLING, first_stage=stage).module
    parts = {part.file: part for part in parts_of(module, (3, 16, 16))[0]}
    assert set(parts) == {"projector.onnx", "step.onnx", "encoder.onnx", "decoder.onnx"}
    assert parts["step.onnx"].outputs[0].sides == (4, 8, 8), "the step works on latents"
    for name in ("encoder.onnx", "decoder.onnx"):
        assert max(write_onnx(parts[name], tmp_path / name).values()) < 1e-5


# --- what is refused ---


def refused(weights: object, out: Path, capsys, *further: str) -> str:
    """The one line that the command says."""
    capsys.readouterr()
    assert main(["onnx", str(weights), "--out", str(out), *further]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1, said
    return said


def test_a_folder_that_exists_is_left_alone(exported: Exported, capsys) -> None:
    before = {path: path.read_bytes() for path in exported.folder.iterdir()}
    assert "exists already" in refused(exported.weights, exported.folder, capsys)
    assert {path: path.read_bytes() for path in exported.folder.iterdir()} == before


def test_bad_input_is_one_sentence_and_leaves_nothing(
    exported: Exported, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    assert "there are no weights" in refused("nowhere.ckpt", out, capsys).lower()
    assert "multiples of 4" in refused(exported.weights, out, capsys, "--size=10")
    assert not list(tmp_path.iterdir())


def test_without_the_extra_it_says_what_to_install(
    exported: Exported, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    said = refused(exported.weights, tmp_path / "out", capsys)
    assert "needs onnxscript" in said and "pip install 'diffcf[onnx]'" in said


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class Doubling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def part(network: nn.Module) -> Part:
    x = Port("x", (3,), "anything", lambda shape, generator: torch.rand(shape, generator=generator))
    return Part("some.onnx", "a network", network, (x,), (Port("y", (3,), "anything"),))


def test_a_network_that_torch_cannot_export_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"some\.onnx cannot be exported"):
        write_onnx(part(Branching()), tmp_path / "some.onnx")
    assert not list(tmp_path.iterdir())


def test_runtimes_that_disagree_leave_no_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("diffcf.methods.onnx_export.TOLERANCE", -1.0)
    with pytest.raises(OutputError, match=r"differs by .* at batch size 1"):
        write_onnx(part(Doubling()), tmp_path / "some.onnx")
    assert not list(tmp_path.iterdir())
