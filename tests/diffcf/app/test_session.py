from __future__ import annotations

import re

import pytest
import torch

from diffcf.api import Model
from diffcf.app.asking import parse_field, parse_settings
from diffcf.app.gallery import Subject
from diffcf.app.graph_svg import draw
from diffcf.app.inference import open_worlds
from diffcf.app.session import Session, replayed
from diffcf.causal.graph import CausalGraph
from diffcf.causal.intervention import Intervention
from diffcf.causal.ties import Tie, Ties
from diffcf.evaluation.references import ExactMethod
from diffcf.io.errors import GraphError, InterventionError
from diffcf.methods.interface import predict_sequence

ANGLE, LIGHT, LENGTH, POSITION = range(4)
STEPS = [{"light": 0.3}, {"shadow_position": 0.6}, {"light": 0.7}]


def _native(session: Session, name: str, scaled: float) -> float:
    factor = session.graph.factors[session.graph.column(name)]
    return factor.low + scaled * (factor.high - factor.low)


def _moved(session: Session) -> set[str]:
    return {name for name, role in session.roles.items() if role == "moved"}


def _cut(session: Session) -> set[str]:
    svg = draw(session.graph, session.roles, dict.fromkeys(session.graph.names, ""))
    return set(re.findall('class="edge cut" data-edge="([^"]+)"', svg))


def _set(session: Session, **scaled: float) -> None:
    for name, value in scaled.items():
        session.set(name, _native(session, name, value))


def test_what_is_set_moves_its_effects_at_once_and_nothing_else(session: Session) -> None:
    before = session.factors
    assert torch.equal(before, session.factual)
    _set(session, light=0.3)
    now = session.factors
    assert now[LIGHT] == pytest.approx(0.3) and now[ANGLE] == before[ANGLE]
    assert (now[[LENGTH, POSITION]] != before[[LENGTH, POSITION]]).any()
    assert session.roles["light"] == "set" and session.roles["angle"] == "still"
    assert _moved(session) == {"shadow_length", "shadow_position"} and not _cut(session)


def test_a_pinned_effect_stays_and_its_edges_are_cut(session: Session) -> None:
    _set(session, shadow_length=0.4, light=0.3)
    assert session.factors[LENGTH] == pytest.approx(0.4)
    assert _moved(session) == {"shadow_position"}
    assert _cut(session) == {"angle&gt;shadow_length", "light&gt;shadow_length"}


def test_a_pin_sets_what_is_there_and_comes_off_again(session: Session) -> None:
    _set(session, light=0.3)
    length = session.factors[LENGTH]
    session.toggle("shadow_length")
    assert session.roles["shadow_length"] == "set"
    assert session.factors[LENGTH] == pytest.approx(float(length), abs=1e-6)
    session.toggle("shadow_length")
    assert set(session.do) == {"light"}
    session.toggle("light")
    assert torch.equal(session.factors, session.factual)


def test_nothing_set_shows_the_factual_itself(session: Session, subject: Subject) -> None:
    result = session.query().run()
    assert torch.equal(result.image, subject.image)
    assert result.exact is not None and torch.equal(result.exact.image[0], subject.image)


