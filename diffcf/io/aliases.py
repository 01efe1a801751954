"""Old names in checkpoints, weights, results and YAML of earlier versions, and what replaced them.

Whatever reads such a file calls :func:`present` and :func:`present_tensors`, so that the rest of
diffcf knows today's names only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

MOVED = {
    "data_modules.published": "data_modules",
    "data_modules.scenes": "data_modules.scenes",
    "data_modules.shadow_images": "data_modules",
    "diffcf.baselines": "diffcf.methods",
    "diffcf.baselines.encoder": "diffcf.networks",
    "diffcf.baselines.reference": "diffcf.evaluation",
    "diffcf.callbacks": "diffcf.training",
    "diffcf.classifier_free": "diffcf.diffusion",
    "diffcf.conditioning": "diffcf.networks",
    "diffcf.counterfactual": "diffcf.methods",
    "diffcf.counterfactual_module": "diffcf.methods",
    "diffcf.evaluator": "diffcf.evaluation",
    "diffcf.generator": "diffcf.networks",
    "diffcf.graph": "diffcf.causal",
    "diffcf.guidance": "diffcf.diffusion",
    "diffcf.methods.diffusion_counterfactuals": "diffcf.methods",
    "diffcf.mixing": "diffcf.networks",
    "diffcf.module": "diffcf.methods",
    "diffcf.nscm": "diffcf.causal",
    "diffcf.projector": "diffcf.networks",
    "diffcf.protocol": "diffcf.evaluation",
    "diffcf.rectangles": "diffcf.networks",
    "diffcf.sharding": "diffcf.methods",
}
"""Rooms of the classes that a module or package held; the longest name that fits counts."""
RENAMED = {
    "diffcf.evaluator.latents.LatentEncoder": "diffcf.evaluation.ImageVAE",
    "diffcf.protocol.Protocol": "diffcf.evaluation.EvaluationProtocol",
}
"""Classes that got another name as well."""
BROADCAST, LEAKAGE = {"canvas": "broadcast"}, {"ghost": "leakage"}
SAMPLING = {"doubt": "contamination"}
ARGUMENTS = {
    "ConditionalHVAE": BROADCAST,
    "DiffusionCounterfactuals": LEAKAGE,
    "LatentDecoder": BROADCAST,
    "LatentUNet": BROADCAST,
    "Sampling": SAMPLING,
    "ShardedDiffusionCounterfactuals": LEAKAGE,
    "UNet": BROADCAST,
}
"""Renamed arguments, by class."""


def present_name(path: str) -> str:
    """Today's dotted name of a class; any other text is returned as it is."""
    if path in RENAMED:
        return RENAMED[path]
    module, _, name = path.rpartition(".")
    while module and name[:1].isupper() and name.isidentifier():
        if module in MOVED:
            return f"{MOVED[module]}.{name}"
        module = module.rpartition(".")[0]
    return path


def present(described: T) -> T:
    """A description (mappings, lists and primitives) in today's names.

    >>> present({"class_path": "diffcf.generator.UNet", "init_args": {"canvas": 64}})
    {'class_path': 'diffcf.networks.UNet', 'init_args': {'broadcast': 64}}
    """
    if isinstance(described, str):
        return present_name(described)  # type: ignore[return-value]
    if isinstance(described, list):
        return [present(item) for item in described]  # type: ignore[return-value]
    if not isinstance(described, dict):
        return described
    found = {_present_key(key): present(value) for key, value in described.items()}
    name = str(found.get("class_path")).rpartition(".")[2]
    for key, names in (("init_args", ARGUMENTS.get(name, {})), ("sampling", SAMPLING)):
        if key in found:
            found[key] = _renamed(found[key], names)
    if isinstance(found.get("variants"), dict):  # of an ablation: a sampling each
        found["variants"] = {k: _renamed(v, SAMPLING) for k, v in found["variants"].items()}
    return found  # type: ignore[return-value]


def present_transform(spec: Mapping[str, object]) -> object:
    """How files became images, by a model's description; older ones have it with their data.

    None where the description does not say.

    >>> arguments = {"image_size": 64, "crop": 148, "root": "data"}
    >>> present_transform({"data": {"class_path": "…", "init_args": arguments}})
    {'size': 64, 'crop': 148}
    """
    if "transform" in spec:
        return spec["transform"]
    data = spec.get("data")
    arguments = data.get("init_args") if isinstance(data, Mapping) else None
    if not isinstance(arguments, Mapping) or "image_size" not in arguments:
        return None
    known = {name: arguments[name] for name in ("crop", "channels") if name in arguments}
    return {"size": arguments["image_size"], **known}


def present_tensors(tensors: Mapping[str, T]) -> dict[str, T]:
    """Weights by today's names."""
    return {str(name).replace(".canvas.", ".broadcast."): value for name, value in tensors.items()}


def _present_key(key: object) -> object:
    """Metrics "…/in_turn" are "…/sequence" today."""
    return re.sub("/in_turn$", "/sequence", key) if isinstance(key, str) else key


def _renamed(arguments: object, names: Mapping[str, str]) -> object:
    if not isinstance(arguments, dict):
        return arguments
    return {names.get(key, key): value for key, value in arguments.items()}
