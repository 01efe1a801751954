"""``python docs/site/offline.py build/site`` fails if the site would load from a network."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

_LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
_STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?(?P<address>(?:https?:)?//[^'\")\s]+)")
_ADDRESS = re.compile(r"(?:https?:)?//")


class Loads(HTMLParser):
    """Collects the addresses that a page loads by itself; links to follow are none."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = given.get(_LOADS.get(tag, "")) or ""
        # rel=canonical and the like name a page, they load nothing.
        if tag == "link" and given.get("rel") in ("canonical", "prev", "next"):
            return
        if _ADDRESS.match(address):
            self.found.append(address)


def loaded(site: Path) -> list[str]:
    """Every address outside the site that one of its pages or styles loads, with the file."""
    found = []
    for file in sorted(site.rglob("*.html")):
        parser = Loads()
        parser.feed(file.read_text(encoding="utf-8"))
        found += [f"{file}: {address}" for address in parser.found]
    for file in sorted(site.rglob("*.css")):
        found += [f"{file}: {hit}" for hit in _STYLE.findall(file.read_text(encoding="utf-8"))]
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if not folder.is_dir():
        sys.exit(f"{folder} is no folder: build the site first.")
    if addresses := loaded(folder):
        sys.exit("The site loads from a network:\n" + "\n".join(addresses))
