"""The autoencoder that is trained beside an evaluator, whose latents CLD compares."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.causal import CausalGraph
from diffcf.io import SettingsError

SMALLEST = 4  # side of the features at the bottleneck


class ImageVAE(nn.Module):
    """An autoencoder with diagonal Gaussian latents, which CLD compares.

    Args:
        graph: not used; every network of diffcf is built for one.
        image_channels, image_size: of the images; the side is 4 times a power of two.
        latents: D, their number.
        channels: at full resolution; they double with every halving, up to four times.
        spread: standard deviation of a pixel about its reconstruction, in units of [-1, 1].

    Raises:
        ValueError: for a size that is not 4 times a power of two.
    """

    def __init__(
        self,
        graph: CausalGraph,
        image_channels: int = 3,
        image_size: int = 64,
        latents: int = 32,
        channels: int = 16,
        spread: float = 0.1,
    ) -> None:
        super().__init__()
        halvings = (image_size // SMALLEST).bit_length() - 1
        if halvings < 1 or SMALLEST << halvings != image_size:
            raise SettingsError(f"image_size must be 4 times a power of two, not {image_size}.")
        self.spread, self.image_shape = spread, (image_channels, image_size, image_size)
        widths = [channels * min(2**n, 4) for n in range(halvings)]
        down: list[nn.Module] = []
        for before, after in zip([image_channels, *widths[:-1]], widths, strict=True):
            down += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.SiLU()]
        flat = widths[-1] * SMALLEST**2
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, 2 * latents))
        bottom = nn.Unflatten(1, (widths[-1], SMALLEST, SMALLEST))
        up: list[nn.Module] = [nn.Linear(latents, flat), bottom]
        for before, after in zip(widths[::-1], [*widths[-2::-1], image_channels], strict=True):
            up += [nn.SiLU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
        self.decoder = nn.Sequential(*up)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance ``[B, D]`` of images; ValueError for those of another shape."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise SettingsError(
                f"The latents are for images of shape {list(self.image_shape)}, got "
                f"{list(images.shape[1:])}: set image_size (model.latents) to that of the data."
            )
        mean, log_variance = self.encoder(images).float().chunk(2, dim=1)
        # Bounded, so that no divergence between two images overflows.
        return mean, log_variance.clamp(-12, 4)

    def loss(self, images: Tensor) -> Tensor:
        """Negative evidence lower bound per pixel and channel, up to a constant; scalar."""
        mean, log_variance = self(images)
        drawn = self.decoder(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
        error = F.mse_loss(drawn.float(), images) / (2 * self.spread**2)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        return error + divergence.mean() / images[0].numel()
