r"""Cartoon faces: a stand-in for CelebA whose mechanism is known.

There are seven binary attributes. Each is z = [logit(parents) + u > 0] with a standard logistic
u of its own, so P(z = 1) = sigmoid(logit):

    Male, Young, Smiling   1/2 each
    Narrow_Eyes            logit = −2.1 + 2.9 Smiling + 0.9 Male    P = .11, .23, .69, .85
    Mouth_Slightly_Open    logit = −1.4 + 3.1 Smiling               P = .20, .85
    Bald                   logit = −3.5 + 3.5 Male − 3.5 Young      .50 of old men, .03, .03, .001
    Beard                  logit = −4.0 + 4.4 Male − 0.6 Young      .60, .45 of men, ≤ .02 of women

The coefficients are ours, chosen to resemble CelebA's frequencies; they are not fitted to it. Every
effect is the child of roots alone, so a counterfactual needs no more than the logit of each child
before and after. A graph has some of the attributes as factors; the others are noise of the image,
which counterfactuals keep, beside the appearance: colours, position and proportions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor

from data_modules.scenes.faces.picture import APPEARANCE, ATTRIBUTES, draw_faces, typical
from data_modules.scenes.faces.readout import read_faces
from diffcf.causal import CausalGraph, Factor, Scene
from diffcf.io import SettingsError

# Child: intercept, and the weight of every parent.
MECHANISMS: dict[str, tuple[float, dict[str, float]]] = {
    "Narrow_Eyes": (-2.1, {"Male": 0.9, "Smiling": 2.9}),
    "Mouth_Slightly_Open": (-1.4, {"Smiling": 3.1}),
    "Bald": (-3.5, {"Young": -3.5, "Male": 3.5}),
    "Beard": (-4.0, {"Young": -0.6, "Male": 4.4}),
}
# As in experiments/graphs/celeba_*.yaml, columns in the same order.
GRAPHS: dict[str, tuple[str, ...]] = {
    "smile": ("Male", "Smiling", "Narrow_Eyes", "Mouth_Slightly_Open"),
    "beard": ("Young", "Male", "Bald", "Beard"),
}


def sample_faces(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """All attributes ``[count, 7]`` (0 or 1) and appearance ``[count, 9]`` of random faces."""
    uniform = torch.rand(count, len(ATTRIBUTES), generator=generator)
    sampled: dict[str, Tensor] = {}
    for name in sorted(ATTRIBUTES, key=MECHANISMS.__contains__):  # roots first
        u = uniform[:, ATTRIBUTES.index(name)].logit()
        sampled[name] = (_logit(name, sampled, u) + u > 0).float()
    low, high = torch.tensor([(q.low, q.high) for q in APPEARANCE.values()]).T
    appearance = low + (high - low) * torch.rand(count, len(APPEARANCE), generator=generator)
    return torch.stack([sampled[name] for name in ATTRIBUTES], 1), appearance


def _logit(name: str, values: dict[str, Tensor], like: Tensor) -> Tensor:
    """Logit ``[B]`` of an attribute, given its parents' values ``[B]``; 0 for a root."""
    intercept, weights = MECHANISMS.get(name, (0.0, {}))
    terms = (weight * values[parent] for parent, weight in weights.items())
    return sum(terms, torch.full_like(like, intercept))


class CartoonFaces(Scene):
    """Faces with the attributes of one of the CelebA graphs, all binary.

    Args:
        graph: "smile" (Male, Smiling → Narrow_Eyes; Smiling → Mouth_Slightly_Open) or "beard"
            (Young, Male → Bald, Beard); ValueError for another.

    ``noise_names`` are the attributes outside the graph (0 or 1), then the appearance, in the units
    and ranges of :data:`data_modules.scenes.faces.picture.APPEARANCE`.
    """

    # A smile makes some eyes narrow and some not: u is not known from the factors.
    identified = False
    image_sizes = (64, 96, 128)

    def __init__(self, graph: Literal["smile", "beard"] = "smile") -> None:
        if graph not in GRAPHS:
            raise SettingsError(f"graph {graph!r} is not known: use 'smile' or 'beard'.")
        names = GRAPHS[graph]
        effects = [name for name in names if name in MECHANISMS]
        edges = [(cause, effect) for effect in effects for cause in MECHANISMS[effect][1]]
        self.graph = CausalGraph([Factor(name, "binary") for name in names], edges)
        self.hidden = tuple(name for name in ATTRIBUTES if name not in names)
        self.noise_names = (*self.hidden, *APPEARANCE)

    def sample(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Factors ``[count, 4]`` (0 or 1) and noise ``[count, 12]`` of faces drawn at random."""
        attributes, appearance = sample_faces(count, generator)
        factors = attributes[:, [ATTRIBUTES.index(name) for name in self.graph.names]]
        hidden = attributes[:, [ATTRIBUTES.index(name) for name in self.hidden]]
        return factors, torch.cat([hidden, appearance], 1)

    def counterfactual(self, factors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """The probability ``[B, K]`` that each factor is 1 in the counterfactual.

        Intervened factors equal ``values``, and factors none of whose causes changed equal the
        factual ones. Of the others, z = 1 means u > −logit, and z = 0 the contrary; u is kept, so
        P(1 | z = 1) = min(1, p' / p) and P(1 | z = 0) = max(0, (p' − p) / (1 − p)), for the
        probabilities p before and p' after. Factual values of ½ and more count as 1.
        """
        names = self.graph.names
        acted = torch.where(mask, values, factors)
        before = dict(zip(names, factors.unbind(1), strict=True))
        after = dict(zip(names, acted.unbind(1), strict=True))
        for name in filter(MECHANISMS.__contains__, names):
            value, is_set = before[name], mask[:, self.graph.column(name)]
            old, new = _logit(name, before, value), _logit(name, after, value)
            p, q = old.sigmoid(), new.sigmoid()
            likely = torch.where(value >= 0.5, q / p, (q - p) / (1 - p)).clamp(0, 1)
            after[name] = torch.where(is_set | (old == new), after[name], likely)
        return torch.stack([after[name] for name in names], 1)

    def render(self, factors: Tensor, image_size: int, noise: Tensor | None = None) -> Tensor:
        """See :meth:`Scene.render`; ``image_size`` is 64, 96 or 128, else ValueError.

        The picture equals what CelebADataModule loads for this face, up to JPEG. Without ``noise``
        the face is young, shaven and in the middle, its colours typical.
        """
        size = self.checked_size(image_size)
        factors = factors.float()
        noise = typical(self.noise_names).expand(len(factors), -1) if noise is None else noise
        noise = noise.to(factors)
        known = dict(zip(self.graph.names, factors.unbind(1), strict=True))
        known |= dict(zip(self.hidden, noise[:, : len(self.hidden)].unbind(1), strict=True))
        attributes = torch.stack([known[name] for name in ATTRIBUTES], 1)
        return draw_faces(attributes, noise[:, len(self.hidden) :], size)

    def read(self, images: Tensor) -> Tensor:
        """See :meth:`Scene.read`: the probability of each factor, nearly always close to 0 or 1."""
        self.checked_size(images.shape[-1])
        return read_faces(images)[:, [ATTRIBUTES.index(name) for name in self.graph.names]]

    def visible(self, factors: Tensor) -> Tensor:
        """``[B]`` bool: always, as all attributes show in all combinations."""
        return torch.ones(len(factors), dtype=torch.bool, device=factors.device)
