"""What the data lack beside its causes is found beside others, and drawn as it is drawn there."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffcf.api import Model
from diffcf.app.gallery import Subject
from diffcf.app.inference import open_worlds
from diffcf.app.session import Session
from diffcf.causal import NSCM, CausalGraph, Factor, likely_context
from diffcf.commands.main import main
from diffcf.diffusion import ClassifierFree, prediction_from_velocity
from diffcf.io import SettingsError
from diffcf.methods import CounterfactualEngine, DiffusionCounterfactuals, Sampling, write_weights
from diffcf.networks import GlobalPosteriorProjector, UNet
from diffcf.reporting import save_image

GRAPH = CausalGraph(
    [Factor(name, "binary") for name in ("male", "young", "bald")],
    [("male", "bald"), ("young", "bald")],
)
BALD = GRAPH.column("bald")
SHARES = torch.tensor([[0.0005, 0.0], [0.12, 0.02]])  # of bald heads, by male and young
OLD_WOMAN, YOUNG_WOMAN, OLD_MAN = (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def nscm() -> NSCM:
    """Fitted to 4,000 people among whom hardly a woman is bald."""
    noise = torch.Generator().manual_seed(0)
    people = (torch.rand(4000, 2, generator=noise) < 0.5).float()
    share = SHARES[people[:, 0].long(), people[:, 1].long()]
    bald = (torch.rand(4000, generator=noise) < share).float()
    people = torch.cat([people, bald[:, None]], dim=1)
    torch.manual_seed(0)
    fitted = NSCM(GRAPH, hidden=(16,))
    optimizer = torch.optim.Adam(fitted.parameters(), lr=0.03)
    for _ in range(200):
        optimizer.zero_grad()
        fitted.loss(people)["nscm"].backward()
        optimizer.step()
    return fitted.eval()


def context_of(nscm: NSCM, factual: tuple[float, ...], least: float, **do: float) -> list[float]:
    """Of one person."""
    known = torch.tensor([factual])
    target, is_set = known.clone(), torch.zeros(1, 3, dtype=torch.bool)
    for name, value in do.items():
        target[:, GRAPH.column(name)], is_set[:, GRAPH.column(name)] = value, True
    context = likely_context(nscm, known, target, is_set, least)
    assert context.shape == known.shape
    return context[0].tolist()


def test_one_cause_is_changed_where_what_is_set_is_rare(nscm: NSCM) -> None:
    assert context_of(nscm, OLD_WOMAN, 0.01, bald=1.0) == [1.0, 0.0, 0.0]
    assert context_of(nscm, YOUNG_WOMAN, 0.01, bald=1.0) == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("factual", "least", "do"),
    [
        (OLD_MAN, 0.01, {"bald": 1.0}),  # not rare
        (OLD_WOMAN, 0.01, {"bald": 0.0}),  # nothing is to change
        (OLD_WOMAN, 0.01, {"young": 1.0}),  # has no causes
        (YOUNG_WOMAN, 0.05, {"bald": 1.0}),  # no other single cause makes it likely enough
        (OLD_WOMAN, 0.01, {"male": 0.0, "bald": 1.0}),  # the cause is asked for
        (OLD_WOMAN, 0.01, {}),
    ],
)
def test_elsewhere_causes_are_the_factuals(
    nscm: NSCM, factual: tuple[float, ...], least: float, do: dict[str, float]
) -> None:
    assert context_of(nscm, factual, least, **do) == list(factual)


def test_each_person_has_a_context_of_their_own(nscm: NSCM) -> None:
    known = torch.tensor([OLD_WOMAN, OLD_MAN, YOUNG_WOMAN, OLD_WOMAN])
    target, is_set = known.clone(), torch.zeros(4, 3, dtype=torch.bool)
    target[:3, BALD], is_set[:3, BALD] = 1.0, True
    context = likely_context(nscm, known, target, is_set, 0.01)
    assert context[:, 0].tolist() == [1.0, 1.0, 1.0, 0.0]
    assert torch.equal(context[:, 1:], known[:, 1:])


class SeenOfMen(nn.Module):
    """v is 1 for the young, and 4 more for a bald man: of bald women nothing was learned."""

    def forward(
        self, x_t: Tensor, t: Tensor, factors: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        v = factors[:, 1] + 4 * factors[:, 0] * factors[:, 2]
        return v.view(-1, 1, 1, 1).expand_as(x_t)


def test_the_push_is_that_of_the_context() -> None:
    x_t = torch.randn(3, 1, 4, 4)
    factual = torch.tensor([YOUNG_WOMAN, YOUNG_WOMAN, OLD_MAN])
    target = factual.clone()
    target[:, BALD] = 1.0
    context = factual.clone()
    context[0, 0] = 1.0
    reached = torch.tensor([[False, False, True]]).expand(3, 3)
    rule = ClassifierFree(3.0, from_factual=True, overlap=0.01)
    found = rule.wrap(SeenOfMen(), target, reached, factual, context=context)(x_t, 0.3)
    v = torch.tensor([1.0 + 3 * 4, 1.0, 0.0 + 3 * 4]).view(3, 1, 1, 1).expand_as(x_t)
    expected = prediction_from_velocity(v, x_t, torch.full((3,), 0.3))
    torch.testing.assert_close(found.denoised, expected.denoised)


def test_a_bald_woman_is_drawn_and_nothing_asked_changes_nothing(nscm: NSCM) -> None:
    image, people = torch.zeros(2, 1, 4, 4), torch.tensor([YOUNG_WOMAN, OLD_MAN])
    moved = {}
    for overlap in (0.0, 0.01):
        free = ClassifierFree(2.0, from_factual=True, overlap=overlap)
        engine = CounterfactualEngine(
            SeenOfMen(), None, nscm, Sampling(steps=3, anchored=True, free=free)
        )
        world = engine.abduct(image, people)
        torch.testing.assert_close(world.predict({}).image, image, atol=1e-5, rtol=0)
        moved[overlap] = world.predict({"bald": 1.0}).image.abs().amax(dim=(1, 2, 3))
    assert moved[0.0][0] < 1e-5
    assert moved[0.01][0] > 0.1
    torch.testing.assert_close(moved[0.0][1], moved[0.01][1])


def test_impossible_overlap_gets_a_sentence() -> None:
    for wrong in ({"overlap": 0.1}, {"overlap": 1.0, "from_factual": True}, {"overlap": -0.1}):
        with pytest.raises(SettingsError, match="overlap of free is a probability below 1"):
            ClassifierFree(2.0, **wrong)


def small_model(nscm: NSCM) -> DiffusionCounterfactuals:
    module = DiffusionCounterfactuals(
        GRAPH,
        generator=partial(UNet, channels=[8, 16], condition=16, attention_heads=2),
        projector=partial(GlobalPosteriorProjector, channels=[8, 8]),
        nscm=partial(NSCM, hidden=[16]),
        mixing=None,
    ).eval()
    module.nscm.load_state_dict(nscm.state_dict())
    module.image_shape = (3, 16, 16)
    return module


def test_the_explorer_says_what_the_data_hardly_have(nscm: NSCM) -> None:
    model = Model(small_model(nscm), Sampling(steps=2))
    subject = Subject(torch.rand(3, 16, 16) * 2 - 1, "one", torch.tensor(OLD_WOMAN))
    session = Session(open_worlds(model, subject))
    assert not session.extrapolated
    session.set("bald", 1.0)
    assert "beside the same male and young" in session.extrapolated["bald"]
    session.set("male", 1.0)
    assert not session.extrapolated


@pytest.mark.parametrize("draws", [1, 2])
def test_the_command_warns_of_what_the_data_hardly_have(
    nscm: NSCM, tmp_path: Path, capsys, draws: int
) -> None:
    module = small_model(nscm)
    weights, table = tmp_path / "small.safetensors", tmp_path / "people.csv"
    write_weights(module, Sampling(steps=2), weights)
    people = {"woman": YOUNG_WOMAN, "man": OLD_MAN}
    for name in people:
        save_image(torch.rand(3, 16, 16) * 2 - 1, tmp_path / f"{name}.png")
    lines = [",".join([f"{name}.png", *map(str, person)]) for name, person in people.items()]
    table.write_text("\n".join(["image,male,young,bald", *lines]) + "\n")
    ask = ["counterfactual", str(weights), *(str(tmp_path / f"{name}.png") for name in people)]
    ask += ["--factors", str(table), "--draws", str(draws)]
    for value, named in ((1, ["bald"]), (0, [])):
        out = tmp_path / f"bald{value}"
        assert main([*ask, "--do", f"bald={value}", "--out", str(out)]) == 0
        rows = json.loads((out / "factors.json").read_text())["images"]
        assert rows["woman"]["extrapolated"] == named
        assert rows["man"]["extrapolated"] == []
        said = "Warning: bald is set to what the data hardly ever have beside the same male and"
        assert (said in capsys.readouterr().err) == bool(named)
