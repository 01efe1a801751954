r"""Latents that mean factors, and how a method over them answers: CausalVAE and CausalDiffAE.

Every column of the factors' code (:meth:`CausalGraph.encode`, E columns) owns D latent dimensions,
so latents are ``[B, E, D]``. A label-aligned prior places them: for a value v of the code
:math:`p(z_e \mid v) = \mathcal{N}((2v - 1)\,\mathbf{1}_D,\ s^2 I)`, that is, -1 at the low end of a
factor's range and 1 at its high end. So an intervention knows where to set the latents, and the
mean over the D dimensions, mapped back, is the factor's value; how the dimensions differ from their
mean is the image's own. Causes reach effects by mechanisms
:math:`z_e = f_e(A_e \circ z) + n_e` over the graph's edges.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from diffcf.causal import CausalGraph, GroupedMLP, Intervention, Marks
from diffcf.io import SettingsError
from diffcf.methods.encoded_module import EncodedModule
from diffcf.methods.interface import Counterfactual, World, check_image
from diffcf.methods.peers.latent_networks import Gaussian
from diffcf.methods.recorded import GraphOrSpec
from diffcf.methods.sampling import Sampling
from diffcf.networks import NetworkFactory, network_spec


class LabelPrior:
    """Where latents lie, given factors, and the way back."""

    def __init__(self, graph: CausalGraph, dimensions: int) -> None:
        self.graph, self.dimensions = graph, dimensions

    def location(self, factors: Tensor) -> Tensor:
        """Prior means ``[B, E, D]`` of factors ``[B, K]``."""
        return (2 * self.graph.encode(factors) - 1)[..., None].expand(-1, -1, self.dimensions)

    def code(self, latents: Tensor) -> Tensor:
        """The code ``[B, E]`` that latents ``[B, E, D]`` mean, probabilities within [0, 1]."""
        raw = torch.split((latents.mean(dim=-1) + 1) / 2, self.graph.widths, dim=1)
        parts = []
        for factor, part in zip(self.graph.factors, raw, strict=True):
            if not factor.continuous:
                part = part.clamp(1e-6, 1)
            parts.append(part / part.sum(dim=1, keepdim=True) if factor.categories else part)
        return torch.cat(parts, dim=1)

    def factors(self, latents: Tensor) -> Tensor:
        """The factors ``[B, K]`` that latents ``[B, E, D]`` mean."""
        return self.graph.decode(self.code(latents))


class LatentMechanisms(nn.Module):
    """The mechanisms f_e, each a perceptron of the latents of its column's causes.

    Args:
        graph: gives the edges; a column of the code causes what its factor causes.
        dimensions: D, of each column.
        hidden: widths of the hidden layers.
    """

    edges: Tensor

    def __init__(
        self, graph: CausalGraph, dimensions: int = 4, hidden: Sequence[int] = (64, 64)
    ) -> None:
        super().__init__()
        owner = graph.code_owner
        edges, count = graph.adjacency[owner][:, owner].float(), len(owner)
        self.register_buffer("edges", edges, persistent=False)
        self.perceptrons = GroupedMLP(count, [count * dimensions, *hidden, dimensions])
        self.depth, path = 0, edges  # edges of the longest path
        while path.any():
            self.depth, path = self.depth + 1, path @ edges

    def weights(self) -> Tensor:
        """A ``[E, E]``: entry ``[i, j]`` weighs column j as an input of the mechanism of i."""
        return self.edges

    @property
    def caused(self) -> Tensor:
        """``[E, 1]`` bool: which columns have causes."""
        return self.edges.any(dim=1, keepdim=True)

    def forward(self, latents: Tensor) -> Tensor:
        """f_e(A_e ∘ z) ``[B, E, D]``; 0 for columns without causes."""
        masked = self.weights()[:, None, :, None] * latents  # [E, B, E, D]
        return torch.where(self.caused, self.perceptrons(masked.flatten(2)).transpose(0, 1), 0.0)

    def generate(self, noise: Tensor) -> Tensor:
        """The latents of exogenous latents ``[B, E, D]``, causes first."""
        latents = noise
        for _ in range(self.depth):
            latents = self(latents) + noise
        return latents

    def residual_loss(self, latents: Tensor, counted: Tensor | None = None) -> Tensor:
        """Mean squared error of latents ``[B, E, D]`` predicted from their causes; scalar."""
        return self.mean_of_caused((latents - self(latents)).square(), counted)

    def mean_of_caused(self, error: Tensor, counted: Tensor | None = None) -> Tensor:
        """Mean of errors ``[B, E, D]`` over columns that have causes; 0 where none has any.

        Those that are not ``counted`` ``[B, E]`` (bool) count as 0; None counts all.
        """
        error = error if counted is None else torch.where(counted[..., None], error, 0.0)
        total = torch.where(self.caused, error, 0.0).mean(dim=(0, 2)).sum()
        return total / self.caused.sum().clamp_min(1)

    def predict(self, latents: Tensor, noise: Tensor, location: Tensor, fixed: Tensor) -> Tensor:
        """Latents ``[B, E, D]`` after those in ``fixed`` ``[B, E]`` (bool) are set to ``location``.

        Effects follow from their causes and their own ``noise``; all that no set column reaches
        stays as it is in ``latents``, bit for bit.
        """
        result = torch.where(fixed[..., None], location, latents)
        reached = self.reached(fixed)[..., None]
        for _ in range(self.depth):
            result = torch.where(reached, self(result) + noise, result)
        return result

    def reached(self, fixed: Tensor) -> Tensor:
        """``[B, E]`` bool: columns, not set themselves, that set ones cause, directly or not."""
        moved = fixed
        for _ in range(self.depth):
            moved = moved | (moved.float() @ self.edges.T > 0)
        return moved & ~fixed


class LatentModule(EncodedModule):
    """Networks over latents ``[B, E, D]`` that mean factors.

    Args:
        graph, kwargs: see :class:`EncodedModule`.
        networks: network classes by name, each of which takes ``dimensions``.
        dimensions: D, latent dimensions for each column of the factors' code.
        prior_scale: s, standard deviation of the label-aligned prior.
        exogenous_weight, alignment_weight: of both divergences, in nats per latent dimension.

    Raises:
        ValueError: unless ``dimensions`` is at least 1.
    """

    reads = True

    def __init__(
        self,
        graph: GraphOrSpec,
        networks: Mapping[str, NetworkFactory],
        dimensions: int = 4,
        prior_scale: float = 0.03,
        exogenous_weight: float = 0.01,
        alignment_weight: float = 0.01,
        **kwargs: Any,
    ) -> None:
        if dimensions < 1:
            raise SettingsError(f"dimensions must be at least 1, not {dimensions}.")
        sized = {"dimensions": dimensions}
        specs = {name: network_spec(factory) for name, factory in networks.items()}
        for name, spec in specs.items():
            specs[name] = {**spec, "init_args": {**spec.get("init_args", {}), **sized}}
        super().__init__(graph, specs, sized, **kwargs)
        self.prior = LabelPrior(self.graph, dimensions)
        self.prior_scale = prior_scale
        self.exogenous_weight, self.alignment_weight = exogenous_weight, alignment_weight

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """The latents z ``[B, E, D]`` of images ``[B, C, H, W]``, without chance."""

    def stochastic_code(self, image: Tensor, latents: Tensor, sampling: Sampling) -> Tensor:
        """What images show beyond their latents, ``[B, C, H, W]``; else images, for their size."""
        return image

    @abstractmethod
    def draw(self, latents: Tensor, stochastic_code: Tensor, sampling: Sampling) -> Tensor:
        """Images ``[B, C, H, W]`` of latents and a stochastic code."""

    def read(self, image: Tensor) -> Tensor:
        return self.prior.code(self.encode(self.encoded(image)))

    def divergences(
        self, exogenous: Gaussian, latents: Gaussian, factors: Tensor, marks: Marks | None = None
    ) -> dict[str, Tensor]:
        """``exogenous``, from N(0, 1), and ``alignment``, from where ``factors`` ``[B, K]`` lie.

        Without the exogenous latents of what was set, and the latents of missing labels.
        """
        known = None if marks is None else self.graph.per_column(marks.observed)[..., None]
        unset = self.unset(marks)
        by_chance = None if unset is None else unset[..., None]
        aligned = latents.divergence(self.prior.location(factors), self.prior_scale, known)
        return {
            "exogenous": self.exogenous_weight * exogenous.divergence(0.0, 1.0, by_chance),
            "alignment": self.alignment_weight * aligned,
        }

    def unset(self, marks: Marks | None) -> Tensor | None:
        """``[B, E]`` bool: the columns of factors that nobody set; None without marks."""
        return None if marks is None else ~self.graph.per_column(marks.intervened)


@dataclass(frozen=True)
class LatentMethod:
    """Answers with the networks of ``module``, among them the ``mechanisms``."""

    module: LatentModule
    mechanisms: LatentMechanisms
    sampling: Sampling

    @torch.no_grad()
    def abduct(
        self, image: Tensor, factors: Tensor | None = None, keys: Tensor | None = None
    ) -> LatentWorld:
        """Infer latents and their noise; the latents are the encoder's even with ``factors``.

        Nothing is drawn, so ``keys`` have no effect.
        """
        check_image(image)
        latents, code = self.infer(image)
        noise = latents - self.mechanisms(latents)
        factors = self.module.prior.factors(latents) if factors is None else factors
        graph = self.module.graph
        factors, beyond = graph.clip(factors)
        return LatentWorld(graph, image, factors, None, self, latents, noise, code, clipped=beyond)

    @torch.no_grad()
    def infer(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The latents of images, and their stochastic code."""
        latents = self.module.encode(image)
        return latents, self.module.stochastic_code(image, latents, self.sampling)


