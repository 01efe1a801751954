"""LPIPS, where this machine already holds what it needs: torchvision, and AlexNet's weights.

torchmetrics brings the linear layers of LPIPS, but not the network below them, and would fetch it.
Nothing is fetched here.

Reference:
    Zhang et al., The unreasonable effectiveness of deep features as a perceptual metric, 2018.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

__all__ = ["LpipsUnavailable", "load_lpips", "lpips_unavailable"]

BACKBONE = "alexnet-owt-7be5be79.pth"


class LpipsUnavailable(RuntimeError):
    """LPIPS cannot be measured here; the message says what it lacks."""


def lpips_unavailable() -> str | None:
    """What LPIPS lacks on this machine, in a sentence; None where it can be measured.

    >>> reason = lpips_unavailable()
    >>> reason is None or reason.startswith("LPIPS needs")
    True
    """
    if find_spec("torchvision") is None:
        return "LPIPS needs torchvision: run pip install torchvision."
    file = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE
    if not file.is_file():
        return f"LPIPS needs torchvision's AlexNet: put {BACKBONE} into {file.parent}."
    return None


def load_lpips() -> LearnedPerceptualImagePatchSimilarity:
    """LPIPS (AlexNet) of colour images in [-1, 1], as a metric over pairs of images.

    Raises:
        LpipsUnavailable: when the machine lacks what it needs.
    """
    reason = lpips_unavailable()
    if reason is not None:
        raise LpipsUnavailable(reason)
    return LearnedPerceptualImagePatchSimilarity(net_type="alex")
