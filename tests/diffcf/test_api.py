from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stirring import stir
from torch import Tensor

import diffcf
from diffcf.api import Model
from diffcf.causal.intervention import parse_do, parse_sweep
from diffcf.commands.main import main
from diffcf.diffusion import ChangeFilter
from diffcf.diffusion.guidance.classifier_free import ClassifierFree
from diffcf.diffusion.guidance.feedback import Feedback
from diffcf.diffusion.guidance.gradient_rules import (
    GaussNewtonGuidance,
    LineSearchGuidance,
    VarianceBalancedGuidance,
)
from diffcf.io.errors import CheckpointError, GraphError, InterventionError
from diffcf.methods import write_weights
from diffcf.methods.checkpoint import sampling_from_spec, sampling_to_spec
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.engine import Sampling
from diffcf.reporting.pictures import save_image

SAMPLINGS = [
    Sampling(),
    Sampling(VarianceBalancedGuidance(1.0, 10.0, 0.0, 0.15), steps=8, anchored=True),
    Sampling(GaussNewtonGuidance(0.5, t_min=0.1), order=2, t_max=0.9),
    Sampling(free=ClassifierFree(2.0, kept=1.5), mechanisms=False),
    Sampling(anchored=True, feedback=Feedback(0.5, beyond=0.2)),
    Sampling(anchored=True, free=ClassifierFree(3.0, from_factual=True, focus=0.8)),
    Sampling(
        anchored=True,
        free=ClassifierFree(25.0, from_factual=True, adaptive=True, limit=0.08),
        feedback=Feedback(0.5),
    ),
    Sampling(change_filter=ChangeFilter(radius=2, misfit=0.003)),
]


@pytest.fixture
def file(model: DiffusionCounterfactuals, tmp_path: Path) -> str:
    """A weights file of an untrained model."""
    stir(model)
    model.image_shape = (3, 32, 32)
    path = tmp_path / "some.safetensors"
    write_weights(model, Sampling(GaussNewtonGuidance(), steps=2, anchored=True), path)
    return str(path)


@pytest.fixture
def images(small_batch: dict) -> Tensor:
    return small_batch["image"]


# --- files ---


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_how_to_draw_survives_as_text(sampling: Sampling) -> None:
    spec = json.loads(json.dumps(sampling_to_spec(sampling)))
    back = sampling_from_spec(spec)
    assert sampling_to_spec(back) == spec
    assert type(back.guidance) is type(sampling.guidance)


def test_a_rule_is_written_down_by_its_public_name() -> None:
    rule = LineSearchGuidance(gain=2.0, t_max=0.3)
    spec = sampling_to_spec(Sampling(guidance=rule))
    assert spec["guidance"]["class_path"] == "diffcf.diffusion.LineSearchGuidance"
    assert vars(sampling_from_spec(spec).guidance) == vars(rule)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"stepps": 3}, "no stepps"),
        ({"guidance": {"class_path": "os.system"}}, "is not a diffcf.diffusion.Guidance"),
        ({"guidance": {"class_path": "nowhere.Rule"}}, "not ours"),
        ({"guidance": {"class_path": "diffcf.diffusion.ConstantGuidance", "init_args": {"x": 1}}},
         "does not take"),
        ({"free": {"strength": 2}}, "does not take"),
        ({"feedback": {"gain": "much"}}, "finite number"),
        ({"change_filter": {"radius": 1.5}}, "radius of change_filter"),
        ({"change_filter": {"width": 2}}, "does not take"),
    ],
)  # fmt: skip
def test_broken_descriptions_are_refused(spec: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sampling_from_spec(spec)


def test_weights_come_back_as_they_were_shipped(
    file: str, model: DiffusionCounterfactuals, images: Tensor
) -> None:
    loaded = diffcf.load(file)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.module.state_dict()[name], value, rtol=1e-3, atol=1e-3)
    assert loaded.sampling.steps == 2 and loaded.sampling.anchored
    assert isinstance(loaded.sampling.guidance, GaussNewtonGuidance)
    assert loaded.module.image_shape == (3, 32, 32)
    assert not loaded.module.training


def test_what_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "x.safetensors"
    broken.write_bytes(b"\x80\x04nonsense" * 20)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        diffcf.load(broken)
    with pytest.raises(CheckpointError, match="There are no weights 'penduluum'"):
        diffcf.load("penduluum")


# --- answers ---


