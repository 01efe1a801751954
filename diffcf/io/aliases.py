"""Old names: what checkpoints, weights, results and YAML of earlier versions call things.

Everything that reads such a file passes it through :func:`present` (descriptions) and
:func:`present_tensors` (weights), so that the rest of diffcf knows today's names only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

MOVED = {
    "data_modules.published": "data_modules",
    "data_modules.scenes": "data_modules.scenes",
    "data_modules.shadow_images": "data_modules",
    "diffcf.baselines": "diffcf.methods",
    "diffcf.baselines.reference": "diffcf.evaluation",
    "diffcf.callbacks": "diffcf.training",
    "diffcf.classifier_free": "diffcf.diffusion",
    "diffcf.conditioning": "diffcf.networks",
    "diffcf.counterfactual": "diffcf.methods",
    "diffcf.counterfactual_module": "diffcf.methods",
    "diffcf.evaluator": "diffcf.evaluation",
    "diffcf.generator": "diffcf.networks",
    "diffcf.guidance": "diffcf.diffusion",
    "diffcf.mixing": "diffcf.networks",
    "diffcf.module": "diffcf.methods",
    "diffcf.nscm": "diffcf.causal",
    "diffcf.projector": "diffcf.networks",
    "diffcf.protocol": "diffcf.evaluation",
    "diffcf.sharding": "diffcf.methods",
}
"""Where the classes of a module or package went; the longest name that fits counts."""
RENAMED = {"diffcf.evaluator.latents.LatentEncoder": "diffcf.evaluation.ImageVAE"}
"""Classes that got another name as well."""
ARGUMENTS = {
    "ConditionalHVAE": {"canvas": "broadcast"},
    "DiffusionCounterfactuals": {"ghost": "leakage"},
    "LatentDecoder": {"canvas": "broadcast"},
    "LatentUNet": {"canvas": "broadcast"},
    "ShardedDiffusionCounterfactuals": {"ghost": "leakage"},
    "UNet": {"canvas": "broadcast"},
}
"""By class, arguments that got another name."""
SAMPLING = {"doubt": "contamination"}
"""Likewise, of what is described under ``sampling``."""
TENSORS = {".canvas.": ".broadcast."}
"""Parts of the names of weights."""


def present_name(path: str) -> str:
    """Today's dotted name of a class."""
    if path in RENAMED:
        return RENAMED[path]
    module, _, name = path.rpartition(".")
    while module and name[:1].isupper():
        if module in MOVED:
            return f"{MOVED[module]}.{name}"
        module = module.rpartition(".")[0]
    return path


def present(described: T) -> T:
    """A description (mappings, lists and primitives) in today's names.

    >>> present({"class_path": "diffcf.generator.UNet", "init_args": {"canvas": 64}})
    {'class_path': 'diffcf.networks.UNet', 'init_args': {'broadcast': 64}}
    """
    if isinstance(described, list):
        return [present(item) for item in described]  # type: ignore[return-value]
    if not isinstance(described, dict):
        return described
    found = {key: present(value) for key, value in described.items()}
    path = found.get("class_path")
    if isinstance(path, str):
        found["class_path"] = present_name(path)
        arguments = ARGUMENTS.get(path.rpartition(".")[2], {})
        found["init_args"] = _renamed(found.get("init_args"), arguments)
        if found["init_args"] is None:
            del found["init_args"]
    if isinstance(found.get("method"), str):
        found["method"] = present_name(found["method"])
    if "sampling" in found:
        found["sampling"] = _renamed(found["sampling"], SAMPLING)
    return found  # type: ignore[return-value]


def present_tensors(tensors: Mapping[str, T]) -> dict[str, T]:
    """Weights by today's names."""
    found = {}
    for name, value in tensors.items():
        name = str(name)
        for old, new in TENSORS.items():
            name = name.replace(old, new)
        found[name] = value
    return found


def _renamed(arguments: object, names: Mapping[str, str]) -> object:
    if not isinstance(arguments, dict):
        return arguments
    return {names.get(key, key): value for key, value in arguments.items()}
