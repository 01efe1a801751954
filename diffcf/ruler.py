"""What judges a counterfactual image: the scene that made the factual one.

Factors are read by the scene's own instrument, never by the projector that guides. Where the
factors alone determine what would have been (:attr:`Scene.identified`), the target is the scene's
true counterfactual and the exact counterfactual image is its render. Where they do not (binary
factors with random mechanisms), no method can know the noise, so the target is what the causal
model drew, and the *rates* at which effects follow are compared with the true probabilities.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from diffcf.counterfactual import Counterfactual
from diffcf.intervention import Intervention

__all__ = ["Ruler", "RulerScene"]


class RulerScene(Protocol):
    """What a judge needs of a scene; see :class:`data_modules.scenes.base.Scene`."""

    noise_names: tuple[str, ...]
    identified: bool

    def counterfactual(self, factors: Tensor, values: Tensor, mask: Tensor) -> Tensor: ...

    def render(self, factors: Tensor, image_size: int, noise: Tensor | None = None) -> Tensor: ...

    def read(self, images: Tensor) -> Tensor: ...

    def visible(self, factors: Tensor) -> Tensor: ...


class Ruler:
    """Targets, readings and exact images of one set.

    Args:
        scene: the synthetic world.
        noise: ``[N, M]``, the image noise of the whole set; None where the scene has none, or where
            it is not known, and then there are no exact images.
    """

    def __init__(self, scene: RulerScene, noise: Tensor | None = None) -> None:
        self.scene, self.noise = scene, noise
        known = noise is not None or not scene.noise_names
        self.draws = scene.identified and known

    def read(self, images: Tensor) -> Tensor:
        """Factors ``[B, K]`` measured in images."""
        return self.scene.read(images)

    def target(self, factors: Tensor, answer: Counterfactual) -> Tensor:
        """The factors ``[B, K]`` that the counterfactual of ``factors`` should show."""
        if not self.scene.identified:
            return answer.factors
        return self.scene.counterfactual(
            factors, answer.intervention.values, answer.intervention.mask
        )

    def exact(self, target: Tensor, index: Tensor, image_size: int) -> Tensor:
        """The exact counterfactual images of rows ``index`` of the set, where :attr:`draws`."""
        noise = None if self.noise is None else self.noise[index].to(target)
        return self.scene.render(target, image_size, noise)

    def probability(self, factors: Tensor, do: Intervention) -> Tensor | None:
        """P(1) ``[B, K]`` of each factor in the counterfactual world; None where it is certain."""
        if self.scene.identified:
            return None
        return self.scene.counterfactual(factors, do.values, do.mask)
