"""The card of a weights file: what it is, how it was trained, and how well it was tested."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import safe_open

from diffcf.causal import Dag
from diffcf.io import HUB, CheckpointError, ImageTransform, present
from diffcf.reporting.results import Record, read_record
from diffcf.reporting.single import results_table
from diffcf.reporting.tables import markdown


def card(path: Path, name: str, metrics: Path | None) -> str:
    """What people should know of a weights file, in markdown.

    Args:
        path: the weights file.
        name: by which ``diffcf.load`` finds it.
        metrics: file of its test's metrics; None says that it was not tested.

    Raises:
        ResultsError: for metrics that are no results of diffcf.
    """
    record = {} if metrics is None else read_record(metrics)
    facts = list(map(list, _facts(path, record).items()))
    title = f"# Weights: {name.removeprefix(HUB)}\n\n`diffcf.load({name!r})`"
    tested = "Not tested.\n" if metrics is None else results_table([metrics])
    if "also" in record:
        tested += f"\n{_tests_table([record, *record['also']])}"
    return f"{title}\n\n{markdown(['', ''], facts)}\n## Tested\n\n{tested}"


def check_tested(
    record: Record, file: Path, training: Mapping[str, object], weights: object
) -> None:
    """CheckpointError unless the metrics in ``file`` are of weights of this training."""
    if record["provenance"]["training"] != training:
        raise CheckpointError(f"{file} is of another training than {weights}.")


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
    """What the file and the record of its test say; what neither knows is left out."""
    with safe_open(path, framework="np") as stored:
        spec = present(json.loads(stored.metadata()["diffcf"]))  # SPEC_KEY, without PyTorch
    graph, sampling = Dag.from_dict(spec["graph"]), spec["sampling"]
    rule = (sampling["guidance"] or {"class_path": "no guidance"})["class_path"].rpartition(".")[2]
    cost = record.get("cost")  # older tests did not measure it
    data = record["provenance"]["config"]["data"] if record else spec.get("data")
    facts = {
        "method": f"`{spec['method']}`",
        "images": " × ".join(map(str, spec.get("image") or ())),
        "files": str(ImageTransform.from_dict(seen)) if (seen := spec.get("transform")) else "",
        "factors": "; ".join(f"{factor.name}: {factor.domain}" for factor in graph.factors),
        "edges": "; ".join(f"{cause} → {effect}" for cause, effect in graph.edges),
        "parameters": f"{cost['parameters']:,}" if cost else "",
        "draws by": f"{sampling['steps']} steps, anchored: {sampling['anchored']}, {rule}",
        "trained": _trained(spec["training"]) if spec["training"] else "",
        "data": f"`{data['class_path']}`" if data else "",
    }
    return {name: fact for name, fact in facts.items() if fact or name == "edges"}


def _trained(training: Record) -> str:
    """Steps, seed, time and device, of the training it started from first."""
    minutes, steps, seed = training["seconds"] / 60, training["steps"], training["seed"]
    text = f"{steps} steps, seed {seed}, {minutes:.1f} minutes on {training['device']}"
    return f"{_trained(training['initial'])}; from there {text}" if "initial" in training else text
