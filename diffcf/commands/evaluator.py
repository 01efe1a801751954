"""``diffcf evaluator --config experiments/evaluators/pendulum.yaml``: train, select, measure, save.

The config has the parts of any experiment (``data``, ``model``, ``trainer``, ``seed_everything``)
and ``out``, the folder to make: ``evaluator.safetensors`` (see :mod:`diffcf.evaluation.evaluator.reader`),
``card.json`` and ``card.md`` (see :mod:`diffcf.evaluation.evaluator.card`). Every setting can be given on the
command line, as in ``--seed_everything 7 --out runs/evaluators/seed7``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from diffcf.causal import CausalGraph
from diffcf.evaluation import EvaluatorReader, FactorEvaluator, card_markdown, measure_readings
from diffcf.io import GraphError, OutputError, versions, whole_folder, write_json


class EvaluatorCLI(LightningCLI):
    """LightningCLI of one model, without subcommands, that also knows the folder to make."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments(
            "data.graph", "model.graph", compute_fn=CausalGraph.to_dict, apply_on="instantiate"
        )
        parser.add_argument("--out", type=Path, required=True, help="Folder to make.")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        # Lightning's own warns whenever it is handed arguments, as a command always is.
        self.config = parser.parse_args(args)  # type: ignore[arg-type]

    def before_instantiate_classes(self) -> None:
        if self.config.out.exists():
            raise OutputError(
                f"{self.config.out} exists already: remove it, or name another folder by --out."
            )

    def after_instantiate_classes(self) -> None:
        if not hasattr(self.datamodule, "factors_of"):
            raise GraphError(
                f"{type(self.datamodule).__name__} offers no factors: build it on "
                "data_modules.base.FactorImageDataModule."
            )


def build(args: Sequence[str]) -> EvaluatorCLI:
    """Parse the arguments and build data, model and trainer; nothing runs yet.

    Raises:
        FileExistsError: when the folder exists; nothing is ever written over.
        GraphError: when the data module is not one of ours.
    """
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
    """Command ``diffcf evaluator``; ``--help`` lists the arguments.

    Raises:
        FileExistsError, GraphError: see :func:`build`.
        FloatingPointError: when training diverges.
    """
    cli = build(args)
    model, data, trainer = cli.model, cli.datamodule, cli.trainer
    trainer.fit(model, datamodule=data)
    # The last weights are candidates too, whether or not a validation fell on the last step.
    trainer.validate(model, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return
    shape = tuple(data.images_of("train", torch.tensor([0])).shape[1:])
    spec = model.latent_spec
    latents = (spec, model.best_latents) if spec is not None else None
    reader = EvaluatorReader(model.graph, model.spec, model.best_weights, shape, latents=latents)
    config = yaml.safe_load(cli.parser.dump(cli.config, skip_none=False))
    reader.card = _card(reader, model, data, config)
    text = card_markdown(reader.card)
    _write(reader, text, cli.config.out)
    print(text)
    print(f"The evaluator is {cli.config.out / 'evaluator.safetensors'}")


def _card(
    reader: EvaluatorReader, model: FactorEvaluator, data: Any, config: dict[str, Any]
) -> dict[str, Any]:
    """Errors and where they come from, all of it plain text and numbers."""
    stages = {"train": "train", "validation": "val", "test": "test"}
    return {
        "data": type(data).__name__,
        "image_shape": list(reader.image_shape),
        "images": {name: data.size_of(stage) for name, stage in stages.items()},
        **measure_readings(reader, data),
        "training": {
            **model.training_record.as_dict(),
            "selected_step": model.best_step,
        },
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "versions": versions(),
        "config": config,
    }


def _write(reader: EvaluatorReader, text: str, out: Path) -> None:
    """The folder, whole or not at all."""
    with whole_folder(out) as unfinished:
        reader.save(unfinished / "evaluator.safetensors")
        write_json(reader.card, unfinished / "card.json")
        (unfinished / "card.md").write_text(text, encoding="utf-8")
