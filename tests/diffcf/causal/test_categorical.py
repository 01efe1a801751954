"""Categorical factors through every part: graph, abduction, projector, generator, do, metric."""

from __future__ import annotations

import pytest
import torch
from small_nscms import abduct
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.intervention import Intervention
from diffcf.causal.mechanisms import truncated_gumbels
from diffcf.causal.nscm import NSCM
from diffcf.diffusion.guidance.gradient_rules import GaussNewtonGuidance, VarianceBalancedGuidance
from diffcf.diffusion.process import add_noise
from diffcf.evaluation.metrics.acm import ACM, absolute_counterfactual_mismatch
from diffcf.evaluation.plan import InterventionPlan
from diffcf.evaluation.protocol import EvaluationProtocol
from diffcf.io.errors import GraphError, InterventionError
from diffcf.networks.projector import LocalPosteriorProjector
from diffcf.networks.unet import FactorFeatures

COLOURS = ("red", "green", "blue")
GRAPH = CausalGraph(
    [Factor("colour", "categorical", categories=COLOURS), Factor("size"), Factor("lit", "binary")],
    [("colour", "size"), ("colour", "lit")],
)


def sample(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    colour = torch.randint(3, (count,), generator=generator) / 2
    lit = torch.randint(2, (count,), generator=generator).float()
    return torch.stack([colour, torch.rand(count, generator=generator), lit], dim=1)


# --- graph ---


def test_code_is_one_hot_and_comes_back() -> None:
    factors = torch.tensor([[0.5, 0.3, 1.0], [1.0, 0.7, 0.0]])
    code = GRAPH.encode(factors)
    assert code.tolist()[0] == pytest.approx([0, 1, 0, 0.3, 1])
    assert torch.equal(GRAPH.decode(code), factors)
    assert GRAPH.code_owner.tolist() == [0, 0, 0, 1, 2]
    maps = factors[:, :, None, None].expand(-1, -1, 2, 5)
    assert torch.equal(GRAPH.encode(maps, dim=1)[..., 1, 3], code)
    soft = torch.tensor([[0.2, 0.5, 0.3, 0.4, 0.6]])
    torch.testing.assert_close(GRAPH.decode(soft), torch.tensor([[0.5, 0.4, 1.0]]))
    unrounded = GRAPH.decode(soft, hard=False)
    torch.testing.assert_close(unrounded, torch.tensor([[0.5, 0.4, 0.6]]))


def test_description_round_trip_and_units() -> None:
    assert CausalGraph.from_dict(GRAPH.to_dict()) == GRAPH
    colour = GRAPH.factors[0]
    assert (colour.low, colour.high, colour.width) == (0, 2, 3)
    assert colour.text(0.5) == "green" and colour.scaled("blue") == 1.0
    with pytest.raises(GraphError, match=r"no category 'pink'; it has red, green, blue"):
        colour.scaled("pink")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "categorical"}, "needs two or more different categories"),
        ({"categories": ["a"]}, "needs two or more different categories"),
        ({"categories": ["a", "a"]}, "needs two or more different categories"),
        ({"categories": "ab"}, "needs a list of categories"),
        ({"kind": "binary", "categories": ["a", "b"]}, "is binary but lists categories"),
    ],
)
def test_mistakes_in_categories_are_named(spec: dict, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        CausalGraph.from_dict({"factors": {"x": spec}})


# --- causal model ---


def test_abducted_gumbels_explain_the_category_for_any_logits() -> None:
    logits = torch.linspace(-40, 40, 999, dtype=torch.float64)[:, None] * torch.tensor([1, -1, 0.2])
    for category in range(3):
        observed = torch.full((999,), category)
        u = truncated_gumbels(logits, observed, torch.rand_like(logits)).float()
        assert u.isfinite().all()
        assert torch.equal((logits + u).argmax(-1), observed)


def test_abducted_gumbels_sample_the_posterior() -> None:
    """Averaged over observations drawn from the mechanism, the noise is standard Gumbel again."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64).expand(200_000, 3)
    observed = torch.multinomial(logits[0].softmax(0), 200_000, True, generator=generator)
    u = truncated_gumbels(logits, observed, torch.rand(logits.shape, generator=generator).double())
    levels = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    gumbel = -(-levels.log()).log()
    for column in u.unbind(1):
        torch.testing.assert_close(column.quantile(levels), gumbel, rtol=0, atol=0.03)


def test_the_causal_model_learns_what_a_category_causes() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = sample(600)
    factors[:, 1] = torch.tensor([0.2, 0.8, 0.4])[(2 * factors[:, 0]).long()]
    factors[:, 1] += 0.02 * torch.randn(600, generator=generator)
    nscm = NSCM(GRAPH, hidden=[16])
    optimizer = torch.optim.Adam(nscm.parameters(), 1e-2)
    for _ in range(250):
        optimizer.zero_grad()
        nscm.loss(factors)["nscm"].backward()
        optimizer.step()
    red = factors[factors[:, 0] == 0][:20]
    do = Intervention.from_do({"colour": "green"}, GRAPH, len(red))
    moved = nscm.predict(red, abduct(nscm, red), do.values, do.mask)
    assert (moved[:, 0] == 0.5).all()
    torch.testing.assert_close(moved[:, 1], red[:, 1] + 0.6, atol=0.05, rtol=0)


# --- images ---


def _squares(count: int) -> tuple[Tensor, Tensor]:
    """A coloured square; its place is noise. The factor is its colour."""
    factors = torch.randint(3, (count, 1)) / 2
    image = torch.full((count, 3, 16, 16), -1.0)
    for n, value in enumerate((2 * factors[:, 0]).long().tolist()):
        row, column = torch.randint(12, (2,)).tolist()
        image[n, value, row : row + 4, column : column + 4] = 1.0
    return image, factors


def _noisy(image: Tensor, t: Tensor) -> Tensor:
    return add_noise(image, torch.randn_like(image), t)


def test_the_projector_reads_a_category_and_guides_to_another() -> None:
    """On noisy images, so that probabilities stay away from 0 and 1, where no gradient is left."""
    torch.manual_seed(0)
    graph = CausalGraph([GRAPH.factors[0]])
    projector = LocalPosteriorProjector(graph, channels=16, patch=2)
    optimizer = torch.optim.Adam(projector.parameters(), 5e-3)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / 150)
        image, factors = _squares(32)
        t, targets = 0.8 * torch.rand(32), projector.everywhere(factors, image)
        posterior = projector(_noisy(image, t), t)
        loss = projector.local_loss(posterior, targets, projector.saliency(image))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image, factors = _squares(64)
    t = torch.full((64,), 0.5)
    x_t = _noisy(image, t)
    posterior = projector(x_t, t)
    torch.testing.assert_close(posterior.mean.sum(1), torch.ones(64))
    assert (graph.decode(posterior.mean) == factors).float().mean() > 0.9
    assert projector.log_prob(posterior, factors).mean() > -0.4
    # A small step along the guidance's shift raises the likelihood of the other category.
    other = (factors + 0.5) % 1.5
    for rule in (VarianceBalancedGuidance(gain=0.1), GaussNewtonGuidance()):
        shift = rule.shift(projector, graph.encode(other), x_t, t).eps
        moved = x_t - 0.02 * shift / shift.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        before, after = (projector.log_prob(projector(x, t), other) for x in (x_t, moved))
        saturated = before < -13.8  # probabilities below a millionth have no gradient left
        assert (after > before)[~saturated].all() and (~saturated).float().mean() > 0.5


def test_the_generator_is_conditioned_on_one_hot_codes_and_ignores_what_is_masked_out() -> None:
    features = FactorFeatures(GRAPH, frequencies=2)
    factors, t = sample(8), torch.zeros(8)
    mask = torch.tensor([[False, True, True]]).expand(8, -1)
    nothing = torch.where(mask, factors, torch.nan)
    torch.testing.assert_close(features(t, nothing, mask), features(t, factors, mask))
    assert features(t, factors, None).shape == (8, features.width)
    alike = factors[:, :1] == factors[:, :1].T
    coded = features(t, factors, torch.tensor([[True, False, False]]).expand(8, -1))
    assert torch.equal(torch.cdist(coded, coded) == 0, alike)


# --- interventions and metric ---


def test_do_takes_names_and_refuses_what_lies_between() -> None:
    do = Intervention.from_do({"colour": "blue"}, GRAPH, 2)
    assert do.values[:, 0].tolist() == [1.0, 1.0]
    with pytest.raises(GraphError, match="no category 'pink'"):
        Intervention.from_do({"colour": "pink"}, GRAPH, 2)
    with pytest.raises(GraphError, match="no category 'large'; it has none: give a number"):
        Intervention.from_do({"size": "large"}, GRAPH, 2)
    with pytest.raises(InterventionError, match="falls between categories: name one of red"):
        Intervention.from_do({"colour": 0.3}, GRAPH, 2)


def test_a_wrong_category_is_wrong_however_near() -> None:
    read, target = torch.tensor([[0.0, 0.2, 1.0]]), torch.tensor([[0.5, 0.3, 1.0]])
    mismatch = absolute_counterfactual_mismatch(read, target, GRAPH)
    torch.testing.assert_close(mismatch, torch.tensor([[1.0, 0.1, 0.0]]))
    acm = ACM(GRAPH)
    acm.update(read, target, torch.tensor([0]))
    assert acm.compute()["acm/colour/colour"] == 1


def test_interventions_on_discrete_factors_change_them() -> None:
    factors = sample(200)
    plan = InterventionPlan(GRAPH, factors, EvaluationProtocol(steps=4))
    for name in ("colour", "lit"):
        column = GRAPH.column(name)
        assert (plan.single[name].values[:, column] != factors[:, column]).all()
    held = Intervention.none(factors)
    for step in plan.sequence:
        now = torch.where(held.mask, held.values, factors)
        discrete = step.mask & GRAPH.discrete
        assert (step.values != now)[discrete].all()
        held = held.then(step)


def test_native_rows_name_categories() -> None:
    row = torch.tensor([1.0, 0.25, 0.0])
    assert GRAPH.native_rows(row[None]) == [["blue", 0.25, 0.0]]
