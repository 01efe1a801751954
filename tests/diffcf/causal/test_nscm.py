"""The NSCM's properties: inverses, gradients, interventions, binary abduction, learned graphs."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import pytest
import torch
from jsonargparse import ArgumentParser
from small_nscms import CATEGORICAL, CONTINUOUS, abduct, make
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.nscm import NSCM
from diffcf.io.errors import GraphError

# a chain with a binary root and a binary middle, declared out of causal order
MIXED = CausalGraph(
    [Factor("age"), Factor("beard", "binary"), Factor("male", "binary"), Factor("grey")],
    [("male", "beard"), ("age", "beard"), ("beard", "grey"), ("age", "grey")],
)
BINARY = CausalGraph([Factor(n, "binary") for n in "abc"], [("a", "b"), ("b", "c")])
GRAPHS = pytest.mark.parametrize(
    "graph", [CONTINUOUS, MIXED, BINARY, CATEGORICAL], ids=["cont", "mixed", "bin", "cat"]
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small only lose by threads, badly so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sample(graph: CausalGraph, batch: int = 64, seed: int = 1, low: float = 0.0) -> Tensor:
    """Factors uniform in [low, 1 - low]; discrete ones at their levels."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.rand(batch, len(graph), generator=generator)
    levels = torch.tensor([max(f.width, 2) - 1 for f in graph.factors])
    return torch.where(graph.discrete, (z * levels).round() / levels, low + z * (1 - 2 * low))


def do(graph: CausalGraph, z: Tensor, **values: float) -> tuple[Tensor, Tensor]:
    imposed, mask = torch.full_like(z, torch.nan), torch.zeros_like(z, dtype=torch.bool)
    for name, value in values.items():
        imposed[:, graph.column(name)] = value
        mask[:, graph.column(name)] = True
    return imposed, mask


# --- abduction and decoding ---


@GRAPHS
@pytest.mark.parametrize("low", [0.0, -0.2], ids=["inside", "outside"])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_decode_inverts_abduct(
    graph: CausalGraph, low: float, dtype: torch.dtype, within: float
) -> None:
    for seed in range(5):
        nscm = make(graph, seed)
        z = sample(graph, 256, seed, low).to(dtype)
        u = abduct(nscm, z)
        assert u.dtype == dtype
        assert (nscm.decode(u) - z).abs().max() < within


def test_abduct_inverts_decode() -> None:
    nscm = make(CONTINUOUS)
    u = torch.randn(256, 4, dtype=torch.float64)
    torch.testing.assert_close(abduct(nscm, nscm.decode(u)), u, rtol=0, atol=1e-8)


def test_density_integrates_to_one() -> None:
    nscm = make(CONTINUOUS)
    grid = torch.linspace(-8, 9, 20001)
    z = sample(CONTINUOUS, 1).expand(len(grid), -1).clone()
    for k in range(4):
        column = torch.where(torch.arange(4) == k, grid[:, None], z)
        mass = torch.trapezoid(nscm.log_prob(column)[:, k].exp(), grid)
        torch.testing.assert_close(mass, torch.tensor(1.0), rtol=0, atol=5e-3)


def test_binary_probabilities_sum_to_one() -> None:
    nscm = make(BINARY)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))
    torch.testing.assert_close(nscm.log_prob(every).sum(1).exp().sum(), torch.tensor(1.0))


def test_only_parents_matter() -> None:
    """The Jacobian of the likelihoods has the graph's sparsity, and all of its edges."""
    nscm = make(CONTINUOUS)
    z = sample(CONTINUOUS, 1)
    jacobian = torch.autograd.functional.jacobian(lambda x: nscm.log_prob(x)[0], z)[:, 0]
    seen = (jacobian != 0) & ~torch.eye(4, dtype=torch.bool)
    assert torch.equal(seen, CONTINUOUS.adjacency)


# --- learning ---


@GRAPHS
@pytest.mark.parametrize("learned_graph", [False, True])
def test_gradient_reaches_every_parameter(graph: CausalGraph, learned_graph: bool) -> None:
    nscm = make(graph, spread=1.0, learned_graph=learned_graph).train()
    sum(nscm.loss(sample(graph)).values()).backward()
    for name, parameter in nscm.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@GRAPHS
def test_loss_is_the_negative_log_likelihood(graph: CausalGraph) -> None:
    nscm, z = make(graph), sample(graph)
    losses = nscm.loss(z)
    assert set(losses) == {"nscm"}
    torch.testing.assert_close(losses["nscm"], -nscm.log_prob(z).mean())


