"""Each exercise's check is tested on its solution, on blanks and on three or more plausible wrong answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from brainseg_utils.course.checkout import numbered
from brainseg_utils.course.checks import exercises_of, faults
from brainseg_utils.course.quiz import FOLDER, buttons, read

ROOT = Path(__file__).resolve().parents[2]
MODULES = [Path(__file__).parent / "example" / "nb90.py"]
MODULES += sorted((ROOT / "brainseg_utils" / "course" / "exercises").glob("nb[0-9][0-9].py"))
QUIZZES = [Path(__file__).parent / "example" / "nb90.json", *sorted(FOLDER.glob("nb[0-9][0-9].json"))]


def _load(path):
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"checked_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


EXERCISES = [(path.stem, item) for path in MODULES for item in exercises_of(_load(path)).values()]


@pytest.mark.parametrize(
    "item", [item for _, item in EXERCISES], ids=[f"{stem}-{item.name}" for stem, item in EXERCISES]
)
def test_check_knows_right_blank_and_wrong(item):
    assert faults(item) == []


QUESTIONS = [(path.stem, question) for path in QUIZZES for question in read(path).values()]


@pytest.mark.parametrize("question", [q for _, q in QUESTIONS], ids=[f"{stem}-{q.id}" for stem, q in QUESTIONS])
def test_choosing_gives_the_explanation(question):
    box = buttons(question)
    choose, reply = box.children
    for letter, choice in zip(question.letters(), question.choices, strict=True):
        choose.value = letter
        assert reply.value == question.feedback(letter)
        assert ("✓" in reply.value) == choice.correct
    static = question._repr_html_()
    assert all(question.feedback(letter) in static for letter in question.letters())


def test_each_file_belongs_to_a_notebook():
    numbers = {path.stem[:2] for path in numbered(ROOT / "notebooks" / "source", ".py")} | {"90"}
    assert {path.stem[2:] for path in (*MODULES, *QUIZZES)} <= numbers
