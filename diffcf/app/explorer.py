"""What all tabs of an explorer share: the model, the images it offers, the thread it answers on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from diffcf.api import Model
from diffcf.app.gallery import Subject
from diffcf.app.inference import InferenceThread
from diffcf.app.link import Link
from diffcf.causal import image_keys
from diffcf.io import DataError, ImageTransform
from diffcf.methods import sampling_to_spec, weights_digest


@dataclass(frozen=True)
class Explorer:
    """What all tabs share."""

    name: str  # of the model, for people
    model: Model
    subjects: list[Subject]  # to pick from
    transform: ImageTransform  # of uploads
    thread: InferenceThread = field(default_factory=InferenceThread)  # all networks run on it
    seed: int = 0  # of all noise, unless a visitor takes another

    @cached_property
    def fingerprint(self) -> str:
        """Stands for the model and how it draws: another would answer otherwise."""
        spec = weights_digest(self.model.module), sampling_to_spec(self.model.sampling)
        return hashlib.sha256(repr(spec).encode()).hexdigest()[:12]

    @cached_property
    def places(self) -> dict[str, int]:
        """Of the images offered, by their keys."""
        return {image_key(subject): place for place, subject in enumerate(self.subjects)}

    def place_of(self, link: Link) -> int:
        """Where the image of a link is; DataError where its answer cannot be given here."""
        if link.model not in (None, self.fingerprint):
            raise DataError(
                f"This link is of another model than {self.name} as it is served here: "
                "open it where it was made."
            )
        if link.image is None:
            return 0
        if link.image not in self.places:
            raise DataError(
                "The image of this link is none of those offered here: serve the same data, or the "
                "same folder by --images."
            )
        return self.places[link.image]


def image_key(subject: Subject) -> str:
    """Stands for what an image shows."""
    return f"{int(image_keys(subject.image[None])) % 2**64:016x}"
