from __future__ import annotations

from xml.etree import ElementTree

from diffcf.app.graph_svg import WIDTH, draw
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph

CHAIN = CausalGraph(
    [Factor("ball"), Factor("height"), Factor("hole"), Factor("flow")],
    [("ball", "height"), ("height", "flow"), ("hole", "flow"), ("ball", "flow")],
)
WIDE = CausalGraph(
    [Factor(f"cause_{k}") for k in range(6)] + [Factor("effect")],
    [(f"cause_{k}", "effect") for k in range(6)],
)
STILL = dict.fromkeys(CHAIN.names, "still")
VALUES = dict.fromkeys(CHAIN.names, "<1 & 2>")


def _by(svg: str, attribute: str) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(svg.replace("&nbsp;", " "))
    return {e.get(attribute): e for e in root.iter() if e.get(attribute) is not None}


def test_states_show_in_form_and_values_are_escaped() -> None:
    roles = {"ball": "still", "height": "set", "hole": "held", "flow": "moved"}
    svg = draw(CHAIN, roles, VALUES)
    nodes, edges = _by(svg, "data-factor"), _by(svg, "data-edge")
    assert [nodes[n].get("class") for n in CHAIN.names] == [f"node {r}" for r in roles.values()]
    texts = {name: "".join(node.itertext()) for name, node in nodes.items()}
    assert "do" in texts["height"] and "do" in texts["hole"] and "→" in texts["flow"]
    assert "<1 & 2>" in texts["ball"]
    assert edges["ball>height"].get("class") == "edge cut"
    crossed = [key for key, edge in edges.items() if len(list(edge.iter("circle")))]
    assert crossed == ["ball>height"]
    assert edges["height>flow"].get("class") == edges["hole>flow"].get("class") == "edge live"
    assert edges["ball>flow"].get("class") == "edge still"


def test_long_names_are_set_in_their_node() -> None:
    names = ["Smiling", "Mouth_Slightly_Open"]
    graph = CausalGraph([Factor(name) for name in names], [(names[0], names[1])])
    drawn = draw(graph, dict.fromkeys(names, "still"), dict.fromkeys(names, ""))
    lengths = [
        next(e.get("textLength") for e in node.iter() if e.get("class") == "name")
        for node in _by(drawn, "data-factor").values()
    ]
    assert lengths[0] is None and 0 < float(lengths[1] or 0) < WIDTH


def test_every_node_lies_within_the_picture_and_on_none_other() -> None:
    for graph in (CHAIN, WIDE):
        roles, values = dict.fromkeys(graph.names, "still"), dict.fromkeys(graph.names, "0")
        svg = draw(graph, roles, values)
        root = ElementTree.fromstring(svg)
        width, height = map(float, root.get("viewBox").split()[2:])
        boxes = []
        for node in _by(svg, "data-factor").values():
            box = node.find("rect")
            x, y, w, h = (float(box.get(k)) for k in ("x", "y", "width", "height"))
            assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
            for left, top in boxes:
                assert abs(left - x) >= w or abs(top - y) >= h
            boxes.append((x, y))


def test_causes_stand_above_their_effects_or_left_of_them() -> None:
    for graph in (CHAIN, WIDE):
        roles, values = dict.fromkeys(graph.names, "still"), dict.fromkeys(graph.names, "0")
        boxes = {
            name: tuple(float(node.find("rect").get(k)) for k in ("x", "y"))
            for name, node in _by(draw(graph, roles, values), "data-factor").items()
        }
        pairs = [(boxes[cause], boxes[effect]) for cause, effect in graph.edges]
        assert all(a[1] < b[1] for a, b in pairs) or all(a[0] < b[0] for a, b in pairs)
