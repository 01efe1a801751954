"""Training with networks that are sharded over processes, for those too large for one card."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from diffcf.io import SettingsError
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals


class ShardedDiffusionCounterfactuals(DiffusionCounterfactuals):
    """:class:`DiffusionCounterfactuals` whose networks are sharded over the strategy's mesh.

    SettingsError for a training by Muon, which takes matrices as a whole.
    """

    def _check_muon(self, rates: Mapping[str, float]) -> dict[str, float]:
        if rates:
            raise SettingsError(
                "Muon takes matrices as a whole, of which sharded networks have parts: leave muon "
                "out (--model.muon null), or train whole networks by DDP."
            )
        return {}

    def configure_model(self) -> None:
        if self.device_mesh is None:
            return
        for _, network in self.networks():
            fully_shard(network, mesh=self.device_mesh["data_parallel"])
        # Parameters are gathered when a module is called; the NSCM is called by other names too.
        methods = [("nscm", name) for name in ("loss", "refine", "abduct", "predict")]
        for owner, name in [*methods, ("generator", "encode_style")]:
            register_fsdp_forward_method(self.get_submodule(owner), name)

    def _idle(self, name: str) -> Tensor:
        # Unlike DDP, shards do not wait for the gradients of a network that takes no part.
        return torch.zeros((), device=self.device)
