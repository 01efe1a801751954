"""Random text and random changes of valid files: an answer or the one error that is documented."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import FUZZ, mutated, odd_values
from small_nscms import abduct

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.intervention import Intervention, parse_do, parse_sweep
from diffcf.causal.nscm import NSCM
from diffcf.io.errors import GraphError, InterventionError
from diffcf.io.yaml_file import YamlError, load_yaml

MIXED = CausalGraph(
    [
        Factor("angle", low=-2.0, high=3.0),
        Factor("lit", "binary"),
        Factor("shape", "categorical", categories=("cube", "sphere", "a=b")),
    ],
    [("angle", "lit"), ("shape", "lit")],
)
SPEC = MIXED.to_dict()


# --- the grammar of interventions ---

words = st.one_of(st.sampled_from(["angle", "lit", "shape", "cube", "=", ":", "1", "-0.5", "1e308",
                                   "-1e308", "nan", "inf", "1_0", "٣", " ", "", "5e-324"]),
                  st.text(max_size=4))  # fmt: skip
texts = st.lists(words, max_size=6).map("".join)


@settings(FUZZ, max_examples=600)
@given(st.lists(texts, max_size=3))
def test_any_text_is_an_intervention_or_said_to_be_none(given_texts: list[str]) -> None:
    with contextlib.suppress(InterventionError, GraphError):
        do = parse_do(given_texts, MIXED)
        assert len(do) == len(given_texts) and set(do) <= set(MIXED.names)
        for name, value in do.items():
            assert value in ("cube", "sphere", "a=b") if name == "shape" else math.isfinite(value)
        made = Intervention.from_do(do, MIXED, 2)
        assert ((made.values >= 0) & (made.values <= 1)).all()


@settings(FUZZ, max_examples=600)
@given(texts)
def test_any_text_is_a_sweep_or_said_to_be_none(text: str) -> None:
    with contextlib.suppress(InterventionError, GraphError):
        name, values = parse_sweep(text, MIXED)
        assert name in MIXED.names and 2 <= len(values) <= 1000
        assert all(isinstance(value, str) or math.isfinite(value) for value in values)


numbers = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)


@FUZZ
@given(numbers, numbers, st.integers(2, 1000))
def test_a_sweep_goes_from_end_to_end(first: float, last: float, count: int) -> None:
    name, values = parse_sweep(f"angle={first!r}:{last!r}:{count}", MIXED)
    assert name == "angle" and len(values) == count
    assert values[0] == first and values[-1] == last
    low, high = sorted((first, last))
    slack = 1e-9 * max(abs(low), abs(high))
    assert all(low - slack <= float(value) <= high + slack for value in values)


# --- graphs ---


def usable(graph: CausalGraph) -> None:
    """What is built upon a graph works: units, code, structure, a causal model."""
    assert CausalGraph.from_dict(json.loads(json.dumps(graph.to_dict()))) == graph
    middle = torch.full((2, len(graph)), 0.5)
    assert graph.to_native(middle).isfinite().all()
    assert graph.to_scaled(graph.to_native(middle)).isfinite().all()
    assert graph.encode(middle).shape == (2, sum(graph.widths))
    assert sorted(graph.order) == sorted(graph.names)
    nscm = NSCM(graph, hidden=(4,)).eval()
    assert nscm.decode(abduct(nscm, graph.decode(graph.encode(middle)))).isfinite().all()


@FUZZ
@given(mutated(SPEC))
def test_a_changed_graph_is_a_graph_or_said_to_be_none(spec: Any) -> None:
    try:
        graph = CausalGraph.from_dict(spec)
    except GraphError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
    else:
        usable(graph)


@FUZZ
@given(mutated(SPEC), st.data())
def test_a_changed_file_is_a_graph_or_said_to_be_none(tmp_path: Path, spec: Any, data) -> None:
    """Changed values, and then changed letters."""
    with contextlib.suppress(yaml.YAMLError):
        text = yaml.safe_dump(spec, allow_unicode=True)
        for _ in range(data.draw(st.integers(0, 3))):
            place = data.draw(st.integers(0, len(text)))
            text = (
                text[:place] + data.draw(st.sampled_from("[]{}:,&*-!|>'\"#%\n\t <0")) + text[place:]
            )
        path = tmp_path / "graph.yaml"
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            usable(CausalGraph.from_yaml(path))
        except GraphError as error:
            assert "\n" not in str(error)


@FUZZ
@given(odd_values, odd_values)
def test_a_range_is_two_numbers_or_said_to_be_none(low: Any, high: Any) -> None:
    try:
        graph = CausalGraph.from_dict({"factors": {"a": {"range": [low, high]}}})
    except GraphError:
        return
    usable(graph)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12)
)
HOSTILE = {
    "laughs": (LAUGHS, "stands for more than"),
    "laughing factors": (LAUGHS + "factors: *a11\n", "stands for more than"),
    "itself": ("factors: &f {a: *f}\n", "stands for itself"),
    "nothing": ("factors: *f\n", "stands for itself, or for nothing"),
    "deep list": ("[" * 100_000, "nested more than"),
    "deep mapping": ("{a: " * 50_000, "nested more than"),
    "deep blocks": ("\n".join(" " * k + "a:" for k in range(400)), "nested more than"),
    "twice": ("factors:\n  a: {}\n  b: {}\n  a: {range: [0, 2]}\n", "key 'a' twice"),
    "long number": ("factors: {a: {range: [0, " + "9" * 100_000 + "]}}\n", "letters"),
    "base sixty": ("factors: {a: {range: [0, 1" + ":59" * 50_000 + "]}}\n", "letters"),
    "impossible date": ("factors: {a: {range: [0, 2001-99-99]}}\n", "plain numbers"),
    "python": ("factors: !!python/object/apply:os.system ['true']\n", "could not determine"),
    "large": ("# " + "a" * 300_000, "more than 256 KiB"),
    "binary": ("\x00\x01", "special characters"),
    "many": ("factors: {" + ", ".join(f"a{k}: {{}}" for k in range(600)) + "}\n", "500 are"),
    "many edges": (
        "factors: {a: {}, b: {}}\nedges: [" + "[a, b], " * 2000 + "]\n", "declared twice",
    ),
    "many categories": (
        "factors: {a: {categories: [" + ", ".join(map(str, range(1001))) + "]}}\n", "1000 at most",
    ),
    "infinite": ("factors: {a: {range: [-.inf, .inf]}}\n", "plain numbers"),
    "no number": ("factors: {a: {range: [.nan, 1]}}\n", "plain numbers"),
    "too wide": ("factors: {a: {range: [-1.0e+308, 1.0e+308]}}\n", "single precision"),
    "too narrow": ("factors: {a: {range: [1.0e+9, 1000000001]}}\n", "single precision"),
    "text as range": ("factors: {a: {range: '01'}}\n", r"range \[low, high\]"),
    "long name": ("factors: {" + "a" * 900 + ": {}}\n", "not usable"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_graph_files_are_one_sentence(tmp_path: Path, name: str) -> None:
    text, said = HOSTILE[name]
    path = tmp_path / "graph.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(GraphError, match=said) as error:
        CausalGraph.from_yaml(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 5000


def test_honest_anchors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: [1, 2], y: z}\nb: *a\nc: {<<: *a, w: 1}\n")
    assert load_yaml(path) == yaml.safe_load(path.read_text())


@FUZZ
@given(st.text(max_size=60))
def test_any_text_is_yaml_or_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode("utf-8", "replace"))
    with contextlib.suppress(YamlError):
        load_yaml(path)
