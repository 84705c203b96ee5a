"""The TOML of all choices, and draws from it."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_utils.errors import SettingError
from brainseg_utils.phantom import plan
from brainseg_utils.phantom.contrast import T1C, T1N, T2F, T2W, draw_contrast
from brainseg_utils.phantom.parameters import builtin_text, default, parse
from brainseg_utils.phantom.streams import Step, choose, stream


def test_a_misspelt_key_is_refused_with_the_nearest_name():
    with pytest.raises(SettingError, match=r"unknown key 'gains'.*did you mean 'gain'"):
        parse(builtin_text().replace("\ngain = ", "\ngains = "))


def test_a_missing_key_and_a_wrong_type_are_refused():
    with pytest.raises(SettingError, match="no key 'anchor'"):
        parse(builtin_text().replace("anchor = [0.0, -18.0, 6.0]", "", 1))
    with pytest.raises(SettingError, match="scanner: gain"):
        parse(builtin_text().replace("gain = [250.0, 900.0]", "gain = 250.0"))
    with pytest.raises(SettingError, match="not TOML"):
        parse("[frame")


def test_the_fingerprint_follows_every_number():
    assert default().fingerprint() == parse(builtin_text()).fingerprint()
    assert (
        default().fingerprint() != parse(builtin_text().replace("bias_knots = 75.0", "bias_knots = 76.0")).fingerprint()
    )
    assert pickle.loads(pickle.dumps(default())) == default()


def test_streams_do_not_depend_on_each_other():
    one = stream(3, 5, Step.PLAN).random(4)
    stream(3, 5, Step.ANATOMY).random(100)
    np.testing.assert_array_equal(stream(3, 5, Step.PLAN).random(4), one)
    assert not np.array_equal(stream(3, 6, Step.PLAN).random(4), one)
    assert not np.array_equal(stream(4, 5, Step.PLAN).random(4), one)


def test_kinds_come_in_their_shares():
    p = default()
    kinds = [plan.draw_kind(p, p.tumour.pre, 0.08, 11, i) for i in range(3000)]
    share = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    assert share["healthy"] == pytest.approx(0.08, abs=0.02)
    assert share["ring"] == pytest.approx(0.66, abs=0.04)
    assert share["lgg"] == pytest.approx(0.15, abs=0.03)
    rng = np.random.default_rng(0)
    assert {choose(rng, {"a": 1.0, "b": 0.0}) for _ in range(50)} == {"a"}


def test_whole_tumour_volumes_have_the_spread_of_real_ones():
    p = default()
    whole, core = [], []
    for i in range(3000):
        kind = plan.draw_kind(p, p.tumour.pre, 0.0, 12, i)
        c, o = plan.draw_volumes(p, stream(12, i, Step.PLAN, 1), kind, 1.0)
        whole.append(c + o)
        core.append(c)
    limits = [(15, 35), (40, 70), (80, 130), (150, 250), (220, 330)]
    for value, (low, high) in zip(np.percentile(whole, [5, 25, 50, 75, 95]), limits, strict=True):
        assert low <= value <= high
    assert max(whole) <= 380
    assert 10 <= np.median(core) <= 40


def test_difficulty_moves_volumes_and_is_checked():
    p = default()
    easy = [plan.draw_volumes(p, stream(1, i, Step.PLAN, 1), "ring", p.setting("easy").volume)[0] for i in range(200)]
    hard = [plan.draw_volumes(p, stream(1, i, Step.PLAN, 1), "ring", p.setting("hard").volume)[0] for i in range(200)]
    assert all(a >= b for a, b in zip(easy, hard, strict=True))
    assert np.median(easy) > 2 * np.median(hard)
    with pytest.raises(SettingError, match="did you mean 'easy'"):
        p.setting("easy mode")


@given(
    st.integers(0, 10_000), st.sampled_from(["ring", "solid", "cavity_et"]), st.sampled_from(["easy", "normal", "hard"])
)
@settings(max_examples=200, deadline=None)
def test_no_draw_breaks_the_orders_of_brightness(seed, kind, difficulty):
    p = default()
    mean = draw_contrast(p, np.random.default_rng(seed), {"kind": kind}, p.setting(difficulty)).mean
    wm, gm = mean["wm"], mean["gm"]
    assert wm[T1N] > gm[T1N] and wm[T1C] > gm[T1C]
    for modality in (T1N, T1C, T2F):
        assert mean["csf"][modality] < min(wm[modality], gm[modality])
    assert mean["csf"][T2W] > gm[T2W]
    assert mean["et"][T1C] >= 1.06 * wm[T1C] and mean["et"][T1C] >= mean["ncr"][T1C] + 0.2
    assert mean["et"][T1N] < wm[T1N] and mean["net"][T1C] < wm[T1C]
    assert mean["oedema"][T2F] >= 1.17 * max(gm[T2F], wm[T2F])
    assert mean["oedema"][T2W] > 1.14 * gm[T2W] and mean["ncr"][T2W] > 1.14 * gm[T2W]


def test_mismatch_darkens_the_core_on_flair_only():
    p = default()
    plain = draw_contrast(p, np.random.default_rng(2), {"kind": "lgg", "mismatch": False}, p.setting("normal"))
    dark = draw_contrast(p, np.random.default_rng(2), {"kind": "lgg", "mismatch": True}, p.setting("normal"))
    assert dark.core == "net"
    np.testing.assert_allclose(dark.mean["net"][T2F], 0.75 * plain.mean["net"][T2F])
    np.testing.assert_array_equal(dark.mean["net"][:3], plain.mean["net"][:3])


def test_parameters_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        default().scanner.blur = (0, 0)  # type: ignore[misc]
