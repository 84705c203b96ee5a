"""Multiple-choice questions in a notebook: offline, with an explanation for each choice.

The questions of notebook NN are data: `course/quizzes/nbNN.json`, a list of

    {"id": "why-four", "question": "...", "several": false,
     "choices": [{"text": "...", "correct": false, "explanation": "..."}, ...]}

`several` is left out where exactly one choice is right. Text between backticks is shown as code. The question and
its choices are written as HTML once, which reads without a kernel and on paper, with all the explanations folded
away beneath; where a browser talks to a kernel, a row of buttons below gives the explanation of the chosen one.
"""

from __future__ import annotations

import html
import json
import re
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainseg_utils.course.checks import COLOURS, MARKS
from brainseg_utils.errors import DataError, unknown

FOLDER = Path(__file__).parent / "quizzes"
MIN_CHOICES = 3


@dataclass(frozen=True)
class Choice:
    """One choice: its text, whether it is right, and why."""

    text: str
    correct: bool
    explanation: str


@dataclass(frozen=True)
class Question:
    """One question; `several` says that more than one choice may be right."""

    id: str
    question: str
    choices: tuple[Choice, ...]
    several: bool = False

    def letters(self) -> str:
        """The choices' letters, "ABC..."."""
        return string.ascii_uppercase[: len(self.choices)]

    def feedback(self, letter: str) -> str:
        """HTML that says whether a choice is right, and why."""
        choice = self.choices[self.letters().index(letter)]
        state = "right" if choice.correct else "wrong"
        head = f'<b style="color:{COLOURS[state]}">{MARKS[state]} {letter}</b>'
        return f"<div>{head} {_inline(choice.explanation)}</div>"

    def __repr__(self) -> str:
        lines = [self.question + (" (several are right)" if self.several else "")]
        return "\n".join(
            lines + [f"  {letter}  {c.text}" for letter, c in zip(self.letters(), self.choices, strict=True)]
        )

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{_inline(choice.text)}</li>" for choice in self.choices)
        answers = "".join(self.feedback(letter) for letter in self.letters())
        several = " <i>(several are right)</i>" if self.several else ""
        return (
            f'<div class="quiz"><p><b>Question.</b> {_inline(self.question)}{several}</p>'
            f'<ol type="A">{items}</ol>'
            f"<details><summary>Answers, with the reason for each</summary>{answers}</details></div>"
        )


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def read(path: str | Path) -> dict[str, Question]:
    """The questions of a file, by id.

    Raises:
        DataError: a question without id or text, with fewer than three choices, without an explanation for each,
            or whose number of right choices is not what it says.
    """
    questions: dict[str, Question] = {}
    for entry in json.loads(Path(path).read_text(encoding="utf-8")):
        question = _question(entry, Path(path))
        if question.id in questions:
            raise DataError(f"question {question.id!r} twice", where=path, expected="one id a question")
        questions[question.id] = question
    return questions


def _question(entry: dict[str, Any], path: Path) -> Question:
    where = f"{path.name}, question {entry.get('id', '?')!r}"
    try:
        choices = tuple(Choice(c["text"], bool(c["correct"]), c["explanation"]) for c in entry["choices"])
        question = Question(entry["id"], entry["question"], choices, bool(entry.get("several", False)))
    except KeyError as error:
        raise DataError(
            f"no {error.args[0]!r}", where=where, expected="id, question, choices (text, correct, explanation)"
        ) from error
    right = sum(choice.correct for choice in choices)
    if len(choices) < MIN_CHOICES:
        raise DataError(f"{len(choices)} choices", where=where, expected=f"{MIN_CHOICES} or more")
    if not all(c.text.strip() and c.explanation.strip() for c in choices):
        raise DataError("an empty choice or explanation", where=where, expected="an explanation for each choice")
    if right < 1 or (right > 1) != question.several:
        raise DataError(
            f"{right} right choices", where=where, expected="two or more" if question.several else "exactly one"
        )
    return question


def buttons(question: Question) -> Any:
    """An ipywidgets box: one button a choice, and beneath it the explanation of the chosen one."""
    import ipywidgets

    choose = ipywidgets.ToggleButtons(options=list(question.letters()), value=None, style={"button_width": "3em"})
    reply = ipywidgets.HTML()

    def answer(change: dict[str, Any]) -> None:
        reply.value = question.feedback(change["new"]) if change["new"] else ""

    choose.observe(answer, names="value")
    return ipywidgets.VBox([choose, reply])


class Quiz:
    """The questions of one notebook: `quiz("why-four")` shows one."""

    def __init__(self, number: str, folder: Path = FOLDER) -> None:
        self.path = folder / f"nb{number}.json"
        self.questions = read(self.path) if self.path.is_file() else {}

    def __call__(self, name: str) -> None:
        """Shows a question: its text for every reader, and buttons where there is a kernel and a browser.

        Raises:
            SettingError: no question of this notebook has the name.
        """
        from IPython.display import display

        if name not in self.questions:
            raise unknown("question", name, self.questions, where=self.path.name)
        display(self.questions[name])
        display(buttons(self.questions[name]))
