r"""The Flow scene: a ball raises the water in a cup, the water pushes a jet through a hole.

Native units: ``ball_size`` the ball's radius and ``water_height`` h in the picture's units,
``hole`` in thirds of them (deep = hole / 3), ``water_flow`` the label √(2 · 0.98 · h · (deep − ½)),
how far the jet would reach. The graph's ranges are those of the published grid.

In the published loops raw, from which h = ball³ + raw / 10, is the exogenous noise of the height.
The jet itself is drawn with a gravity of 0.98 + e, e = 0.01 · max(|n|, 1), n ~ N(0, 1): noise of
the image that the factors do not hold. The published draws of n are not known; ours are seeded.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Generator, Tensor

from data_modules.scenes.flow.picture import JET_END, draw_flow, read_flow
from diffcf.causal import CausalGraph, Factor, Scene

NAMES = ("ball_size", "water_height", "hole", "water_flow")
GRAVITY = 0.98
LEAST_NOISE = 0.01  # e of two pictures in three, and what `render` draws without `noise`


def true_flow(height: Tensor, hole: Tensor) -> Tensor:
    """The mechanism of native ``water_flow``; no water, or a hole on the ground, gives 0."""
    return (2 * GRAVITY * height * (hole / 3 - JET_END)).clamp(min=0).sqrt()


def jet_reach(flow: Tensor, noise: Tensor | float) -> Tensor:
    """How far, in the picture's units, the jet of native ``flow`` reaches under jet noise e."""
    return flow * ((GRAVITY + torch.as_tensor(noise)) / GRAVITY).sqrt()


def published_grid() -> Tensor:
    """Native factors of the 8,100 published images, float64 ``[8100, 4]``, in published order."""
    loops = (range(5, 35), range(10, 40), range(6, 15))
    radius, raw, hole = torch.cartesian_prod(
        *(torch.tensor(loop, dtype=torch.float64) for loop in loops)
    ).unbind(1)
    ball = radius / 30
    height = ball**3 + raw / 10
    return torch.stack([ball, height, hole, true_flow(height, hole)], dim=1)


@lru_cache(maxsize=1)
def _graph() -> CausalGraph:
    grid = published_grid()
    bounds = zip(NAMES, grid.amin(0).tolist(), grid.amax(0).tolist(), strict=True)
    factors = [Factor(name, "continuous", low, high) for name, low, high in bounds]
    edges = [("ball_size", "water_height"), ("water_height", "water_flow"), ("hole", "water_flow")]
    return CausalGraph(factors, edges)


class FlowScene(Scene):
    """Flow of CausalVAE (Yang et al., CVPR 2021), with exact counterfactuals.

    ``do(ball_size)`` keeps raw, and so moves the height, and with it the flow. A flow that was set
    before keeps its difference from the mechanism, as Pendulum's shadow does.
    """

    noise_names = ("jet_gravity",)
    image_sizes = (64, 96, 128)  # at 32 the smallest balls vanish into the ground

    def __init__(self) -> None:
        self.graph = _graph()

    def published_grid(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled factors ``[8100, 4]`` of the published images, the ``[8100]`` bool test mask
        (every fifth image, 1,620 of them), and jet noise e ``[8100, 1]`` drawn from ``seed``."""
        normal = torch.randn(8100, 1, generator=Generator().manual_seed(seed))
        noise = LEAST_NOISE * normal.abs().clamp(min=1)
        is_test = torch.arange(8100) % 5 == 4
        return self.graph.to_scaled(published_grid()).float(), is_test, noise

    def counterfactual(self, factors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """See :meth:`Scene.counterfactual`."""
        acted = torch.where(mask, values, factors)
        set_ball, set_height, set_hole, set_flow = mask.unbind(1)
        old, new = self.graph.to_native(factors), self.graph.to_native(acted)
        raised = old[:, 1] - old[:, 0] ** 3 + new[:, 0] ** 3
        moves = set_ball & ~set_height
        height = torch.where(moves, raised, new[:, 1])
        residual = old[:, 3] - true_flow(old[:, 1], old[:, 2])
        flow = (true_flow(height, new[:, 2]) + residual).clamp(min=0)
        scaled = self.graph.to_scaled(torch.stack([new[:, 0], height, new[:, 2], flow], dim=1))
        flows = (set_ball | set_height | set_hole) & ~set_flow
        never = torch.zeros_like(moves)
        return torch.where(torch.stack([never, moves, never, flows], dim=1), scaled, acted)

    def render(self, factors: Tensor, image_size: int, noise: Tensor | None = None) -> Tensor:
        """See :meth:`Scene.render`; ``image_size`` is 64, 96 or 128, else ValueError."""
        ball, height, hole, flow = self.graph.to_native(factors.float()).unbind(1)
        e = LEAST_NOISE if noise is None else noise[:, 0].to(flow)
        picture = torch.stack([ball, height, hole / 3, jet_reach(flow, e)], dim=1)
        return draw_flow(picture, self.checked_size(image_size))

    def read(self, images: Tensor) -> Tensor:
        """See :meth:`Scene.read`. Jet noise and flow look the same, so the least noise is assumed:
        flows of pictures with more read up to 1% too large, .0007 of range on average."""
        self.checked_size(images.shape[-1])
        ball, height, deep, reach = read_flow(images).unbind(1)
        flow = reach / jet_reach(torch.ones_like(reach), LEAST_NOISE)
        native = torch.stack([ball, height, 3 * deep, flow], dim=1)
        return self.graph.to_scaled(native).nan_to_num(nan=0.0)

    def visible(self, factors: Tensor) -> Tensor:
        """``[B]`` bool: every factor within the published range, give or take 1e-4."""
        return ((factors >= -1e-4) & (factors <= 1 + 1e-4)).all(1)
