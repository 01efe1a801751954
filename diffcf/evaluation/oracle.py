"""What should have been: the factors and the picture that a counterfactual is compared with.

Where a scene made the images and factors alone determine what would have been
(:attr:`Scene.identified`), the target is the scene's true counterfactual and the exact
counterfactual image is its render. Where they do not (binary factors with random mechanisms), no
method can know the exogenous noise, so the target is what the method's causal model drew, and the
*rates* at which effects follow are compared with the true probabilities. What a picture of that
target looks like is known all the same, where the image noise is: the same person, with these
attributes. Without a scene the target is the method's too, and no exact image exists.
"""

from __future__ import annotations

from torch import Tensor

from diffcf.causal import Intervention, Scene
from diffcf.methods import Counterfactual


class Truth:
    """Targets and exact images of one set.

    Args:
        scene: the synthetic world; None where the world is not known.
        noise: ``[N, M]``, the image noise of the whole set; None where the scene has none, or where
            it is not known, and then there are no exact images.

    Attributes:
        source: of the targets, ``"scene"`` or ``"model"``.
        draws: whether the target can be drawn, so that exact images exist.
        certain: whether these are the true counterfactuals: nothing in them is the method's.
    """

    def __init__(self, scene: Scene | None, noise: Tensor | None = None) -> None:
        self.scene, self.noise = scene, noise
        self.identified = scene is not None and scene.identified
        self.source = "scene" if self.identified else "model"
        self.draws = scene is not None and (noise is not None or not scene.noise_names)
        self.certain = self.identified and self.draws

    def target(self, factors: Tensor, answer: Counterfactual) -> Tensor:
        """The factors ``[B, K]`` that the counterfactual of ``factors`` should show."""
        do = answer.intervention
        if self.scene is None or not self.identified:
            return answer.factors
        return self.scene.counterfactual(factors, do.values, do.mask)

    def exact(self, target: Tensor, index: Tensor, image_size: int) -> Tensor:
        """The exact counterfactual images of rows ``index`` of the set, where :attr:`draws`."""
        assert self.scene is not None
        return self.scene.render(target, image_size, self.noise_at(index, target))

    def noise_at(self, index: Tensor, like: Tensor) -> Tensor | None:
        """The image noise ``[B, M]`` of rows ``index`` of the set, where known."""
        return None if self.noise is None else self.noise[index].to(like)

    def probability(self, factors: Tensor, do: Intervention) -> Tensor | None:
        """P(1) ``[B, K]`` of each factor in the counterfactual world, where it is random."""
        if self.scene is None or self.identified:
            return None
        return self.scene.counterfactual(factors, do.values, do.mask)
