"""A method that may be trained in the latents of a first stage, with images at the edges only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diffcf.methods.base import CounterfactualModule
from diffcf.methods.checkpoint import Spec, weights_digest
from diffcf.methods.encoded import EncodedMethod
from diffcf.methods.interface import Method
from diffcf.methods.recorded import GraphOrSpec
from diffcf.networks import NetworkFactory, NetworkSpec, build_network
from diffcf.networks.first_stage import LatentSpace, without_files


class EncodedModule(CounterfactualModule):
    """Networks that see images, or their standardised latents where there is a first stage.

    A subclass gives what works on what the networks see to :meth:`in_images`, and reads off
    :meth:`encoded` images.

    Args:
        graph, networks, settings, kwargs: see :class:`CounterfactualModule`.
        first_stage: network class of an autoencoder in whose latents everything works, a
            :class:`diffcf.networks.first_stage.FirstStage`; None works on pixels.
    """

    frozen = frozenset({"first_stage"})
    first_stage: LatentSpace | None

    def __init__(
        self,
        graph: GraphOrSpec,
        networks: Mapping[str, NetworkFactory | NetworkSpec],
        settings: Spec | None = None,
        first_stage: NetworkFactory | None = None,
        **kwargs: Any,
    ) -> None:
        if first_stage is not None:
            networks = {**networks, "first_stage": first_stage}
        super().__init__(graph, networks, settings, **kwargs)
        self.first_stage = None
        if first_stage is not None:
            stage = build_network(self.spec["first_stage"], self.graph)
            self.first_stage = LatentSpace(stage)
            self.spec["first_stage"] = without_files(self.spec["first_stage"], stage)

    @property
    def bound(self) -> float | None:
        """The largest magnitude of what the networks draw: 1 for pixels, None for latents."""
        return 1.0 if self.first_stage is None else None

    def within_bound(self, drawn: Tensor) -> Tensor:
        """What the networks drew, clipped to the range of pixels; latents have none."""
        return drawn if self.bound is None else drawn.clamp(-self.bound, self.bound)

    def encoded(self, image: Tensor) -> Tensor:
        """What the networks see of images ``[B, C, H, W]`` in [-1, 1]."""
        return image if self.first_stage is None else self.first_stage.encode(image)

    def in_images(self, method: Method) -> Method:
        """A method for images, of one for what the networks see."""
        return method if self.first_stage is None else EncodedMethod(method, self.first_stage)

    def seen(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The images, or their latents where there is a first stage."""
        if self.first_stage is not None and "latent" in batch:
            return self.first_stage.standardised(batch["latent"])
        return self.encoded(batch["image"])

    def shape_of(self, batch: Mapping[str, Tensor]) -> tuple[int, ...]:
        if self.first_stage is None or "image" in batch:
            return super().shape_of(batch)
        stride, (height, width) = self.first_stage.stride, batch["latent"].shape[-2:]
        return self.first_stage.image_channels, stride * height, stride * width

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.first_stage is not None:  # by now a checkpoint has given it its weights
            self._cache_latents(self.first_stage)

    def _cache_latents(self, space: LatentSpace) -> None:
        """Have the data module give latents in training, and measure their mean and spread."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(data, "use_latents"):
            return  # images are encoded in every step
        strategy = self.trainer.strategy
        digest = weights_digest(space.stage)
        if not self.trainer.is_global_zero:
            strategy.barrier("latents")  # until the first process has built the cache
        latents = data.use_latents(space.raw, digest)
        if not bool(space.measured):
            space.measure(latents)
        if self.trainer.is_global_zero:
            strategy.barrier("latents")