def test_training_finds_a_kink_and_the_effect_of_a_binary_cause() -> None:
    torch.manual_seed(0)
    graph = CausalGraph(
        [Factor("a"), Factor("s", "binary"), Factor("b")], [("a", "s"), ("a", "b"), ("s", "b")]
    )
    a = torch.rand(2048)
    s = (a + 0.3 * torch.randn(2048) > 0.5).float()
    b = (0.5 - a).clamp(min=0) + 0.4 * s
    z = torch.stack([a, s, b], dim=1)
    nscm = NSCM(graph, hidden=[32, 32])
    optimizer = torch.optim.AdamW(nscm.parameters(), lr=5e-3)
    for step in range(250):
        loss = nscm.loss(z[torch.randint(2048, (256,))])["nscm"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / 250)
    values, mask = do(graph, z, s=1.0)
    with torch.no_grad():
        cf = nscm.predict(z, abduct(nscm, z), values, mask)
    assert (cf[:, 2] - ((0.5 - a).clamp(min=0) + 0.4)).abs().mean() < 0.01


def test_deepcopy_and_state_dict() -> None:
    nscm, z = make(MIXED), sample(MIXED)
    other = NSCM(MIXED, hidden=(16, 16)).eval()
    other.load_state_dict(nscm.state_dict())
    for twin in (other, copy.deepcopy(nscm)):
        torch.testing.assert_close(twin.log_prob(z), nscm.log_prob(z), rtol=0, atol=0)


# --- interventions ---


@GRAPHS
@pytest.mark.parametrize("low", [0.0, -0.2])
def test_null_intervention_is_bitwise(graph: CausalGraph, low: float) -> None:
    nscm, z = make(graph), sample(graph, low=low)
    cf = nscm.predict(z, abduct(nscm, z), *do(graph, z))
    assert torch.equal(cf, z)


@GRAPHS
def test_imposing_factual_values_changes_nothing(graph: CausalGraph) -> None:
    nscm, z = make(graph), sample(graph, low=-0.1)
    u = abduct(nscm, z)
    for k in range(len(graph)):
        mask = torch.zeros_like(z, dtype=torch.bool)
        mask[:, k] = True
        assert (nscm.predict(z, u, z, mask) - z).abs().max() < 1e-5


@GRAPHS
def test_only_descendants_move(graph: CausalGraph) -> None:
    nscm, z = make(graph), sample(graph)
    u = abduct(nscm, z)
    for name in graph.names:
        flipped = 1 - z[:, graph.column(name)]
        values, mask = do(graph, z, **{name: 0.0})
        values[:, graph.column(name)] = flipped
        cf = nscm.predict(z, u, values, mask)
        assert torch.equal(cf[:, graph.column(name)], flipped)
        for other in set(graph.names) - {name} - graph.descendants(name):
            assert torch.equal(cf[:, graph.column(other)], z[:, graph.column(other)])


def test_children_move() -> None:
    nscm, z = make(CONTINUOUS), sample(CONTINUOUS)
    cf = nscm.predict(z, abduct(nscm, z), *do(CONTINUOUS, z, angle=0.9))
    assert ((cf != z).float().mean(0)[2:] > 0.9).all()


def test_imposed_values_cut_off_their_causes() -> None:
    nscm, z = make(CONTINUOUS), sample(CONTINUOUS)
    cf = nscm.predict(z, abduct(nscm, z), *do(CONTINUOUS, z, angle=0.9, length=0.25))
    assert (cf[:, CONTINUOUS.column("length")] == 0.25).all()


@GRAPHS
def test_masks_are_per_sample(graph: CausalGraph) -> None:
    nscm, z, values = make(graph), sample(graph), sample(graph, seed=5)
    u = abduct(nscm, z)
    mask = torch.rand(z.shape, generator=torch.Generator().manual_seed(2)) < 0.3
    together = nscm.predict(z, u, values, mask)
    for i in range(0, 64, 7):
        row = slice(i, i + 1)
        alone = nscm.predict(z[row], u[row], values[row], mask[row])
        torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-6)


def test_prediction_is_differentiable_in_the_imposed_value() -> None:
    nscm, z = make(CONTINUOUS), sample(CONTINUOUS)
    values, mask = do(CONTINUOUS, z, light=0.3)
    values = torch.where(mask, values, 0.0).requires_grad_()
    nscm.predict(z, abduct(nscm, z), values, mask)[:, 2:].sum().backward()
    assert values.grad is not None
    assert values.grad[:, 1].ne(0).all()
    assert values.grad.isfinite().all()


# --- binary factors ---