def test_native_and_scaled_units_ask_the_same(file: str, images: Tensor) -> None:
    model = diffcf.load(file)
    low, high = model.graph.low, model.graph.high
    scaled = model.counterfactual(images, do={"light": 0.25})
    value = float(low[1] + 0.25 * (high[1] - low[1]))
    native = model.counterfactual(images, do={"light": value}, units="native")
    torch.testing.assert_close(scaled.image, native.image, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.graph.to_native(scaled.target), native.target)
    torch.testing.assert_close(native.target[:, 1], torch.full((len(images),), value))
    assert scaled.image.shape == images.shape and scaled.exogenous is not None
    assert scaled.factors.shape == scaled.target.shape == (len(images), 4)


def test_one_abduction_answers_many_questions(file: str, images: Tensor) -> None:
    model = diffcf.load(file)
    abducted = model.abduct(images)
    values = torch.linspace(0, 1, 5)
    many = abducted.select([3] * 5).predict({"angle": values})
    alone = abducted.predict({"angle": 0.5})
    torch.testing.assert_close(many.image[2], alone.image[3], atol=1e-4, rtol=1e-4)
    first, second = abducted.sequence([{"angle": 0.1}, {"light": 0.9}])
    assert (second.target[:, 0] == 0.1).all() and not torch.equal(first.image, second.image)


def test_what_is_read_is_corrected_unless_all_is_doubted(file: str, images: Tensor) -> None:
    corrected = diffcf.load(file)
    believed = Model(corrected.module, replace(corrected.sampling, contamination=1.0))
    read, roots = believed.read(images), [0, 1]
    torch.testing.assert_close(believed.abduct(images).factors, read)
    torch.testing.assert_close(corrected.abduct(images).factors[:, roots], read[:, roots])
    assert not torch.allclose(corrected.abduct(images).factors, read)


def test_what_is_observed_wins_over_the_reading(file: str, images: Tensor) -> None:
    model = diffcf.load(file)
    read = model.abduct(images).factors
    told = torch.full_like(read, torch.nan)
    torch.testing.assert_close(model.abduct(images, told).factors, read)
    told[0, 0] = told[1, 2] = 0.25
    mixed = model.abduct(images, told).factors
    assert mixed[0, 0] == mixed[1, 2] == 0.25 and torch.isfinite(mixed).all()
    torch.testing.assert_close(mixed[2:], read[2:])
    assert not torch.equal(mixed[0, 2:], read[0, 2:]), "an observed cause refines its effects"
    native = model.graph.to_native(told)
    torch.testing.assert_close(model.abduct(images, native, "native").factors, mixed)


def test_a_table_tells_the_command_what_is_observed(
    file: str, images: Tensor, tmp_path: Path, capsys
) -> None:
    for k in range(2):
        save_image(images[k], tmp_path / f"{k}.png")
    (tmp_path / "known.csv").write_text("image,Sun,angle,note\n1.png,1.5,,x\n0,,0.25,y\n")
    ask = ["counterfactual", file, str(tmp_path), "--out", str(tmp_path / "out")]
    table = ["--factors", str(tmp_path / "known.csv"), "--columns", '{"light": "Sun"}']
    for question in (["--do", "light=1.2"], ["--sweep", "light=1:1.2:2"]):
        assert main([*ask, *question, *table, "--overwrite", "true"]) == 0
        rows = json.loads((tmp_path / "out/factors.json").read_text())["images"]
        first, second = (row[0] if "--sweep" in question else row for row in (rows["0"], rows["1"]))
        assert first["given"] == ["angle"] and second["given"] == ["light"]
        assert first["factual"][0] == pytest.approx(0.25)
        assert second["factual"][1] == pytest.approx(1.5)
        assert first["factual"][1] != 1.5
    again = [*ask, "--do", "light=1.2", "--overwrite", "true"]
    assert main(again) == 0
    record = json.loads((tmp_path / "out/factors.json").read_text())
    assert record["table"] is None and record["images"]["1"]["given"] == []
    (tmp_path / "known.csv").write_text("image,light\n1.png,1.5\n")
    capsys.readouterr()
    assert main([*again, "--factors", str(tmp_path / "known.csv")]) == 2
    assert "has no row for" in capsys.readouterr().err


def test_wrong_questions_are_one_clear_sentence(file: str, images: Tensor) -> None:
    model = diffcf.load(file)
    with pytest.raises(GraphError, match="sunshine"):
        model.counterfactual(images, do={"sunshine": 0.5})
    with pytest.raises(InterventionError, match=r"do\(light=7\) is outside the factor's range"):
        model.counterfactual(images, do={"light": 7.0}, units="native")
    with pytest.raises(InterventionError, match="Units are"):
        model.counterfactual(images, do={"light": 0.5}, units="percent")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[B, C, H, W\]"):
        model.read(images[0])


