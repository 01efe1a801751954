"""``diffcf weights CKPT METRICS.json --out diffcf/weights/pendulum.safetensors``: to give away.

``--also`` names the metrics of further tests, on images of another style for example: the card has
a row for each. Beside the weights come the metrics they were tested with, and a card for people:
``pendulum.json`` and ``pendulum.md``. ``diffcf weights --check FILE.safetensors`` says whether the
three belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

import diffcf
from diffcf import diffusion, methods  # what is in them on demand: a check needs no PyTorch
from diffcf.io import (
    CheckpointError,
    SettingsError,
    check_new,
    file_digest,
    public,
    write_json,
    write_text,
)
from diffcf.reporting import Record, card, check_tested, read_record

if TYPE_CHECKING:
    from diffcf.methods import Sampling


def weights(args: Sequence[str]) -> None:
    """Command ``diffcf weights``; ``--help`` lists the arguments."""
    about = "Make weights to ship, or check them."
    parser = ArgumentParser(prog="diffcf weights", description=about)
    parser.add_argument("ckpt", type=Path, nargs="?", help="Checkpoint, or weights tested anew.")
    parser.add_argument("metrics", type=Path, nargs="?", help="metrics.json of its test.")
    further = "metrics.json of further tests, such as one on published files."
    parser.add_argument("--also", type=Path, nargs="+", default=[], help=further)
    parser.add_argument("--out", type=Path, help="File to write, .safetensors.")
    parser.add_argument("--image", type=list[int], help="[C, H, W], where the checkpoint lacks it.")
    half = "Keep 16 bits of each number, half the size; test the weights as they are kept."
    parser.add_argument("--half", type=bool, default=False, help=half)
    parser.add_argument("--check", type=Path, help="Weights file to check instead.")
    parsed = parser.parse_args(list(args))
    if parsed.check is not None:
        check(parsed.check)
        print(f"{parsed.check}: weights, metrics and card belong together.")
        return
    if parsed.ckpt is None or parsed.metrics is None or parsed.out is None:
        parser.error("name a checkpoint, the metrics of its test and --out; or --check")
    import torch

    if parsed.out.suffix != methods.WEIGHTS_SUFFIX:
        raise SettingsError(
            f"{parsed.out} does not end in .safetensors, by which weights are known."
        )
    for suffix in (methods.WEIGHTS_SUFFIX, ".json", ".md"):
        check_new(parsed.out.with_suffix(suffix))
    record = read_record(parsed.metrics)
    model = diffcf.load(parsed.ckpt).module
    if parsed.image is not None:
        model.image_shape = tuple(parsed.image)
    if model.image_shape is None:
        parser.error("this checkpoint does not say how large its images were: give --image")
    also = [read_record(file) for file in parsed.also]
    for file, tested in zip([parsed.metrics, *parsed.also], [record, *also], strict=True):
        check_tested(tested, file, model.training_record.as_dict(), parsed.ckpt)
    dtype = torch.float16 if parsed.half else torch.float32
    methods.write_weights(model, _sampling(record), parsed.out, dtype)
    record["weights"] = digest(parsed.out)
    if also:
        kept = ("metrics", "images", "ruler_error", "left_out", "provenance")
        record["also"] = [{key: test[key] for key in kept if key in test} for test in also]
    write_json(public(record), parsed.out.with_suffix(".json"))
    write_text(_card(parsed.out), parsed.out.with_suffix(".md"))
    print(f"Wrote {parsed.out}, its metrics and its card.")


def check(path: Path) -> None:
    """Raises CheckpointError unless weights, metrics and card at ``path`` belong together."""
    record = read_record(path.with_suffix(".json"))
    if record.get("weights") != digest(path):
        raise CheckpointError(f"{path} is not the file that its metrics were written beside.")
    written = path.with_suffix(".md")
    if not written.is_file() or written.read_text(encoding="utf-8") != _card(path):
        raise CheckpointError(
            f"{written} is not the card of {path}: write the three anew by diffcf weights."
        )


def _card(path: Path) -> str:
    return card(path, path.stem, path.with_suffix(".json"))


def _sampling(record: Record) -> Sampling:
    """How the test drew."""
    spec = dict(record["provenance"]["sampling"])
    if rule := spec.get("guidance"):
        arguments = {key: value for key, value in rule.items() if key != "rule"}
        path = f"{diffusion.__name__}.{rule['rule']}"
        spec["guidance"] = {"class_path": path, "init_args": arguments}
    for name, part in spec.items():
        if name != "guidance" and isinstance(part, dict):
            spec[name] = {key: value for key, value in part.items() if key != "rule"}
    return methods.sampling_from_spec(spec)


def digest(path: Path) -> str:
    """SHA-256 of a weights file, by which its metrics know it; CheckpointError without a file."""
    if not path.is_file():
        raise CheckpointError(f"Weights {path} do not exist: check the path.")
    return file_digest(path)
