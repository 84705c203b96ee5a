"""One colour, pattern and line a tissue and a region, all through the course.

Colours are Okabe and Ito's eight (jfly.uni-koeln.de/color, 2008), which people with any of the common colour vision
deficiencies tell apart. Colour never stands alone: each entry has a hatch for areas and a dash for lines as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from brainseg_utils.errors import unknown

Pattern = Literal["plain", "falling", "rising", "dots", "crossed"]
Dash = Literal["solid", "dashed", "dotted", "dashdot"]

OKABE_ITO: Mapping[str, str] = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
    "bluish green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "reddish purple": "#CC79A7",
}
HATCHES: Mapping[Pattern, str] = {"plain": "", "falling": "\\\\", "rising": "//", "dots": "..", "crossed": "xx"}


@dataclass(frozen=True)
class Style:
    """How one tissue, region or kind of error is drawn everywhere.

    Attributes:
        colour: "#RRGGBB".
        pattern: what fills areas in slices; `hatch` is its name in matplotlib.
        dash: line style, in slices and as matplotlib's name.
    """

    colour: str
    pattern: Pattern
    dash: Dash

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as three integers, 0 to 255.

        Example:
            >>> TISSUES["ET"].rgb
            (213, 94, 0)
        """
        value = int(self.colour[1:], 16)
        return value >> 16, value >> 8 & 255, value & 255

    @property
    def hatch(self) -> str:
        """The pattern as matplotlib spells it."""
        return HATCHES[self.pattern]


TISSUES: Mapping[str, Style] = {  # in the order of every legend and table
    "NETC": Style(OKABE_ITO["sky blue"], "falling", "dashed"),
    "SNFH": Style(OKABE_ITO["bluish green"], "plain", "dotted"),
    "ET": Style(OKABE_ITO["vermilion"], "rising", "solid"),
    "RC": Style(OKABE_ITO["reddish purple"], "dots", "dashdot"),
    "CC": Style(OKABE_ITO["yellow"], "crossed", "dashed"),
    "tumour": Style(OKABE_ITO["orange"], "plain", "solid"),
}
REGIONS: Mapping[str, Style] = {
    "ET": TISSUES["ET"],
    "TC": Style(OKABE_ITO["blue"], "crossed", "dashed"),
    "WT": Style(OKABE_ITO["orange"], "plain", "dotted"),
}
ERRORS: Mapping[str, Style] = {
    "missed": Style(OKABE_ITO["yellow"], "rising", "solid"),
    "extra": Style(OKABE_ITO["sky blue"], "falling", "dashed"),
    "other tissue": Style("#FFFFFF", "dots", "dotted"),
    "agreed": Style("#9A9A9A", "plain", "dotted"),
}
MODALITY_NAMES: Mapping[str, str] = {"t1n": "T1", "t1c": "T1 contrast", "t2w": "T2", "t2f": "FLAIR"}
MAPS: Mapping[str, str] = {"intensity": "gray", "probability": "viridis", "difference": "RdBu_r"}


def style(name: str) -> Style:
    """The style of a tissue or region.

    Raises:
        SettingError: nothing of this name has one.
    """
    both = {**REGIONS, **TISSUES}
    if name not in both:
        raise unknown("tissue or region", name, both)
    return both[name]


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the course's fixed order: tissues first, then regions.

    Example:
        >>> in_order(["WT", "ET", "NETC"])
        ['NETC', 'ET', 'WT']
    """
    order = [*TISSUES, *(name for name in REGIONS if name not in TISSUES)]
    known = list(names)
    for name in known:
        style(name)
    return sorted(known, key=order.index)


def modality_name(modality: str) -> str:
    """What a picture calls a modality: "T1 contrast" for t1c; a name that is not one of the four stays as it is."""
    return MODALITY_NAMES.get(modality, modality)
