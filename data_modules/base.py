"""Base of all data modules: images and factors, split into train, val and test, in batches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Generator, Tensor, randperm
from torch.utils.data import DataLoader

from data_modules.interventional import AppendedImages, drawn_like, with_interventional
from data_modules.labels import check_labels, checked_labels, checked_share, hide_labels
from data_modules.latent_cache import Encode, LatentFactors, latent_factors
from data_modules.loading import (
    Batch,
    BatchDataset,
    FactorImages,
    ImageRows,
    Loaded,
    evaluation_loader,
    training_loader,
)
from data_modules.resident import PlacedFactorImages, checked_residence, placed_splits
from diffcf.causal import CausalGraph, Scene, TrueModel
from diffcf.io import ImageTransform, SettingsError

STAGES = ("train", "val", "test")


class FactorImageDataModule(LightningDataModule):
    """Batches ``{"image": [B, C, H, W] in [-1, 1], "factors": [B, K] in [0, 1], "index": [B]}``.

    ``index`` is the row within the split. Where labels are missing or factors were set, batches
    also have the keys of :class:`diffcf.causal.Marks`. A subclass only loads images and factors, in
    :meth:`load`; ``graph``, ``scene`` and ``transform`` exist before.

    Attributes:
        transform: how a file becomes such an image; weights record it. None where no one can say.

    Args:
        graph: names, kinds and ranges of the factors, and which causes which.
        scene: the synthetic world that made the images, or at least their true model and ruler, to
            measure counterfactuals by; None where there is none.
        batch_size: training batch of each process; an incomplete one at an epoch's end is dropped.
        eval_batch_size: batch of validation, test and prediction.
        seed: chooses subsets and the order of training batches.
        num_workers: loader processes; 0 is fastest where images lie in memory or in a cache. There
            are none where images lie on the training device.
        train_size, val_size, test_size: how many images of each split to keep, a seeded subset;
            None keeps all.
        resident: whether images and factors lie on the training device, so that a step copies none.
            ``auto`` is for cards (and Apple's mps), where the images take a quarter of the free
            memory at most; on the processor true means in memory, also where they lie in a cache.
            The batches are the same either way.
        labels: share of the training images that keep their labels, in (0, 1]; of the others, which
            ``seed`` chooses, all labels are missing. Images in which a factor was set keep theirs.
        interventional: how many training images are drawn besides by the scene's true model, in
            each of which one factor was set (:mod:`data_modules.interventional`).
        interventional_factors: names of the factors that are set in these; None for all.
        interventional_share: least share of an epoch, in [0, 1), that such images have, from a
            table too: they come so often. Where they are more of the images, each comes once.
        labelled_share: the same for images that have all their labels, where others lack some.

    Attributes:
        available: how many images each split has before these sizes cut it, after :meth:`setup`.

    Raises:
        ValueError: in one sentence, for an argument outside its range; at the first batch, for
            ``resident`` images that do not fit on the device.
    """

    transform: ImageTransform | None = None
    mirror = False  # whether training sees every image mirrored, too

    def __init__(
        self,
        graph: CausalGraph,
        scene: TrueModel | None,
        batch_size: int = 64,
        eval_batch_size: int = 128,
        seed: int = 0,
        num_workers: int = 0,
        train_size: int | None = None,
        val_size: int | None = None,
        test_size: int | None = None,
        resident: bool | Literal["auto"] = "auto",
        labels: float = 1.0,
        interventional: int = 0,
        interventional_share: float = 0.1,
        interventional_factors: list[str] | None = None,
        labelled_share: float = 0.25,
    ) -> None:
        super().__init__()
        self.graph, self.scene = graph, scene
        self.batch_size = at_least("batch_size", batch_size, 1)
        self.eval_batch_size = at_least("eval_batch_size", eval_batch_size, 1)
        self.num_workers = at_least("num_workers", num_workers, 0)
        self.seed, self.resident = seed, checked_residence(resident)
        self.labels = checked_labels(labels)
        self.interventional = at_least("interventional", interventional, 0)
        if interventional and not isinstance(scene, Scene):
            raise SettingsError(
                f"{type(self).__name__} has no scene that could draw interventional images: set "
                "interventional to 0."
            )
        self.interventional_share = checked_share("interventional_share", interventional_share)
        self.labelled_share = checked_share("labelled_share", labelled_share)
        if (total := interventional_share + labelled_share) >= 1:
            raise SettingsError(
                f"interventional_share and labelled_share come to {total:g}: leave some of an "
                "epoch to the other images."
            )
        for name in interventional_factors or ():
            graph.column(name)
        self.interventional_factors = interventional_factors
        self.sizes = dict(zip(STAGES, (train_size, val_size, test_size), strict=True))
        for stage, size in self.sizes.items():
            if size is not None:
                at_least(f"{stage}_size", size, 1)
        self.available: dict[str, int] = {}
        self._split: dict[str, FactorImages] = {}
        self._placed: tuple[torch.device, dict[str, FactorImages] | None] | None = None
        self._noise: Tensor | None = None
        self._latents: LatentFactors | None = None

    @abstractmethod
    def load(self, generator: Generator) -> Loaded:
        """The dataset; called once in every process. ``generator`` is for random splits."""

    def setup(self, stage: str | None = None) -> None:
        """Load all images, once; later calls do nothing."""
        if self._split:
            return
        generator = Generator().manual_seed(self.seed)
        loaded = self.load(generator)
        kept = self.kept(loaded.split, generator)
        if (size := len(kept["train"])) < self.batch_size:
            raise SettingsError(
                f"batch_size {self.batch_size} exceeds the {size} training images: take a smaller "
                "one, or give more of the data to training."
            )
        loaded, kept = self._marked(loaded, kept)
        check_labels(self.graph, loaded.factors, kept)
        for stage_name, rows in kept.items():
            mirrored = self.mirror and stage_name == "train"
            known = (loaded.images, loaded.factors, rows, mirrored, loaded.intervened)
            self._split[stage_name] = FactorImages(*known)
        self._noise = loaded.noise

    def _marked(self, loaded: Loaded, kept: dict[str, Tensor]) -> tuple[Loaded, dict[str, Tensor]]:
        """The dataset, interventional images among it, and labels hidden; of all that is kept."""
        # Random numbers of their own: what is drawn here changes no split.
        drawing, hiding = (Generator().manual_seed(self.seed) for _ in range(2))
        train = kept["train"]
        if self.interventional and isinstance(self.scene, Scene):
            known = replace(loaded, split=kept), train, self.scene, self.interventional
            whole, added = with_interventional(*known, drawing, self.interventional_factors)
            images = self.extended(loaded.images, whole, added)
            loaded, kept = replace(whole, images=images), whole.split
        if self.labels < 1:
            given = loaded.intervened
            own = train if given is None else train[~given[train].any(dim=1)]
            factors = hide_labels(loaded.factors, own, self.labels, hiding)
            loaded = replace(loaded, factors=factors)
        return loaded, kept

    def extended(self, images: ImageRows, whole: Loaded, added: Tensor) -> ImageRows:
        """The images, and behind them those of the last rows, ``added``, of ``whole``."""
        assert isinstance(self.scene, Scene)
        noise = None if whole.noise is None else whole.noise[added]
        row = whole.split["train"][:1]
        more = drawn_like(images, self.scene, whole.factors[added], noise, row)
        return AppendedImages(images, int(added[0]), more)

    def kept(self, split: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        """Rows of each split, ascending: all, or a random subset of the size that was asked for."""
        kept = {}
        for stage in reversed(STAGES):
            rows, size = split[stage], self.sizes[stage]
            self.available.setdefault(stage, len(rows))
            if size is not None and size < len(rows):
                rows = rows[randperm(len(rows), generator=generator)[:size]]
            kept[stage] = rows.sort().values
        return kept

    def size_of(self, stage: str) -> int:
        """Images in ``"train"``, ``"val"`` or ``"test"``."""
        return len(self._split[stage].index)

    def factors_of(self, stage: str) -> Tensor:
        """Factors ``[N, K]`` of a split, in the order of ``index``; NaN for a missing label."""
        split = self._split[stage]
        return split.factors[split.index].float()

    def intervened_of(self, stage: str) -> Tensor | None:
        """Which factors of a split somebody set, ``[N, K]`` bool; None for none."""
        split = self._split[stage]
        return None if split.intervened is None else split.intervened[split.index]

    def noise_of(self, stage: str) -> Tensor | None:
        """Image noise ``[N, M]`` of a split (see :class:`Loaded`), or None."""
        return None if self._noise is None else self._noise[self._split[stage].index].float()

    def images_of(self, stage: str, rows: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` in [-1, 1] of some rows of a split."""
        return self._split[stage].__getitems__(rows.tolist())["image"]

    @property
    def device(self) -> torch.device:
        """Where this process trains or tests; the processor where no Trainer says."""
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def dataset(self, stage: str) -> FactorImages:
        """The split that batches come from: on :attr:`device` where images are resident."""
        if self._placed is None or self._placed[0] != self.device:
            splits = placed_splits(self._split, self.resident, self.device)
            self._placed = self.device, splits
        return (self._placed[1] or self._split)[stage]

    def use_latents(self, encode: Encode, digest: str) -> Iterator[Tensor]:
        """Train on latents: batches then have ``latent`` ``[B, L, h, w]`` in place of images.

        ``encode`` takes images ``[B, C, H, W]`` in [-1, 1]; what it made is kept where images are
        cached, under the name ``digest``. Returns some thousand latents, in parts.
        """
        split, device = self._split["train"], self.device
        folder, images = self.latent_cache
        self._latents = latent_factors(
            split, lambda image: encode(image.to(device)), digest, folder, images
        )
        return self._latents.sample()

    @property
    def latent_cache(self) -> tuple[Path | None, str | None]:
        """Folder for latents, and the name of the images there; None keeps latents in memory."""
        return None, None

    def _loading(self, dataset: BatchDataset) -> tuple[int, bool]:
        """Loader processes, none of which may touch a card, and whether they pin batches for it."""
        if isinstance(dataset, PlacedFactorImages):
            return 0, False
        return self.num_workers, self.device.type == "cuda"

    def train_dataloader(self) -> DataLoader[Batch]:
        dataset: BatchDataset = self._latents or self.dataset("train")
        workers, pinned = self._loading(dataset)
        own = self.batch_size, workers, self.seed, self.trainer, pinned
        return training_loader(dataset, *own, self._raised())

    def _raised(self) -> list[tuple[Tensor, float]]:
        """What is seen more often than it occurs, and its share."""
        train = self._split["train"]
        was_set, labelled = train.set_items(), train.labelled_items()
        if labelled is not None and was_set is not None:
            labelled = labelled & ~was_set
        groups = (was_set, self.interventional_share), (labelled, self.labelled_share)
        return [
            (items, share) for items, share in groups if items is not None and items.any() and share
        ]

    def _evaluation_loader(self, stage: str) -> DataLoader[Batch]:
        dataset = self.dataset(stage)
        return evaluation_loader(dataset, self.eval_batch_size, *self._loading(dataset))

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.test_dataloader()


def carve(rows: Tensor, fraction: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Split ``rows`` at random: the rest, and ``fraction`` of them (one at least, never all)."""
    rows = rows[randperm(len(rows), generator=generator)]
    count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
    return rows[count:], rows[:count]


def at_least(name: str, value: int, low: int) -> int:
    """``value`` itself; ValueError when it is below ``low``."""
    if value < low:
        raise SettingsError(f"{name} must be at least {low}, not {value}.")
    return value


def fraction(name: str, value: float) -> float:
    """``value`` itself; ValueError unless it lies in (0, 1)."""
    if not 0 < value < 1:
        raise SettingsError(f"{name} must lie between 0 and 1, not {value}.")
    return value
