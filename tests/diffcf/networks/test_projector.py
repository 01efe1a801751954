from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.networks.projector import LocalPosteriorProjector


@pytest.fixture
def projector(graph: CausalGraph) -> LocalPosteriorProjector:
    net = LocalPosteriorProjector(graph, channels=8, condition=8)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net.eval()


def test_a_place_never_sees_beyond_its_field_of_view(projector: LocalPosteriorProjector) -> None:
    image = torch.rand(1, 3, 128, 128, requires_grad=True)
    posterior = projector(image, torch.zeros(1))
    posterior.local_mean[0, :, 16, 16].sum().backward()
    seen = image.grad[0].abs().sum(0).nonzero()
    assert len(seen)
    extent = seen.max(dim=0).values - seen.min(dim=0).values + 1
    assert (extent <= projector.receptive_field).all()


def test_attention_is_a_distribution_over_places(projector: LocalPosteriorProjector) -> None:
    posterior = projector(torch.rand(2, 3, 32, 32), torch.rand(2))
    torch.testing.assert_close(posterior.attention.sum(dim=(2, 3)), torch.ones(2, 4))
    assert (posterior.variance > 0).all()
    assert posterior.mean.shape == posterior.variance.shape == (2, 4)


def test_binary_factors_are_probabilities() -> None:
    graph = CausalGraph([Factor("smile", "binary"), Factor("age")])
    net = LocalPosteriorProjector(graph, channels=8, condition=8)
    torch.nn.init.normal_(net.head.weight, std=5.0)
    posterior = net(torch.rand(2, 3, 16, 16), torch.zeros(2))
    assert ((posterior.mean[:, 0] >= 0) & (posterior.mean[:, 0] <= 1)).all()
    log_prob = net.log_prob(posterior, torch.ones(2, 2))
    torch.testing.assert_close(log_prob[:, 0], posterior.mean[:, 0].clamp(1e-6, 1 - 1e-6).log())


def test_it_learns_where_a_factor_is_shown() -> None:
    """A stripe at the left shows the factor by its grey level; elsewhere there is nothing."""
    net = LocalPosteriorProjector(CausalGraph([Factor("a")]), image_channels=1, channels=16)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(250):
        image, factors = _stripes(16)
        targets = factors[:, :, None, None].expand(-1, -1, 16, 16)
        saliency = F.avg_pool2d((image - image.mean(0)).abs(), 4)
        loss = net.local_loss(net(image, torch.zeros(16)), targets, saliency)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image, factors = _stripes(64)
    posterior = net(image, torch.zeros(64))
    assert (posterior.mean - factors).abs().mean() < 0.05
    assert posterior.attention[..., :7].sum(dim=(2, 3)).mean() > 0.95  # the places that see it


def _stripes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    factors = torch.rand(count, 1)
    image = torch.zeros(count, 1, 64, 64)
    image[..., :4] = factors[:, :, None, None]
    return image, factors


def test_a_size_that_does_not_fit_is_named(projector: LocalPosteriorProjector) -> None:
    sentence = r"multiples of 4, got \(30, 32\): change image_size or patch"
    with pytest.raises(ValueError, match=sentence):
        projector(torch.rand(1, 3, 30, 32), torch.zeros(1))
