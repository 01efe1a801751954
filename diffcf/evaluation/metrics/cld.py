r"""CLD, the counterfactual latent divergence: did the image change enough, and no more than that?

.. math:: \mathrm{CLD} = \log\bigl(w_1 e^{P(S_{cf} \le d)} + w_2 e^{P(S_f \ge d)}\bigr),
    \quad d = D(x_{cf}, x)

S_cf and S_f hold the divergences D(x', x) of observed images x' of the counterfactual's and of the
factual's class. D is the KL divergence between the diagonal Gaussians that an encoder gives (a VAE
trained on images alone). The first term is small where the counterfactual stays closer to the
factual than other images of its class, the second where it left the factual's own class: lower is
better, log(w₁ + w₂) is the best, log((w₁ + w₂)e) the worst.

Source: Sanchez & Tsaftaris, "Diffusion causal models for counterfactual estimation", 2022,
https://arxiv.org/abs/2202.10166, which was not at hand: what the sets hold, the two terms and their
weights, and that only the class in the intervened factor counts are taken from Melistas et al.,
"Benchmarking counterfactual image generation", 2024, https://arxiv.org/abs/2403.20287, as their
public code and slides have it (w = 0.8 and 0.2). Our reading, where we are not sure: weights of 1
and 1 for the former, and the factual as the second argument of every KL. Ours: the classes of a
continuous factor are equal parts of its range, and a class without observed images is an error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Factor
from diffcf.evaluation.metrics.image_metric import FactorMetric, levels

Latents = tuple[Tensor, Tensor]
"""Mean and log-variance of each image's Gaussian, ``[N, D]`` each."""


def gaussian_divergence(latents: Latents, reference: Latents) -> Tensor:
    """KL(latents ‖ reference) in nats between diagonal Gaussians, over the last dimension.

    The other dimensions broadcast: ``[N, D]`` and ``[N, D]`` give ``[N]``; ``[1, M, D]`` and
    ``[N, 1, D]`` give ``[N, M]``.
    """
    (mean, log_variance), (centre, log_width) = latents, reference
    ratio = (log_variance - log_width).exp() + (mean - centre).square() * (-log_width).exp()
    return 0.5 * (ratio - 1 - log_variance + log_width).sum(dim=-1)


def same_class(values: Tensor, observed: Tensor, factor: Factor, bins: int = 10) -> Tensor:
    """``[N, M]`` bool: whether ``values`` ``[N]`` and ``observed`` ``[M]`` are of one class.

    Both in [0, 1] units. A category, a side of ½ of a binary factor, or one of ``bins`` equal parts
    of a continuous factor's range.
    """

    def place(value: Tensor) -> Tensor:
        if not factor.continuous:
            return levels(factor, value)
        return (value * bins).floor().long().clamp(0, bins - 1)

    return place(values)[:, None] == place(observed)[None]


