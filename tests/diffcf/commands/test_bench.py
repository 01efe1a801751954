from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from stirring import stir

from diffcf.causal import CausalGraph, Factor
from diffcf.commands.main import main
from diffcf.commands.speed import Row, ratio_rows, seconds
from diffcf.commands.speed.pipeline import pendulum_by_matplotlib
from diffcf.commands.speed.sampling import (
    batch_sizes,
    guidance,
    sample_through_generator,
    what_ifs,
)
from diffcf.commands.speed.throughput import Step, arithmetic, training_steps
from diffcf.commands.speed.training import held_memory
from diffcf.diffusion.process import noise_level, prediction_from_velocity
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.engine import Sampling
from diffcf.networks import LocalPosteriorProjector, UNet

ROOT = Path(__file__).parents[3]


def test_turns_alternate_after_one_round_to_warm_up() -> None:
    called: list[str] = []
    turns = {name: lambda name=name: called.append(name) for name in "ab"}
    taken = seconds(turns, 3, torch.device("cpu"))
    assert "".join(called) == "abababab"
    assert [len(times) for times in taken.values()] == [3, 3]


def test_ratios_are_medians_of_the_rounds() -> None:
    taken = {"ours": [2.0, 9.0, 4.0], "base": [1.0, 3.0, 1.0]}
    (row,) = ratio_rows(taken, "base", {"ours": "ours / base"}, {"ours": "≤ 4"})
    assert row == Row("ours / base", 3.0, "ratio", (2.0, 4.0), "≤ 4")


