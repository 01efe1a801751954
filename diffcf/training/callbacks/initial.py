"""A callback that starts a training from weights of another one."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from diffcf.io import SettingsError
from diffcf.methods import load_method
from diffcf.training.callbacks.running import checked_module


class InitialWeights(Callback):
    """Starts from the weights of a trained model: to fine-tune it, or to widen its networks.

    Unlike ``--ckpt_path``, which continues a run, only weights are taken; the optimizer, the
    schedule and the step count start anew. Tensors that the trained model does not have stay as
    initialised, and inputs that a layer has in addition start with weight 0, so that the model
    first answers as the trained one does. Checkpoints record what they started from. A resumed run
    goes on from its own checkpoint.

    Args:
        path: checkpoint, or weights file.

    Raises:
        CheckpointError: at fit, when the file holds no trained model.
        SettingsError: at fit, when its graph, or the form of one of its tensors, is another.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.ckpt_path is not None:
            return
        module, trained = checked_module(pl_module, self), load_method(self.path)
        if trained.graph != module.graph:
            raise SettingsError(
                f"The weights of {self.path} belong to another graph, {trained.graph}; this model "
                f"has {module.graph}: start from weights of the same factors."
            )
        ours, theirs = module.state_dict(), trained.state_dict()
        shared = ours.keys() & theirs.keys()
        if not shared:
            raise SettingsError(f"{self.path} holds weights of other networks: none could be used.")
        for name in shared:
            ours[name] = self._fitted(name, theirs[name], ours[name])
        module.load_state_dict(ours)
        module.training_record.start_from(trained.training_record)
        module.training_record.start()
        rank_zero_info(f"Started from {self.path}: {len(shared)} of {len(ours)} tensors.")

    def _fitted(self, name: str, trained: Tensor, ours: Tensor) -> Tensor:
        """The trained tensor, with zeros for further inputs (the second dimension)."""
        if trained.shape == ours.shape:
            return trained.to(ours)
        same = trained.dim() == ours.dim() > 1 and trained.shape[2:] == ours.shape[2:]
        if not same or len(trained) != len(ours) or trained.shape[1] > ours.shape[1]:
            raise SettingsError(
                f"'{name}' is of {tuple(trained.shape)} in {self.path} and of {tuple(ours.shape)} "
                "here: give the networks the sizes they had, or leave out InitialWeights."
            )
        wider = torch.zeros_like(ours)
        wider[:, : trained.shape[1]] = trained
        return wider
