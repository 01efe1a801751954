"""What makes a site of docs/: formulas, roles, links out of docs/, nothing from a network."""

from __future__ import annotations

import ast
import importlib.util
import re
from html import escape
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

SITE = Path(__file__).parents[1] / "docs/site"


def part(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{name}", SITE / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_formulas_become_mathml() -> None:
    on_page_content = part("maths").on_page_content
    inline = on_page_content(r'<p>So <span class="arithmatex">\(x_t &lt; 1\)</span>.</p>')
    assert inline.startswith("<p>So <math") and inline.endswith("</math>.</p>")
    block = on_page_content('<div class="arithmatex">\\[\n\\frac{1}{K}\n\\]</div>')
    assert block.startswith('<div class="formula"><math') and "<mfrac>" in block


def test_a_formula_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"does not know \\nonsense"):
        part("maths").on_page_content(r'<span class="arithmatex">\(\nonsense x\)</span>')


def test_every_formula_of_the_docs_is_understood(api) -> None:
    """On its pages, and in the docstrings that its pages of the API show."""
    on_page_content, as_markdown = part("maths").on_page_content, part("roles").as_markdown
    root = SITE.parents[1]
    texts = [file.read_text(encoding="utf-8") for file in root.glob("docs/**/*.md")]
    shown = [text for file in root.glob("diffcf/**/*.py") for text in docstrings_of(file)]
    texts += [as_markdown(text, api) for text in shown if "math:" in text]
    found = [latex for text in texts for latex in formulas_of(text)]
    assert len(found) > 200
    for latex in found:
        html = f'<span class="arithmatex">\\({escape(latex)}\\)</span>'
        assert "<math" in on_page_content(html), latex


def formulas_of(text: str) -> list[str]:
    """LaTeX between single or double dollars, outside of code."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    found = re.findall(r"(?s)\$\$(.+?)\$\$|(?<![\w$])\$([^$\n]+?)\$(?![\w$])", prose)
    return [block or inline for block, inline in found]


def docstrings_of(file: Path) -> list[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    return [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]


@pytest.fixture(scope="module")
def api():
    import griffe

    return griffe.load("diffcf.api.model", search_paths=[str(SITE.parents[1])])


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (
            ":meth:`Model.abduct`",
            'identifier="diffcf.api.model.Model.abduct" optional><code>Model.abduct<',
        ),
        (":class:`SettingsError`", 'identifier="diffcf.io.SettingsError" optional>'),
        (":mod:`diffcf.causal.nscm`", 'identifier="diffcf.causal.nscm" optional>'),
        (":func:`nowhere`", "`nowhere`"),
        (":math:`x_t`", "$x_t$"),
        (".. math:: a\n    + b\n\nover", "$$\na\n+ b\n$$\n\nover"),
        ("  .. math::\n      a\n\n  over", "  $$\n  a\n  $$\n  \n  over"),
        (">>> 1 + 1\n2\n\nThen", "```pycon\n>>> 1 + 1\n2\n```\n\nThen"),
        ("References:\n    One\n    Two", "References:\n    One  \n    Two  "),
    ],
)
def test_docstrings_become_markdown(api, written: str, shown: str) -> None:
    assert shown in part("roles").as_markdown(written, api)


def test_the_front_page_is_the_readme_with_its_links_moved() -> None:
    repository = part("repository")
    file = SimpleNamespace(src_uri="index.md", abs_src_path=None)
    text = repository._text(file)
    assert "](results.md)" in text and "](repository/experiments/results/pendulum/grid.png)" in text
    page = SimpleNamespace(src_uri="method.md", abs_src_path=SITE.parent / "method.md")
    text = repository._text(page)
    assert (
        "](repository/diffcf/causal/nscm.py)" in text
        and "](results.md#which-guidance-rule)" in text
    )


def test_pages_at_the_root_have_places_in_the_site_and_no_pictures_from_a_network() -> None:
    repository = part("repository")
    text = repository._text(SimpleNamespace(src_uri="index.md", abs_src_path=None))
    assert "](contributing.md)" in text and "](repository/LICENSE)" in text
    assert "img.shields.io" not in text and "actions/workflows" not in text
    text = repository._text(SimpleNamespace(src_uri="contributing.md", abs_src_path=None))
    assert "](own_data.md)" in text and "](changelog.md)" in text


def test_what_a_site_loads_from_a_network_is_found(tmp_path) -> None:
    (tmp_path / "page.html").write_text(
        '<a href="https://a.org"></a><script src="//b.org/x.js"></script><img src="x.png">'
        '<link rel="canonical" href="https://c.org"><link rel="stylesheet" href="https://d.org/s">'
    )
    (tmp_path / "style.css").write_text(
        "@import 'https://e.org/f.css'; a { background: url(x.png) }"
    )
    found = [line.partition(": ")[2] for line in part("offline").loaded(tmp_path)]
    assert found == ["//b.org/x.js", "https://d.org/s", "https://e.org/f.css"]
