"""What guidance costs when its gradient has to pass the generator: the usual way, for comparison.

The projector reads the predicted clean image x̂(x_t), so that the gradient of its log-likelihood
with respect to x_t goes back through the U-Net (as in Diffusion Posterior Sampling, Chung et al.,
2022, https://arxiv.org/abs/2209.14687). The forward is shared with the denoiser, as any sound
implementation would.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffcf.counterfactual import Abducted
from diffcf.diffusion import Prediction, noise_level, prediction_from_velocity
from diffcf.intervention import Do
from diffcf.sampling import sample

__all__ = ["sample_through_generator"]


class _Both:
    """The denoiser and its guide, which takes what the denoiser's own forward left for it."""

    def __init__(self, model: Any, target: Tensor) -> None:
        self.model, self.target = model, target
        self.shift: Tensor | None = None

    def denoise(self, x_t: Tensor, time: float) -> Prediction:
        t = x_t.new_full((len(x_t),), time)
        with torch.enable_grad():
            x_in = x_t.detach().requires_grad_()
            v = self.model.generator(x_in, t, self.target)
            told = prediction_from_velocity(v, x_in, t)
            posterior = self.model.projector(told.denoised, torch.zeros_like(t))
            code = self.model.graph.encode(self.target)
            distance = (code - posterior.mean).square() / posterior.variance.detach()
            gradient = torch.autograd.grad(-0.5 * distance.sum(), x_in)[0]
        self.shift = -noise_level(t) * gradient
        return Prediction(told.denoised.detach(), told.eps.detach())

    def guide(self, x_t: Tensor, time: float) -> Tensor | None:
        return self.shift


@torch.no_grad()
def sample_through_generator(model: Any, world: Abducted, do: Do) -> Tensor:
    """Counterfactual images ``[B, C, H, W]``, guided at every step."""
    intervention = world.engine.intervention(do, world.image)
    values, mask = intervention.values, intervention.mask
    both = _Both(model, model.nscm.predict(world.factors, world.exogenous, values, mask))
    return sample(both.denoise, world.path, world.engine.sampling.order, both.guide)
