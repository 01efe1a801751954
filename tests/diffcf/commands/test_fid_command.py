from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from projection import Projection, made_images
from torch import Tensor

from diffcf.commands import fid as fid_command
from diffcf.commands.fid import FolderImages, fid
from diffcf.evaluation.metrics.frechet import GaussianStatistics, frechet_distance
from diffcf.evaluation.perceptual import bias_note
from diffcf.io.errors import DataError, OutputError


def _write(folder: Path, images: Tensor) -> None:
    folder.mkdir(parents=True)
    pixels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:03d}.png")


def test_a_folder_gives_its_pixels(tmp_path) -> None:
    images, large = made_images(5), made_images(2, size=12)
    _write(tmp_path / "a" / "small", images)
    _write(tmp_path / "a" / "tall", large)
    (tmp_path / "a" / "note.txt").touch()
    folder = FolderImages(tmp_path / "a", batch_size=3)
    batches = list(folder)
    assert len(folder) == 7 and [len(b) for b in batches] == [3, 2, 2]
    torch.testing.assert_close(torch.cat(batches[:2]), images)
    torch.testing.assert_close(batches[2], large)


def test_bad_folders_and_files_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        FolderImages(tmp_path / "absent", 4)
    with pytest.raises(DataError, match="has no PNG, JPEG"):
        FolderImages(tmp_path, 4)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"broken\.png cannot be read"):
        list(FolderImages(tmp_path, 4))


def test_the_command_compares_two_folders(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(fid_command, "load_inception", Projection)
    for name, seed in (("real", 0), ("generated", 1)):
        _write(tmp_path / name, made_images(30, seed))
    cache = ["--cache_dir", str(tmp_path / "cache"), "--device", "cpu"]
    real, generated = (str(tmp_path / name) for name in ("real", "generated"))
    fid([real, generated, *cache, "--out", str(tmp_path / "fid.json")])
    out = capsys.readouterr().out
    expected = frechet_distance(
        *(GaussianStatistics.of(Projection()(made_images(30, seed))) for seed in (0, 1))
    )
    record = json.loads((tmp_path / "fid.json").read_text())
    assert record["metrics"]["fid"] == pytest.approx(float(expected), rel=1e-4)
    assert record["provenance"]["real"] == record["provenance"]["generated"] == 30
    assert f"FID   {expected:.4f}" in out and "sFID" in out and "KID" in out
    assert "30 images against 30 real ones" in out and "rank-deficient" in out
    fid([real, real, *cache])
    assert "FID   0.0000" in capsys.readouterr().out


def test_few_images_earn_a_note() -> None:
    assert bias_note(2049, 5000) is None
    note = bias_note(2048, 5000)
    assert note is not None and "2,048 generated against 5,000 real" in note


def test_pixels_read_are_pixels_measured(tmp_path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    (tmp_path / "x").mkdir()
    Image.fromarray(grey).save(tmp_path / "x" / "grey.png")
    (batch,) = FolderImages(tmp_path / "x", 4)
    assert torch.equal(((batch[0, 1] + 1) * 127.5).round().byte(), torch.from_numpy(grey))


def test_one_image_is_no_distribution_and_is_refused_before_the_work(tmp_path, monkeypatch) -> None:
    _write(tmp_path / "one", made_images(1))
    _write(tmp_path / "many", made_images(4))
    monkeypatch.setattr(fid_command, "load_inception", lambda: pytest.fail("work was begun"))
    for folders in (("one", "many"), ("many", "one")):
        with pytest.raises(DataError, match=r"one has one image; a distribution needs two"):
            fid([str(tmp_path / folder) for folder in folders])


def test_results_that_are_there_stay(tmp_path, monkeypatch) -> None:
    _write(tmp_path / "many", made_images(4))
    (tmp_path / "fid.json").write_text("of yesterday")
    monkeypatch.setattr(fid_command, "load_inception", lambda: pytest.fail("work was begun"))
    with pytest.raises(OutputError, match="exists already"):
        fid([str(tmp_path / "many")] * 2 + ["--out", str(tmp_path / "fid.json")])
    assert (tmp_path / "fid.json").read_text() == "of yesterday"
