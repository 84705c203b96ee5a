"""From probabilities to labels: nesting, thresholds, components, small ET, tissues that exclude each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainseg_utils.datasets.labels import SCHEMES, get_scheme
from brainseg_utils.errors import SettingError
from brainseg_utils.inference.regions import Rules, keep_large, label, region_names, rules, to_regions

MM = (1.0, 1.0, 1.0)
PLAIN = [name for name in SCHEMES if name not in ("lgg", "brats2024-ped")]
PROBABILITIES = hnp.arrays(np.float32, (4, 4, 3, 3), elements=st.floats(0, 1, width=32))


def named(probability):
    return dict(zip(("ET", "TC", "WT", "RC"), probability, strict=True))


@given(PROBABILITIES, st.sampled_from([*PLAIN, "brats2024-ped"]), st.floats(0.1, 0.9), st.booleans())
def test_labels_are_the_schemes_and_regions_are_nested(probability, name, threshold, exclusive):
    scheme = get_scheme(name)
    how = Rules({"WT": threshold, "ET": 1 - threshold}, {"WT": 0.3}, {"TC": 2.0})
    mask = label(named(probability), scheme, MM, None if exclusive else how, exclusive)
    scheme.check(mask)
    et, tc, wt = (scheme.region(mask, region) for region in ("ET", "TC", "WT"))
    assert (et <= tc).all() and (tc <= wt).all()
    assert not (scheme.region(mask, "RC") & wt).any() if "RC" in scheme.regions else True


@given(hnp.arrays(np.uint8, (5, 4, 3), elements=st.integers(0, 4)), st.sampled_from(PLAIN), st.booleans())
def test_the_truths_own_regions_give_the_truth(numbers, name, exclusive):
    scheme = get_scheme(name)
    truth = np.array([0, *scheme.tissues, 0], np.uint8)[numbers]
    probability = {
        r: scheme.region(truth, r).astype(np.float32) for r in ("ET", "TC", "WT", "RC") if r in scheme.regions
    }
    assert np.array_equal(label(probability, scheme, MM, exclusive=exclusive), truth)


@given(hnp.arrays(np.float32, (5, 3, 3, 2), elements=st.floats(-4, 4, width=32), unique=True))
def test_exclusive_labels_are_the_likeliest_tissue(logits):
    softmax = torch.softmax(torch.from_numpy(logits), 0)
    regions = to_regions(softmax[1:], ("NETC", "SNFH", "ET", "RC"), True).numpy()
    mask = label(named(regions), get_scheme("brats2024"), MM, exclusive=True)
    best = np.sort(softmax.numpy(), axis=0)
    clear = best[-1] - best[-2] > 1e-5  # sums and differences round
    assert np.array_equal(mask[clear], softmax.numpy().argmax(0)[clear])


def test_regions_of_classes():
    assert region_names(("WT", "ET", "TC"), False) == ("ET", "TC", "WT")
    assert region_names(("NETC", "SNFH", "ET"), True) == ("ET", "TC", "WT")
    wt, et = torch.full((1, 1, 1), 0.9), torch.full((1, 1, 1), 0.2)
    assert torch.allclose(to_regions(torch.stack([wt, et]), ("WT", "ET"), False).flatten(), torch.tensor([0.2, 0.9]))
    for classes, exclusive in ((("tumour",), False), (("NETC", "ET"), False), (("WT", "TC"), True)):
        with pytest.raises(SettingError, match="a network with classes"):
            region_names(classes, exclusive)


def test_core_outside_the_tumour_is_dropped_with_its_component():
    tumour, core = np.zeros((12, 1, 1)), np.zeros((12, 1, 1))
    tumour[0:6] = tumour[8:10] = 0.9
    core[2:4] = core[8:9] = core[11] = 0.8
    mask = label({"WT": tumour, "TC": core}, get_scheme("brats2021"), MM, Rules(shares={"WT": 0.5}))
    assert mask.ravel().tolist() == [2, 2, 1, 1, 2, 2, 0, 0, 0, 0, 0, 0]


def test_small_components_are_judged_in_mm3():
    p = np.zeros((9, 1, 1))
    p[0:3] = p[5:7] = 1
    scheme = get_scheme("brats2023")
    kept = [
        int((label({"WT": p}, scheme, spacing, Rules(smallest={"WT": 20.0})) > 0).sum()) for spacing in (MM, (2, 2, 2))
    ]
    assert kept == [0, 3]  # 3 and 2 mm^3; 24 and 16 mm^3


def test_very_small_et_becomes_netc():
    regions = {name: np.zeros((4, 4, 4)) for name in ("ET", "TC", "WT")}
    for n, name in enumerate(("WT", "TC", "ET")):
        regions[name][n:, :2] = 1
    how = Rules(small_et=17.0)
    assert set(np.unique(label(regions, get_scheme("brats2021"), MM, how))) == {0, 1, 2}
    assert set(np.unique(label(regions, get_scheme("brats2021"), (1, 1, 2), how))) == {0, 1, 2, 4}  # 16 voxels, 32 mm^3


def test_core_far_outside_a_rim_becomes_oedema_and_a_tumour_without_rim_has_its_own_thresholds():
    """A row of voxels, 4 thick: core in 12 of them, enhancement in the first 4, or in none."""
    wt, tc, et = np.zeros((3, 16, 4, 4))
    wt[:14], wt[14:], tc[:12], et[:4] = 0.9, 0.2, 0.6, 0.8
    scheme = get_scheme("brats2023")
    how = Rules(rim=0.05, reach=2.0, without_rim={"WT": 0.1, "TC": 0.7})

    def row(rules, enhancing=et):
        return label({"WT": wt, "TC": tc, "ET": enhancing}, scheme, MM, rules)[:, 0, 0].tolist()

    assert row(Rules()) == [3] * 4 + [1] * 8 + [2] * 2 + [0] * 2
    assert row(how) == [3] * 4 + [1] * 2 + [2] * 8 + [0] * 2
    assert row(how, 0 * et) == [2] * 16
    assert row(Rules(rim=0.05, reach=2.0), 0 * et) == row(Rules(), 0 * et)
    assert row(Rules(rim=0.5, reach=2.0)) == row(Rules())  # a third of the core enhances


def test_a_cavity_is_where_it_is_likelier_than_tumour():
    wt, rc = np.array([0.9, 0.6, 0.2]).reshape(3, 1, 1), np.array([0.7, 0.8, 0.9]).reshape(3, 1, 1)
    assert label({"WT": wt, "RC": rc}, get_scheme("brats2024"), MM).ravel().tolist() == [2, 4, 4]
    assert label({"WT": wt, "RC": rc}, get_scheme("brats2023"), MM).ravel().tolist() == [2, 2, 0]


@given(hnp.arrays(bool, (6, 5, 4)), st.floats(0, 1), st.integers(0, 9))
def test_kept_components_are_whole_and_large(mask, share, voxels):
    import cc3d

    kept = keep_large(mask, share, voxels)
    assert (kept <= mask).all()
    before, after = cc3d.connected_components(mask, connectivity=26), cc3d.connected_components(kept, connectivity=26)
    sizes, left = np.bincount(before.ravel())[1:], np.bincount(after.ravel())[1:]
    expected = [n for n in sizes if n >= voxels and n >= share * sizes.max()] if share > 0 or voxels > 1 else sizes
    assert sorted(left) == sorted(expected)


def test_settings_that_do_not_exist_are_refused():
    with pytest.raises(SettingError, match=r"unknown setting 'treshold'.*thresholds"):
        rules({"treshold": {}})
    with pytest.raises(SettingError, match="unknown region 'wt'"):
        rules({"thresholds": {"wt": 0.5}})
    with pytest.raises(SettingError, match="without_rim: unknown region 'core'"):
        rules({"without_rim": {"core": 0.5}})
    with pytest.raises(SettingError, match="axes 0, 1 and 2"):
        Rules(flips=(3,))
    with pytest.raises(SettingError, match="sizes above 0"):
        Rules(spacings={"WT": (1.0, 0.0)})
