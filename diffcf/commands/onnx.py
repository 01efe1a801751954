"""``diffcf onnx WEIGHTS --out pendulum_onnx``: a model's networks for onnxruntime.

Writes a folder: ``projector.onnx`` reads factors off noisy images, ``step.onnx`` takes one
deterministic DDIM step of the generator, toward noise (inversion) or toward an image (sampling);
where the generator has styles, ``style.onnx`` makes the one of an image; where it works in the
latents of a first stage, ``encoder.onnx`` and ``decoder.onnx`` lead to them and back. ``onnx.json``
says what goes in and comes out, in which units, from which weights, how far onnxruntime and torch
differ, and what is not there. The batch size is free, the image size is not.

Guidance and the causal model stay in Python: the factors to draw come from there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser

from diffcf.api import Model, load
from diffcf.causal import CausalGraph
from diffcf.commands.arguments import Side, add_weights
from diffcf.diffusion import time_grid
from diffcf.io import (
    UnavailableError,
    check_new,
    file_digest,
    path_of,
    public,
    version_of,
    versions,
    whole_folder,
    write_json,
)
from diffcf.methods import (
    EncodedMethod,
    Part,
    Port,
    check_onnx,
    parts_of,
    sampling_to_spec,
    weights_digest,
    write_onnx,
)

UNITS = (
    "Factors are in [0, 1] units: 0 and 1 are the ends of their range, of its logarithm on a log "
    "scale; category k of n is k / (n - 1). In the code a category is one column each, and the "
    "columns of a factor are listed with it."
)


@dataclass(frozen=True)
class Written:
    """What is written, by file as ``onnx.json`` has it, and why each of the others is not."""

    files: dict[str, dict[str, object]]
    missing: dict[str, str]


def onnx(args: Sequence[str]) -> None:
    """Command ``diffcf onnx``; OutputError when the folder exists: nothing is overwritten."""
    parser = ArgumentParser(prog="diffcf onnx", description="Write a model's networks as ONNX.")
    add_weights(parser)
    parser.add_argument("--size", type=Side, help="Side of the images; as in training if left out.")
    parser.add_argument("--out", type=Path, required=True, help="Folder to make.")
    parsed = parser.parse_args(list(args))
    check_new(parsed.out)
    check_onnx()
    model = load(parsed.weights)
    transform = model.image_transform(parsed.size)
    image = transform.channels, transform.size, transform.size
    parts, missing = parts_of(model.module, image)
    with whole_folder(parsed.out) as unfinished:
        written = _write(parts, missing, unfinished)
        about = {"weights": public(parsed.weights), "transform": transform.to_dict()}
        write_json(about | _record(model, written), unfinished / "onnx.json")
    for file, why in written.missing.items():
        print(f"No {file}: {why}", file=sys.stderr)
    print(f"{', '.join(written.files)} and onnx.json are in {parsed.out}")


def _write(parts: Sequence[Part], missing: dict[str, str], folder: Path) -> Written:
    """Write what can be; UnavailableError where that is nothing."""
    written = Written({}, dict(missing))
    failed: UnavailableError | None = None
    for part in parts:
        path = folder / part.file
        try:
            differences = write_onnx(part, path)
        except UnavailableError as error:
            written.missing[part.file], failed = str(error), error
            continue
        written.files[part.file] = {
            "what": part.what,
            "inputs": [_port(port) for port in part.inputs],
            "outputs": [_port(port) for port in part.outputs],
            "sha256": file_digest(path),
            "difference from torch": {str(batch): off for batch, off in differences.items()},
        }
    if failed is not None and not written.files:
        raise failed
    return written


def _port(port: Port) -> dict[str, object]:
    shape = ["B", *port.sides]
    return {"name": port.name, "shape": shape, "type": port.kind, "meaning": port.meaning}


def _record(model: Model, written: Written) -> dict[str, object]:
    """``onnx.json`` but for what was asked."""
    sampling = model.sampling
    latents = isinstance(model.method, EncodedMethod)
    return {
        "weights' content": weights_digest(model.module),
        "method": path_of(type(model.module)),
        "works on": "latents of a first stage" if latents else "images",
        "units": UNITS,
        "factors": list(_factors(model.graph)),
        "files": written.files,
        "missing": written.missing,
        "times": list(time_grid(sampling.steps, sampling.t_max, sampling.spacing)),
        "sampling": sampling_to_spec(sampling),
        "left to Python": list(_left(model)),
        "versions": versions() | {name: version_of(name) for name in ("onnx", "onnxruntime")},
    }


def _factors(graph: CausalGraph) -> Iterator[dict[str, object]]:
    """In the order of ``condition``, with the columns of the code that are theirs."""
    for k, factor in enumerate(graph.factors):
        columns = (graph.code_owner == k).nonzero()[:, 0].tolist()
        yield {"name": factor.name, **factor.to_spec(), "code": columns}


def _left(model: Model) -> Iterator[str]:
    """What the answers of these weights have beyond a loop over ``step.onnx``."""
    sampling = model.sampling
    yield (
        "the causal model: the factors that follow from an intervention, refined readings, and "
        "what the training data leave undetermined"
    )
    if sampling.guidance is not None:
        yield "guidance, which differentiates the projector"
    if sampling.anchored:
        yield "anchored sampling, which corrects the errors of the inversion"
    if sampling.residual:
        yield "the residual of the factual's own drawing, given back where nothing changes"
    if sampling.order > 1:
        yield f"steps of order {sampling.order}"
    if sampling.free is not None or sampling.feedback is not None:
        yield "classifier-free guidance and feedback"
    if sampling.change_filter is not None:
        yield "the filter of the change along the factual's edges"
    if getattr(model.module, "hints", None) is not None:
        yield "hints: where in the picture each factor is written"
    if isinstance(model.method, EncodedMethod):
        yield "what the first stage lost of the factual, given back where nothing changes"
    else:
        yield "the last image clipped to [-1, 1]"
