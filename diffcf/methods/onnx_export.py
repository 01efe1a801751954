"""Networks written as ONNX, and compared with themselves in onnxruntime before anyone uses them.

By torch's exporter of traced graphs (``dynamo=True``). Its forerunner, of TorchScript, is going
away, and takes the length of a batch for a constant wherever a network asks for ``len(x)``; the
``strict`` tracing here does not.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from diffcf.io import OutputError, UnavailableError
from diffcf.methods.onnx_parts import Part

OPSET = 18
"""Version of ONNX' operators; an older one is read by more runtimes."""
BATCHES = (1, 3)
"""Sizes at which both runtimes are compared; the graph is traced at another one."""
TRACED, LARGEST = 2, 63
"""Size of the traced batch, and the largest that the trace answers for.

From 64 on diffusers' decoders copy what they have in memory, a branch that a trace cannot have both
sides of. The numbers are the same, so larger batches are answered too.
"""
TOLERANCE = 1e-4
"""Largest difference of both runtimes, as a share of the largest value of an output."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LONGEST = 300  # characters of a cited error


def check_onnx() -> None:
    """UnavailableError where a package is missing without which nothing is exported."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UnavailableError(
            f"ONNX export needs {', '.join(missing)}, which is not installed: "
            "pip install 'diffcf[onnx]'."
        )


@torch.no_grad()
def write_onnx(part: Part, path: Path) -> dict[int, float]:
    """Write a part with any batch size; how far the runtimes differ, by the batch size compared.

    Raises:
        OutputError: when onnxruntime computes something else than torch; no file is left.
        SettingsError: when the images are not the network's.
        UnavailableError: when torch cannot export this network; no file is left.
    """
    part.network.eval()(**part.example(TRACED))  # an error of our own is one of the user's input
    try:
        _export(part, path)
        found = {batch: _difference(part, path, batch) for batch in BATCHES}
    except OSError:  # of the disk, or OutputError
        path.unlink(missing_ok=True)
        raise
    except Exception as error:  # torch, onnxscript and onnxruntime raise dozens of kinds
        path.unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:LONGEST] or type(error).__name__
        raise UnavailableError(
            f"{part.file} cannot be exported by this version of torch ({reason}): use it in Python."
        ) from error
    return found


def _export(part: Part, path: Path) -> None:
    inputs = part.example(TRACED)
    batch = torch.export.Dim("batch", max=LARGEST)
    shapes = {name: {0: batch} for name in inputs}
    with _quiet():
        graph = torch.export.export(
            part.network, (), kwargs=inputs, dynamic_shapes=shapes, strict=True
        )
        program = torch.onnx.export(
            graph,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            verbose=False,
        )
    assert program is not None  # it is None for the exporter's forerunner alone
    _name_outputs(program.model.graph, [port.name for port in part.outputs])
    program.save(path, external_data=False)


def _name_outputs(graph: Any, names: Sequence[str]) -> None:
    """Name the outputs of a graph (``onnx_ir.Graph``), each name for one value alone.

    The exporter calls what is within a graph by its operator, and ``mean`` is one.
    """
    for node in graph:
        for value in node.outputs:
            value.name = f"{value.name}_within" if value.name in names else value.name
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name


def _difference(part: Part, path: Path, batch: int) -> float:
    """The largest of all outputs, as a share of each one's scale; OutputError beyond TOLERANCE."""
    import onnxruntime  # only here

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = part.example(batch, seed=batch)
    expected = part.network(**inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    given = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    worst = 0.0
    for port, ours, theirs in zip(part.outputs, expected, given, strict=True):
        off = (torch.from_numpy(theirs) - ours).abs().max() / ours.abs().max().clamp_min(1e-12)
        if not off <= TOLERANCE:  # nor is NaN
            raise OutputError(
                f"{part.file} is not written, as {port.name} differs by {float(off):.1g} of its "
                f"scale between onnxruntime and torch at batch size {batch} (at most "
                f"{TOLERANCE:g}): try other versions of both, or ask in Python."
            )
        worst = max(worst, float(off))
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes about other packages and its own future."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch._guards")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)  # what fails is told in a sentence
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
