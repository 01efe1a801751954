from __future__ import annotations

import pytest
import torch
from torch import nn

from diffcf.evaluator.module import FactorEvaluator
from diffcf.evaluator.whole_reader import WholeReader
from diffcf.graph import CausalGraph, Factor
from diffcf.mixing import RegionMixer

MIXED = CausalGraph(
    [
        Factor("place"),
        Factor("bright", "binary"),
        Factor("hue", "categorical", categories=("red", "green", "blue")),
    ]
)


def _bars(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A bar at a place, in one of three channels, over dark or bright ground."""
    generator = torch.Generator().manual_seed(0)
    place = torch.randint(0, 13, (count,), generator=generator)
    bright = torch.randint(0, 2, (count,), generator=generator).float()
    hue = torch.randint(0, 3, (count,), generator=generator)
    images = (0.6 * bright - 0.8)[:, None, None, None].expand(-1, 3, 16, 16).clone()
    for row in range(count):
        images[row, hue[row], :, place[row] : place[row] + 3] = 1
    return images, torch.stack([place / 12, bright, hue / 2], dim=1)


def test_it_learns_every_kind_of_factor() -> None:
    reader = WholeReader(MIXED, image_size=16, channels=16, hidden=64)
    optimizer = torch.optim.Adam(reader.parameters(), lr=2e-3)
    images, factors = _bars(64)
    for _ in range(120):
        optimizer.zero_grad()
        loss = reader.loss(images, factors)
        loss.backward()
        optimizer.step()
    code = reader(images).mean
    assert code.shape == (64, 5)
    torch.testing.assert_close(code[:, 2:].sum(dim=1), torch.ones(64))
    read = MIXED.decode(code)
    assert (read[:, 0] - factors[:, 0]).abs().mean() < 0.05
    assert (read[:, 1:] - factors[:, 1:]).abs().mean() < 0.02


def test_it_waits_for_the_head_start_and_is_what_is_kept(small_batch, graph) -> None:
    reader = {
        "class_path": "diffcf.evaluator.whole_reader.WholeReader",
        "init_args": {"image_size": 32, "channels": 8, "hidden": 16},
    }
    waiting = FactorEvaluator(graph, reader=reader, mixing=RegionMixer(), head_start=1)
    learning = FactorEvaluator(graph, reader=reader, mixing=RegionMixer())
    for model, idle in ((waiting, True), (learning, False)):
        assert model.kept is model.reader and model.reader is not None
        model.log = lambda *_, **__: None  # type: ignore[method-assign]
        model.training_step(small_batch, 0).backward()
        gradients = [parameter.grad for parameter in model.reader.parameters()]
        assert all(gradient is not None for gradient in gradients)
        assert idle == all((gradient == 0).all() for gradient in gradients)
        assert any((p.grad != 0).any() for p in model.network.parameters())


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="power of two, not 40"):
        WholeReader(MIXED, image_size=40)
    reader: nn.Module = WholeReader(MIXED, image_size=16)
    with pytest.raises(ValueError, match=r"set image_size \(model.reader\)"):
        reader(torch.zeros(1, 3, 32, 32))
