"""The explorer's page by what its elements say: no browser is needed."""

from __future__ import annotations

import pytest
from nicegui import ui
from visiting import Visitor, visit

from data_modules.scenes.pendulum import PendulumScene
from diffcf.api import Model
from diffcf.app.elements import source, thumbnail
from diffcf.app.explorer import Explorer
from diffcf.app.gallery import Subject
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


def test_draws_are_those_of_the_library_with_their_spread(explorer: Explorer) -> None:
    subject = explorer.subjects[0]
    abducted = explorer.model.abduct(subject.image[None], subject.factors[None])
    draws = abducted.predict({"light": "~uniform:1:2"}, "native", draws=3)
    drawn = [source(thumbnail(image[0], 96)) for image in draws.images]

    async def visiting(page: Visitor) -> None:
        await page.open()
        await page.ask("light~uniform:1:2")
        await page.write("Draws", 3)
        await page.until(lambda: page.says("3 draws"))
        shown = [page.image(f"Draw {k} of 3").props["src"] for k in (1, 2, 3)]
        assert shown == drawn and len(set(shown)) == 3
        assert page.image("Standard deviation: mean")
        low, high = (f"{end[0, 1]:.2f}" for end in draws.interval())
        assert f"<td>{low} … {high}</td>" in page.table()
        await page.ask("light=1.2")
        assert not page.image("Draw 1 of 3"), "they are of another question"
        await page.write("Draws", 1)
        assert "from 2 to 100, not 1" in page.labelled("Draws").error

    visit(explorer, visiting)


def test_a_link_opens_the_same_answer(explorer: Explorer) -> None:
    async def visiting(page: Visitor) -> None:
        await page.open()
        await page.press("Image 3")
        await page.until(lambda: page.idle and page.image("Factual: Image 3"))
        await page.ask("light+=0.1 if angle<0.5")
        await page.press("Take this step")
        await page.until(lambda: page.idle and page.labelled("Interventions").value == "")
        await page.write("Seed", 5)
        await page.until(lambda: page.idle)
        await page.ask("shadow_length~uniform:4:9; angle=0.1")
        await page.write("Draws", 2)
        await page.until(lambda: page.says("2 draws"))
        names = ("Factual", "Counterfactual", "Exact", "Draw 2", "Standard")
        before, link = [page.image(n).props["src"] for n in names], page.link
        texts = page.labelled("Interventions").value, page.labelled("Seed").value
        await page.open(link)
        await page.until(lambda: page.says("2 draws"))
        assert [page.image(n).props["src"] for n in names] == before and page.link == link
        assert (page.labelled("Interventions").value, page.labelled("Seed").value) == texts
        assert not page.alerts() and page.says("Step 2")

    visit(explorer, visiting)


def test_links_that_cannot_be_followed_say_so_and_show_the_first_image(explorer: Explorer) -> None:
    wrong = {
        "/?image=12": "none of those offered here",
        "/?model=12": "another model than small",
        "/?do=moon%3D1": "moon",
        "/?do=light%3D99": "outside the factor's range",
        "/?take=1": "takes a step that sets nothing",
        "/?seed=1" + "&do=light%3D1&take=1" * 21: "21 steps, more than 20",
        "/?seed=x": "'x' is not a number",
        "/?seed=1.5": "The seed is a whole number",
        "/?draws=1e9": "from 2 to 100, not 1e+09",
        "/?seed=1&seed=2": "'seed'",
        "/?colour=1": "'colour'",
    }

    async def visiting(page: Visitor) -> None:
        for link, said in wrong.items():
            page.alerts().clear()
            await page.open(link)
            (sentence,) = page.alerts()
            assert said in sentence and page.image("Factual: Image 1"), link
            assert page.labelled("Interventions").value == ""
        page.alerts().clear()
        await page.open("/?do=light%3D1.5")
        assert page.says("do(light = 1.50)") and not page.alerts()

    visit(explorer, visiting)


def test_several_images_are_answered_at_once(explorer: Explorer) -> None:
    async def visiting(page: Visitor) -> None:
        await page.open()
        await page.write("Images", 3)
        assert "Nothing is set yet" in page.labelled("Images").error
        await page.ask("light=1.5 if angle<-0.4")
        await page.write("Images", 3)
        await page.until(lambda: page.says(": 3 images"))
        own = [page.image(f"Image {n} under do(light = 1.5 if angle < -0.4)") for n in (1, 2, 3)]
        assert all(own) and page.says("light 1.50") and page.says("nothing is set in this image")
        told = own[0].props["src"]
        assert told == page.image("Counterfactual").props["src"]
        await page.press("open Image 3")
        await page.until(lambda: page.idle and page.image("Factual: Image 3"))
        assert page.labelled("Interventions").value == "light=1.5 if angle<-0.4"
        assert own[2].props["src"] == page.image("Counterfactual").props["src"]
        await page.ask("light=1.4")
        assert not page.image("Image 1 under")

    visit(explorer, visiting)


def test_every_control_and_picture_has_a_name_and_answers_are_announced(explorer: Explorer) -> None:
    async def visiting(page: Visitor) -> None:
        await page.open()
        await page.ask("light=1.5")
        assert not [str(each) for each in page.all() if page.is_nameless(each)]
        (said,) = (e for e in page.all(ui.label) if e.props.get("aria-live") == "polite")
        assert said.text.startswith("do(light = 1.50) light 1.50, shadow length ")
        assert "set by you" in page.labelled("light").props["aria-valuetext"]
        assert "follows its causes" in page.labelled("shadow length").props["aria-valuetext"]
        assert page.image("Counterfactual: do(light = 1.50)")
        assert page.image("Difference to the factual: mean")

    visit(explorer, visiting)
