"""A series of pictures: the slider shows the right one, and without a kernel there is a picture or a film."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from brainseg_utils.errors import SettingError
from brainseg_utils.views.frames import LAST, MILLISECONDS, Frames
from brainseg_utils.views.png import animated


def series(count=3):
    pictures = [np.full((8, 10, 3), 60 * k, np.uint8) for k in range(count)]
    for k, picture in enumerate(pictures):
        picture[k, k] = (230, 160, 0)  # a coloured pixel that wanders
    return pictures, [f"a grey picture of shade {k}" for k in range(count)]


def shown(widget):
    return np.asarray(Image.open(BytesIO(widget.picture.png)).convert("RGB"))


def twin(widget):
    data, metadata = widget._repr_mimebundle_()
    return Image.open(BytesIO(base64.b64decode(data["image/png"]))), metadata["image/png"]["alt"]


def test_the_slider_changes_the_picture_and_its_words():
    pictures, words = series()
    widget = Frames(pictures, words, ["0.0", "0.5", "1.0"], "alpha", start=1)
    assert np.array_equal(shown(widget), pictures[1]) and widget.picture.alt == words[1]
    widget.number = 2
    assert np.array_equal(shown(widget), pictures[2]) and widget.picture.alt == words[2]


def test_without_a_kernel_a_slider_is_its_first_picture():
    pictures, words = series()
    image, alt = twin(Frames(pictures, words, range(3), start=1))
    assert alt == words[1] and not getattr(image, "is_animated", False)
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - pictures[1]).max() <= 1


def test_without_a_kernel_a_film_plays_all_pictures_in_order():
    pictures, words = series()
    image, alt = twin(Frames(pictures, words, range(3), film=True))
    assert image.n_frames == 3 and words[-1] in alt
    times = []
    for k, picture in enumerate(pictures):
        image.seek(k)
        times.append(image.info["duration"])
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - picture).max() <= 1
    assert times == [MILLISECONDS, MILLISECONDS, LAST]


def test_the_play_button_moves_the_slider():
    pictures, words = series()
    widget = Frames(pictures, words, range(3), film=True)
    widget.children[0].children[0].value = 2
    assert widget.number == 2


def test_a_film_is_smaller_than_its_pictures_apart():
    rng = np.random.default_rng(0)
    still = np.repeat(rng.integers(0, 256, (60, 60, 1), np.uint8), 3, axis=2)
    pictures = [still.copy() for _ in range(6)]
    for k, picture in enumerate(pictures):
        picture[10 + k, 10:20] = (230, 160, 0)
    assert len(animated(pictures, 100, 100)) < 2 * len(animated(pictures[:1], 100, 100))


def test_pictures_without_words_are_refused():
    pictures, words = series()
    with pytest.raises(SettingError, match="3 pictures, 2 descriptions"):
        Frames(pictures, words[:2], range(3))
