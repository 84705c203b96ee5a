"""The label table: what each integer means, and that nothing else is taken for a label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainseg_utils.datasets.labels import SCHEMES, get_scheme
from brainseg_utils.errors import LabelError, SettingError

CONTRACT = {  # evaluation contract, section 1
    "brats2021": {"ET": (4,), "TC": (1, 4), "WT": (1, 2, 4), "NETC": (1,), "SNFH": (2,)},
    "brats2023": {"ET": (3,), "TC": (1, 3), "WT": (1, 2, 3), "NETC": (1,), "SNFH": (2,)},
    "brats2024": {"ET": (3,), "TC": (1, 3), "WT": (1, 2, 3), "NETC": (1,), "SNFH": (2,), "RC": (4,)},
    "brats2024-ped": {"ET": (1,), "TC": (1, 2, 3), "WT": (1, 2, 3, 4), "NETC": (2,), "CC": (3,), "SNFH": (4,)},
    "msd": {"ET": (3,), "TC": (2, 3), "WT": (1, 2, 3), "NETC": (2,), "SNFH": (1,)},
    "lgg": {"tumour": (255,)},
}
PRE_TREATMENT = ("brats2021", "brats2023", "msd")


def masks(scheme: str):
    values = st.sampled_from([0, *SCHEMES[scheme].tissues])
    return hnp.arrays(np.uint8, (3, 4, 2), elements=values)


@pytest.mark.parametrize("name", SCHEMES)
def test_regions_are_those_of_the_contract(name):
    scheme = get_scheme(name)
    assert {region: scheme.values(region) for region in scheme.regions} == CONTRACT[name]


def test_four_is_et_until_2021_and_resection_cavity_in_2024():
    mask = np.array([0, 1, 2, 4])
    assert get_scheme("brats2021").region(mask, "ET").tolist() == [False, False, False, True]
    assert get_scheme("brats2024").region(mask, "ET").tolist() == [False] * 4
    assert get_scheme("brats2024").region(mask, "RC").tolist() == [False, False, False, True]
    assert get_scheme("brats2024").region(mask, "WT").tolist() == [False, True, True, False]


@pytest.mark.parametrize("target", PRE_TREATMENT)
@pytest.mark.parametrize("source", PRE_TREATMENT)
@given(data=st.data())
def test_conversion_keeps_every_region_and_comes_back(source, target, data):
    mask = data.draw(masks(source))
    one, other = get_scheme(source), get_scheme(target)
    converted = one.convert(mask, other)
    for region in one.regions:
        assert np.array_equal(one.region(mask, region), other.region(converted, region))
    assert np.array_equal(other.convert(converted, one), mask)


def test_a_tissue_without_value_in_the_target_is_refused():
    with pytest.raises(LabelError, match="2 voxels of RC have no value in scheme brats2023"):
        get_scheme("brats2024").convert(np.array([4, 4, 1]), get_scheme("brats2023"))


@pytest.mark.parametrize("name", ["brats2021", "brats2023", "brats2024", "msd"])
@given(data=st.data())
def test_regions_give_the_labels_back(name, data):
    scheme = get_scheme(name)
    mask = data.draw(masks(name))
    regions = {region: scheme.region(mask, region) for region in scheme.regions if region not in ("NETC", "SNFH")}
    assert np.array_equal(scheme.from_regions(regions), mask)


def test_overlapping_regions_are_written_in_the_order_of_the_contract():
    regions = {name: np.array(row, bool) for name, row in {"WT": [1, 1, 1, 0], "TC": [0, 1, 1, 0]}.items()}
    regions |= {"ET": np.array([0, 0, 1, 0], bool), "RC": np.array([0, 0, 1, 1], bool)}
    assert get_scheme("brats2024").from_regions(regions).tolist() == [2, 1, 4, 4]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("brats2023", [0, 4], r"label value 4 is not in scheme brats2023.*4 is ET in brats2021"),
        ("brats2021", [0, 3], r"label value 3 is not in scheme brats2021.*schemes with this value: brats2023"),
        ("brats2021", [0, 9, -1], r"label value -1, 9 .*no known scheme"),
        ("brats2021", [0.0, 0.5], "label value 0.5 is not a whole number"),
        ("brats2021", [0.0, np.nan], "label value nan is not a whole number"),
        ("brats2021", [0.0, np.inf], "label value inf is not a whole number"),
        ("lgg", [0, 1], "label value 1 is not in scheme lgg"),
    ],
)
def test_other_values_are_refused(name, values, message):
    with pytest.raises(LabelError, match=message):
        get_scheme(name).check(np.array(values), "mask.nii.gz")


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.float32, np.float64])
def test_whole_numbers_of_any_type_are_labels(kind):
    get_scheme("brats2021").check(np.array([[0, 1], [2, 4]], kind))


def test_unknown_names_get_the_nearest():
    with pytest.raises(SettingError, match="did you mean 'brats2024-ped'"):
        get_scheme("brats2024_ped")
    with pytest.raises(SettingError, match="unknown region 'RC'"):
        get_scheme("brats2021").values("RC")
