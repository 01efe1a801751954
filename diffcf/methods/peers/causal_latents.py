r"""Latents that mean factors: what CausalVAE and CausalDiffAE share.

Every column of the factors' code (:meth:`CausalGraph.encode`, E columns) owns D latent dimensions,
so latents are ``[B, E, D]``. A label-aligned prior says where they lie: for a value v of the code

.. math:: p(z_e \mid v) = \mathcal{N}\bigl((2v - 1)\,\mathbf{1}_D,\ s^2 I\bigr),

that is, all D dimensions of a continuous factor run from -1 at the low end of its range to 1 at its
high end; a binary factor lies at -1 or 1; each category has its own D dimensions, at 1 where it is
the case and at -1 elsewhere. So an intervention knows where to set the latents, and the mean over
the D dimensions, mapped back, says what a factor is. What the dimensions hold about that mean is
the image's own.

Causes reach effects by mechanisms :math:`z_e = f_e(A_e \circ z) + n_e` over the graph's edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffcf.causal import CausalGraph, GroupedMLP
from diffcf.networks import NetworkFactory, NetworkSpec, network_spec


def with_dimensions(factory: NetworkFactory | NetworkSpec, dimensions: int) -> NetworkSpec:
    """The description of a network over latents of that many dimensions for each code column.

    Raises:
        ValueError: unless there is at least one.
    """
    if dimensions < 1:
        raise ValueError(f"dimensions must be at least 1, not {dimensions}: a latent needs one.")
    spec = network_spec(factory)
    return {**spec, "init_args": {**spec.get("init_args", {}), "dimensions": dimensions}}


class LabelPrior:
    """Where latents lie, given factors, and the way back.

    Args:
        graph: the factors.
        dimensions: D, of each code column.
    """

    def __init__(self, graph: CausalGraph, dimensions: int) -> None:
        self.graph, self.dimensions = graph, dimensions

    def location(self, factors: Tensor) -> Tensor:
        """Prior means ``[B, E, D]`` of factors ``[B, K]``."""
        code = 2 * self.graph.encode(factors) - 1
        return code[..., None].expand(-1, -1, self.dimensions)

    def code(self, latents: Tensor) -> Tensor:
        """What latents ``[B, E, D]`` say: a code ``[B, E]``, probabilities within [0, 1]."""
        raw = ((latents.mean(dim=-1) + 1) / 2).split(self.graph.widths, dim=1)
        parts = []
        for factor, part in zip(self.graph.factors, raw, strict=True):
            if factor.kind != "continuous":
                part = part.clamp(1e-6, 1)
            parts.append(part / part.sum(dim=1, keepdim=True) if factor.categories else part)
        return torch.cat(parts, dim=1)

    def factors(self, latents: Tensor) -> Tensor:
        """The factors ``[B, K]`` that latents stand for."""
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
        edges = graph.adjacency[owner][:, owner]
        self.register_buffer("edges", edges.float(), persistent=False)
        count = len(owner)
        self.perceptrons = GroupedMLP(count, [count * dimensions, *hidden, dimensions])
        self.depth, reach = 0, edges.float()  # edges of the longest path
        while reach.any():
            self.depth, reach = self.depth + 1, reach @ edges.float()

    def weights(self) -> Tensor:
        """A ``[E, E]``: entry ``[i, j]`` weighs what column j tells the mechanism of i."""
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

    def residual_loss(self, latents: Tensor) -> Tensor:
        """Mean squared error of latents ``[B, E, D]`` predicted from their causes; scalar."""
        return self.mean_of_caused((latents - self(latents)).square())

    def mean_of_caused(self, error: Tensor) -> Tensor:
        """Mean of errors ``[B, E, D]`` over columns that have causes; 0 where none has any."""
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


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians: mean and log of the standard deviation, of one shape."""

    mean: Tensor
    log_scale: Tensor

    @property
    def scale(self) -> Tensor:
        """Standard deviation."""
        return self.log_scale.exp()

    @property
    def variance(self) -> Tensor:
        """Square of the standard deviation."""
        return (2 * self.log_scale).exp()

    def sample(self) -> Tensor:
        """A draw that gradients go through."""
        return self.mean + self.scale * torch.randn_like(self.mean)

    def divergence(self, mean: Tensor | float, scale: float) -> Tensor:
        """KL divergence to N(``mean``, ``scale``²), in nats, averaged over everything; scalar."""
        like = self.log_scale
        return gaussian_kl(
            self, Gaussian(like.new_zeros(()) + mean, like.new_tensor(scale).log())
        ).mean()

    def standardised(self, value: Tensor) -> Tensor:
        """How many standard deviations ``value`` is from the mean."""
        return (value - self.mean) / self.scale


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) in nats, elementwise.

    >>> q, p = (Gaussian(torch.tensor(m), torch.tensor(0.0)) for m in (1.0, 0.0))
    >>> gaussian_kl(q, p), gaussian_kl(p, p)
    (tensor(0.5000), tensor(0.))
    """
    spread = (2 * (q.log_scale - p.log_scale)).exp() + p.standardised(q.mean).square()
    return p.log_scale - q.log_scale + 0.5 * (spread - 1)
