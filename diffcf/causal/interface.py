"""The actors of the causal model, as Protocols: a reader, a structural model, a true one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

from torch import Tensor

from diffcf.causal.graph import CausalGraph
from diffcf.causal.marks import Marks
from diffcf.io import SettingsError


class Reader(Protocol):
    """Reads factors off images; a true model is one, an independent evaluator is another."""

    @abstractmethod
    def read(self, images: Tensor) -> Tensor:
        """Factors ``[B, K]`` of images ``[B, C, H, W]`` in [-1, 1]; never NaN."""


class StructuralModel(Protocol):
    """A structural causal model over the factors of a graph, invertible in its exogenous noise.

    Factors are ``[B, K]`` in [0, 1] units; exogenous values and codes are ``[B, E]``.
    """

    graph: CausalGraph

    def loss(self, factors: Tensor, marks: Marks | None = None) -> dict[str, Tensor]:
        """Terms to minimise, scalars by name; without the mechanisms that ``marks`` leave out."""

    def log_prob(self, factors: Tensor) -> Tensor:
        """Per factor ``log p(z_k | pa_k)``, ``[B, K]``: densities, or log probabilities."""

    def refine(
        self,
        code: Tensor,
        variance: Tensor,
        contamination: float = ...,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Factors of an uncertain reading, given by its code's mean and variance ``[B, E]``; drawn
        where there is ``noise`` ``[B, K]``."""

    def abduct(self, factors: Tensor, keys: Tensor | None = None) -> Tensor:
        """Exogenous values that explain the factors; what is drawn is drawn by the images' keys."""

    def draw(self, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of which nothing is known, and their exogenous values; set as by ``predict``."""

    def predict(self, factors: Tensor, exogenous: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Counterfactual factors where ``values`` are set as ``mask`` ``[B, K]`` (bool) says."""


def mechanism_terms(
    nscm: StructuralModel, factors: Tensor, marks: Marks | None
) -> dict[str, Tensor]:
    """The model's loss; one that knows no marks serves wherever there are none."""
    return nscm.loss(factors) if marks is None else nscm.loss(factors, marks)


@runtime_checkable
class TrueModel(Reader, Protocol):
    """The true mechanisms behind a dataset, and an analytic read-out of its images, the *ruler*.

    So the right factors of a counterfactual are known, and are measured without a network. Factors
    are ``[B, K]`` in the graph's [0, 1] units and column order; images are ``[B, C, S, S]`` in
    [-1, 1]. Every method is batched and stays on its arguments' device. A :class:`Scene` draws the
    images as well; nobody can draw what somebody's hand wrote.

    Attributes:
        graph: the true causal graph.
        identified: whether factors alone determine every counterfactual. Where they do not (binary
            factors with random mechanisms), ``counterfactual`` gives the probability of 1.
    """

    graph: CausalGraph
    identified: bool = True

    @abstractmethod
    def counterfactual(self, factors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Abduct the true exogenous noise of ``[B, K]`` factors, act, predict ``[B, K]``.

        Factors in ``mask`` (bool, sample by sample) are set to ``values``, which are read only
        there; those that are no descendants of a set one equal the factual ones bit for bit.
        """

    @abstractmethod
    def read(self, images: Tensor) -> Tensor:
        """Measure the factors of ``[B, C, S, S]`` images: float32 ``[B, K]``.

        Values a little outside [0, 1] are possible, since nothing is clamped; a factor that leaves
        no trace in the image reads 0. Never NaN.
        """

    def reading_error(self, image_size: int) -> dict[str, float]:
        """Mean absolute error of :meth:`read` on images whose factors are known, by factor in units
        of its range (of a categorical factor: the share misread); empty where not measured."""
        return {}

    @abstractmethod
    def visible(self, factors: Tensor) -> Tensor:
        """``[B]`` bool: whether an image can show ``[B, K]`` factors so that they can be read."""


@runtime_checkable
class Scene(TrueModel, Protocol):
    """A synthetic world: a :class:`TrueModel` that also draws its images, in colour.

    So the exact counterfactual image exists. :meth:`read` is exact on renders of :meth:`visible`
    factors, which are drawn wholly inside the picture.

    Attributes:
        noise_names: columns of what a picture shows beyond its factors; every counterfactual keeps
            it.
        image_sizes: sides that can be drawn.
    """

    noise_names: tuple[str, ...] = ()
    image_sizes: tuple[int, ...] = (32, 64, 96, 128)

    def checked_size(self, image_size: int) -> int:
        """``image_size`` itself; ValueError when it is none of ``image_sizes``."""
        if image_size not in self.image_sizes:
            sizes = ", ".join(map(str, self.image_sizes))
            raise SettingsError(f"image_size {image_size} is not drawn: use one of {sizes}.")
        return image_size

    @abstractmethod
    def render(self, factors: Tensor, image_size: int, noise: Tensor | None = None) -> Tensor:
        """Draw ``[B, K]`` factors as float32 ``[B, 3, image_size, image_size]`` in [-1, 1].

        ``noise`` is ``[B, len(noise_names)]``, in the scene's own units; None draws a typical one.
        """
