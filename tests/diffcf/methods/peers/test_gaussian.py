from __future__ import annotations

import torch
from torch.distributions import Normal, kl_divergence

from diffcf.methods.peers.latent_networks import Gaussian, gaussian_kl


def test_the_divergence_is_that_of_gaussians() -> None:
    q, p = (Gaussian(torch.randn(5), 0.5 * torch.randn(5)) for _ in range(2))
    expected = kl_divergence(Normal(q.mean, q.scale), Normal(p.mean, p.scale))
    torch.testing.assert_close(gaussian_kl(q, p), expected)


def test_draws_are_spread_as_told_and_pass_gradients_on() -> None:
    mean = torch.zeros(20_000, requires_grad=True)
    drawn = Gaussian(mean + 3.0, torch.full((20_000,), 0.5).log()).sample()
    assert abs(drawn.mean().item() - 3) < 0.02 and abs(drawn.std().item() - 0.5) < 0.02
    drawn.sum().backward()
    assert (mean.grad == 1).all()


def test_standardised_undoes_a_draw() -> None:
    gaussian = Gaussian(torch.tensor([1.0, -2.0]), torch.tensor([0.0, 1.0]))
    noise = torch.tensor([0.5, -1.5])
    value = gaussian.mean + gaussian.scale * noise
    torch.testing.assert_close(gaussian.standardised(value), noise)
