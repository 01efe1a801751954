"""The methods of experiments/benchmarks/methods, small and untrained, and a batch for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from stirring import stir
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.methods import CounterfactualModule
from diffcf.methods.engine import Sampling

ROOT = Path(__file__).parents[1]
METHODS = sorted((ROOT / "experiments/benchmarks/methods").glob("*.yaml"))
SMALL = {
    ("channels", list): [8, 16],
    ("channels", int): 8,
    ("encoder", list): [8, 16],
}
STAGE = {
    "class_path": "diffcf.networks.first_stage.ConvAutoencoder",
    "init_args": {"latent_channels": 4, "channels": [8, 16]},
}
MIXED = CausalGraph(
    [
        Factor("sun", low=0.0, high=2.0),
        Factor("male", kind="binary"),
        Factor("shape", kind="categorical", categories=("ball", "cube", "cone")),
        Factor("shade", low=-1.0, high=1.0),
    ],
    [("sun", "shade"), ("shape", "shade")],
)


def _shrunk(value: Any) -> Any:
    """The description with small networks: every width it states, by name and kind."""
    if not isinstance(value, dict):
        return value
    small = {key: SMALL[key, type(v)] for key, v in value.items() if (key, type(v)) in SMALL}
    return {key: _shrunk(v) for key, v in value.items()} | small


def _in_latents(networks: dict[str, Any]) -> dict[str, Any]:
    """The networks for latents of 4 channels, and a first stage of stride 4 that makes them."""
    shape = {"image_channels": 4, "patch": 1}
    changed: dict[str, Any] = {"first_stage": STAGE}
    for name in ("generator", "projector", "encoder", "decoder", "hvae", "predictor"):
        if name in networks:
            known = networks[name].get("init_args", {})
            own: dict[str, Any] = dict(shape)
            if name == "predictor":
                own = {"encoder": {**known.get("encoder", {}), **shape}}
            changed[name] = {**networks[name], "init_args": {**known, **own}}
    return networks | changed


def built(
    path: Path, graph: CausalGraph, latents: bool = False
) -> tuple[CounterfactualModule, Sampling]:
    stated = yaml.safe_load(path.read_text())
    model = _shrunk(stated["model"])
    if latents:
        model["init_args"] = _in_latents(model["init_args"])
    model["init_args"]["graph"] = graph.to_dict()
    sampling = stated.get("sampling", {}) | {"steps": 2}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=CounterfactualModule)
    parser.add_argument("--sampling", type=Sampling)
    parts = parser.instantiate(parser.parse_object({"model": model, "sampling": sampling}))
    stir(parts.model)
    parts.model._trainer = None
    return parts.model.eval(), parts.sampling


def mixed_batch() -> tuple[Tensor, Tensor]:
    """Six images that show nothing, and factors over :data:`MIXED`."""
    factors = torch.rand(6, 4)
    factors[:, 1] = (factors[:, 1] > 0.5).float()
    factors[:, 2] = (factors[:, 2] * 3).floor() / 2
    return torch.rand(6, 3, 32, 32) * 2 - 1, factors
