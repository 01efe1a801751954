"""The explorer as a visitor has it: ``diffcf app pendulum`` in a headless Chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Page, browser, explorer, missing_browser
from PIL import Image
from selenium.webdriver.common.keys import Keys

LACKING = missing_browser()
REQUIRED = os.environ.get("DIFFCF_REQUIRE_BROWSER") == "1"
if LACKING and not REQUIRED:
    pytest.skip(f"no browser to test with: {LACKING}", allow_module_level=True)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    assert LACKING is None, f"DIFFCF_REQUIRE_BROWSER=1, but {LACKING}"
    with explorer("pendulum") as url:
        yield url


@pytest.fixture(scope="module")
def window(url: str) -> Iterator[Page]:
    with browser(url) as page:
        yield page


@pytest.fixture
def page(window: Page, url: str) -> Page:
    window.open(url)
    return window


def test_a_visitor_sets_a_factor_takes_a_step_and_undoes_it(page: Page) -> None:
    assert len(page.all(".thumb")) > 5 and not page.all(".edge.cut")
    before, length = page.pixels("counterfactual"), page.target("shadow_length")
    page.slide("light", 0.3)
    page.until(lambda: page.target("shadow_length") != length)
    page.until(lambda: page.idle and page.pixels("counterfactual") != before)
    assert page.pixels("factual") == before and page.pixels("exact") != before
    assert page.all('.node.set[data-factor="light"]') and len(page.all(".node.moved")) == 2
    assert not page.all(".edge.cut"), "nothing causes the light"
    first = page.pixels("counterfactual")
    page.press("Take this step")
    page.until(lambda: page.idle and page.all('.node.held[data-factor="light"]'))
    page.slide("shadow_position", 0.2)
    page.until(lambda: page.idle and page.pixels("counterfactual") != first)
    assert {e.get_attribute("data-edge") for e in page.all(".edge.cut")} == {
        "angle>shadow_position",
        "light>shadow_position",
    }
    assert (
        len(page.all(".strip .taken")) == 1 and len(page.all(".strip .pending:not(.hidden)")) == 1
    )
    page.press("Undo")
    page.until(lambda: page.idle and page.pixels("counterfactual") == first)
    assert not page.all(".edge.cut")
    page.press("Start over")
    page.until(lambda: page.idle and page.pixels("counterfactual") == before)
    assert not page.all(".strip .taken") and page.target("shadow_length") == length
    assert page.hosts() == {"127.0.0.1"}


def test_uploads_are_shown_or_refused_and_the_page_stays_usable(page: Page, tmp_path: Path) -> None:
    before = page.pixels("factual")
    good, broken, large, wide = (tmp_path / f"{n}.png" for n in ("good", "broken", "large", "wide"))
    Image.new("RGB", (70, 90), (200, 30, 30)).save(good)
    broken.write_bytes(good.read_bytes()[:50])
    large.write_bytes(good.read_bytes() + bytes(11_000_000))
    Image.new("1", (6000, 5000)).save(wide)
    for refused, said in ((broken, "cannot be read"), (large, "10 MB"), (wide, "25 million")):
        page.upload(refused)
        page.until(lambda said=said: any(said in sentence for sentence in page.sentences()))
        assert page.pixels("factual") == before and page.idle
    whole = "button[aria-label='download it in its whole picture']"
    assert not page.one(whole).is_displayed(), "a drawn image is no part of a file"
    page.upload(good)
    page.until(lambda: page.idle and page.pixels("factual") != before)
    assert page.one(whole).is_displayed()
    assert page.all(".stage.no-exact"), "nobody knows the exact counterfactual of an upload"
    red = page.pixels("factual")
    assert page.one("a.link").is_displayed() is False, "nobody else has the file"
    half = Image.new("RGB", (90, 70), (200, 30, 30))
    half.paste((30, 30, 200), (80, 0, 90, 70))
    half.save(good)
    place = page.one(".crop [role=slider][aria-label='crop across']")
    down = page.one(".crop [aria-label='crop down']")
    assert down.is_displayed() and not place.is_displayed()
    page.upload(good)
    # Its middle is as red as the first: only where there is room says which of them is shown.
    page.until(lambda: page.idle and place.is_displayed() and page.pixels("factual") == red)
    assert not down.is_displayed()
    place.send_keys(Keys.PAGE_UP * 5)
    page.until(lambda: page.idle and page.pixels("factual") != red)
    red = page.pixels("factual")
    page.slide("light", 0.6)
    page.until(lambda: page.idle and page.pixels("counterfactual") != red)
    assert page.hosts() == {"127.0.0.1"}


def test_each_tab_has_its_own_state(page: Page, url: str) -> None:
    page.slide("angle", 0.8)
    page.until(lambda: page.idle and page.all(".node.set"))
    here = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.open(url)
    assert not page.all(".node.set")
    page.driver.close()
    page.driver.switch_to.window(here)
    assert page.all(".node.set")


def test_the_keyboard_alone_sets_factors_and_asks(page: Page) -> None:
    slider = page.focused_after(Keys.TAB, until=("slider", "light"))
    before, said = page.target("light"), slider.get_attribute("aria-valuetext")
    assert said.startswith(before) and "as in the factual" in said
    slider.send_keys(Keys.ARROW_LEFT * 40)
    page.until(lambda: page.idle and page.target("light") != before)
    page.until(lambda: "set by you" in slider.get_attribute("aria-valuetext"))
    outline = "return getComputedStyle(arguments[0].querySelector('.q-slider__thumb')).outlineStyle"
    assert page.driver.execute_script(outline, page.one(".q-slider:focus-within")) == "solid"
    field = page.one("input[aria-label='Interventions']")
    assert field.get_attribute("value").startswith("light=")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("moon=1", Keys.ENTER)
    page.until(lambda: "moon" in page.one(".ask [role=alert]").text)
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("angle+=0.2", Keys.ENTER)
    page.until(
        lambda: (
            page.idle
            and "angle += 0.2" in page.one("[aria-live=polite]").get_attribute("textContent")
        )
    )


def test_the_address_and_the_link_open_the_same_answer(page: Page) -> None:
    page.all(".thumb")[4].click()
    page.slide("light", 0.3)
    page.until(lambda: page.idle and page.all(".node.set"))
    page.until(lambda: "do=light" in page.driver.current_url)
    shown, link = page.pixels("counterfactual"), page.one("a.link").get_attribute("href")
    assert link == page.driver.current_url
    page.open(link)
    page.until(lambda: page.pixels("counterfactual") == shown)
    assert page.all('.node.set[data-factor="light"]') and not page.sentences()


def test_at_1280_by_800_nothing_scrolls(page: Page) -> None:
    size = "const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]"
    assert page.driver.execute_script(size) == [1280, 800]
