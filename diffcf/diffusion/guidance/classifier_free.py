r"""Guidance without a classifier: the generator's own conditional and unconditional predictions.

With :math:`v_\emptyset` the unconditional velocity and :math:`v_g` that conditioned on the factors
of a group g alone,

.. math:: \tilde v = v_\emptyset + \sum_g w_g\,(v_g - v_\emptyset).

One group of all factors is classifier-free guidance. Two groups, the factors that the intervention
reaches (those set and their descendants) and those that it leaves alone, are its decoupled form for
counterfactuals: the factors that change are guided without guiding those that stay. v is linear in
both ε and the clean image, so that combining v combines them.

*From the factual*, the comparison is not with the unconditional velocity but with that conditioned
on the factual's own factors: :math:`\tilde v = v_{cf} + (w - 1)(v_{cf} - v_f)`. What the two
conditions share is then not pushed at all, and under no intervention nothing is, so that it goes
with anchored inversion, which returns the factual exactly. (Our addition.)

Such a push also carries what goes with an attribute in the data: light, colour, background. With
*focus* f it loses its mean over the picture, a cast of light, and keeps its full size only in the
share 1 − f of the places where it is strongest; elsewhere it falls off as the square of its size.
(That an attribute is in the largest elements of such a difference is SEGA's finding.)

One weight does not suit all: what takes 15 for narrow eyes ruins a smile, which comes at 3.
*Adaptive*, the weight of each image is :math:`l + (w - l)\,m_t^2` with :math:`m_t` the part of the
change that the projector does not see yet in x_t (:func:`missing_change`): w where nothing is done,
the *least* one, l, where all is. At the first steps the projector sees little of any change; there
a *limit* on the root mean square of what is added keeps the weight down where the push is large by
itself. (Our additions; that λt balances the size of two terms is the paper's idea, arXiv
2407.20553.)

Where the data lack what is asked for, as a woman with a beard, v_cf is of what was hardly seen, and
little happens. With *overlap* the push is then that between two images of other causes, beside
which it is not rare (:func:`diffcf.causal.likely_context`): a man's with a beard, and without.
:math:`\tilde v = v_b + w\,(v_{cf,c} - v_{f,c})`, of which c are those causes, and b the factual's
own with nothing set. (Our addition.)

References:
    Classifier-Free Diffusion Guidance (Ho & Salimans, 2022), https://arxiv.org/abs/2207.12598
    Decoupled Classifier-Free Guidance for Counterfactual Diffusion Models (Xia et al., 2025),
    https://arxiv.org/abs/2506.14399
    SEGA: Instructing Text-to-Image Models using Semantic Guidance (Brack et al., 2023),
    https://arxiv.org/abs/2301.12247
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from diffcf.diffusion.guidance.rule import check_times
from diffcf.diffusion.process import Denoiser, Prediction, VelocityOf, denoiser_of
from diffcf.io import SettingsError

VelocityAt = Callable[[Tensor, Tensor], Tensor]
"""``(x_t [B, C, H, W], t [B]) -> v``."""
SMOOTHING = 5  # side in places of the square over which the size of a push is averaged


@dataclass(frozen=True)
class ClassifierFree:
    """Weights of classifier-free guidance; 1 is plain conditioning.

    The generator must have been trained with factors dropped (``all_dropout``; for two groups
    ``factor_dropout`` as well), or its unconditional prediction means nothing. From the factual
    no factor need have been dropped.

    Attributes:
        weight: of all factors, or of those that the intervention reaches.
        kept: of those that it does not reach; None makes one group of all.
        from_factual: whether predictions are compared with those of the factual's factors.
        t_min, t_max: the times at which it guides; elsewhere the conditioning is plain.
        focus: share of places, in (0, 1), where guidance from the factual fades; None for nowhere.
        adaptive: whether ``weight`` is the largest one, of images in which the projector sees
            nothing yet of what was asked; only from the factual.
        least: the weight of images in which the projector sees all of it, where ``weight`` adapts;
            1 is plain conditioning.
        limit: the largest root mean square, over the picture, of what the guidance from the factual
            adds to v, whose own is about 1; None for no limit.
        overlap: the probability, given its causes, below which the push toward what is set is
            taken where other causes make it likelier; 0 for never.

    Raises:
        SettingsError: for ``kept`` together with ``from_factual``, ``focus``, ``adaptive``,
            ``limit`` or ``overlap`` without it, ``least`` without ``adaptive`` or outside
            [0, weight], a ``focus`` outside (0, 1), a ``limit`` that is not above 0, an ``overlap``
            outside [0, 1), and times out of order or outside [0, 1].
    """

    weight: float = 1.5
    kept: float | None = None
    from_factual: bool = False
    t_min: float = 0.0
    t_max: float = 1.0
    focus: float | None = None
    adaptive: bool = False
    least: float = 1.0
    limit: float | None = None
    overlap: float = 0.0

    def __post_init__(self) -> None:
        if self.from_factual and self.kept is not None:
            raise SettingsError(
                "Guidance from the factual leaves alone what is kept: leave kept of free out."
            )
        if self.focus is not None and not (self.from_factual and 0.0 < self.focus < 1.0):
            raise SettingsError(
                f"focus of free is a share between 0 and 1, with from_factual, not {self.focus}: "
                "set from_factual to true, or leave focus out."
            )
        if self.adaptive and not self.from_factual:
            raise SettingsError(
                "Adaptive weights are of free guidance from the factual: set from_factual of free "
                "to true, or adaptive to false."
            )
        if self.least != 1.0 and not (self.adaptive and 0.0 <= self.least <= self.weight):
            raise SettingsError(
                f"least of free is an adaptive weight between 0 and weight, {self.weight}, not "
                f"{self.least}: set adaptive of free to true, or leave least out."
            )
        if self.limit is not None and not (self.from_factual and self.limit > 0.0):
            raise SettingsError(
                f"limit of free is a number above 0, with from_factual, not {self.limit}: set "
                "from_factual to true, or leave limit out."
            )
        if self.overlap and not (self.from_factual and 0.0 < self.overlap < 1.0):
            raise SettingsError(
                f"overlap of free is a probability below 1, with from_factual, not {self.overlap}: "
                "set from_factual to true, or leave overlap out."
            )
        check_times("Free guidance", self.t_min, self.t_max)

    def covers(self, time: float) -> bool:
        """Whether it guides at this time."""
        return self.t_min <= time <= self.t_max

    def wrap(
        self,
        generator: VelocityOf,
        factors: Tensor,
        reached: Tensor,
        factual: Tensor,
        missing: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Denoiser:
        """The guided denoiser toward ``factors`` ``[B, K]`` in [0, 1] units.

        ``reached`` ``[B, K]`` (bool) are the factors that the intervention reaches, ``factual``
        ``[B, K]`` those of the factual. ``missing`` ``[B]`` is the part of the change that x_t
        lacks, where the weight is adaptive. ``context`` ``[B, K]`` are the factual factors, but for
        causes beside which the push is taken; None where they are its own in every image.
        """
        plain = denoiser_of(lambda x_t, t: generator(x_t, t, factors))
        guided = denoiser_of(
            self._from_factual(generator, factors, reached, factual, missing, context)
            if self.from_factual
            else self._in_groups(generator, factors, reached)
        )

        def denoise(x_t: Tensor, time: float) -> Prediction:
            return (guided if self.covers(time) else plain)(x_t, time)

        return denoise

    def _from_factual(
        self,
        generator: VelocityOf,
        factors: Tensor,
        reached: Tensor,
        factual: Tensor,
        missing: Tensor | None,
        context: Tensor | None,
    ) -> VelocityAt:
        more: float | Tensor = self.weight - 1
        if missing is not None:
            adapted = self.least + (self.weight - self.least) * missing.square()
            more = (adapted - 1)[:, None, None, None]
        conditions = [factual, factors]
        if context is not None:
            borrowed = context != factual
            lacking = borrowed.any(dim=1, keepdim=True)
            # Of an image that lacks overlap the push is all there is of what is set.
            start = torch.where(lacking & reached, factual, factors)
            conditions = [context, torch.where(borrowed, context, factors), start]
            more = more + lacking.to(factors)[:, :, None, None]
        count, condition = len(conditions), torch.cat(conditions)

        def guided(x_t: Tensor, t: Tensor) -> Tensor:
            v = generator(x_t.repeat(count, 1, 1, 1), t.repeat(count), condition).chunk(count)
            push = v[1] - v[0]
            push = push if self.focus is None else focused(push, self.focus)
            return v[-1] + self._limited(more, push) * push

        return guided

    def _limited(self, more: float | Tensor, push: Tensor) -> float | Tensor:
        """The factor ``[B, 1, 1, 1]`` of the push that is added, at most what ``limit`` allows."""
        if self.limit is None:
            return more
        size = push.float().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        most = (self.limit / size.clamp_min(1e-12)).to(push)
        return torch.minimum(most, torch.as_tensor(more, dtype=push.dtype, device=push.device))

    def _in_groups(self, generator: VelocityOf, factors: Tensor, reached: Tensor) -> VelocityAt:
        weights, groups = [self.weight], [torch.ones_like(reached)]
        if self.kept is not None:
            weights, groups = [self.weight, self.kept], [reached, ~reached]
        masks = torch.cat([torch.zeros_like(reached), *groups])
        copies = len(groups) + 1
        condition = factors.repeat(copies, 1)

        def guided(x_t: Tensor, t: Tensor) -> Tensor:
            v = generator(x_t.repeat(copies, 1, 1, 1), t.repeat(copies), condition, masks)
            total, *conditional = v.chunk(copies)
            changes = [part - total for part in conditional]
            for weight, change in zip(weights, changes, strict=True):
                total = total + weight * change
            return total

        return guided


def missing_change(target: Tensor, read: Tensor, factual: Tensor, owner: Tensor) -> Tensor:
    """The part ``[B]`` in [0, 1] of a change that is not read yet, of the factor that lacks most.

    All are codes ``[B, E]`` of factors (:meth:`diffcf.causal.CausalGraph.encode`), and ``owner``
    ``[E]`` the factor of each column. What is read beyond the target lacks nothing, and where
    nothing is to change nothing is missing.

    >>> target, factual = torch.tensor([[1.0, 0.5], [0.0, 0.5]]), torch.tensor([[0.0, 0.5]] * 2)
    >>> missing_change(target, torch.tensor([[0.25, 0.9]] * 2), factual, torch.tensor([0, 1]))
    tensor([0.7500, 0.0000])
    """
    change = target - factual
    lacking = ((target - read) * change.sign()).clamp_min(0)
    totals = torch.zeros(2, *target.shape, dtype=target.dtype, device=target.device)
    lacks, asked = totals.index_add(2, owner, torch.stack([lacking, change.abs()]))
    share = torch.where(asked > 0, lacks / asked.clamp_min(1e-12), 0.0)
    return share.clamp_max(1).amax(dim=1)


def focused(push: Tensor, share: float) -> Tensor:
    """A change ``[B, C, H, W]`` without its mean, faded in a ``share``, in (0, 1), of the places.

    >>> push = torch.zeros(1, 1, 8, 8)
    >>> push[..., :4, :4] = 1.0
    >>> push.mean().item(), focused(push, 0.9)[0, 0, 0, 0].item()
    (0.25, 0.75)
    >>> focused(push, 0.9)[0, 0, 7, 7].item() > -0.05  # -0.25 without a focus
    True
    """
    push = push - push.mean(dim=(-2, -1), keepdim=True)
    size = F.avg_pool2d(
        push.abs().mean(dim=1, keepdim=True), SMOOTHING, 1, SMOOTHING // 2, count_include_pad=False
    )
    full = size.flatten(1).float().quantile(share, dim=1)[:, None, None, None].to(size)
    return push * (size / full.clamp_min(1e-12)).square().clamp(max=1)
