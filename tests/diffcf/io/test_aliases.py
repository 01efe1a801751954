"""Files of earlier versions, with the names of then, are read as if they were of today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import made_results
import pytest
import torch
import yaml
from small_runs import tiny
from stirring import stir

import diffcf
from diffcf.commands.main import main
from diffcf.diffusion import GaussNewtonGuidance
from diffcf.io import SPEC_KEY, class_at, path_of, present, write_tensors
from diffcf.methods import SAMPLING_KEY, DiffusionCounterfactuals, Sampling, sampling_to_spec
from diffcf.reporting import read_record
from diffcf.training.cli import cli

# Every class that YAML, weights and results of earlier versions named.
OLD = [
    "data_modules.celeba.CelebADataModule",
    "data_modules.factor_table.FactorTableDataModule",
    "data_modules.flow.FlowDataModule",
    "data_modules.pendulum.PendulumDataModule",
    "data_modules.published.PublishedFlowDataModule",
    "data_modules.published.PublishedPendulumDataModule",
    "data_modules.scenes.faces.CartoonFaces",
    "data_modules.scenes.flow.FlowScene",
    "data_modules.scenes.pendulum.PendulumScene",
    "data_modules.shadow.PointlightDataModule",
    "data_modules.shadow.SunlightDataModule",
    "data_modules.shadow_images.PublishedPointlightDataModule",
    "data_modules.shadow_images.PublishedSunlightDataModule",
    "diffcf.baselines.CausalVAE",
    "diffcf.baselines.causal_diffae.CausalDiffAE",
    "diffcf.baselines.causal_latents.LatentMechanisms",
    "diffcf.baselines.causal_vae.CausalLayers",
    "diffcf.baselines.causal_vae.CausalVAE",
    "diffcf.baselines.conditional.ConditionalDiffusion",
    "diffcf.baselines.diff_scm.DiffSCM",
    "diffcf.baselines.hvae.ConditionalHVAE",
    "diffcf.baselines.hvae_dscm.HierarchicalVAE",
    "diffcf.baselines.latent_networks.LatentDecoder",
    "diffcf.baselines.latent_networks.LatentEncoder",
    "diffcf.baselines.latent_networks.LatentUNet",
    "diffcf.baselines.predictor.FactorPredictor",
    "diffcf.baselines.reference.ChangeEverything",
    "diffcf.callbacks.CounterfactualCallback",
    "diffcf.callbacks.CounterfactualWriter",
    "diffcf.callbacks.LastCheckpoint",
    "diffcf.callbacks.ProgressBar",
    "diffcf.callbacks.RandomState",
    "diffcf.callbacks.TrainingBudget",
    "diffcf.classifier_free.ClassifierFree",
    "diffcf.counterfactual.Sampling",
    "diffcf.counterfactual_module.CounterfactualModule",
    "diffcf.evaluator.latents.LatentEncoder",
    "diffcf.generator.UNet",
    "diffcf.graph.CausalGraph",
    "diffcf.guidance.ConstantGuidance",
    "diffcf.guidance.GaussNewtonGuidance",
    "diffcf.guidance.Guidance",
    "diffcf.guidance.LineSearchGuidance",
    "diffcf.guidance.NoGuidance",
    "diffcf.guidance.PolyakGuidance",
    "diffcf.guidance.VarianceBalancedGuidance",
    "diffcf.methods.diffusion_counterfactuals.ShardedDiffusionCounterfactuals",
    "diffcf.mixing.RegionMixer",
    "diffcf.module.DiffusionCounterfactuals",
    "diffcf.nscm.NSCM",
    "diffcf.projector.LocalPosteriorProjector",
    "diffcf.protocol.Protocol",
    "diffcf.sharding.ShardedDiffusionCounterfactuals",
]
RENAMED = {
    "diffcf.evaluator.latents.LatentEncoder": "ImageVAE",
    "diffcf.protocol.Protocol": "EvaluationProtocol",
}

OLD_OF = {class_at(old, object): old for old in OLD}
# Not renamed, but what configs named before it.
OLD_OF[class_at("diffcf.training.ForeachEMA", object)] = (
    "lightning.pytorch.callbacks.EMAWeightAveraging"
)
OLD_KEYS = {"broadcast": "canvas", "leakage": "ghost", "contamination": "doubt"}


def aged(value: Any) -> Any:
    """A description as an earlier version wrote it: the reverse of ``present``."""
    if isinstance(value, list):
        return [aged(item) for item in value]
    if isinstance(value, dict):
        return {OLD_KEYS.get(key, key): aged(item) for key, item in value.items()}
    if isinstance(value, str) and value.startswith(("diffcf.", "data_modules.")):
        return OLD_OF[class_at(value, object)]
    return value


def aged_tensors(tensors: dict[str, Any]) -> dict[str, Any]:
    old = {name.replace(".broadcast.", ".canvas."): value for name, value in tensors.items()}
    assert old.keys() != tensors.keys()
    return old


def old_config(folder: Path) -> str:
    """A small experiment's YAML with old names; its path."""
    path = Path(tiny(folder))
    config = yaml.safe_load(path.read_text())
    arguments = config["model"]["init_args"]
    arguments |= {"leakage": 0.25}
    arguments["generator"]["init_args"] |= {"broadcast": 12}
    for callback in config["trainer"]["callbacks"]:
        if callback["class_path"].endswith("CounterfactualCallback"):
            callback["init_args"]["sampling"]["contamination"] = 0.3
    text = yaml.safe_dump(aged(config))
    for old in ("diffcf.module", "diffcf.callbacks", "diffcf.guidance", "ghost", "canvas", "doubt"):
        assert old in text
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("path", OLD)
def test_every_old_class_path_resolves(path: str) -> None:
    found = class_at(path, object)
    assert found.__name__ == RENAMED.get(path, path.rpartition(".")[2])
    assert class_at(path_of(found), object) is found


