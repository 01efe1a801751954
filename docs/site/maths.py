"""mkdocs hook: formulas as MathML, which browsers draw themselves, without a script or a network.

``pymdownx.arithmatex`` finds the formulas, latex2mathml translates them.
"""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
# What latex2mathml does not know, or spaces as if it stood between two numbers.
_KNOWN = {
    r"\lvert": r"\left|",
    r"\rvert": r"\right|",
    r"\lVert": r"\left\|",
    r"\rVert": r"\right\|",
    r"\log p": r"\log\, p",
    r"\arg\max": r"\operatorname{arg\,max}",
    r"\arg\min": r"\operatorname{arg\,min}",
}


def on_page_content(content: str, **_: object) -> str:
    """Called by mkdocs with each page's HTML; a formula that cannot be read is an error."""
    return _FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    block = found["tag"] == "div"
    latex = html.unescape(found["latex"]).strip()
    for written, known in _KNOWN.items():
        latex = latex.replace(written, known)
    drawn = convert(latex, display="block" if block else "inline")
    if unknown := re.search(r"\\\w+", re.sub(r"alttext=\"[^\"]*\"", "", drawn)):
        raise ValueError(f"latex2mathml does not know {unknown[0]}, in {latex}")
    return f'<div class="formula">{drawn}</div>' if block else drawn
