from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from small_runs import add_callback, measure_least, tiny

from diffcf.commands.main import main
from diffcf.methods import load_method, warm_cosine
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.training.callbacks.running import ProgressBar, TrainingBudget
from diffcf.training.cli import DiffcfCLI, cli


def _by_time(path: str, minutes: float) -> None:
    config = yaml.safe_load(Path(path).read_text())
    config["trainer"] |= {"max_steps": -1, "limit_val_batches": 0}
    Path(path).write_text(yaml.safe_dump(config))
    add_callback(
        path,
        "diffcf.training.callbacks.running.TrainingBudget",
        minutes=minutes,
        clock="processor",
    )


@pytest.fixture(scope="module")
def budgeted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, DiffcfCLI]:
    """A config with a budget, and the training of so long."""
    torch.set_num_threads(1)
    path = tiny(tmp_path_factory.mktemp("budget"))
    _by_time(path, 0.025)
    return path, cli(["fit", "--config", path])


def test_a_budget_ends_training_and_sets_the_pace(budgeted: tuple[str, DiffcfCLI]) -> None:
    path, built = budgeted
    assert built.model.time_spent == 1.0 and built.trainer.global_step > 1
    # The schedule ends with the time, short of it by one step, however slow the machine: the last
    # rate was set before that step, and a cosine is below a fiftieth in its last tenth.
    group = built.trainer.optimizers[0].param_groups[0]
    assert group["lr"] < 0.02 * group["initial_lr"]
    record = load_method(Path(path).parent / "last.ckpt").training_record.as_dict()
    assert record["processor_seconds"] > 1.45 and record["steps"] == built.trainer.global_step


def test_a_resumed_run_goes_on_with_what_is_left(budgeted: tuple[str, DiffcfCLI], tmp_path) -> None:
    path, _ = budgeted
    last = shutil.copy(Path(path).parent / "last.ckpt", tmp_path)
    checkpoint = torch.load(last, weights_only=True)
    state = next(v for k, v in checkpoint["callbacks"].items() if "TrainingBudget" in k)
    assert state["spent"] >= 1.5
    again = cli(["fit", "--config", path, "--ckpt_path", last, "--out", str(tmp_path)])
    # Nothing is left: one step at most shows that.
    assert again.trainer.global_step <= checkpoint["global_step"] + 1


@pytest.mark.parametrize("minutes", [0.0, -1.0])
def test_a_budget_is_positive(minutes: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        TrainingBudget(minutes)


def test_a_budget_knows_its_clocks() -> None:
    with pytest.raises(ValueError, match="'sun'"):
        TrainingBudget(1.0, clock="sun")  # type: ignore[arg-type]


def test_rates_rise_from_their_start_and_end_at_zero() -> None:
    assert warm_cosine(0.2, 0.1, start=0.3) == 0.0
    assert warm_cosine(0.37, 0.1, start=0.3) == pytest.approx(1.0)
    assert warm_cosine(1.0, 0.1, start=0.3) == pytest.approx(0.0)


@pytest.mark.parametrize("share", [-0.1, 1.0, 200])
def test_shares_of_the_training_are_no_counts(share: float, graph) -> None:
    with pytest.raises(ValueError, match="warmup is a share of the training"):
        DiffusionCounterfactuals(graph, warmup=share)
    with pytest.raises(ValueError, match="head_start is a share of the training"):
        DiffusionCounterfactuals(graph, head_start=share)


def test_an_untrained_method_has_made_no_progress(model) -> None:
    assert model.progress == 0.0


@pytest.mark.usefixtures("undrawn")
def test_the_bar_moves_at_every_test_batch(tmp_path: Path, capsys) -> None:
    path = tiny(tmp_path, eval_batch_size=4)
    measure_least(path)
    config = yaml.safe_load(Path(path).read_text())
    config["trainer"]["enable_progress_bar"] = True
    Path(path).write_text(yaml.safe_dump(config))
    add_callback(path, "diffcf.training.callbacks.running.ProgressBar")
    assert main(["test", "--config", path]) == 0
    assert "1/2" in capsys.readouterr().out  # of two batches


def test_the_bar_is_seldom_drawn_in_training() -> None:
    assert ProgressBar().train_refresh_rate == 20 and ProgressBar().refresh_rate == 1
