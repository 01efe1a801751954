"""A headless browser at a running explorer: for the test of the page, and for its picture.

``python tests/diffcf/app/browsing.py docs/explorer.png`` draws that picture anew;
``… browsing.py --time answers.json WEIGHTS --images FOLDER`` writes how long the page takes for an
answer, from the click to the picture.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import torch
from selenium import webdriver
from selenium.webdriver import ActionChains, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from diffcf.io import device_name, versions

ROOT = Path(__file__).parents[3]
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
PATIENCE = 60  # seconds, until a start or an answer counts as missing; tests run beside others


def missing_browser() -> str | None:
    """What a browser test lacks on this machine; None for nothing."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(lacking)} not installed" if lacking else None


@contextmanager
def explorer(*args: str) -> Iterator[str]:
    """The address of a ``diffcf app`` that runs meanwhile."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "NICEGUI_"))}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "diffcf", "app", *args, "--port", str(port)],
            cwd=ROOT,
            env=kept | {"OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=said,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url, process, said)
            yield url
            assert process.poll() is None, "the explorer ended on its own"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


def _wait_for(url: str, process: subprocess.Popen, said: Any) -> None:
    end = time.monotonic() + 2 * PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    said.seek(0)
    raise AssertionError(f"the explorer did not start: {said.read()}")


@contextmanager
def browser(url: str, width: int = 1280, height: int = 800) -> Iterator[Page]:
    """A fresh browser, at the explorer at ``url``."""
    with tempfile.TemporaryDirectory() as profile:
        options = ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            page = Page(driver)
            page.open(url)
            yield page
        finally:
            driver.quit()


class Page:
    """What a visitor does at the explorer, and sees."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """The explorer, anew, until its first image is there."""
        self.driver.get(url)
        self.until(lambda: self.idle and self.pixels("counterfactual"))

    def until(self, seen: Callable[[], Any]) -> None:
        """Wait until something is seen."""
        WebDriverWait(self.driver, PATIENCE, 0.02).until(lambda _: seen())

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    @property
    def idle(self) -> bool:
        """Whether no query is running."""
        return bool(self.all(".stage:not(.busy)"))

    def pixels(self, picture: str) -> str:
        """The source of a picture: another one for other pixels."""
        return self.one(f'[data-picture="{picture}"] img').get_attribute("src") or ""

    def target(self, factor: str) -> str:
        return self.one(f'.factor[data-factor="{factor}"] .target').text

    def slide(self, factor: str, to: float) -> None:
        """Click on a slider's track; ``to`` in [0, 1] of its length."""
        track = self.one(f'.factor[data-factor="{factor}"] .q-slider__track-container')
        aside = round((to - 0.5) * track.size["width"])
        ActionChains(self.driver).move_to_element_with_offset(track, aside, 0).click().perform()

    def press(self, text: str) -> None:
        """A button, by its text, once it can be pressed."""
        buttons = f"//button[contains(., '{text}')]"
        self.until(lambda: self.driver.find_element(By.XPATH, buttons).is_enabled())
        self.driver.find_element(By.XPATH, buttons).click()

    def focused_after(self, key: str, until: tuple[str, str]) -> Any:
        """What has the focus once ``key`` was pressed often enough: of that role and that name."""
        for _ in range(100):
            ActionChains(self.driver).send_keys(key).perform()
            found = self.driver.switch_to.active_element
            if until == (found.get_attribute("role"), found.get_attribute("aria-label")):
                return found
        raise AssertionError(f"nothing of {until} gets the focus")

    def upload(self, path: Path) -> None:
        self.one("input[type=file]").send_keys(str(path))

    def sentences(self) -> list[str]:
        """What notifications say."""
        return [found.text for found in self.all(".sentence .q-notification__message")]

    def hosts(self) -> set[str]:
        """Whom the page asked for anything."""
        script = (
            "return [location.href, ...performance.getEntriesByType('resource').map(e => e.name)]"
            ".filter(u => !u.startsWith('data:')).map(u => new URL(u).hostname)"
        )
        return set(self.driver.execute_script(script))


def picture(path: Path) -> None:
    """The page after a step and a half, as a PNG."""
    with explorer("pendulum") as url, browser(url) as page:
        page.slide("light", 0.3)
        page.until(lambda: page.idle and page.all(".node.set"))
        page.press("Take this step")
        page.until(lambda: page.idle and page.all(".node.held"))
        page.slide("shadow_position", 0.62)
        page.until(lambda: page.idle and page.all(".edge.cut"))
        time.sleep(1)  # the ripple of a click
        path.write_bytes(page.driver.get_screenshot_as_png())


def answer_times(path: Path, *args: str) -> None:
    """Seconds from a click on each factor until its counterfactual is seen, five times each."""
    seconds: dict[str, list[float]] = {}
    with explorer(*args) as url, browser(url) as page:
        factual = page.pixels("counterfactual")
        names = [str(row.get_attribute("data-factor")) for row in page.all(".factor")]
        for name in names * 5:
            switches = page.all(f'.factor[data-factor="{name}"] .q-toggle')
            if not switches and not page.all(f'.factor[data-factor="{name}"] .q-slider'):
                continue  # a menu
            started = time.perf_counter()
            switches[0].click() if switches else page.slide(name, 0.3)
            page.until(lambda: page.idle and page.pixels("counterfactual") != factual)
            seconds.setdefault(name, []).append(round(time.perf_counter() - started, 2))
            page.press("Start over")
            page.until(lambda: page.idle and page.pixels("counterfactual") == factual)
    every = sorted(second for found in seconds.values() for second in found)
    record = {"median": statistics.median(every), "most": every[-1], "seconds": seconds}
    origin = {
        "weights": Path(args[0]).name,
        "seed": 0,
        "device": device_name(torch.device("cpu")),
        "explorer's threads": 1,
        "load": [round(load, 1) for load in os.getloadavg()],
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    path.write_text(json.dumps(record | {"provenance": origin}, indent=2))


if __name__ == "__main__":
    if lacking := missing_browser():
        sys.exit(lacking)
    if sys.argv[1] == "--time":
        answer_times(Path(sys.argv[2]), *sys.argv[3:])
    else:
        picture(Path(sys.argv[1]))
