"""A trained method that answers questions about images, and what it takes and gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from diffcf import reporting  # what is in it on demand
from diffcf.api.answer import AbductedImages, Answer
from diffcf.causal import (
    NSCM,
    Do,
    Intervention,
    Units,
    extrapolated,
    image_keys,
    row_keys,
    scaled_do,
    scaled_factors,
)
from diffcf.evaluation import (
    Audit,
    Classifier,
    asked_contrast,
    audit_scores,
    default_contrasts,
    summarise,
)
from diffcf.io import DataError, ImageTransform, SettingsError, decode, from_bytes, uncrop
from diffcf.methods import (
    STEPS,
    CounterfactualEngine,
    CounterfactualModule,
    DrawnImages,
    Sampling,
    check_image,
    draw_images,
)


class Model:
    """A trained method that answers; made by :func:`diffcf.api.load`."""

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

        What it reads beyond a factor's range is clipped to it. ValueError for broken images, and
        methods that read nothing.
        """
        if not self.module.reads:
            raise SettingsError(f"{type(self.module).__name__} reads no factors off images.")
        check_image(images)
        with torch.no_grad():
            code = self.module.read(images.to(self.device))
        return self.in_units(self.graph.clip(self.graph.decode(code))[0], units)

    def extrapolated(self, factual: Tensor, target: Tensor, is_set: Tensor) -> Tensor:
        """Which factors are set to what their causes hardly ever come with, bool ``[B, K]``.

        By the causal model (:func:`diffcf.causal.extrapolated`), factors in [0, 1] units; none of a
        method without one.
        """
        nscm = getattr(self.module, "nscm", None)
        if not isinstance(nscm, NSCM):
            return torch.zeros_like(is_set)
        return extrapolated(nscm, factual, target, is_set)

    def abduct(
        self,
        images: Tensor,
        factors: Tensor | None = None,
        units: Units = "scaled",
        seed: int = 0,
    ) -> AbductedImages:
        """Infer once what stays the same under any number of interventions.

        Args:
            images: ``[B, C, H, W]`` in [-1, 1].
            factors: ``[B, K]`` in ``units`` where they are observed; NaN where one is not, and the
                model reads it; None has the model read all.
            seed: of the exogenous noise of discrete factors, which is drawn: a function of seed
                and image, the same in any batch, process and order.

        Raises:
            InterventionError: for observed factors beyond their range.
            ValueError: for broken images, and where the model reads no factors and some are not
                observed.
        """
        if factors is not None:
            factors = scaled_factors(factors, self.graph, units).to(self.device)
            factors = self._completed(images, factors)
        check_image(images)
        images = images.to(self.device)
        keys = None if images.dim() != 4 else image_keys(images, seed)
        world = self.method.abduct(images, factors, keys)
        # Whatever the method makes of them, its answers can say what its data do not teach.
        return AbductedImages(self, replace(world, ties=self.module.untaught, keys=keys))

    def _completed(self, images: Tensor, factors: Tensor) -> Tensor:
        """Factors ``[B, K]`` in [0, 1] units, read where they are NaN."""
        missing = factors.isnan()
        # The engine does it by itself, and better: what is observed refines what is read.
        if not missing.any() or (
            isinstance(self.method, CounterfactualEngine) and self.module.reads
        ):
            return factors
        if not self.module.reads:
            names = ", ".join(compress(self.graph.names, missing.any(dim=0).tolist()))
            raise ValueError(
                f"{type(self.module).__name__} reads no factors off images: give it {names} of "
                "every image."
            )
        return self._seen(images, factors)

    def _seen(self, images: Tensor, factors: Tensor | None) -> Tensor:
        """Factors ``[B, K]`` in [0, 1] units, read where nobody gave them."""
        if factors is None:
            return self.read(images).cpu()
        missing = factors.isnan()
        if not missing.any():
            return factors
        return torch.where(missing, self.read(images).to(factors), factors)

    def counterfactual(
        self,
        images: Tensor,
        do: Do,
        factors: Tensor | None = None,
        units: Units = "scaled",
        seed: int = 0,
    ) -> Answer:
        """What images would have looked like under ``do``.

        Args:
            images, factors, seed: see :meth:`abduct`.
            do: factor name → number, category, or ``[B]`` numbers; or what differs from image to
                image (:mod:`diffcf.causal.changes`), such as ``Shift(0.2)``, also as text:
                ``"+=0.2"``, ``"~uniform:0.2:0.4"``.
            units: of ``do``, of ``factors`` and of the answer.

        Raises:
            GraphError: for an unknown factor or category.
            InterventionError: for a value out of range.
            ValueError: for broken images.
        """
        return self.abduct(images, factors, units, seed).predict(do, units)

    def sample(
        self,
        count: int,
        do: Do | None = None,
        units: Units = "scaled",
        seed: int = 0,
        steps: int = STEPS,
        size: int | None = None,
        start: int = 0,
    ) -> DrawnImages:
        """New images of P(x), or of P(x | do(…)), with no factual (:mod:`diffcf.methods.drawing`).

        Args:
            count: how many.
            do, units: as :meth:`counterfactual`, values and distributions; None sets nothing.
            seed: of all noise. Rows of one seed under two interventions share their noise: they
                show one world under both.
            steps: evaluations of the generator.
            size: side in pixels, where it is not as in training.
            start: number of the first row, for more rows of the same seed.

        Raises:
            GraphError, InterventionError: as :meth:`counterfactual`.
            SettingsError: for a method that draws no new images.
        """
        form = self.image_transform(size)
        keys = row_keys(torch.arange(start, start + count, device=self.device), seed)
        asked = scaled_do(do or {}, self.graph, units)
        intervention = Intervention.from_do(asked, self.graph, count, self.device, keys=keys)
        drawn = draw_images(
            self.method,
            (form.channels, form.size, form.size),
            keys,
            intervention,
            steps,
            self.module.roots,
        )
        return replace(drawn, factors=self.in_units(drawn.factors, units))

    def audit(
        self,
        classifier: Classifier | Callable[[Tensor], Tensor],
        images: Tensor,
        factors: Tensor | None = None,
        do: Do | None = None,
        versus: Do | None = None,
        names: Sequence[str] | None = None,
        strata: Sequence[str] = (),
        units: Units = "scaled",
        threshold: float = 0.5,
        batch_size: int = 32,
        seed: int = 0,
    ) -> Audit:
        """What factors do to the scores of a classifier, by counterfactuals of images.

        Args:
            classifier: takes images ``[B, C, H, W]`` in [-1, 1] as this model draws them, and gives
                scores ``[B]`` or ``[B, L]``; or one of :func:`diffcf.evaluation.load_classifier`.
            images: ``[N, C, H, W]`` in [-1, 1].
            factors, units: as in :meth:`abduct`.
            do: what is set, for all images alike; None compares two values of each factor
                (:func:`diffcf.evaluation.default_contrasts`).
            versus: what is set instead, in comparison; None takes the images as they are.
            names: without ``do``, of the factors to compare values of; None for all.
            strata: factors within whose groups effects are given besides.
            threshold: from which on a single score decides for 1; of several the largest decides.
            batch_size: how many images are answered at once.
            seed: of the noise of discrete factors, and of the bootstrap.

        Raises:
            GraphError: for an unknown factor or category.
            InterventionError: for a value out of range.
            DataError: for broken images, and a classifier that gives no finite scores.
        """
        if not len(images):
            raise DataError("There is no image to audit: give one or more.")
        for name in strata:
            self.graph.column(name)  # before minutes of drawing
        told = None if factors is None else scaled_factors(factors, self.graph, units)
        starts = range(0, len(images), batch_size)
        parts = [slice(start, start + batch_size) for start in starts]
        batches = [(images[k], None if told is None else told[k]) for k in parts]
        if do is None:
            seen = torch.cat([self._seen(*batch) for batch in batches])
            contrasts, notes = default_contrasts(self.graph, seen, names)
        else:
            asked = (scaled_do(each, self.graph, units) for each in (do, versus or {}))
            contrasts, notes = [asked_contrast(self.graph, *asked)], []
        if not isinstance(classifier, Classifier):
            name = getattr(classifier, "__name__", type(classifier).__name__)
            classifier = Classifier(name, classifier, self.device)
        worlds = (self.abduct(*batch, seed=seed).world for batch in batches)
        found = summarise(audit_scores(worlds, classifier, contrasts), threshold, strata, seed=seed)
        return replace(found, notes=[*notes, *found.notes])

    def image_transform(self, size: int | None = None) -> ImageTransform:
        """What image files become for this model, as in its training; see :meth:`open_images`.

        Weights that do not record it get the largest central square, with a warning. ``size`` is in
        pixels, where it is not as in training. DataError where the size is not known.
        """
        shape, recorded = self.module.image_shape, self.module.transform
        if size is None and shape is None and recorded is None:
            raise DataError("These weights do not say how large their images were: give --size.")
        if recorded is None:
            warnings.warn(
                "These weights do not record how files became images: the largest central square "
                "is taken. Files should be as they were in training.",
                stacklevel=2,
            )
        channels, _, side = shape or (3, 0, 0)
        known = recorded or ImageTransform(size or side)
        known = replace(known, channels=channels) if shape is not None else known
        return replace(known, size=size or side or known.size)

    def open_images(self, files: Sequence[str | Path], size: int | None = None) -> Tensor:
        """Image files as this model takes them, ``[B, C, S, S]`` in [-1, 1].

        DataError naming a file that cannot be used; ``size`` as in :meth:`image_transform`.
        """
        transform = self.image_transform(size)
        return torch.stack([from_bytes(decode(Path(file), transform)) for file in files])

    def uncrop(self, file: str | Path, image: Tensor) -> Image.Image:
        """The answer ``image`` ``[C, S, S]`` to a file's image, put back into the whole picture.

        See :func:`diffcf.io.uncrop`; DataError for a file that cannot be used.
        """
        (whole,) = uncrop(Path(file), self.image_transform(image.shape[-1]), [image])
        return whole

    def push_to_hub(
        self,
        repo_id: str,
        metrics: str | Path | None = None,
        license: str = "unknown",
        private: bool | None = None,
    ) -> str:
        """Share this model on the Hugging Face Hub as ``hub:owner/name``; its address.

        See :func:`diffcf.reporting.push_to_hub` for arguments and errors.
        """
        model = self.module, self.sampling
        return reporting.push_to_hub(*model, repo_id, metrics, license, private)

    def in_units(self, factors: Tensor, units: Units) -> Tensor:
        """Factors ``[B, K]`` in [0, 1] units, converted to ``units``; integer ones made whole."""
        factors = self.graph.whole(factors)
        return self.graph.to_native(factors) if units == "native" else factors
