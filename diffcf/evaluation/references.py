"""What is right, and methods whose faults are known: the points of reference of an evaluation.

:class:`Truth` knows what a counterfactual is compared with. Where the true model is known and
factors alone determine every counterfactual (:attr:`TrueModel.identified`), the target is the true
counterfactual and, if a scene made the images, the exact image is its render. Where they do not
(binary factors with random mechanisms), or without a true model, the target is what the method's
causal model drew. A scene whose image noise is known can draw that target all the same, and the
*rates* at which effects follow are compared with the true probabilities.

The reference methods show which metric finds which fault: :class:`ExactMethod` is right in
everything, :class:`DoNothing` in what must stay, :class:`ChangeEverything` in the factors alone.
None of them learns anything or reads images: the factual factors must be given.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from math import tau

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Intervention, Scene, TrueModel
from diffcf.methods import Counterfactual, World

SAME = 1e-5  # in [0, 1] units: float32 mechanisms are less exact, and no image shows it
GOLDEN = 2.399963  # radians; multiples of the golden angle never meet


class Truth:
    """Targets and exact images of one set.

    Args:
        scene: the true model, such as a synthetic world; None where it is not known.
        noise: ``[N, M]``, the image noise of the whole set; None where there is none or it is not
            known, and then there are no exact images.

    Attributes:
        source: of the targets, ``"scene"`` or ``"model"``.
        draws: whether the target can be drawn, so that exact images exist.
        certain: whether these are the true counterfactuals: nothing in them is the method's.
    """

    def __init__(self, scene: TrueModel | None, noise: Tensor | None = None) -> None:
        self.scene, self.noise = scene, noise
        self.identified = scene is not None and scene.identified
        self.source = "scene" if self.identified else "model"
        self.draws = isinstance(scene, Scene) and (noise is not None or not scene.noise_names)
        self.certain = self.identified and self.draws

    def target(self, factors: Tensor, answer: Counterfactual) -> Tensor:
        """The factors ``[B, K]`` that the counterfactual of ``factors`` should show."""
        do = answer.intervention
        if self.scene is None or not self.identified:
            return answer.factors
        return self.scene.counterfactual(factors, do.values, do.mask)

    def exact(self, target: Tensor, index: Tensor, image_size: int) -> Tensor:
        """The exact counterfactual images of rows ``index`` of the set, where :attr:`draws`."""
        assert isinstance(self.scene, Scene)
        return self.scene.render(target, image_size, self.noise_at(index, target))

    def noise_at(self, index: Tensor, like: Tensor) -> Tensor | None:
        """The image noise ``[B, M]`` of rows ``index`` of the set, where known."""
        return None if self.noise is None else self.noise[index].to(like)

    def probability(self, factors: Tensor, do: Intervention) -> Tensor | None:
        """P(1) ``[B, K]`` of each factor in the counterfactual world, where it is random."""
        if self.scene is None or self.identified:
            return None
        return self.scene.counterfactual(factors, do.values, do.mask)


class Reference(ABC):
    """A method over ``graph`` that answers from the factual image and factors alone."""

    graph: CausalGraph

    def abduct(
        self, image: Tensor, factors: Tensor | None = None, keys: Tensor | None = None
    ) -> ReferenceWorld:
        """The world of images ``[B, C, H, W]`` in [-1, 1] with factors ``[B, K]``.

        Nothing is drawn, so ``keys`` have no effect.

        Raises:
            ValueError: without factors, and for shapes that do not fit.
        """
        name = type(self).__name__
        if factors is None:
            raise ValueError(f"{name} reads no factors off images: give it the observed ones.")
        if image.dim() != 4 or factors.shape != (len(image), len(self.graph)):
            raise ValueError(
                f"{name} takes images [B, C, H, W] and factors [B, {len(self.graph)}], got "
                f"{list(image.shape)} and {list(factors.shape)}."
            )
        return ReferenceWorld(self.graph, image, factors, None, self, image)

    @abstractmethod
    def target(self, factors: Tensor, do: Intervention) -> Tensor:
        """z_cf ``[B, K]`` of factual ``factors`` under ``do``."""

    @abstractmethod
    def draw(self, world: ReferenceWorld, target: Tensor, do: Intervention) -> Tensor:
        """The counterfactual images of ``world``, which should show ``target``."""


@dataclass(frozen=True)
class ReferenceWorld(World):
    """The factual images and factors of a batch; nothing is inferred from them.

    ``factual`` ``[B, C, H, W]`` are the images of these factors, ``image`` those last abducted.
    """

    method: Reference
    factual: Tensor

    def target(self, do: Intervention) -> Tensor:
        return self.method.target(self.factors, do)

    def in_range(self, target: Tensor) -> tuple[Tensor, Tensor]:
        # What would have been is no prediction: the truth may lie beyond the range.
        return target, torch.zeros_like(target, dtype=torch.bool)

    def answer(self, do: Intervention, target: Tensor) -> Counterfactual:
        return Counterfactual(self.method.draw(self, target, do), target, do)

    def reabduct(self, answer: Counterfactual) -> ReferenceWorld:
        """The same world with ``answer``'s images in place of the factual ones."""
        return replace(self, image=answer.image)


