"""A link to an answer: which model, image, interventions, steps, seed and draws, as an address.

``/?model=4f1c…&image=9a07…&seed=0&do=light%3D1.2&take=1&do=angle%2B%3D0.1&draws=8``. Each ``do``
is a setting (:mod:`diffcf.app.asking`) of the current step, each ``take`` finishes that step. What
a link leaves out is as on a fresh page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from diffcf.app.asking import parse_settings, whole_number
from diffcf.app.inference import Question
from diffcf.causal import CausalGraph
from diffcf.io import DataError, InterventionError, SettingsError, parse_number

MOST_STEPS = 20
"""Steps of a link, each of which is drawn when it is opened."""
MOST_DRAWS = 100
LARGEST_SEED = 2**53
"""Beyond, a browser's numbers are not exact."""


@dataclass(frozen=True)
class Link:
    """What an address says.

    Attributes:
        question: what each step sets.
        taken: how many of its steps were taken; one more at most is set.
        image: key of the image; None for the first.
        model: fingerprint of the model; None for any.
        seed: of all noise; None for the explorer's.
        draws: how many were drawn; None for none.
    """

    question: Question = ()
    taken: int = 0
    image: str | None = None
    model: str | None = None
    seed: int | None = None
    draws: int | None = None

    @classmethod
    def read(cls, items: Sequence[tuple[str, str]], graph: CausalGraph) -> Link:
        """From the parameters of an address, in their order.

        Raises:
            SettingsError: for parameters that no link has.
            GraphError, InterventionError: as :func:`diffcf.app.asking.parse_settings`.
        """
        question, texts = list[dict[str, str]](), list[str]()
        once = dict[str, str]()
        for name, value in items:
            if name == "do":
                texts.append(value)
            elif name == "take":
                question.append(dict(parse_settings(texts, graph)))
                texts = []
            elif name in ("model", "image", "seed", "draws") and name not in once:
                once[name] = value
            else:
                known = "model, image, seed, do, take and draws"
                raise SettingsError(f"This link has {name!r:.40}, of no use there: it has {known}.")
        taken = len(question)
        if not all(question):
            raise InterventionError("This link takes a step that sets nothing.")
        if taken > MOST_STEPS:
            raise SettingsError(f"This link takes {taken} steps, more than {MOST_STEPS}.")
        if pending := parse_settings(texts, graph):
            question.append(dict(pending))
        seed = checked_seed(_number("seed", once["seed"])) if "seed" in once else None
        draws = checked_draws(_number("draws", once["draws"])) if "draws" in once else None
        return cls(tuple(question), taken, once.get("image"), once.get("model"), seed, draws)

    @property
    def address(self) -> str:
        """The path and the parameters, as :meth:`read` has them."""
        items: list[tuple[str, object]] = [
            (name, value)
            for name in ("model", "image", "seed")
            if (value := getattr(self, name)) is not None
        ]
        for place, settings in enumerate(self.question):
            items += [("do", text) for text in settings.values()]
            items += [("take", 1)] if place < self.taken else []
        items += [] if self.draws is None else [("draws", self.draws)]
        return f"/?{urlencode(items)}" if items else "/"


def checked_seed(number: float | None) -> int:
    """A seed; SettingsError for what is none."""
    return whole_number("seed", number, -LARGEST_SEED, LARGEST_SEED)


def checked_draws(number: float | None) -> int:
    """A number of draws; SettingsError for one that the page does not make."""
    return whole_number("number of draws", number, 2, MOST_DRAWS)


def _number(name: str, text: str) -> float:
    try:
        return parse_number(text)
    except DataError as error:
        raise SettingsError(f"This link has {name}={text:.40}: {error}") from None
