"""Reading by an evaluator, and the file it is kept in."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.posterior import LocalPosterior
from diffcf.evaluation.evaluator.reader import EvaluatorReader, read_factors
from diffcf.io.errors import CheckpointError
from diffcf.networks.factory import build_network

MIXED = CausalGraph(
    [
        Factor("size"),
        Factor("colour", "categorical", categories=("red", "green", "blue")),
        Factor("lit", "binary"),
    ],
    [("size", "lit")],
)
SPEC = {
    "class_path": "diffcf.networks.projector.LocalPosteriorProjector",
    "init_args": {"channels": 8, "condition": 8},
}


def _reader(graph: CausalGraph = MIXED) -> EvaluatorReader:
    network = build_network(SPEC, graph)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return EvaluatorReader(graph, SPEC, network.state_dict(), (3, 32, 32), {"note": "toy"})


class Fixed(torch.nn.Module):
    """A network that always says ``code`` ``[E]``."""

    def __init__(self, code: list[float]) -> None:
        super().__init__()
        self.code = torch.tensor(code)

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> LocalPosterior:
        mean = self.code.expand(len(x_t), -1)
        return LocalPosterior(mean, mean, mean, mean, mean)


def test_each_kind_of_factor_is_read_in_its_own_way() -> None:
    images = torch.zeros(2, 3, 8, 8)
    read = read_factors(Fixed([0.3, 0.2, 0.5, 0.3, 0.8]), MIXED, images)
    torch.testing.assert_close(read, torch.tensor([[0.3, 0.5, 0.8]] * 2))
    read = read_factors(Fixed([1.4, 0.1, 0.2, 0.7, 0.1]), MIXED, images)
    torch.testing.assert_close(read, torch.tensor([[1.0, 1.0, 0.1]] * 2))


def test_a_saved_evaluator_reads_the_same_and_keeps_its_card(tmp_path: Path) -> None:
    reader, images = _reader(), torch.rand(5, 3, 32, 32) * 2 - 1
    reader.save(tmp_path / "e.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["e.safetensors"], "nothing is left over"
    again = EvaluatorReader.load(tmp_path / "e.safetensors", MIXED)
    assert torch.equal(again.read(images), reader.read(images))
    assert again.card == {"note": "toy"} and again.graph == MIXED
    assert again.image_shape == (3, 32, 32)
    one_by_one = torch.cat([again.read(image[None]) for image in images])
    torch.testing.assert_close(one_by_one, again.read(images))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_larger_images_are_read_as_their_averages(times: int) -> None:
    reader, small = _reader(), torch.rand(2, 3, 32, 32) * 2 - 1
    large = small.repeat_interleave(times, -1).repeat_interleave(times, -2)
    torch.testing.assert_close(reader.read(large), reader.read(small))


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 48, 48), (3, 64, 32), (1, 32, 32), (3, 0, 0)])
def test_other_sizes_are_refused_in_one_sentence(shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match="or of a multiple of that size"):
        _reader().read(torch.zeros(2, *shape))


def test_the_file_is_what_the_format_says(tmp_path: Path) -> None:
    """As any reader of safetensors sees it: length, JSON, little-endian numbers."""
    reader, path = _reader(), tmp_path / "e.safetensors"
    reader.save(path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0 and data[8:9] == b"{"
    assert json.loads(header.pop("__metadata__")["diffcf"])["graph"] == MIXED.to_dict()
    spans = sorted(entry["data_offsets"] for entry in header.values())
    assert spans[0][0] == 0 and spans[-1][1] == len(data) - 8 - length
    assert all(one[1] == two[0] for one, two in pairwise(spans))
    entry = header["head.bias"]
    begin, end = entry["data_offsets"]
    raw = bytearray(data[8 + length + begin : 8 + length + end])
    assert entry["dtype"] == "F32" and entry["shape"] == [10]
    state = EvaluatorReader.load(path)._network.state_dict()
    assert torch.equal(torch.frombuffer(raw, dtype=torch.float32), state["head.bias"])


def test_it_reads_the_factors_of_another_graph_that_are_among_its_own(tmp_path: Path) -> None:
    whole, images = _reader(), torch.rand(5, 3, 32, 32) * 2 - 1
    lit, size = MIXED.factors[2], MIXED.factors[0]
    some = CausalGraph([lit, size], [("lit", "size")])  # other arrows, another order
    read = whole.of(some).read(images)
    assert torch.equal(read, whole.read(images)[:, [2, 0]])
    assert whole.graph == MIXED and whole.of(some).graph == some
    # What is saved is the whole evaluator, whichever factors are asked for.
    whole.of(some).save(tmp_path / "e.safetensors")
    assert torch.equal(EvaluatorReader.load(tmp_path / "e.safetensors", some).read(images), read)
    assert EvaluatorReader.load(tmp_path / "e.safetensors").graph == MIXED


def test_other_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist: check the path"):
        EvaluatorReader.load(tmp_path / "none.safetensors")
    (tmp_path / "empty").write_bytes(b"")
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickled.ckpt")
    (tmp_path / "list").write_bytes((2).to_bytes(8, "little") + b"[]")
    for name in ("empty", "pickled.ckpt", "list"):
        with pytest.raises(CheckpointError, match="is no safetensors file"):
            EvaluatorReader.load(tmp_path / name)
    foreign = b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    whole = len(foreign).to_bytes(8, "little") + foreign + bytes(4)
    (tmp_path / "foreign.safetensors").write_bytes(whole)
    with pytest.raises(CheckpointError, match="holds no evaluator of diffcf"):
        EvaluatorReader.load(tmp_path / "foreign.safetensors")


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    _reader().save(tmp_path / "e.safetensors")
    data = (tmp_path / "e.safetensors").read_bytes()
    (tmp_path / "e.safetensors").write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        EvaluatorReader.load(tmp_path / "e.safetensors")


def test_another_graph_another_network_and_another_size_are_refused(tmp_path: Path) -> None:
    reader = _reader()
    reader.save(tmp_path / "e.safetensors")
    others = {
        "no 'age', but size, colour, lit": Factor("age"),
        "'size', kind='continuous'.* and not .*'binary'": Factor("size", "binary"),
    }
    for sentence, factor in others.items():
        with pytest.raises(CheckpointError, match=rf"e\.safetensors reads .*{sentence}"):
            EvaluatorReader.load(tmp_path / "e.safetensors", CausalGraph([factor]))
    with pytest.raises(CheckpointError, match=r"shape \[3, 32, 32\], .* got \[3, 48, 48\]"):
        reader.read(torch.zeros(1, 3, 48, 48))
    with pytest.raises(CheckpointError, match="do not fit the evaluator's network"):
        EvaluatorReader(CausalGraph([Factor("a")]), SPEC, reader._network.state_dict(), (3, 32, 32))
    data = (tmp_path / "e.safetensors").read_bytes()
    (tmp_path / "e.safetensors").write_bytes(data.replace(b"LocalPosterior", b"GlobalPosterio"))
    with pytest.raises(CheckpointError, match="cannot be made: Network class"):
        EvaluatorReader.load(tmp_path / "e.safetensors")
