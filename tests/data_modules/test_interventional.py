"""Training images in which somebody set a factor: what they show, how often, and to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from data_modules import FlowDataModule, PendulumDataModule, SunlightDataModule
from data_modules.base import FactorImageDataModule
from data_modules.interventional import sampled_counterfactual
from data_modules.loading import Batch
from data_modules.orders import RaisedOrder, ShuffledOrder
from data_modules.scenes.faces.scene import CartoonFaces
from data_modules.stored import ImageTable, StoredImageDataModule
from diffcf.causal import Scene
from diffcf.io import DataError, GraphError, SettingsError, to_bytes

SMALL = {"batch_size": 8, "eval_batch_size": 5, "train_size": 40, "val_size": 7, "test_size": 6}
STYLES = ["subpixel", "published_bilinear"]


def set_up(kind: Any = PendulumDataModule, size: int = 32, **settings: Any) -> Any:
    data = kind(image_size=size, **SMALL | settings)
    data.setup()
    return data


def added(data: FactorImageDataModule) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, factors and marks of the interventional images."""
    mask = data.intervened_of("train")
    assert mask is not None
    rows = mask.any(dim=1).nonzero()[:, 0]
    return rows, data.factors_of("train")[rows], mask[rows]


def test_some_factors_alone_can_be_set() -> None:
    data = set_up(interventional=9, interventional_factors=["shadow_length", "light"])
    _, _, mask = added(data)
    names = data.graph.names
    counts = dict(zip(names, mask.sum(dim=0).tolist(), strict=True))
    assert counts == dict.fromkeys(names, 0) | {"shadow_length": 5, "light": 4}
    with pytest.raises(GraphError, match="lamp"):
        set_up(interventional=9, interventional_factors=["lamp"])


SCENES = [(PendulumDataModule, 32), (FlowDataModule, 64), (SunlightDataModule, 32)]


@pytest.mark.parametrize("kind, size", SCENES, ids=lambda v: getattr(v, "__name__", v))
def test_what_was_not_set_follows_the_true_model(kind: Any, size: int) -> None:
    count = 28
    data, plain = set_up(kind, size, interventional=count), set_up(kind, size)
    scene: Scene = data.scene
    rows, factors, mask = added(data)
    observed = plain.factors_of("train")
    assert len(rows) == count and data.size_of("train") == len(observed) + count
    assert (mask.sum(dim=1) == 1).all()
    each = mask.sum(dim=0)
    assert each.max() - each.min() <= 1, "roots and leaves alike"
    # In the observed data all exogenous noise is known: whatever is set, some training image
    # becomes exactly this one by it.
    for found, chosen in zip(factors, mask, strict=True):
        values = found.expand_as(observed)
        made = scene.counterfactual(observed, values, chosen.expand_as(values))
        assert ((made - found).abs().amax(dim=1) < 1e-5).any()
    assert scene.visible(factors).all()
    drawn = scene.render(factors, size, None if scene.noise_names == () else noise(data, rows))
    torch.testing.assert_close(data.images_of("train", rows), drawn, atol=0.01, rtol=0)


def noise(data: FactorImageDataModule, rows: Tensor) -> Tensor:
    found = data.noise_of("train")
    assert found is not None
    return found[rows]


def test_values_are_spread_over_their_ranges() -> None:
    data = set_up(interventional=400)
    _, factors, mask = added(data)
    for column, name in enumerate(data.graph.names):
        values = factors[mask[:, column], column]
        assert len(values) == 100 and values.min() < 0.1 and values.max() > 0.85, name


def test_the_rest_of_the_data_is_what_it_was() -> None:
    data, plain = set_up(interventional=12), set_up()
    assert data.available == plain.available
    torch.testing.assert_close(data.factors_of("train")[:40], plain.factors_of("train"))
    for loaders in ((data.val_dataloader(), plain.val_dataloader()),
                    (data.test_dataloader(), plain.test_dataloader())):  # fmt: skip
        for batch, other in zip(*loaders, strict=True):
            assert batch.keys() == other.keys()
            assert all(torch.equal(value, other[name]) for name, value in batch.items())


def test_the_seed_alone_decides_what_is_drawn() -> None:
    # Every process sets its data up by itself.
    first, same, other = (set_up(interventional=12, seed=seed) for seed in (1, 1, 2))
    for found, again in zip(added(first), added(same), strict=True):
        assert torch.equal(found, again)
    rows = added(first)[0]
    assert torch.equal(first.images_of("train", rows), same.images_of("train", rows))
    assert not torch.equal(added(first)[1], added(other)[1])


