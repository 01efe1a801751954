"""Sampling: what guidance, what-ifs, batch size, number formats and a fresh process cost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from statistics import median

import torch
from torch import Tensor

from diffcf import diffusion
from diffcf.api import load
from diffcf.causal import Do
from diffcf.commands.speed import Call, Row, first_set, ratio_row, ratio_rows, seconds
from diffcf.diffusion import Prediction, noise_level, prediction_from_velocity, sample
from diffcf.methods import Abducted, DiffusionCounterfactuals, EncodedWorld, Sampling

Model = DiffusionCounterfactuals
_FRESH = """
import torch, diffcf
images = torch.rand(16, 3, 64, 64) * 2 - 1
diffcf.load("pendulum").counterfactual(images, do={"light": 0.8})
"""


def guidance(
    model: Model, image: Tensor, factors: Tensor, sampling: Sampling, repeats: int
) -> list[Row]:
    """Sampling under each rule over sampling under none, same steps."""
    rules = {
        "default": sampling.guidance,
        "constant, every step": diffusion.ConstantGuidance(1.0),
        "variance balanced, every step": diffusion.VarianceBalancedGuidance(),
        "Polyak, every step": diffusion.PolyakGuidance(),
        "line search, every step": diffusion.LineSearchGuidance(),
        "Gauss-Newton, every step": diffusion.GaussNewtonGuidance(),
    }
    do = first_set(model.graph, torch.full((len(image),), 0.7))
    turns: dict[str, Call] = {}
    for name, rule in {"none": None, **rules}.items():
        world = model.method(replace(sampling, guidance=rule)).abduct(image, factors)
        turns[name] = partial(world.predict, do)
    start = model.method(replace(sampling, guidance=None)).abduct(image, factors)
    start = start.inner if isinstance(start, EncodedWorld) else start
    assert isinstance(start, Abducted)  # it is a method of diffusion
    turns["through"] = partial(sample_through_generator, model, start, do)
    taken = seconds(turns, repeats, image.device)
    titles = {name: f"guidance {name} / none" for name in rules}
    rows = ratio_rows(taken, "none", titles, {"default": "≤ 1.15"})
    usual, target = "guidance through the U-Net at every step / ours", {"through": "≥ 2.5"}
    rows += ratio_rows(taken, "default", {"through": f"{usual}, default"}, target)
    same = "constant, every step"
    return rows + ratio_rows(taken, same, {"through": f"{usual}, at every step too"}, target)


def what_ifs(
    model: Model, image: Tensor, factors: Tensor, sampling: Sampling, repeats: int
) -> list[Row]:
    """K what-ifs of one image from one abduction over K separate runs."""
    method, graph = model.method(sampling), model.graph
    one, known = image[:1], factors[:1]

    def together(count: int) -> None:
        world = method.abduct(one, known).select(torch.zeros(count, dtype=torch.long))
        world.predict(first_set(graph, torch.linspace(0, 1, count, device=one.device)))

    def apart(count: int) -> None:
        for value in torch.linspace(0, 1, count):
            method.abduct(one, known).predict(first_set(graph, value[None]))

    counts = (1, 4, 16)
    turns: dict[str, Call]
    turns = {f"{way.__name__} {k}": partial(way, k) for k in counts for way in (together, apart)}
    turns["abduct"] = lambda: method.abduct(one, known)
    taken = seconds(turns, repeats, image.device)
    rows = []
    for k in counts:
        what = f"{k} what-ifs of one image / {k} separate runs"
        target = "≤ 0.6" if k == 16 else ""
        rows.append(ratio_row(what, taken[f"together {k}"], taken[f"apart {k}"], target))
    decoded = {k: median(taken[f"together {k}"]) - median(taken["abduct"]) for k in counts}
    for k in counts[1:]:
        what = f"decoding {k} what-ifs at once, each / decoding one"
        rows.append(Row(what, decoded[k] / decoded[1] / k, target="≤ 1"))
    return rows


def batch_sizes(
    model: Model, image: Tensor, factors: Tensor, sampling: Sampling, repeats: int
) -> list[Row]:
    """Milliseconds for each counterfactual, abduction included, by how many are drawn at once."""
    method = model.method(sampling)

    def answer(count: int) -> None:
        do = first_set(model.graph, torch.full((count,), 0.7))
        method.abduct(image[:count], factors[:count]).predict(do)

    sizes = [size for size in (1, 4, 16, 64, 256, 1024) if size <= len(image)]
    taken = seconds({str(n): partial(answer, n) for n in sizes}, repeats, image.device)
    each = {size: [1000 * time / size for time in taken[str(size)]] for size in sizes}
    return [Row.over(f"one counterfactual, {n} at once", each[n], "ms") for n in sizes]


def starts(repeats: int) -> list[Row]:
    """Seconds until a fresh process has answered, and until the explorer has drawn an answer."""
    fresh = {
        "diffcf --help, fresh process": ["-m", "diffcf", "--help"],
        "16 counterfactuals, fresh process": ["-c", _FRESH],
    }
    run = partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)
    turns: dict[str, Call]
    turns = {name: partial(run, [sys.executable, *given]) for name, given in fresh.items()}
    # As in the explorer: abducted once, drawn anew with every move of a slider.
    world = load("pendulum").abduct(torch.rand(1, 3, 64, 64) * 2 - 1)
    turns["an answer of the explorer"] = partial(world.predict, {"light": 0.8})
    taken = seconds(turns, repeats, torch.device("cpu"))
    targets = ("≤ 2", "≤ 10", "≤ 3")
    return [Row.over(*row, "s", target) for row, target in zip(taken.items(), targets, strict=True)]


def formats(model: Model, image: Tensor, compiled: bool, repeats: int) -> list[Row]:
    """The generator's forward in other number formats and layouts over fp32, contiguous, eager."""
    generator, device = model.generator, image.device
    t = torch.rand(len(image), device=device)
    factors = torch.rand(len(image), len(model.graph), device=device)

    @torch.no_grad()
    def plain(x: Tensor = image, network: Callable[..., object] = generator) -> None:
        network(x, t, factors)

    def half() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            plain()

    turns: dict[str, Call] = {"plain": plain, "bf16": half}
    titles = {"bf16": "bf16 autocast / fp32"}
    last = deepcopy(model).to(memory_format=torch.channels_last).generator
    turns["last"] = partial(plain, image.contiguous(memory_format=torch.channels_last), last)
    titles["last"] = "channels-last / contiguous"
    if compiled:
        turns["compiled"] = partial(plain, image, torch.compile(generator))
        titles["compiled"] = "torch.compile / eager"
    return ratio_rows(seconds(turns, repeats, device), "plain", titles)


@torch.no_grad()
def sample_through_generator(model: Model, world: Abducted, do: Do) -> Tensor:
    """Counterfactual images ``[B, C, H, W]``, guided through the U-Net at every step.

    The guidance is the reading of the predicted clean image, differentiated by the noisy one.
    """
    made = world.intervention(do)
    target = model.nscm.predict(world.factors, world.exogenous, made.values, made.mask)
    code, shift = model.graph.encode(target), torch.zeros_like(world.path.x_T)

    def denoise(x_t: Tensor, time: float) -> Prediction:
        nonlocal shift
        t = x_t.new_full((len(x_t),), time)
        with torch.enable_grad():
            x_in = x_t.detach().requires_grad_()
            v = model.generator(x_in, t, target)
            predicted = prediction_from_velocity(v, x_in, t)
            posterior = model.projector(predicted.denoised, torch.zeros_like(t))
            distance = (code - posterior.mean).square() / posterior.variance.detach()
            gradient = torch.autograd.grad(-0.5 * distance.sum(), x_in)[0]
        shift = -noise_level(t) * gradient
        return Prediction(predicted.denoised.detach(), predicted.eps.detach())

    return sample(denoise, world.path, world.engine.sampling.order, lambda x_t, time: shift)
