"""``diffcf evaluator --config experiments/evaluators/pendulum.yaml``: train, select, measure, save.

The config has the parts of any experiment (``data``, ``model``, ``trainer``, ``seed_everything``)
and ``out``, the folder to make: ``evaluator.safetensors``, and its card of errors as ``card.json``
and ``card.md`` (see :mod:`diffcf.evaluation.evaluator.reader`). Every setting can be given on the
command line, as in ``--seed_everything 7 --out runs/evaluators/seed7``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

import diffcf.training.cli  # noqa: F401  its YAML loader knows class names of earlier versions
from diffcf.causal import CausalGraph
from diffcf.evaluation import (
    Card,
    EvaluatorReader,
    FactorEvaluator,
    agreement,
    binary_scores,
    measure_readings,
)
from diffcf.io import CheckpointError, GraphError, check_new, versions, whole_folder, write_json
from diffcf.reporting import markdown
from diffcf.training import settings_errors, settle_flags, without_hints


class EvaluatorCLI(LightningCLI):
    """LightningCLI of one model, without subcommands, that also knows the folder to make."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments(
            "data.graph", "model.graph", compute_fn=CausalGraph.to_dict, apply_on="instantiate"
        )
        parser.add_argument("--out", type=Path, required=True, help="Folder to make.")
        check = "Another evaluator, of another architecture: the card states how far they agree."
        parser.add_argument("--check", type=Path | None, default=None, help=check)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        # Lightning's own warns whenever it is handed arguments, as a command always is.
        self.config = parser.parse_args(args)  # type: ignore[arg-type]

    def before_instantiate_classes(self) -> None:
        check_new(self.config.out)
        if self.config.check is not None and not self.config.check.is_file():
            raise CheckpointError(
                f"The evaluator to check by, {self.config.check}, does not exist: check the path."
            )
        settle_flags(self.config, "fit")

    def after_instantiate_classes(self) -> None:
        if not hasattr(self.datamodule, "factors_of"):
            raise GraphError(
                f"{type(self.datamodule).__name__} offers no factors: build it on "
                "data_modules.base.FactorImageDataModule."
            )


def build(args: Sequence[str]) -> EvaluatorCLI:
    """Parse the arguments and build data, model and trainer; nothing runs yet.

    Raises:
        OutputError: when the folder exists; nothing is ever overwritten.
        GraphError: when the data module is not one of ours.
    """
    with settings_errors(building=True):
        return EvaluatorCLI(
            FactorEvaluator,
            LightningDataModule,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=None,  # the card holds the config
            parser_kwargs={"prog": "diffcf evaluator", "description": "Train an evaluator."},
            args=list(args),
            run=False,
        )


def evaluator(args: Sequence[str]) -> None:
    """Command ``diffcf evaluator``; ``--help`` lists the arguments. Raises as :func:`build`."""
    with without_hints():
        cli = build(args)
    model, data, trainer = cli.model, cli.datamodule, cli.trainer
    with without_hints(), settings_errors():
        trainer.fit(model, datamodule=data)
        # The last weights are candidates too, whether or not a validation fell on the last step.
        trainer.validate(model, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return
    shape = tuple(data.images_of("train", torch.tensor([0])).shape[1:])
    spec = model.latent_spec
    latents = (spec, model.best_latents) if spec is not None else None
    reader = EvaluatorReader(model.graph, model.spec, model.best_weights, shape, latents=latents)
    other = None if cli.config.check is None else EvaluatorReader.load(cli.config.check)
    stages = {"train": "train", "validation": "val", "test": "test"}
    reader.card = {
        "data": type(data).__name__,
        "image_shape": list(reader.image_shape),
        "transform": None if (seen := getattr(data, "transform", None)) is None else seen.to_dict(),
        "images": {name: data.size_of(stage) for name, stage in stages.items()},
        **measure_readings(reader, data),
        "binary": binary_scores(reader, data.test_dataloader(), model.balance),
        "agreement": None if other is None else agreement(reader, other, data.test_dataloader()),
        "training": {**model.training_record.as_dict(), "selected_step": model.best_step},
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "versions": versions(),
        "config": yaml.safe_load(cli.parser.dump(cli.config, skip_none=False)),
    }
    text = card_markdown(reader.card)
    with whole_folder(cli.config.out) as unfinished:
        reader.save(unfinished / "evaluator.safetensors")
        write_json(reader.card, unfinished / "card.json")
        (unfinished / "card.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"The evaluator is {cli.config.out / 'evaluator.safetensors'}")


def card_markdown(card: Card) -> str:
    """The card as people read it: a table of errors, and where they come from."""
    counterfactual, images, training = card["counterfactual"], card["images"], card["training"]
    known = isinstance(counterfactual, dict)
    names = [key.removeprefix("error/") for key in card["test"] if key != "error"]
    rows = {f"{stage} ({images[stage]} images)": card[stage] for stage in ("validation", "test")}
    if known:
        rows |= {f"exact counterfactuals, do({name})": e for name, e in counterfactual.items()}
    keys = [*(f"error/{name}" for name in names), "error"]
    cells = [[title, *(f"{errors[key]:.4f}" for key in keys)] for title, errors in rows.items()]
    lines = [
        f"# Evaluator of {card['data']}, images of {' × '.join(map(str, card['image_shape']))}",
        "",
        "Mean absolute error in parts of each factor's range; of discrete factors the share of",
        "images that are misread.",
        "",
        markdown(["images", *names, "mean"], cells).rstrip(),
    ]
    if binary := card.get("binary"):
        titles = ["positive", "auroc", "f1", "balanced_error", "calibration"]
        cells = [[name, *(f"{found[t]:.4f}" for t in titles)] for name, found in binary.items()]
        lines += [
            "",
            "Binary factors on the test images: the share that has it, area under the ROC curve,",
            "F1, mean of the shares misread of either value, expected calibration error.",
            "",
            markdown(["factor", *(t.replace("_", " ") for t in titles)], cells).rstrip(),
        ]
    if alike := card.get("agreement"):
        read = ", ".join(f"{name} {share:.3f}" for name, share in alike.items())
        lines += ["", f"Another evaluator reads the test images alike in: {read}."]
    if not known:
        lines += ["", f"The error on counterfactual images is {counterfactual}."]
    lines += [
        "",
        f"{card['parameters']:,} parameters; {training['steps']} steps in "
        f"{training['seconds']:.0f} s on {training['device']}, seed {training['seed']};",
        f"the weights are those of step {training['selected_step']}, the best on validation.",
        f"Trained on the {images['train']:,} images of the training split and no other.",
        ", ".join(f"{name} {version}" for name, version in card["versions"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"
