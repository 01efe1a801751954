"""Experiments cut down to seconds: two epochs of three steps on a handful of images.

Drawing takes most of them: where the pictures do not matter, run it :func:`undrawn`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def tiny(folder: Path, experiment: str = "pendulum_quick", **data: Any) -> str:
    """A small version of ``experiments/<experiment>.yaml`` that runs in ``folder``; its path.

    ``data`` replaces arguments of the data module.
    """
    text = (ROOT / f"experiments/{experiment}.yaml").read_text()
    config = yaml.safe_load(text.replace(f"runs/{experiment}", str(folder)))
    config["data"]["init_args"] |= {
        "image_size": 32,
        "batch_size": 8,
        "eval_batch_size": 6,
        "train_size": 24,
        "val_size": 4,
        "test_size": 6,
        **data,
    }
    model = config["model"]["init_args"]
    model["generator"]["init_args"] |= {"channels": [8, 16], "condition": 16}
    whole = model["projector"]["class_path"].endswith("GlobalPosteriorProjector")
    model["projector"]["init_args"] |= {"channels": [8, 16] if whole else 8}
    if model["mixing"]:
        model |= {"head_start": 0.33, "projector_end": 0.8}
    config["trainer"] |= {
        "accelerator": "cpu",
        "precision": "32-true",
        "max_steps": 6,
        "limit_train_batches": 3,
        "val_check_interval": 6,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
    }
    for callback in config["trainer"]["callbacks"]:
        if callback["class_path"].endswith("CounterfactualCallback"):
            guidance = {
                "class_path": "diffcf.diffusion.guidance.gradient_rules.GaussNewtonGuidance"
            }
            callback["init_args"] |= {
                "sampling": {"steps": 2, "guidance": guidance},
                "val_images": 4,
                "samples": 1,
                "protocol": {"steps": 2, "cycles": 2, "resamples": 20},
            }
    config["trainer"]["callbacks"] = [
        c for c in config["trainer"]["callbacks"] if "ProgressBar" not in c["class_path"]
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def measure_least(path: str) -> None:
    """Single interventions on one image at a validation and on few at a test, in one step each."""
    config = yaml.safe_load(Path(path).read_text())
    nothing = {"steps": 0, "cycles": 0, "reverse_images": 0, "references": False, "resamples": 2}
    for callback in config["trainer"]["callbacks"]:
        if callback["class_path"].endswith("CounterfactualCallback"):
            least = {"val_images": 1, "samples": 1, "protocol": nothing, "sampling": {"steps": 1}}
            callback["init_args"] |= least
    Path(path).write_text(yaml.safe_dump(config))


@contextmanager
def undrawn() -> Iterator[None]:
    """Validations and tests leave no pictures; the numbers are those they would be."""
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        yield


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("diffcf.reporting.figures_of", lambda *_: {})


def add_callback(path: str, class_path: str, **init_args: Any) -> None:
    """Add a callback to the config at ``path``."""
    config = yaml.safe_load(Path(path).read_text())
    config["trainer"]["callbacks"].append({"class_path": class_path, "init_args": init_args})
    Path(path).write_text(yaml.safe_dump(config))
