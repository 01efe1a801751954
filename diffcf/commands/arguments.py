"""Arguments that several commands take: ranges of numbers, and what runs a model."""

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt, restricted_number_type

Side = restricted_number_type("Side", int, [(">=", 1), ("<=", 1024)])
"""Of an image, in pixels; larger ones than are ever trained on would only fill the memory."""
Steps = restricted_number_type("Steps", int, [(">=", 1), ("<=", 10_000)])
"""Of sampling."""
Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])
"""Of random numbers, as numpy takes it."""


def add_weights(parser: ArgumentParser, name: str = "weights") -> None:
    """The model to ask, as :func:`diffcf.load` takes it."""
    parser.add_argument(name, type=str, help="Checkpoint, weights file or shipped name.")


def add_batch_size(parser: ArgumentParser, done: str = "answered") -> None:
    """How many images the model works on at once; ``done`` says what it does to them."""
    what = f"Images {done} at once."
    parser.add_argument("--batch_size", type=PositiveInt, default=32, help=what)


def add_device(parser: ArgumentParser) -> None:
    """Where the model works."""
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, …")
