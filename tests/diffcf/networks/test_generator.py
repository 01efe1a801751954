from __future__ import annotations

import pytest
import torch

from diffcf.causal.graph import CausalGraph
from diffcf.networks.unet import UNet


@pytest.fixture
def unet(graph: CausalGraph) -> UNet:
    net = UNet(graph, channels=[8, 16], condition=16, attention_heads=2)
    for parameter in net.parameters():  # zero-initialised layers would hide what they receive
        torch.nn.init.normal_(parameter, std=0.1)
    return net.eval()


def test_predicts_one_velocity_per_pixel(unet: UNet) -> None:
    x_t = torch.randn(2, 3, 32, 48)
    assert unet(x_t, torch.rand(2), torch.rand(2, 4)).shape == x_t.shape


def test_a_factor_that_is_masked_out_has_no_influence_even_when_it_is_nan(unet: UNet) -> None:
    x_t, t, factors = torch.randn(2, 3, 32, 32), torch.rand(2), torch.rand(2, 4)
    mask = torch.tensor([[True, False, True, True]]).expand(2, -1)
    other = factors.clone()
    other[:, 1] = torch.nan
    torch.testing.assert_close(unet(x_t, t, factors, mask), unet(x_t, t, other, mask))


def test_a_factor_has_influence(unet: UNet) -> None:
    x_t, t = torch.randn(2, 3, 32, 32), torch.rand(2)
    low, high = torch.zeros(2, 4), torch.ones(2, 4)
    assert not torch.allclose(unet(x_t, t, low), unet(x_t, t, high))


def test_without_factors_it_is_the_unconditional_generator(unet: UNet) -> None:
    x_t, t = torch.randn(2, 3, 32, 32), torch.rand(2)
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    torch.testing.assert_close(unet(x_t, t), unet(x_t, t, torch.rand(2, 4), nothing))


def test_an_unconditional_network_ignores_factors(graph: CausalGraph) -> None:
    net = UNet(graph, channels=[8, 16], condition=16, attention_heads=2, conditional=False)
    x_t, t = torch.randn(2, 3, 32, 32), torch.rand(2)
    torch.testing.assert_close(net(x_t, t, torch.rand(2, 4)), net(x_t, t))


def test_every_parameter_learns(graph: CausalGraph) -> None:
    net = UNet(graph, channels=[8, 16], condition=16, attention_heads=2)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    net(torch.randn(2, 3, 32, 32), torch.rand(2), torch.rand(2, 4)).square().sum().backward()
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_a_size_that_does_not_fit_is_named(unet: UNet) -> None:
    with pytest.raises(ValueError, match=r"multiples of 8, got \(30, 32\)"):
        unet(torch.randn(1, 3, 30, 32), torch.rand(1))
