"""Latents are encoded once, kept in a file, and made anew when images or encoder change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data_modules import FactorTableDataModule, PendulumDataModule
from data_modules.base import FactorImageDataModule


class Encoder:
    """Latents are images of an eighth of the side; counts the images that it encodes."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, image: Tensor) -> Tensor:
        self.images += len(image)
        return F.avg_pool2d(image, 8)


def folder(root: Path, count: int = 12) -> Path:
    generator = torch.Generator().manual_seed(1)
    (root / "images").mkdir(parents=True)
    lines = ["image,size"]
    for n in range(count):
        pixels = torch.randint(0, 256, (16, 16, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(root / "images" / f"{n}.png")
        lines.append(f"{n}.png,{n / count}")
    (root / "factors.csv").write_text("\n".join(lines) + "\n")
    (root / "graph.yaml").write_text("factors:\n  size: {range: [0, 1]}\nedges: []\n")
    return root


def opened(root: Path, **settings: object) -> FactorImageDataModule:
    places = root / "images", root / "factors.csv", root / "graph.yaml"
    data = FactorTableDataModule(*places, image_size=16, batch_size=4, **settings)
    data.setup()
    return data


def encoded(data: FactorImageDataModule, digest: str = "a" * 20) -> tuple[int, list]:
    encoder = Encoder()
    list(data.use_latents(encoder, digest))
    return encoder.images, list(data.train_dataloader())


@pytest.mark.parametrize("mirror", [False, True])
def test_batches_hold_the_latents_of_their_images(tmp_path: Path, mirror: bool) -> None:
    root = folder(tmp_path / "data")
    images = list(opened(root, mirror=mirror).train_dataloader())
    _, latents = encoded(opened(root, mirror=mirror))
    assert len(latents) == len(images)
    for batch, other in zip(latents, images, strict=True):
        assert "image" not in batch and torch.equal(batch["index"], other["index"])
        assert torch.equal(batch["factors"], other["factors"])
        expected = F.avg_pool2d(other["image"], 8)
        torch.testing.assert_close(batch["latent"], expected, atol=1e-3, rtol=1e-3)


def test_they_are_encoded_once_for_images_and_encoder(tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    first, _ = encoded(opened(root))
    assert first >= opened(root).size_of("train")
    assert encoded(opened(root))[0] <= 1, "only the shape is asked for"
    assert encoded(opened(root), digest="b" * 20)[0] >= first, "another encoder"
    assert encoded(opened(root, mirror=True))[0] >= first, "mirrored images"
    picture = next((root / "images").glob("*.png"))
    Image.new("RGB", (16, 16), "red").save(picture)
    assert encoded(opened(root))[0] >= first, "another picture"


def test_a_cache_cut_short_is_made_anew(tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    first, _ = encoded(opened(root))
    file = next(root.rglob("latents-*.npy"))
    file.write_bytes(file.read_bytes()[:-10])
    assert encoded(opened(root))[0] >= first


def test_data_without_files_keep_latents_in_memory() -> None:
    data = PendulumDataModule(32, batch_size=4, train_size=12, val_size=2, test_size=2)
    data.setup()
    count, batches = encoded(data)
    assert count == 12 and batches[0]["latent"].shape == (4, 3, 4, 4)
