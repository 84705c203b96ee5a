"""A series of pictures, one at a time: a slider over a setting, or a film over the epochs of a training.

The pictures are drawn before, so that moving the slider costs nothing. Where no kernel runs, a film is an animated PNG,
which browsers play by themselves, and a slider's pictures are shown by the one it starts with.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np

from brainseg_utils.errors import SettingError
from brainseg_utils.views import figures, png
from brainseg_utils.views.widget import Picture

MILLISECONDS, LAST = 500, 2500  # of each picture of a film, and of its last


class Frames(ipywidgets.VBox):
    """Pictures with a slider; `widget.number` is which one is shown, and may be set.

    Args:
        pictures: (H, W, 3) uint8 each, all of one shape.
        words: what each one shows: its alt text.
        labels: of the slider's places, such as alpha or the epoch.
        name: of the slider.
        film: with a play button; its static twin is animated.
        start: which picture comes first; a film's twin begins at the first one all the same.

    Raises:
        SettingError: none, or numbers of pictures, words and labels that differ.
    """

    def __init__(
        self,
        pictures: Sequence[np.ndarray],
        words: Sequence[str],
        labels: Sequence[Any],
        name: str = "picture",
        film: bool = False,
        start: int = 0,
    ) -> None:
        if not pictures or not len(pictures) == len(words) == len(labels):
            raise SettingError(
                f"{len(pictures)} pictures, {len(words)} descriptions and {len(labels)} labels",
                expected="as many of each, and one or more",
            )
        self.pictures, self.words, self.film, self.start = list(pictures), list(words), film, start
        self.picture = Picture()
        self.slider = ipywidgets.SelectionSlider(
            options=[(str(label), number) for number, label in enumerate(labels)],
            description=name,
            value=start,
            layout={"width": "26em"},
        )
        self.slider.observe(self._show, "value")
        controls: list[Any] = [self.slider]
        if film:
            play = ipywidgets.Play(min=0, max=len(pictures) - 1, value=start, interval=MILLISECONDS)
            play.observe(lambda change: setattr(self, "number", change["new"]), "value")
            controls.insert(0, play)
        super().__init__([ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"}), self.picture])
        self._show()

    @property
    def number(self) -> int:
        """Which picture is shown, from 0."""
        return self.slider.value

    @number.setter
    def number(self, number: int) -> None:
        self.slider.value = number

    def _show(self, _: Any = None) -> None:
        with self.picture.hold_sync():
            self.picture.png = png.encode(self.pictures[self.number])
            self.picture.alt = self.words[self.number]

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live view and, for readers without a kernel, the film or the first picture with its description."""
        live = super()._repr_mimebundle_(**kwargs)
        if live is None:
            return None
        if not self.film:
            data, metadata = figures.mimebundle(self.pictures[self.start], self.words[self.start])
            return {**live, **data}, metadata
        whole = base64.b64encode(png.animated(self.pictures, MILLISECONDS, LAST)).decode("ascii")
        words = f"A film of {len(self.pictures)} pictures. The last one: {self.words[-1]}"
        return {**live, "image/png": whole, "text/plain": words}, {"image/png": {"alt": words}}
