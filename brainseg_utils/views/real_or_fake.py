"""Real or painted? A game of pictures, one at a time, whose score is told beside what guessing would give.

The rules are plain functions of the rounds and the answers, so that a program can play as well as a reader;
`RealOrFake` puts two buttons around them. Notebook 06 uses both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import ipywidgets
import numpy as np

from brainseg_utils.errors import SettingError
from brainseg_utils.views import draw, figures, palette, png, slices
from brainseg_utils.views.widget import Picture

GAP, FRAME, SIZE = 10, 3, 14  # pixels: between pictures, around them, of the letters
COLOURS = {"real": "#FFFFFF", "painted": palette.OKABE_ITO["yellow"]}  # of no tissue


@dataclass(frozen=True)
class Round:
    """One picture of the game.

    Attributes:
        picture: (H, W, 3) uint8.
        real: what it is.
    """

    picture: np.ndarray
    real: bool


def count_right(rounds: Sequence[Round], answers: Sequence[bool]) -> int:
    """How many of the first rounds were answered rightly; `answers` says of each whether it was taken for real.

    Raises:
        SettingError: more answers than rounds.
    """
    if len(answers) > len(rounds):
        raise SettingError(f"{len(answers)} answers", expected=f"{len(rounds)} at most, one a round")
    return sum(one.real == answer for one, answer in zip(rounds, answers, strict=False))


def by_guessing(right: int, rounds: int) -> float:
    """Probability that someone who tosses a coin is right so often or more.

    Example:
        >>> by_guessing(9, 10)
        0.0107421875
    """
    return sum(comb(rounds, k) for k in range(right, rounds + 1)) / 2**rounds


def verdict(rounds: Sequence[Round], answers: Sequence[bool]) -> str:
    """The score in words.

    Example:
        >>> rounds = [Round(np.zeros((2, 2, 3), np.uint8), real) for real in (True, False)]
        >>> verdict(rounds, [True, False])
        '2 of 2 right; by tossing a coin one gets so many or more with probability 0.25'
    """
    if not answers:
        return "no round answered yet"
    right = count_right(rounds, answers)
    chance = by_guessing(right, len(answers))
    return f"{right} of {len(answers)} right; by tossing a coin one gets so many or more with probability {chance:.2g}"


def sheet(rounds: Sequence[Round], columns: int = 3, reveal: bool = False) -> np.ndarray:
    """All pictures of a game with their numbers.

    Args:
        rounds: pictures of one size.
        columns: pictures a row.
        reveal: frame each one and write what it is.

    Returns:
        (H, W, 3) uint8.

    Raises:
        SettingError: no rounds, or pictures of several sizes.
    """
    shapes = {one.picture.shape for one in rounds}
    if len(shapes) != 1:
        raise SettingError(f"pictures of {len(shapes)} sizes", expected="one or more, of one size")
    height, width, _ = shapes.pop()
    head = SIZE + 10
    tall, wide = height + head + GAP, width + GAP
    rows = -(-len(rounds) // columns)
    canvas = np.full((rows * tall + GAP, min(columns, len(rounds)) * wide + GAP, 3), slices.BACKGROUND, np.uint8)
    for number, one in enumerate(rounds):
        row, column = divmod(number, columns)
        top, left = row * tall + GAP + head, column * wide + GAP
        name = "real" if one.real else "painted"
        if reveal:
            rgb = palette.Style(COLOURS[name], "plain", "solid").rgb
            canvas[top - FRAME : top + height + FRAME, left - FRAME : left + width + FRAME] = rgb
        canvas[top : top + height, left : left + width] = one.picture
        title = f"{number + 1}: {name}" if reveal else f"{number + 1}"
        draw.write(canvas, title, top - FRAME - head / 2, left, SIZE, "ml")
    return canvas


class RealOrFake(ipywidgets.VBox):
    """The game with two buttons. `say(True)` answers "real" for the round that is shown, as the button does.

    Args:
        rounds: pictures of one size.

    Raises:
        SettingError: no rounds, or pictures of several sizes.
    """

    def __init__(self, rounds: Sequence[Round]) -> None:
        self.rounds, self.answers = list(rounds), []  # type: ignore[var-annotated]
        self._sheet = sheet(self.rounds)
        self.picture, self.readout = Picture(), ipywidgets.HTML()
        self.buttons = [ipywidgets.Button(description=name) for name in ("real", "painted", "again")]
        for button, act in zip(
            self.buttons, (lambda _: self.say(True), lambda _: self.say(False), lambda _: self.again()), strict=True
        ):
            button.on_click(act)
        super().__init__([ipywidgets.HBox(self.buttons), self.readout, self.picture])
        self._show("")

    @property
    def score(self) -> str:
        """The score in words."""
        return verdict(self.rounds, self.answers)

    def say(self, real: bool) -> None:
        """Answers the round that is shown; after the last one nothing happens."""
        if len(self.answers) == len(self.rounds):
            return
        truth = self.rounds[len(self.answers)].real
        self.answers.append(real)
        self._show(f"{'right' if truth == real else 'wrong'}: it was {'real' if truth else 'painted'}. ")

    def again(self) -> None:
        """Begins anew, with the same pictures."""
        self.answers = []
        self._show("")

    def _show(self, about_last: str) -> None:
        number, count = len(self.answers), len(self.rounds)
        over = number == count
        for button in self.buttons[:2]:
            button.disabled = over
        place = "The end" if over else f"Round {number + 1} of {count}"
        self.readout.value = f"{about_last}{place}; {self.score}."
        with self.picture.hold_sync():
            self.picture.png = png.encode(
                sheet(self.rounds, reveal=True) if over else sheet([self.rounds[number]], columns=1)
            )
            self.picture.alt = self._words() if over else f"{place}: a scan with a tumour, real or painted."

    def _words(self) -> str:
        names = (f"{n + 1} {'real' if one.real else 'painted'}" for n, one in enumerate(self.rounds))
        return f"All {len(self.rounds)} pictures with what they are: {', '.join(names)}."

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live game and, for readers without a kernel, all its pictures with numbers and without answers."""
        live = super()._repr_mimebundle_(**kwargs)
        if live is None:
            return None
        words = f"{len(self.rounds)} numbered pictures of tumours, some real and some painted; which is told below."
        data, metadata = figures.mimebundle(self._sheet, words)
        return {**live, **data}, metadata
