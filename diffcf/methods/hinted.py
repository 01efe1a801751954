"""A method whose answers heed hints, which were given or are found in the training images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn import functional as F

from diffcf.io import SettingsError
from diffcf.methods.checkpoint import Spec
from diffcf.methods.encoded_module import EncodedModule
from diffcf.methods.hint_finding import find_hints, hints_of
from diffcf.methods.hints import Hints, Place

Given: TypeAlias = dict[str, Place] | Literal["auto"] | None
"""Places by factor; ``auto`` finds them, at the start of a training or test, in images in which
somebody set a factor, and takes up what a checkpoint found."""


class HintedModule(EncodedModule):
    """An :class:`EncodedModule` that may know where factors are written."""

    hints: Hints | None = None
    finds_hints = False

    def take_hints(self, given: Given) -> None:
        """Heed these from now on; GraphError, SettingsError, DataError as :class:`Hints`."""
        self.finds_hints |= given == "auto"
        if given and given != "auto":
            self.hints = Hints(self.graph, given)
            self.settings["hints"] = self.hints.to_dict()
            self.hinted = frozenset(self.settings["hints"])

    def heeded(self, factor_dropout: float) -> Hints | None:
        """The hints, by which a generator answers that lacked each factor so often in training.

        SettingsError where it never did, and they would leave it without one.
        """
        if self.hints is None:
            return None
        self.hints.ties = self.ties
        if not factor_dropout and (untold := ", ".join(self.hints.untold())):
            raise SettingsError(
                "The generator was never trained without a factor (factor_dropout 0), and hints "
                f"leave it without {untold} in places: train it with factor_dropout 0.05, or hint "
                "only what goes together with another factor in the data."
            )
        return self.hints

    def _find_hints(self) -> None:
        """Of the data at hand, if they are to be found and say any."""
        data = getattr(self.trainer, "datamodule", None)
        answer = find_hints(self.graph, data) if self.finds_hints and data is not None else None
        if answer is None:
            return
        # Ties tell what goes with a value where nothing was set; where no place was found, that is
        # all that is known, and setting one of the two stays undetermined.
        self.ties, found = answer
        for each in found:
            rank_zero_info(f"{each}.")
        self.take_hints(dict(hints_of(found)))

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self._find_hints()

    def on_test_start(self) -> None:
        super().on_test_start()
        self._find_hints()

    def recall(self, spec: Spec) -> None:
        super().recall(spec)
        settings = spec.get("settings")
        if self.finds_hints and self.hints is None and isinstance(settings, Mapping):
            places: Any = settings.get("hints")
            self.take_hints(places if isinstance(places, dict) else None)

    def written(self, image: Tensor) -> Tensor | None:
        """Where factors are written in what is seen of images, coarsely; None without hints."""
        return None if self.hints is None else self.hints.masks(F.avg_pool2d(image, 2))
