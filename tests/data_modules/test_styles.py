"""Training in several styles: one style a batch, every style in turn, the same after a resume."""

import pytest
import torch

from data_modules import PendulumDataModule
from data_modules.scenes import PendulumScene
from diffcf.io import from_bytes, to_bytes

STYLES = ["subpixel", "published_bilinear", "published_lanczos"]


def module(**settings: object) -> PendulumDataModule:
    common = {"batch_size": 8, "train_size": 64, "val_size": 4, "test_size": 4}
    data = PendulumDataModule(64, train_styles=STYLES, **common, **settings)  # type: ignore[arg-type]
    data.setup()
    return data


def styles_of(data: PendulumDataModule) -> list[str]:
    """The style of each batch of an epoch; AssertionError where a batch is of none."""
    found = []
    for batch in data.train_dataloader():
        drawn = {s: PendulumScene(s).render(batch["factors"], 64) for s in STYLES}
        same = [s for s, images in drawn.items() if (images - batch["image"]).abs().max() < 0.005]
        assert len(same) == 1
        found += same
    return found


def test_every_batch_has_one_style_and_all_styles_occur() -> None:
    data = module()
    seen = styles_of(data)
    assert len(seen) == 8
    assert set(seen) | set(styles_of(data)) == set(STYLES)
    assert styles_of(module()) == styles_of(module())


def test_validation_and_test_have_the_style_that_is_measured() -> None:
    data = module(style="published_box")
    assert data.scene.style == "published_box"
    for loader in (data.val_dataloader(), data.test_dataloader()):
        batch = next(iter(loader))
        assert torch.equal(
            batch["image"], from_bytes(to_bytes(data.scene.render(batch["factors"], 64)))
        )


def test_impossible_styles_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no style 'blurred'"):
        PendulumDataModule(train_styles=["blurred"])
    with pytest.raises(ValueError, match="train_styles is empty"):
        PendulumDataModule(train_styles=[])
