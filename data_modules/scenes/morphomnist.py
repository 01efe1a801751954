r"""The true model of Morpho-MNIST as Deep SCM has it: thickness drives a digit's intensity.

.. math:: t = 0.5 + \epsilon_t,\quad \epsilon_t \sim \Gamma(10, 5), \qquad
    i = 191\,\sigma(0.5\,\epsilon_i + 2t - 5) + 64,\quad \epsilon_i \sim N(0, 1),

with thickness t in pixels and intensity i in grey levels; digits are morphed to both, whatever they
are. So thickness and intensity determine :math:`\epsilon_i`, hence every counterfactual. Pictures
have a hand's writing, which nobody can draw: this is a true model with a ruler, and no scene.

Source: Pawlowski, Castro & Glocker, Deep Structural Causal Models for Tractable Counterfactual
Inference, NeurIPS 2020, https://arxiv.org/abs/2006.06485, section 4.1 and appendix B.1.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from data_modules.scenes.strokes import StrokeRuler, check_library
from diffcf.causal import CausalGraph, TrueModel
from diffcf.io import DataError, from_bytes

DARKEST, SPAN, NOISE_SCALE, SLOPE, SHIFT = 64.0, 191.0, 0.5, 2.0, 5.0
EDGE = 1e-6  # share of the span: where the sigmoid saturates, its noise is not known any more
SLACK = 1e-4  # of a range, for rounding
LEAST = 8  # images that a ruler is made of


def published_intensity(thickness: Tensor, noise: Tensor) -> Tensor:
    """Intensity in grey levels, of thickness in pixels and standard normal noise."""
    return DARKEST + SPAN * torch.sigmoid(NOISE_SCALE * noise + SLOPE * thickness - SHIFT)


def abducted_noise(thickness: Tensor, intensity: Tensor) -> Tensor:
    """The noise that :func:`published_intensity` makes of it: standard normal in published data."""
    return (_logit(intensity) - SLOPE * thickness + SHIFT) / NOISE_SCALE


def _logit(intensity: Tensor) -> Tensor:
    return ((intensity - DARKEST) / SPAN).clamp(EDGE, 1 - EDGE).logit()


class MorphoMNIST(TrueModel):
    """Published mechanism of the factors ``thickness`` and ``intensity``, and a ruler of strokes.

    Another factor, ``digit``, has neither cause nor effect. The ruler reads nothing before
    :meth:`calibrate`; it is made at the first reading.

    Args:
        graph: its factors count; which causes which is the published model's.

    Raises:
        UnavailableError: without the library that measures strokes.
    """

    def __init__(self, graph: CausalGraph) -> None:
        check_library()
        self.graph = CausalGraph(graph.factors, [("thickness", "intensity")])
        self._known: tuple[Tensor, Tensor] | None = None

    def calibrate(self, images: Tensor, factors: Tensor) -> None:
        """Take images, uint8 ``[N, 1, S, S]``, in random order, and factors ``[N, K]`` for a ruler.

        It is made of the first three fifths, and the others say how far it errs. They should be
        training images: those that are measured must not have a part in it. DataError for fewer
        than 8.
        """
        if len(images) < LEAST:
            raise DataError(
                f"A ruler is made of {LEAST} training images or more, and there are {len(images)}: "
                "give more, or set mechanism to null."
            )
        self._known = images, factors
        self.__dict__.pop("_calibrated", None)

    @cached_property
    def _calibrated(self) -> tuple[StrokeRuler, Tensor]:
        """The ruler, and its mean errors ``[K]`` on images that it was not made of."""
        if self._known is None:
            raise DataError("The ruler knows no images yet: set the data module up first.")
        images, factors = from_bytes(self._known[0]), self._known[1]
        count = 3 * len(images) // 5
        known = dict(zip(self.graph.names, factors[:count].unbind(1), strict=True))
        ruler = StrokeRuler(images[:count], known)
        error = (self._columns(ruler, images[count:]) - factors[count:]).abs()
        misread = (error > SLACK).to(error)
        return ruler, torch.where(self.graph.categorical, misread, error).mean(dim=0)

    def _columns(self, ruler: StrokeRuler, images: Tensor) -> Tensor:
        read = ruler.read(images)
        return torch.stack([read[name] for name in self.graph.names], dim=1).nan_to_num(nan=0.0)

    def read(self, images: Tensor) -> Tensor:
        """See :meth:`TrueModel.read`; an image without a stroke reads 0 throughout."""
        return self._columns(self._calibrated[0], images).to(images.device)

    def reading_error(self, image_size: int) -> dict[str, float]:
        """See :meth:`TrueModel.reading_error`; of training images that the ruler was not made of,
        so without what counterfactual images are beyond these."""
        return dict(zip(self.graph.names, self._calibrated[1].tolist(), strict=True))

    def counterfactual(self, factors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """See :meth:`TrueModel.counterfactual`."""
        acted = torch.where(mask, values, factors)
        cause, effect = (self.graph.column(name) for name in ("thickness", "intensity"))
        old, new = self.graph.to_native(factors), self.graph.to_native(acted)
        # Abduction and prediction in one: the noise is the same before and after.
        moved = _logit(old[:, effect]) + SLOPE * (new[:, cause] - old[:, cause])
        intensity = DARKEST + SPAN * moved.sigmoid()
        predicted = self.graph.factors[effect].to_scaled(intensity)
        follows = mask[:, cause] & ~mask[:, effect]
        acted[:, effect] = torch.where(follows, predicted, acted[:, effect])
        return acted

    def visible(self, factors: Tensor) -> Tensor:
        """``[B]`` bool: all factors in range."""
        return ((factors >= -SLACK) & (factors <= 1 + SLACK)).all(dim=1)