def test_other_text_stays() -> None:
    kept = ["diffcf", "diffcf.module", "diffcf.callbacks. See there", "a.generator.UNet", 3, None]
    assert present(kept) == kept
    # A factor may be called like an old argument.
    graph = {"factors": {"doubt": {"kind": "binary"}, "ghost": {}, "sampling": {"range": [0, 1]}}}
    assert present(graph) == graph


def test_an_ablation_of_then_is_read() -> None:
    old = {"variants": {"a": {"doubt": 0.5, "steps": 3}}, "rows": {"a": {"acm/in_turn": 1.0}}}
    new = {
        "variants": {"a": {"contamination": 0.5, "steps": 3}},
        "rows": {"a": {"acm/sequence": 1}},
    }
    assert present(old) == new


def test_old_weights_are_loaded(model: DiffusionCounterfactuals, tmp_path: Path) -> None:
    stir(model)
    model.image_shape = (3, 32, 32)
    sampling = Sampling(steps=3, guidance=GaussNewtonGuidance(t_max=0.4), contamination=0.25)
    about = model.spec_record() | {"sampling": sampling_to_spec(sampling)}
    path = tmp_path / "old.safetensors"
    write_tensors(aged_tensors(model.state_dict()), aged(about), path)
    found = diffcf.load(path)
    assert found.sampling.contamination == 0.25 and found.sampling.steps == 3
    assert isinstance(found.sampling.guidance, GaussNewtonGuidance)
    for name, value in model.state_dict().items():
        assert torch.equal(found.module.state_dict()[name], value)


def test_an_old_config_is_parsed(tmp_path: Path) -> None:
    made = cli(["--config", old_config(tmp_path)], run=False)
    assert isinstance(made.model, DiffusionCounterfactuals) and made.model.leakage == 0.25
    assert made.model.spec["generator"]["init_args"]["broadcast"] == 12


def test_an_old_checkpoint_is_resumed(tmp_path: Path) -> None:
    config = old_config(tmp_path)
    assert main(["fit", "--config", config, "--trainer.max_steps", "1"]) == 0
    path = tmp_path / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    old = checkpoint | {SPEC_KEY: aged(checkpoint[SPEC_KEY])}
    for key in ("state_dict", "current_model_state"):
        old[key] = aged_tensors(checkpoint[key])
    if SAMPLING_KEY in old:
        old[SAMPLING_KEY] = aged(old[SAMPLING_KEY])
    torch.save(old, tmp_path / "old.ckpt")
    path.unlink()
    resumed = ["fit", "--config", config, "--trainer.max_steps", "2"]
    assert main([*resumed, "--ckpt_path", str(tmp_path / "old.ckpt")]) == 0
    after = torch.load(path, weights_only=True)
    assert (
        after["global_step"] == 2 and after["state_dict"].keys() == checkpoint["state_dict"].keys()
    )
    spec = after[SPEC_KEY]
    assert spec["method"] == "diffcf.methods.DiffusionCounterfactuals"
    assert spec["networks"]["generator"]["init_args"]["broadcast"] == 12
    assert diffcf.load(tmp_path / "old.ckpt").graph == diffcf.load(path).graph


def test_old_results_are_read(tmp_path: Path) -> None:
    record = made_results.record("toy", "ours", 0, 0.1)
    provenance = record["provenance"]
    provenance["method"] = "diffcf.methods.DiffusionCounterfactuals"
    provenance["sampling"] |= {"contamination": 0.5}
    provenance["config"]["model"] = {
        "class_path": "diffcf.methods.DiffusionCounterfactuals",
        "init_args": {
            "leakage": 0.5,
            "generator": {"class_path": "diffcf.networks.UNet", "init_args": {"broadcast": 64}},
        },
    }
    old = aged(record)
    assert "diffcf.module.DiffusionCounterfactuals" in json.dumps(old)
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(old))
    budget = provenance["config"]["trainer"]["callbacks"][0]
    budget["class_path"] = "diffcf.training.TrainingBudget"
    assert read_record(path) == record
