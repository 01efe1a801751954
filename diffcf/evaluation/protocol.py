"""What an evaluation asks, and what it uses of a data module.

An :class:`EvaluationProtocol` is data (``experiments/protocols/*.yaml``); a
:class:`diffcf.evaluation.InterventionPlan` holds the interventions that it makes on one set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from diffcf.causal import TrueModel
from diffcf.io import SettingsError, is_whole


class EvaluationData(Protocol):
    """What an evaluation uses of a data module; ``split`` is "train", "val" or "test"."""

    scene: TrueModel | None

    def val_dataloader(self) -> Iterable[Mapping[str, Tensor]]: ...
    def test_dataloader(self) -> Iterable[Mapping[str, Tensor]]: ...
    def size_of(self, split: str, /) -> int: ...
    def factors_of(self, split: str, /) -> Tensor: ...  # [N, K] in [0, 1]
    def noise_of(self, split: str, /) -> Tensor | None: ...  # [N, M]
    def images_of(self, split: str, rows: Tensor, /) -> Tensor: ...  # [B, C, H, W] in [-1, 1]


@dataclass(frozen=True)
class EvaluationProtocol:
    """How counterfactuals are measured.

    Attributes:
        factors: names of the factors that are intervened upon; None for all.
        values: ``"marginal"``: the value another image of the set has; ``"uniform"``: any value.
        do: how factors are set instead, by name, in native units and as ``--do`` has it: a number
            or category, ``+=0.2``, ``*=1.5``, ``~uniform:0.2:0.4``, ``+=0.2 if angle<0.3``.
            Without ``factors``, no others are set. Sequences set values as ever.
        min_change: least distance between the value set and the factual one, for continuous
            factors, as part of the factor's range; where the range is far wider than the data, of
            twice the span of the middle 90% of the set's values. Discrete ones always differ.
        images: how many images are measured; None for all of the set.
        steps: length of the sequences of interventions; 0 for none.
        sequence_images: how many images undergo a sequence.
        cycles: null interventions one upon another, beside the single one; 0 for none.
        cycle_images: how many images undergo the cycles.
        reverse_images: how many images have every intervention undone.
        references: measure the reference methods beside (:mod:`diffcf.evaluation.references`).
        readers: who may read counterfactual images; the tables show the first at hand. ``"ruler"``
            is the true model's analytic read-out, ``"evaluator"`` the independent network.
        fid_images: counterfactual and real images for FID, sFID and KID, the former spread over as
            many factuals as there are (:meth:`InterventionPlan.pictured`); 0 for none.
        fid_real: which images are the real ones: ``"train"``, drawn from the training split, or
            ``"held_out"``: those of the test split that are not measured, so that ``images`` has to
            leave some. Then the distances of as many training images from them stand beside, as
            ``fid_floor`` and so on. These are all of different subjects, of which counterfactuals
            have fewer: compare with ``do_nothing/fid``, of the factuals themselves.
        lpips: measure LPIPS to the exact counterfactual, where its network is on the machine.
        resamples: of the bootstrap.
        seed: of all interventions.

    Raises:
        SettingsError: in one sentence, for a value outside its range.
    """

    factors: list[str] | None = None
    values: Literal["marginal", "uniform"] = "marginal"
    do: dict[str, str | float] | None = None
    min_change: float = 0.05
    images: int | None = None
    steps: int = 5
    sequence_images: int = 32
    cycles: int = 10
    cycle_images: int = 16
    reverse_images: int = 32
    references: bool = True
    readers: tuple[Literal["ruler", "evaluator"], ...] = ("ruler", "evaluator")
    fid_images: int = 0
    fid_real: Literal["train", "held_out"] = "train"
    lpips: bool = False
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        # A YAML file may leave any value null, whatever its type is said to be.
        counts = ("steps", "sequence_images", "cycles", "cycle_images", "reverse_images")
        for name in (*counts, "fid_images", "resamples"):
            if not is_whole(getattr(self, name)) or getattr(self, name) < 0:
                raise SettingsError(
                    f"{name} of a protocol must be a whole number and must not be negative, not "
                    f"{getattr(self, name)!r:.100}."
                )
        if self.fid_images == 1:
            raise SettingsError("fid_images of a protocol is 0 for none, or two and more, not 1.")
        if self.fid_real not in ("train", "held_out"):
            raise SettingsError(
                f"fid_real of a protocol is 'train' or 'held_out', not {self.fid_real!r:.100}."
            )
        if not is_whole(self.seed):
            raise SettingsError(f"seed of a protocol is a whole number, not {self.seed!r:.100}.")
        if self.images is not None and (not is_whole(self.images) or self.images < 1):
            raise SettingsError("images of a protocol must be at least 1; leave it out for all.")
        if not isinstance(self.min_change, int | float) or not 0 <= self.min_change < 0.5:
            raise SettingsError(
                f"min_change must lie in [0, 0.5), not {self.min_change}: a value farther than "
                "half the range from the factual one need not exist."
            )
        if self.factors is not None and not self.factors:
            raise SettingsError("factors of a protocol is empty: name some, or leave it out.")
        if self.do is not None and not self.do:
            raise SettingsError("do of a protocol is empty: say what to set, or leave it out.")
        if unasked := sorted(set(self.do or ()) - set(self.factors or self.do or ())):
            raise SettingsError(
                f"do of a protocol sets {', '.join(unasked)}, which its factors leave out: name "
                "them there too, or leave factors out."
            )