class DoNothing(Reference):
    """Returns the image it was given, and moves no factor but those that are set.

    Every metric of change must be poor for it and every metric of restraint perfect.

    >>> from diffcf.causal import Factor
    >>> method = DoNothing(CausalGraph([Factor("sun"), Factor("shade")], [("sun", "shade")]))
    >>> world = method.abduct(torch.zeros(1, 3, 8, 8), torch.tensor([[0.2, 0.4]]))
    >>> world.predict({"sun": 1.0}).factors
    tensor([[1.0000, 0.4000]])
    """

    def __init__(self, graph: CausalGraph) -> None:
        self.graph = graph

    def target(self, factors: Tensor, do: Intervention) -> Tensor:
        return torch.where(do.mask, do.values, factors)

    def draw(self, world: ReferenceWorld, target: Tensor, do: Intervention) -> Tensor:
        return world.image


class Mirrored(DoNothing):
    """Returns the image with its left on the right, and moves no factor but those that are set.

    For images whose factors do not depend on which side is which. Nothing that matters has changed,
    so that what it fails to keep is an estimate of the reader's own noise.

    >>> from diffcf.causal import Factor
    >>> method = Mirrored(CausalGraph([Factor("smile", "binary")]))
    >>> world = method.abduct(torch.tensor([[[[0.0, 0.5]]]]), torch.tensor([[0.0]]))
    >>> world.predict({"smile": 1.0}).image.tolist(), world.predict({}).image.tolist()
    ([[[[0.5, 0.0]]]], [[[[0.0, 0.5]]]])
    """

    def draw(self, world: ReferenceWorld, target: Tensor, do: Intervention) -> Tensor:
        asked = do.mask.any(dim=1)[:, None, None, None]
        return torch.where(asked, world.image.flip(-1), world.image)


