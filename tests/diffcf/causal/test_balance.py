"""Rare levels weigh more, and all weights of a factor are 1 on average."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffcf.causal import (
    CausalGraph,
    CombinationBalance,
    Factor,
    LevelBalance,
    check_strength,
    label_weights,
    weighted_labels,
)
from diffcf.io import SettingsError

GRAPH = CausalGraph(
    [
        Factor("age"),
        Factor("bald", "binary"),
        Factor("hair", "categorical", categories=("black", "brown", "red", "none")),
    ]
)
SHARES = {1: {0.0: 0.9, 1.0: 0.1}, 2: {0.0: 0.5, 1 / 3: 0.4, 2 / 3: 0.1}}
"""By column and value; no one has no hair."""


@pytest.fixture
def factors() -> Tensor:
    """Of 200 people, in the shares above."""
    columns = [torch.rand(200)]
    for shares in SHARES.values():
        values = [torch.full((round(200 * share),), value) for value, share in shares.items()]
        columns.append(torch.cat(values)[torch.randperm(200)])
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_weights_follow_the_shares_and_are_one_on_average(factors: Tensor, strength: float) -> None:
    weight = LevelBalance(GRAPH, factors, strength)(factors)
    torch.testing.assert_close(weight.mean(dim=0), torch.ones(3))
    for column, shares in SHARES.items():
        of = {
            value: float(weight[(factors[:, column] - value).abs() < 1e-3, column].unique())
            for value in shares
        }
        rarest = min(shares, key=shares.__getitem__)
        for value, share in shares.items():
            expected = (share / shares[rarest]) ** strength
            assert of[rarest] / of[value] == pytest.approx(expected, rel=1e-4)


def test_at_full_strength_all_levels_that_occur_count_alike(factors: Tensor) -> None:
    weight = LevelBalance(GRAPH, factors)(factors)
    for column, shares in SHARES.items():
        sums = [
            float(weight[factors[:, column] == v, column].sum()) for v in torch.tensor([*shares])
        ]
        assert sums == pytest.approx([200 / len(shares)] * len(shares), rel=1e-4)


def test_continuous_factors_weigh_one_and_levels_that_never_occur_nothing(factors: Tensor) -> None:
    balance = LevelBalance(GRAPH, factors)
    weight = balance(torch.tensor([[0.0, 0.0, 1.0], [0.37, 1.0, 0.0], [1.0, 1.0, 1.0]]))
    assert weight[:, 0].tolist() == [1.0, 1.0, 1.0]
    assert weight[[0, 2], 2].tolist() == [0.0, 0.0] and weight[1, 2] > 0


def test_every_place_weighs_as_its_own_label(factors: Tensor) -> None:
    balance = LevelBalance(GRAPH, factors)
    places = factors[:12].reshape(2, 2, 3, 3).movedim(-1, 1)  # [B, K, h, w]
    expected = balance(factors[:12]).reshape(2, 2, 3, 3).movedim(-1, 1)
    assert torch.equal(balance(places), expected)


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_strength_outside_its_range_is_one_sentence(strength: float, factors: Tensor) -> None:
    made = [lambda s, of=of: of(GRAPH, factors, s) for of in (LevelBalance, CombinationBalance)]
    for refused in (check_strength, *made):
        with pytest.raises(SettingsError, match=rf"^balance must lie in \[0, 1\], not {strength}"):
            refused(strength)
    with pytest.raises(SettingsError, match="levels or combinations, not 'rows'"):
        label_weights(GRAPH, factors, 1.0, "rows")
    assert [check_strength(s) for s in (0.0, 0.3, 1.0)] == [0.0, 0.3, 1.0]


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_combinations_weigh_by_their_share_and_one_on_average(
    factors: Tensor, strength: float
) -> None:
    weight = CombinationBalance(GRAPH, factors, strength)(factors)
    torch.testing.assert_close(weight.mean(dim=0), torch.ones(3))
    assert torch.equal(weight, weight[:, :1].expand(-1, 3))
    _, which, count = factors[:, 1:].unique(dim=0, return_inverse=True, return_counts=True)
    expected = (count[which] / len(factors)) ** -strength
    torch.testing.assert_close(weight[:, 0] / weight[0, 0], expected / expected[0])


def test_at_full_strength_balanced_factors_are_independent(factors: Tensor) -> None:
    weight = CombinationBalance(GRAPH, factors, 1.0)(factors)[:, 0]
    _, which = factors[:, 1:].unique(dim=0, return_inverse=True)
    sums = torch.zeros(int(which.max()) + 1).index_add(0, which, weight)
    torch.testing.assert_close(sums, torch.full_like(sums, 200 / len(sums)))


def test_a_combination_of_no_image_weighs_as_the_rarest(factors: Tensor) -> None:
    balance = CombinationBalance(GRAPH, factors, 1.0)
    unseen = torch.tensor([[0.5, 1.0, 1.0], [0.1, 0.0, 1.0]])
    assert torch.equal(balance(unseen), balance(factors).max().expand(2, 3))


def test_combinations_of_places_weigh_as_those_of_rows(factors: Tensor) -> None:
    balance = CombinationBalance(GRAPH, factors)
    places = factors[:12].reshape(2, 2, 3, 3).movedim(-1, 1)  # [B, K, h, w]
    expected = balance(factors[:12]).reshape(2, 2, 3, 3).movedim(-1, 1)
    assert torch.equal(balance(places), expected)


@pytest.mark.parametrize("of", [LevelBalance, CombinationBalance])
def test_a_missing_label_weighs_nothing_and_the_others_of_its_row_as_they_did(
    factors: Tensor, of: type
) -> None:
    given = factors.clone()
    given[:20, 1] = torch.nan
    balance = of(GRAPH, given)
    labels, weight = weighted_labels(given, balance, partial=True)
    assert not labels.isnan().any() and (weight[:20, 1] == 0).all()
    assert torch.equal(weight[:20, [0, 2]], balance(given)[:20, [0, 2]])
    assert torch.equal(weight[20:], balance(given)[20:])
