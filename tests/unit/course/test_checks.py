"""Checks say what is wrong, know a blank, and their own test finds checks that do not."""

from __future__ import annotations

import types

import numpy as np
import pytest

from brainseg_utils.course.checks import Checks, call, checks, exercise, exercises_of, faults, is_number, near


def declared(**changes):
    """An exercise on the number 42 with its cases, changed in one way."""

    def count(answer):
        if not is_number(answer):
            return "a number is asked for"
        return None if near(answer, 42) else "count the voxels above zero"

    settings = {"right": "These are the voxels inside.", "solution": lambda: 42, "wrong": lambda: [41, "42", 4.2]}
    function = changes.pop("function", count)
    return exercise(**{**settings, **changes})(function)


@pytest.mark.parametrize("blank", [..., None, (1, ...), [None], {"et": ...}])
def test_blank_is_not_answered_yet(blank):
    result = declared()(blank)
    assert not result and repr(result) == "○ count: not answered yet"


def test_right_answer_says_why():
    for answer in (42, 42.0, np.float32(42), np.array(42)):
        result = declared()(answer)
        assert result and repr(result) == "✓ count: These are the voxels inside."


def test_wrong_answer_says_what():
    assert repr(declared()(41)) == "✗ count: count the voxels above zero"
    assert declared()("42").text == "a number is asked for"
    assert declared()(True).text == "a number is asked for"


def test_answer_that_breaks_the_check_is_wrong_and_no_crash():
    def shape(answer):
        return None if answer.shape == (2,) else "a vector of two is asked for"

    result = declared(function=shape)([1, 2])
    assert result.state == "wrong" and "(a list) cannot be checked: AttributeError" in result.text


def test_html_escapes_what_the_reader_wrote():
    def text(answer):
        return f"{answer} is no tissue"

    html = declared(function=text)("<b>ET</b>")._repr_html_()
    assert "&lt;b&gt;ET&lt;/b&gt; is no tissue" in html and "color:#d55e00" in html


@pytest.mark.parametrize(
    ("function", "state", "part"),
    [
        (lambda x: x * 2, "right", ""),
        (lambda x: ..., "blank", "not answered yet"),
        (lambda x: None, "blank", "not answered yet"),
        (lambda x: x / 0, "wrong", "your function stopped with ZeroDivisionError"),
        (lambda: 0, "wrong", "your function stopped with TypeError"),
        (6, "wrong", "a function is asked for, not a int"),
    ],
)
def test_readers_function_is_called_with_care(function, state, part):
    def twice(answer):
        return None if call(answer, 3) == 6 else "try it on three"

    result = declared(function=twice)(function)
    assert result.state == state and part in result.text


def test_sound_exercise_has_no_faults():
    assert faults(declared()) == []


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"solution": lambda: 43}, "the solution is judged wrong"),
        ({"wrong": lambda: [1, 2]}, "2 wrong answers, three are asked for"),
        ({"wrong": lambda: [1, 2, 42.0]}, "wrong answer 2 is judged right"),
        ({"function": lambda answer: None if answer == 42 else "no"}, "gets no explanation"),
        ({"function": lambda answer: None if answer == 42 else "it should be 42 voxels"}, "gives the solution"),
    ],
)
def test_unsound_exercise_is_found(change, part):
    assert any(part in fault for fault in faults(declared(**change)))


def test_context_reaches_solution_wrong_answers_and_check():
    def total(answer, values):
        return None if near(answer, values.sum()) else "add all of them up"

    item = declared(
        function=total,
        context=lambda: (np.arange(9),),
        solution=lambda values: values.sum(),
        wrong=lambda values: [values.mean(), values.max(), values.size],
    )
    assert faults(item) == [] and item(36, np.arange(9))


def test_checks_are_attributes_and_unknown_ones_are_named():
    module = types.ModuleType("nb77")
    module.count = declared()
    check = Checks(module)
    assert dir(check) == ["count"] and check.count(42)
    with pytest.raises(AttributeError, match="unknown check 'cuont'; expected one of count; did you mean 'count'"):
        check.cuont(42)
    assert list(exercises_of(module)) == ["count"]


def test_notebook_without_exercises_has_no_checks():
    assert checks("77") is None