class ExactMethod(Reference):
    """Answers with the scene's own counterfactual: its true mechanism, then its renderer.

    Where nothing changes it returns the factual image itself, bit for bit.

    Args:
        scene: the synthetic world that made the images.
        noise: ``[B, M]``, the batch's image noise, for scenes that have it; the method is then that
            batch's.

    Raises:
        ValueError: when factors do not determine the counterfactual, or the noise is not known.

    >>> from data_modules.scenes import PendulumScene
    >>> scene, factors = PendulumScene(), torch.tensor([[0.4, 0.5, 0.1, 0.5]])
    >>> world = ExactMethod(scene).abduct(scene.render(factors, 64), factors)
    >>> scene.read(world.predict({"light": 0.7}).image)[:, :2].round(decimals=2)
    tensor([[0.4000, 0.7000]])
    """

    def __init__(self, scene: Scene, noise: Tensor | None = None) -> None:
        name, world = type(self).__name__, type(scene).__name__
        if not scene.identified:
            raise ValueError(
                f"{name} needs exact counterfactuals, which {world} does not determine: leave this "
                "reference out."
            )
        if scene.noise_names and noise is None:
            shown = ", ".join(scene.noise_names)
            raise ValueError(
                f"{name} cannot draw the pictures of {world} without their {shown}: give it "
                "'noise', or leave this reference out where it is not known."
            )
        self.scene, self.noise, self.graph = scene, noise, scene.graph

    def abduct(
        self, image: Tensor, factors: Tensor | None = None, keys: Tensor | None = None
    ) -> ReferenceWorld:
        """See :meth:`Reference.abduct`; ValueError also when the noise is not this batch's."""
        if self.noise is not None and len(self.noise) != len(image):
            raise ValueError(
                f"{type(self).__name__} has the noise of {len(self.noise)} images and was given "
                f"{len(image)}: make one for each batch."
            )
        return super().abduct(image, factors, keys)

    def target(self, factors: Tensor, do: Intervention) -> Tensor:
        return self.scene.counterfactual(factors, do.values, do.mask)

    def draw(self, world: ReferenceWorld, target: Tensor, do: Intervention) -> Tensor:
        noise = None if self.noise is None else self.noise.to(target)
        drawn = self.scene.render(target, world.image.shape[-1], noise).to(world.factual)
        same = ((target - world.factors).abs() <= SAME).all(dim=1)
        return torch.where(same[:, None, None, None], world.factual, drawn)


class ChangeEverything(ExactMethod):
    """Right factors, and a coloured haze over the whole image that no intervention calls for.

    The haze depends on the intervention alone, and the null intervention has one too, so that
    minimality, composition and reversibility must catch it. ``amplitude``, in (0, 1], is its share
    where it is thickest; half of it elsewhere.

    Raises:
        ValueError: as :class:`ExactMethod`, and for an amplitude out of range.

    >>> from data_modules.scenes import PendulumScene
    >>> scene, factors = PendulumScene(), torch.tensor([[0.4, 0.5, 0.1, 0.5]])
    >>> world = ChangeEverything(scene).abduct(scene.render(factors, 64), factors)
    >>> bool(((world.predict({}).image - world.image).abs().amax(1) > 0.01).all())
    True
    """

    def __init__(self, scene: Scene, noise: Tensor | None = None, amplitude: float = 0.2) -> None:
        super().__init__(scene, noise)
        if not 0 < amplitude <= 1:
            raise ValueError(f"amplitude must lie in (0, 1], not {amplitude}.")
        self.amplitude = amplitude

    def draw(self, world: ReferenceWorld, target: Tensor, do: Intervention) -> Tensor:
        return self._haze(super().draw(world, target, do), do)

    def _haze(self, image: Tensor, do: Intervention) -> Tensor:
        """Images ``[B, C, H, W]`` mixed with a tint, more here and less there; within [-1, 1]."""
        # What is set, and to what, turns a phase; nothing set leaves it where it is.
        turns = torch.arange(1, len(self.graph) + 1, device=image.device) * GOLDEN
        phase = (torch.where(do.mask, 1 + do.values, 0.0) * turns).sum(dim=1).to(image)
        rows, columns = (
            torch.linspace(-1, 1, side, dtype=image.dtype, device=image.device)
            for side in image.shape[2:]
        )
        wave = torch.sin(1.3 * rows[:, None] + 2.0 * columns + phase[:, None, None])
        thickness = self.amplitude * (0.75 + 0.25 * wave)[:, None]
        channel = torch.arange(image.shape[1], device=image.device) * tau / image.shape[1]
        tint = 0.5 * torch.sin(phase[:, None] + channel)[:, :, None, None]
        return torch.lerp(image, tint.expand_as(image), thickness.expand_as(image))