def test_the_way_through_the_generator_takes_the_gradient_of_its_clean_image(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    stir(model)
    engine = model.eval().method(Sampling(steps=1))
    image, factors = small_batch["image"][:2], small_batch["factors"][:2]
    world = engine.abduct(image, factors)
    drawn = sample_through_generator(model, world, {"light": 0.9})
    told = world.predict({"light": 0.9})
    t, x = torch.ones(2), world.path.x_T.clone().requires_grad_()
    clean = prediction_from_velocity(model.generator(x, t, told.factors), x, t).denoised
    reading = model.projector(clean, torch.zeros(2))
    distance = (told.factors - reading.mean).square() / reading.variance.detach()
    gradient = torch.autograd.grad(-0.5 * distance.sum(), x)[0]
    # From t = 1 to 0 in one step, ε moves the image by at most 1 / 0.05.
    shift = -noise_level(t) * gradient * (0.0 - 1.0 / 0.05)
    plain = model.method(Sampling(steps=1)).abduct(image, factors)
    expected = prediction_from_velocity(
        model.generator(plain.path.x_T, t, told.factors), plain.path.x_T, t
    ).denoised
    torch.testing.assert_close(drawn, (expected + shift).detach(), rtol=1e-3, atol=1e-3)


def test_what_ifs_are_compared_with_separate_runs(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    rows = what_ifs(
        model.eval(), small_batch["image"], small_batch["factors"], Sampling(steps=2), repeats=1
    )
    values = {row.what: row.value for row in rows}
    assert values["16 what-ifs of one image / 16 separate runs"] > 0 and len(values) == 5


def test_answers_about_binary_factors_are_timed_too() -> None:
    graph = CausalGraph([Factor("male", "binary"), Factor("beard", "binary")], [("male", "beard")])
    model = DiffusionCounterfactuals(
        graph,
        generator=partial(UNet, channels=[8, 16], condition=16, attention_heads=2),
        projector=partial(LocalPosteriorProjector, channels=8, condition=8),
        mixing=None,
    ).eval()
    asked = model, torch.rand(4, 3, 16, 16) * 2 - 1, torch.ones(4, 2), Sampling(steps=2), 1
    assert len(guidance(*asked)) > 5
    assert len(what_ifs(*asked)) == 5
    assert [row.unit for row in batch_sizes(*asked)] == ["ms", "ms"]


def test_a_step_is_never_faster_than_its_floor(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    batch = small_batch["image"], small_batch["factors"]
    rows = {row.what: row for row in training_steps(model, *batch, compiled=False, repeats=2)}
    assert rows["a step over its floor, batch 8"].value > 1
    assert rows["floor of a step, batch 8"].value < rows["a training step, batch 8"].value


def test_arithmetic_of_a_step_grows_with_its_batch(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    image, factors = small_batch["image"], small_batch["factors"]
    whole, half = (arithmetic(Step(model, image[:n], factors[:n], False)) for n in (8, 4))
    assert whole == pytest.approx(2 * half, rel=0.02)


def test_matplotlib_draws_what_the_scene_draws() -> None:
    from data_modules.scenes.pendulum import PendulumScene

    scene = PendulumScene()
    factors = scene.published_grid()[0][1234:1235]
    theirs = pendulum_by_matplotlib(scene.graph.to_native(factors)[0], 96)
    ours = scene.render(factors, 96)[0].permute(1, 2, 0)
    difference = (torch.from_numpy(theirs.copy()) / 127.5 - 1 - ours).abs().mean()
    assert difference < 0.02  # the shadow may differ by a fraction of a pixel


def test_the_command_writes_every_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((ROOT / "experiments/pendulum_quick.yaml").read_text())
    config["data"]["init_args"] |= {"batch_size": 4, "image_size": 32, "train_size": 64}
    config["model"]["init_args"]["generator"]["init_args"]["channels"] = [16, 32]
    config["model"]["init_args"]["projector"]["init_args"]["channels"] = 16
    callbacks = config["trainer"]["callbacks"]
    callbacks[-1]["init_args"] |= {"protocol": {"steps": 0}, "sampling": {"steps": 1}}
    Path("small.yaml").write_text(yaml.safe_dump(config))
    small = ["--repeats", "1", "--images", "2", "--steps", "6", "--memory_steps", "10"]
    sections = ["guidance", "formats", "training", "memory", "loading", "rendering", "batch"]
    only = [word for section in sections for word in ("--only", section)]
    assert main(["bench", "small.yaml", *small, *only, "--out", "out"]) == 0
    record = json.loads(Path("out/bench.json").read_text())
    assert list(record["sections"]) == [
        "guidance", "batch", "formats", "training", "memory", "loading", "rendering",
    ]  # fmt: skip
    figures = [row for rows in record["sections"].values() for row in rows]
    assert all(row["value"] >= 0 or "growth" in row["what"] for row in figures)
    assert record["provenance"]["device"]
    assert "≤ 1.03" in Path("out/bench.md").read_text()

    wide = {"model": {"init_args": {"generator": {"init_args": {"channels": [128, 128]}}}}}
    Path("wide.yaml").write_text(yaml.safe_dump(wide))
    overlay = ["--config", "wide.yaml", "--only", "overlay", "--out", "wide"]
    assert main(["bench", "small.yaml", *small, *overlay]) == 0
    ratio, _ = json.loads(Path("wide/bench.json").read_text())["sections"]["overlay"]
    assert ratio["what"] == "a training step with --config / without" and ratio["value"] > 0


def test_unknown_sections_and_missing_experiments_are_named(
    capsys: pytest.CaptureFixture,
) -> None:
    assert main(["bench", "nowhere.yaml"]) == 2
    assert "nowhere.yaml does not exist" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["bench", str(ROOT / "experiments/pendulum_quick.yaml"), "--only", "nothing"])
    assert "there is no section nothing" in capsys.readouterr().err


def test_what_is_held_is_seen_to_grow_and_to_shrink() -> None:
    cpu = torch.device("cpu")
    before = held_memory(cpu)
    if before is None:
        pytest.skip("this C library does not tell what is allocated")
    kept = torch.ones(16, 2**18)  # 16 MiB
    grown = held_memory(cpu)
    assert grown is not None and abs(grown - before - 16) < 1
    del kept
    shrunk = held_memory(cpu)
    assert shrunk is not None and abs(shrunk - before) < 1
