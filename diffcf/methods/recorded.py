"""A LightningModule whose checkpoints say what it is, and what it was trained on.

From such a checkpoint, or a weights file, :func:`diffcf.methods.load_method` restores it without
any config.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule

from diffcf.causal import CausalGraph, RootQuantiles, Ties, quantiles_of_data, ties_of_data
from diffcf.io import SPEC_KEY, CheckpointError, ImageTransform, first_difference, path_of
from diffcf.methods.checkpoint import (
    Spec,
    TrainingRecord,
    roots_of,
    spec_of,
    ties_of,
    transform_of,
    transform_of_data,
)
from diffcf.methods.memory_format import in_format
from diffcf.networks import NetworkFactory, NetworkSpec, network_spec

GraphOrSpec = CausalGraph | Spec
"""A causal graph, or its description (:meth:`CausalGraph.to_dict`)."""


class RecordedModule(LightningModule):
    """Networks over one causal graph, and the record of them that goes into checkpoints.

    Args:
        graph, networks, settings, channels_last: see :class:`CounterfactualModule`.

    Attributes:
        spec: descriptions of the networks, by name.
        image_shape: ``(C, H, W)`` of the images it was trained on.
        data_spec: ``class_path`` and ``init_args`` of their data module.
        transform: how files became these images.
        ties: what their factors do not tell apart; None where that is not known.
        roots: how their causes are distributed; None where that is not known.
        breaks_functions: whether training showed effects set against their causes.
    """

    hinted: frozenset[str] = frozenset()  # factors of which it is told where they are written

    def __init__(
        self,
        graph: GraphOrSpec,
        networks: Mapping[str, NetworkFactory | NetworkSpec],
        settings: Spec | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.graph = graph if isinstance(graph, CausalGraph) else CausalGraph.from_dict(graph)
        self.spec: dict[str, NetworkSpec] = {n: network_spec(f) for n, f in networks.items()}
        self.settings = dict(settings or {})
        self.training_record = TrainingRecord()
        self.image_shape: tuple[int, ...] | None = None
        self.data_spec: Spec | None = None
        self.transform: ImageTransform | None = None
        self.ties: Ties | None = None
        self.roots: RootQuantiles | None = None
        self.breaks_functions = False
        self.channels_last = channels_last

    @property
    def untaught(self) -> Ties | None:
        """What the training data leave undetermined of this method's answers; None: not known."""
        # Hints may be given to a model that was trained without them.
        ties = None if self.ties is None else self.ties.without(self.hinted)
        return ties if ties is None or not self.breaks_functions else ties.without_functions()

    def on_fit_start(self) -> None:
        self.training_record.start()
        self.transform = transform_of_data(self.trainer, self.transform)
        data = getattr(self.trainer, "datamodule", None)
        if (ties := ties_of_data(self.graph, data)) is not None:
            self.ties = ties
        if (roots := quantiles_of_data(self.graph, data)) is not None:
            self.roots = roots

    def on_test_start(self) -> None:
        transform_of_data(self.trainer, self.transform)

    def on_save_checkpoint(self, checkpoint: Spec) -> None:
        self.training_record.update(self.global_step, self.device)
        checkpoint[SPEC_KEY] = self.spec_record()
        if self.channels_last:
            checkpoint.update(in_format(checkpoint, torch.contiguous_format))

    def spec_record(self) -> Spec:
        """A description in plain text and numbers, from which :func:`method_of` restores this."""
        return {
            "method": path_of(type(self)),
            "graph": self.graph.to_dict(),
            "networks": self.spec,
            "settings": self.settings,
            "image": None if self.image_shape is None else list(self.image_shape),
            "data": self.data_spec,
            "transform": None if self.transform is None else self.transform.to_dict(),
            "ties": None if self.ties is None else self.ties.to_spec(),
            "roots": None if self.roots is None else self.roots.to_spec(),
            "breaks_functions": self.breaks_functions,
            "training": self.training_record.as_dict(),
        }

    def recall(self, spec: Spec) -> None:
        """Take up what a checkpoint records of its training; GraphError, ValueError if wrong."""
        self.training_record = TrainingRecord(spec.get("training"))
        self.transform = transform_of(spec)
        self.ties, self.roots = ties_of(spec, self.graph), roots_of(spec, self.graph)
        self.breaks_functions |= bool(spec.get("breaks_functions"))

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """CheckpointError, with the first difference, for the weights of other networks."""
        try:
            return super().load_state_dict(state_dict, *args, **kwargs)
        except RuntimeError as error:
            raise CheckpointError(
                f"The checkpoint belongs to other networks ({first_difference(error)}): "
                "take the config the checkpoint was trained with."
            ) from error

    def on_load_checkpoint(self, checkpoint: Spec) -> None:
        spec = spec_of(checkpoint)
        graph = CausalGraph.from_dict(spec["graph"])
        if graph != self.graph:
            raise CheckpointError(
                f"The checkpoint belongs to another graph, {graph}; this model has {self.graph}: "
                "take the config the checkpoint was trained with."
            )
        self.recall(spec)
        if self.channels_last:
            # The optimizer's averages have to lie as the weights do.
            checkpoint.update(in_format(checkpoint, torch.channels_last))

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: str | torch.device = "cpu"
    ) -> Self:
        """As :func:`load_method`; CheckpointError also for the checkpoint of another method."""
        from diffcf.methods.loading import load_method  # which builds what this class describes

        model = load_method(checkpoint_path, map_location)
        if not isinstance(model, cls):
            raise CheckpointError(
                f"Checkpoint {checkpoint_path} holds a {type(model).__name__}, not a "
                f"{cls.__name__}: load it with diffcf.methods.load_method."
            )
        return model
