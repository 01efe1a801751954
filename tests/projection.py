"""A network that stands in for Inception, and sets of images, for the tests of FID."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Projection(nn.Module):
    """Stands in for Inception: two fixed linear maps of the mean 4 × 4 pixels."""

    num_features = 12
    signature = "projection"

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.register_buffer("pool", torch.randn(48, 12, generator=generator))
        self.register_buffer("space", torch.randn(48, 9, generator=generator))
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)[0]

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        x = nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)
        return x @ self.pool, x @ self.space


def made_images(count: int, seed: int = 0, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(256, (count, 3, size, size), generator=generator)
    return levels / 127.5 - 1
