"""Every sweep: what `wandb agent` would run is accepted by our command line, and takes effect.

W&B checks sweeps on its server. Its schema ships with the package `sweeps`, which needs numpy < 2,
hence an environment of its own; there, `sweeps.config.schema_violations_from_proposed_config` finds
nothing in these files.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import ROOT
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from diffcf.methods import WEIGHTS
from diffcf.training.callbacks.counterfactual import CounterfactualCallback
from diffcf.training.callbacks.running import LastCheckpoint
from diffcf.training.cli import DiffcfCLI, cli

SWEEPS = sorted((ROOT / "experiments/sweeps").glob("*.yaml"))
KEYS = {"name", "method", "metric", "early_terminate", "run_cap", "parameters", "command"}
RUN = ["/usr/bin/env", "python", "-m", "diffcf"]


@pytest.fixture(autouse=True)
def agent(monkeypatch) -> None:
    """The surroundings that an agent gives, and a command line that does not run what it made."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep7")
    monkeypatch.setenv("WANDB_RUN_ID", "run8")
    monkeypatch.setattr(DiffcfCLI, "_run_subcommand", lambda self, subcommand: None)


def samples(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """So many that both ends of every range come, and every class."""
    parameters = sweep["parameters"]
    values = [telling(spec) for spec in parameters.values()]
    cycled = zip(*map(itertools.cycle, values), strict=False)
    chosen = itertools.islice(cycled, max(map(len, values)))
    return [dict(zip(parameters, each, strict=True)) for each in chosen]


def telling(spec: dict[str, Any]) -> list[Any]:
    """The values of a parameter that take different paths: its ends, or one of each class."""
    if "values" not in spec:
        return [spec["min"], spec["max"]]
    values = spec["values"]
    if isinstance(values[0], str):
        return list({json.loads(value)["class_path"]: value for value in values}.values())
    return [values[0], values[-1]]


def command_line(sweep: dict[str, Any], chosen: dict[str, Any]) -> list[str]:
    """As ``wandb.wandb_agent.Agent._command_run`` puts it together."""
    given = {key: {"value": value} for key, value in chosen.items()}
    parts = create_sweep_command_args({"args": given})
    parts |= {"env": ["/usr/bin/env"], "interpreter": ["python"]}
    line: list[str] = []
    for word in create_sweep_command(list(sweep["command"])):
        macro = word.startswith("${") and word.endswith("}")
        line += parts[word[2:-1]] if macro else [str(word)]
    return line


def value_at(config: Any, key: str) -> Any:
    """What the parsed config has at a dotted key; of lists, the last item counts."""
    for part in key.split("."):
        config = config[-1] if isinstance(config, list) else config
        config = config[part]
    return config


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_agent_runs_what_our_command_line_takes(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text())
    for chosen in samples(sweep):
        line = command_line(sweep, chosen)
        assert line[: len(RUN)] == RUN and not any("$" in word for word in line)
        if "--ckpt_path" in line:  # of a training that was not made here
            line[line.index("--ckpt_path") + 1] = str(WEIGHTS / "pendulum.safetensors")
        built = cli(line[len(RUN) :])
        for key, value in chosen.items():
            takes_effect(built.config[built.subcommand], key, value)
        runs_in_its_own_folder(built, f"runs/{Path(line[line.index('--config') + 1]).stem}")
        is_judged_often_enough(built, sweep)


def takes_effect(config: Any, key: str, value: Any) -> None:
    found = value_at(config, key)
    if isinstance(value, str):  # a class and its arguments, among which defaults may stand
        value, found = json.loads(value), found.as_dict()
        assert found["class_path"] == value["class_path"]
        value, found = value["init_args"], {k: found["init_args"][k] for k in value["init_args"]}
    assert found == value, key


def runs_in_its_own_folder(built: DiffcfCLI, root: str) -> None:
    """Runs of a sweep share their config, but nothing that they write."""
    own = f"{root}/sweeps/sweep7/run8"
    last = next(c for c in built.trainer.callbacks if isinstance(c, LastCheckpoint))
    assert built.trainer.default_root_dir.endswith(own) and str(last.file).endswith(
        own + "/last.ckpt"
    )
    assert built.trainer.logger.save_dir == own


def is_judged_often_enough(built: DiffcfCLI, sweep: dict[str, Any]) -> None:
    measuring = next(c for c in built.trainer.callbacks if isinstance(c, CounterfactualCallback))
    assert measuring.val_images >= 32
    if "early_terminate" in sweep:
        interval, steps = built.trainer.val_check_interval, built.trainer.max_steps
        first = sweep["early_terminate"]["min_iter"]
        assert first < steps // interval, "ends nothing early"
        assert first * interval / steps > built.model.head_start, "judges what has not learned"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_file_is_a_sweep(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text())
    assert set(sweep) <= KEYS and sweep["name"] == path.stem
    assert sweep["method"] in ("grid", "random", "bayes")
    for spec in sweep["parameters"].values():
        assert set(spec) in ({"values"}, {"distribution", "min", "max"})
        assert spec.get("distribution", "log_uniform_values") == "log_uniform_values"
    # That this is logged is tested with the runs.
    assert sweep["metric"] == {"name": "val/acm", "goal": "minimize"}


def test_a_parameter_that_is_not_there_ends_the_run(capsys) -> None:
    sweep = yaml.safe_load((ROOT / "experiments/sweeps/seeds.yaml").read_text())
    line = command_line(sweep, {"model.init_args.generator.init_args.chanels": [32, 64]})
    with pytest.raises(SystemExit) as stop:
        cli(line[len(RUN) :])
    assert stop.value.code == 2
    assert "chanels" in capsys.readouterr().err
