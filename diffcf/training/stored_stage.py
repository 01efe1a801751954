"""The first stage of a run that goes on from a checkpoint, which holds it whole."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from diffcf.io import SPEC_KEY
from diffcf.methods import read_trained
from diffcf.networks.first_stage import FILES


def settle_first_stage(config: Namespace) -> None:
    """Take the first stage's weights from the checkpoint, where there is one, not from files.

    So its files are needed for training only. Settings that the config leaves out and that the
    files had told (the architecture of a folder) are the checkpoint's, too.
    """
    stage = config.model.get("init_args", Namespace()).get("first_stage")
    if stage is None or not config.get("ckpt_path"):
        return
    spec = read_trained(Path(config.ckpt_path)).get(SPEC_KEY) or {}
    stored = spec.get("networks", {}).get("first_stage", {}).get("init_args", {})
    own = stage.get("init_args") or Namespace()
    for name, value in vars(own).items():
        if name in FILES:
            own[name] = False if name == "download" else None
        elif value is None and name in stored:
            own[name] = stored[name]
