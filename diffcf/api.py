"""Counterfactuals from Python, without a Trainer.

>>> import diffcf
>>> model = diffcf.load("pendulum")                            # doctest: +SKIP
>>> answer = model.counterfactual(images, do={"light": 0.8})   # doctest: +SKIP
>>> abducted = model.abduct(images)                            # doctest: +SKIP
>>> abducted.predict(do={"angle": 0.2}).image                  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Do
from diffcf.io import (
    CheckpointError,
    DataError,
    ImageFormat,
    InterventionError,
    SettingsError,
    device_of,
)
from diffcf.methods import (
    SAMPLING_KEY,
    WEIGHTS_SUFFIX,
    CounterfactualModule,
    Sampling,
    World,
    check_image,
    method_of,
    predict_sequence,
    read_trained,
    sampling_from_spec,
)

Units = Literal["scaled", "native"]
"""``"scaled"``: [0, 1], the ends of each factor's range; ``"native"``: the graph's own."""

WEIGHTS = Path(__file__).parent / "weights"
UNKNOWN = Sampling(steps=8, anchored=True, spacing=1.2)  # where a checkpoint does not say how


@dataclass(frozen=True)
class Answer:
    """A counterfactual.

    Attributes:
        image: ``[B, C, H, W]`` in [-1, 1].
        factors: of the factual, ``[B, K]``, in the units that were asked for.
        target: of the counterfactual by the causal model, likewise.
        exogenous: the causal noise that both share, ``[B, E]``; None of methods without.
    """

    image: Tensor
    factors: Tensor
    target: Tensor
    exogenous: Tensor | None


@dataclass(frozen=True)
class AbductedImages:
    """What stays the same of images under any intervention; see :meth:`Model.abduct`."""

    model: Model
    world: World

    @property
    def factors(self) -> Tensor:
        """Of the factual, ``[B, K]`` in [0, 1] units."""
        return self.world.factors

    def predict(self, do: Do, units: Units = "scaled") -> Answer:
        """The counterfactual under ``do``; see :meth:`Model.counterfactual`."""
        return self.sequence([do], units)[0]

    def sequence(self, dos: Sequence[Do], units: Units = "scaled") -> list[Answer]:
        """Interventions one after another, each upon the image that the last one left."""
        model, world = self.model, self.world
        steps = [world.intervention(_scaled(do, model.graph, units)) for do in dos]
        factors = model.in_units(world.factors, units)
        return [
            Answer(a.image, factors, model.in_units(a.factors, units), world.exogenous)
            for a in predict_sequence(world, steps)
        ]

    def select(self, rows: Sequence[int]) -> AbductedImages:
        """Some of the images, each as often as it is named: many what-ifs of one at once.

        NotImplementedError for methods that cannot.
        """
        chosen = torch.as_tensor(list(rows), device=self.world.image.device)
        return AbductedImages(self.model, self.world.select(chosen))


class Model:
    """A trained method that answers; made by :func:`load`."""

    def __init__(self, module: CounterfactualModule, sampling: Sampling) -> None:
        self.module, self.sampling = module.eval(), sampling
        self.graph, self.method = module.graph, module.method(sampling)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def to(self, device: str | torch.device) -> Model:
        """This model on another device."""
        self.module.to(device)
        return self

    def read(self, images: Tensor, units: Units = "scaled") -> Tensor:
        """Factors ``[B, K]`` that the model reads off images ``[B, C, H, W]`` in [-1, 1].

        ValueError for broken images, and methods that read nothing.
        """
        if not self.module.reads:
            raise SettingsError(f"{type(self.module).__name__} reads no factors off images.")
        check_image(images)
        with torch.no_grad():
            code = self.module.read(images.to(self.device))
        return self.in_units(self.graph.decode(code), units)

    def abduct(
        self, images: Tensor, factors: Tensor | None = None, units: Units = "scaled"
    ) -> AbductedImages:
        """Infer once what stays the same under any number of interventions.

        Args:
            images: ``[B, C, H, W]`` in [-1, 1].
            factors: ``[B, K]`` in ``units`` where they are observed; None has the model read them.
        """
        if factors is not None:
            factors = factors.to(self.device)
            factors = self.graph.to_scaled(factors) if units == "native" else factors
        return AbductedImages(self, self.method.abduct(images.to(self.device), factors))

    def counterfactual(
        self, images: Tensor, do: Do, factors: Tensor | None = None, units: Units = "scaled"
    ) -> Answer:
        """What images would have looked like under ``do``.

        Args:
            images, factors: see :meth:`abduct`.
            do: factor name → number, category, or ``[B]`` numbers.
            units: of ``do``, of ``factors`` and of the answer.

        Raises:
            GraphError: for an unknown factor or category.
            InterventionError: for a value out of range.
            ValueError: for broken images.
        """
        return self.abduct(images, factors, units).predict(do, units)

    def image_form(self, size: int | None = None) -> ImageFormat:
        """How image files are decoded for this model, or DataError where their size is not known.

        ``size`` is in pixels, where it is not as in training.
        """
        shape = self.module.image_shape
        if size is None and shape is None:
            raise DataError("These weights do not say how large their images were: give --size.")
        channels, _, side = shape or (3, 0, 0)
        return ImageFormat(size or side, channels=channels)

    def in_units(self, factors: Tensor, units: Units) -> Tensor:
        """Factors ``[B, K]`` in [0, 1] units, converted to ``units``."""
        return self.graph.to_native(factors) if units == "native" else factors


def load(
    name: str | Path, device: str | torch.device = "cpu", sampling: Sampling | None = None
) -> Model:
    """A model by the name of shipped weights, or from a checkpoint or weights file.

    Args:
        name: one of :func:`shipped`, or a path: ``last.ckpt``, or a ``.safetensors`` file.
        device: where it answers.
        sampling: how to sample; None as the file says.

    Raises:
        CheckpointError: when there is no such file, or it is none of ours.
        UnavailableError: when there is no such device on this machine.
    """
    path = WEIGHTS / f"{name}{WEIGHTS_SUFFIX}" if str(name) in shipped() else Path(name)
    if not path.is_file():
        raise CheckpointError(
            f"There are no weights '{name}': name a checkpoint, or one of {', '.join(shipped())}."
        )
    device = device_of(device)
    checkpoint = read_trained(path, device)
    module, spec = method_of(checkpoint, path, device), checkpoint.get(SAMPLING_KEY)
    try:
        stored = UNKNOWN if spec is None else sampling_from_spec(spec)
    except ValueError as error:
        raise CheckpointError(f"{path} does not say how to draw: {error}") from None
    return Model(module, sampling or stored)


def shipped() -> list[str]:
    """Names of the weights that come with diffcf."""
    return sorted(path.stem for path in WEIGHTS.glob(f"*{WEIGHTS_SUFFIX}"))


def _scaled(do: Do, graph: CausalGraph, units: Units) -> Do:
    """``do`` in [0, 1] units."""
    if units not in ("scaled", "native"):
        raise InterventionError(f"Units are 'scaled' or 'native', not {units!r}.")
    if units == "scaled" or not isinstance(do, Mapping):
        return do
    scaled: dict[str, float | str | Tensor] = dict(do)
    for name, value in do.items():
        factor = graph.factors[graph.column(name)]
        if isinstance(value, str):
            continue
        given = factor.to_scaled(torch.as_tensor(value, dtype=torch.float64))
        outside = (given < -1e-6) | (given > 1 + 1e-6)
        if outside.any():
            raise InterventionError(
                f"do({name}={torch.as_tensor(value).reshape(-1)[0]:.4g}) is outside the factor's "
                f"range, {factor.low:.4g} to {factor.high:.4g}."
            )
        scaled[name] = given.clamp(0, 1).float()
    return scaled