@dataclass(frozen=True)
class LatentWorld(World):
    """What a :class:`LatentMethod` inferred from images.

    Attributes:
        method: its networks.
        latents: z ``[B, E, D]`` of ``image``.
        noise: n ``[B, E, D]``, the causal noise of the images first abducted.
        stochastic_code: what ``image`` shows beyond the latents, ``[B, C, H, W]``.
    """

    method: LatentMethod
    latents: Tensor
    noise: Tensor
    stochastic_code: Tensor

    def target(self, do: Intervention) -> Tensor:
        """Where set, the value; for what that causes, what the latents mean; else the factual."""
        return self._act(do)[0]

    def answer(self, do: Intervention, target: Tensor) -> Counterfactual:
        _, latents = self._act(do)
        image = self.method.module.draw(latents, self.stochastic_code, self.method.sampling)
        return Counterfactual(self.method.module.within_bound(image), target, do)

    def reabduct(self, answer: Counterfactual) -> LatentWorld:
        latents, code = self.method.infer(answer.image)
        return replace(self, image=answer.image, latents=latents, stochastic_code=code)

    def _act(self, do: Intervention) -> tuple[Tensor, Tensor]:
        """The counterfactual's factors ``[B, K]`` and latents ``[B, E, D]``."""
        mechanisms, prior = self.method.mechanisms, self.method.module.prior
        fixed = self.graph.per_column(do.mask)
        latents = mechanisms.predict(self.latents, self.noise, prior.location(do.values), fixed)
        moved = self.graph.first_columns(mechanisms.reached(fixed))
        factors = torch.where(moved, prior.factors(latents), self.factors)
        return torch.where(do.mask, do.values, factors), latents
