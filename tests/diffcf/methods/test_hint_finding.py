"""Images in which somebody set a factor tell where it is written."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning import Trainer
from torch import Tensor

from data_modules import PointlightDataModule, SunlightDataModule
from diffcf.causal import NSCM, CausalGraph, Factor, Tie
from diffcf.methods import DiffusionCounterfactuals, load_method
from diffcf.methods.hint_finding import LEAST, Found, find_hints, hints_of, told_apart
from diffcf.methods.place_votes import Votes
from diffcf.networks import LocalPosteriorProjector, UNet

NAMES = ("frame", "middle")
KINDS = {
    "colours": [Factor(name, "categorical", categories=tuple("rgb")) for name in NAMES],
    "greys": [Factor(name) for name in NAMES],
}
NETWORKS: dict[str, Any] = {
    "generator": partial(UNet, channels=[8, 8], condition=8, attention_heads=1),
    "projector": partial(LocalPosteriorProjector, channels=8, condition=8),
    "nscm": partial(NSCM, hidden=[8]),
}
SHOWN = {"both": ("frame", "middle"), "swapped": ("middle", "frame"), "one": ("frame", "frame")}


class Framed:
    """Images of a square whose frame and middle show two factors that are tied unless one is set.

    ``shown`` says of which factors the picture's border and its middle are.
    """

    def __init__(self, kind: str, shown: tuple[str, str], count: int, broken: int) -> None:
        self.graph, self.shown = CausalGraph(KINDS[kind]), shown
        generator = torch.Generator().manual_seed(0)
        one = torch.rand(count, generator=generator)
        other = torch.rand(broken, generator=generator)
        if kind == "colours":
            one, other = (one * 2).round() / 2, (other * 2).round() / 2
            other = torch.where(other == one[:broken], (other + 0.5) % 1.5, other)
        self.factors = torch.stack([one, one], dim=1)
        self.factors[:broken, 1] = other
        self.set = torch.zeros(count, 2, dtype=torch.bool)
        self.set[:broken, 1] = True

    def factors_of(self, _: str) -> Tensor:
        return self.factors

    def intervened_of(self, _: str) -> Tensor:
        return self.set

    def images_of(self, _: str, rows: Tensor) -> Tensor:
        image = torch.zeros(len(rows), 3, 16, 16)
        columns = [self.graph.column(name) for name in self.shown]
        border, middle = (2 * self.factors[rows, column] - 1 for column in columns)
        image[:] = border[:, None, None, None]
        image[..., 5:11, 5:11] = 0.7 * middle[:, None, None, None]
        image[:, 2, 5:11, 5:11] = 0.9  # an edge, whatever the values
        return image


def found_in(data: Any) -> Found:
    answer = find_hints(data.graph, data)
    assert answer is not None
    ((found,), ties) = answer[1], answer[0]
    assert (found.tie.first, found.tie.second) == NAMES
    assert len(ties) == 1, "it is sought where nothing was set"
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shown", ["both", "swapped"])
def test_a_place_is_the_factors_that_it_shows(kind: str, shown: str) -> None:
    found = found_in(Framed(kind, SHOWN[shown], 300, 24))
    border, middle = SHOWN[shown]
    assert found.places == {border: "background", middle: "object"}
    assert found.images > 20 and found.chance < 0.01  # some are set to about the same value
    assert f"{border} is written in the background" in str(found)


@pytest.mark.parametrize(
    ("shown", "broken", "said"),
    [("one", 24, "both show in the same places"), ("both", LEAST - 1, "too few to tell")],
)
def test_where_images_do_not_tell_nothing_is_found(shown: str, broken: int, said: str) -> None:
    found = found_in(Framed("colours", SHOWN[shown], 300, broken))
    assert found.places == {} and said in str(found)


def test_without_images_in_which_something_was_set_nobody_looks() -> None:
    assert find_hints(CausalGraph(KINDS["greys"]), object()) is None
    data = Framed("greys", SHOWN["both"], 100, 0)
    assert find_hints(data.graph, data) is None


def voted(first: str, second: str, shown: dict[str, str], rows: Iterable[int]) -> Votes:
    """Of a tie whose places show one of its two factors, or another that goes with one of them."""
    images = torch.tensor(list(rows))
    wins = {place: torch.full((len(images),), name == first) for place, name in shown.items()}
    return Votes(Tie(first, second, ((0.0, 0.0), (1.0, 1.0))), images, wins)


def lamp_on_a_floor(shown: dict[str, str]) -> list[Votes]:
    """Three factors with one code, of which an image sets the floor's or the spot's."""

    def votes(first: str, second: str, rows: Iterable[int]) -> Votes:
        row = torch.tensor(list(rows))
        floor_set = row < 20
        wins = {}
        for place, name in shown.items():  # what an image shows there: what was set, or the rest
            showing = floor_set if name == "floor" else ~floor_set & (name == "spot")
            own = floor_set if first == "floor" else ~floor_set & (first == "spot")
            wins[place] = showing == own
        return Votes(Tie(first, second, ((0.0, 0.0), (1.0, 1.0))), row, wins)

    return [
        votes("light", "floor", range(20)),
        votes("light", "spot", range(20, 40)),
        votes("floor", "spot", range(40)),
    ]


TRUE = {"background": "floor", "object": "light", "background_highlight": "spot",
        "background_rest": "floor"}  # fmt: skip


def test_two_factors_are_sought_in_the_whole_background_first() -> None:
    pair = voted("floor", "light", TRUE, range(20))
    around = dict.fromkeys(TRUE, "lamp") | {"object": "angle"}
    alone = voted("lamp", "angle", around, range(9))
    assert hints_of(told_apart([pair, alone])) == {
        "floor": "background", "light": "object", "lamp": "background", "angle": "object",
    }  # fmt: skip
    finer = voted("floor", "spot", TRUE | {"object": "floor"}, range(20))
    assert hints_of(told_apart([finer])) == {
        "floor": "background_rest", "spot": "background_highlight",
    }  # fmt: skip
    assert hints_of(told_apart([finer._replace(images=finer.images[:5])])) == {}


def test_factors_with_one_code_are_told_apart_all_together_or_not_at_all() -> None:
    places = {"floor": "background_rest", "spot": "background_highlight", "light": "object"}
    votes = lamp_on_a_floor(TRUE)
    found = told_apart(votes)
    assert hints_of(found) == places and all(len(each.places) == 2 for each in found)
    assert any("floor is written in the rest of the background" in str(each) for each in found)
    assert hints_of(told_apart(votes[:2])) == {}, "no image parts floor and spot"
    few = votes[1]._replace(images=votes[1].images[: LEAST - 1])
    assert hints_of(told_apart([votes[0], few, votes[2]])) == {}
    hidden = lamp_on_a_floor(TRUE | {"background_highlight": "floor"})
    assert hints_of(told_apart(hidden)) == {}, "the spot shows nowhere"
    many = [voted(a, b, TRUE, range(20)) for a, b in combinations("abcd", 2)]
    assert hints_of(told_apart(many)) == {}, "there are three places"


HINTS = Path(__file__).parents[3] / "experiments/hints"
SUNLIT, LIT_BY_A_POINT = (
    yaml.safe_load((HINTS / f"shadow_{light}.yaml").read_text())["model"]["init_args"]["hints"]
    for light in ("sunlight", "pointlight")
)


@pytest.mark.parametrize(
    ("module", "expected"), [(SunlightDataModule, SUNLIT), (PointlightDataModule, LIT_BY_A_POINT)]
)
def test_factors_of_shadow_are_told_apart_by_128_images(module: Any, expected: object) -> None:
    data = module(image_size=64, train_size=1200, val_size=2, test_size=2, interventional=128)
    data.setup()
    answer = find_hints(data.graph, data)
    assert answer is not None and hints_of(answer[1]) == expected


def test_a_training_finds_them_and_its_checkpoint_and_a_test_know_them(tmp_path: Path) -> None:
    sizes = {"image_size": 32, "train_size": 600, "val_size": 2, "test_size": 8}
    data = SunlightDataModule(**sizes, batch_size=4, interventional=128)  # type: ignore[arg-type]
    data.setup()
    model = DiffusionCounterfactuals(data.graph, **NETWORKS, hints="auto")
    trainer = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    fit = Trainer(max_steps=1, default_root_dir=tmp_path, limit_val_batches=0, **trainer)  # type: ignore[arg-type]
    fit.fit(model, datamodule=data)
    expected = SUNLIT
    assert model.hints is not None and model.hints.to_dict() == expected
    assert model.untaught is not None and not model.untaught.all, "setting one is taught now"
    assert model.ties is not None and len(model.ties) == 1, "what goes with a value is still known"
    fit.save_checkpoint(tmp_path / "last.ckpt")
    loaded = load_method(tmp_path / "last.ckpt")
    assert isinstance(loaded, DiffusionCounterfactuals) and loaded.hints is not None
    assert loaded.hints.to_dict() == expected

    plain = SunlightDataModule(**sizes)  # type: ignore[arg-type]
    other = DiffusionCounterfactuals(data.graph, **NETWORKS, hints="auto")
    Trainer(default_root_dir=tmp_path, **trainer).test(  # type: ignore[arg-type]
        other, datamodule=plain, ckpt_path=str(tmp_path / "last.ckpt"), weights_only=False
    )
    assert other.hints is not None and other.hints.to_dict() == expected
