"""The least a method has to be: one class, and one that fails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from diffcf.causal.graph import CausalGraph
from diffcf.causal.intervention import Do, Intervention
from diffcf.methods.base import CounterfactualModule
from diffcf.methods.engine import Sampling
from diffcf.methods.interface import Counterfactual
from diffcf.networks.factory import NetworkFactory


class Palette(nn.Module):
    """A colour ``[B, 3]`` for factors ``[B, K]``."""

    def __init__(self, graph: CausalGraph) -> None:
        super().__init__()
        self.colour = nn.Linear(len(graph), 3)

    def forward(self, factors: Tensor) -> Tensor:
        return self.colour(factors).tanh()


class ToyMethod(CounterfactualModule):
    """Tints the picture by its factors."""

    palette: Any

    def __init__(
        self,
        graph: CausalGraph | dict[str, Any],
        palette: NetworkFactory = Palette,
        **kwargs: Any,
    ) -> None:
        super().__init__(graph, {"palette": palette}, **kwargs)

    def losses(self, image: Tensor, factors: Tensor) -> dict[str, Tensor]:
        return {"colour": (self.palette(factors) - image.mean(dim=(2, 3))).square().mean()}

    def method(self, sampling: Sampling = Sampling()) -> Any:  # noqa: B008
        return Tint(self, sampling)


class BrokenMethod(ToyMethod):
    """Cannot be trained."""

    def losses(self, image: Tensor, factors: Tensor) -> dict[str, Tensor]:
        raise RuntimeError("there is no paint left")


@dataclass(frozen=True)
class Tint:
    """The answers of a :class:`ToyMethod`; a step of sampling tints a little more."""

    module: ToyMethod
    sampling: Sampling

    def abduct(self, image: Tensor, factors: Tensor, keys: Tensor | None = None) -> TintedWorld:
        return TintedWorld(self, image, factors)


@dataclass(frozen=True)
class TintedWorld:
    tint: Tint
    image: Tensor
    factors: Tensor

    @torch.no_grad()
    def predict(self, do: Do | Intervention) -> Counterfactual:
        graph = self.tint.module.graph
        if not isinstance(do, Intervention):
            do = Intervention.from_do(do, graph, len(self.image), self.image.device)
        target = torch.where(do.mask, do.values, self.factors)
        palette, steps = self.tint.module.palette, self.tint.sampling.steps
        change = (palette(target) - palette(self.factors))[:, :, None, None]
        return Counterfactual((self.image + 0.001 * steps * change).clamp(-1, 1), target, do)

    def reabduct(self, answer: Counterfactual) -> TintedWorld:
        return replace(self, image=answer.image)
