"""Our own first stage: a small convolutional autoencoder, trained on the user's own images."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.causal import CausalGraph
from diffcf.io import SettingsError
from diffcf.networks.first_stage.interface import load_into, read_state

PREFIX = "first_stage."  # of the names of its weights in a checkpoint


class ConvAutoencoder(nn.Module):
    """A :class:`diffcf.networks.first_stage.FirstStage` of residual convolutions.

    Sides are halved once for each width but the first. Latents are bounded by tanh, so that none
    lies far from the others.

    Args:
        graph: not used; every network of diffcf is built for one.
        weights: checkpoint or ``.safetensors`` of :class:`diffcf.methods.FirstStageTraining`; None
            starts at random.
        image_channels, latent_channels: of images and of latents.
        patch: side of the square of pixels folded into channels first.
        channels: width at each resolution, from the highest on.
        blocks: residual blocks at each.

    Raises:
        CheckpointError: for a file that is missing, unreadable or of another architecture.
    """

    def __init__(
        self,
        graph: CausalGraph,
        weights: str | Path | None = None,
        image_channels: int = 3,
        latent_channels: int = 16,
        patch: int = 2,
        channels: list[int] = [48, 96, 128],  # noqa: B006 (jsonargparse reads the default)
        blocks: int = 1,
    ) -> None:
        super().__init__()
        if len(channels) < 1:
            raise SettingsError("channels of ConvAutoencoder must name one width or more.")
        self.image_channels, self.latent_channels = image_channels, latent_channels
        self.stride = patch * 2 ** (len(channels) - 1)
        folded, widths = image_channels * patch**2, channels[::-1]
        down: list[nn.Module] = [nn.PixelUnshuffle(patch), _conv(folded, channels[0])]
        for before, after in zip([channels[0], *channels[:-1]], channels, strict=True):
            if len(down) > 2:
                down.append(_conv(before, after, stride=2))
            down += [_Residual(after) for _ in range(blocks)]
        up: list[nn.Module] = [_conv(latent_channels, widths[0])]
        up += [_Residual(widths[0]) for _ in range(blocks)]
        for before, after in pairwise(widths):
            up += [nn.Conv2d(before, 4 * after, 1), nn.PixelShuffle(2)]
            up += [_Residual(after) for _ in range(blocks)]
        self.down = nn.Sequential(*down, _conv(channels[-1], latent_channels))
        self.up = nn.Sequential(*up, _conv(channels[0], folded), nn.PixelShuffle(patch))
        if weights is not None:
            state = _own(read_state(weights, "First stage"))
            load_into(self, state, weights, "First stage")

    def encode(self, image: Tensor) -> Tensor:
        return torch.tanh(self.down(image) / 3) * 3

    def decode(self, latent: Tensor) -> Tensor:
        return self.up(latent)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8 if width % 8 == 0 else 1, width),
            nn.SiLU(),
            _conv(width, width),
            nn.SiLU(),
            _conv(width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1)


def reconstruction_losses(image: Tensor, decoded: Tensor) -> dict[str, Tensor]:
    """``pixel``: mean absolute error; ``gradient``: that of neighbouring pixels' differences.

    Scalars, of ``[B, C, H, W]`` in [-1, 1]. The second asks for edges, which an error of pixels
    alone would leave soft; at two resolutions, so that texture need not be in its exact place.
    """
    gradient, a, b = decoded.new_zeros(()), image, decoded
    for _ in range(2):
        for dim in (-2, -1):
            gradient = gradient + (a.diff(dim=dim) - b.diff(dim=dim)).abs().mean()
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return {"pixel": (image - decoded).abs().mean(), "gradient": gradient / 2}


def _own(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first stage's part of a method's state, or all of a state of its own."""
    own = {n.removeprefix(PREFIX): v for n, v in state.items() if n.startswith(PREFIX)}
    return own or state
