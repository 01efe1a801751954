"""Describe a dataset before training on it: ``diffcf data experiments/flow.yaml``.

Prints how many images there are, mean and spread of their pixels, the factors with their
distributions, and the graph, and says what cannot be learned from them: constants, factors that
others determine, names that nothing tells apart, combinations that no image has. Saves a contact
sheet with a row per factor: images by rising value, or some of each category. Takes the
``--data.…`` arguments of ``diffcf fit``. With ``--cut``, a table is cut to the images that exist
instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from data_modules import StoredImageDataModule
from data_modules.base import STAGES
from diffcf.causal import CausalGraph, Factor, Scene, intervened_of
from diffcf.commands.data_limits import known_labels, limits
from diffcf.evaluation import absolute_counterfactual_mismatch, peak_signal_noise_ratio
from diffcf.io import DataError
from diffcf.reporting import save_figure, show
from diffcf.training import FactorData, load_data, pixel_statistics

COLUMNS = 8
COMPARED = 256  # images that a ruler reads, and a scene draws anew


def data(args: Sequence[str]) -> None:
    """Command ``diffcf data``; ``--help`` lists the arguments."""
    parser = ArgumentParser(prog="diffcf data", description="Describe a dataset.")
    config = "YAML of an experiment, or of a data module (class_path)."
    parser.add_argument("config", type=Path, help=config)
    parser.add_argument("--out", type=Path, help="Contact sheet; default runs/data/<config>.png.")
    cut = "Write the table's rows whose images exist to this file, and describe nothing."
    parser.add_argument("--cut", type=Path, help=cut)
    # As of `diffcf fit`; listed by its help.
    parser.epilog = "Takes --data.ARGUMENT VALUE as diffcf fit does, such as --data.test_size 64."
    own, overrides = _parted(args)
    parsed = parser.parse_args(own)
    module = load_data(parsed.config, overrides)
    if parsed.cut is not None:
        _cut(module, parsed.cut)
        return
    module.prepare_data()
    module.setup()
    print_description(module)
    out = parsed.out or Path("runs/data") / f"{parsed.config.stem}.png"
    save_figure(contact_sheet(module), out)
    print(f"The contact sheet is {out}")


def _parted(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments of the command, and those of the data module, which begin with ``--data``."""
    own: list[str] = []
    overrides: list[str] = []
    taking = own
    for text in args:
        if text.startswith("--"):
            ours = text == "--data" or text.startswith(("--data.", "--data="))
            taking = overrides if ours else own
            taking.append(text)
            taking = taking if "=" not in text else own
        else:
            taking.append(text)
            taking = own
    return own, overrides


def _cut(module: FactorData, out: Path) -> None:
    if not isinstance(module, StoredImageDataModule):
        raise DataError(f"{type(module).__name__} draws its images: there is no table to cut.")
    kept = module.cut_table(out)
    print(f"{kept:,} rows whose images exist: {out}. Use it by --data.table {out}")


def _counts(module: FactorData) -> str:
    """How many images of each split there are, and how many are in use."""
    texts = []
    for stage in STAGES:
        used, there = module.size_of(stage), module.available[stage]
        texts.append(
            f"{used:,} {stage}" + (f" of {there:,} ({stage}_size)" if used < there else "")
        )
    return f"{sum(module.available.values()):,} images; in use {', '.join(texts)}"


def _by_the_ruler(module: FactorData) -> str:
    """How well a ruler reads images that were not drawn for it, and how near a scene's own drawings
    come to them."""
    scene, drawn = module.scene, "The ruler reads the test images"
    if scene is None:
        return ""
    count = module.size_of("test")
    # Spread over the split: in the order of many a dataset what is alike lies together.
    rows = torch.linspace(0, count - 1, min(count, COMPARED)).round().long()
    images, factors = module.images_of("test", rows), module.factors_of("test")[rows]
    if isinstance(scene, Scene):
        noise = module.noise_of("test")
        known = noise is not None or scene.identified
        if not known or not isinstance(module, StoredImageDataModule):
            return ""
        anew = scene.render(factors, images.shape[-1], None if noise is None else noise[rows])
        psnr = peak_signal_noise_ratio(anew, images).mean()
        drawn = f"The scene draws {len(rows)} test images anew to {psnr:.1f} dB; its ruler reads "
        drawn += "the files"
    errors = absolute_counterfactual_mismatch(scene.read(images), factors, module.graph).mean(0)
    pairs = zip(module.graph.names, errors.tolist(), strict=True)
    read = ", ".join(f"{name} {error:.4f}" for name, error in pairs)
    return f"{drawn} to (mean error, of the range): {read}"


