"""Shared fixtures: a small graph, small networks, and one thread (small tensors thrash on more)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import pytest

# Before torch reads it, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from small_runs import undrawn

from data_modules.scenes.pendulum import PendulumScene
from diffcf.causal.graph import CausalGraph
from diffcf.causal.nscm import NSCM
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.networks.projector import LocalPosteriorProjector
from diffcf.networks.region_mixing import RegionMixer
from diffcf.networks.unet import UNet


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(name="undrawn")
def _undrawn() -> Iterator[None]:
    with undrawn():
        yield


@pytest.fixture(scope="session")
def scene() -> PendulumScene:
    return PendulumScene()


@pytest.fixture(scope="session")
def graph(scene: PendulumScene) -> CausalGraph:
    return scene.graph


@pytest.fixture(scope="session")
def small_batch(scene: PendulumScene) -> dict[str, torch.Tensor]:
    factors = scene.published_grid()[0].float()
    factors = factors[scene.visible(factors)][:: 7308 // 9][:8]
    index = torch.arange(len(factors))
    return {"image": scene.render(factors, 32), "factors": factors, "index": index}


@pytest.fixture
def model(graph: CausalGraph) -> DiffusionCounterfactuals:
    return DiffusionCounterfactuals(
        graph,
        generator=partial(UNet, channels=[8, 16], condition=16, attention_heads=2),
        projector=partial(LocalPosteriorProjector, channels=8, condition=8),
        nscm=partial(NSCM, hidden=[8]),
        mixing=RegionMixer(),
    )
