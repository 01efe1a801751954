"""What training saw of a file is what every command sees of it, and answers find their way back."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from PIL import Image
from projection import Projection
from stirring import stir

import diffcf
from data_modules.factor_table import FactorTableDataModule
from diffcf.causal.graph import CausalGraph
from diffcf.commands import fid as fid_command
from diffcf.commands.main import main
from diffcf.io.errors import CheckpointError, DataError
from diffcf.io.pixels import from_bytes
from diffcf.io.tensor_file import SPEC_KEY
from diffcf.io.transform import ImageTransform, decode
from diffcf.methods import WEIGHTS, method_of, write_weights
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.engine import Sampling
from diffcf.reporting import card

SEEN = ImageTransform(32, crop=40, resample="box")


def photo(path: Path, width: int = 60, height: int = 50) -> Path:
    rng = np.random.default_rng(width)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def weights(model: DiffusionCounterfactuals, tmp_path: Path) -> str:
    stir(model)
    model.image_shape, model.transform = (3, 32, 32), SEEN
    sampling = Sampling(steps=2, anchored=True)
    write_weights(model, sampling, tmp_path / "some.safetensors", torch.float32)
    return str(tmp_path / "some.safetensors")


# --- recorded ---


def folder_data(root: Path, graph: CausalGraph, **settings: object) -> FactorTableDataModule:
    root.mkdir(exist_ok=True)
    lines = [f"image,{','.join(graph.names)}"]
    for place in range(8):
        photo(root / f"{place}.png", 50 + place)
        lines.append(f"{place},{','.join(str((f.low + f.high) / 2) for f in graph.factors)}")
    (root / "t.csv").write_text("\n".join(lines))
    given = {"image_size": 32, "crop": 40, "resample": "box", "batch_size": 2} | settings
    return FactorTableDataModule(root, root / "t.csv", graph, **given)


def trained(model: DiffusionCounterfactuals, data: LightningDataModule, folder: Path) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(
        max_steps=1, limit_val_batches=0, accelerator="cpu", default_root_dir=folder,
        inference_mode=False, **quiet,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    return trainer


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_training_records_what_files_became(
    model: DiffusionCounterfactuals, graph: CausalGraph, tmp_path: Path
) -> None:
    data = folder_data(tmp_path / "images", graph)
    trainer = trained(model, data, tmp_path)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = diffcf.load(tmp_path / "last.ckpt")
    assert loaded.module.transform == SEEN == data.transform == loaded.image_transform()
    write_weights(loaded.module, Sampling(steps=1), tmp_path / "w.safetensors")
    shipped = diffcf.load(tmp_path / "w.safetensors")
    assert shipped.image_transform() == SEEN
    files = [data.images / f"{data._split['test'].index[0]}.png"]
    assert torch.equal(shipped.open_images(files), data.images_of("test", torch.tensor([0])))


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_test_on_files_that_are_seen_otherwise_says_so(
    model: DiffusionCounterfactuals, graph: CausalGraph, tmp_path: Path
) -> None:
    data = folder_data(tmp_path / "images", graph)
    trainer = trained(model, data, tmp_path)
    other = folder_data(tmp_path / "images", graph, crop=None)
    with pytest.warns(UserWarning, match="trained on files that were seen otherwise"):
        trainer.test(model, datamodule=other, verbose=False)


def test_shipped_faces_see_photographs_as_their_training_did() -> None:
    model = diffcf.load("faces")
    assert model.image_transform() == ImageTransform(64, crop=148)
    assert model.image_transform(128) == ImageTransform(128, crop=148)
    about = card(WEIGHTS / "faces.safetensors", "faces", WEIGHTS / "faces.json")
    assert "| files | central 148 × 148 pixels, to 64 × 64 by bilinear, colour |" in about


def test_weights_older_than_the_record_have_it_with_their_data(
    model: DiffusionCounterfactuals, recwarn: pytest.WarningsRecorder
) -> None:
    model.image_shape = (3, 32, 32)
    spec = model.spec_record()
    del spec["transform"]
    arguments = {"root": "data", "image_size": 32, "crop": 148, "channels": 3}
    spec["data"] = {"class_path": "data_modules.CelebADataModule", "init_args": arguments}
    older = method_of({SPEC_KEY: spec, "state_dict": model.state_dict()}, "old.ckpt")
    answering = diffcf.api.Model(older, Sampling(steps=1))
    assert answering.image_transform() == ImageTransform(32, crop=148)
    assert not [w for w in recwarn if "do not record" in str(w.message)]


def test_weights_that_say_nothing_take_the_largest_square_and_say_so(
    model: DiffusionCounterfactuals,
) -> None:
    model.image_shape = (1, 32, 32)
    with pytest.warns(UserWarning, match="do not record .* largest central square"):
        transform = diffcf.api.Model(model, Sampling(steps=1)).image_transform()
    assert transform == ImageTransform(32, channels=1)


@pytest.mark.parametrize("transform", [{"size": -1}, {"size": 8, "turn": 1}, [], "crop", {}])
def test_a_record_that_is_wrong_is_one_sentence(
    model: DiffusionCounterfactuals, transform: object
) -> None:
    spec = model.spec_record() | {"transform": transform}
    with pytest.raises(CheckpointError, match=r"x\.ckpt describes a method") as caught:
        method_of({SPEC_KEY: spec, "state_dict": model.state_dict()}, "x.ckpt")
    assert "\n" not in str(caught.value)


# --- used ---


def test_counterfactual_takes_a_file_as_training_did(weights: str, tmp_path: Path) -> None:
    file, out = photo(tmp_path / "a.png"), tmp_path / "out"
    assert main(["counterfactual", weights, str(file), "--do", "light=1", "--out", str(out)]) == 0
    record = json.loads((out / "factors.json").read_text())
    assert ImageTransform.from_dict(record["transform"]) == SEEN
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "factors.json", "sheet.png"]
    model = diffcf.load(weights)
    image = model.open_images([file])
    assert torch.equal(image[0], from_bytes(decode(file, SEEN, "")))
    answer = model.counterfactual(image, {"light": 1.0}, units="native").image[0]
    assert torch.equal(from_bytes(np.asarray(Image.open(out / "a.png")).transpose(2, 0, 1)),
                       from_bytes(diffcf.io.to_bytes(answer).numpy()))  # fmt: skip
    # The answer is a file of another form, S × S: it is taken as it is.
    again = ["counterfactual", weights, str(out), "--do", "light=1.1", "--out", f"{out}2"]
    assert main(again) == 0
    assert set(json.loads(Path(f"{out}2/factors.json").read_text())["images"]) == {"a"}


def test_a_file_that_is_too_small_is_one_sentence(weights: str, tmp_path: Path, capsys) -> None:
    file, out = photo(tmp_path / "a.png", 39), tmp_path / "out"
    assert main(["counterfactual", weights, str(file), "--do", "light=1", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "a.png has 39 × 50 pixels, less than the crop of 40" in said
    assert said.count("\n") == 1 and not out.exists()
    with pytest.raises(DataError, match="less than the crop of 40"):
        diffcf.load(weights).open_images([file])


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (["--do", "light=1"], ["a.png"]),
        (["--do", "light=1", "--then", "angle=0.1"], ["a_1.png", "a_2.png"]),
        (["--sweep", "light=1:1.2:3"], ["a_1.png", "a_2.png", "a_3.png"]),
    ],
    ids=["one", "sequence", "sweep"],
)
def test_answers_are_put_back_into_the_uncropped_file(
    weights: str, tmp_path: Path, asked: list[str], names: list[str]
) -> None:
    file, out = photo(tmp_path / "a.png"), tmp_path / "out"
    ask = ["counterfactual", weights, str(file), *asked, "--out", str(out), "--uncrop", "true"]
    assert main(ask) == 0
    assert sorted(path.name for path in (out / "uncropped").iterdir()) == names
    before = np.asarray(Image.open(file))
    for name in names:
        after = np.asarray(Image.open(out / "uncropped" / name))
        assert after.shape == before.shape
        changed = (after != before).any(2)
        assert changed.any() and not changed[:5].any() and not changed[:, 50:].any()
    model = diffcf.load(weights)
    image = model.open_images([file])
    whole = model.uncrop(file, model.counterfactual(image, {}).image[0])
    assert np.array_equal(np.asarray(whole), before), "nothing was asked, nothing changed"


def test_fid_counts_pictures_and_none_of_our_by_products(
    weights: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(fid_command, "load_inception", Projection)
    (tmp_path / "real").mkdir()
    for place in range(3):
        photo(tmp_path / f"real/{place}.png", 50 + place)
    out, real = tmp_path / "out", str(tmp_path / "real")
    ask = ["counterfactual", weights, real, "--do", "light=1", "--uncrop", "true"]
    assert main([*ask, "--out", str(out)]) == 0
    result = tmp_path / "fid.json"
    options = ["--cache_dir", str(tmp_path / "cache"), "--device", "cpu", "--weights", weights]
    assert main(["fid", real, str(out), *options, "--out", str(result)]) == 0
    assert "left out 4 by-products" in capsys.readouterr().out
    record = json.loads(result.read_text())
    assert record["provenance"]["generated"] == record["provenance"]["real"] == 3
    assert ImageTransform.from_dict(record["provenance"]["transform"]) == SEEN
    # A folder and what the network sees of it are the same set.
    (tmp_path / "seen").mkdir()
    for file in sorted((tmp_path / "real").iterdir()):
        pixels = decode(file, SEEN).transpose(1, 2, 0)
        Image.fromarray(pixels).save(tmp_path / "seen" / file.name)
    result = tmp_path / "same.json"
    assert main(["fid", real, str(tmp_path / "seen"), *options, "--out", str(result)]) == 0
    assert json.loads(result.read_text())["metrics"]["fid"] == pytest.approx(0, abs=1e-4)


def test_data_prints_what_files_become(graph: CausalGraph, tmp_path: Path, capsys) -> None:
    folder_data(tmp_path / "images", graph)
    (tmp_path / "graph.yaml").write_text(json.dumps(graph.to_dict()))
    images, table = tmp_path / "images", tmp_path / "images/t.csv"
    settings = "image_size: 16, fit: letterbox, value_range: [0, 4095], batch_size: 1"
    (tmp_path / "c.yaml").write_text(
        "class_path: data_modules.FactorTableDataModule\ninit_args: "
        f"{{images: {images}, table: {table}, graph: {tmp_path}/graph.yaml, {settings}}}"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all factors are constant
        assert main(["data", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "s.png")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "whole picture, between bars, to 16 × 16 by bilinear, colour, 0 … 4095" in printed