def _missing(module: FactorData) -> Iterator[str]:
    """What labels the training images lack, and what somebody set in them; nothing for neither."""
    factors = module.factors_of("train")
    lacking = factors.isnan().sum(dim=0).tolist()
    if any(lacking):
        each = zip(module.graph.names, lacking, strict=True)
        counts = ", ".join(f"{name} {count:,}" for name, count in each)
        yield f"Missing labels of {len(factors):,} training images: {counts}"
    for stage in STAGES:
        if (set_ := intervened_of(module, stage)) is not None:
            each = zip(module.graph.names, set_.sum(dim=0).tolist(), strict=True)
            counts = ", ".join(f"{name} {count:,}" for name, count in each if count)
            rows = int(set_.any(dim=1).sum())
            yield f"Interventional images of {stage}: {rows:,} of {len(set_):,}; set are {counts}"


def print_description(module: FactorData) -> None:
    """Print counts, pixels, factors and the graph."""
    graph, console = module.graph, Console()
    shape = " × ".join(map(str, module.images_of("train", torch.tensor([0]))[0].shape))
    kind = type(module).__name__
    console.print(f"{kind}: {_counts(module)}, of {shape} pixels", highlight=False, soft_wrap=True)
    if (transform := getattr(module, "transform", None)) is not None:
        console.print(f"Files become images so: {transform}", highlight=False)
    mean, spread = pixel_statistics(module)
    pixels = (
        f"Pixels of the training images in [-1, 1]: data_mean {mean:.3g}, data_std {spread:.3g}"
    )
    console.print(pixels, highlight=False, soft_wrap=True)
    for said in (_by_the_ruler(module), *_missing(module)):
        if said:
            console.print(said, highlight=False, soft_wrap=True)
    headings = ("factor", "kind", "range", "values", "causes")
    table = Table(*headings, title="Factors, in native units, over the training images")
    factors = module.factors_of("train")
    for factor, column in zip(graph.factors, factors.unbind(1), strict=True):
        causes = ", ".join(graph.parents(factor.name)) or "–"
        table.add_row(factor.name, factor.kind, factor.domain, _values(factor, column), causes)
    console.print(table)
    console.print(draw_graph(graph), highlight=False)
    for sentence in limits(module):
        console.print(f"{sentence}.", highlight=False, soft_wrap=True)


def draw_graph(graph: CausalGraph) -> str:
    """The graph as text: every cause with its effects, in causal order."""
    lines = []
    for name in graph.order:
        if effects := graph.children(name):
            lines.append(f"{name} → {', '.join(effects)}")
        elif not graph.parents(name):
            lines.append(f"{name} (alone)")
    return "\n".join(lines)


def _values(factor: Factor, column: Tensor) -> str:
    """The distribution: extremes, mean and deviation, or the share of each category."""
    column = known_labels(column)
    if factor.kind == "binary":
        return f"{float(column.mean()):.1%} are 1"
    if factor.kind == "categorical":
        shares = torch.bincount(factor.category(column), minlength=factor.width) / len(column)
        return ", ".join(f"{share:.1%}" for share in shares.tolist())
    native = factor.to_native(column)
    low, high = native.aminmax()
    return f"{low:.4g} … {high:.4g}, mean {native.mean():.4g} ± {native.std():.2g}"


def contact_sheet(module: FactorData) -> Figure:
    """A row of training images per factor, by rising value or by category, with their values."""
    factors = module.factors_of("train")
    rows = list(map(_chosen, module.graph.factors, factors.unbind(1)))
    columns = max(map(len, rows))
    figure = Figure(figsize=(1.2 * columns, 1.45 * len(rows)), dpi=150, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for factor, row, places in zip(module.graph.factors, grid, rows, strict=True):
        images = module.images_of("train", places)
        for axis in row[len(places) :]:
            axis.set_axis_off()
        for axis, image, place in zip(row, images, places.tolist(), strict=False):
            show(axis, image)
            value = float(factors[place, module.graph.column(factor.name)])
            axis.set_xlabel(factor.text(value), fontsize=6, parse_math=False)
        row[0].set_ylabel(factor.name, fontsize=7)
    return figure


def _chosen(factor: Factor, column: Tensor) -> Tensor:
    """Training images that show a factor: spread evenly over its order, or one per category."""
    if factor.continuous:
        order = column.argsort()[: len(known_labels(column))]  # NaN comes last
        return order[torch.linspace(0, len(order) - 1, min(COLUMNS, len(order))).long()]
    levels = torch.arange(max(factor.width, 2)) / (max(factor.width, 2) - 1)
    per_level = max(COLUMNS // len(levels), 1)
    found = [((column - level).abs() < 1e-3).nonzero()[:per_level, 0] for level in levels]
    return torch.cat(found)
