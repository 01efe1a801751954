"""The Pendulum data module: the batch contract, the published split, errors in plain words."""

import pytest
import torch
from torch import Tensor

from data_modules.pendulum import PendulumDataModule
from data_modules.scenes.pendulum import PendulumScene
from diffcf.causal.graph import CausalGraph


def prepared(**arguments: int | float | None) -> PendulumDataModule:
    module = PendulumDataModule(image_size=32, **arguments)
    module.setup()
    return module


@pytest.fixture(scope="module")
def module() -> PendulumDataModule:
    return prepared()


def all_factors(loader: torch.utils.data.DataLoader) -> Tensor:
    return torch.cat([batch["factors"] for batch in loader])


def rows(factors: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in factors.tolist()}


def test_graph_and_scene_exist_before_setup() -> None:
    module = PendulumDataModule()
    assert isinstance(module.graph, CausalGraph) and isinstance(module.scene, PendulumScene)
    assert module.graph == module.scene.graph


def test_batches_keep_the_contract(module: PendulumDataModule) -> None:
    for loader, size in (
        (module.train_dataloader(), 64),
        (module.val_dataloader(), 128),
        (module.test_dataloader(), 128),
        (module.predict_dataloader(), 128),
    ):
        batch = next(iter(loader))
        assert set(batch) == {"image", "factors", "index"}
        assert batch["image"].shape == (size, 3, 32, 32)
        assert batch["factors"].shape == (size, 4)
        assert batch["image"].dtype == batch["factors"].dtype == torch.float32
        assert batch["image"].aminmax() == (-1, 1)
        assert batch["factors"].min() >= -1e-6 and batch["factors"].max() <= 1 + 1e-6


def test_images_belong_to_their_factors(module: PendulumDataModule) -> None:
    batch = next(iter(module.train_dataloader()))
    exact = module.scene.render(batch["factors"], 32)
    torch.testing.assert_close(batch["image"], exact, atol=6e-4, rtol=0)  # half precision
    dataset = module.val_dataloader().dataset
    single, (first, *_) = dataset[0], dataset.__getitems__([0, 5])["image"]
    torch.testing.assert_close(single["image"], first)


def test_the_splits_partition_the_published_grid(module: PendulumDataModule) -> None:
    _, is_test = module.scene.published_grid()
    parts = [module._split[name].index for name in ("train", "val", "test")]
    assert [len(part) for part in parts] == [4934, 548, 1826]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(7308))
    assert torch.equal(parts[2], is_test.nonzero()[:, 0])


def test_training_is_shuffled_and_whole_batches(module: PendulumDataModule) -> None:
    loader = module.train_dataloader()
    first = all_factors(loader)
    loader.sampler.set_epoch(1)
    second = all_factors(loader)
    assert not torch.equal(first, second)
    loader.sampler.set_epoch(0)
    assert torch.equal(all_factors(loader), first)  # the order is a function of the epoch
    assert len(first) == 4934 // 64 * 64


def test_an_epoch_draws_nothing_from_the_models_random_numbers(
    module: PendulumDataModule,
) -> None:
    before = torch.get_rng_state()
    all_factors(module.train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_chooses_the_validation_images(module: PendulumDataModule) -> None:
    same, other = prepared(), prepared(seed=1)
    mine = rows(all_factors(module.val_dataloader()))
    assert rows(all_factors(same.val_dataloader())) == mine
    assert rows(all_factors(other.val_dataloader())) != mine


def test_subsets_for_quick_runs(module: PendulumDataModule) -> None:
    quick = prepared(val_size=16, test_size=20, val_fraction=0.1, eval_batch_size=7)
    val, test = all_factors(quick.val_dataloader()), all_factors(quick.test_dataloader())
    assert (len(val), len(test)) == (16, 20)
    assert rows(val) < rows(all_factors(module.val_dataloader()))
    assert rows(test) < rows(all_factors(module.test_dataloader()))
    assert len(quick.train_dataloader().dataset) == len(module.train_dataloader().dataset)
    spread = test[:, 0].max() - test[:, 0].min()
    assert spread > 0.5  # drawn from the whole grid, not its beginning


def test_setup_draws_only_once(module: PendulumDataModule) -> None:
    images = module._split["train"].images
    module.setup("test")
    assert module._split["train"].images is images
    assert module._split["test"].images is images


def test_worker_processes_deliver_the_same_batches() -> None:
    module = prepared(num_workers=1, val_size=100, eval_batch_size=64)
    alone = prepared(val_size=100, eval_batch_size=64)
    assert torch.equal(all_factors(module.val_dataloader()), all_factors(alone.val_dataloader()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 48}, "image_size 48"),
        ({"val_fraction": 0.0}, "val_fraction"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"batch_size": 0}, "batch_size"),
        ({"eval_batch_size": 0}, "eval_batch_size"),
        ({"num_workers": -1}, "num_workers"),
        ({"test_size": 0}, "test_size"),
        ({"val_size": 0}, "val_size"),
    ],
)
def test_wrong_arguments_are_named_in_one_sentence(
    arguments: dict[str, int | float], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        PendulumDataModule(**arguments)
    assert "\n" not in str(error.value)


def test_a_batch_larger_than_the_training_set_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size 6000"):
        prepared(batch_size=6000)
