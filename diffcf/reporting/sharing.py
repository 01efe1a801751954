"""A trained method as a repository on the Hugging Face Hub: one weights file and its card."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import yaml

from diffcf.io import HUB, upload, write_text
from diffcf.io.hub import CARD_FILE, WEIGHTS_FILE
from diffcf.methods import CounterfactualModule, Sampling, write_weights
from diffcf.reporting.card import card, check_tested
from diffcf.reporting.results import read_record

TAGS = ("counterfactuals", "causality", "structural-causal-model", "image-generation")


def push_to_hub(
    module: CounterfactualModule,
    sampling: Sampling,
    repo_id: str,
    metrics: str | Path | None = None,
    license: str = "unknown",
    private: bool | None = None,
) -> str:
    """Upload a method and its card; the repository's address.

    Args:
        module, sampling: what ``diffcf.load`` gives back.
        repo_id, private: see :func:`diffcf.io.hub.upload`.
        metrics: ``metrics.json`` of its test, for the card; without it the card says "Not tested".
        license: of the weights, an identifier of the Hub's list (``mit``, ``cc-by-4.0``).

    Raises:
        CheckpointError: for metrics of another training, and as :func:`diffcf.io.hub.upload`.
        ResultsError: for metrics that are no results of diffcf.
        UnavailableError: as :func:`diffcf.io.hub.upload`.
    """
    tested = None if metrics is None else Path(metrics)
    if tested is not None:
        training = module.training_record.as_dict()
        check_tested(read_record(tested), tested, training, "these weights")
    with TemporaryDirectory() as folder:
        weights = Path(folder) / WEIGHTS_FILE
        write_weights(module, sampling, weights, torch.float32)
        text = f"{_metadata(license)}\n{card(weights, f'{HUB}{repo_id}', tested)}"
        write_text(text, Path(folder) / CARD_FILE)
        return upload(Path(folder), repo_id, private)


def _metadata(license: str) -> str:
    """What the Hub reads at the head of a card."""
    about = {"license": license, "library_name": "diffcf", "tags": list(TAGS)}
    return f"---\n{yaml.safe_dump(about, sort_keys=False)}---\n"