def test_observed_factors_beyond_their_range_are_refused(
    file: str, images: Tensor, small_batch: dict
) -> None:
    model, factors = diffcf.load(file), small_batch["factors"].clone()
    factors[0, 0] = -1.9e-8  # the end, but for rounding
    assert model.abduct(images, factors).factors[0, 0] == 0
    factors[2, 2] = 1.1
    for units in ("scaled", "native"):
        given = factors if units == "scaled" else model.graph.to_native(factors)
        with pytest.raises(InterventionError, match=r"factors\(shadow_length=.*range, 3 … 12.57"):
            model.abduct(images, given, units)


def test_diffcf_is_light_until_it_is_asked() -> None:
    code = "import sys, diffcf; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    with pytest.raises(AttributeError, match="attribute lode"):
        diffcf.lode  # noqa: B018


# --- the shell ---


def test_interventions_as_they_are_written(graph) -> None:
    assert parse_do(["light=0.8", " angle = -.2 "], graph) == {"light": 0.8, "angle": -0.2}
    assert parse_sweep("light=0:1:5", graph) == ("light", [0.0, 0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize(
    "text",
    ["light", "light=", "=1", "light=one", "light=nan", "light=1e999", "", "light==1", "a=b=c"],
)
def test_what_is_no_intervention_is_said_so(graph, text: str) -> None:
    with pytest.raises((InterventionError, GraphError)):
        parse_do([text], graph)


@pytest.mark.parametrize(
    "text", ["light=0:1", "light=0:1:1", "light=0:1:2.5", "light=0:1:9999", "x"]
)
def test_what_is_no_sweep_is_said_so(graph, text: str) -> None:
    with pytest.raises((InterventionError, GraphError)):
        parse_sweep(text, graph)


def test_random_text_never_ends_in_another_error(graph) -> None:
    letters = "light=:.0-+e19 ,\x00é∞"
    generator = torch.Generator().manual_seed(0)
    for _ in range(2000):
        places = torch.randint(len(letters), (int(torch.randint(12, (), generator=generator)),),
                               generator=generator)  # fmt: skip
        text = "".join(letters[place] for place in places)
        for parse in (lambda t: parse_do([t], graph), lambda t: parse_sweep(t, graph)):
            with contextlib.suppress(InterventionError, GraphError):
                parse(text)


def test_the_command_answers_a_folder(file: str, images: Tensor, tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for k in range(3):
        save_image(images[k], folder / f"{k}.png")
    (folder / "notes.txt").write_text("no image")
    ask = ["counterfactual", file, str(folder), "--out", str(out)]
    assert main([*ask, "--do", "light=1.2", "--then", "angle=0.1", "--batch_size", "2"]) == 0
    names = sorted(path.name for path in out.iterdir())
    pictures = [f"{k}_{step}.png" for k in range(3) for step in (1, 2)]
    assert names == sorted([*pictures, "factors.json", "sheet.png"])
    record = json.loads((out / "factors.json").read_text())
    assert record["units"] == "native" and set(record["images"]) == {"0", "1", "2"}
    assert record["images"]["1"]["target"][1][:2] == pytest.approx([0.1, 1.2])
    assert len(record["images"]["1"]["read"]) == 4
    assert main([*ask, "--do", "light=1.2"]) == 2, "it exists"
    assert main([*ask, "--sweep", "angle=-0.5:0.5:3", "--rule", "none", "--steps", "1",
                 "--doubt", "1", "--overwrite", "true"]) == 0  # fmt: skip
    assert len(json.loads((out / "factors.json").read_text())["images"]["2"]) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "Ask something"),
        (["--do", "light=9"], "outside the factor's range"),
        (["--do", "light=1", "--rule", "magic"], "no rule magic"),
        (["--do", "light=1", "--doubt", "2"], "contamination of sampling is a probability"),
        (["--do", "moon=1"], "moon"),
    ],
)
def test_the_command_says_what_is_wrong_and_leaves_nothing(
    file: str, images: Tensor, tmp_path: Path, capsys, options: list[str], said: str
) -> None:
    save_image(images[0], tmp_path / "a.png")
    out = tmp_path / "out"
    assert main(["counterfactual", file, str(tmp_path / "a.png"), *options, "--out", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()
    missing = str(tmp_path / "none.png")
    assert main(["counterfactual", file, missing, "--do", "light=1", "--out", str(out)]) == 2


def test_a_model_may_be_given_another_way_to_draw(file: str, images: Tensor) -> None:
    plain = diffcf.load(file, sampling=Sampling(steps=1))
    assert isinstance(plain, Model) and plain.sampling.guidance is None
    assert plain.counterfactual(images, do={}).image.shape == images.shape