def test_binary_abduction_follows_its_keys() -> None:
    nscm, z = make(MIXED), sample(MIXED)
    draws = [abduct(nscm, z, seed) for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    binary = MIXED.binary
    assert torch.equal(draws[0][:, ~binary], draws[2][:, ~binary])


def test_uncertain_readings_count_as_the_nearer_value() -> None:
    nscm, z = make(MIXED), sample(MIXED)
    soft = torch.where(MIXED.binary, 0.3 + 0.4 * z, z)
    torch.testing.assert_close(nscm.log_prob(soft), nscm.log_prob(z))
    decoded = nscm.decode(abduct(nscm, soft))
    assert (decoded - z).abs().max() < 1e-5


# --- learned graphs ---


def test_learned_graph_penalties_and_graph() -> None:
    nscm, z = make(CONTINUOUS, learned_graph=True), sample(CONTINUOUS)
    assert nscm.gates is not None
    losses = nscm.loss(z)
    assert set(losses) == {"nscm", "acyclicity", "sparsity"}
    torch.testing.assert_close(losses["sparsity"], torch.tensor(6.0))  # 12 pairs, each 1/2
    assert losses["acyclicity"] > 0
    assert nscm.learned().edges == ()
    with torch.no_grad():
        nscm.gates.logits.copy_(torch.where(CONTINUOUS.adjacency, 30.0, -30.0))
    assert nscm.loss(z)["acyclicity"].abs() < 1e-4
    assert nscm.learned() == CONTINUOUS
    assert torch.equal(nscm.adjacency, CONTINUOUS.adjacency)
    assert (nscm.decode(abduct(nscm, z)) - z).abs().max() < 1e-5
    known = make(CONTINUOUS)
    assert known.learned() is known.graph


def test_learned_graph_forgets_an_independent_factor() -> None:
    torch.manual_seed(0)
    graph = CausalGraph([Factor("a"), Factor("b"), Factor("c")])
    a = torch.rand(1024)
    z = torch.stack([a, 0.7 * a + 0.3 * torch.rand(1024), torch.rand(1024)], dim=1)
    nscm = NSCM(graph, hidden=(16,), learned_graph=True)
    optimizer = torch.optim.Adam(nscm.parameters(), lr=3e-2)
    for _ in range(150):
        losses = nscm.loss(z)
        total = losses["nscm"] + 0.02 * losses["sparsity"] + 0.1 * losses["acyclicity"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    learned = nscm.eval().learned()
    assert len(learned.edges) == 1
    assert set(learned.edges[0]) == {"a", "b"}


# --- numerics and mistakes ---


@GRAPHS
def test_autocast_changes_nothing(graph: CausalGraph) -> None:
    nscm, z = make(graph), sample(graph)
    values, mask = do(graph, z, **{graph.names[0]: 1.0})

    def run() -> list[Tensor]:
        u = abduct(nscm, z)
        predicted = nscm.predict(z, u, values, mask)
        return [nscm.log_prob(z), nscm.loss(z)["nscm"], u, nscm.decode(u), predicted]

    plain = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = run()
    for one, other in zip(plain, cast, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert torch.equal(one, other)


def test_half_precision_factors_come_back_exact_in_float32() -> None:
    nscm, z = make(CONTINUOUS), sample(CONTINUOUS).bfloat16()
    cf = nscm.predict(z, abduct(nscm, z), *do(CONTINUOUS, z))
    assert cf.dtype == torch.float32
    assert torch.equal(cf, z.float())


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 4)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    nscm, wrong = make(CONTINUOUS), torch.zeros(shape)
    for call in (nscm.log_prob, nscm.loss, nscm.abduct, nscm.decode):
        with pytest.raises(GraphError, match=r"\[B, 4\].*angle, light, length, position, got"):
            call(wrong)
    z = sample(CONTINUOUS)
    with pytest.raises(GraphError, match="of one shape"):
        nscm.predict(z, z, z[:3], torch.zeros_like(z, dtype=torch.bool))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_factors_that_are_not_finite_are_named(bad: float) -> None:
    nscm, z = make(CONTINUOUS), sample(CONTINUOUS)
    broken = z.clone()
    broken[3, 2] = bad
    for call in (nscm.log_prob, nscm.loss, nscm.abduct):
        with pytest.raises(GraphError, match="Factor 'length' is not finite"):
            call(broken)
    with pytest.raises(GraphError, match="Exogenous value of 'length' is not finite"):
        nscm.decode(broken)
    with pytest.raises(GraphError, match="Imposed value of 'length' is not finite"):
        nscm.predict(z, z, broken, torch.ones_like(z, dtype=torch.bool))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": []}, "positive layer widths"),
        ({"hidden": [8, 0]}, "positive layer widths"),
        ({"bins": 1}, "at least 2"),
        ({"scale_floor": 0.0}, "between 0 and 1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NSCM(CONTINUOUS, **settings)  # type: ignore[arg-type]


def test_class_path_takes_the_graph_at_construction() -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(NSCM, "nscm", skip={"graph"})
    options = parser.parse_args(["--nscm.hidden=[8,8]", "--nscm.learned_graph=true"]).nscm
    nscm = NSCM(CONTINUOUS, **options.as_dict())
    assert nscm.gates is not None
    assert nscm.equations.location.weights[1].shape == (4, 8, 8)
