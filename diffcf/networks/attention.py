"""Self-attention over the places of an image, and the lowest level of the U-Net."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.io import SettingsError
from diffcf.networks.blocks import ResBlock, zero_init


class Middle(nn.Module):
    """The lowest level: block, self-attention over all places, block."""

    def __init__(self, channels: int, condition: int, heads: int) -> None:
        super().__init__()
        self.before = ResBlock(channels, channels, condition)
        self.attention = SelfAttention(channels, heads) if heads else nn.Identity()
        self.after = ResBlock(channels, channels, condition)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        return self.after(self.attention(self.before(h, condition)), condition)


class SelfAttention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor) -> Tensor:
        rows = h.shape[-2]
        qkv = rearrange(self.qkv(self.norm(h)), "b (s n c) h w -> s b n (h w) c", s=3, n=self.heads)
        mixed = F.scaled_dot_product_attention(*qkv)
        return h + self.out(rearrange(mixed, "b n (h w) c -> b (n c) h w", h=rows))


def attentions(channels: list[int], heads: int, levels: list[int]) -> nn.ModuleList:
    """A self-attention for each of the ``levels``, and nothing for the others."""
    if unknown := set(levels) - set(range(len(channels))):
        raise SettingsError(
            f"attention_levels {sorted(unknown)} do not exist: there are 0 to {len(channels) - 1}."
        )
    if levels and not heads:
        raise SettingsError("attention_levels need attention_heads of 1 or more.")
    return nn.ModuleList(
        SelfAttention(width, heads) if level in levels else nn.Identity()
        for level, width in enumerate(channels)
    )
