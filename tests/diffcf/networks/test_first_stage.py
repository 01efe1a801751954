"""First stages: what they give, what their files may hold, and what a checkpoint keeps of them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from diffcf.io import CheckpointError, SettingsError
from diffcf.networks.factory import build_network, network_spec
from diffcf.networks.first_stage import (
    ConvAutoencoder,
    DiffusersAutoencoder,
    LatentSpace,
    TinyAutoencoder,
    without_files,
)

SMALL = partial(ConvAutoencoder, latent_channels=4, channels=[8, 16])
TINY = partial(TinyAutoencoder, latent_channels=4, width=8)


def made(kind: str, folder: Path) -> nn.Module:
    if kind == "ours":
        return SMALL(None)
    if kind == "tiny":
        return TINY(None)
    diffusers = pytest.importorskip("diffusers")
    if kind == "AutoencoderKL":
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2}
        blocks |= {"up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 4}
        model = diffusers.AutoencoderKL(block_out_channels=(8, 16), **blocks)
    else:
        counts = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
        widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
        model = diffusers.AutoencoderTiny(**counts, **widths)
    model.save_pretrained(folder)
    return DiffusersAutoencoder(None, folder=str(folder))


KINDS = ["ours", "tiny", "AutoencoderKL", "AutoencoderTiny"]


@pytest.mark.parametrize("kind", KINDS)
def test_latents_have_the_stated_shape_and_images_come_back(kind: str, tmp_path: Path) -> None:
    space = LatentSpace(made(kind, tmp_path))
    image = torch.rand(2, 3, 16, 32) * 2 - 1
    latent = space.encode(image)
    expected = (2, space.latent_channels, 16 // space.stride, 32 // space.stride)
    assert latent.shape == expected
    decoded = space.decode(latent)
    assert decoded.shape == image.shape and decoded.abs().max() <= 1
    assert not any(p.requires_grad for p in space.parameters()) and not space.train().training


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_rebuilt_without_its_files(kind: str, tmp_path: Path, graph) -> None:
    stage = made(kind, tmp_path / "from")
    (tmp_path / "from").rename(tmp_path / "gone") if (tmp_path / "from").exists() else None
    factory = {"ours": SMALL, "tiny": TINY}.get(kind, partial(DiffusersAutoencoder, folder="from"))
    spec = without_files(network_spec(factory), stage)
    again = build_network(json.loads(json.dumps(spec)), graph)
    again.load_state_dict(stage.state_dict())
    image = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(again.eval().encode(image), stage.eval().encode(image))


def test_latents_are_standardised_by_what_was_measured() -> None:
    space, images = LatentSpace(SMALL(None)), torch.rand(64, 3, 16, 16) * 2 - 1
    space.measure(space.raw(part) for part in images.split(10))
    latent = space.encode(images).movedim(1, 0).flatten(1)
    torch.testing.assert_close(latent.mean(dim=1), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latent.std(dim=1), torch.ones(4), atol=1e-2, rtol=0)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_tiny_weights_come_from_files_in_half_precision(suffix: str, tmp_path: Path) -> None:
    stage = TINY(None)
    files = {}
    for name, part in ("encoder", stage.down), ("decoder", stage.up):
        state = {key: value.half() for key, value in part.state_dict().items()}
        files[name] = tmp_path / f"{name}{suffix}"
        (save_file if suffix == ".safetensors" else torch.save)(state, files[name])
    again = TINY(None, **files)
    image = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(again.encode(image), stage.encode(image), atol=1e-2, rtol=1e-2)
    with pytest.raises(CheckpointError, match=r"does not fit the network .*settings"):
        TINY(None, encoder=files["decoder"])


def test_files_that_are_no_weights_are_named(tmp_path: Path) -> None:
    broken, other = tmp_path / "broken.pth", tmp_path / "other.pth"
    broken.write_bytes(b"no archive")
    torch.save({"epoch": 3}, other)
    for path, problem in (
        (tmp_path / "absent.pth", "does not exist"),
        (broken, "cannot be read|archive"),
        (other, "holds more than tensors"),
    ):
        with pytest.raises(CheckpointError, match=problem) as raised:
            TINY(None, encoder=path)
        assert str(path) in str(raised.value)


def test_images_that_do_not_fit_are_refused() -> None:
    space = LatentSpace(SMALL(None))
    with pytest.raises(SettingsError, match="first stage takes image sides that are multiples"):
        space.encode(torch.zeros(1, 3, 18, 18))
    with pytest.raises(SettingsError, match="first stage takes images of 3 channels"):
        space.encode(torch.zeros(1, 1, 16, 16))
    with pytest.raises(SettingsError, match="has no image_channels"):
        LatentSpace(nn.Linear(2, 2))


def test_nothing_is_downloaded_unasked(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    with pytest.raises(CheckpointError, match=r"does not exist.*download: true"):
        DiffusersAutoencoder(None, folder="someone/autoencoder")
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        DiffusersAutoencoder(None, folder=str(tmp_path))
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(CheckpointError, match="not one of AutoencoderKL or AutoencoderTiny"):
        DiffusersAutoencoder(None, folder=str(tmp_path))
    with pytest.raises(SettingsError, match="a folder, or kind and config"):
        DiffusersAutoencoder(None)
