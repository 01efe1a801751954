"""Whether counterfactuals among its training images free a classifier of confounding.

Where a factor is a function of others in every training image, a classifier may learn it from
these. Images in which the factor was set and its causes were not tell the two apart: a classifier
that reads the causes is wrong there. A scene draws such images exactly, so that what a model's
counterfactuals are worth can be compared with what exact ones are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.causal import CausalGraph
from diffcf.io import SettingsError
from diffcf.methods import warm_cosine
from diffcf.networks import ImageEncoder

BATCH, RATE, WARMUP = 64, 1e-3, 0.05
FACTUAL, EXACT = "factual", "factual + exact"  # names of training sets


@dataclass(frozen=True)
class Labelled:
    """Images ``[N, C, H, W]`` in [-1, 1] and whether each is of the class, ``[N]`` bool."""

    image: Tensor
    label: Tensor

    def with_more(self, other: Labelled) -> Labelled:
        """These images and others."""
        return Labelled(torch.cat([self.image, other.image]), torch.cat([self.label, other.label]))


def class_threshold(graph: CausalGraph, name: str, factors: Tensor) -> float:
    """The value of a factor, in [0, 1] units, above which an image is of the class.

    The median of ``factors`` ``[N, K]``; a binary factor's classes are its own.

    Raises:
        GraphError: for an unknown factor.
        SettingsError: for a categorical one, whose levels have no order.
    """
    column = graph.column(name)
    kind = graph.factors[column].kind
    if kind == "categorical":
        raise SettingsError(f"{name} has categories: measure a factor that is binary or a number.")
    return 0.5 if kind == "binary" else factors[:, column].nanmedian().item()


def fit_classifier(data: Labelled, steps: int, seed: int) -> nn.Module:
    """A small convolutional network trained on ``data`` for ``steps`` batches, by ``seed``.

    It maps images to logits ``[B, 1]``.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        channels, device = data.image.shape[1], data.image.device
        network = ImageEncoder(1, channels, patch=4, channels=[32, 64]).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), RATE)
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warm_cosine(step / steps, WARMUP)
        )
        for _ in range(steps):
            rows = torch.randint(len(data.label), (BATCH,)).to(device)
            logit = network(data.image[rows])[:, 0]
            loss = F.binary_cross_entropy_with_logits(logit, data.label[rows].float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    return network.eval()


@torch.no_grad()
def accuracy(classifier: nn.Module, data: Labelled) -> float:
    """The share of images whose class the sign of the logit names."""
    logits = [classifier(image)[:, 0] for image in data.image.split(BATCH)]
    return ((torch.cat(logits) > 0) == data.label).float().mean().item()


def measure_augmentation(
    factual: Labelled,
    additions: Mapping[str, Labelled],
    tests: Mapping[str, Labelled],
    steps: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Accuracy of classifiers trained with and without additions, by training set and test set.

    All are trained for as many steps and from the same first weights. ``additions`` are
    counterfactuals of the ``factual`` images, by who drew them.
    """
    training = {FACTUAL: factual} | {
        f"{FACTUAL} + {name}": factual.with_more(more) for name, more in additions.items()
    }
    found = {}
    for name, data in training.items():
        classifier = fit_classifier(data, steps, seed)
        found[name] = {test: accuracy(classifier, images) for test, images in tests.items()}
    return found