def epoch(data: FactorImageDataModule, epochs: int = 1) -> list[Batch]:
    loader = data.train_dataloader()
    return [batch for _ in range(epochs) for batch in loader]


@pytest.mark.parametrize("settings", [{}, {"train_styles": STYLES}], ids=["plain", "styles"])
def test_resident_batches_are_the_same(settings: dict[str, Any]) -> None:
    here, there = (set_up(interventional=8, resident=r, **settings) for r in (False, True))
    batches = list(zip(epoch(here, 2), epoch(there, 2), strict=True))
    assert batches
    for batch, other in batches:
        assert batch.keys() == other.keys() >= {"intervened"}
        assert all(torch.equal(value, other[name]) for name, value in batch.items())


def test_images_of_several_styles_are_drawn_in_that_of_their_batch() -> None:
    data = set_up(interventional=12, train_styles=STYLES, interventional_share=0.5)
    seen = set()
    for batch in epoch(data, 3):
        chosen = batch["intervened"].any(dim=1)
        drawn = {s: type(data.scene)(s).render(batch["factors"], 32) for s in STYLES}
        off = {s: (drawn[s] - batch["image"]).abs().flatten(1).mean(dim=1) for s in STYLES}
        style = min(STYLES, key=lambda s: float(off[s].mean()))
        assert off[style].max() < 0.004 and chosen.any()
        seen.add(style)
    assert seen == set(STYLES)


# --- how often ---


def shares(data: FactorImageDataModule) -> tuple[float, Tensor]:
    """Share of interventional images in five epochs, and how often each of them came."""
    batches = epoch(data, 5)
    chosen = torch.cat([batch["intervened"].any(dim=1) for batch in batches])
    index = torch.cat([batch["index"] for batch in batches])[chosen]
    return float(chosen.float().mean()), torch.bincount(index)[40:]


def test_interventional_images_have_their_share() -> None:
    share, times = shares(set_up(interventional=8, interventional_share=0.5))
    assert share == pytest.approx(0.5, abs=0.02)
    assert times.min() >= 20 and times.max() <= 30, "of 25"
    natural, times = shares(set_up(interventional=40, interventional_share=0.1))
    assert natural == pytest.approx(0.5, abs=0.02) and times.max() <= 5, "each once an epoch"


def test_an_epoch_has_every_other_item_once() -> None:
    raised = torch.tensor([False] * 15 + [True] * 3)
    order = RaisedOrder([(raised, 0.4)], seed=1)
    first = list(order)
    assert len(order) == len(first) == 25
    assert sorted(n for n in first if n < 15) == list(range(15))
    counts = torch.tensor([first.count(n) for n in (15, 16, 17)])
    assert counts.sum() == 10 and counts.max() - counts.min() <= 1
    order.set_epoch(1)
    assert list(order) != first


def test_two_groups_have_their_shares() -> None:
    one, other = torch.arange(40) < 2, torch.arange(40) >= 37
    order = list(RaisedOrder([(one, 0.1), (other, 0.2)], seed=0))
    assert len(order) == 50
    assert sorted(n for n in order if 2 <= n < 37) == list(range(2, 37))
    assert sum(n < 2 for n in order) == 5 and sum(n >= 37 for n in order) == 10


def test_images_with_labels_come_more_often_where_others_lack_them() -> None:
    data = set_up(labels=0.1, labelled_share=0.5, train_size=80)
    batches = epoch(data, 4)
    labelled = torch.cat([batch["observed"].all(dim=1) for batch in batches])
    assert labelled.float().mean() == pytest.approx(0.5, abs=0.05)
    seen = torch.cat([batch["index"] for batch in batches])
    assert len(seen[~labelled].unique()) == 72, "no other image is left out"
    both = set_up(labels=0.1, interventional=4, train_size=80)
    marked = [b["observed"].all(dim=1) & ~b["intervened"].any(dim=1) for b in epoch(both, 4)]
    assert torch.cat(marked).float().mean() == pytest.approx(0.25, abs=0.05)
    plain, same = set_up(train_size=80), set_up(train_size=80, labelled_share=0.0)
    for batch, other in zip(epoch(plain), epoch(same), strict=True):
        assert torch.equal(batch["index"], other["index"]), "nothing changes where none lacks any"


