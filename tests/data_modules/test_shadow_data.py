"""The Shadow data modules, of our renders and of published images by their names."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from data_modules.scenes.shadow.scene import PointlightScene, SunlightScene
from data_modules.shadow import (
    PointlightDataModule,
    PublishedPointlightDataModule,
    PublishedSunlightDataModule,
    SunlightDataModule,
)
from diffcf.io.errors import DataError

SMALL = {"image_size": 32, "batch_size": 8, "train_size": 40, "val_size": 9, "test_size": 11}


@pytest.mark.parametrize("kind", [SunlightDataModule, PointlightDataModule])
def test_only_the_images_asked_for_are_drawn(kind: type) -> None:
    module = kind(**SMALL)
    module.setup()
    assert [module.size_of(stage) for stage in ("train", "val", "test")] == [40, 9, 11]
    batch = next(iter(module.test_dataloader()))
    assert batch["image"].shape == (11, 3, 32, 32)
    exact = module.scene.render(batch["factors"], 32)
    torch.testing.assert_close(batch["image"], exact, atol=1.01 / 127.5, rtol=0)  # eight bits
    assert module.noise_of("test") is None


def test_splits_are_disjoint_and_follow_the_seed() -> None:
    def rows(seed: int) -> dict[str, set[tuple[float, ...]]]:
        module = SunlightDataModule(**SMALL, seed=seed)
        module.setup()
        stages = ("train", "val", "test")
        return {s: {tuple(row) for row in module.factors_of(s).tolist()} for s in stages}

    one, again, other = rows(0), rows(0), rows(1)
    assert one == again and one["test"] != other["test"]
    assert not one["train"] & one["test"] and not one["train"] & one["val"]
    with pytest.raises(ValueError, match="test_fraction"):
        SunlightDataModule(test_fraction=1.0)


def sun_name(shape: str = "Cube", area: float = 1.5, colour: str = "Plum") -> str:
    return (
        f"{shape}_Red_Size_0.4_LightPosition_3_LightColor_{colour}_ShadowArea_{area}"
        f"_FloorColor_{colour}.png"
    )


def folder(path: Path, names: list[str]) -> Path:
    for name in names:
        Image.new("RGB", (40, 40), "red").save(path / name)
    return path


def test_published_names_are_read_traps_and_all(tmp_path: Path) -> None:
    names = [sun_name("Ocrahedron", 0.5), *(sun_name(area=a) for a in (1.0, 2.5))]
    names += [sun_name("Sphere", a, "Coral") for a in (1.1, 1.2, 1.3, 1.4, 1.5)]
    module = PublishedSunlightDataModule(folder(tmp_path, names), image_size=32, batch_size=2)
    module.setup()
    factors = torch.cat([module.factors_of(stage) for stage in ("train", "val", "test")])
    shapes = module.graph.factors[0]
    assert (factors[:, 0] == shapes.scaled("octahedron")).sum() == 1
    native = module.graph.to_native(factors)
    assert native[:, module.graph.column("shadow_area")].aminmax() == (0.5, 2.5)
    assert module.scene is None, "no scene of ours drew these"


def test_published_lamps_have_a_blank_after_rgb(tmp_path: Path) -> None:
    names = [
        sun_name(area=area).removesuffix(".png")
        + "_Brightest_X_1.2_Y_-3.4_RGB_ (215, 190, 215).png"
        for area in (1.0, 1.5, 2.0, 2.5)
    ]
    module = PublishedPointlightDataModule(folder(tmp_path, names), image_size=32, batch_size=1)
    module.setup()
    plum = PointlightScene().graph.factors[4].scaled("Plum")
    spot = module.graph.column("spot_colour")
    assert (module.factors_of("train")[:, spot] == plum).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("holiday.png", "holiday.png is not understood"),
        (sun_name("Teapot"), "unknown shape 'Teapot': known are cube"),
        (sun_name().replace("Size_0.4", "Size_9.0"), "size outside 0.4 to 1.6"),
    ],
)
def test_a_name_that_is_wrong_is_named(name: str, message: str, tmp_path: Path) -> None:
    names = [sun_name(area=area) for area in (1.0, 2.0, 3.0)]
    root = folder(tmp_path, [*names, name])
    with pytest.raises(DataError, match=message):
        PublishedSunlightDataModule(root, image_size=32, batch_size=1).setup()


def test_an_empty_folder_and_a_wrong_pattern(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="never downloaded"):
        PublishedSunlightDataModule(tmp_path)
    root = folder(tmp_path, [sun_name(area=area) for area in (1.0, 2.0, 3.0)])
    with pytest.raises(ValueError, match="no regular expression"):
        PublishedSunlightDataModule(root, pattern="(")
    with pytest.raises(ValueError, match="has no group"):
        PublishedSunlightDataModule(root, pattern="(?P<shape>.*)")


def test_scenes_of_one_light_do_not_serve_the_other() -> None:
    assert SunlightScene().graph != PointlightScene().graph
