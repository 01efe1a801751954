from __future__ import annotations

import pytest
import torch

from diffcf.api import Model
from diffcf.app.gallery import Subject
from diffcf.app.session import Session
from diffcf.app.worlds import open_worlds
from diffcf.causal.intervention import Intervention
from diffcf.evaluation.references import ExactMethod
from diffcf.io.errors import GraphError, InterventionError
from diffcf.methods.interface import predict_sequence

ANGLE, LIGHT, LENGTH, POSITION = range(4)
TURNS = [{"light": 0.3}, {"shadow_position": 0.6}, {"light": 0.7}]


def _native(session: Session, name: str, scaled: float) -> float:
    factor = session.graph.factors[session.graph.column(name)]
    return factor.low + scaled * (factor.high - factor.low)


def _set(session: Session, **scaled: float) -> None:
    for name, value in scaled.items():
        session.set(name, _native(session, name, value))


def test_what_is_set_moves_its_effects_at_once_and_nothing_else(session: Session) -> None:
    before = session.factors
    assert torch.equal(before, session.factual)
    _set(session, light=0.3)
    now = session.factors
    assert now[LIGHT] == pytest.approx(0.3) and now[ANGLE] == before[ANGLE]
    assert (now[[LENGTH, POSITION]] != before[[LENGTH, POSITION]]).all()
    assert session.role("light") == "set" and session.role("angle") == "still"
    assert session.moved == {"shadow_length", "shadow_position"} and not session.cut


def test_a_pinned_effect_stays_and_its_edges_are_cut(session: Session) -> None:
    _set(session, shadow_length=0.4, light=0.3)
    assert session.factors[LENGTH] == pytest.approx(0.4)
    assert session.moved == {"shadow_position"}
    assert session.cut == {("angle", "shadow_length"), ("light", "shadow_length")}


def test_a_pin_sets_what_is_there_and_comes_off_again(session: Session) -> None:
    _set(session, light=0.3)
    session.toggle("shadow_length")
    assert session.pins["shadow_length"] == pytest.approx(float(session.factors[LENGTH]), abs=1e-6)
    session.toggle("shadow_length")
    assert set(session.pins) == {"light"}
    session.toggle("light")
    assert torch.equal(session.factors, session.factual)


def test_nothing_set_shows_the_factual_itself(session: Session, subject: Subject) -> None:
    drawing = session.asked().draw()
    assert torch.equal(drawing.image, subject.image)
    assert drawing.exact_image is not None and torch.equal(drawing.exact_image, subject.image)


def test_steps_are_those_of_the_library_in_turn(
    session: Session, small: Model, subject: Subject
) -> None:
    """Ours by AbductedImages.in_turn, the exact ones by the scene, likewise in turn."""
    image, factors = subject.image[None], subject.factors[None]
    expected = small.abduct(image, factors).sequence(TURNS)
    does = [Intervention.from_do(do, session.graph, 1) for do in TURNS]
    exact = predict_sequence(ExactMethod(subject.scene).abduct(image, factors), does)
    for do, ours, true in zip(TURNS, expected, exact, strict=True):
        _set(session, **do)
        drawing = session.asked().draw()
        torch.testing.assert_close(drawing.image, ours.image[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(session.factors, ours.target[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(drawing.exact_image, true.image[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(drawing.read, subject.scene.read(drawing.image[None])[0])
        session.take(drawing)
    assert [dict(step.pins).keys() for step in session.steps] == [do.keys() for do in TURNS]
    assert session.asked().draw() is session.steps[-1].drawing, "nothing is set anew"


def test_what_a_step_set_stays_set(session: Session) -> None:
    _set(session, light=0.3)
    session.take(session.asked().draw())
    assert session.role("light") == "held" and not session.pins
    with pytest.raises(InterventionError, match="stays set"):
        session.toggle("light")
    _set(session, light=0.5)
    assert session.role("light") == "set"
    session.toggle("light")
    assert session.factors[LIGHT] == pytest.approx(0.3)


def test_only_the_answer_to_what_is_asked_becomes_a_step(session: Session) -> None:
    with pytest.raises(InterventionError, match="Nothing is set"):
        session.take(session.asked().draw())
    _set(session, light=0.3)
    old = session.asked().draw()
    _set(session, light=0.4)
    with pytest.raises(InterventionError, match="still being drawn"):
        session.take(old)


def test_undo_goes_back_by_what_a_visitor_did(session: Session) -> None:
    for value in (0.2, 0.25, 0.3):  # one drag
        _set(session, light=value)
    session.take(session.asked().draw())
    _set(session, angle=0.6)
    session.restart()
    assert not session.steps and not session.pins
    session.undo()
    assert len(session.steps) == 1 and set(session.pins) == {"angle"}
    session.undo()
    session.undo()
    assert not session.steps and session.pins == {"light": pytest.approx(0.3)}
    session.undo()
    assert not session.pins and not session.can_undo
    session.undo()


def test_every_change_has_a_new_number(session: Session) -> None:
    numbers = [session.number]
    for change in (
        lambda: _set(session, light=0.2),
        lambda: session.toggle("light"),
        session.undo,
        session.restart,
    ):
        change()
        numbers.append(session.number)
    assert numbers == sorted(set(numbers))


def test_values_that_do_not_fit_are_refused_and_change_nothing(session: Session) -> None:
    for name, value, error in (
        ("light", 99.0, InterventionError),
        ("light", float("nan"), InterventionError),
        ("light", "bright", GraphError),
        ("moon", 0.5, GraphError),
    ):
        with pytest.raises(error):
            session.set(name, value)
    assert not session.pins and session.number == 0


def test_an_image_of_unknown_factors_is_read_and_has_no_exact_one(
    small: Model, subject: Subject
) -> None:
    worlds = open_worlds(small, Subject(subject.image, "upload"))
    session = Session(worlds)
    _set(session, light=0.3)
    drawing = session.asked().draw()
    assert worlds.reader == "the model itself" and drawing.exact is None
    torch.testing.assert_close(session.factual, small.abduct(subject.image[None]).factors[0])
    torch.testing.assert_close(drawing.read, small.read(drawing.image[None])[0])


def test_a_model_that_reads_nothing_needs_known_factors(
    small: Model, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small.module, "reads", False)
    with pytest.raises(ValueError, match="pick one whose factors are known"):
        open_worlds(small, Subject(subject.image, "upload"))
    drawing = Session(open_worlds(small, Subject(subject.image, "own", subject.factors)))
    assert drawing.asked().draw().read is None