def counterfactual_latent_divergence(
    divergence: Tensor,
    observed: Tensor,
    of_counterfactual: Tensor,
    of_factual: Tensor,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """CLD of each image, ``[N]``, with ``weights`` w₁ and w₂.

    Args:
        divergence: D(x_cf, x), ``[N]``.
        observed: D(x', x) of M observed images from each factual, ``[N, M]``.
        of_counterfactual, of_factual: which of them are of its class, ``[N, M]`` bool.

    Raises:
        ValueError: for shapes that differ, NaN or infinity, and a class without observed images.
    """
    shape = (len(divergence), observed.shape[-1])
    if any(part.shape != shape for part in (observed, of_counterfactual, of_factual)):
        raise ValueError(
            f"CLD compares {len(divergence)} divergences with rows of observed ones and two masks "
            f"of their shape, got {tuple(observed.shape)}, {tuple(of_counterfactual.shape)} and "
            f"{tuple(of_factual.shape)}."
        )
    # NaN is neither more nor less than anything: it would pass for the best of answers.
    if not (torch.isfinite(divergence).all() and torch.isfinite(observed).all()):
        raise ValueError("CLD met a divergence that is NaN or infinite: fix the encoder.")
    if not (of_counterfactual.any(dim=1).all() and of_factual.any(dim=1).all()):
        raise ValueError(
            "CLD has an image of whose class nothing was observed: give more observed images, or "
            "take fewer bins."
        )
    below = _share(observed <= divergence[:, None], of_counterfactual)
    above = _share(observed >= divergence[:, None], of_factual)
    return (weights[0] * below.exp() + weights[1] * above.exp()).log()


def _share(holds: Tensor, among: Tensor) -> Tensor:
    """Share ``[N]`` of the entries ``among`` ``[N, M]`` for which ``holds`` is true."""
    return (holds & among).sum(dim=1).double() / among.sum(dim=1)


class CLD(FactorMetric):
    """Means of CLD: ``cld``, ``cld/<factor set>``, ``cld/roots`` and ``cld/leaves``.

    Args:
        graph: names the factors, their roots and leaves.
        latents, factors: of the observed images, ``[M, D]`` each, and ``[M, K]``.
        bins: classes of a continuous factor.
        weights: w₁ and w₂.

    Raises:
        ValueError: when latents and factors are not of the same images.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> mean = torch.tensor([[0.0], [1.0], [4.0], [6.0]])  # two images of each class
    >>> observed = (mean, torch.zeros(4, 1))
    >>> lit = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    >>> cld = CLD(CausalGraph([Factor("lit", "binary")]), observed, lit)
    >>> factual = (torch.tensor([[0.0]]), torch.zeros(1, 1))
    >>> answer = (torch.tensor([[3.0]]), torch.zeros(1, 1))  # nearer than any lit image: best
    >>> cld.update(answer, factual, torch.tensor([[1.0]]), torch.tensor([[0.0]]), column=0)
    >>> {name: round(float(value), 3) for name, value in cld.compute().items()}
    {'cld': 0.693, 'cld/lit': 0.693, 'cld/leaves': 0.693}
    """

    higher_is_better = False
    quantity_names = ("cld",)

    observed_mean: Tensor
    observed_log_variance: Tensor
    observed_factors: Tensor

    def __init__(
        self,
        graph: CausalGraph,
        latents: Latents,
        factors: Tensor,
        bins: int = 10,
        weights: tuple[float, float] = (1.0, 1.0),
        **kwargs: object,
    ) -> None:
        super().__init__(graph, **kwargs)
        mean, log_variance = latents
        if mean.shape != log_variance.shape or factors.shape != (len(mean), len(graph)):
            raise ValueError(
                "CLD takes means [M, D], log-variances [M, D] and factors "
                f"[M, {len(graph)}] of the observed images, got {tuple(mean.shape)}, "
                f"{tuple(log_variance.shape)} and {tuple(factors.shape)}."
            )
        self.bins, self.weights = bins, weights
        parts = {"mean": mean.double(), "log_variance": log_variance.double(), "factors": factors}
        for name, part in parts.items():
            self.register_buffer(f"observed_{name}", part.detach(), persistent=False)

    def update(
        self,
        counterfactual: Latents,
        factual: Latents,
        target: Tensor,
        factors: Tensor,
        column: int,
        index: Tensor | None = None,
    ) -> None:
        """Add latents of counterfactual and factual images, ``[B, D]`` each.

        ``target`` and ``factors`` ``[B, K]`` are what they should show and do show.
        """
        mean, log_variance = (part.double() for part in factual)
        moved = (counterfactual[0].double(), counterfactual[1].double())
        divergence = gaussian_divergence(moved, (mean, log_variance))
        known = (self.observed_mean[None], self.observed_log_variance[None])
        observed = gaussian_divergence(known, (mean[:, None], log_variance[:, None]))
        factor, seen = self.graph.factors[column], self.observed_factors[:, column]
        same_cf, same_f = (
            same_class(v[:, column], seen, factor, self.bins) for v in (target, factors)
        )
        cld = counterfactual_latent_divergence(divergence, observed, same_cf, same_f, self.weights)
        self._add(cld[:, None], column, index)
