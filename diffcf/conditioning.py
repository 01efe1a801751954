"""How t and the known factors enter the generator: as a vector, and as a picture.

Both start from the same features: each factor's sines and cosines, or its code where it is
discrete, and whether it is known.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffcf.blocks import FourierFeatures, append_coordinates
from diffcf.graph import CausalGraph

__all__ = ["Canvas", "ConditionEmbedding", "FactorFeatures"]


class FactorFeatures(nn.Module):
    """Factors ``[B, K]`` and ``known`` ``[B, K]`` (bool) → ``[B, width]``; what is unknown is 0.

    Args:
        graph: gives the factors' kinds; None for a generator that is never told any.
        frequencies: Fourier frequencies of continuous factors.
    """

    def __init__(self, graph: CausalGraph | None, frequencies: int) -> None:
        super().__init__()
        self.graph = graph
        self.fourier = FourierFeatures(frequencies)
        discrete = graph.discrete.tolist() if graph else []
        self._continuous = [k for k, is_discrete in enumerate(discrete) if not is_discrete]
        self._discrete = [k for k, is_discrete in enumerate(discrete) if is_discrete]
        owners = graph.code_owner.tolist() if graph else []
        self._code = [e for e, k in enumerate(owners) if discrete[k]]
        self._owner = [owners[e] for e in self._code]
        self.width = len(self._continuous) * (self.fourier.width + 1)
        self.width += len(self._code) + len(self._discrete)

    def forward(self, t: Tensor, factors: Tensor | None, known: Tensor | None) -> Tensor:
        if factors is None or self.graph is None:
            return t.new_zeros(len(t), self.width)
        if known is None:
            known = torch.ones_like(factors, dtype=torch.bool)
        # where, not a product: an unknown factor may be NaN.
        heeded, flag = torch.where(known, factors, 0.0), known.to(factors)
        waves, told = heeded[:, self._continuous], flag[:, self._continuous, None]
        features = torch.cat([self.fourier(waves) * told, told], dim=-1).flatten(1)
        if not self._discrete:
            return features
        code = 2 * self.graph.encode(heeded)[:, self._code] - 1
        return torch.cat([features, code * flag[:, self._owner], flag[:, self._discrete]], dim=-1)


class ConditionEmbedding(nn.Module):
    """t ``[B]`` and factor features → the conditioning vector ``[B, width]`` of every block."""

    def __init__(self, features: int, width: int, frequencies: int) -> None:
        super().__init__()
        self.fourier = FourierFeatures(frequencies)
        self.mlp = nn.Sequential(
            nn.Linear(self.fourier.width + features, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
        )

    def forward(self, t: Tensor, features: Tensor) -> Tensor:
        return self.mlp(torch.cat([self.fourier(t), features], dim=-1))


class Canvas(nn.Module):
    """Factor features broadcast over the picture: a perceptron of place and factors together.

    Products of sines of a place and sines of a factor are what "draw it there" is made of, so one
    layer can learn it, where convolutions must first work out where they are.

    Reference:
        Spatial Broadcast Decoder (Watters et al., 2019), https://arxiv.org/abs/1901.07017
    """

    def __init__(self, features: int, hidden: int, channels: int, frequencies: int) -> None:
        super().__init__()
        self.fourier = FourierFeatures(frequencies)
        self.place = nn.Linear(2 * self.fourier.width, hidden)
        self.film = nn.Linear(features, 2 * hidden)
        self.mlp = nn.Sequential(
            nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, channels)
        )

    def forward(self, like: Tensor, features: Tensor) -> Tensor:
        """``[B, channels, h, w]`` on the grid of ``like`` ``[B, C, h, w]``."""
        coordinates = append_coordinates(like[:1, :0]).permute(0, 2, 3, 1)
        place = self.place(self.fourier(coordinates).flatten(3))
        scale, shift = self.film(features)[:, None, None].chunk(2, dim=-1)
        return self.mlp(place * (1 + scale) + shift).permute(0, 3, 1, 2)
