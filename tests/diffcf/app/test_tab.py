"""The explorer's page by what its elements say: no browser is needed."""

from __future__ import annotations

import pytest
from visiting import Visitor, visit

from data_modules.scenes.pendulum import PendulumScene
from diffcf.api import Model
from diffcf.app.gallery import Subject
from diffcf.app.page import Explorer
from diffcf.causal.ties import Tie, Ties
from diffcf.io.transform import ImageTransform


@pytest.fixture
def explorer(small: Model, scene: PendulumScene, small_batch: dict) -> Explorer:
    rows = zip(small_batch["image"][:4], small_batch["factors"], strict=False)
    subjects = [Subject(image, f"Image {n}", z, scene) for n, (image, z) in enumerate(rows, 1)]
    return Explorer("small", small, subjects, ImageTransform(32))


def test_interventions_are_written_as_on_the_command_line(explorer: Explorer) -> None:
    async def visiting(page: Visitor) -> None:
        await page.open()
        before = page.image("Counterfactual").props["src"]
        await page.ask("light=1.2; shadow_length += 2 if angle<0.3")
        assert page.says("do(light = 1.20, shadow length += 2 if angle < 0.3)")
        assert page.image("Counterfactual").props["src"] != before
        assert page.says("shadow_length += 2 if angle<0.3"), "beside its factor"
        await page.press("Undo")
        await page.until(lambda: page.idle and page.labelled("Interventions").value == "")

    visit(explorer, visiting)


def test_what_is_wrong_is_said_at_the_field_and_changes_nothing(explorer: Explorer) -> None:
    wrong = {
        "light": "'light' is no intervention: write name=value.",
        "moon=1": "moon",
        "light=99": "do(light=99) is outside the factor's range",
        "light~uniform:1": "write light~uniform:low:high",
        "light=1; light+=1": "sets light a second time",
        "light+=.1 if angle<0.3 if angle>0": "two conditions",
        "light=" + "1" * 3000: "2000 characters",
    }

    async def visiting(page: Visitor) -> None:
        await page.open()
        await page.ask("light=1.2")
        field = page.labelled("Interventions")
        for text, said in wrong.items():
            await page.ask(text)
            assert said in field.error and field.value == text and not page.alerts()
            assert page.says("do(light = 1.20)")
        await page.ask("light=1.3")
        assert field.error is None and page.says("do(light = 1.30)")

    visit(explorer, visiting)


def test_a_condition_that_is_not_met_is_said(explorer: Explorer) -> None:
    async def visiting(page: Visitor) -> None:
        await page.open()
        await page.ask("light=1.2 if angle>0.65")
        assert page.says("not so in this image, nothing is set")
        assert page.image("Counterfactual").props["src"]

    visit(explorer, visiting)


def test_what_the_data_do_not_determine_is_said_at_its_factor(explorer: Explorer) -> None:
    graph = explorer.model.graph
    same = tuple((k / 10, k / 10) for k in range(11))
    explorer.model.module.ties = Ties(graph, [Tie("angle", "light", same)])

    async def visiting(page: Visitor) -> None:
        await page.open()
        assert not page.says("is not determined")
        await page.ask("light=2.2")
        assert page.says("light is not determined: it goes with angle in every training image")
        assert "is not determined" in page.labelled("light").props["aria-valuetext"]

    visit(explorer, visiting)
