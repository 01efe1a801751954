"""The Pendulum scene: a hanging ball, a sun, and the shadow that the two cast.

Native units: ``angle`` θ and ``light`` φ in radians (θ = iπ/200 for i = −40…43, φ = jπ/200 for
j = 60…147), ``shadow_length`` and ``shadow_position`` in the picture's units (x runs 0…20). The
graph's ranges are those of the published grid.
"""

from __future__ import annotations

from functools import lru_cache
from math import pi

import torch
from torch import Tensor

from data_modules.scenes.drawing import IMAGE_SIZES
from data_modules.scenes.pendulum.picture import (
    GROUND,
    PIVOT,
    ball_centre,
    draw,
    pendulum_frame,
    project,
    read_native,
)
from diffcf.causal import CausalGraph, Factor, Scene

TIP = 9.5  # from the pivot to the ball's far side
MIN_LENGTH = 3.0


def mechanism(angle: Tensor, light: Tensor) -> tuple[Tensor, Tensor]:
    """The published shadow of native ``angle`` and ``light`` ``[B]``: its length and position."""
    pivot = project(*PIVOT, light, GROUND)
    tip = project(*ball_centre(angle, TIP), light, GROUND)
    return (pivot - tip).abs().clamp(min=MIN_LENGTH), (pivot + tip) / 2


def published_grid() -> Tensor:
    """Native factors of the 7,308 published images, float64 ``[7308, 4]``, in published order."""
    angles = torch.arange(-40, 44, dtype=torch.float64) * (pi / 200)
    steps = torch.arange(60, 148, dtype=torch.float64)
    lights = steps[steps != 100] * (pi / 200)
    angle, light = torch.cartesian_prod(angles, lights).unbind(1)
    return torch.stack([angle, light, *mechanism(angle, light)], dim=1)


def published_test_mask() -> Tensor:
    """``[7308]`` bool: every fourth published image after the first, 1,826 of them, is for test."""
    index = torch.arange(84 * 87)
    return (index > 0) & (index % 4 == 0)


@lru_cache(maxsize=1)
def _graph() -> CausalGraph:
    grid = published_grid()
    names = ("angle", "light", "shadow_length", "shadow_position")
    bounds = zip(names, grid.amin(0).tolist(), grid.amax(0).tolist(), strict=True)
    factors = [Factor(name, "continuous", low, high) for name, low, high in bounds]
    return CausalGraph(factors, [(cause, effect) for cause in names[:2] for effect in names[2:]])


class PendulumScene(Scene):
    """Pendulum of CausalVAE (Yang et al., CVPR 2021), with exact counterfactuals.

    In the published data the shadow is a deterministic function f of angle and light, so its
    exogenous noise is zero there. Elsewhere (after a shadow was set by an intervention) the noise
    is additive: u = shadow − f(angle, light), for length and position alike. A predicted length is
    at least 3, as the published mechanism has it.
    """

    def __init__(self) -> None:
        self.graph = _graph()

    def published_grid(self) -> tuple[Tensor, Tensor]:
        """Scaled factors ``[7308, 4]`` of the published images and the ``[7308]`` test mask."""
        return self.graph.to_scaled(published_grid()).float(), published_test_mask()

    def counterfactual(self, factors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """See :meth:`Scene.counterfactual`."""
        acted = torch.where(mask, values, factors)
        before, after = self.graph.to_native(factors), self.graph.to_native(acted)
        old_length, old_position = mechanism(before[:, 0], before[:, 1])
        new_length, new_position = mechanism(after[:, 0], after[:, 1])
        length = (before[:, 2] - old_length + new_length).clamp(min=MIN_LENGTH)
        position = before[:, 3] - old_position + new_position
        shadow = self.graph.to_scaled(torch.stack([*before.unbind(1)[:2], length, position], 1))
        predicted = mask[:, :2].any(1, keepdim=True) & ~mask
        predicted = predicted & torch.tensor([False, False, True, True], device=mask.device)
        return torch.where(predicted, shadow, acted)

    def render(self, factors: Tensor, image_size: int, noise: Tensor | None = None) -> Tensor:
        """See :meth:`Scene.render`; ``image_size`` is 32, 64, 96 or 128, else ValueError."""
        return draw(self.graph.to_native(factors.float()), image_size)

    def read(self, images: Tensor) -> Tensor:
        """See :meth:`Scene.read`; a missing ball, sun or shadow reads 0 in its factors."""
        native, found = read_native(images)
        return torch.where(found, self.graph.to_scaled(native), torch.zeros_like(native))

    def visible(self, factors: Tensor) -> Tensor:
        """``[B]`` bool: angle and light in range, and the whole shadow inside the picture.

        The picture is the smallest of all image sizes (their clip boxes differ by a fraction of a
        pixel), x from 0 to 19.89. 1.6% of the published images are not visible in this sense.
        """
        frames = [pendulum_frame(size) for size in IMAGE_SIZES]
        left = max((f.box[0] - f.x(0.0)) / f.unit_x for f in frames)
        right = min((f.box[1] - f.x(0.0)) / f.unit_x for f in frames)
        _, _, length, position = self.graph.to_native(factors).unbind(1)
        inside = (position - length / 2 >= left) & (position + length / 2 <= right)
        roots, slack = factors[:, :2], 1e-4
        return inside & ((roots >= -slack) & (roots <= 1 + slack)).all(1)
