"""What stays the same while one image is asked about: the model's world, and the scene's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from diffcf.api import Model
from diffcf.app.gallery import Subject
from diffcf.causal import CausalGraph, Intervention
from diffcf.evaluation import ExactMethod
from diffcf.methods import Counterfactual, World


@dataclass(frozen=True)
class Result:
    """The answer to one question.

    Attributes:
        answer: the model's, of a batch of one.
        exact: the scene's; None where there is none.
        read: ``[K]`` in [0, 1] units, read back from the model's image; None where nothing reads.
        inside: whether the exact picture lies wholly within its frame, so that the ruler can read.
    """

    answer: Counterfactual
    exact: Counterfactual | None
    read: Tensor | None
    inside: bool

    @property
    def image(self) -> Tensor:
        """The counterfactual ``[C, S, S]`` in [-1, 1]."""
        return self.answer.image[0]

    @property
    def exact_image(self) -> Tensor | None:
        """The exact counterfactual, likewise."""
        return None if self.exact is None else self.exact.image[0]


@dataclass(frozen=True)
class Worlds:
    """The world of one image, as the model and, where it is known, as the scene have it.

    Attributes:
        model: that abducted it.
        subject: the factual.
        inferred: the model's world, of a batch of one.
        true: the scene's; None where there are no exact counterfactuals.
    """

    model: Model
    subject: Subject
    inferred: World
    true: World | None

    @property
    def reader(self) -> str | None:
        """Who reads factors back from images: the scene's ruler, the model itself, or nobody."""
        if self.subject.scene is not None:
            return "the scene's ruler"
        return "the model itself" if self.model.module.reads else None

    @property
    def factual(self) -> Result:
        """The answer to no question: the factual itself."""
        nothing = Intervention.none(self.inferred.factors)
        seen = self.subject.image[None].to(self.inferred.image)
        same = Counterfactual(seen, self.inferred.factors, nothing)
        return self._read(same, self._exact(nothing))

    def draw(self, do: Intervention) -> Result:
        """The counterfactual under ``do``, of a batch of one: the slow part."""
        return self._read(self.inferred.predict(do), self._exact(do))

    def after(self, drawing: Result) -> Worlds:
        """The same worlds, with their causal noise, but seen in ``drawing``: the next step's."""
        true = self.true
        if true is not None and drawing.exact is not None:
            true = true.reabduct(drawing.exact)
        return replace(self, inferred=self.inferred.reabduct(drawing.answer), true=true)

    def _exact(self, do: Intervention) -> Counterfactual | None:
        if self.true is None:
            return None
        # Scenes draw on the processor, wherever the networks are.
        return self.true.predict(Intervention(do.values.cpu(), do.mask.cpu()))

    def _read(self, answer: Counterfactual, exact: Counterfactual | None) -> Result:
        scene, read, inside = self.subject.scene, None, True
        if scene is not None:
            read = scene.read(answer.image.cpu())[0]
            inside = exact is None or bool(scene.visible(exact.factors.cpu())[0])
        elif self.model.module.reads:
            read = self.model.read(answer.image)[0].cpu()
        return Result(answer, exact, read, inside)


def open_worlds(model: Model, subject: Subject) -> Worlds:
    """Abduct, once for any number of interventions.

    Raises:
        ValueError: when the factors are not known and the model cannot read them.
    """
    if subject.factors is None and not model.module.reads:
        raise ValueError(
            "This model reads no factors off images: pick one whose factors are known."
        )
    image = subject.image[None].to(model.device)
    observed = None if subject.factors is None else subject.factors[None]
    inferred = model.abduct(image, observed).world
    noise = None if subject.noise is None else subject.noise[None]
    true = None
    scene = subject.scene
    if subject.factors is not None and scene is not None and subject.has_exact:
        true = ExactMethod(scene, noise).abduct(subject.image[None], subject.factors[None])
    return Worlds(model, subject, inferred, true)


def causal_graph(model: Model) -> CausalGraph:
    """The graph by which the model answers: its own, where it learned one."""
    learned = getattr(getattr(model.module, "nscm", None), "learned", None)
    return model.graph if learned is None else learned()
