"""How counterfactual images are drawn: settings that belong to no trained model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffcf.causal import CONTAMINATION
from diffcf.diffusion import ChangeFilter, ClassifierFree, Feedback, Guidance, time_grid
from diffcf.io import SettingsError


@dataclass(frozen=True)
class Sampling:
    """How a counterfactual image is sampled; none of it belongs to the trained model.

    Attributes:
        guidance: the rule for λ_t; None for none.
        steps: evaluations of the generator, for inversion and for sampling each.
        t_max: depth of the inversion, in (0, 1]; below 1 the image is only partly drawn anew.
        conditional: whether the generator is conditioned on the factors; else guidance alone has
            to change the image.
        free: classifier-free guidance; None for plain conditioning. Inversion uses plain
            conditioning, for it has to find the noise of the factual image; where it is anchored,
            and guidance is not from the factual, the guided denoiser itself.
        feedback: correction of the condition by what the projector reads on the way; None for
            none. It needs ``anchored``, whose path tells the projector's error on the factual.
        mechanisms: whether effects follow their causes; else only what is set changes (ablation).
        anchored: whether the errors of inversion, found along the factual's path, are corrected on
            the counterfactual's path too (:mod:`diffcf.diffusion.sampling`).
        residual: whether what the factual loses when it is drawn itself is given back where the
            answer shows what that drawing does: the other way to keep the null intervention exact,
            for guidance that an anchor would undo. It takes a drawing more for each abduction.
        change_filter: a filter of the change along the factual's edges
            (:mod:`diffcf.diffusion.change_filter`), which keeps the outlines of what is recoloured;
            None for none.
        order: of the solver, 1 (DDIM) or 2.
        spacing: of the times, see :func:`diffcf.diffusion.sampling.time_grid`.
        contamination: probability that a factor does not follow its mechanism, in [0, 1]; where
            factors are read off an image, it says how far the causal model may correct the reading
            (:mod:`diffcf.causal.refinement`). 1 leaves the reading as it is.
        undetermined: what becomes of a change that the training data do not teach
            (:mod:`diffcf.causal.ties`): "keep" draws the factual's factor in its place, "draw"
            whatever the networks make of it. Answers name it either way.

    Raises:
        SettingsError: for settings out of range, or that exclude each other.
    """

    guidance: Guidance | None = None
    steps: int = 30
    t_max: float = 1.0
    conditional: bool = True
    free: ClassifierFree | None = None
    feedback: Feedback | None = None
    mechanisms: bool = True
    anchored: bool = False
    residual: bool = False
    change_filter: ChangeFilter | None = None
    order: int = 1
    spacing: float = 1.0
    contamination: float = CONTAMINATION
    undetermined: Literal["keep", "draw"] = "keep"

    def __post_init__(self) -> None:
        time_grid(self.steps, self.t_max, self.spacing)
        if self.order not in (1, 2):
            raise SettingsError(f"Sampling is of order 1 or 2, not {self.order}.")
        if not 0.0 <= self.contamination <= 1.0:
            message = f"The contamination of sampling is a probability, not {self.contamination}."
            raise SettingsError(message)
        if self.undetermined not in ("keep", "draw"):
            raise SettingsError(
                f"undetermined of sampling is keep or draw, not {self.undetermined!r:.100}."
            )
        apart = self.free is not None and self.free.kept is not None
        if self.anchored and apart:
            raise SettingsError(
                "Anchored sampling needs the denoiser that inverted the image, which was told of "
                "nothing to keep: leave kept of free out, or set anchored to false."
            )
        if self.residual and (self.anchored or apart):
            raise SettingsError(
                "A residual is given back where nothing corrects the path, and of the drawing that "
                "all answers share: set anchored to false and leave kept of free out, or set "
                "residual to false."
            )
        if self.adaptive and not (self.anchored and self.conditional):
            raise SettingsError(
                "Adaptive free guidance goes by readings of the factual's path: set anchored and "
                "conditional to true, or adaptive of free to false."
            )
        if self.feedback is not None and not (self.anchored and self.conditional):
            raise SettingsError(
                "Feedback corrects what the generator is told, by readings of the factual's path: "
                "set anchored and conditional to true, or leave feedback out."
            )

    @property
    def unconditional(self) -> bool:
        """Whether the generator is asked what it draws without its condition."""
        return not self.conditional or (self.free is not None and not self.free.from_factual)

    @property
    def adaptive(self) -> bool:
        """Whether the weight of classifier-free guidance goes by what the projector reads."""
        return self.free is not None and self.free.adaptive

    def reads_at(self, time: float) -> bool:
        """Whether what the projector reads in x_t at this time changes how it is drawn."""
        rules = (self.guidance, self.feedback, self.free if self.adaptive else None)
        return time > 0.0 and any(rule is not None and rule.covers(time) for rule in rules)
