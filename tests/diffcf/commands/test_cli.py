"""The product as a user runs it: fit, resume, test, predict, ablate, and what goes wrong."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from small_runs import add_callback, measure_least, tiny

from data_modules import PendulumDataModule
from diffcf.commands.main import main
from diffcf.evaluation import EvaluatorReader
from diffcf.methods import write_weights
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.engine import Sampling
from diffcf.networks import LocalPosteriorProjector, build_network, network_spec
from diffcf.training.cli import cli

ROOT = Path(__file__).parents[3]


class Interrupt(Callback):
    """Ctrl-C before batch ``batch`` of the second epoch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.current_epoch == 1 and batch_idx == self.batch:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[str, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    config = tiny(folder, eval_batch_size=4)  # the test's images come in two batches
    cli(["fit", "--config", config])
    return config, folder


def test_fit_validates_with_guidance_and_leaves_a_checkpoint(trained) -> None:
    _, folder = trained
    record = json.loads(next(folder.rglob("val/metrics.json")).read_text())
    assert record["images"] == 4 and record["metrics"]["acm"] > 0
    assert next(folder.rglob("val/grid.png")).stat().st_size > 0
    model = DiffusionCounterfactuals.load_from_checkpoint(folder / "last.ckpt")
    assert model.training_record.as_dict()["steps"] == 6
    assert model.data_spec is not None
    assert model.data_spec["class_path"] == "data_modules.PendulumDataModule"
    assert model.data_spec["init_args"]["image_size"] == 32
    header = next(folder.rglob("metrics.csv")).read_text().splitlines()[0]
    for key in ("train/generator", "train/projector", "train/nscm", "val/acm/light"):
        assert key in header


def test_stand_alone_test_measures_and_says_where_it_comes_from(trained) -> None:
    config, folder = trained
    assert main(["test", "--config", config, "--ckpt_path", str(folder / "last.ckpt")]) == 0
    record = json.loads(next(folder.rglob("test/metrics.json")).read_text())
    assert record["images"] == 6
    for key in ("acm/roots", "acm/leaves", "do_nothing/acm/roots", "psnr/reconstruction"):
        assert record["metrics"][key] > 0
    assert "acm/step_2" in record["metrics"]
    assert len(record["lambda_t"]["light"]) == 2, "guidance worked without fit"
    origin = record["provenance"]
    assert origin["training"]["steps"] == 6
    assert origin["training"]["seconds"] > 0 and origin["training"]["processor_seconds"] > 0
    assert origin["sampling"]["guidance"]["rule"] == "GaussNewtonGuidance"
    assert origin["config"]["data"]["init_args"]["image_size"] == 32
    assert origin["versions"]["torch"] == torch.__version__
    for key in ("acm/roots", "minimality", "reversibility", "exact/psnr", "change_everything/acm"):
        low, high = record["intervals"][key]
        assert low <= record["metrics"][key] <= high
    assert record["readers"] == ["ruler"] and record["target"] == "scene"
    assert record["protocol"]["cycles"] == 2
    page = next(folder.rglob("test/report.md"))
    for name in ("grid", "sequence", "dose_response", "errors", "lambda_t"):
        assert f"![{name}]({name}.png)" in page.read_text()
        assert (page.parent / f"{name}.png").stat().st_size > 0
    for row in ("| **this method** |", "| *do nothing* |", "| *change everything* |", "| `acm` |"):
        assert row in page.read_text()


@pytest.mark.usefixtures("undrawn")
def test_weights_are_tested_as_their_checkpoint_is_but_cannot_be_trained_on(
    trained, tmp_path, capsys
) -> None:
    config, folder = trained
    weights = tmp_path / "small.safetensors"
    model = DiffusionCounterfactuals.load_from_checkpoint(folder / "last.ckpt")
    write_weights(model, Sampling(steps=2), weights, torch.float32)
    records = []
    for path in (folder / "last.ckpt", weights):
        copy = tmp_path / f"test_{path.stem}" / "config.yaml"
        copy.parent.mkdir()
        copy.write_text(Path(config).read_text().replace(str(folder), str(copy.parent)))
        measure_least(str(copy))
        assert main(["test", "--config", str(copy), "--ckpt_path", str(path)]) == 0
        records.append(json.loads(next(copy.parent.rglob("test/metrics.json")).read_text()))
    checkpoint, weighed = records
    for key in ("acm/roots", "acm/leaves", "psnr/roots", "minimality"):
        assert weighed["metrics"][key] == checkpoint["metrics"][key]
    assert weighed["provenance"]["training"]["steps"] == 6
    assert main(["fit", "--config", config, "--ckpt_path", str(weights)]) == 2
    assert "holds weights and no state of a training" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_stand_alone_validate_is_guided_too(trained, tmp_path) -> None:
    config, folder = trained
    copy = tmp_path / "validate.yaml"
    copy.write_text(Path(config).read_text().replace(str(folder), str(tmp_path)))
    assert main(["validate", "--config", str(copy), "--ckpt_path", str(folder / "last.ckpt")]) == 0
    record = json.loads(next(tmp_path.rglob("val/metrics.json")).read_text())
    assert len(record["lambda_t"]["angle"]) == 2


def test_an_evaluator_that_is_not_there_is_an_error_before_training(tmp_path, capsys) -> None:
    config = tiny(tmp_path)
    spec = yaml.safe_load(Path(config).read_text())
    for callback in spec["trainer"]["callbacks"]:
        if callback["class_path"].endswith("CounterfactualCallback"):
            callback["init_args"]["evaluator"] = "none.safetensors"
    Path(config).write_text(yaml.safe_dump(spec))
    assert main(["fit", "--config", config]) == 2
    assert "Evaluator none.safetensors does not exist" in capsys.readouterr().err
    assert not (tmp_path / "last.ckpt").exists()


def test_predict_writes_counterfactuals(trained, tmp_path) -> None:
    config, folder = trained
    copy = tmp_path / "predict.yaml"
    copy.write_text(Path(config).read_text())
    add_callback(
        str(copy),
        "diffcf.training.CounterfactualWriter",
        do={"light": 0.8},
        out=str(tmp_path / "out"),
        sampling={"steps": 2},
    )
    assert main(["predict", "--config", str(copy), "--ckpt_path", str(folder / "last.ckpt")]) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    assert len(json.loads((tmp_path / "out/factors.json").read_text())["images"]) == 6


def test_ablate_compares_rules_on_one_checkpoint(trained, tmp_path, capsys) -> None:
    _, folder = trained
    config = yaml.safe_load((ROOT / "experiments/ablations/guidance.yaml").read_text())
    config["data"]["init_args"] |= {"image_size": 32, "train_size": 64, "test_size": 4}
    config |= {"images": 4, "out": str(tmp_path / "out")}
    compared = ("conditional, none", "conditional, gauss newton", "unconditional, constant 1")
    config["variants"] = {name: config["variants"][name] | {"steps": 1} for name in compared}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(config))
    assert main(["ablate", str(folder / "last.ckpt"), "--config", str(tmp_path / "a.yaml")]) == 0
    rows = json.loads((tmp_path / "out/ablation.json").read_text())["rows"]
    assert set(config["variants"]) | {"do nothing"} == set(rows)
    assert rows["conditional, none"]["time_ratio"] == pytest.approx(1.0)
    assert "| conditional, gauss newton |" in capsys.readouterr().out


