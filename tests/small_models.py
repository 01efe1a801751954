"""A small model that answers and draws, with stirred weights, for tests of both."""

from __future__ import annotations

from functools import partial

from stirring import stir

from diffcf.api import Model
from diffcf.causal import NSCM, CausalGraph
from diffcf.methods import DiffusionCounterfactuals, Sampling
from diffcf.networks import LocalPosteriorProjector, UNet


def small_model(graph: CausalGraph, sampling: Sampling, **settings: object) -> Model:
    """Of images of 16 pixels; ``settings`` are the module's, as a first stage of 4 channels."""
    shape = {"image_channels": 4, "patch": 1} if "first_stage" in settings else {}
    module = DiffusionCounterfactuals(
        graph,
        generator=partial(UNet, channels=[8, 8], condition=8, attention_heads=1, **shape),
        projector=partial(LocalPosteriorProjector, channels=8, condition=8, **shape),
        nscm=partial(NSCM, hidden=[8]),
        **settings,  # type: ignore[arg-type]
    )
    stir(module)
    module.image_shape = (3, 16, 16)
    return Model(module, sampling)
