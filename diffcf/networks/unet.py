r"""The diffusion generator: a U-Net that predicts the velocity v from a noisy image.

Pixels are folded into channels first (``patch``), so that the costly full-resolution levels do not
exist; coordinates are appended, so that the network can draw at absolute positions. Conditioning on
factors is optional, per sample and per factor: a factor that the condition mask leaves out has no
influence, and with all left out the network is the unconditional generator of the paper's plain
reading.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.causal import CausalGraph
from diffcf.diffusion import noise_level, signal_level
from diffcf.networks.attention import Middle, attentions
from diffcf.networks.blocks import (
    FourierFeatures,
    Level,
    append_coordinates,
    check_channels,
    check_sides,
    zero_init,
)


class UNet(nn.Module):
    """v-prediction U-Net with optional factor conditioning.

    Args:
        graph, image_channels: the factors with their kinds, and channels of the image.
        patch: side of the square of pixels folded into channels.
        channels: width of each level; the resolution halves between levels.
        blocks: residual blocks per level, on the way down and again on the way up.
        attention_heads: heads of the self-attention at the lowest level; 0 for none.
        attention_levels: further levels with self-attention of as many heads, on the way down and
            up; 0 is that of the highest resolution.
        condition: width of the conditioning vector.
        broadcast: hidden width of the :class:`SpatialBroadcast` that is added to the first layer.
        frequencies: Fourier frequencies of t, of every factor and of places.
        conditional: whether the factors are used at all.
        style: width of the style code (:func:`diffcf.diffusion.style_of`), for pictures of several
            styles or sources; 0 for none.
        data_mean, data_std: of the pixels, or "auto", which `diffcf fit` replaces by what it
            measures on the training images. The best linear prediction of v from these two numbers
            is added at the end, so that the layers need not carry the noise through (Karras et al.
            2022, https://arxiv.org/abs/2206.00364, section 5, in terms of v).
    """

    def __init__(
        self,
        graph: CausalGraph,
        image_channels: int = 3,
        patch: int = 4,
        channels: list[int] = [64, 96, 128],  # noqa: B006 (jsonargparse reads the default)
        blocks: int = 1,
        attention_heads: int = 4,
        condition: int = 256,
        broadcast: int = 128,
        frequencies: int = 6,
        conditional: bool = True,
        style: int = 0,
        attention_levels: list[int] = [],  # noqa: B006 (jsonargparse reads the default)
        data_mean: float | Literal["auto"] = 0.0,
        data_std: float | Literal["auto"] = 0.5,
    ) -> None:
        super().__init__()
        if isinstance(data_mean, str) or isinstance(data_std, str):
            raise ValueError(
                "data_mean and data_std 'auto' are measured by diffcf fit: elsewhere, give numbers."
            )
        self.patch, self.conditional = patch, conditional
        self.image_channels = image_channels
        self.data_mean, self.data_std = data_mean, data_std
        self.stride = patch * 2 ** (len(channels) - 1)
        self.features = self.condition_features(graph if conditional else None, frequencies)
        self.style = StyleEncoder(image_channels, style) if style else None
        features = self.features.width + style
        self.embed = ConditionEmbedding(features, condition, frequencies)
        folded = image_channels * patch**2
        self.stem = nn.Conv2d(folded + 2, channels[0], 3, padding=1)
        self.broadcast = SpatialBroadcast(features, broadcast, channels[0], frequencies)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width = channels[0]
        for level, wider in enumerate(channels):
            self.down.append(Level(width, wider, condition, blocks, shrink=level > 0))
            self.up.insert(0, Level(wider, width, condition, blocks, grow=level > 0))
            width = wider
        self.attend_down, self.attend_up = (
            attentions(channels, attention_heads, attention_levels) for _ in range(2)
        )
        self.middle = Middle(width, condition, attention_heads)
        last = zero_init(nn.Conv2d(channels[0], 2 * folded, 1))
        self.head = nn.Sequential(nn.GroupNorm(8, channels[0]), nn.SiLU(), last)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        factors: Tensor | None = None,
        condition_mask: Tensor | None = None,
        style: Tensor | None = None,
    ) -> Tensor:
        """v of ``x_t``; see :class:`diffcf.diffusion.Generator`. Without a ``style`` it is 0.

        Raises:
            ValueError: when H or W is not a multiple of ``stride``.
        """
        check_sides(x_t.shape[-2:], self.stride, "UNet")
        check_channels(x_t, self.image_channels, "UNet")
        signal, noise = signal_level(t), noise_level(t)
        centred = x_t - signal * self.data_mean
        spread = self._spread(signal, noise)
        guess = signal * noise * (1 - self.data_std**2) / spread.square() * centred
        features = self.features(t, factors, condition_mask)
        if self.style is not None:
            code = x_t.new_zeros(len(x_t), self.style.width) if style is None else style
            features = torch.cat([features, code.to(features)], dim=1)
        rest = self.data_std / spread * self._layers(centred / spread, t, features)
        return guess - noise * self.data_mean + rest

    def encode_style(self, reference: Tensor) -> Tensor | None:
        """The style code ``[B, style]`` of clean images ``[B, C, H, W]``; None without one."""
        return None if self.style is None else self.style(reference)

    def condition_features(self, graph: CausalGraph | None, frequencies: int) -> ConditionFeatures:
        """The features' network; a subclass may condition on other things than factors."""
        return FactorFeatures(graph, frequencies)

    def residual_scale(self, t: Tensor) -> Tensor:
        """Standard deviation of what the linear guess leaves of v, ``[B, 1, 1, 1]``."""
        return self.data_std / self._spread(signal_level(t), noise_level(t))

    def _spread(self, signal: Tensor, noise: Tensor) -> Tensor:
        """Standard deviation of x_t about its mean, by the levels of signal and noise."""
        return ((signal * self.data_std).square() + noise.square()).sqrt()

    def _layers(self, x: Tensor, t: Tensor, features: Tensor) -> Tensor:
        condition = self.embed(t, features)
        x = F.pixel_unshuffle(x, self.patch)
        h = self.stem(append_coordinates(x)) + self.broadcast(x, features)
        skips = []
        for level, attend in zip(self.down, self.attend_down, strict=True):
            h = attend(level(h, condition))
            skips.append(h)
        h = self.middle(h, condition)
        for level, attend in zip(self.up, reversed(self.attend_up), strict=True):
            h = level(attend(h + skips.pop()), condition)
        # A gate on the input itself, so that the few channels in between need not carry every
        # pixel's noise to the end only to subtract it there.
        gate, content = self.head(h).chunk(2, dim=1)
        return F.pixel_shuffle(gate * x + content, self.patch)


class StyleEncoder(nn.Module):
    """Images ``[B, C, H, W]`` → codes ``[B, width]`` in (-1, 1) of how they are drawn.

    Each place sees 9 × 9 pixels, and only the mean and the strongest response over all places are
    kept: enough for edges and textures, too little for where things are.
    """

    def __init__(self, image_channels: int, width: int, channels: int = 32) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(
            nn.Conv2d(image_channels, channels // 2, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1),
            nn.SiLU(),
        )
        self.head = nn.Sequential(
            nn.LayerNorm(2 * channels), nn.Linear(2 * channels, width), nn.Tanh()
        )

    def forward(self, image: Tensor) -> Tensor:
        h = self.layers(image).flatten(2)
        return self.head(torch.cat([h.mean(dim=2), h.amax(dim=2)], dim=1))


class ConditionFeatures(Protocol):
    """Makes features ``[B, width]`` of ``(t, condition, condition_mask)``; 0 without condition."""

    width: int

    def __call__(
        self, t: Tensor, condition: Tensor | None, condition_mask: Tensor | None, /
    ) -> Tensor: ...


class FactorFeatures(nn.Module):
    """Factors ``[B, K]`` and condition mask ``[B, K]`` (bool) → ``[B, width]``; 0 where masked out.

    No graph is for an unconditional generator; ``frequencies`` are those of continuous factors.
    """

    _continuous: Tensor
    _discrete: Tensor
    _code: Tensor
    _owner: Tensor

    def __init__(self, graph: CausalGraph | None, frequencies: int) -> None:
        super().__init__()
        self.graph = graph
        self.fourier = FourierFeatures(frequencies)
        discrete = graph.discrete if graph else torch.zeros(0, dtype=torch.bool)
        owner = graph.code_owner if graph else torch.zeros(0, dtype=torch.long)
        code = discrete[owner].nonzero()[:, 0]
        # Columns of factors, and of their code, as tensors of the device: lists would be copied
        # there at every call.
        columns = {
            "continuous": (~discrete).nonzero()[:, 0],
            "discrete": discrete.nonzero()[:, 0],
            "code": code,
            "owner": owner[code],
        }
        for name, which in columns.items():
            self.register_buffer(f"_{name}", which, persistent=False)
        self.width = len(columns["continuous"]) * (self.fourier.width + 1)
        self.width += len(code) + len(columns["discrete"])

    def forward(self, t: Tensor, factors: Tensor | None, condition_mask: Tensor | None) -> Tensor:
        if factors is None or self.graph is None:
            return t.new_zeros(len(t), self.width)
        if condition_mask is None:
            condition_mask = torch.ones_like(factors, dtype=torch.bool)
        # where, not a product: a factor that is masked out may be NaN.
        given, flag = torch.where(condition_mask, factors, 0.0), condition_mask.to(factors)
        is_given = flag[:, self._continuous, None]
        waves = self.fourier(given[:, self._continuous]) * is_given
        features = torch.cat([waves, is_given], dim=-1).flatten(1)
        if not len(self._discrete):
            return features
        code = 2 * self.graph.encode(given)[:, self._code] - 1
        return torch.cat([features, code * flag[:, self._owner], flag[:, self._discrete]], dim=-1)


class ConditionEmbedding(nn.Module):
    """t ``[B]`` and factor features → the conditioning vector ``[B, width]`` of every block."""

    def __init__(self, features: int, width: int, frequencies: int) -> None:
        super().__init__()
        self.fourier = FourierFeatures(frequencies)
        first = nn.Linear(self.fourier.width + features, width)
        self.mlp = nn.Sequential(first, nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, t: Tensor, features: Tensor) -> Tensor:
        return self.mlp(torch.cat([self.fourier(t), features], dim=-1))


class SpatialBroadcast(nn.Module):
    """Factor features broadcast over the picture: a perceptron of place and factors together.

    Products of sines of a place and of a factor express "draw it there", so one layer can learn it,
    where convolutions must first work out where they are. After the Spatial Broadcast Decoder
    (Watters et al., 2019), https://arxiv.org/abs/1901.07017.
    """

    def __init__(self, features: int, hidden: int, channels: int, frequencies: int) -> None:
        super().__init__()
        self.fourier = FourierFeatures(frequencies)
        self.place = nn.Linear(2 * self.fourier.width, hidden)
        self.film = nn.Linear(features, 2 * hidden)
        layers = (nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, channels))
        self.mlp = nn.Sequential(nn.SiLU(), *layers)

    def forward(self, like: Tensor, features: Tensor) -> Tensor:
        """``[B, channels, h, w]`` on the grid of ``like`` ``[B, C, h, w]``."""
        coordinates = append_coordinates(like[:1, :0]).permute(0, 2, 3, 1)
        place = self.place(self.fourier(coordinates).flatten(3))
        scale, shift = self.film(features)[:, None, None].chunk(2, dim=-1)
        return self.mlp(place * (1 + scale) + shift).permute(0, 3, 1, 2)
