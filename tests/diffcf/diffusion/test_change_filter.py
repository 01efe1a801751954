"""The change of an answer, filtered along the factual's edges."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from diffcf.diffusion import ChangeFilter
from diffcf.io import SettingsError


def squares(colour: tuple[float, ...], size: int = 24, side: int = 8) -> torch.Tensor:
    """``[1, 3, S, S]``: a square of a colour on grey."""
    image = torch.full((1, 3, size, size), 0.6)
    start = (size - side) // 2
    image[:, :, start : start + side, start : start + side] = torch.tensor(colour)[:, None, None]
    return image


def soft(image: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)


def test_what_is_recoloured_keeps_its_outline() -> None:
    factual, exact = squares((0.5, -0.4, -0.4)), squares((-0.4, 0.3, -0.4))
    drawn = exact + 0.5 * (soft(exact) - exact)
    filtered = ChangeFilter(misfit=0.01)(factual, drawn)
    errors = [(answer - exact).square().mean() for answer in (drawn, filtered)]
    assert errors[1] < 0.5 * errors[0]


def test_what_is_drawn_elsewhere_stays_as_it_is() -> None:
    torch.manual_seed(0)
    factual, exact = squares((0.5, -0.4, -0.4)), torch.full((1, 3, 24, 24), 0.6)
    exact[:, :, 2:8, 14:21] = torch.tensor([-0.4, 0.3, -0.4])[:, None, None]
    filtered = ChangeFilter()(factual, exact)
    assert (filtered - exact).square().mean() < 0.02 * (factual - exact).square().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_nothing_changes_nothing_is_changed(dtype: torch.dtype) -> None:
    image = (2 * torch.rand(2, 3, 9, 12) - 1).to(dtype)
    answer = image.clone()
    answer[1] = -answer[1]
    filtered = ChangeFilter(radius=4)(image, answer)
    assert filtered.dtype == dtype and torch.equal(filtered[0], image[0])
    assert not torch.equal(filtered[1], answer[1])


def test_an_image_smaller_than_the_window_is_one_window() -> None:
    image, answer = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    assert ChangeFilter(radius=5)(image, answer).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"radius": 0}, "radius of change_filter is 1 or more, not 0"),
        ({"radius": 1.5}, "radius of change_filter"),
        ({"radius": True}, "radius of change_filter"),
        ({"epsilon": 0.0}, "epsilon of change_filter is a positive number"),
        ({"misfit": float("inf")}, "misfit of change_filter"),
    ],
)
def test_impossible_settings_are_one_sentence(settings, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        ChangeFilter(**settings)