def test_ablate_takes_validation_images_where_settings_are_chosen(trained, tmp_path) -> None:
    _, folder = trained
    data = {
        "class_path": "data_modules.pendulum.PendulumDataModule",
        "init_args": {"image_size": 32, "train_size": 64, "val_size": 4, "test_size": 4},
    }
    config = {"data": data, "variants": {"two steps": {"steps": 2}}, "images": 4}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(config))
    found = {}
    for split in ("test", "val"):
        out = ["--split", split, "--out", str(tmp_path / split)]
        argv = ["ablate", str(folder / "last.ckpt"), "--config", str(tmp_path / "a.yaml"), *out]
        assert main(argv) == 0
        found[split] = json.loads((tmp_path / split / "ablation.json").read_text())
        assert found[split]["provenance"]["split"] == split
    nothing = [found[split]["rows"]["do nothing"]["acm"] for split in ("test", "val")]
    assert nothing[0] != nothing[1]


def test_ablate_is_read_by_an_evaluator_where_no_scene_reads(trained, tmp_path, capsys) -> None:
    _, folder = trained
    scene = PendulumDataModule(32)
    small = {"image_size": 32, "train_size": 16, "val_size": 4, "test_size": 6, "batch_size": 8}
    spec = {"class_path": "data_modules.PendulumDataModule", "init_args": small}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(spec))
    own = tmp_path / "own"
    assert main(["export", str(tmp_path / "own.yaml"), str(own)]) == 0
    spec = network_spec(partial(LocalPosteriorProjector, channels=8))
    network = build_network(spec, scene.graph)
    reader = EvaluatorReader(scene.graph, spec, network.state_dict(), (3, 32, 32))
    reader.save(tmp_path / "evaluator.safetensors")
    data = {
        "class_path": "data_modules.FactorTableDataModule",
        "init_args": {"image_size": 32, "batch_size": 4, "split_column": "split"},
    }
    files = {"images": "images", "table": "factors.csv", "graph": "graph.yaml"}
    data["init_args"] |= {name: str(own / file) for name, file in files.items()}
    config = {"data": data, "variants": {"two steps": {"steps": 2}}, "images": 4}
    config |= {"evaluator": str(tmp_path / "evaluator.safetensors"), "out": str(tmp_path / "out")}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(config))
    assert main(["ablate", str(folder / "last.ckpt"), "--config", str(tmp_path / "a.yaml")]) == 0
    rows = json.loads((tmp_path / "out/ablation.json").read_text())["rows"]
    assert rows["two steps"]["kept"] == pytest.approx(1.0, abs=1e-3), "untrained, it reads ½ always"
    assert "| kept |" in capsys.readouterr().out
    missing = ["--evaluator", str(tmp_path / "no.safetensors"), "--out", str(tmp_path / "other")]
    argv = ["ablate", str(folder / "last.ckpt"), "--config", str(tmp_path / "a.yaml"), *missing]
    assert main(argv) == 2
    assert "no.safetensors" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("batch", [0, 2])
