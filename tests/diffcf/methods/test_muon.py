"""Muon: what its steps are, for which weights, and how a training is told to take it."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn

from diffcf.causal import CausalGraph
from diffcf.io import CheckpointError, SettingsError
from diffcf.methods import DiffusionCounterfactuals, ShardedDiffusionCounterfactuals
from diffcf.methods.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(16, 144), (96, 32), (24, 24)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_singular_values_come_near_one_and_directions_stay(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=generator).double()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linspace(1, 0.12, len(values), dtype=torch.float64)
    assert values.min() > values.norm() / 50
    (turned,) = orthogonalised([(left @ values.diag() @ right).to(dtype)])
    assert turned.dtype is dtype
    of = left.T @ turned.double() @ right.T  # diagonal, if directions stay
    tolerance = 0.02 if dtype is torch.bfloat16 else 1e-4
    assert (of - of.diag().diag()).abs().max() < tolerance
    assert of.diag().min() > 0.65 and of.diag().max() < 1.25


def test_neither_scale_nor_zeros_make_a_difference() -> None:
    matrix = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    turned = orthogonalised([1e-4 * matrix, matrix, 1e4 * matrix, torch.zeros(8, 6)])
    torch.testing.assert_close(turned[0], turned[1])
    torch.testing.assert_close(turned[2], turned[1])
    assert torch.equal(turned[3], torch.zeros(8, 6))


def test_each_matrix_is_turned_as_if_it_were_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 20), (20, 8), (8, 8), (3, 40), (8, 11)]
    matrices = [torch.randn(shape, generator=generator) for shape in shapes]
    for matrix, turned in zip(matrices, orthogonalised(matrices), strict=True):
        torch.testing.assert_close(turned, orthogonalised([matrix])[0])


def test_what_is_no_matrix_steps_as_by_adamw() -> None:
    def stepped(make: object, extra: dict[str, bool]) -> list[Tensor]:
        torch.manual_seed(0)
        layer, data = nn.Linear(5, 3), torch.randn(7, 5)
        optimizer = make([{"params": list(layer.parameters()), "lr": 0.01} | extra])  # type: ignore[operator]
        for _ in range(3):
            optimizer.zero_grad()
            layer(data).square().sum().backward()
            optimizer.step()
        return [p.detach() for p in layer.parameters()]

    for ours, torchs in zip(
        stepped(Muon, {"matrices": False}), stepped(torch.optim.AdamW, {}), strict=True
    ):
        assert torch.equal(ours, torchs)


def test_steps_of_a_kernel_are_of_the_size_of_adamws_and_stored_states_go_on() -> None:
    torch.manual_seed(0)
    data, rate = torch.randn(4, 3, 8, 8), 0.01

    def made() -> tuple[nn.Conv2d, Muon]:
        torch.manual_seed(1)
        layer = nn.Conv2d(3, 6, 3).to(memory_format=torch.channels_last)
        kernel, bias = layer.weight, layer.bias
        groups = [{"params": [kernel], "matrices": True}, {"params": [bias]}]
        return layer, Muon(groups, lr=rate, weight_decay=0.0)

    def step(layer: nn.Conv2d, optimizer: Muon) -> Tensor:
        before = layer.weight.detach().clone()
        optimizer.zero_grad()
        layer(data).square().sum().backward()
        optimizer.step()
        return layer.weight.detach() - before

    layer, optimizer = made()
    taken = step(layer, optimizer)
    assert 0.1 * rate < taken.square().mean().sqrt() < 0.4 * rate  # AdamW's is about .2

    other, resumed = made()
    other.load_state_dict(layer.state_dict())
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    assert torch.equal(step(layer, optimizer), step(other, resumed))


def test_a_training_gives_it_the_networks_it_names(tmp_path: Path, graph: CausalGraph) -> None:
    model = DiffusionCounterfactuals(graph.to_dict(), muon={"generator": 0.02})
    model.trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    optimizer = model.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    chosen = [group for group in optimizer.param_groups if group["matrices"]]
    assert [group["initial_lr"] for group in chosen] == [0.02]
    weights = {id(p) for group in chosen for p in group["params"]}
    assert weights == {id(p) for p in model.generator.parameters() if p.ndim > 1}
    everything = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(everything) == sorted(id(p) for p in model.parameters())


def test_a_network_that_is_not_there_is_named(graph: CausalGraph) -> None:
    with pytest.raises(SettingsError, match=r"'painter'.*generator, projector, nscm"):
        DiffusionCounterfactuals(graph.to_dict(), muon={"painter": 0.02})
    with pytest.raises(SettingsError, match="muon's rate of 'generator'"):
        DiffusionCounterfactuals(graph.to_dict(), muon={"generator": -1.0})


def test_shards_are_refused(graph: CausalGraph) -> None:
    with pytest.raises(SettingsError, match="Muon takes matrices as a whole"):
        ShardedDiffusionCounterfactuals(graph.to_dict(), muon={"generator": 0.02})
    assert ShardedDiffusionCounterfactuals(graph.to_dict()).muon == {}


def test_the_state_of_other_groups_is_refused_and_that_of_plain_adamw_goes_on(
    graph: CausalGraph,
) -> None:
    by_muon, plain = (
        DiffusionCounterfactuals(graph.to_dict(), muon=rates).optimizer(fused=True)
        for rates in ({"generator": 0.02}, None)
    )
    with pytest.raises(CheckpointError, match="'muon' that it was trained with"):
        by_muon.load_state_dict(plain.state_dict())
    old = plain.state_dict()
    for group in old["param_groups"]:
        del group["matrices"]  # as checkpoints from before Muon
    plain.load_state_dict(old)
    plain.step()
