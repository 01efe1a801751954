"""One posterior for a whole image: what it learns, and where it cannot take part."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from diffcf.causal import NSCM, CausalGraph, Factor
from diffcf.io import SettingsError
from diffcf.methods import DiffusionCounterfactuals
from diffcf.networks import GlobalPosteriorProjector, LocalPosteriorProjector, RegionMixer, UNet

GRAPH = CausalGraph([Factor("age"), Factor("bald", "binary"), Factor("hair", "categorical",
                     categories=("black", "red", "none"))])  # fmt: skip
SMALL = {"channels": [8, 16], "condition": 8}


def stirred(graph: CausalGraph, **settings: object) -> GlobalPosteriorProjector:
    net = GlobalPosteriorProjector(graph, **SMALL | settings)  # type: ignore[arg-type]
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


def test_its_one_place_says_what_it_says_of_the_image() -> None:
    net = stirred(GRAPH)
    image, factors = torch.rand(4, 3, 16, 24), torch.rand(4, 3).round()
    posterior = net(image, torch.rand(4))
    assert posterior.mean.shape == posterior.variance.shape == (4, 1 + 1 + 3)
    assert torch.equal(posterior.attention, torch.ones(4, 3, 1, 1))
    assert torch.equal(posterior.local_mean[..., 0, 0], posterior.mean)
    assert torch.equal(posterior.local_variance[..., 0, 0], posterior.variance)
    torch.testing.assert_close(posterior.mean[:, 2:].sum(dim=1), torch.ones(4))
    loss = net.local_loss(posterior, net.everywhere(factors, image), net.saliency(image))
    torch.testing.assert_close(loss, -net.log_prob(posterior, factors).mean())


def test_it_learns_what_no_single_place_shows() -> None:
    """Whether the left half is brighter than the right one."""

    def drawn(count: int) -> tuple[Tensor, Tensor]:
        halves = 2 * torch.rand(count, 1, 1, 2) - 1
        image = halves.expand(-1, 1, 16, 2).repeat_interleave(8, dim=3)
        return image, (halves[..., 0] > halves[..., 1]).float()[:, :, 0]

    graph = CausalGraph([Factor("left", "binary")])
    net = GlobalPosteriorProjector(graph, image_channels=1, dropout=0.0, **SMALL)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(80):
        image, factors = drawn(32)
        targets, saliency = net.everywhere(factors, image), net.saliency(image)
        loss = net.local_loss(net(image, torch.zeros(32)), targets, saliency)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image, factors = drawn(256)
    read = net.eval()(image, torch.zeros(256)).mean
    assert ((read > 0.5) == (factors > 0.5)).float().mean() > 0.9


def test_dropout_is_for_training_alone() -> None:
    net = stirred(GRAPH, dropout=0.5)
    image, t = torch.rand(2, 3, 16, 16), torch.zeros(2)
    assert torch.equal(net(image, t).mean, net(image, t).mean)
    net.train()
    assert not torch.equal(net(image, t).mean, net(image, t).mean)


@pytest.mark.parametrize("kind", [GlobalPosteriorProjector, LocalPosteriorProjector])
def test_a_weight_is_of_each_label(kind: type) -> None:
    settings = SMALL if kind is GlobalPosteriorProjector else {"channels": 8, "condition": 8}
    net = kind(GRAPH, **settings).eval()
    image, factors = torch.rand(4, 3, 16, 16), torch.rand(4, 3).round()
    posterior, saliency = net(image, torch.zeros(4)), net.saliency(image)
    targets = net.everywhere(factors, image)

    def loss(weight: Tensor | None) -> Tensor:
        return net.local_loss(posterior, targets, saliency, weight)

    whole, ones = loss(None), torch.ones_like(targets)
    torch.testing.assert_close(loss(ones), whole)
    torch.testing.assert_close(loss(3 * ones), 3 * whole)
    alone = [ones * (torch.arange(3) == k)[:, None, None] for k in range(3)]
    torch.testing.assert_close(sum(loss(weight) for weight in alone), whole)
    first = ones * (torch.arange(4) == 0)[:, None, None, None]
    torch.testing.assert_close(loss(first) + loss(1 - first), whole)


# --- in a model ---


def model(graph: CausalGraph, mixing: RegionMixer | None) -> DiffusionCounterfactuals:
    return DiffusionCounterfactuals(
        graph,
        generator=partial(UNet, channels=[8, 16], condition=16, attention_heads=2),
        projector=partial(GlobalPosteriorProjector, **SMALL),  # type: ignore[arg-type]
        nscm=partial(NSCM, hidden=[8]),
        mixing=mixing,
    )


def test_it_is_trained_and_guides(graph: CausalGraph, small_batch: dict[str, Tensor]) -> None:
    made = model(graph, None)
    made.time_spent = 0.5
    terms = made.losses(small_batch["image"], small_batch["factors"])
    made.total(terms).backward()
    assert all(p.grad is not None for p in made.get_submodule("projector").parameters())
    answer = made.eval().method().abduct(small_batch["image"][:2]).predict({"light": 0.7})
    assert answer.image.shape == (2, 3, 32, 32) and answer.image.isfinite().all()


def test_sides_that_are_no_multiples_of_its_stride_are_named(graph: CausalGraph) -> None:
    net = stirred(graph, channels=[8, 8, 16])
    assert net.stride == 8
    with pytest.raises(SettingsError, match=r"multiples of 8, got \(16, 20\): change image_size"):
        net(torch.rand(1, 3, 16, 20), torch.zeros(1))
    with pytest.raises(SettingsError, match="images of 3 channels, got 1"):
        net(torch.rand(1, 1, 16, 16), torch.zeros(1))


def test_sides_are_looked_at_before_a_training(graph: CausalGraph) -> None:
    batch = {"image": torch.rand(2, 3, 34, 34), "factors": torch.rand(2, 4)}
    with pytest.raises(SettingsError, match=r"GlobalPosteriorProjector \(projector\) .* of 4, got"):
        made = model(graph, None)
        made.spec = {"projector": made.spec["projector"]}  # the generator's would come first
        made.training_step(batch, 0)


def test_region_mixing_asks_for_places(graph: CausalGraph, small_batch: dict[str, Tensor]) -> None:
    image, factors = small_batch["image"], small_batch["factors"]
    said = "GlobalPosteriorProjector has one place for a whole image: set mixing to null"
    with pytest.raises(SettingsError, match=said):
        model(graph, RegionMixer()).losses(image, factors)
    net = GlobalPosteriorProjector(graph, **SMALL)  # type: ignore[arg-type]
    for mixed in (RegionMixer().for_projector, RegionMixer().for_generator):
        with pytest.raises(SettingsError, match=said):
            mixed(image, factors, net)