def test_a_resumed_run_ends_where_the_unbroken_one_ends(trained, tmp_path, batch: int) -> None:
    """Weights, EMA, optimizer, schedule, order of batches and random draws, after Ctrl-C.

    It validates between its epochs besides, which the unbroken one does not.
    """
    _, unbroken = trained
    config = tiny(tmp_path)
    fit = ["fit", "--config", config, "--trainer.val_check_interval=3"]
    measure_least(config)
    text = Path(config).read_text()
    add_callback(config, f"{__name__}.Interrupt", batch=batch)
    with pytest.raises(SystemExit):
        cli(fit)
    halfway = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert halfway["global_step"] == 3 + batch
    Path(config).write_text(text)
    cli([*fit, "--ckpt_path", str(tmp_path / "last.ckpt")])
    one = torch.load(unbroken / "last.ckpt", weights_only=True)
    two = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert one["global_step"] == two["global_step"] == 6
    for part in ("state_dict", "current_model_state"):
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, msg=f"{part} {name}")


def test_a_checkpoint_of_another_graph_is_refused_in_one_line(trained, tmp_path, capsys) -> None:
    config, folder = trained
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    checkpoint["diffcf"]["graph"]["edges"] = [["angle", "light"]]
    torch.save(checkpoint, tmp_path / "other.ckpt")
    assert main(["test", "--config", config, "--ckpt_path", str(tmp_path / "other.ckpt")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("diffcf: The checkpoint belongs to another graph")


def test_weights_and_biases_is_one_line_away(tmp_path) -> None:
    config = tiny(tmp_path)
    logger = "--trainer.logger=lightning.pytorch.loggers.WandbLogger"
    built = cli(["--config", config, logger, "--trainer.logger.offline=true"], run=False)
    assert type(built.trainer.logger).__name__ == "WandbLogger"
