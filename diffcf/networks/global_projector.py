"""A projector that reads every factor off the whole image.

For photographs, where hardly any factor can be read at one place, and as a second opinion beside
:class:`LocalPosteriorProjector`: the two see an image in different ways. It infers what it does not
see from what it sees, as every classifier does, so it is not for factors that determine each other.
"""

from __future__ import annotations

from torch import Tensor, nn

from diffcf.causal import CausalGraph, CodeDistribution, LocalPosterior
from diffcf.networks.blocks import ImageEncoder


class GlobalPosteriorProjector(nn.Module):
    """One posterior for the whole image: a :class:`diffcf.networks.LocalProjector` of one place.

    Args:
        graph: the factors with their kinds.
        dropout: share of the image's vector that is left out in training.
        scale_floor: least standard deviation of the posterior of a continuous factor.
        image_channels, patch, channels, blocks, condition, frequencies: see
            :class:`diffcf.networks.ImageEncoder`.
    """

    def __init__(
        self,
        graph: CausalGraph,
        image_channels: int = 3,
        patch: int = 2,
        channels: list[int] = [32, 64, 128, 192],  # noqa: B006 (jsonargparse reads the default)
        blocks: int = 1,
        condition: int = 64,
        frequencies: int = 4,
        dropout: float = 0.2,
        scale_floor: float = 0.002,
    ) -> None:
        super().__init__()
        self.graph, self.image_channels = graph, image_channels
        self.code = CodeDistribution(graph, scale_floor)
        self.feature_count = 2 * channels[-1]
        shape = (image_channels, patch, channels, blocks, condition, frequencies)
        self.encoder = ImageEncoder(self.feature_count, *shape)
        self.stride = self.encoder.stride
        self.head = nn.Sequential(
            nn.SiLU(), nn.Dropout(dropout), nn.Linear(self.feature_count, 2 * sum(graph.widths))
        )

    def features(self, images: Tensor) -> Tensor:
        """The vector ``[B, feature_count]`` off which factors of clean images are read."""
        return self.encoder(images)

    def forward(self, x_t: Tensor, t: Tensor) -> LocalPosterior:
        """Read noisy images ``[B, C, H, W]`` at times ``[B]``.

        Raises:
            ValueError: when H or W is not a multiple of ``stride``.
        """
        raw, log_scale = self.head(self.encoder(x_t, t)).float().chunk(2, dim=1)
        mean, variance = self.code(raw, log_scale)
        attention = mean.new_ones(len(mean), len(self.graph), 1, 1)
        places = mean[:, :, None, None], variance[:, :, None, None]
        return LocalPosterior(mean, variance, attention, *places)

    def log_prob(self, posterior: LocalPosterior, factors: Tensor) -> Tensor:
        """log p(z_i | x_t), ``[B, K]``, for factors ``[B, K]``."""
        return self.code.log_prob(posterior.mean, posterior.variance, factors)

    def everywhere(self, factors: Tensor, image: Tensor) -> Tensor:
        """The label of the one place, ``[B, K, 1, 1]``."""
        return factors[:, :, None, None]

    def saliency(self, image: Tensor) -> Tensor:
        """``[B, 1, 1, 1]``: there is one place."""
        return image.new_ones(len(image), 1, 1, 1)

    def local_loss(
        self,
        posterior: LocalPosterior,
        targets: Tensor,
        saliency: Tensor,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Negative log-likelihood, scalar; ``weight`` ``[B, K, 1, 1]`` is of the ``targets``."""
        nll = -self.code.log_prob(posterior.local_mean, posterior.local_variance, targets)
        if weight is not None:
            nll = nll * weight
        return nll.mean()
