"""Questions come from data that is checked, and read with and without a kernel."""

from __future__ import annotations

import copy
import json

import pytest

from brainseg_utils.course.quiz import Quiz, buttons, read
from brainseg_utils.errors import DataError, SettingError

CHOICES = [
    {"text": "`x < 1`", "correct": True, "explanation": "Yes: a share."},
    {"text": "b", "correct": False, "explanation": "No: that is a count."},
    {"text": "c", "correct": False, "explanation": "No: that is a volume."},
]
QUESTION = {"id": "share", "question": "Which is a share?", "choices": CHOICES}


def written(tmp_path, *questions):
    (tmp_path / "nb77.json").write_text(json.dumps(questions), encoding="utf-8")
    return tmp_path / "nb77.json"


def test_static_form_holds_question_choices_and_explanations(tmp_path):
    question = read(written(tmp_path, QUESTION))["share"]
    html = question._repr_html_()
    shown, folded = html.split("<details>")
    assert "Which is a share?" in shown and "<li><code>x &lt; 1</code></li>" in shown and "a count" not in shown
    assert "✓ A</b> Yes: a share." in folded and "✗ C</b> No: that is a volume." in folded
    assert repr(question).splitlines() == ["Which is a share?", "  A  `x < 1`", "  B  b", "  C  c"]


def test_choosing_shows_one_explanation_and_unchoosing_none(tmp_path):
    choose, reply = buttons(read(written(tmp_path, QUESTION))["share"]).children
    assert choose.options == ("A", "B", "C") and choose.value is None and reply.value == ""
    choose.value = "B"
    assert "✗ B</b> No: that is a count." in reply.value
    choose.value = None
    assert reply.value == ""


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda q: q.pop("question"), "no 'question'"),
        (lambda q: q["choices"].pop(), "2 choices; expected 3 or more"),
        (lambda q: q["choices"][1].update(explanation=" "), "an empty choice or explanation"),
        (lambda q: q["choices"][1].pop("explanation"), "no 'explanation'"),
        (lambda q: q["choices"][0].update(correct=False), "0 right choices; expected exactly one"),
        (lambda q: q["choices"][1].update(correct=True), "2 right choices; expected exactly one"),
        (lambda q: q.update(several=True), "1 right choices; expected two or more"),
    ],
)
def test_faulty_question_is_refused(tmp_path, spoil, message):
    question = copy.deepcopy(QUESTION)
    spoil(question)
    with pytest.raises(DataError, match=message):
        read(written(tmp_path, question))


def test_same_id_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="question 'share' twice"):
        read(written(tmp_path, QUESTION, QUESTION))


def test_several_right_choices_are_announced(tmp_path):
    question = copy.deepcopy(QUESTION) | {"several": True}
    question["choices"][1]["correct"] = True
    assert "(several are right)" in read(written(tmp_path, question))["share"]._repr_html_()


def test_quiz_shows_a_question_and_names_an_unknown_one(tmp_path, capsys):
    written(tmp_path, QUESTION)
    quiz = Quiz("77", tmp_path)
    quiz("share")
    assert "Which is a share?" in capsys.readouterr().out
    with pytest.raises(SettingError, match=r"unknown question 'shore'.*did you mean 'share'"):
        quiz("shore")
