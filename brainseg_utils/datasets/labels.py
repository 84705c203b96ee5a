"""What each integer in a mask means, per data set: the one table that everything else asks.

The value 4 is enhancing tumour in BraTS up to 2021 and resection cavity in BraTS 2024, so a mask says nothing without
its scheme. A scheme comes from the data set's layout or from the caller, never from the values themselves.

Sources: BraTS 2021 (arXiv 2107.02314), BraTS 2023 GLI (synapse.org syn51156910), BraTS 2024 post-treatment
(arXiv 2405.18368), BraTS-PEDs (arXiv 2404.15009), Medical Segmentation Decathlon `dataset.json` (arXiv 2106.05735),
LGG slices (Buda 2019, doi 10.1016/j.compbiomed.2019.05.002).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainseg_utils.errors import LabelError, unknown

TISSUE_NAMES: Mapping[str, str] = {
    "NETC": "non-enhancing tumour core (necrosis included)",
    "SNFH": "surrounding FLAIR hyperintensity (oedema and infiltration)",
    "ET": "enhancing tumour",
    "RC": "resection cavity",
    "CC": "cystic component",
    "tumour": "FLAIR abnormality",
}
REGION_NAMES: Mapping[str, str] = {
    "ET": "enhancing tumour",
    "TC": "tumour core",
    "WT": "whole tumour",
    "NETC": TISSUE_NAMES["NETC"],
    "SNFH": TISSUE_NAMES["SNFH"],
    "RC": TISSUE_NAMES["RC"],
    "CC": TISSUE_NAMES["CC"],
    "tumour": TISSUE_NAMES["tumour"],
}
WRITE_ORDER = ("WT", "TC", "ET", "CC", "RC")  # when regions overlap, the later one wins


@dataclass(frozen=True)
class LabelScheme:
    """Integers on disk, the tissues that they name, and the regions that the challenges score.

    Attributes:
        name: key in `SCHEMES`.
        tissues: value on disk to tissue name; 0 is background and is not listed.
        regions: region name to the tissues that it is made of.

    Example:
        >>> SCHEMES["brats2021"].values("ET"), SCHEMES["brats2024"].values("RC")
        ((4,), (4,))
    """

    name: str
    tissues: Mapping[int, str]
    regions: Mapping[str, tuple[str, ...]]

    def value(self, tissue: str) -> int:
        """The integer that stands for a tissue.

        Raises:
            SettingError: the scheme has no such tissue.
        """
        for value, name in self.tissues.items():
            if name == tissue:
                return value
        raise unknown("tissue", tissue, self.tissues.values(), where=f"label scheme {self.name}")

    def values(self, region: str) -> tuple[int, ...]:
        """The integers that make up a region, ascending.

        Raises:
            SettingError: the scheme has no such region.
        """
        if region not in self.regions:
            raise unknown("region", region, self.regions, where=f"label scheme {self.name}")
        return tuple(sorted(self.value(tissue) for tissue in self.regions[region]))

    def region(self, mask: np.ndarray, region: str) -> np.ndarray:
        """Boolean mask of one region, of the mask's shape."""
        return np.isin(mask, self.values(region))

    def check(self, mask: np.ndarray, where: str | Path | None = None) -> None:
        """Raises `LabelError` unless every value of the mask is 0 or one of the scheme's.

        Args:
            mask: labels of any shape; whole-number floats are fine.
            where: file or case for the message.
        """
        mask = np.asarray(mask)
        values = np.unique(mask[mask != 0])  # most of a mask is 0: sorting the rest is ten times quicker
        if not np.all(np.isfinite(values)) or np.any(values != np.round(values)):
            bad = next(v for v in values if not np.isfinite(v) or v != round(v))
            raise LabelError(
                f"label value {bad:g} is not a whole number",
                where=where,
                expected=self.describe(),
                remedy="use the mask, not a probability map or a resampled mask",
            )
        alien = [int(v) for v in values if v != 0 and int(v) not in self.tissues]
        if alien:
            raise LabelError(
                f"label value {', '.join(map(str, alien))} is not in scheme {self.name}",
                where=where,
                expected=self.describe(),
                remedy=_remedy(alien, self),
            )

    def describe(self) -> str:
        """The scheme in one line: "0, 1 NETC, 2 SNFH, 3 ET"."""
        return ", ".join(["0", *(f"{value} {tissue}" for value, tissue in sorted(self.tissues.items()))])

    def convert(self, mask: np.ndarray, target: LabelScheme) -> np.ndarray:
        """The same tissues in another scheme's integers.

        Args:
            mask: (X, Y, Z) labels of this scheme.
            target: the scheme to write.

        Returns:
            uint8 labels of the same shape.

        Raises:
            LabelError: a tissue that is present has no value in `target`.
        """
        self.check(mask)
        out = np.zeros(mask.shape, np.uint8)
        for value, tissue in self.tissues.items():
            here = mask == value
            if not here.any():
                continue
            if tissue not in target.tissues.values():
                raise LabelError(
                    f"{int(here.sum())} voxels of {tissue} have no value in scheme {target.name}",
                    expected=target.describe(),
                    remedy="choose a layout that has this tissue",
                )
            out[here] = target.value(tissue)
        return out

    def from_regions(self, regions: Mapping[str, np.ndarray]) -> np.ndarray:
        """Labels from overlapping region masks (evaluation contract, section 1).

        WT gives SNFH, then TC gives NETC, then ET gives ET, then RC, each later one over the earlier.

        Args:
            regions: region name to boolean mask, all of one shape.

        Returns:
            uint8 labels in the scheme's integers.
        """
        shape = next(iter(regions.values())).shape
        out = np.zeros(shape, np.uint8)
        for region in WRITE_ORDER:
            if region in regions:
                tissue = {"WT": "SNFH", "TC": "NETC"}.get(region, region)
                out[np.asarray(regions[region], bool)] = self.value(tissue)
        if "tumour" in regions:
            out[np.asarray(regions["tumour"], bool)] = self.value("tumour")
        return out


