"""The real-or-painted game: it counts, it tells what guessing gives, and it can be played without a browser."""

from __future__ import annotations

import numpy as np
import pytest

from brainseg_utils.errors import SettingError
from brainseg_utils.views import real_or_fake
from brainseg_utils.views.real_or_fake import RealOrFake, Round, by_guessing, count_right, sheet, verdict

TRUTH = (True, False, False, True)


@pytest.fixture
def rounds():
    return [Round(np.full((20, 30, 3), 40 * n, np.uint8), real) for n, real in enumerate(TRUTH, 1)]


def test_a_player_who_knows_is_always_right_and_one_who_says_real_half_the_time(rounds):
    assert count_right(rounds, TRUTH) == 4
    assert count_right(rounds, [True] * 4) == 2
    assert count_right(rounds, [not real for real in TRUTH]) == 0
    assert count_right(rounds, [True]) == 1  # the others are not answered yet
    with pytest.raises(SettingError, match="5 answers"):
        count_right(rounds, [True] * 5)


@pytest.mark.parametrize(("right", "rounds", "chance"), [(0, 6, 1), (3, 3, 1 / 8), (5, 10, 638 / 1024)])
def test_a_coin(right, rounds, chance):
    assert by_guessing(right, rounds) == pytest.approx(chance)


def test_played_to_the_end_it_tells_the_score_and_what_was_what(rounds):
    game = RealOrFake(rounds)
    assert game.score == "no round answered yet" and "Round 1 of 4" in game.readout.value
    for said in (True, True, False, True):
        game.say(said)
    assert game.score == verdict(rounds, [True, True, False, True]) and game.score.startswith("3 of 4 right")
    assert "1 real, 2 painted, 3 painted, 4 real" in game.picture.alt
    game.say(True)  # nothing is left to answer
    assert len(game.answers) == 4 and game.buttons[0].disabled
    game.again()
    assert game.answers == [] and not game.buttons[0].disabled


def test_the_buttons_answer_and_say_whether_it_was_right(rounds):
    game = RealOrFake(rounds)
    game.buttons[1].click()
    assert game.answers == [False] and game.readout.value.startswith("wrong: it was real")
    game.buttons[0].click()
    assert game.answers == [False, True] and "it was painted" in game.readout.value


def test_the_sheet_shows_every_picture_and_gives_nothing_away(rounds):
    hidden, shown = sheet(rounds, columns=2), sheet(rounds, columns=2, reveal=True)
    assert hidden.shape == shown.shape
    for picture in (hidden, shown):
        for one in rounds:
            assert (picture == one.picture[0, 0]).all(axis=2).sum() >= 600
    colours = [tuple(real_or_fake.palette.Style(c, "plain", "solid").rgb) for c in real_or_fake.COLOURS.values()]
    framed = [[(picture == rgb).all(axis=2).sum() for rgb in colours] for picture in (hidden, shown)]
    assert framed[0] == [0, 0] and framed[1][0] == framed[1][1] > 0
    with pytest.raises(SettingError, match="2 sizes"):
        sheet([*rounds, Round(np.zeros((9, 9, 3), np.uint8), True)])


def test_without_a_kernel_it_is_a_sheet_with_words(rounds):
    data, metadata = RealOrFake(rounds)._repr_mimebundle_()
    assert data["image/png"] and "numbered pictures" in metadata["image/png"]["alt"]
