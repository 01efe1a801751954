r"""Muon for the matrices of a network, AdamW for all else, as one optimizer.

AdamW scales each weight by itself. Muon takes the momentum M of a matrix as one thing and replaces
it by the nearest matrix whose singular values are all near 1, so that a direction in which the
gradient is small, but steady, is learned as fast as the one in which it is large. A kernel of a
convolution is the matrix of its flattened filters. Singular values are brought near 1 by three
iterations of a polynomial in :math:`G = X X^\top`,

.. math:: X \leftarrow (a I + b\, G + c\, G^2)\, X,

all of which are taken on G, the smaller side squared, and multiplied with X once at the end. A step
is scaled by :math:`0.2 \sqrt{\max(m, n)}`, to the size that AdamW's have.

``torch.optim.Muon`` is not taken, as it refuses kernels of convolutions, which are most of our
weights, and multiplies in bfloat16, which a processor does slowly.

References:
    Muon: an optimizer for hidden layers in neural networks (Jordan et al., 2024), where the
    polynomial's coefficients are from, https://kellerjordan.github.io/posts/muon/
    Muon is scalable for LLM training (Liu et al., 2025), the size of steps,
    https://arxiv.org/abs/2502.16982
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffcf.io import CheckpointError

MOMENTUM = 0.9
ITERATIONS = 3
COEFFICIENTS = 3.4445, -4.7750, 2.0315
MATCH = 0.2
"""Root mean square of an AdamW step over its learning rate, about."""


class Muon(torch.optim.AdamW):
    """AdamW whose parameter groups with ``matrices`` true are trained by Muon.

    These hold weights of two dimensions or more. Their ``lr`` and ``weight_decay`` are Muon's;
    betas and eps are AdamW's alone.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` computes gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        by_muon = [group for group in groups if group.get("matrices")]
        self.param_groups = [group for group in groups if not group.get("matrices")]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in by_muon:
            self._matrix_step(group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """CheckpointError for the state of a training by Muon of other networks, or of none."""
        try:
            super().load_state_dict(state_dict)
        except ValueError as error:
            raise CheckpointError(
                f"The checkpoint's optimiser trained other groups of weights ({error}): go on with "
                "the 'muon' that it was trained with, or start anew from its weights."
            ) from error

    def _matrix_step(self, group: dict[str, Any]) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        gradients, momenta = [w.grad for w in weights], [self._momentum(w) for w in weights]
        torch._foreach_mul_(momenta, MOMENTUM)
        torch._foreach_add_(momenta, gradients)
        ahead = torch._foreach_add(gradients, momenta, alpha=MOMENTUM)  # Nesterov's
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        turned = orthogonalised([matrix.flatten(1) for matrix in ahead])
        for weight, step in zip(weights, turned, strict=True):
            size = group["lr"] * MATCH * math.sqrt(max(step.shape))
            weight.add_(step.view(weight.shape), alpha=-size)

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum" not in state:
            # AdamW wants a count of steps in every state that is loaded.
            state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(weight)
        state["step"] += 1
        momentum: Tensor = state["momentum"]
        return momentum


def muon_groups(network: nn.Module, rate: float, muon: float | None) -> Iterator[dict[str, Any]]:
    """Parameter groups of a network: by AdamW at ``rate``; matrices by Muon at ``muon``, if any."""
    of_muon = [p for p in network.parameters() if muon is not None and p.ndim > 1]
    others = [p for p in network.parameters() if muon is None or p.ndim <= 1]
    yield {"params": others, "lr": rate, "matrices": False}
    if of_muon:
        yield {"params": of_muon, "lr": muon, "matrices": True}


def orthogonalised(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Matrices ``[m, n]`` with their singular values brought nearer 1, but for zeros.

    Those of more than a fiftieth of their matrix's Frobenius norm come between .65 and 1.25. It is
    done in the matrices' own precision, or in float32 where that is less.
    """
    half = torch.float16, torch.bfloat16
    wide = [matrix.float() if matrix.dtype in half else matrix for matrix in matrices]
    wide = [matrix.T if len(matrix) > matrix.shape[1] else matrix for matrix in wide]
    factors = _by_size([matrix @ matrix.T for matrix in wide])
    turned = (factor @ matrix for factor, matrix in zip(factors, wide, strict=True))
    return [
        (found.T if len(matrix) > matrix.shape[1] else found).to(matrix.dtype)
        for found, matrix in zip(turned, matrices, strict=True)
    ]


def _by_size(grams: Sequence[Tensor]) -> list[Tensor]:
    """Of each X Xᵀ ``[m, m]``, the matrix by which X is to be multiplied.

    All of one size at once: on a card each operation costs its launch.
    """
    places: dict[tuple[torch.Size, torch.dtype], list[int]] = {}
    for place, gram in enumerate(grams):
        places.setdefault((gram.shape, gram.dtype), []).append(place)
    found = list(grams)
    for some in places.values():
        for place, factor in zip(
            some, _factors(torch.stack([grams[p] for p in some])), strict=True
        ):
            found[place] = factor
    return found


def _factors(grams: Tensor) -> Tensor:
    """The iterations on X Xᵀ of X over its Frobenius norm, ``[k, m, m]``."""
    squared = grams.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    squared = squared.clamp(min=torch.finfo(grams.dtype).tiny)
    grams = grams / squared
    product = factor = _polynomial(grams)
    for _ in range(ITERATIONS - 1):
        grams = factor @ grams @ factor
        factor = _polynomial(grams)
        product = factor @ product
    return product / squared.sqrt()


def _polynomial(grams: Tensor) -> Tensor:
    a, b, c = COEFFICIENTS
    found = torch.baddbmm(grams, grams, grams, beta=b, alpha=c)
    found.diagonal(dim1=1, dim2=2).add_(a)
    return found
