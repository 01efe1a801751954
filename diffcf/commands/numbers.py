"""Ranges of numbers on the command line, which a parser refuses to leave in one sentence."""

from jsonargparse.typing import restricted_number_type

Side = restricted_number_type("Side", int, [(">=", 1), ("<=", 1024)])
"""Of an image, in pixels; larger ones than are ever trained on would only fill the memory."""
Steps = restricted_number_type("Steps", int, [(">=", 1), ("<=", 10_000)])
"""Of sampling."""
Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])
"""Of random numbers, as numpy takes it."""
