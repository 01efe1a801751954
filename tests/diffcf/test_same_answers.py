"""An image gets the same answer in any batch, order, process, command and page."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from small_nscms import CATEGORICAL
from stirring import stir
from torch import Tensor

import diffcf
from diffcf.app.gallery import Subject
from diffcf.app.inference import open_worlds
from diffcf.app.session import Session
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.keys import row_keys
from diffcf.causal.nscm import NSCM
from diffcf.commands.main import main
from diffcf.evaluation.evaluate import CounterfactualEvaluation
from diffcf.evaluation.protocol import EvaluationProtocol
from diffcf.io.pixels import from_bytes
from diffcf.io.transform import ImageTransform, decode
from diffcf.methods import write_weights
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.engine import Sampling
from diffcf.networks.projector import LocalPosteriorProjector
from diffcf.networks.unet import UNet
from diffcf.reporting.pictures import save_image

COUNT = 12
BINARY = CausalGraph([Factor(name, "binary") for name in "abc"], [("a", "b"), ("b", "c")])
EACH_GRAPH = pytest.mark.parametrize("graph", [BINARY, CATEGORICAL], ids=["binary", "mixed"])


def _model(graph: CausalGraph) -> DiffusionCounterfactuals:
    """Untrained, so that chance decides most about discrete factors."""
    model = DiffusionCounterfactuals(
        graph,
        generator=partial(UNet, channels=[8, 8], condition=8, attention_heads=2),
        projector=partial(LocalPosteriorProjector, channels=8, condition=8),
        nscm=partial(NSCM, hidden=[8]),
    )
    stir(model, 0.5)
    for parameter in model.get_submodule("nscm").parameters():
        parameter.detach().mul_(4)
    model.image_shape = (3, 16, 16)
    return model.eval()


def _images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (COUNT, 3, 16, 16), generator=generator) / 127.5 - 1


def _factors(graph: CausalGraph) -> Tensor:
    drawn = torch.rand(COUNT, len(graph), generator=torch.Generator().manual_seed(1))
    return graph.decode(graph.encode(drawn))


@EACH_GRAPH
def test_the_engine_answers_alike_in_any_batch_and_order(graph: CausalGraph) -> None:
    method, images, do = _model(graph).method(Sampling(steps=1)), _images(), {graph.names[0]: 1.0}
    whole = method.abduct(images).predict(do)
    for rows in (torch.arange(COUNT).flip(0), torch.tensor([5]), torch.tensor([3, 3, 0])):
        torch.rand(int(rows[0]))  # whatever was drawn before
        some = method.abduct(images[rows]).predict(do)
        torch.testing.assert_close(some.factors, whole.factors[rows], atol=1e-5, rtol=0)
        torch.testing.assert_close(some.image, whole.image[rows], atol=1e-4, rtol=0)
    factors = _factors(graph)
    seeds = [method.abduct(images, factors, row_keys(torch.arange(COUNT), s)) for s in range(5)]
    answers = torch.stack([world.factors_under({graph.names[0]: 0.0}) for world in seeds])
    assert (answers != answers[0]).any(), "chance decides"


@EACH_GRAPH
def test_a_test_measures_alike_in_any_batch_and_number_of_processes(graph: CausalGraph) -> None:
    model, images, factors = _model(graph), _images(), _factors(graph)
    protocol = EvaluationProtocol(steps=2, sequence_images=6, cycles=2, reverse_images=6, seed=3)

    def measured(parts: list[Tensor]) -> dict[str, float]:
        evaluation = CounterfactualEvaluation(graph, factors, protocol)
        answers = [evaluation.update(model.method(Sampling(steps=1)), images[p], p) for p in parts]
        rows = torch.cat(parts).argsort()
        found = {f"mean/{n}": float(
            torch.cat([a.single[n].factors for a in answers])[rows][:, k].mean())
            for n in graph.names for k in range(len(graph))}  # fmt: skip
        return evaluation.compute() | found

    whole = measured([torch.arange(COUNT)])
    two_processes = [torch.arange(rank, COUNT, 2) for rank in range(2)]
    for parts in (list(torch.arange(COUNT).flip(0).split(5)), two_processes):
        torch.manual_seed(len(parts))
        for name, value in measured(parts).items():
            if "seconds" not in name:
                assert value == pytest.approx(whole[name], abs=1e-5), name


@pytest.fixture
def weights(tmp_path: Path) -> str:
    write_weights(_model(CATEGORICAL), Sampling(steps=1), tmp_path / "mixed.safetensors")
    return str(tmp_path / "mixed.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for place, image in enumerate(_images()[:4]):
        save_image(image, tmp_path / f"images/{place:02d}.png")
    return tmp_path / "images"


def _asked(weights: str, images: list[Path], out: Path, *options: str) -> dict:
    texts = ["counterfactual", weights, *map(str, images), "--do", "shape=cone", *options]
    assert main([*texts, "--out", str(out)]) == 0
    return json.loads((out / "factors.json").read_text())


def _same(one: dict, other: dict) -> None:
    """Rows of ``factors.json`` agree, but for rounding."""
    for key in ("factual", "target", "exogenous"):
        for a, b in zip(_flat(one[key]), _flat(other[key]), strict=True):
            assert a == (pytest.approx(b, abs=1e-5) if isinstance(b, float) else b), key


def _flat(value: object) -> list:
    return [leaf for part in value for leaf in _flat(part)] if isinstance(value, list) else [value]


def test_the_command_answers_alike_alone_in_a_folder_and_again(
    weights: str, folder: Path, tmp_path: Path
) -> None:
    first = _asked(weights, [folder], tmp_path / "first")
    assert first["seed"] == 0
    again = _asked(weights, [folder], tmp_path / "again", "--batch_size", "3")
    alone = _asked(weights, [folder / "03.png"], tmp_path / "alone")
    for name, row in again["images"].items():
        _same(row, first["images"][name])
    _same(alone["images"]["03"], first["images"]["03"])
    other = _asked(weights, [folder], tmp_path / "other", "--seed", "1")
    assert other["seed"] == 1
    drawn = [[row["exogenous"] for row in record["images"].values()] for record in (first, other)]
    assert drawn[0] != drawn[1]


def test_command_api_and_explorer_answer_alike(weights: str, folder: Path, tmp_path: Path) -> None:
    record = _asked(weights, [folder], tmp_path / "out", "--seed", "5")
    model = diffcf.load(weights)
    for name in ("00", "02"):
        image = from_bytes(decode(folder / f"{name}.png", ImageTransform(16)))
        answer = model.counterfactual(image[None], {"shape": "cone"}, seed=5)
        session = Session(open_worlds(model, Subject(image, name), seed=5))
        session.set("shape", "cone")
        page = session.start.predict(session.question, session.intervention).answer
        row = record["images"][name]
        assert answer.exogenous is not None
        assert row["exogenous"] == pytest.approx(answer.exogenous[0].tolist(), abs=1e-5)
        torch.testing.assert_close(page.factors, answer.target)
        torch.testing.assert_close(page.image, answer.image)
        shown = model.graph.native_rows(answer.target)[0]
        _same({**row, "target": shown}, {**row, "target": row["target"][0]})


# --- what is printed can be asked ---


@pytest.mark.parametrize("units", ["native", "scaled"])
def test_every_value_of_the_record_can_be_given_back(
    units: str, folder: Path, tmp_path: Path
) -> None:
    """Readings and predictions of untrained networks lie anywhere, many beyond the range."""
    graph = CausalGraph(
        [
            Factor("size", low=-0.6289, high=1 / 3),
            Factor("area", low=1, high=1e4, scale="log"),
            Factor("sons", "integer", 0, 3),
            Factor("shape", "categorical", categories=("no", "01")),
        ],
        [("size", "area"), ("size", "sons"), ("area", "shape")],
    )
    write_weights(_model(graph), Sampling(steps=1, contamination=1), tmp_path / "odd.safetensors")
    ask = ["counterfactual", str(tmp_path / "odd.safetensors"), "--units", units, "--out"]
    assert main([*ask, str(tmp_path / "0"), str(folder), "--do", "shape=01"]) == 0
    record = json.loads((tmp_path / "0/factors.json").read_text())
    rows = list(record["images"].values())
    assert any(row["clipped"] for row in rows) and not all("size" in r["clipped"] for r in rows)
    for place, row in enumerate(rows[:1]):
        for name in row["clipped"]:
            column = graph.column(name)
            ends = (0, 1) if units == "scaled" else graph.factors[column].ends
            if name == "size":
                shown = [row["factual"][column], row["target"][0][column], row["read"][column]]
                assert any(value in ends for value in shown)
        for number, values in enumerate((row["factual"], row["target"][0], row["read"])):
            pairs = zip(record["factors"], values, strict=True)
            texts = [text for name, value in pairs for text in ("--do", f"{name}={value}")]
            out = tmp_path / f"{place}_{number}_again"
            assert main([*ask, str(out), str(folder / "00.png"), *texts]) == 0
            again = json.loads((out / "factors.json").read_text())["images"]["00"]
            for a, b in zip(again["target"][0], values, strict=True):
                assert a == (pytest.approx(b, rel=1e-5, abs=1e-6) if isinstance(b, float) else b)
