"""``diffcf weights CKPT METRICS.json --out diffcf/weights/pendulum.safetensors``: to give away.

``--also`` names the metrics of further tests, on images of another style for example: the card has
a row for each. Beside the weights come the metrics they were tested with, and a card for people:
``pendulum.json`` and ``pendulum.md``. ``diffcf weights --check FILE.safetensors`` says whether the
three belong together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser
from safetensors import safe_open

import diffcf
from diffcf import diffusion, methods  # what is in them on demand: a check needs no PyTorch
from diffcf.causal import Dag
from diffcf.io import (
    CheckpointError,
    ImageTransform,
    SettingsError,
    check_new,
    present,
    write_json,
    write_text,
)
from diffcf.reporting import Record, markdown, read_record, results_table

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
        if tested["provenance"]["training"] != model.training_record.as_dict():
            raise CheckpointError(f"{file} is of another training than {parsed.ckpt}.")
    dtype = torch.float16 if parsed.half else torch.float32
    methods.write_weights(model, _sampling(record), parsed.out, dtype)
    record["weights"] = digest(parsed.out)
    if also:
        kept = ("metrics", "images", "ruler_error", "left_out", "provenance")
        record["also"] = [{key: test[key] for key in kept if key in test} for test in also]
    write_json(_public(record), parsed.out.with_suffix(".json"))
    write_text(card(parsed.out), parsed.out.with_suffix(".md"))
    print(f"Wrote {parsed.out}, its metrics and its card.")


def _public(value: Any) -> Any:
    """A record in which paths of this machine are their last parts: nobody else has its folders."""
    if isinstance(value, dict):
        return {key: _public(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_public(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def check(path: Path) -> None:
    """Raises CheckpointError unless weights, metrics and card at ``path`` belong together."""
    record = read_record(path.with_suffix(".json"))
    if record.get("weights") != digest(path):
        raise CheckpointError(f"{path} is not the file that its metrics were written beside.")
    written = path.with_suffix(".md")
    if not written.is_file() or written.read_text(encoding="utf-8") != card(path):
        raise CheckpointError(
            f"{written} is not the card of {path}: write the three anew by diffcf weights."
        )


def card(path: Path) -> str:
    """What people should know of a weights file, from it and from the metrics beside it."""
    metrics = path.with_suffix(".json")
    facts = list(map(list, _facts(path, read_record(metrics)).items()))
    title = f"# Weights: {path.stem}\n\n`diffcf.load({path.stem!r})`"
    tested = f"## Tested\n\n{results_table([metrics])}"
    record = read_record(metrics)
    if "also" in record:
        tested += f"\n{_tests_table([record, *record['also']])}"
    return f"{title}\n\n{markdown(['', ''], facts)}\n{tested}"


_TESTED = {
    "ACM roots": "acm/roots",
    "do nothing": "do_nothing/acm/roots",
    "ACM leaves": "acm/leaves",
    "do nothing, leaves": "do_nothing/acm/leaves",
    "exact, roots": "exact/acm/roots",
    "exact, leaves": "exact/acm/leaves",
}


def _tests_table(records: Sequence[Record]) -> str:
    """A row for each test: of which images, how well, and the worst reading of a factor."""
    rows = []
    for record in records:
        data, metrics = record["provenance"]["config"]["data"], record["metrics"]
        kind = data["class_path"].rpartition(".")[2].removesuffix("DataModule")
        style = (data.get("init_args") or {}).get("style")
        scores = [f"{metrics[key]:.4f}" if key in metrics else "–" for key in _TESTED.values()]
        read = {k.partition("/")[2]: v for k, v in metrics.items() if k.startswith("reading/")}
        worst = max(read, key=read.__getitem__, default=None)
        reading = "–" if worst is None else f"{worst} {read[worst]:.4f}"
        rows.append(
            [f"{kind}, {style}" if style else kind, *scores, reading, str(record["images"])]
        )
    headings = ["images drawn or stored", *_TESTED, "worst reading of the factual", "count"]
    said = "*Exact* are the scene's own counterfactuals: what they score is the ruler's error.\n"
    return f"{markdown(headings, rows)}\n{said}"


def _facts(path: Path, record: Record) -> dict[str, str]:
    with safe_open(path, framework="np") as stored:
        spec = present(json.loads(stored.metadata()["diffcf"]))
    graph, sampling, training = Dag.from_dict(spec["graph"]), spec["sampling"], spec["training"]
    rule = (sampling["guidance"] or {"class_path": "no guidance"})["class_path"].rpartition(".")[2]
    cost = record.get("cost")  # older tests did not measure it
    return {
        "method": f"`{spec['method']}`",
        "images": " × ".join(map(str, spec["image"])),
        **(
            {"files": str(ImageTransform.from_dict(seen))}
            if (seen := spec.get("transform"))
            else {}
        ),
        "factors": "; ".join(f"{factor.name}: {factor.domain}" for factor in graph.factors),
        "edges": "; ".join(f"{cause} → {effect}" for cause, effect in graph.edges),
        **({"parameters": f"{cost['parameters']:,}"} if cost else {}),
        "draws by": f"{sampling['steps']} steps, anchored: {sampling['anchored']}, {rule}",
        "trained": _trained(training),
        "data": f"`{record['provenance']['config']['data']['class_path']}`",
    }


def _trained(training: Record) -> str:
    """Steps, seed, time and device, of the training it started from first."""
    minutes, steps, seed = training["seconds"] / 60, training["steps"], training["seed"]
    text = f"{steps} steps, seed {seed}, {minutes:.1f} minutes on {training['device']}"
    return f"{_trained(training['initial'])}; from there {text}" if "initial" in training else text


def _sampling(record: Record) -> Sampling:
    """How the test drew."""
    spec = dict(record["provenance"]["sampling"])
    if rule := spec.get("guidance"):
        arguments = {key: value for key, value in rule.items() if key != "rule"}
        path = f"{diffusion.__name__}.{rule['rule']}"
        spec["guidance"] = {"class_path": path, "init_args": arguments}
    for name in ("free", "feedback"):
        if rule := spec.get(name):
            spec[name] = {key: value for key, value in rule.items() if key != "rule"}
    return methods.sampling_from_spec(spec)


def digest(path: Path) -> str:
    """SHA-256 of a weights file, by which its metrics know it; CheckpointError without a file."""
    if not path.is_file():
        raise CheckpointError(f"Weights {path} do not exist: check the path.")
    return hashlib.sha256(path.read_bytes()).hexdigest()
