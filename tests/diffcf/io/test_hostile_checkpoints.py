"""Checkpoints and weights files that are meant to harm: nothing is run, no memory is filled."""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from stirring import stir

import diffcf
from diffcf.commands.main import main
from diffcf.evaluation.evaluator.reader import EvaluatorReader
from diffcf.io.class_path import TRUST, class_at
from diffcf.io.errors import CheckpointError
from diffcf.io.tensor_file import SPEC_KEY
from diffcf.methods import write_weights
from diffcf.methods.checkpoint import SAMPLING_KEY, read_checkpoint, sampling_from_spec
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.engine import Sampling
from diffcf.networks.factory import build_network

MODULE = "class Network:\n    pass\nopen({!r}, 'w').close()\n"


@pytest.fixture
def checkpoint(model: DiffusionCounterfactuals) -> dict[str, Any]:
    """Of ours, as Lightning would save it."""
    stir(model)
    return {"state_dict": model.state_dict(), SPEC_KEY: model.spec_record()}


@pytest.fixture
def trap(tmp_path: Path, monkeypatch) -> Path:
    """A file that appears when a module named ``trap_module`` is imported."""
    sprung = tmp_path / "sprung"
    (tmp_path / "trap_module.py").write_text(MODULE.format(str(sprung)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "trap_module", raising=False)
    return sprung


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def rewritten(path: Path, change: Callable[[str, bytes], bytes], packing: int = 0) -> Path:
    """The archive with other bytes inside."""
    with zipfile.ZipFile(path) as old:
        held = {entry.filename: old.read(entry) for entry in old.infolist()}
    with zipfile.ZipFile(path, "w", packing) as new:
        for name, data in held.items():
            new.writestr(name, change(name, data))
    return path


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


# --- the file ---


def test_ours_is_read(checkpoint: dict, tmp_path: Path) -> None:
    path = saved(checkpoint, tmp_path / "a.ckpt")
    assert read_checkpoint(path)[SPEC_KEY]["method"].endswith("DiffusionCounterfactuals")
    assert diffcf.load(path).graph.names[0] == "angle"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "plain pickle"])
def test_a_pickle_runs_nothing(checkpoint: dict, tmp_path: Path, zipped: bool) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "a.ckpt"
    evil = checkpoint | {"callbacks": Command(f"touch {sprung}")}
    if zipped:
        torch.save(evil, path)
    else:
        path.write_bytes(pickle.dumps(evil))
    for read in (read_checkpoint, diffcf.load):
        with pytest.raises(CheckpointError, match=r"a\.ckpt cannot be read"):
            read(path)
    assert not sprung.exists()


