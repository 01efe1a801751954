"""Where weights lie: with diffcf, in a folder of yours, at a path, or on the Hugging Face Hub.

A wheel has the cards of the shipped weights and not the weights, which are far larger than the
code. Nothing is fetched unless its name begins with ``hub:``.
"""

from __future__ import annotations

import os
from pathlib import Path

from diffcf.io import HUB, CheckpointError, SettingsError, download
from diffcf.methods.checkpoint import WEIGHTS_SUFFIX

WEIGHTS = Path(__file__).parents[1] / "weights"
FOLDER = "DIFFCF_WEIGHTS"
"""The environment variable that names a folder of further weights, looked in first."""


def shipped() -> list[str]:
    """Names of the weights that lie in the folder ``DIFFCF_WEIGHTS`` or come with diffcf.

    SettingsError when ``DIFFCF_WEIGHTS`` names no folder.
    """
    return sorted({path.stem for path in _found()})


def find_weights(name: str | Path) -> Path:
    """The file of weights called ``name``: one of :func:`shipped`, ``hub:owner/name``, or a path.

    Raises:
        CheckpointError: when there is no such file; :func:`diffcf.io.hub.download` has the others.
        SettingsError: as :func:`shipped`.
    """
    if str(name).startswith(HUB):
        return download(str(name).removeprefix(HUB))
    here = {path.stem: path for path in reversed(_found())}
    path = here.get(str(name), Path(name))
    if path.is_file():
        return path
    if str(name) in {card.stem for card in WEIGHTS.glob("*.md")}:
        raise CheckpointError(
            f"The weights '{name}' are not in this installation, as a wheel leaves them out: take "
            f"{name}{WEIGHTS_SUFFIX} from diffcf/weights of the repository, and name the folder "
            f"that you keep it in by {FOLDER}."
        )
    known = f", or one of {', '.join(sorted(here))}" if here else ""
    raise CheckpointError(f"There are no weights '{name}': name a checkpoint{known}.")


def _found() -> list[Path]:
    """Weights files in the folder of the environment, then those that come with diffcf."""
    folders = [WEIGHTS]
    if own := os.environ.get(FOLDER):
        if not Path(own).is_dir():
            raise SettingsError(f"{FOLDER} names {own}, which is no folder: correct or unset it.")
        folders.insert(0, Path(own))
    return [path for folder in folders for path in sorted(folder.glob(f"*{WEIGHTS_SUFFIX}"))]
