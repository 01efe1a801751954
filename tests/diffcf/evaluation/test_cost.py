from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from small_runs import tiny
from torch import Tensor, nn

from diffcf.causal.intervention import Intervention
from diffcf.commands.main import main
from diffcf.diffusion.guidance.classifier_free import ClassifierFree
from diffcf.diffusion.guidance.gradient_rules import ConstantGuidance
from diffcf.evaluation.cost import EvaluationCounter, measure_cost, peak_memory
from diffcf.methods.engine import Sampling
from diffcf.methods.interface import Counterfactual


class Painter(nn.Module):
    """Latents ``[B, 2]`` to pictures, entered by two doors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 3, 1)
        self.act = nn.SiLU()  # no parameters: used twice, counts nothing

    def forward(self, latent: Tensor) -> Tensor:
        return self.paint(latent)

    def paint(self, latent: Tensor) -> Tensor:
        h = latent[:, :, None, None].expand(-1, -1, 8, 8)
        return self.act(self.second(self.act(self.first(h))))


@dataclass
class Toy:
    """Two evaluations to abduct, four to predict, one of them to guide."""

    encoder: Any
    painter: Any
    mechanisms: Any

    def abduct(
        self, image: Tensor, factors: Tensor | None = None, keys: Tensor | None = None
    ) -> Toy:
        self.image, self.factors = image, factors
        self.latent = self.encoder(image)
        self.painter(self.latent)
        return self

    def predict(self, do: Intervention) -> Counterfactual:
        self.mechanisms(self.factors)
        self.painter.paint(self.latent + torch.randn_like(self.latent))
        with torch.enable_grad():
            self.encoder(self.image.clone().requires_grad_())
        drawn = self.painter(torch.cat([self.latent, self.latent]))[: len(self.image)]
        return Counterfactual(drawn, self.factors, do)


@pytest.fixture
def toy(graph) -> Toy:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    return Toy(encoder, Painter(), nn.Linear(len(graph), 2))


def test_images_through_networks_are_counted_by_phase(toy, graph) -> None:
    image, factors = torch.zeros(5, 3, 8, 8), torch.rand(5, len(graph))
    networks = [("encoder", toy.encoder), ("painter", toy.painter), ("nscm", toy.mechanisms)]
    cost = measure_cost(toy, networks, graph, image, factors)
    assert cost.abduction == 2
    assert cost.prediction == 3, "by another door once, twice as many images once"
    assert cost.guidance == 1
    assert cost.parameters == sum(p.numel() for _, n in networks for p in n.parameters())
    assert cost.images == 5 and cost.threads == 1 and "threads" in cost.device
    metrics = cost.metrics()
    assert metrics["cost/evaluations"] == 5
    assert metrics["cost/seconds"] == pytest.approx(
        metrics["cost/seconds/abduction"] + metrics["cost/seconds/prediction"]
    )


def test_measuring_leaves_no_trace(toy, graph) -> None:
    image, factors = torch.zeros(2, 3, 8, 8), torch.rand(2, len(graph))
    before = torch.get_rng_state()
    networks = [("encoder", toy.encoder), ("painter", toy.painter)]
    measure_cost(toy, networks, graph, image, factors)
    assert torch.equal(torch.get_rng_state(), before)
    for _, network in networks:
        for layer in network.modules():
            assert not layer._forward_hooks and not layer._forward_pre_hooks


def test_hooks_go_when_a_network_fails(toy) -> None:
    with pytest.raises(RuntimeError), EvaluationCounter([("painter", toy.painter)]):
        toy.painter(torch.zeros(1, 3))
    assert not toy.painter._forward_hooks and not toy.painter._forward_pre_hooks


@pytest.mark.parametrize(
    ("sampling", "prediction", "guidance"),
    [
        (Sampling(steps=3), 3, 0),
        (Sampling(steps=3, guidance=ConstantGuidance()), 3, 3),
        (Sampling(steps=3, guidance=ConstantGuidance(t_max=0.5)), 3, 1),
        (Sampling(steps=3, free=ClassifierFree(1.5)), 6, 0),
        (Sampling(steps=3, free=ClassifierFree(1.5, kept=1.0)), 9, 0),
    ],
    ids=["none", "gradient", "late gradient", "classifier-free", "decoupled"],
)
def test_our_evaluations_are_the_steps(
    model, small_batch, sampling: Sampling, prediction: int, guidance: int
) -> None:
    image, factors = small_batch["image"], small_batch["factors"]
    method = model.eval().method(sampling)
    cost = measure_cost(method, model.networks(), model.graph, image, factors)
    assert (cost.abduction, cost.prediction, cost.guidance) == (3, prediction, guidance)


def test_memory_only_rises(model) -> None:
    before = peak_memory(torch.device("cpu"))
    held = torch.ones(2**24)  # 64 MiB
    assert 20 < before <= peak_memory(torch.device("cpu")) < before + 1024
    assert len(held)


@pytest.mark.usefixtures("undrawn")
def test_an_untrained_model_is_tested_with_its_cost_and_said_to_be_untrained(tmp_path) -> None:
    assert main(["test", "--config", tiny(tmp_path)]) == 0
    path = next(tmp_path.rglob("test/metrics.json"))
    record, page = json.loads(path.read_text()), (path.parent / "report.md").read_text()
    cost, metrics = record["cost"], record["metrics"]
    assert cost["images"] == 6 and cost["parameters"] == metrics["cost/parameters"] > 0
    assert metrics["cost/evaluations/abduction"] == metrics["cost/evaluations/prediction"] == 2
    assert metrics["cost/evaluations"] == 4 and metrics["cost/evaluations/guidance"] == 2
    origin = record["provenance"]
    assert origin["method"] == "diffcf.methods.DiffusionCounterfactuals" and not origin["training"]
    assert set(origin["graph"]["factors"]) >= {"angle", "light"}
    assert "Untrained; tested in" in page and "GaussNewtonGuidance, 2 steps" in page
    assert "| peak memory so far |" in page
    assert main(["table", str(path)]) == 0


@pytest.mark.slow
def test_two_processes_measure_cost_and_both_come_to_an_end(tmp_path) -> None:
    options = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    command = [sys.executable, "-m", "diffcf", "test", "--config", tiny(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    record = json.loads(next(tmp_path.rglob("test/metrics.json")).read_text())
    assert record["images"] == 6 and record["cost"]["images"] == 6
