"""What guidance, what-ifs, batch size and number formats cost in sampling."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from diffcf.causal import Do
from diffcf.commands.speed.timing import Row, ratio_rows, seconds
from diffcf.diffusion import (
    ConstantGuidance,
    GaussNewtonGuidance,
    LineSearchGuidance,
    PolyakGuidance,
    Prediction,
    VarianceBalancedGuidance,
    noise_level,
    prediction_from_velocity,
    sample,
)
from diffcf.methods import Abducted, Sampling

LIMIT = "≤ 1.15"


def guidance(
    model: Any, image: Tensor, factors: Tensor, sampling: Sampling, repeats: int
) -> list[Row]:
    """Sampling under each rule over sampling under none, same steps."""
    rules = {
        "default": sampling.guidance,
        "constant, every step": ConstantGuidance(1.0),
        "variance balanced, every step": VarianceBalancedGuidance(),
        "Polyak, every step": PolyakGuidance(),
        "line search, every step": LineSearchGuidance(),
        "Gauss-Newton, every step": GaussNewtonGuidance(),
    }
    plain = replace(sampling, guidance=None)
    do = {model.graph.order[0]: 0.7}
    turns: dict[str, Callable[[], Any]] = {
        "none": partial(model.method(plain).abduct(image, factors).predict, do)
    }
    for name, rule in rules.items():
        world = model.method(replace(sampling, guidance=rule)).abduct(image, factors)
        turns[name] = partial(world.predict, do)
    start = model.method(plain).abduct(image, factors)
    turns["through"] = partial(sample_through_generator, model, start, do)
    taken = seconds(turns, repeats, image.device)
    titles = {name: f"guidance {name} / none" for name in rules}
    rows = ratio_rows(taken, "none", titles, {"default": LIMIT})
    usual, target = "guidance through the U-Net at every step / ours", {"through": "≥ 2.5"}
    rows += ratio_rows(taken, "default", {"through": f"{usual}, default"}, target)
    same = "constant, every step"
    return rows + ratio_rows(taken, same, {"through": f"{usual}, at every step too"}, target)


def what_ifs(
    model: Any, image: Tensor, factors: Tensor, sampling: Sampling, repeats: int
) -> list[Row]:
    """K what-ifs of one image from one abduction over K separate runs."""
    method, name = model.method(sampling), model.graph.order[0]
    one, known = image[:1], factors[:1]

    def together(count: int) -> None:
        world = method.abduct(one, known).select(torch.zeros(count, dtype=torch.long))
        world.predict({name: torch.linspace(0, 1, count, device=one.device)})

    def apart(count: int) -> None:
        for value in torch.linspace(0, 1, count).tolist():
            method.abduct(one, known).predict({name: value})

    counts = (1, 4, 16)
    turns: dict[str, Callable[[], Any]]
    turns = {f"{way.__name__} {k}": partial(way, k) for k in counts for way in (together, apart)}
    turns["abduct"] = lambda: method.abduct(one, known)
    taken = seconds(turns, repeats, image.device)
    rows = []
    for k in counts:
        title = {f"together {k}": f"{k} what-ifs of one image / {k} separate runs"}
        rows += ratio_rows(taken, f"apart {k}", title, {"together 16": "≤ 0.6"})
    decoded = {k: median(taken[f"together {k}"]) - median(taken["abduct"]) for k in counts}
    for k in counts[1:]:
        row = f"decoding {k} what-ifs at once, each / decoding one"
        rows.append(Row(row, decoded[k] / decoded[1] / k, target="≤ 1"))
    return rows


def batch_sizes(
    model: Any, image: Tensor, factors: Tensor, sampling: Sampling, repeats: int
) -> list[Row]:
    """Milliseconds for each counterfactual, abduction included, by how many are asked at once."""
    method, do = model.method(sampling), {model.graph.order[0]: 0.7}

    def answer(count: int) -> None:
        method.abduct(image[:count], factors[:count]).predict(do)

    sizes = [size for size in (1, 4, 16, 64) if size <= len(image)]
    taken = seconds({str(n): partial(answer, n) for n in sizes}, repeats, image.device)
    return [
        Row(
            f"one counterfactual, {size} at once",
            1000 * median(taken[str(size)]) / size,
            "ms",
            (1000 * min(taken[str(size)]) / size, 1000 * max(taken[str(size)]) / size),
        )
        for size in sizes
    ]


def formats(model: Any, image: Tensor, compiled: bool, repeats: int) -> list[Row]:
    """The generator's forward in other number formats and layouts over fp32, contiguous, eager."""
    generator, device = model.generator, image.device
    t = torch.rand(len(image), device=device)
    factors = torch.rand(len(image), len(model.graph), device=device)

    @torch.no_grad()
    def plain(x: Tensor = image, network: Any = generator) -> None:
        network(x, t, factors)

    def half() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            plain()

    turns: dict[str, Callable[[], Any]] = {"plain": plain, "bf16": half}
    titles = {"bf16": "bf16 autocast / fp32"}
    last = deepcopy(generator).to(memory_format=torch.channels_last)
    turns["last"] = partial(plain, image.contiguous(memory_format=torch.channels_last), last)
    titles["last"] = "channels-last / contiguous"
    if compiled:
        turns["compiled"] = partial(plain, image, torch.compile(generator))
        titles["compiled"] = "torch.compile / eager"
    return ratio_rows(seconds(turns, repeats, device), "plain", titles)


class _Both:
    """The denoiser and its guide, which takes what the denoiser's own forward left for it."""

    def __init__(self, model: Any, target: Tensor) -> None:
        self.model, self.target = model, target
        self.shift: Tensor | None = None

    def denoise(self, x_t: Tensor, time: float) -> Prediction:
        t = x_t.new_full((len(x_t),), time)
        with torch.enable_grad():
            x_in = x_t.detach().requires_grad_()
            v = self.model.generator(x_in, t, self.target)
            told = prediction_from_velocity(v, x_in, t)
            posterior = self.model.projector(told.denoised, torch.zeros_like(t))
            code = self.model.graph.encode(self.target)
            distance = (code - posterior.mean).square() / posterior.variance.detach()
            gradient = torch.autograd.grad(-0.5 * distance.sum(), x_in)[0]
        self.shift = -noise_level(t) * gradient
        return Prediction(told.denoised.detach(), told.eps.detach())

    def guide(self, x_t: Tensor, time: float) -> Tensor | None:
        return self.shift


@torch.no_grad()
def sample_through_generator(model: Any, world: Abducted, do: Do) -> Tensor:
    """Counterfactual images ``[B, C, H, W]``, guided at every step."""
    intervention = world.engine.intervention(do, world.image)
    values, mask = intervention.values, intervention.mask
    both = _Both(model, model.nscm.predict(world.factors, world.exogenous, values, mask))
    return sample(both.denoise, world.path, world.engine.sampling.order, both.guide)
