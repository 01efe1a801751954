"""Compiled training steps and networks: torch.compile, decided once for the device at hand.

A step launches thousands of small operations. Compiled, they become a few kernels, on a card
recorded as one CUDA graph that the host launches at once. Shapes are static; the few kinds of a
step (head start or not, a last smaller batch) are compiled one by one when they first come.

Nothing that is stored depends on it: checkpoints and weights are the same with and without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from diffcf.io import SettingsError

Compile = bool | Literal["auto"]
F = TypeVar("F", bound=Callable[..., Any])


class Compilation:
    """What is compiled, if anything is.

    Args:
        wanted: whether to compile; "auto" does on a card, where there is a compiler.
    """

    def __init__(self, wanted: Compile = "auto") -> None:
        self.wanted = wanted
        self.active = False
        self._mode: str | None = None
        self._made: dict[tuple[int, str], Any] = {}
        self._shown = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Compilation:
        """Anew: compiled functions belong to the networks that they were made of."""
        return Compilation(self.wanted)

    def start(self, device: torch.device) -> None:
        """Decide for a device.

        Raises:
            SettingsError: when it is wanted and there is no compiler.
        """
        card = device.type == "cuda"
        self.active = bool(card if self.wanted == "auto" else self.wanted)
        if not self.active:
            return
        self._mode = "reduce-overhead" if card else None
        if problem := _missing(card):
            if self.wanted is True:
                raise SettingsError(f"compile: true needs {problem}: install it, or set it false.")
            rank_zero_warn(f"Steps are not compiled, which needs {problem}.")
            self.active = False

    def __call__(self, function: F) -> F:
        """The function or network, compiled if it is to be; the same one each time."""
        if not self.active:
            return function
        owner = getattr(function, "__self__", function)
        key = (id(owner), getattr(function, "__name__", ""))
        if key not in self._made:
            self._made[key] = torch.compile(function, dynamic=False, mode=self._mode)
        return cast(F, self._made[key])

    def begin_step(self) -> None:
        """Tell recorded graphs that what they returned in the last step is no longer needed."""
        if self.active and self._mode is not None:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def show(self, step: int) -> None:
        """Say at which step something was compiled, and how often by now."""
        if not self.active:
            return
        count = graphs()
        if count != self._shown:
            rank_zero_info(f"Step {step}: {count} graphs compiled.")
            self._shown = count


def graphs() -> int:
    """Graphs that this process has compiled."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _missing(card: bool) -> str | None:
    """What a compiler needs and is not here, or None."""
    if card:
        return None if torch.utils._triton.has_triton() else "Triton, for the card's kernels"
    try:
        torch._inductor.cpp_builder.get_cpp_compiler()
    except Exception as error:  # the class moves between versions of torch
        if "compiler" not in str(error).lower():
            raise
        return "a C++ compiler, such as g++"
    return None