@pytest.mark.parametrize("command", ["fit", "test"])
def test_no_command_runs_a_pickle(checkpoint: dict, tmp_path: Path, capsys, command: str) -> None:
    from small_runs import tiny

    sprung = tmp_path / "sprung"
    evil = checkpoint | {"hyper_parameters": Command(f"touch {sprung}")}
    path = saved(evil, tmp_path / "a.ckpt")
    assert main([command, "--config", tiny(tmp_path / "run"), "--ckpt_path", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"diffcf: Checkpoint {path} cannot be read")
    assert not sprung.exists()


def test_hyper_parameters_of_a_checkpoint_decide_nothing(
    checkpoint: dict, tmp_path: Path, trap: Path
) -> None:
    from small_runs import tiny

    evil = checkpoint | {"hyper_parameters": {"_class_path": "trap_module.Network"}}
    path = saved(evil, tmp_path / "a.ckpt")
    assert main(["fit", "--config", tiny(tmp_path / "run"), "--ckpt_path", str(path)]) == 2
    assert not trap.exists()


@pytest.mark.parametrize("part", [0.02, 0.3, 0.9, 0.999])
def test_a_torn_checkpoint_is_said_so(checkpoint: dict, tmp_path: Path, part: float) -> None:
    path = saved(checkpoint, tmp_path / "a.ckpt")
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(CheckpointError, match="cannot be read: it is torn") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_what_unfolds_is_refused(checkpoint: dict, tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte."""
    path = saved(checkpoint | {"more": torch.zeros(77, dtype=torch.uint8)}, tmp_path / "a.ckpt")

    def grown(name: str, data: bytes) -> bytes:
        return bytes(64 * 2**20) if "/data/" in name and len(data) == 77 else data

    rewritten(path, grown, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 8 * 2**20
    with pytest.raises(CheckpointError, match="unfolds to more than its size"):
        read_checkpoint(path)


def test_memory_by_number_is_refused(checkpoint: dict, tmp_path: Path) -> None:
    path = saved(checkpoint | {"more": 7}, tmp_path / "a.ckpt")
    call = b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR"  # bytearray(2 GiB)

    def asking(name: str, data: bytes) -> bytes:
        return data.replace(b"K\x07", call) if name.endswith("data.pkl") else data

    with pytest.raises(CheckpointError, match="it calls builtins bytearray"):
        read_checkpoint(rewritten(path, asking))


def test_a_tensor_longer_than_its_bytes_is_refused(checkpoint: dict, tmp_path: Path) -> None:
    path = saved(checkpoint | {"more": torch.zeros(77, dtype=torch.uint8)}, tmp_path / "a.ckpt")
    lie = b"J" + struct.pack("<i", 2**31 - 1)

    def lying(name: str, data: bytes) -> bytes:
        return data.replace(b"KM", lie) if name.endswith("data.pkl") else data

    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(rewritten(path, lying))


# --- what it says ---

DESCRIPTIONS: dict[str, tuple[Any, str]] = {
    "no mapping": ([1], "not written by diffcf"),
    "no graph": ({"graph": None}, "cannot be made: A graph needs"),
    "no networks": ({"networks": 3}, "cannot be made"),
    "command as method": ({"method": "os.system"}, "is not a diffcf.methods.CounterfactualModule"),
    "process as method": ({"method": "subprocess.Popen"}, "is not a diffcf"),
    "eval as network": ({"networks": {"generator": {"class_path": "builtins.eval"}}}, "is not a"),
    "trap as method": ({"method": "trap_module.Network"}, "set DIFFCF_TRUST=trap_module"),
    "trap as network": (
        {"networks": {"generator": {"class_path": "trap_module.Network"}}},
        "importing it would run it",
    ),
    "giant network": (
        {"networks": {"nscm": {"class_path": "diffcf.causal.nscm.NSCM",
                               "init_args": {"hidden": [40_000, 40_000]}}}},
        "bytes of tensors",
    ),
    "giant in steps": (
        {"networks": {"nscm": {"class_path": "diffcf.causal.nscm.NSCM",
                               "init_args": {"hidden": [900] * 1000}}}},
        "bytes of tensors",
    ),
    "no numbers": (
        {"networks": {"nscm": {"class_path": "diffcf.causal.nscm.NSCM",
                               "init_args": {"hidden": ["a"]}}}},
        "cannot be made",
    ),
    "other arguments": (
        {"networks": {"nscm": {"class_path": "diffcf.causal.nscm.NSCM", "init_args": [1]}}},
        "are by name",
    ),
    "giant image": ({"image": [3, 10**9, 10**9]}, r"images are of \[C, H, W\]"),
    "ties of nothing": ({"ties": 3}, "Ties of factors are a list"),
    "ties of other factors": (
        {"ties": [{"factors": ["light", "moon"], "points": [[0, 0]]}]},
        "Unknown factor 'moon'",
    ),
    "other settings": ({"settings": {"magic": 1}}, "cannot be made"),
}  # fmt: skip


@pytest.mark.parametrize("name", DESCRIPTIONS)
@pytest.mark.parametrize("kind", ["checkpoint", "weights file"])
def test_a_description_builds_nothing_else(
    checkpoint: dict, tmp_path: Path, trap: Path, name: str, kind: str
) -> None:
    change, said = DESCRIPTIONS[name]
    spec = checkpoint[SPEC_KEY]
    told = {**spec, **change} if isinstance(change, dict) else change
    if isinstance(change, dict) and isinstance(change.get("networks"), dict):
        told["networks"] = {**spec["networks"], **change["networks"]}
    if kind == "checkpoint":
        path = saved({**checkpoint, SPEC_KEY: told}, tmp_path / "a.ckpt")
    else:
        path = tmp_path / "a.safetensors"
        path.write_bytes(save(checkpoint["state_dict"], {SPEC_KEY: json.dumps(told)}))
        said = said.replace("not written by diffcf", "holds no weights of diffcf")
    with pytest.raises(CheckpointError, match=said) as error:
        diffcf.load(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    assert not trap.exists()


@pytest.mark.parametrize(
    "sampling",
    [[], {"steps": 10**9}, {"steps": "many"}, {"t_max": float("nan")}, {"anchored": "yes"},
     {"guidance": "os.system"}, {"guidance": {"class_path": "trap_module.Network"}},
     {"guidance": {"class_path": "diffcf.diffusion.guidance.gradient_rules.ConstantGuidance",
                   "init_args": {"scale": "x"}}},
     {"free": 3}, {1: 2}, {"undetermined": "guess"}, {"undetermined": []}],
    ids=str,
)  # fmt: skip
def test_how_to_draw_is_checked(
    checkpoint: dict, tmp_path: Path, trap: Path, sampling: Any
) -> None:
    with pytest.raises(ValueError):
        sampling_from_spec(sampling)
    path = saved(checkpoint | {SAMPLING_KEY: sampling}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="does not say how to draw"):
        diffcf.load(path)
    assert not trap.exists()


def test_weights_of_another_network_are_refused(checkpoint: dict, tmp_path: Path) -> None:
    name = next(iter(checkpoint["state_dict"]))
    for state in (None, {}, {name: torch.zeros(3)}, {1: 2}):
        path = saved(checkpoint | {"state_dict": state}, tmp_path / "a.ckpt")
        with pytest.raises(CheckpointError, match=r"a\.ckpt"):
            diffcf.load(path)


# --- safetensors ---


def with_header(path: Path, header: bytes, claimed: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if claimed is None else claimed) + header)
    return path


LYING = {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}
HEADERS: dict[str, tuple[bytes, int | None]] = {
    "longer than the file": (b"{}", 2**60),
    "no JSON": (b"{{{{", None),
    "tensor beyond the end": (json.dumps({"a": LYING}).encode(), None),
    "negative": (json.dumps({"a": LYING | {"data_offsets": [8, 0]}}).encode(), None),
    "deep": (b'{"a":' * 5000 + b"1" + b"}" * 5000, None),
    "huge": (b'{"__metadata__":{"diffcf":"' + b"a" * 101_000_000 + b'"}}', None),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_lying_header_is_refused(tmp_path: Path, name: str) -> None:
    path = with_header(tmp_path / "a.safetensors", *HEADERS[name])
    for read in (diffcf.load, EvaluatorReader.load):
        with pytest.raises(CheckpointError, match="is no safetensors file"):
            read(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "[]", '{"graph": 1}', "1" * 10_000, ""])
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"a": torch.zeros(1)}, {SPEC_KEY: text}))
    for read in (diffcf.load, EvaluatorReader.load):
        with pytest.raises(CheckpointError, match=r"a\.safetensors"):
            read(path)


# --- whom one trusts ---


def test_only_what_is_trusted_is_imported(trap: Path, monkeypatch, graph) -> None:
    with pytest.raises(ValueError, match="not ours"):
        class_at("trap_module.Network", object)
    with pytest.raises(ValueError, match="not ours"):
        build_network({"class_path": "trap_module.Network"}, graph)
    assert not trap.exists()
    monkeypatch.setenv(TRUST, "other, trap_module")
    assert class_at("trap_module.Network", object).__name__ == "Network"
    assert trap.exists()


def test_what_the_program_imported_itself_may_be_named(trap: Path) -> None:
    import trap_module  # noqa: F401

    assert class_at("trap_module.Network", object).__name__ == "Network"


ODD = ["", "Network", ".Network", "..a.B", "diffcf.", "diffcf.none.A", "diffcf.__main__.A"]


@pytest.mark.parametrize("path", [*ODD, "diffcf.api.Model", "diffcf\x00.a"])
def test_odd_names_are_no_classes(path: str) -> None:
    with pytest.raises(ValueError):
        class_at(path, torch.nn.Module)


def test_a_weights_file_comes_back(model: DiffusionCounterfactuals, tmp_path: Path) -> None:
    """The bound on memory leaves room for half precision."""
    model.image_shape = (3, 32, 32)
    write_weights(model, Sampling(steps=2), tmp_path / "a.safetensors", torch.float16)
    assert diffcf.load(tmp_path / "a.safetensors").sampling.steps == 2
