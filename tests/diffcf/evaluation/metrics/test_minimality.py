from __future__ import annotations

import pytest
import torch
from torch import Tensor

from data_modules.scenes.pendulum import PendulumScene
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.evaluation.metrics.fidelity import Minimality, excess_change, peak_signal_noise_ratio

GRAPH = CausalGraph([Factor("a"), Factor("b"), Factor("c")], [("a", "b")])


def _pair(scene: PendulumScene, factors: Tensor, name: str) -> Tensor:
    """The exact counterfactuals in which ``name`` moves by a tenth of its range."""
    mask = torch.zeros_like(factors, dtype=torch.bool)
    mask[:, scene.graph.column(name)] = True
    values = torch.where(factors > 0.5, factors - 0.1, factors + 0.1)
    return scene.render(scene.counterfactual(factors, values, mask), 32)


# --- on a scene ---


def test_exact_and_unchanged_pictures_are_minimal(scene, small_batch) -> None:
    factual = small_batch["image"]
    for name in scene.graph.names:
        exact = _pair(scene, small_batch["factors"], name)
        assert not torch.equal(exact, factual)
        for image in (exact, factual):
            assert torch.equal(excess_change(image, factual, exact), torch.zeros(len(factual)))


def test_a_method_that_changes_everything_is_caught(scene, small_batch) -> None:
    factual, factors = small_batch["image"], small_batch["factors"]
    for name in scene.graph.names:
        exact = _pair(scene, factors, name)
        tinted = exact - 0.2  # the right factors, in another light
        assert (excess_change(tinted, factual, exact) > 0.08).all()
        noisy = exact + 0.05 * torch.randn_like(exact)
        assert (excess_change(noisy, factual, exact) > 0.01).all()


# --- by hand ---


def test_a_hand_made_case() -> None:
    factual = torch.zeros(1, 1, 2, 2)
    exact = torch.tensor([[[[0.8, 0.0], [0.0, 0.0]]]])
    image = torch.tensor([[[[1.0, 0.4], [-0.2, 0.0]]]])
    # Beyond what must change: 0.2 where the change is too large, 0.4 and 0.2 elsewhere.
    torch.testing.assert_close(excess_change(image, factual, exact), torch.tensor([0.1]))
    minimality = Minimality(GRAPH)
    for column in range(3):
        minimality.update((column + 1) * 0.2 + factual, factual, factual, column)
    result = {name: round(value.item(), 4) for name, value in minimality.compute().items()}
    assert result == {
        "minimality": 0.2,
        "minimality/a": 0.1,
        "minimality/b": 0.2,
        "minimality/c": 0.3,
        "minimality/roots": 0.1,
        "minimality/leaves": 0.25,
    }


def test_what_it_leaves_to_psnr() -> None:
    """Within the change that must be, a wrong colour is not seen, nor is half a change."""
    factual = torch.zeros(1, 3, 8, 8)
    exact = factual.clone()
    exact[..., :4] = 0.6
    wrong, half = -exact, exact / 2
    for image in (wrong, half):
        assert excess_change(image, factual, exact) == 0
        assert peak_signal_noise_ratio(image, exact) < 20


# --- batches, processes, errors ---


def _fed(*batches: range) -> Minimality:
    """12 images under an intervention on each factor, given batch by batch."""
    image, factual, exact = torch.rand(3, 12, 3, 5, 5, generator=torch.Generator().manual_seed(4))
    minimality = Minimality(GRAPH)
    for batch in batches:
        index = torch.tensor(list(batch))
        for column in range(3):
            rows = (index + column) % 12
            minimality.update(image[rows], factual[rows], exact[rows], column, index)
    return minimality


def test_batch_size_and_repeated_images_do_not_matter() -> None:
    parts = _fed(range(5), range(3, 11), range(11, 12))
    torch.testing.assert_close(parts.compute(), _fed(range(12)).compute())


def test_bad_input_is_named() -> None:
    image = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"got \(2, 3, 4, 4\) and \(2, 3, 4, 4\) and \(2, 1, 4,"):
        Minimality(GRAPH).update(image, image, image[:, :1], column=0)
    with pytest.raises(ValueError, match="Minimality met a value that is NaN or infinite"):
        Minimality(GRAPH).update(image * torch.nan, image, image, column=0)
    with pytest.raises(ValueError, match="Minimality has seen no image"):
        Minimality(GRAPH).compute()
