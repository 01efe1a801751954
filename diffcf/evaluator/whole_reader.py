"""A network that reads factors off the whole picture at once.

The local posteriors of :class:`diffcf.projector.LocalPosteriorProjector` see a limited field, which
keeps them honest and makes them misjudge what is larger than it. This network sees all, and would
therefore read the shadow off the sun, if it were not trained on composites in which the two
disagree. Another architecture than that of the network that guides, too: what fools the one need
not fool the other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.blocks import append_coordinates
from diffcf.graph import CausalGraph

__all__ = ["Reading", "WholeReader"]

SMALLEST = 4  # side of the last feature map


class Reading(NamedTuple):
    """The factors' code ``[B, E]``: values, or probabilities where factors are discrete."""

    mean: Tensor


class WholeReader(nn.Module):
    """A small residual network over the whole image.

    Args:
        graph: gives the factors and their kinds.
        image_channels: of the images.
        image_size: side of the images, ``patch`` times 4 times a power of two.
        patch: side of the square of pixels folded into channels.
        channels: at the first level; they grow by half with every halving.
        hidden: width of the last layer.

    Raises:
        ValueError: for a size that does not fit.
    """

    def __init__(
        self,
        graph: CausalGraph,
        image_channels: int = 3,
        image_size: int = 64,
        patch: int = 2,
        channels: int = 32,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        halvings = (image_size // (patch * SMALLEST)).bit_length() - 1
        if halvings < 0 or SMALLEST * patch << halvings != image_size:
            raise ValueError(
                f"image_size must be {patch * SMALLEST} (4 patches) times a power of two, not "
                f"{image_size}."
            )
        self.graph, self.patch = graph, patch
        self.image_shape = (image_channels, image_size, image_size)
        width = channels
        layers: list[nn.Module] = [nn.Conv2d(image_channels * patch**2 + 2, width, 3, padding=1)]
        for _ in range(halvings):
            wider = width + width // 2
            layers += [WholeBlock(width), nn.Conv2d(width, wider, 4, stride=2, padding=1)]
            width = wider
        flat = width * SMALLEST**2
        # Flattened, not pooled: where things lie is what most factors are.
        layers += [WholeBlock(width), nn.SiLU(), nn.Flatten(), nn.Linear(flat, hidden), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, sum(graph.widths)))

    def forward(self, images: Tensor, t: Tensor | None = None) -> Reading:
        """Read clean images ``[B, C, H, W]``; ``t`` is not used.

        Raises:
            ValueError: for images of another shape.
        """
        columns = []
        for factor, raw in zip(self.graph.factors, self._raw(images), strict=True):
            if factor.kind == "continuous":
                columns.append(raw)
            else:
                columns.append(raw.softmax(1) if factor.categories else raw.sigmoid())
        return Reading(torch.cat(columns, dim=1))

    def loss(self, images: Tensor, factors: Tensor) -> Tensor:
        """Mean over factors ``[B, K]`` of |error|, or of the cross-entropy of discrete ones."""
        terms = []
        columns = factors.unbind(dim=1)
        for factor, raw, value in zip(self.graph.factors, self._raw(images), columns, strict=True):
            if factor.kind == "continuous":
                terms.append(F.l1_loss(raw[:, 0], value))
            elif factor.categories:
                terms.append(F.cross_entropy(raw, factor.place(value)))
            else:
                terms.append(F.binary_cross_entropy_with_logits(raw[:, 0], value))
        return torch.stack(terms).mean()

    def _raw(self, images: Tensor) -> tuple[Tensor, ...]:
        """Per factor, ``[B, width]``: values in [0, 1] units, or logits."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"The reader is for images of shape {list(self.image_shape)}, got "
                f"{list(images.shape[1:])}: set image_size (model.reader) to that of the data."
            )
        p = self.patch
        x = rearrange(images, "b c (h p) (w q) -> b (c p q) h w", p=p, q=p)
        return (self.layers(append_coordinates(x)).float() + 0.5).split(self.graph.widths, dim=1)


class WholeBlock(nn.Module):
    """A residual block, normalised over the picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = next(g for g in (8, 4, 3, 2, 1) if channels % g == 0)
        self.layers = nn.Sequential(
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + self.layers(h)
