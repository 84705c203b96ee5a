"""Exercise checks: they say what is wrong with an answer and never give the solution away.

A check is a function in `course/exercises/nbNN.py` that returns a sentence about what is wrong, or None where the
answer is right. It is declared together with the cases it is tested on:

    @exercise(
        right="A third of the voxels: the rest is background.",
        solution=lambda: 0.33,
        wrong=lambda: [0.67, 33, "a third"],
    )
    def share(answer):
        if not is_number(answer):
            return "a number is asked for"
        ...

The notebook calls `check.share(answer)` as the last line of a cell. A blank (`...` or None, also inside a tuple, and
also as what the reader's function returns) is "not answered yet", so that an unsolved notebook runs to its end.
"""

from __future__ import annotations

import html
import importlib
import importlib.util
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from brainseg_utils.errors import unknown

BLANK = "not answered yet"
MARKS = {"blank": "○", "wrong": "✗", "right": "✓"}
COLOURS = {"blank": "#808080", "wrong": "#d55e00", "right": "#009e73"}  # Okabe-Ito; readable on light and dark


class Unanswered(Exception):
    """Raised inside a check where the blank is met only while checking."""


class WrongAnswer(Exception):
    """Raised inside a check by helpers that meet the fault; its text is what the reader is told."""


@dataclass(frozen=True)
class Result:
    """What a check found; shown in a notebook as one coloured line, true where the answer is right."""

    name: str
    state: str  # blank, wrong or right
    text: str

    def __bool__(self) -> bool:
        return self.state == "right"

    def __repr__(self) -> str:
        return f"{MARKS[self.state]} {self.name}: {self.text}"

    def _repr_html_(self) -> str:
        head = f'<b style="color:{COLOURS[self.state]}">{MARKS[self.state]} {html.escape(self.name)}</b>'
        return f'<div style="font-size:90%">{head}: {html.escape(self.text)}</div>'


@dataclass(frozen=True)
class Exercise:
    """A check with the cases that it is tested on.

    `context()` gives the further arguments which the notebook passes after the answer (an array, a table);
    `solution(*context)` the right answer; `wrong(*context)` at least three plausible wrong ones.
    """

    name: str
    function: Callable[..., str | None]
    right: str
    solution: Callable[..., Any]
    wrong: Callable[..., Sequence[Any]]
    context: Callable[[], tuple]

    def judge(self, answer: Any, *context: Any) -> Result:
        """The check's result; faults of the check itself come out as exceptions."""
        if is_blank(answer):
            return Result(self.name, "blank", BLANK)
        try:
            fault = self.function(answer, *context)
        except Unanswered:
            return Result(self.name, "blank", BLANK)
        except WrongAnswer as error:
            fault = str(error)
        return Result(self.name, "wrong", fault) if fault else Result(self.name, "right", self.right)

    def __call__(self, answer: Any, *context: Any) -> Result:
        """The check as the notebook calls it: an answer of a kind nobody thought of is wrong, not a crash."""
        try:
            return self.judge(answer, *context)
        except Exception as error:
            kind = type(answer).__name__
            return Result(
                self.name, "wrong", f"this answer (a {kind}) cannot be checked: {type(error).__name__}: {error}"
            )


def exercise(
    *,
    right: str,
    solution: Callable[..., Any],
    wrong: Callable[..., Sequence[Any]],
    context: Callable[[], tuple] = tuple,
) -> Callable[[Callable[..., str | None]], Exercise]:
    """Makes a check of a function that returns what is wrong, or None where the answer is right.

    Args:
        right: what the reader is told about a right answer: why it is right.
        solution: called with the context, gives the right answer.
        wrong: called with the context, gives three plausible wrong answers or more.
        context: gives the arguments that follow the answer in the tests; default none.
    """

    def declare(function: Callable[..., str | None]) -> Exercise:
        return Exercise(function.__name__, function, right, solution, wrong, context)

    return declare


def is_blank(answer: Any) -> bool:
    """Whether an answer, or a part of it, was left open.

    Example:
        >>> is_blank(...), is_blank((1, ...)), is_blank({"a": None}), is_blank(0)
        (True, True, True, False)
    """
    if isinstance(answer, dict):
        return any(is_blank(part) for part in answer.values())
    if isinstance(answer, list | tuple):
        return any(is_blank(part) for part in answer)
    return answer is None or answer is Ellipsis