def _remedy(alien: list[int], scheme: LabelScheme) -> str:
    if 4 in alien:
        return (
            "4 is ET in brats2021 (2017-2021 files) and RC in brats2024, and is never guessed: "
            "name the data set's own layout (brats2020, brats2021 or brats2024)"
        )
    fitting = [s.name for s in SCHEMES.values() if s is not scheme and all(v in s.tissues for v in alien)]
    return (
        f"schemes with this value: {', '.join(fitting)}" if fitting else "no known scheme has this value; mend the mask"
    )


_PRE = {"ET": ("ET",), "TC": ("NETC", "ET"), "WT": ("NETC", "SNFH", "ET"), "NETC": ("NETC",), "SNFH": ("SNFH",)}

SCHEMES: Mapping[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        LabelScheme("brats2021", {1: "NETC", 2: "SNFH", 4: "ET"}, _PRE),
        LabelScheme("brats2023", {1: "NETC", 2: "SNFH", 3: "ET"}, _PRE),
        LabelScheme("brats2024", {1: "NETC", 2: "SNFH", 3: "ET", 4: "RC"}, {**_PRE, "RC": ("RC",)}),
        LabelScheme(
            "brats2024-ped",
            {1: "ET", 2: "NETC", 3: "CC", 4: "SNFH"},
            {
                "ET": ("ET",),
                "TC": ("ET", "NETC", "CC"),
                "WT": ("ET", "NETC", "CC", "SNFH"),
                "NETC": ("NETC",),
                "CC": ("CC",),
                "SNFH": ("SNFH",),
            },
        ),
        LabelScheme("msd", {1: "SNFH", 2: "NETC", 3: "ET"}, _PRE),
        LabelScheme("lgg", {255: "tumour"}, {"tumour": ("tumour",)}),
    )
}


def get_scheme(name: str) -> LabelScheme:
    """A scheme by name.

    Raises:
        SettingError: no such scheme, with the nearest name.
    """
    if name not in SCHEMES:
        raise unknown("label scheme", name, SCHEMES)
    return SCHEMES[name]
