"""The pages at the root and those of docs/, taken apart: blocks, links, headings, inline code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
AT_ROOT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*AT_ROOT, *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = re.compile(r"<!-- not run: .{10,} -->\s*")
"""Stands before a block that no test can run, with the reason."""


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language ("" for none), and whether it is to be run."""

    page: Path
    line: int
    language: str
    text: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(*languages: str) -> list[Block]:
    """Every fenced block in one of the languages; of all without any."""
    return [
        block
        for page in PAGES
        for block in _blocks(page)
        if not languages or block.language in languages
    ]


def _blocks(page: Path) -> Iterator[Block]:
    before = ""
    for token in tokens(page):
        if token.type == "fence" and token.map:
            runs = NOT_RUN.fullmatch(before) is None
            yield Block(page, token.map[0] + 1, token.info.strip(), token.content, runs)
        before = token.content if token.type == "html_block" else ""


def inline(page: Path) -> Iterator[Token]:
    """Links, images, code and text of the paragraphs, headings and tables."""
    for token in tokens(page):
        yield from token.children or ()


def links(page: Path) -> Iterator[str]:
    for token in inline(page):
        if target := token.attrGet("href") or token.attrGet("src"):
            yield str(target)


def codes(page: Path) -> Iterator[str]:
    return (token.content for token in inline(page) if token.type == "code_inline")


@cache
def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub and the site make them."""
    listed = tokens(page)
    titles = [
        "".join(part.content for part in after.children or ())
        for token, after in pairwise(listed)
        if token.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