def test_steps_are_those_of_the_library(session: Session, small: Model, subject: Subject) -> None:
    """Ours as AbductedImages.sequence, the exact ones as the scene's sequence."""
    image, factors = subject.image[None], subject.factors[None]
    expected = small.abduct(image, factors).sequence(STEPS)
    does = [Intervention.from_do(do, session.graph, 1) for do in STEPS]
    exact = predict_sequence(ExactMethod(subject.scene).abduct(image, factors), does)
    for do, ours, true in zip(STEPS, expected, exact, strict=True):
        _set(session, **do)
        result = session.query().run()
        torch.testing.assert_close(result.image, ours.image[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(session.factors, ours.target[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(result.exact.image[0], true.image[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(result.read, subject.scene.read(result.image[None])[0])
        session.take(result)
    assert [dict(step.do).keys() for step in session.steps] == [do.keys() for do in STEPS]
    assert session.query().run() is session.steps[-1].result, "nothing is set anew"


def test_what_a_step_set_stays_set(session: Session) -> None:
    _set(session, light=0.3)
    session.take(session.query().run())
    assert session.roles["light"] == "held" and not session.do
    with pytest.raises(InterventionError, match="stays set"):
        session.toggle("light")
    _set(session, light=0.5)
    assert session.roles["light"] == "set"
    session.toggle("light")
    assert session.factors[LIGHT] == pytest.approx(0.3)


def test_only_the_answer_to_the_current_query_becomes_a_step(session: Session) -> None:
    with pytest.raises(InterventionError, match="Nothing is set"):
        session.take(session.query().run())
    _set(session, light=0.3)
    old = session.query().run()
    _set(session, light=0.4)
    with pytest.raises(InterventionError, match="not ready yet"):
        session.take(old)


def test_undo_goes_back_by_what_a_visitor_did(session: Session) -> None:
    for value in (0.2, 0.25, 0.3):  # one drag
        _set(session, light=value)
    session.take(session.query().run())
    _set(session, angle=0.6)
    session.restart()
    assert not session.steps and not session.do
    session.undo()
    assert len(session.steps) == 1 and set(session.do) == {"angle"}
    session.undo()
    session.undo()
    assert not session.steps and set(session.do) == {"light"}
    assert session.factors[LIGHT] == pytest.approx(0.3)
    session.undo()
    assert not session.do and not session.can_undo
    session.undo()


def test_every_change_has_a_new_version(session: Session) -> None:
    versions = [session.version]
    for change in (
        lambda: _set(session, light=0.2),
        lambda: session.toggle("light"),
        session.undo,
        session.restart,
    ):
        change()
        versions.append(session.version)
    assert versions == sorted(set(versions))


def test_values_that_do_not_fit_are_refused_and_change_nothing(session: Session) -> None:
    for name, value, error in (
        ("light", 99.0, InterventionError),
        ("light", float("nan"), InterventionError),
        ("light", "bright", GraphError),
        ("moon", 0.5, GraphError),
    ):
        with pytest.raises(error):
            session.set(name, value)
    assert not session.do and session.version == 0


def test_an_image_of_unknown_factors_is_read_and_has_no_exact_one(
    small: Model, subject: Subject
) -> None:
    worlds = open_worlds(small, Subject(subject.image, "upload"))
    session = Session(worlds)
    _set(session, light=0.3)
    result = session.query().run()
    assert worlds.reader == "the model itself" and result.exact is None
    torch.testing.assert_close(session.factual, small.abduct(subject.image[None]).factors[0])
    torch.testing.assert_close(result.read, small.read(result.image[None])[0])


def test_a_model_that_reads_nothing_needs_known_factors(
    small: Model, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small.module, "reads", False)
    with pytest.raises(ValueError, match="pick one whose factors are known"):
        open_worlds(small, Subject(subject.image, "upload"))
    session = Session(open_worlds(small, Subject(subject.image, "own", subject.factors)))
    assert session.query().run().read is None


def test_written_changes_answer_as_in_the_library(
    session: Session, small: Model, subject: Subject
) -> None:
    steps = [{"light": "+=0.1"}, {"light": "*=1.1", "shadow_length": "~uniform:4:9"}]
    expected = small.abduct(subject.image[None], subject.factors[None]).sequence(steps, "native")
    for do, ours in zip(steps, expected, strict=True):
        written = [f"{name}{value}" for name, value in do.items()]
        session.replace(parse_settings(written, session.graph))
        result = session.query().run()
        torch.testing.assert_close(result.image, ours.image[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(
            session.graph.to_native(session.factors[None])[0], ours.target[0], atol=1e-4, rtol=0
        )
        session.take(result)
    again = replayed(session.start, session.question, taken=2)
    assert again.question == session.question and torch.equal(again.factors, session.factors)


def test_a_condition_that_is_not_met_sets_nothing(session: Session) -> None:
    session.replace(parse_field("light=1.2 if angle>0.6; angle=0.1", session.graph))
    assert session.roles["light"] == "still" and session.roles["angle"] == "set"
    assert "not so in this image" in session.notes["light"] and "angle" not in session.notes
    session.toggle("light")
    assert session.roles["light"] == "set"
    assert session.factors[LIGHT] == pytest.approx(float(session.factual[LIGHT]), abs=1e-6)


def test_factors_that_the_data_do_not_determine_are_named_with_the_reason(
    small: Model, subject: Subject, graph: CausalGraph
) -> None:
    same = tuple((k / 10, k / 10) for k in range(11))
    small.module.ties = Ties(graph, [Tie("angle", "light", same)])
    session = Session(open_worlds(small, subject))
    assert not session.undetermined
    _set(session, light=0.9)
    assert "light" in session.undetermined and "angle" in session.undetermined["light"]
    drawn = draw(session.graph, session.roles, dict.fromkeys(graph.names, "1"), {"light"})
    assert "light set, not determined by the training data" in drawn
