"""Pendulum: the 7,308 published factor combinations, drawn by our own renderer, as a data module.

The images are rendered at sub-pixel precision instead of loaded: in the published PNG files
matplotlib's snapping has quantised the shadow. Order and test split are the published ones.
"""

from __future__ import annotations

from lightning.pytorch import LightningDataModule
from torch import Generator, Tensor, randperm
from torch.utils.data import DataLoader

from data_modules.loading import Batch, FactorImages, evaluation_loader, training_loader
from data_modules.scenes.pendulum import PendulumScene
from data_modules.scenes.pendulum_picture import Frame
from diffcf.graph import CausalGraph

__all__ = ["PendulumDataModule"]


class PendulumDataModule(LightningDataModule):
    """Batches ``{"image": [B, 3, S, S] in [-1, 1], "factors": [B, 4] in [0, 1],
    "index": [B]}``; ``index`` is the row within the split.

    Args:
        image_size: 32, 64, 96 or 128.
        batch_size: training batch; the last, incomplete one of an epoch is dropped.
        eval_batch_size: batch of validation, test and prediction.
        val_fraction: part of the 5,482 training images that is held out, in (0, 1).
        seed: chooses the validation images, the subsets below and the order of training batches.
        num_workers: loader processes; 0 is fastest here, as the images lie in memory.
        test_size: how many of the 1,826 test images to keep, a seeded subset; None keeps all.
        val_size: the same for the validation images.

    Raises:
        ValueError: in one sentence, for an argument outside its range.
    """

    def __init__(
        self,
        image_size: int = 64,
        batch_size: int = 64,
        eval_batch_size: int = 128,
        val_fraction: float = 0.1,
        seed: int = 0,
        num_workers: int = 0,
        test_size: int | None = None,
        val_size: int | None = None,
    ) -> None:
        super().__init__()
        self.image_size = Frame(image_size).image_size
        self.batch_size = _at_least("batch_size", batch_size, 1)
        self.eval_batch_size = _at_least("eval_batch_size", eval_batch_size, 1)
        if not 0 < val_fraction < 1:
            raise ValueError(f"val_fraction must lie between 0 and 1, not {val_fraction}.")
        self.val_fraction = val_fraction
        self.seed = seed
        self.num_workers = _at_least("num_workers", num_workers, 0)
        self.test_size = test_size if test_size is None else _at_least("test_size", test_size, 1)
        self.val_size = val_size if val_size is None else _at_least("val_size", val_size, 1)
        self.scene = PendulumScene()
        self.graph: CausalGraph = self.scene.graph
        self._split: dict[str, FactorImages] = {}

    def setup(self, stage: str | None = None) -> None:
        """Draw all images, once; later calls do nothing."""
        if self._split:
            return
        factors, is_test = self.scene.published_grid()
        generator = Generator().manual_seed(self.seed)
        train = (~is_test).nonzero()[:, 0]
        train = train[randperm(len(train), generator=generator)]
        n_val = min(max(round(self.val_fraction * len(train)), 1), len(train) - 1)
        test = is_test.nonzero()[:, 0]
        if self.test_size is not None:
            kept = randperm(len(test), generator=generator)[: self.test_size]
            test = test[kept.sort().values]
        index = {
            "train": train[n_val:].sort().values,
            "val": train[:n_val][: self.val_size].sort().values,
            "test": test,
        }
        images = self.scene.render(factors, self.image_size).half()
        self._split = {name: FactorImages(images, factors, rows) for name, rows in index.items()}
        if len(self._split["train"]) < self.batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} exceeds the {len(self._split['train'])} training "
                "images: take a smaller one, or a smaller val_fraction."
            )

    def factors_of(self, stage: str) -> Tensor:
        """Factors ``[N, 4]`` of ``"train"``, ``"val"`` or ``"test"``, in the order of ``index``."""
        split = self._split[stage]
        return split.factors[split.index].float()

    def train_dataloader(self) -> DataLoader[Batch]:
        return training_loader(
            self._split["train"], self.batch_size, self.num_workers, self.seed, self.trainer
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        return evaluation_loader(self._split["val"], self.eval_batch_size, self.num_workers)

    def test_dataloader(self) -> DataLoader[Batch]:
        return evaluation_loader(self._split["test"], self.eval_batch_size, self.num_workers)

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.test_dataloader()


def _at_least(name: str, value: int, low: int) -> int:
    if value < low:
        raise ValueError(f"{name} must be at least {low}, not {value}.")
    return value
