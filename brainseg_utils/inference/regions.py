"""From probabilities to labels: regions nested, components that earn their place, very small ET.

Networks say ET, TC, WT (and RC) with overlapping channels, or tissues that exclude each other. Both become region
probabilities, and the labels are those of the case's own scheme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brainseg_utils.datasets.labels import LabelScheme
from brainseg_utils.errors import SettingError, unknown
from brainseg_utils.inference.hull import inside_rim

REGIONS: Mapping[str, tuple[str, ...]] = {
    "ET": ("ET",),
    "TC": ("NETC", "ET"),
    "WT": ("NETC", "SNFH", "ET"),
    "RC": ("RC",),
}
NESTED = ("WT", "TC", "ET")  # each inside the one before
HALF = 0.5


@dataclass(frozen=True)
class Rules:
    """What turns probabilities into labels; weights carry their own. A region that is not named keeps the default.

    Attributes:
        thresholds: a voxel with this probability or more belongs to the region; default .5, and the likeliest tissue
            where tissues exclude each other and no threshold is given.
        shares: components with less than this share of the region's largest one are dropped; default 0.
        smallest: components of less than this volume in mm^3 are dropped; default 0.
        small_et: mm^3; ET of less than this in the whole case becomes NETC.
        rim: a tumour with this share of ET in its core or more has a rim, and its core lies inside: what of it is
            further than `reach` from the hull of its ET becomes SNFH. 0: there is no such rule.
        reach: mm.
        without_rim: thresholds for tumours with less ET than that, whose core is most of them, in place of
            `thresholds`.
        flips: axes (0 to 2: X to Z) whose mirror images are predicted too, in all combinations, and averaged.
        spacings: voxel sizes (mm) at which each network looks at a scan, the answers on the region averaged; those much
            finer than the scan's own are left out. A region that is not named: the size that the recipe names.
    """

    thresholds: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    smallest: Mapping[str, float] = field(default_factory=dict)
    small_et: float = 0.0
    rim: float = 0.0
    reach: float = 0.0
    without_rim: Mapping[str, float] = field(default_factory=dict)
    flips: tuple[int, ...] = ()
    spacings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("thresholds", "shares", "smallest", "without_rim", "spacings"):
            for region in getattr(self, name):
                if region not in REGIONS:
                    raise unknown("region", region, REGIONS, where=name)
        if not set(self.flips) <= {0, 1, 2}:
            raise SettingError(f"flips along {list(self.flips)}", expected="axes 0, 1 and 2")
        for region, sizes in self.spacings.items():
            if not sizes or min(sizes) <= 0:
                raise SettingError(f"voxels of {list(sizes)} mm", where=f"spacings, {region}", expected="sizes above 0")


def rules(table: Mapping[str, Any], where: str = "") -> Rules:
    """Rules from a table of settings.

    Raises:
        SettingError: a setting or region that does not exist.

    Example:
        >>> rules({"thresholds": {"WT": 0.6}, "flips": [0]}).flips
        (0,)
    """
    known = [f.name for f in fields(Rules)]
    for name in table:
        if name not in known:
            raise unknown("setting", name, known, where=where)
    spacings = {region: tuple(sizes) for region, sizes in table.get("spacings", {}).items()}
    return Rules(**{**table, "flips": tuple(table.get("flips", ())), "spacings": spacings})


def region_names(classes: Sequence[str], exclusive: bool) -> tuple[str, ...]:
    """The regions that a network with these classes predicts.

    Raises:
        SettingError: neither regions nor tissues of which regions are made.

    Example:
        >>> region_names(("NETC", "SNFH", "ET", "RC"), exclusive=True)
        ('ET', 'TC', 'WT', 'RC')
    """
    tissues = {tissue for region in REGIONS.values() for tissue in region}
    if exclusive and set(classes) <= tissues:
        return tuple(region for region, parts in REGIONS.items() if set(parts) <= set(classes))
    if not exclusive and set(classes) <= set(REGIONS):
        return tuple(region for region in REGIONS if region in classes)
    raise SettingError(
        f"a network with classes {', '.join(classes)}",
        expected=f"regions {', '.join(REGIONS)}, or tissues {', '.join(sorted(tissues))} that exclude each other",
    )


def to_regions(probability: Tensor, classes: Sequence[str], exclusive: bool) -> Tensor:
    """Probabilities of a network's classes to those of `region_names`.

    Args:
        probability: (K, X, Y, Z); where classes are exclusive the background's channel is left out.
        classes: names of the K channels.
        exclusive: tissues that exclude each other, whose probabilities add up to a region's.

    Returns:
        (R, X, Y, Z).
    """
    place, names = {name: n for n, name in enumerate(classes)}, region_names(classes, exclusive)
    if not exclusive:
        return probability[[place[name] for name in names]]
    return torch.stack([probability[[place[tissue] for tissue in REGIONS[name]]].sum(dim=0) for name in names])


def label(
    probability: Mapping[str, np.ndarray],
    scheme: LabelScheme,
    spacing: Sequence[float],
    how: Rules | None = None,
    exclusive: bool = False,
) -> np.ndarray:
    """Labels from region probabilities.

    Args:
        probability: region to (X, Y, Z), 0 to 1.
        scheme: of the case; a region that it has not, such as RC before treatment, is left out.
        spacing: voxel size in mm.
        how: thresholds and sizes.
        exclusive: the network's tissues exclude each other.

    Returns:
        uint8 (X, Y, Z) in the scheme's integers. ET lies inside TC and TC inside WT: a voxel that is no tumour is no
        core either. RC is where it is likelier than WT.
    """
    how = how or Rules()
    there = {name: p for name, p in probability.items() if name in scheme.regions}
    first = _likeliest(there) if exclusive and not how.thresholds else _thresholded(there, how.thresholds)
    masks = _nested(first, spacing, how)
    if how.rim and {"ET", "TC"} <= set(masks):
        if masks["ET"].sum() >= how.rim * max(masks["TC"].sum(), 1):
            masks["TC"] = inside_rim(masks["TC"], masks["ET"], spacing, how.reach)
        elif how.without_rim:
            masks = _nested(_thresholded(there, {**how.thresholds, **how.without_rim}), spacing, how)
    return scheme.from_regions(masks)


def _nested(masks: dict[str, np.ndarray], spacing: Sequence[float], how: Rules) -> dict[str, np.ndarray]:
    """Each region inside the one around it, without components that are too small, and without ET that is."""
    volume = float(np.prod(spacing))
    outer: np.ndarray | None = None
    for name in (*NESTED, "RC"):
        if name not in masks:
            continue
        if name in NESTED and outer is not None:
            masks[name] &= outer
        masks[name] = keep_large(masks[name], how.shares.get(name, 0.0), how.smallest.get(name, 0.0) / volume)
        outer = masks[name] if name in NESTED else outer
    if "ET" in masks and masks["ET"].sum() * volume < how.small_et:
        masks["ET"][:] = False
    return masks


def _thresholded(probability: Mapping[str, np.ndarray], thresholds: Mapping[str, float]) -> dict[str, np.ndarray]:
    masks = {name: p >= thresholds.get(name, HALF) for name, p in probability.items()}
    if "RC" in masks and "WT" in masks:
        masks["RC"] &= probability["RC"] >= probability["WT"]
    return masks


def _likeliest(probability: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The region masks of the likeliest tissue, whose probabilities are the differences of nested regions."""
    nested = [name for name in reversed(NESTED) if name in probability]
    shells = {name: p for name, p in probability.items() if name not in NESTED}
    inside: np.ndarray | float = 0.0
    for name in nested:
        shells[name] = probability[name] - inside
        inside = probability[name]
    background = 1 - sum(shells.values())
    best = np.argmax(np.stack([background, *shells.values()]), axis=0)
    masks = {name: best == n for n, name in enumerate(shells, 1)}
    for inner, outer in pairwise(nested):
        masks[outer] |= masks[inner]
    return masks


def keep_large(mask: np.ndarray, share: float, voxels: float) -> np.ndarray:
    """The components (26 neighbours) of `voxels` or more, and of `share` of the largest one or more.

    Example:
        >>> row = np.array([1, 1, 1, 1, 0, 1, 0, 1, 1], bool).reshape(9, 1, 1)
        >>> keep_large(row, share=0.4, voxels=0).astype(int).ravel().tolist()
        [1, 1, 1, 1, 0, 0, 0, 1, 1]
    """
    if share <= 0 and voxels <= 1:
        return mask
    import cc3d

    components = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)
    counts = np.bincount(components.ravel())
    counts[0] = 0
    kept = (counts >= share * counts.max()) & (counts >= voxels)
    kept[0] = False
    return kept[components]
