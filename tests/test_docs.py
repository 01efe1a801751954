"""The README and docs/ name only what is there: links, anchors, paths, classes, keys, tables."""

from __future__ import annotations

import re
import tomllib
from itertools import product
from pathlib import Path
from pydoc import locate
from urllib.parse import unquote

import pytest
import yaml
from doc_pages import PAGES, ROOT, anchors, blocks, codes, links

from diffcf.commands.tables import all_tables, refreshed, text_blocks
from diffcf.reporting.results import find_results

LANGUAGES = {"python", "yaml", "json", "", "bash", "sh", "csv", "bibtex", "text"}
PATH = re.compile(r"(?:experiments|diffcf|data_modules|tests|docs)/[\w./{},-]*\w\}?")
ACTIONS = re.compile(r"\.\./\.\./actions/workflows/(?P<file>[\w.]+)")
"""On GitHub, from a file at the root: the runs of a workflow, whoever owns the repository."""
DOTTED = re.compile(r"(?:diffcf|data_modules)(?:\.\w+)+")

page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@page_by_page
def test_links_and_anchors_resolve(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        if workflow := ACTIONS.match(link):
            assert (ROOT / ".github/workflows" / workflow["file"]).is_file(), link
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), f"{page.name} links to {link}, which is no file"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}: no such heading"


@page_by_page
def test_paths_in_the_text_exist(page: Path) -> None:
    for code in codes(page):
        if not (found := PATH.fullmatch(code)):
            continue
        for path in _expanded(found[0]):
            assert (ROOT / path).exists(), f"{page.name} names {path}, which does not exist"


@page_by_page
def test_names_in_the_text_can_be_imported(page: Path) -> None:
    for code in codes(page):
        if DOTTED.fullmatch(code):
            assert locate(code) is not None, f"{page.name} names {code}, which does not exist"


def _expanded(path: str) -> list[str]:
    """``a/{b,c}.yaml`` as a shell would have it."""
    parts = [part.split(",") for part in re.split(r"[{}]", path)]
    return ["".join(choice) for choice in product(*parts)]


def test_every_block_is_in_a_language_that_is_checked() -> None:
    unknown = {str(block): block.language for block in blocks() if block.language not in LANGUAGES}
    assert not unknown, unknown


@pytest.mark.parametrize("block", blocks("yaml", "json"), ids=str)
def test_yaml_parses(block) -> None:  # and JSON, which is YAML too
    assert isinstance(yaml.safe_load(block.text), dict | list)


def test_few_blocks_are_not_run() -> None:
    assert sum(not block.runs for block in blocks()) <= 3


def test_extras_exist() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = [page.read_text() for page in PAGES]
    assert {extra for text in texts for extra in re.findall(r"diffcf\[(\w+)\]", text)} <= set(known)


def test_tables_are_what_the_results_say() -> None:
    results = ROOT / "experiments/results"
    known = text_blocks(results, all_tables(results, find_results(results)))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert refreshed(page, known) == text, f"run `make tables`: {page.name} differs"


def test_every_table_of_figures_is_marked() -> None:
    """A table with decimals outside a marked block was typed by hand."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        rest = re.sub(r"^<!-- diffcf tables: .*?^<!-- end -->", "", text, flags=re.S | re.M)
        typed = re.findall(r"^\|.*\| [*]*\d*\.\d+[*]* \|.*$", rest, flags=re.M)
        assert not typed, f"{page.name}: mark this table: {typed[0]}"


@pytest.mark.parametrize("name", ["pendulum", "flow", "shadow_sunlight", "celeba_smile_sample"])
def test_the_results_show_every_dataset(name: str) -> None:
    assert f"<!-- diffcf tables: {name} own -->" in (ROOT / "docs/results.md").read_text()