def test_processes_share_an_epoch_and_resume_in_it() -> None:
    raised = torch.arange(30) % 7 == 0
    alone = list(RaisedOrder([(raised, 0.5)], seed=3))
    parts = [list(RaisedOrder([(raised, 0.5)], 3, processes=2, rank=rank)) for rank in (0, 1)]
    assert [n for pair in zip(*parts, strict=True) for n in pair] == alone[: 2 * len(parts[0])]
    resumed = RaisedOrder([(raised, 0.5)], seed=3)
    resumed.go_on(0, 8)
    assert isinstance(resumed, ShuffledOrder) and list(resumed) == alone[8:]


# --- images in files, and mechanisms that are random ---


class Files(StoredImageDataModule):
    """Pendulum's pictures in files."""

    def __init__(self, root: Path, **common: Any) -> None:
        scene = PendulumDataModule(image_size=32).scene
        super().__init__(scene.graph, scene, image_size=32, **common)
        self.root, self.rows = root, scene.published_grid()[0][::250]

    def draw(self) -> None:
        images = to_bytes(self.scene.render(self.rows, 32))
        for place, image in enumerate(images):
            Image.fromarray(image.movedim(0, -1).numpy()).save(self.root / f"{place}.png")

    def table(self, generator: torch.Generator) -> ImageTable:
        parts = torch.arange(len(self.rows)).split([20, 5, len(self.rows) - 25])
        files = [f"{place}.png" for place in range(len(self.rows))]
        split = dict(zip(("train", "val", "test"), parts, strict=True))
        return ImageTable(self.root, files, self.rows, files, split)


@pytest.mark.parametrize("resident", [False, True])
def test_images_of_files_are_joined_by_drawn_ones(tmp_path: Path, resident: bool) -> None:
    Files(tmp_path).draw()
    data = Files(tmp_path, batch_size=4, interventional=6, mirror=True, resident=resident)
    data.setup()
    rows = added(data)[0]
    assert rows.tolist() == list(range(20, 26))
    for batch in epoch(data):
        drawn = data.scene.render(batch["factors"], 32)
        off = (batch["image"] - drawn).abs().flatten(1).amax(dim=1)
        mirrored = (batch["image"].flip(-1) - drawn).abs().flatten(1).amax(dim=1)
        assert (torch.minimum(off, mirrored) < 0.01).all()


def test_random_mechanisms_are_drawn_at_their_true_rates() -> None:
    scene, generator = CartoonFaces("smile"), torch.Generator().manual_seed(0)
    factors, _ = scene.sample(4000, generator)
    mask = torch.zeros_like(factors, dtype=torch.bool)
    mask[:, scene.graph.column("Smiling")] = True
    values = torch.ones_like(factors)
    drawn = sampled_counterfactual(scene, factors, values, mask, generator)
    assert set(drawn.unique().tolist()) == {0.0, 1.0} and (drawn[mask] == 1).all()
    male = scene.graph.column("Male")
    assert torch.equal(drawn[:, male], factors[:, male]), "no effect of a smile"
    # Every effect of a smile alone has its exact rate in closed form.
    expected = scene.counterfactual(factors, values, mask).mean(dim=0)
    torch.testing.assert_close(drawn.mean(dim=0), expected, atol=0.03, rtol=0)
    already = factors[:, scene.graph.column("Smiling")] == 1
    assert torch.equal(drawn[already], factors[already]), "nothing moves where nothing changes"


# --- mistakes ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interventional": -1}, "interventional must be at least 0, not -1"),
        ({"interventional_share": 1.0}, r"interventional_share must lie in \[0, 1\), not 1.0"),
        ({"labelled_share": -0.1}, r"labelled_share must lie in \[0, 1\), not -0.1"),
        ({"labelled_share": 0.9}, "interventional_share and labelled_share come to 1: leave some"),
    ],
)
def test_wrong_arguments_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        PendulumDataModule(image_size=32, **settings)


def test_grey_images_get_none(tmp_path: Path) -> None:
    Files(tmp_path).draw()
    data = Files(tmp_path, batch_size=4, interventional=6, channels=1)
    with pytest.raises(DataError, match="draws in colour, and these images have 1 channels"):
        data.setup()
