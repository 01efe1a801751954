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
from diffcf.commands.evaluator_card import card_markdown, measured_card
from diffcf.evaluation import EvaluatorReader, FactorEvaluator, check_factors
from diffcf.io import GraphError, check_new, versions, whole_folder, write_json
from diffcf.training import settings_errors, settle_flags, without_hints


class EvaluatorCLI(LightningCLI):
    """LightningCLI of one model, without subcommands, that also knows the folder to make.

    Attributes:
        other: the evaluator to check by, if one is named.
    """

    other: EvaluatorReader | None = None

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
        settle_flags(self.config, "fit")

    def after_instantiate_classes(self) -> None:
        if not hasattr(self.datamodule, "factors_of"):
            raise GraphError(
                f"{type(self.datamodule).__name__} offers no factors: build it on "
                "data_modules.base.FactorImageDataModule."
            )
        # Now, not after an hour of training.
        if self.config.check is not None:
            self.other = EvaluatorReader.load(self.config.check)
            check_factors(self.other, self.model.graph)


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
    reader.card = {
        **measured_card(reader, data, model.balance, cli.other),
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
