from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.text import Text

from diffcf.reporting.cost import quality_cost

SPREAD = {
    "ours": [(0.15, 0.008), (0.2, 0.009)],
    "a peer": [(0.002, 0.1)],
    "another": [(0.3, 0.03)],
}
CROWDED = {f"method number {n}": [(0.15 + 0.001 * n, 0.02), (0.15, 0.03)] for n in range(8)}


@pytest.mark.parametrize("points", [SPREAD, CROWDED], ids=["spread", "crowded"])
def test_names_stand_inside_and_cover_neither_each_other_nor_a_point(points) -> None:
    figure = quality_cost(points, nothing=0.13, title="toy")
    figure.canvas.draw()
    (axis,) = figure.axes
    assert sorted(text.get_text() for text in axis.texts) == sorted([*points, "do nothing"])
    renderer = figure.canvas.get_renderer()
    # Of the letters alone: a name's line to its point belongs to its own extent.
    boxes = [Text.get_window_extent(text, renderer) for text in axis.texts]
    assert not any(one.overlaps(two) for one, two in combinations(boxes, 2))
    frame = axis.get_window_extent(renderer)
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
    for line in axis.lines:
        x, y = axis.transData.transform(line.get_xydata()[0])
        assert not any(box.contains(x, y) for box in boxes)


def test_axes_are_logarithmic_and_bars_reach_the_seeds() -> None:
    (axis,) = quality_cost(SPREAD).axes
    assert axis.get_xscale() == axis.get_yscale() == "log"
    ends = {tuple(p) for bar in axis.collections for path in bar.get_paths() for p in path.vertices}
    assert any(y == pytest.approx(0.008) for _, y in ends)
    assert any(x == pytest.approx(0.2) for x, _ in ends)
    assert [text.get_text() for text in axis.texts] == list(SPREAD), "no line without its score"