def is_number(answer: Any) -> bool:
    """Whether an answer is one number (of Python, NumPy or an array without axes), and not a truth value."""
    if hasattr(answer, "item") and getattr(answer, "ndim", None) == 0:
        answer = answer.item()
    return isinstance(answer, numbers.Real) and not isinstance(answer, bool)


def near(answer: Any, value: float, relative: float = 1e-3, absolute: float = 1e-9) -> bool:
    """Whether an answer is a number within rounding of a value."""
    return is_number(answer) and abs(float(answer) - value) <= max(relative * abs(value), absolute)


def call(function: Any, *args: Any) -> Any:
    """What the reader's function returns; its blanks and its errors become the check's result.

    Raises:
        Unanswered: it returned `...` or None.
        WrongAnswer: it is no function, or it raised an error.
    """
    if not callable(function):
        raise WrongAnswer(f"a function is asked for, not a {type(function).__name__}")
    try:
        value = function(*args)
    except Exception as error:
        raise WrongAnswer(f"your function stopped with {type(error).__name__}: {error}") from error
    if is_blank(value):
        raise Unanswered
    return value


def number_array(got: object, shape: tuple[int, ...]) -> np.ndarray | str:
    """An answer as an array of finite numbers of this shape, or what is wrong with it."""
    array = np.asarray(got)
    if array.dtype.kind not in "fiu":
        return f"the function returned {array.dtype} values, numbers are asked for"
    if array.shape != shape:
        return f"the result has the shape {array.shape}, the image has {shape}"
    if not np.isfinite(array).all():
        return "some values are infinite or no numbers: something was divided by 0"
    return array.astype(float)


class Checks:
    """The checks of one notebook as attributes: `check.share(answer)`."""

    def __init__(self, module: ModuleType) -> None:
        self._exercises = exercises_of(module)
        self._where = module.__name__

    def __getattr__(self, name: str) -> Exercise:
        exercises = self.__dict__.get("_exercises", {})
        if name.startswith("__") or not exercises:
            raise AttributeError(name)
        if name not in exercises:
            raise AttributeError(str(unknown("check", name, exercises)))
        return exercises[name]

    def __dir__(self) -> list[str]:
        return sorted(self._exercises)


def exercises_of(module: ModuleType) -> dict[str, Exercise]:
    """The exercises that a module declares, by name."""
    return {value.name: value for value in vars(module).values() if isinstance(value, Exercise)}


def checks(number: str, package: str = "brainseg_utils.course.exercises") -> Checks | None:
    """The checks of a notebook ("01"), or None where it has none."""
    name = f"{package}.nb{number}"
    if importlib.util.find_spec(name) is None:
        return None
    return Checks(importlib.import_module(name))


def faults(item: Exercise) -> list[str]:
    """What is wrong with a check itself: the test of every exercise calls this and expects an empty list.

    The solution must be right, blanks blank, each of three or more wrong answers wrong with a message that
    explains, and no message may contain the solution.
    """
    context = item.context()
    solution = item.solution(*context)
    found = []
    result = item.judge(solution, *context)
    if result.state != "right":
        found.append(f"{item.name}: the solution is judged {result.state}: {result.text}")
    blanks: list[Any] = [..., None] + ([lambda *args: ...] if callable(solution) else [])
    if any(item.judge(blank, *context).state != "blank" for blank in blanks):
        found.append(f"{item.name}: a blank is not taken for a blank")
    wrong = list(item.wrong(*context))
    if len(wrong) < 3:
        found.append(f"{item.name}: {len(wrong)} wrong answers, three are asked for")
    for number, answer in enumerate(wrong):
        found += _faults_of_wrong(item, number, item.judge(answer, *context), solution)
    return found


def _faults_of_wrong(item: Exercise, number: int, result: Result, solution: Any) -> list[str]:
    if result.state != "wrong":
        return [f"{item.name}: wrong answer {number} is judged {result.state}"]
    if len(result.text.split()) < 3:
        return [f"{item.name}: wrong answer {number} gets no explanation: {result.text!r}"]
    simple = isinstance(solution, str) or (is_number(solution) and abs(float(solution)) > 10)
    if simple and str(solution) in result.text:
        return [f"{item.name}: the message for wrong answer {number} gives the solution: {result.text!r}"]
    return []
