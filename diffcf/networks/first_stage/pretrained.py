"""Autoencoders of the library ``diffusers``, from a folder or, when asked, from the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from diffcf.causal import CausalGraph
from diffcf.io import CheckpointError, SettingsError, UnavailableError

KINDS = ("AutoencoderKL", "AutoencoderTiny")


class DiffusersAutoencoder(nn.Module):
    """A :class:`diffcf.networks.first_stage.FirstStage`: ``AutoencoderKL`` or ``AutoencoderTiny``.

    Latents of the first are the means of its posterior. Needs ``pip install 'diffcf[latent]'``.

    Args:
        graph: not used; every network of diffcf is built for one.
        folder: of ``config.json`` and weights in the safetensors format, or a name on the Hugging
            Face hub; None builds the network of ``kind`` and ``config`` at random, for a method
            that brings weights of its own.
        download: whether a hub name may be fetched; nothing ever is otherwise.
        kind, config: class and settings, where there is no folder.

    Raises:
        UnavailableError: without the library.
        CheckpointError: for a folder that is missing or holds no such autoencoder, and for a name
            that cannot be fetched.
    """

    def __init__(
        self,
        graph: CausalGraph,
        folder: str | None = None,
        download: bool = False,
        kind: Literal["AutoencoderKL", "AutoencoderTiny"] | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if folder is not None:
            self.model, kind = _from_folder(folder, download)
        elif kind in KINDS and config is not None:
            self.model = _class(kind).from_config(config)
        else:
            raise SettingsError("DiffusersAutoencoder needs a folder, or kind and config.")
        own = self.model.config
        self.image_channels, self.latent_channels = own["in_channels"], own["latent_channels"]
        widths = (
            own["block_out_channels"] if kind == KINDS[0] else own["encoder_block_out_channels"]
        )
        self.stride = 2 ** (len(widths) - 1)
        self.found = {"kind": kind, "config": _plain(own)}

    def encode(self, image: Tensor) -> Tensor:
        encoded = self.model.encode(image)
        latents: Tensor = (
            encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        )
        return latents

    def decode(self, latent: Tensor) -> Tensor:
        image: Tensor = self.model.decode(latent).sample
        return image


def _from_folder(folder: str, download: bool) -> tuple[Any, Any]:
    """The autoencoder of a folder or hub name, and its class."""
    config = Path(folder) / "config.json"
    if not Path(folder).is_dir() and not download:
        raise CheckpointError(
            f"Folder {folder} of the first stage does not exist: check the path, or let it be "
            "fetched from the Hugging Face hub under this name by download: true."
        )
    try:
        name = None
        if config.is_file():
            name = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
        elif Path(folder).is_dir():
            raise CheckpointError(
                f"Folder {folder} holds no config.json: name the folder of an autoencoder."
            )
        return _loaded(folder, name, download)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"First stage {folder} cannot be loaded: {reason}") from error


def _loaded(folder: str, name: object, download: bool) -> tuple[Any, str]:
    if name is not None and name not in KINDS:
        raise CheckpointError(
            f"First stage {folder} is a {name!s:.80}, not one of {' or '.join(KINDS)}."
        )
    if name is None:  # on the hub
        described = _class(KINDS[0]).load_config(folder)
        return _loaded(folder, described["_class_name"], download)
    options = {"local_files_only": not download, "use_safetensors": True}
    return _class(str(name)).from_pretrained(folder, **options), str(name)


def _class(kind: object) -> Any:
    try:
        import diffusers  # an extra
    except ImportError:
        raise UnavailableError(
            "Autoencoders of diffusers need the library: pip install 'diffcf[latent]'."
        ) from None
    return getattr(diffusers, str(kind))


def _plain(config: Any) -> dict[str, Any]:
    """Settings as text, numbers and lists, without what the library keeps for itself."""
    settings: dict[str, Any] = json.loads(
        json.dumps({n: v for n, v in dict(config).items() if not n.startswith("_")})
    )
    return settings
