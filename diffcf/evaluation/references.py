"""Methods whose faults are known, so that it can be seen which metric finds which fault.

=========================  ==================================  ===================================
method                     right                               wrong
=========================  ==================================  ===================================
:class:`ExactMethod`       everything                          nothing
:class:`DoNothing`         all that must stay                  all that must change
:class:`ChangeEverything`  the factors                         all that must stay
=========================  ==================================  ===================================

None of them learns anything or reads images: the factual factors must be given.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from math import tau

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Do, Intervention, Scene
from diffcf.methods import Counterfactual

# Factors nearer than this, in [0, 1] units, are the same: float32 mechanisms are less exact, and
# no picture shows it.
SAME = 1e-5
GOLDEN = 2.399963  # radians; multiples of the golden angle never meet


class Reference(ABC):
    """A method over ``graph`` that answers from the factual image and factors alone."""

    graph: CausalGraph

    def abduct(self, image: Tensor, factors: Tensor | None = None) -> ReferenceWorld:
        """The world of images ``[B, C, H, W]`` in [-1, 1] with factors ``[B, K]``.

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
        return ReferenceWorld(self, image, factors, image)

    @abstractmethod
    def target(self, world: ReferenceWorld, do: Intervention) -> Tensor:
        """The factors ``[B, K]`` of ``world`` under ``do``."""

    @abstractmethod
    def answer(self, world: ReferenceWorld, do: Intervention) -> Counterfactual:
        """The counterfactual of ``world`` under ``do``."""


@dataclass(frozen=True)
class ReferenceWorld:
    """What a reference knows of a batch.

    Attributes:
        method: which answers.
        image: ``[B, C, H, W]``, the images last seen.
        factors: ``[B, K]``, the factual factors.
        factual: ``[B, C, H, W]``, the images that show them.
    """

    method: Reference
    image: Tensor
    factors: Tensor
    factual: Tensor

    def factors_under(self, do: Do | Intervention) -> Tensor:
        """z_cf ``[B, K]`` under ``do``, without an image."""
        return self.method.target(self, self._intervention(do))

    def predict(self, do: Do | Intervention) -> Counterfactual:
        """The counterfactual under ``do`` (a mapping of names to [0, 1] values, or tensors)."""
        return self.method.answer(self, self._intervention(do))

    def _intervention(self, do: Do | Intervention) -> Intervention:
        image = self.image
        return Intervention.from_do(do, self.method.graph, len(image), image.device)

    def reabduct(self, answer: Counterfactual) -> ReferenceWorld:
        """The same world after ``answer``'s images were seen; what was known stays known."""
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

    def target(self, world: ReferenceWorld, do: Intervention) -> Tensor:
        """What is set, and the factual factors."""
        return torch.where(do.mask, do.values, world.factors)

    def answer(self, world: ReferenceWorld, do: Intervention) -> Counterfactual:
        """The images last seen."""
        return Counterfactual(world.image, self.target(world, do), do)


class ExactMethod(Reference):
    """Answers with the scene's own counterfactual: its true mechanism, then its renderer.

    Where nothing changes it returns the factual image itself, bit for bit.

    Args:
        scene: the synthetic world that made the images.
        noise: ``[B, M]``, what the batch's pictures show beyond their factors, for scenes that have
            such noise; the method is then that batch's.

    Raises:
        ValueError: for a scene whose exact counterfactual images do not exist: factors do not
            determine them, or the noise is not known.

    >>> from data_modules.scenes.pendulum.scene import PendulumScene
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

    def abduct(self, image: Tensor, factors: Tensor | None = None) -> ReferenceWorld:
        """See :meth:`Reference.abduct`; ValueError also when the noise is not this batch's."""
        if self.noise is not None and len(self.noise) != len(image):
            raise ValueError(
                f"{type(self).__name__} has the noise of {len(self.noise)} images and was given "
                f"{len(image)}: make one for each batch."
            )
        return super().abduct(image, factors)

    def target(self, world: ReferenceWorld, do: Intervention) -> Tensor:
        """The scene's own counterfactual factors."""
        return self.scene.counterfactual(world.factors, do.values, do.mask)

    def answer(self, world: ReferenceWorld, do: Intervention) -> Counterfactual:
        """The scene's render of its counterfactual factors."""
        target = self.target(world, do)
        noise = None if self.noise is None else self.noise.to(target)
        drawn = self.scene.render(target, world.image.shape[-1], noise).to(world.factual)
        same = ((target - world.factors).abs() <= SAME).all(dim=1)
        image = torch.where(same[:, None, None, None], world.factual, drawn)
        return Counterfactual(image, target, do)


class ChangeEverything(ExactMethod):
    """Right factors, and a coloured haze over the whole picture that no one asked for.

    The haze is another one for every intervention, the null intervention included, and the same
    one every time: so minimality, composition and reversibility must catch it.

    Args:
        scene, noise: see :class:`ExactMethod`.
        amplitude: in (0, 1], the share of the haze where it is thickest; half of it elsewhere.

    Raises:
        ValueError: as :class:`ExactMethod`, and for an amplitude out of range.

    >>> from data_modules.scenes.pendulum.scene import PendulumScene
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

    def answer(self, world: ReferenceWorld, do: Intervention) -> Counterfactual:
        """The exact counterfactual, in haze."""
        exact = super().answer(world, do)
        return replace(exact, image=self._haze(exact.image, do))

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
