from __future__ import annotations

import pytest
import torch

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.evaluation.evaluator.image_vae import ImageVAE
from diffcf.evaluation.evaluator.reader import EvaluatorReader
from diffcf.evaluation.metrics.cld import gaussian_divergence
from diffcf.io.errors import CheckpointError
from diffcf.networks.factory import build_network

GRAPH = CausalGraph([Factor("size")])
NETWORK = {
    "class_path": "diffcf.networks.projector.LocalPosteriorProjector",
    "init_args": {"channels": 8},
}
LATENTS = {
    "class_path": "diffcf.evaluation.ImageVAE",
    "init_args": {"image_size": 16, "latents": 4, "channels": 4},
}


def _squares(count: int) -> torch.Tensor:
    """A white square on black, at one of two places."""
    images = torch.full((count, 3, 16, 16), -1.0)
    images[::2, :, 2:7, 2:7] = 1
    images[1::2, :, 9:14, 9:14] = 1
    return images


def test_it_learns_what_tells_pictures_apart() -> None:
    encoder = ImageVAE(GRAPH, image_size=16, latents=4, channels=8)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    images = _squares(16)
    before = float(encoder.loss(images))
    for _ in range(150):
        optimizer.zero_grad()
        loss = encoder.loss(images)
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.2 * before
    mean, log_variance = encoder(images)
    same = gaussian_divergence((mean[:1], log_variance[:1]), (mean[2:3], log_variance[2:3]))
    other = gaussian_divergence((mean[:1], log_variance[:1]), (mean[1:2], log_variance[1:2]))
    assert float(same) < 0.1 * float(other)


def test_latents_survive_the_file_and_are_missed_where_there_are_none(tmp_path) -> None:
    states = [build_network(spec, GRAPH).state_dict() for spec in (NETWORK, LATENTS)]
    reader = EvaluatorReader(GRAPH, NETWORK, states[0], (3, 16, 16), latents=(LATENTS, states[1]))
    reader.save(tmp_path / "evaluator.safetensors")
    again = EvaluatorReader.load(tmp_path / "evaluator.safetensors")
    images = _squares(4)
    assert again.encodes
    for one, two in zip(reader.latents(images), again.latents(images), strict=True):
        assert one.shape == (4, 4) and torch.equal(one, two)
    assert torch.equal(reader.read(images), again.read(images))
    plain = EvaluatorReader(GRAPH, NETWORK, states[0], (3, 16, 16))
    with pytest.raises(CheckpointError, match="has no latents"):
        plain.latents(images)


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="4 times a power of two, not 24"):
        ImageVAE(GRAPH, image_size=24)
    with pytest.raises(ValueError, match=r"set image_size \(model.latents\)"):
        ImageVAE(GRAPH, image_size=16)(torch.zeros(1, 3, 32, 32))
