"""Missing labels: hidden by a setting or empty in a table, and what no dataset may lack."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from data_modules import CelebADataModule, FactorTableDataModule, PendulumDataModule
from data_modules.base import FactorImageDataModule
from diffcf.commands.main import main
from diffcf.io import DataError, SettingsError

SMALL = {"batch_size": 8, "eval_batch_size": 5, "train_size": 40, "val_size": 7, "test_size": 6}


def pendulum(**settings: Any) -> PendulumDataModule:
    data = PendulumDataModule(image_size=32, **SMALL | settings)  # type: ignore[arg-type]
    data.setup()
    return data


def labelled(data: FactorImageDataModule) -> torch.Tensor:
    """Which training images have all their labels; no other has any."""
    missing = data.factors_of("train").isnan()
    assert torch.equal(missing.any(dim=1), missing.all(dim=1))
    return ~missing.any(dim=1)


def test_a_share_of_the_training_images_keeps_its_labels() -> None:
    data, whole = pendulum(labels=0.2), pendulum()
    kept = labelled(data)
    assert kept.sum() == 8
    assert torch.equal(data.factors_of("train")[kept], whole.factors_of("train")[kept])
    for stage in ("val", "test"):
        assert torch.equal(data.factors_of(stage), whole.factors_of(stage))
    rows = torch.arange(40)
    assert torch.equal(data.images_of("train", rows), whole.images_of("train", rows))


def test_the_seed_chooses_who_keeps_them() -> None:
    first, same, other = (labelled(pendulum(labels=0.2, seed=seed)) for seed in (0, 0, 3))
    assert torch.equal(first, same) and not torch.equal(first, other)


@pytest.mark.parametrize("resident", [False, True])
def test_batches_say_what_is_observed_and_others_are_as_ever(resident: bool) -> None:
    data = pendulum(labels=0.2, labelled_share=0.0, resident=resident)
    whole = pendulum(resident=resident)
    for batch, other in zip(data.train_dataloader(), whole.train_dataloader(), strict=True):
        assert batch.keys() == other.keys() | {"observed"}
        assert torch.equal(batch["observed"], ~batch["factors"].isnan())
        seen = torch.where(batch["observed"], other["factors"], torch.nan)
        torch.testing.assert_close(batch["factors"], seen, equal_nan=True)
    assert all("observed" not in batch for batch in data.val_dataloader())


def test_latents_come_with_the_marks_of_their_images() -> None:
    data = pendulum(labels=0.2, interventional=8)
    list(data.use_latents(lambda image: image[:, :1, ::8, ::8], "halves"))
    by_hand, whole = data.intervened_of("train"), labelled(data)
    for batch in data.train_dataloader():
        assert torch.equal(batch["observed"].all(dim=1), whole[batch["index"]])
        assert torch.equal(batch["intervened"], by_hand[batch["index"]])


def test_interventional_images_keep_their_labels() -> None:
    data = pendulum(labels=0.1, interventional=12)
    by_hand = data.intervened_of("train").any(dim=1)
    assert labelled(data)[by_hand].all() and labelled(data).sum() == 4 + 12


def test_one_image_keeps_its_labels_however_few_are_to() -> None:
    assert labelled(pendulum(labels=1e-6)).sum() == 1


@pytest.mark.parametrize("labels", [0.0, -0.5, 1.01, float("nan")])
def test_a_share_outside_its_range_is_one_sentence(labels: float) -> None:
    with pytest.raises(SettingsError, match=r"keep their labels, in \(0, 1\], not"):
        PendulumDataModule(labels=labels)


# --- tables ---

GRAPH = {
    "factors": {
        "red": {"range": [0, 255]},
        "bright": {"kind": "binary"},
        "shape": {"categories": ["wide", "high"]},
    },
    "edges": [["red", "bright"]],
}


def table(folder: Path, rows: list[str], **settings: Any) -> FactorTableDataModule:
    """Images of a table with the columns image, split, intervened, red, bright and shape."""
    (folder / "images").mkdir(exist_ok=True)
    for place in range(len(rows)):
        Image.new("RGB", (8, 8), (10 * place, 0, 0)).save(folder / f"images/{place}.png")
    head = "image,split,intervened,red,bright,shape"
    lines = [f"{place}.png,{row}" for place, row in enumerate(rows)]
    (folder / "t.csv").write_text("\n".join([head, *lines]))
    (folder / "graph.yaml").write_text(yaml.safe_dump(GRAPH, sort_keys=False))
    own = {"split_column": "split", "image_size": 8, "batch_size": 2} | settings
    return FactorTableDataModule(folder / "images", folder / "t.csv", folder / "graph.yaml", **own)


ROWS = [
    "train,,10,0,wide",
    "train,red,,1,high",
    "train,red;shape,30,NA,wide",
    "train, bright ; red,40,1,",
    "val,,50,1,wide",
    "test,,60,0,high",
]


def test_empty_cells_are_missing_labels_of_every_kind(tmp_path: Path) -> None:
    data = table(tmp_path, ROWS)
    data.setup()
    expected = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).bool()
    assert torch.equal(data.factors_of("train").isnan(), expected)
    assert data.factors_of("train")[3, :2].tolist() == pytest.approx([40 / 255, 1])
    for batch in data.train_dataloader():
        assert torch.equal(batch["observed"], ~expected[batch["index"]])


def test_a_column_names_what_was_set(tmp_path: Path) -> None:
    data = table(tmp_path, ROWS)
    data.setup()
    expected = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 0, 1], [1, 1, 0]]).bool()
    assert torch.equal(data.intervened_of("train"), expected)
    assert data.intervened_of("val") is None
    for batch in data.train_dataloader():
        assert torch.equal(batch["intervened"], expected[batch["index"]])
    assert all("intervened" not in batch for batch in data.test_dataloader())


def test_that_column_may_have_another_name_or_be_absent(tmp_path: Path) -> None:
    whole = [row.replace("red;shape", "").replace("bright ; red", "") for row in ROWS]
    plain = table(tmp_path, [row.replace("train,red", "train,") for row in whole])
    text = (tmp_path / "t.csv").read_text()
    plain.setup()
    assert plain.intervened_of("train") is None
    (tmp_path / "t.csv").write_text(text.replace("intervened", "who", 1))
    data = table(tmp_path, ROWS, intervened_column="who")
    with pytest.raises(DataError, match="has no column 'who'"):
        data.setup()
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("intervened", "who"))
    data.setup()
    assert data.intervened_of("train") is not None


def test_a_factor_may_be_named_as_that_column(tmp_path: Path) -> None:
    table(tmp_path, ["train,0,1,0,wide"] * 4 + ["val,1,3,1,wide", "test,1,4,1,wide"])
    graph = {"factors": {"intervened": {"kind": "binary"}}}
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump(graph))
    data = FactorTableDataModule(
        tmp_path / "images", tmp_path / "t.csv", tmp_path / "graph.yaml", split_column="split",
        image_size=8, batch_size=2,
    )  # fmt: skip
    data.setup()
    assert data.intervened_of("train") is None and not data.factors_of("train").any()


def test_a_random_split_measures_on_whole_rows_alone(tmp_path: Path) -> None:
    rows = [f",,{place},{place % 2 if place % 3 else ''},wide" for place in range(20)]
    data = table(tmp_path, rows, split_column=None, val_fraction=0.3, test_fraction=0.3)
    data.setup()
    assert [data.size_of(stage) for stage in ("train", "val", "test")] == [12, 4, 4]
    assert data.factors_of("train")[:, 1].isnan().sum() == 7
    few = table(tmp_path, [",,1,,wide"] * 5 + [",,1,1,wide"] * 2, split_column=None)
    with pytest.raises(DataError, match="has 2 rows without an empty cell"):
        few.setup()


def test_a_table_without_validation_rows_gets_whole_ones(tmp_path: Path) -> None:
    rows = [f"train,,{place},{place % 2 if place % 3 else ''},wide" for place in range(10)]
    data = table(tmp_path, [*rows, "test,,3,1,high"], val_fraction=0.5)
    data.setup()
    assert data.size_of("val") == 3 and data.factors_of("train")[:, 1].isnan().sum() == 4


def test_a_name_that_is_no_factor_is_one_sentence(tmp_path: Path) -> None:
    rows = [row.replace("red;shape", "red;rood") for row in ROWS]
    with pytest.raises(DataError, match="'rood' is no factor: name some of red, bright") as error:
        table(tmp_path, rows).prepare_data()
    assert "t.csv row 4, column 'intervened'" in str(error.value)


@pytest.mark.parametrize(
    ("place", "row", "words"),
    [(4, "val,,,1,wide", "'red' .* t.csv row 6, .* val"),
     (5, "test,,60,,high", "'bright' .* t.csv row 7, .* test")],
)  # fmt: skip
def test_scores_need_every_label(tmp_path: Path, place: int, row: str, words: str) -> None:
    rows = [row if k == place else old for k, old in enumerate(ROWS)]
    with pytest.raises(DataError, match=words):
        table(tmp_path, rows).prepare_data()


def test_a_factor_without_any_label_is_one_sentence(tmp_path: Path) -> None:
    rows = [row.removesuffix(row.split(",")[-1]) if "train" in row else row for row in ROWS]
    with pytest.raises(DataError, match="Factor 'shape' has no label in the training part"):
        table(tmp_path, rows).prepare_data()


def test_images_without_a_scene_get_no_interventional_ones(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="FactorTableDataModule has no scene that could draw"):
        table(tmp_path, ROWS, interventional=3)


def test_what_is_exported_keeps_its_marks(tmp_path: Path) -> None:
    settings = {"image_size": 32, "labels": 0.5, "interventional": 8, **SMALL}
    config = {"class_path": "data_modules.PendulumDataModule", "init_args": settings}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    assert main(["export", str(tmp_path / "small.yaml"), str(tmp_path / "mine")]) == 0
    original = pendulum(labels=0.5, interventional=8)
    folder = tmp_path / "mine"
    names = folder / "images", folder / "factors.csv", folder / "graph.yaml"
    data = FactorTableDataModule(*names, split_column="split", image_size=32, batch_size=8)
    data.setup()
    for stage in ("train", "val", "test"):
        found, expected = data.factors_of(stage), original.factors_of(stage)
        torch.testing.assert_close(found, expected, equal_nan=True)
    assert torch.equal(data.intervened_of("train"), original.intervened_of("train"))
    rows = list(csv.DictReader((folder / "factors.csv").open()))
    assert {row["intervened"] for row in rows} == {"", *original.graph.names}


def test_folders_like_celebas_share_the_mechanism(tmp_path: Path) -> None:
    (tmp_path / "img_align_celeba").mkdir()
    cells = ["1,-1,", ",1,Male", "-1,,", "1,1,", "-1,1,"]
    attributes, partition = ["image_id,Male,Smiling,intervened"], ["image_id,partition"]
    for place, cell in enumerate(cells):
        name = f"{place + 1:06d}.jpg"
        Image.new("RGB", (178, 218)).save(tmp_path / "img_align_celeba" / name)
        attributes.append(f"{name},{cell}")
        partition.append(f"{name},{max(place - 2, 0)}")
    (tmp_path / "list_attr_celeba.csv").write_text("\n".join(attributes))
    (tmp_path / "list_eval_partition.csv").write_text("\n".join(partition))
    graph = {"factors": {n: {"kind": "binary"} for n in ("Male", "Smiling", "Dour")}}
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    opposite = {"Dour": "not Smiling"}
    data = CelebADataModule(tmp_path, tmp_path / "graph.yaml", opposite, batch_size=1)
    data.setup()
    nan = torch.nan
    expected = torch.tensor([[1, 0, 1], [nan, 1, 0], [0, nan, nan]])
    torch.testing.assert_close(data.factors_of("train"), expected, equal_nan=True)
    assert data.intervened_of("train").nonzero().tolist() == [[1, 0]]
