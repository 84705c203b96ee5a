"""One colour, one order, and never colour alone."""

from __future__ import annotations

import itertools

import pytest

from brainseg_utils.datasets.labels import SCHEMES
from brainseg_utils.errors import SettingError
from brainseg_utils.views import palette


def test_every_tissue_of_every_scheme_has_a_style():
    for scheme in SCHEMES.values():
        assert palette.in_order(scheme.tissues.values())


def test_the_order_is_the_courses():
    assert list(palette.TISSUES)[:4] == ["NETC", "SNFH", "ET", "RC"]
    assert palette.in_order(["RC", "ET", "SNFH", "NETC"]) == ["NETC", "SNFH", "ET", "RC"]
    assert palette.in_order(["WT", "TC", "ET"]) == ["ET", "TC", "WT"]


@pytest.mark.parametrize("group", [palette.TISSUES, palette.REGIONS, palette.ERRORS])
def test_no_two_of_a_group_look_alike(group):
    for (_, one), (_, other) in itertools.combinations(group.items(), 2):
        assert one.colour != other.colour
    seen_together = [s for name, s in group.items() if name not in ("CC", "tumour")]
    assert len({(s.pattern, s.dash) for s in seen_together}) == len(seen_together)


def test_tissue_colours_are_okabe_and_itos():
    assert {s.colour for s in (*palette.TISSUES.values(), *palette.REGIONS.values())} <= set(palette.OKABE_ITO.values())


def test_unknown_names_are_refused():
    with pytest.raises(SettingError, match="did you mean 'NETC'"):
        palette.style("NTC")
    with pytest.raises(SettingError, match="unknown tissue"):
        palette.in_order(["ET", "oedema"])
