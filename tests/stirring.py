"""Untrained networks that do something."""

from __future__ import annotations

from torch import nn

__all__ = ["stir"]


def stir(model: nn.Module, std: float = 0.05) -> None:
    """Zero-initialised layers hide what they are given, and pass no gradient on."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=std)
