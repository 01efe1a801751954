"""The Flow data module: published split, jet noise that stays with its image."""

import pytest
import torch

from data_modules.flow import FlowDataModule
from data_modules.scenes.flow import FlowScene


def prepared(**arguments: int | None) -> FlowDataModule:
    module = FlowDataModule(batch_size=8, **arguments)
    module.setup()
    return module


def test_the_split_is_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 8,100 pictures none matters.
    monkeypatch.setattr(FlowScene, "render", lambda *_: torch.zeros(8100, 3, 1, 1))
    module = prepared()
    sizes = [module.size_of(stage) for stage in ("train", "val", "test")]
    assert sizes == [5832, 648, 1620]
    factors, is_test, noise = FlowScene().published_grid()
    assert torch.equal(module.factors_of("test"), factors[is_test])
    assert torch.equal(module.noise_of("test"), noise[is_test])


def test_noise_belongs_to_the_images_of_a_subset() -> None:
    module = prepared(train_size=50, val_size=5, test_size=40)
    batch = next(iter(module.test_dataloader()))
    noise = module.noise_of("test")[batch["index"]]
    exact = module.scene.render(batch["factors"], 64, noise)
    torch.testing.assert_close(batch["image"], exact, atol=6e-4, rtol=0)  # half precision
    assert (noise > 0.0101).any()
    assert torch.equal(module.images_of("test", torch.tensor([3])), batch["image"][3:4])
    assert module.size_of("train") == 50
