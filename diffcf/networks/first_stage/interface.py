"""What a first stage is, and the space of standardised latents that it makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from diffcf.io import CheckpointError, SettingsError, check_archive, first_difference
from diffcf.networks.blocks import check_channels, check_sides
from diffcf.networks.factory import NetworkSpec

FILES = ("weights", "encoder", "decoder", "folder", "download")
"""Arguments of first stages that name files, which a trained method does without."""


class FirstStage(Protocol):
    """A frozen autoencoder of images.

    Attributes:
        image_channels, latent_channels: of images and of latents.
        stride: how many times smaller the sides of a latent are than those of its image.
    """

    image_channels: int
    latent_channels: int
    stride: int

    def encode(self, image: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` in [-1, 1] → latents ``[B, L, H / stride, W / stride]``."""

    def decode(self, latent: Tensor) -> Tensor:
        """The images ``[B, C, H, W]`` of latents, in about [-1, 1]."""


class LatentSpace(nn.Module):
    """A first stage, frozen, whose latents have mean 0 and standard deviation 1 in each channel.

    Mean and standard deviation are measured on the training images (:meth:`measure`) and kept with
    the weights; ``measured`` says whether they have been, as trained networks stand by them.
    """

    mean: Tensor
    std: Tensor
    measured: Tensor

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        for name in ("image_channels", "latent_channels", "stride", "encode", "decode"):
            if not hasattr(stage, name):
                raise SettingsError(
                    f"first_stage {type(stage).__name__} has no {name}: name a network of "
                    "diffcf.networks.first_stage, or one with its interface."
                )
        frozen: Any = stage.eval().requires_grad_(False)
        self.stage = frozen
        self.image_channels: int = frozen.image_channels
        self.latent_channels: int = frozen.latent_channels
        self.stride: int = frozen.stride
        shape = (1, self.latent_channels, 1, 1)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))
        self.register_buffer("measured", torch.tensor(False))

    def train(self, mode: bool = True) -> LatentSpace:
        """Stays as it is: frozen."""
        return super().train(False)

    def shape_of(self, image: tuple[int, ...]) -> tuple[int, int, int]:
        """``(L, h, w)`` of the latents of images ``(C, H, W)``."""
        return self.latent_channels, image[1] // self.stride, image[2] // self.stride

    def check(self, image: Tensor) -> None:
        """SettingsError unless images ``[B, C, H, W]`` are of its channels and stride."""
        check_channels(image, self.image_channels, "The first stage")
        check_sides(image.shape[-2:], self.stride, "The first stage", "image_size or first_stage")

    @torch.no_grad()
    def raw(self, image: Tensor) -> Tensor:
        """Latents as the first stage gives them, before they are standardised."""
        self.check(image)
        latent: Tensor = self.stage.encode(image)
        return latent.float()

    def standardised(self, raw: Tensor) -> Tensor:
        return (raw - self.mean) / self.std

    def encode(self, image: Tensor) -> Tensor:
        """Standardised latents ``[B, L, h, w]`` of images ``[B, C, H, W]`` in [-1, 1]."""
        return self.standardised(self.raw(image))

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` in [-1, 1] of standardised latents."""
        image: Tensor = self.stage.decode(latent * self.std + self.mean)
        return image.float().clamp(-1, 1)

    def measure(self, raw: Iterable[Tensor]) -> None:
        """Take mean and standard deviation from latents that :meth:`raw` gave, in parts."""
        total = torch.zeros(3, self.latent_channels, dtype=torch.float64)
        for part in raw:
            values = part.double().movedim(1, 0).flatten(1).cpu()
            ones = torch.full((len(values),), float(values.shape[1]), dtype=torch.float64)
            total += torch.stack([ones, values.sum(dim=1), values.square().sum(dim=1)])
        mean = total[1] / total[0]
        std = (total[2] / total[0] - mean.square()).clamp_min(1e-8).sqrt()
        self.mean.copy_(mean.view_as(self.mean))
        self.std.copy_(std.view_as(self.std))
        self.measured.fill_(True)


def without_files(spec: NetworkSpec, stage: nn.Module) -> NetworkSpec:
    """The description of a first stage without the files that its weights came from.

    What it found in them beyond weights, such as its architecture, is its attribute ``found``.
    """
    arguments = {n: v for n, v in spec.get("init_args", {}).items() if n not in FILES}
    return {**spec, "init_args": arguments | getattr(stage, "found", {})}


def read_state(path: str | Path, what: str) -> dict[str, Tensor]:
    """The tensors of a file by name, the networks' of a checkpoint; nothing in it is ever run.

    Raises:
        CheckpointError: when it is missing, unreadable, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{what} {path} does not exist: check the path.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # only here

            return load_file(path)
        check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # torch and safetensors raise a dozen kinds
        raise CheckpointError(f"{what} {path} cannot be read: {str(error)[:200]}") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{what} {path} holds more than tensors by name: name a state dict.")
    return dict(state)


def load_into(network: nn.Module, state: Mapping[str, Tensor], path: str | Path, what: str) -> None:
    """Load the weights of a file, or CheckpointError with the first difference."""
    try:
        network.load_state_dict({name: value.float() for name, value in state.items()})
    except RuntimeError as error:
        raise CheckpointError(
            f"{what} {path} does not fit the network ({first_difference(error)}): give the network "
            "the settings of the file."
        ) from None
