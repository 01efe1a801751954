"""mkdocs hook: links that lead out of docs/ into the repository, and pages that lie at its root.

What a page links to outside docs/ (pictures, YAML, modules) is copied into the site, under
``repository/``, so that pages read the same here as in the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
ROOT_PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Pages of the site by files at the root, where GitHub looks for them."""
_BADGES = re.compile(r"<!-- badges -->.*?<!-- end of badges -->\n", flags=re.S)
"""Pictures from a network, of which the site loads none."""
_LINK = re.compile(r"(?<=\]\()(?P<target>[^)#:\s]+)(?=[)#])")


def on_files(files: Files, config: Any, **_: object) -> Files:
    """Called by mkdocs with what is in docs/; adds what its pages link to."""
    for uri, name in ROOT_PAGES.items():
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    wanted = set()
    for page in files.documentation_pages():
        text = _text(page)
        wanted |= {found["target"] for found in _LINK.finditer(text)}
    for target in sorted(name for name in wanted if name.startswith("repository/")):
        path = ROOT / target.removeprefix("repository/")
        outside = {"abs_src_path": str(path), "inclusion": InclusionLevel.NOT_IN_NAV}
        files.append(File.generated(config, target, **outside))
    return files


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Called by mkdocs with each page's text."""
    return _text(page.file) if page.file.src_uri.count("/") == 0 else markdown


def _text(file: File) -> str:
    """A page's text with its links as the site has them; that of the front page is the README."""
    name = ROOT_PAGES.get(file.src_uri)
    source = ROOT / name if name else Path(str(file.abs_src_path))
    folder = "" if name else posixpath.join("docs", posixpath.dirname(file.src_uri))
    pages = {name: uri for uri, name in ROOT_PAGES.items()}

    def moved(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, found["target"]))
        if path in pages:
            return pages[path]
        if path.startswith("docs/"):
            return posixpath.relpath(path, folder or "docs")
        return f"repository/{path}"

    return _LINK.sub(moved, _BADGES.sub("", source.read_text(encoding="utf-8")))
