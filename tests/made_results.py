"""Results as ``diffcf benchmark`` writes them, with numbers of our choice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph

CHAIN = CausalGraph([Factor(name) for name in "abc"], [("a", "b"), ("b", "c")])


def record(dataset: str, method: str, seed: int, acm: float, **metrics: float) -> dict[str, Any]:
    """One seed; ``acm`` of roots, the double in between, the triple of leaves."""
    measured = {"acm/a": acm, "acm/a/a": acm, "acm/b": 2 * acm, "acm/c": 3 * acm}
    measured |= {"acm/roots": acm, "acm/leaves": 3 * acm, "acm/step_1": acm, "acm/step_2": 2 * acm}
    measured |= {"acm/step_growth": 2.0, "psnr": 30.0, "do_nothing/acm/roots": 0.2}
    measured |= {"do_nothing/acm/leaves": 0.1, "do_nothing/acm/b": 0.3, "exact/acm/roots": 0.001}
    measured |= {"cost/parameters": 2.5e6, "cost/evaluations": 60.0, "cost/seconds": 0.2}
    return {
        "metrics": measured | {key.replace("__", "/"): value for key, value in metrics.items()},
        "images": 8,
        "readers": ["ruler"],
        "protocol": {"steps": 2, "seed": 0, "fid_images": seed},
        "cost": {"images": 4},
        "provenance": {
            "method": "some.Method",
            "graph": CHAIN.to_dict(),
            "device": "a tester, 1 threads",
            "training": {"seconds": 120.0, "processor_seconds": 60.0, "device": "a trainer"},
            "sampling": {"guidance": None, "steps": 30},
            "config": {
                "trainer": {
                    "max_steps": -1,
                    "callbacks": [
                        {
                            "class_path": "diffcf.training.callbacks.running.TrainingBudget",
                            "init_args": {"minutes": 30.0, "clock": "processor"},
                        }
                    ],
                }
            },
        },
        "benchmark": {"dataset": dataset, "method": method, "seed": seed},
    }


def write(folder: Path, made: dict[str, Any]) -> Path:
    """The record where the benchmark puts it."""
    block = made["benchmark"]
    path = folder / block["dataset"] / block["method"] / f"{block['seed']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made))
    return path


def grid(folder: Path) -> Path:
    """Two seeds of ours, one of a variant and of a peer that takes no steps; ``folder``."""
    for seed, acm in enumerate((0.01, 0.02)):
        write(folder, record("toy", "ours", seed, acm))
    write(folder, record("toy", "ours_without_mixing", 0, 0.05))
    peer = record("toy", "a_peer", 0, 0.03, psnr=35.0, cost__evaluations=2.0, cost__seconds=0.01)
    peer["benchmark"]["title"] = "Peer & Co_1"
    write(folder, peer)
    return folder
