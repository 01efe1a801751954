"""Classifiers from anywhere: loaded, run, and their answers checked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from diffcf.evaluation import Classifier, load_classifier
from diffcf.io import DataError, DiffcfError, SettingsError, UnavailableError

IMAGES = torch.rand(4, 3, 8, 8) * 2 - 1
SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def forward(self, images):
        assert not self.training
        return images.mean(dim=(1, 2, 3))

network = Net()
def make(): return lambda images: images.mean(dim=(1, 2, 3))
def number(): return 3
def fails(): raise RuntimeError("no weights here")
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(SOURCE)
    return file


@pytest.mark.parametrize("name", ["Net", "network", "make"])
def test_a_network_its_class_and_a_function_that_makes_it(source: Path, name: str) -> None:
    classifier = load_classifier(f"{source}:{name}")
    expected = IMAGES.mean(dim=(1, 2, 3))[:, None].double()
    torch.testing.assert_close(classifier.scores(IMAGES), expected)
    assert classifier.name == f"mine.py:{name}"


def test_a_module_that_can_be_imported(source: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(source.parent))
    assert load_classifier("mine:make").scores(IMAGES).shape == (4, 1)


def test_torchscript(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()
    torch.jit.save(torch.jit.script(network), tmp_path / "net.pt")
    found = load_classifier(str(tmp_path / "net.pt")).scores(IMAGES)
    torch.testing.assert_close(found, network(IMAGES).detach().double())


class Session:
    """As of onnxruntime."""

    def __init__(self, path: str, providers: list[str]) -> None:
        self.path = path

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="pixels")]

    def run(self, _: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [given["pixels"].mean(axis=(1, 2, 3))]


def test_onnx_where_its_runtime_is_installed(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError, match=r"diffcf\[onnx\]"):
        load_classifier(str(file))
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    expected = IMAGES.mean(dim=(1, 2, 3))[:, None].double()
    torch.testing.assert_close(load_classifier(str(file)).scores(IMAGES), expected)


@pytest.mark.parametrize(
    "place, error, said",
    [
        ("mine.txt", SettingsError, "is no classifier"),
        ("gone.pt", DataError, "does not exist"),
        ("gone.onnx", DataError, "does not exist"),
        ("gone.py:make", DataError, "does not exist"),
        ("no_such_module:make", DataError, "no_such_module"),
        ("mine.py:absent", DataError, "absent"),
        ("mine.py:number", DataError, "is int"),
        ("mine.py:fails", DataError, "no weights here"),
        ("pickled.pt", DataError, "pickles are not read"),
        ("torn.pt", DataError, "is no TorchScript"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(
    source: Path, place: str, error: type[DiffcfError], said: str, monkeypatch
) -> None:
    monkeypatch.chdir(source.parent)
    torch.save(nn.Linear(2, 2), "pickled.pt")
    Path("torn.pt").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(error, match=said) as caught:
        load_classifier(place)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "call, said",
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), "does not take images"),
        (lambda images: images, "returned shape"),
        (lambda images: images.mean(), "returned shape"),
        (lambda images: images.mean(dim=(1, 2, 3))[:2], "returned shape"),
        (lambda images: [0.5] * len(images), "returned list"),
        (lambda images: images.mean(dim=(1, 2, 3)) / 0, "NaN or infinity"),
    ],
)
def test_answers_of_no_use_are_one_sentence(call: Callable[..., object], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        Classifier("mine", call).scores(IMAGES)
    assert len(str(caught.value).splitlines()) == 1
