"""What only a card can show; `experiments/card.sh` runs these. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from data_modules.pendulum import PendulumDataModule
from diffcf.diffusion import PolyakGuidance
from diffcf.methods import DiffusionCounterfactuals, Sampling

pytestmark = [
    pytest.mark.card,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card"),
]


@pytest.fixture
def no_sync() -> Iterator[None]:
    """Fails on any operation that would have the host wait for the card."""
    yield
    torch.cuda.set_sync_debug_mode("default")


def _on_card(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return batch["image"].cuda(), batch["factors"].cuda()


def test_a_training_step_never_waits(
    model: DiffusionCounterfactuals, small_batch: dict[str, torch.Tensor], no_sync: None
) -> None:
    model.cuda().train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batch = _on_card(small_batch)
    for debug in ("default", "error"):  # the first step makes what later ones find
        torch.cuda.set_sync_debug_mode(debug)
        terms = model.losses(*batch)
        model.watch.see(terms, step=0)
        model.total(terms).backward()
        model.on_before_optimizer_step(optimizer)
        optimizer.step()
        optimizer.zero_grad()


def test_a_counterfactual_never_waits(
    model: DiffusionCounterfactuals, small_batch: dict[str, torch.Tensor], no_sync: None
) -> None:
    sampling = Sampling(PolyakGuidance(), steps=3, anchored=True)
    method = model.cuda().eval().method(sampling)
    image, _ = _on_card(small_batch)
    for debug in ("default", "error"):
        torch.cuda.set_sync_debug_mode(debug)
        answer = method.abduct(image).predict({"light": 0.7})
    torch.cuda.set_sync_debug_mode("default")
    assert answer.image.isfinite().all()


def test_compiled_is_the_same(
    model: DiffusionCounterfactuals, small_batch: dict[str, torch.Tensor], monkeypatch
) -> None:
    monkeypatch.setattr("torch._inductor.config.fallback_random", True)
    image, factors = _on_card(small_batch)
    model.cuda().train()
    torch.manual_seed(1)
    eager = model.losses(image, factors)
    drawn = model.eval().method().abduct(image).predict({"light": 0.7}).image
    model.compilation.wanted = True
    model.compilation.start(image.device)
    for _ in range(3):  # warm-up, recording, replay
        torch.manual_seed(1)
        model.compilation.begin_step()
        terms = {
            name: value.clone() for name, value in model.train().losses(image, factors).items()
        }
    for name, value in terms.items():
        torch.testing.assert_close(value, eager[name], atol=1e-4, rtol=1e-4)
    for _ in range(3):
        again = model.eval().method().abduct(image).predict({"light": 0.7}).image.clone()
    torch.testing.assert_close(again, drawn, atol=1e-4, rtol=1e-4)


def test_resident_batches_are_those_of_the_host() -> None:
    loaders = []
    for resident in (True, False):
        data = PendulumDataModule(
            image_size=32, train_size=64, val_size=4, test_size=4, batch_size=16, resident=resident
        )
        data.setup()
        loaders.append([data.images_of("train", torch.arange(k, k + 16)).cpu() for k in (0, 16)])
    for ours, theirs in zip(*loaders, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
