from __future__ import annotations

import torch

from diffcf.callbacks.figures import counterfactual_grid, save_figure, strength_curve
from diffcf.evaluation import Example


def test_a_row_per_intervention_and_four_panels_per_sample(tmp_path) -> None:
    image = torch.zeros(2, 3, 8, 8)
    names = ("light", "angle")
    label = {name: [f"do({name} = 1)"] * 2 for name in names}
    images = dict.fromkeys(names, image)
    figure = counterfactual_grid(Example(image, images, images, label), samples=5)
    assert len(figure.axes) == 2 * 4 * 2
    titles = [axis.get_title() for axis in figure.axes[:4]]
    assert titles == ["factual", "counterfactual", "exact", "difference"]
    save_figure(figure, tmp_path / "deep" / "grid.png")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["grid.png"]


def test_the_strength_curve_has_a_line_per_intervention() -> None:
    figure = strength_curve({"light": [(1.0, 0.1), (0.5, 0.2)], "angle": [(1.0, 0.3)]})
    assert len(figure.axes[0].lines) == 2
