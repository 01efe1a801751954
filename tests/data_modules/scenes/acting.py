"""``do`` on a scene, as tests write it."""

import torch
from torch import Tensor

from diffcf.causal.interface import Scene


def act(scene: Scene, factors: Tensor, **do: float | Tensor) -> Tensor:
    """Counterfactual of ``factors`` ``[B, K]``, with the same factors set in every sample."""
    values, mask = torch.zeros_like(factors), torch.zeros_like(factors, dtype=torch.bool)
    for name, value in do.items():
        values[:, scene.graph.column(name)] = value
        mask[:, scene.graph.column(name)] = True
    return scene.counterfactual(factors, values, mask)
