"""Errors that a user can mend, each with a message of one sentence.

``diffcf`` prints the sentence of a :class:`DiffcfError` and ends with status 2; anything else is a
fault of ours and shows its traceback.
"""

from __future__ import annotations


class DiffcfError(Exception):
    """The user's input or machine is at fault; the message names the thing and the remedy."""


class GraphError(DiffcfError, ValueError):
    """The graph's description is wrong, or something does not fit the graph."""


class InterventionError(DiffcfError, ValueError):
    """The intervention does not fit the graph or the batch."""


class DataError(DiffcfError, ValueError):
    """Images, tables or other files to read are missing or wrong."""


class CheckpointError(DiffcfError, ValueError):
    """The checkpoint is missing, unreadable, not one of ours, or belongs to another graph."""


class ResultsError(DiffcfError, ValueError):
    """Results are missing, not ours, or cannot stand in one table."""


class SettingsError(DiffcfError, ValueError):
    """Settings are missing, out of range, or contradict each other, the graph or the data."""


class OutputError(DiffcfError, OSError):
    """A file or folder cannot be written, or would replace something that must stay."""


class UnavailableError(DiffcfError, RuntimeError):
    """This machine lacks what was asked for: a package, a network's weights, a service."""


def first_difference(error: RuntimeError) -> str:
    """The first line in which torch says which weights do not fit, of 200 characters at most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)][:200]


class DivergenceError(DiffcfError, FloatingPointError):
    """A loss is no longer finite; the message names the term and the step."""
