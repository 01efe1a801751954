"""FSDP: parameters, gradients and optimiser states spread over the processes.

For generators that do not fit one card. The networks are sharded one by one with FSDP2
(``torch.distributed.fsdp.fully_shard``) under Lightning's ``ModelParallelStrategy``, see
``experiments/trainer/fsdp.yaml``. Lightning's weight averaging does not work on shards: leave
``EMAWeightAveraging`` out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from diffcf.module import DiffusionCounterfactuals

__all__ = ["ShardedDiffusionCounterfactuals"]


class ShardedDiffusionCounterfactuals(DiffusionCounterfactuals):
    """:class:`DiffusionCounterfactuals` whose networks are sharded over the strategy's mesh."""

    def configure_model(self) -> None:
        if self.device_mesh is None:
            return
        for _, network in self.networks():
            fully_shard(network, mesh=self.device_mesh["data_parallel"])
        # Parameters are gathered when a module is called; the NSCM is called by other names too.
        for name in ("loss", "abduct", "predict"):
            register_fsdp_forward_method(self.nscm, name)

    def _idle(self) -> Tensor:
        # Unlike DDP, shards do not wait for the gradients of a network that takes no part.
        return torch.zeros((), device=self.device)
