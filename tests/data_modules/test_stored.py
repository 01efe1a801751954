"""Stored images: a subclass names files, and they come out as any other data module's do."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from data_modules.scenes.pendulum import PendulumScene
from data_modules.stored import ImageTable, StoredImageDataModule, as_graph
from diffcf.io.errors import DataError, GraphError

COUNT = 12


class Drawn(StoredImageDataModule):
    """Renders of the Pendulum scene in PNG files, with the scene as their ruler."""

    def __init__(self, root: Path, test: int = 3, **common: int) -> None:
        scene = PendulumScene()
        defaults = {"batch_size": 4, "eval_batch_size": 2, "seed": 0, "num_workers": 0}
        sizes = dict.fromkeys(("train_size", "val_size", "test_size"))
        super().__init__(scene.graph, scene, 64, None, 3, None, **{**defaults, **sizes, **common})
        self.root, self.test = root, test
        grid = scene.published_grid()[0]
        self.factors = grid[scene.visible(grid)][:: 7000 // COUNT][:COUNT]
        self.tables_read = 0

    def draw(self) -> None:
        images = ((self.scene.render(self.factors, 64) + 1) * 127.5).round().byte()
        for place, image in enumerate(images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(self.root / f"{place}.png")

    def table(self, generator: torch.Generator) -> ImageTable:
        self.tables_read += 1
        order = torch.randperm(COUNT, generator=generator)
        last = COUNT - self.test
        split = {"train": order[: last - 3], "val": order[last - 3 : last], "test": order[last:]}
        files = [f"{place}.png" for place in range(COUNT)]
        return ImageTable(self.root, files, self.factors, files, split)


@pytest.fixture
def module(tmp_path: Path) -> Drawn:
    drawn = Drawn(tmp_path)
    drawn.draw()
    return drawn


def test_setup_builds_what_prepare_data_did_not(module: Drawn) -> None:
    module.setup()
    assert [module.size_of(stage) for stage in ("train", "val", "test")] == [6, 3, 3]
    assert len(list((module.root / ".diffcf_cache").iterdir())) == 1


def test_prepare_data_builds_and_setup_opens(
    module: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.prepare_data()
    assert not module._split
    monkeypatch.setattr("data_modules.image_cache._write", None)
    module.setup()
    module.setup("test")
    assert module.tables_read == 2


def test_every_image_measures_as_its_factors(module: Drawn) -> None:
    module.setup()
    for stage in ("train", "val", "test"):
        images = module.images_of(stage, torch.arange(module.size_of(stage)))
        measured = module.scene.read(images)
        torch.testing.assert_close(measured, module.factors_of(stage), atol=0.01, rtol=0)


def test_worker_processes_read_the_cache(module: Drawn) -> None:
    module.setup()
    alone = list(module.val_dataloader())
    module.num_workers = 1
    for batch, same in zip(module.val_dataloader(), alone, strict=True):
        assert all(torch.equal(batch[name], same[name]) for name in batch)


def test_subsets_are_kept(tmp_path: Path) -> None:
    module = Drawn(tmp_path, train_size=5, val_size=1)
    module.draw()
    module.setup()
    assert [module.size_of(stage) for stage in ("train", "val", "test")] == [5, 1, 3]


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    module = Drawn(tmp_path, test=0)
    module.draw()
    with pytest.raises(DataError, match="no images for 'test'"):
        module.prepare_data()


def test_a_graph_may_be_a_file(tmp_path: Path) -> None:
    graph = PendulumScene().graph
    assert as_graph(graph) is graph
    file = tmp_path / "g.yaml"
    file.write_text("factors: {a: {kind: binary}}")
    assert as_graph(file).names == as_graph(str(file)).names == ("a",)
    with pytest.raises(GraphError, match=r"none\.yaml does not exist"):
        as_graph("none.yaml")
