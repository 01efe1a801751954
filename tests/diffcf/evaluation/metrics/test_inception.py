from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from diffcf.evaluation import perceptual as lpips
from diffcf.evaluation.metrics import inception
from diffcf.evaluation.metrics.frechet import GaussianStatistics, frechet_distance
from diffcf.evaluation.metrics.inception import (
    InceptionFeatures,
    inception_path,
    load_inception,
    to_pixels,
)
from diffcf.io.errors import UnavailableError

needs_weights = pytest.mark.skipif(
    inception_path() is None, reason="the extra [fid] (87 MB) is not installed"
)


def _images(count: int = 6, channels: int = 3, size: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, channels, size, size, generator=generator) * 2 - 1


class Corner(nn.Module):
    """The top left pixel of every channel, times a weight of one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :1, :1] * self.weight


def _standing_in() -> InceptionFeatures:
    return InceptionFeatures(nn.Sequential(OrderedDict(mixed_6=nn.Identity(), pool2=Corner())))


def test_bytes_are_those_of_a_png() -> None:
    levels = torch.arange(256).view(1, 1, 16, 16).byte()
    assert torch.equal(to_pixels(levels.float() / 127.5 - 1), levels)
    assert to_pixels(torch.tensor([-3.0, -1, 0.999, 1, 7]).view(1, 1, 1, 5)).flatten().tolist() == [
        *(0, 0, 255, 255, 255)
    ]


def test_unfit_images_are_named() -> None:
    with pytest.raises(ValueError, match=r"1 or 3 channels, got \(2, 4, 8, 8\)"):
        to_pixels(torch.zeros(2, 4, 8, 8))
    with pytest.raises(ValueError, match="finite floats"):
        to_pixels(torch.full((1, 3, 8, 8), torch.nan))
    with pytest.raises(ValueError, match="finite floats"):
        to_pixels(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_the_network_sees_299_pixels_in_its_own_range() -> None:
    network = _standing_in()
    ends = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 8, 8)
    pool, spatial = network.features(ends)
    assert pool.tolist() == [[-1.0] * 3, [127 / 128] * 3], "0 and 255, less 128, over 128"
    assert spatial.shape == (2, 3 * 299 * 299), "the stand-in's block changes nothing"


def test_grey_is_colour_with_equal_channels() -> None:
    grey, network = _images(channels=1), _standing_in()
    torch.testing.assert_close(network(grey), network(grey.expand(-1, 3, -1, -1)))


def test_it_stays_in_evaluation_mode_without_gradients_in_full_precision() -> None:
    network = _standing_in().train()
    assert not network.training and not network.layers.training
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = network(_images())
    assert features.dtype == torch.float32 and not features.requires_grad
    assert not any(p.requires_grad for p in network.parameters())


def test_without_the_extra_the_remedy_is_named(monkeypatch) -> None:
    monkeypatch.setattr(inception, "find_spec", lambda name: None)
    assert inception_path() is None
    with pytest.raises(UnavailableError, match=r"pip install 'diffcf\[fid\]'"):
        load_inception()


def test_another_network_is_refused(tmp_path) -> None:
    file = tmp_path / "default_1.pt"
    file.write_bytes(b"some other network")
    with pytest.raises(UnavailableError) as caught:
        load_inception(file)
    for part in (str(file), inception.SHA1, hashlib.sha1(file.read_bytes()).hexdigest()):
        assert part in str(caught.value)


def test_lpips_says_what_it_lacks(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(lpips, "find_spec", lambda name: None)
    with pytest.raises(lpips.UnavailableError, match="pip install torchvision"):
        lpips.load_lpips()
    monkeypatch.setattr(lpips, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(lpips.UnavailableError, match=lpips.BACKBONE):
        lpips.load_lpips()
    file = tmp_path / "checkpoints" / lpips.BACKBONE
    file.parent.mkdir()
    file.touch()
    assert lpips.lpips_unavailable() is None


@pytest.fixture(scope="module")
def network() -> InceptionFeatures:
    return load_inception()


@needs_weights
def test_layer_by_layer_gives_what_the_scripted_network_gives(network) -> None:
    seen = torch.rand(1, 3, 299, 299, generator=torch.Generator().manual_seed(1)) * 2 - 1
    file = inception_path()
    assert file is not None
    whole = torch.jit.load(file, map_location="cpu")(seen)
    x, blocks = seen, {}
    for name, layer in network.layers.named_children():
        before, x = x, layer(x)
        blocks[name] = (before, x)
    torch.testing.assert_close(x.flatten(1), whole)
    before, after = blocks["mixed_6"]
    torch.testing.assert_close(after[:, :7], network.layers.mixed_6.conv(before)[:, :7])
    assert after.shape == (1, 768, 17, 17)


@needs_weights
def test_features_have_their_sizes_and_no_batch_size(network) -> None:
    images = _images(3)
    pool, spatial = network.features(images)
    assert pool.shape == (3, 2048) and spatial.shape == (3, 2023)
    assert pool.min() >= 0 and pool.std() > 0.05 and spatial.std() > 0
    torch.testing.assert_close(network(images[1:2]), pool[1:2], atol=1e-4, rtol=1e-4)
    assert inception.PACKAGE not in sys.modules, "the package itself is never imported"


@needs_weights
def test_torchmetrics_takes_the_network_as_it_is(network) -> None:
    images = _images(4)
    oracle = FrechetInceptionDistance(feature=network)
    oracle.update(images, real=True)
    statistics = GaussianStatistics.of(network(images))
    torch.testing.assert_close(oracle.real_features_sum, statistics.total)
    torch.testing.assert_close(oracle.real_features_cov_sum, statistics.outer)


@needs_weights
def test_a_set_is_at_no_distance_from_itself_and_blur_shows(network) -> None:
    images = _images(8)
    blurred = nn.functional.avg_pool2d(images, 3, 1, 1)
    for sharp, soft in zip(network.features(images), network.features(blurred), strict=True):
        # Of few features, since roots of 2048 × 2048 matrices take seconds.
        a, b = (GaussianStatistics.of(part[:, :200]) for part in (sharp, soft))
        assert frechet_distance(a, a) < 1e-6 < 0.1 < frechet_distance(a, b)
