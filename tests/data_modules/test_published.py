"""The published PNG folders: factors from names, and a warning of what names have lost."""

import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from data_modules.flow import PublishedFlowDataModule
from data_modules.pendulum import PublishedPendulumDataModule
from data_modules.scenes import PendulumScene, flow, pendulum
from diffcf.io.errors import DataError

# The first and the last are names that users of the published folder quote in their own code.
PENDULUM = [
    ("train/a_-1_60_6_5.png", (-1, 60)),
    ("train/a_-40_60_3_2.png", (-40, 60)),
    ("test/a_9_69_6_7.png", (9, 69)),
]


def pendulum_name(step: tuple[int, int]) -> str:
    """What the publishing script calls an image."""
    angle, light = (torch.tensor([s], dtype=torch.float64) * torch.pi / 200 for s in step)
    length, position = pendulum.mechanism(angle, light)
    return f"a_{step[0]}_{step[1]}_{int(length)}_{int(position)}.png"


def put(root: Path, file: str, image: Tensor | None = None) -> None:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    if image is None:
        Image.new("RGBA", (96, 96), "white").save(root / file)
    else:
        pixels = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).convert("RGBA").save(root / file)


def test_pendulum_factors_come_from_the_names(tmp_path: Path) -> None:
    grid, is_test = pendulum.published_grid(), PendulumScene().published_grid()[1]
    scene = PublishedPendulumDataModule(tmp_path).scene
    rows = torch.arange(100, 7308, 97)
    images = scene.render(scene.graph.to_scaled(grid[rows]).float(), 96)
    for row, image in zip(rows.tolist(), images, strict=True):
        step = (grid[row, :2] * 200 / torch.pi).round().long().tolist()
        put(tmp_path, f"{'test' if is_test[row] else 'train'}/{pendulum_name(step)}", image)
    module = PublishedPendulumDataModule(tmp_path, batch_size=8)
    with pytest.warns(UserWarning, match="whole numbers") as caught:
        module.prepare_data()
        module.setup()
    assert len(caught) == 1
    tests = module.graph.to_scaled(grid[rows[is_test[rows]]]).float()
    torch.testing.assert_close(module.factors_of("test"), tests, atol=1e-6, rtol=0)
    total = sum(module.size_of(stage) for stage in ("train", "val", "test"))
    assert total == len(rows) and module.size_of("test") == len(tests)
    for stage in ("train", "val", "test"):
        factors = module.factors_of(stage)
        shown = scene.visible(factors)
        measured = scene.read(module.images_of(stage, torch.arange(module.size_of(stage))))
        error = (measured[shown] - factors[shown]).abs()
        assert error.mean(0).max() < 0.015 and error.max() < 0.03  # ends on whole pixels


def test_pendulum_knows_every_published_name() -> None:
    grid, names, is_test = PublishedPendulumDataModule("nowhere").published()
    assert len(set(names)) == len(names) == len(grid) == 7308
    by_name = {f"{'test' if t else 'train'}/{n}" for n, t in zip(names, is_test, strict=True)}
    assert {file for file, _ in PENDULUM} <= by_name
    assert all(pendulum_name(step) == Path(file).name for file, step in PENDULUM)


def test_flow_factors_are_those_of_the_last_render_of_a_name(tmp_path: Path) -> None:
    grid, names, is_test = PublishedFlowDataModule(tmp_path).published()
    written: dict[str, int] = {}
    for row, (name, test) in enumerate(zip(names, is_test.tolist(), strict=True)):
        written[f"{'test' if test else 'train'}/{name}"] = row
    assert len(set(names)) == 6050
    assert sum(file.startswith("test/") for file in written) == 1620
    assert len(written) == 6874
    shared = next(n for n in names if names.count(n) == 3 and f"train/{n}" in written)
    chosen = ["test/" + names[4], "train/" + shared, "train/" + names[0], "train/" + names[1]]
    for file in chosen:
        put(tmp_path, file)
    module = PublishedFlowDataModule(tmp_path, batch_size=1)
    with pytest.warns(UserWarning, match="overwritten"):
        module.setup()
    split = [module.factors_of(stage) for stage in ("train", "val", "test")]
    rows = torch.tensor([written[file] for file in chosen])
    wanted = module.graph.to_scaled(grid[rows]).float()
    found = torch.cat(split)
    assert len(found) == 4
    for factors in wanted:
        assert (found - factors).abs().amax(1).min() < 1e-6
    assert torch.equal(module.factors_of("test")[0], wanted[0])


def test_a_name_of_flow_tells_its_numbers() -> None:
    grid, names, _ = PublishedFlowDataModule("nowhere").published()
    for row in range(0, 8100, 611):
        ball, height, water_flow, hole = map(int, names[row][2:-4].split("_"))
        assert ball == round(float(grid[row, 0]) * 30) and hole == int(grid[row, 2])
        assert height == int(grid[row, 1]) and water_flow == int(grid[row, 3] * 10)
    assert torch.equal(grid, flow.published_grid())


def test_the_warning_comes_with_the_data_not_with_the_module(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PublishedPendulumDataModule(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "train holds 0 PNG files"),
        ([file for file, _ in PENDULUM[:2]], "test holds 0 PNG files"),
        ([*(file for file, _ in PENDULUM), "train/b.png"], r"train/b\.png has no name"),
        ([*(file for file, _ in PENDULUM), "train/a_1_2_3_4.png"], r"a_1_2_3_4\.png has no name"),
        ([*(file for file, _ in PENDULUM), "test/a_-1_60_6_5.png"], r"test/a_-1_60.* has no"),
    ],
)
def test_a_wrong_folder_is_one_clear_error(tmp_path: Path, files: list[str], message: str) -> None:
    for file in files:
        put(tmp_path, file)
    with pytest.raises(DataError, match=message) as error:
        PublishedPendulumDataModule(tmp_path).prepare_data()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("arguments", [{"image_size": 48}, {"val_fraction": 1.0}], ids=str)
def test_wrong_arguments_are_named(arguments: dict[str, int | float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        PublishedFlowDataModule("nowhere", **arguments)
