"""Random changes of nested values, as hypothesis draws them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["FUZZ", "mutated", "odd_values"]

FUZZ = settings(
    max_examples=60,
    derandomize=True,  # the same examples every time, so that a change alone can break a build
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=8),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from([[], {}, "", 0, 1e308, -1e308, 10**400, "a" * 5000, [[[]]], {1: 2}]),
)


@st.composite
def mutated(draw: st.DrawFn, value: Any, times: int = 3) -> Any:
    """A copy of ``value`` in which up to ``times`` places were replaced, removed or doubled."""
    copied = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, times))):
        copied = _once(draw, copied)
    return copied


def _once(draw: st.DrawFn, value: Any) -> Any:
    places = list(_places(value))
    if not places:
        return copy.deepcopy(draw(odd_values))
    holder, key = draw(st.sampled_from(places))
    action = draw(st.sampled_from(["replace", "remove", "rename", "double"]))
    if action == "replace":
        holder[key] = copy.deepcopy(draw(odd_values))  # what is drawn may be shared
    elif action == "remove":
        del holder[key]
    elif isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        kept = holder.pop(key) if action == "rename" else copy.deepcopy(holder[key])
        holder[draw(st.one_of(st.text(max_size=6), st.integers(0, 5)))] = kept
    return value


def _places(value: Any) -> Any:
    """Every place inside: whatever holds something, and its key or index."""
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in list(entries):
            yield value, key
            yield from _places(entry)
