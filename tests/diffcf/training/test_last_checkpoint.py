from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffcf.methods.checkpoint import TrainingRecord
from diffcf.training.callbacks.running import WholeFile


def test_a_checkpoint_that_cannot_be_finished_leaves_the_old_one(
    tmp_path: Path, monkeypatch
) -> None:
    path = tmp_path / "last.ckpt"
    WholeFile().save_checkpoint({"step": 1}, path)

    def torn(checkpoint, file) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(KeyboardInterrupt):
        WholeFile().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_training_time_adds_up_over_many_saves() -> None:
    record = TrainingRecord()
    record.start()
    for step in range(2000):
        record.update(step, torch.device("cpu"))
    taken = record.update(2000, torch.device("cpu"))
    again = TrainingRecord(taken)
    assert again.as_dict() == taken and taken["steps"] == 2000
    assert taken["seconds"] > 0.0
