from __future__ import annotations

import pytest
import torch

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.intervention import Intervention
from diffcf.evaluation import CounterfactualBatch, FactualBatch, GuidanceStrength
from diffcf.methods.interface import Counterfactual
from diffcf.reporting.cost import save_figure
from diffcf.reporting.pictures import (
    counterfactual_grid,
    dose_response,
    error_histograms,
    sequence_strips,
    strength_curve,
)

GRAPH = CausalGraph([Factor("light", low=0, high=10), Factor("lit", "binary")], [("light", "lit")])


def _answered(exact: bool = True) -> CounterfactualBatch:
    image, factors = torch.zeros(2, 3, 8, 8), torch.zeros(2, 2)
    answered = CounterfactualBatch(FactualBatch(image, factors, torch.arange(2)))
    for name in GRAPH.names:
        do = Intervention.from_do({name: 1.0}, GRAPH, 2)
        answered.single[name] = Counterfactual(image, factors, do)
        answered.sequence.append(answered.single[name])
        answered.sequence_do.append(do)
        if exact:
            answered.exact[name] = image
            answered.sequence_exact.append(image)
    return answered


def test_a_row_per_intervention_and_four_panels_per_sample(tmp_path) -> None:
    figure = counterfactual_grid(_answered(), GRAPH, samples=5)
    assert len(figure.axes) == 2 * 4 * 2
    titles = [axis.get_title() for axis in figure.axes[:4]]
    assert titles == ["factual", "counterfactual", "exact", "difference"]
    assert figure.axes[1].get_xlabel() == "do(light = 10.00)"
    save_figure(figure, tmp_path / "deep" / "grid.png")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["grid.png"]


def test_without_exact_images_the_change_is_shown() -> None:
    figure = counterfactual_grid(_answered(exact=False), GRAPH, samples=1)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["factual", "counterfactual", "change"]


def test_a_strip_has_the_factual_and_every_step_over_the_exact_ones() -> None:
    figure = sequence_strips(_answered(), GRAPH, samples=2)
    assert len(figure.axes) == 2 * 2 * 3
    assert [axis.get_xlabel() for axis in figure.axes[:3]] == [
        "factual",
        "do(light\n= 10.00)",
        "do(lit\n= 1)",
    ]
    assert len(sequence_strips(_answered(exact=False), GRAPH, samples=1).axes) == 3


def test_the_strength_curve_has_a_line_per_intervention() -> None:
    of_light = [GuidanceStrength(1.0, 0.1, 0.0, 0.4), GuidanceStrength(0.5, 0.2, 0.1, 0.3)]
    figure = strength_curve({"light": of_light, "angle": [GuidanceStrength(1.0, 0.3, 0.2, 0.4)]})
    lines = [container.lines[0] for container in figure.axes[0].containers]
    assert [line.get_ydata().tolist() for line in lines] == [
        pytest.approx([0.1, 0.2]),
        pytest.approx([0.3]),
    ]


def test_a_strength_is_the_middle_and_the_spread_over_images() -> None:
    assert GuidanceStrength.of(0.5, torch.arange(11.0)) == (0.5, 5.0, 1.0, 9.0)


def test_doses_and_errors_have_a_panel_per_factor() -> None:
    group, index = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    effect = torch.tensor([[0.1, 1, 0.4, 0.5], [0, 1, 0.2, 0.2], [1, 0, 1, 0], [0, 1, 1, 1]])
    figure = dose_response((effect, group, index), GRAPH)
    assert [axis.get_title() for axis in figure.axes] == ["light", "lit"]
    assert len(figure.axes[0].collections[0].get_offsets()) == 2
    assert figure.axes[1].lines[1].get_xdata().tolist() == [0, 1], "one point per level"
    errors = torch.tensor([[0.1, 0.0], [0.2, 0.1], [0.0, 0.3], [0.0, 0.2]])
    figure = error_histograms((errors, group, index), GRAPH)
    heights = [patch.get_height() for patch in figure.axes[0].patches]
    assert abs(sum(heights) - 2) < 1e-6, "shares of each of the two groups sum to 1"
