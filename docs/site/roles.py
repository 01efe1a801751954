"""Griffe extension: docstrings' ``:class:`X``` and ``.. math::`` as the site's markdown has them.

A name is looked up where the docstring stands; what the site documents becomes a link.
"""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

from griffe import Extension, NameResolutionError, Object

_ROLE = re.compile(r":(?:class|meth|func|mod|data|attr):`~?(?P<name>[\w.]+)`")
_MATHS = re.compile(r":math:`(?P<latex>[^`]+)`")
_BLOCK = re.compile(
    r"^(?P<indent> *)\.\. math::[ ]*(?P<first>.*)\n"
    r"(?P<rest>(?:(?P=indent) +\S.*\n?)*)",
    re.MULTILINE,
)
_DOCTEST = re.compile(r"^(?P<indent> *)>>> .*\n?(?:(?P=indent)\S.*\n?)*", re.MULTILINE)
_SOURCES = re.compile(r"(?<=References:\n)(?: +.*\n?)+", re.MULTILINE)


class Roles(Extension):
    """Rewrites every docstring of a package once all of it is known."""

    def on_package(self, *, pkg: Any, **_: Any) -> None:
        self._rewrite(pkg, set())

    def _rewrite(self, thing: Any, seen: set[str]) -> None:
        if thing.is_alias or thing.path in seen:
            return
        seen.add(thing.path)
        if thing.docstring:
            thing.docstring.value = as_markdown(thing.docstring.value, thing)
        for member in thing.members.values():
            self._rewrite(member, seen)


def as_markdown(text: str, where: Object) -> str:
    """The docstring of ``where`` with its roles and formulas rewritten."""
    # The lines of a list of sources stay lines.
    text = _SOURCES.sub(lambda found: re.sub(r"(?<=\S)$", "  ", found[0], flags=re.M), text)
    text = _DOCTEST.sub(_fenced, text)
    text = _BLOCK.sub(_formula, text)
    text = _MATHS.sub(lambda found: f"${' '.join(found['latex'].split())}$", text)
    return _ROLE.sub(lambda found: _reference(found["name"], where), text)


def _formula(found: re.Match[str]) -> str:
    latex = f"{found['first']}\n{dedent(found['rest'])}".strip()
    return "\n".join(f"{found['indent']}{line}" for line in ("$$", *latex.splitlines(), "$$", ""))


def _fenced(found: re.Match[str]) -> str:
    indent, code = found["indent"], found[0].rstrip("\n")
    return f"{indent}```pycon\n{code}\n{indent}```\n"


def _reference(name: str, where: Object) -> str:
    """A link that stays mere code where the site has no page of the thing."""
    first, _, rest = name.lstrip(".").partition(".")
    try:
        path = where.resolve(first) if first not in ("diffcf", "data_modules") else first
    except NameResolutionError:
        return f"`{name}`"
    target = f"{path}.{rest}" if rest else path
    return f'<autoref identifier="{target}" optional><code>{name}</code></autoref>'
