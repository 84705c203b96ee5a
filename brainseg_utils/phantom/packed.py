"""A geometry without its air: the layers of the head's own voxels alone, RAS, ready to be rendered again and again.

Four tenths of a head's box are brain. A packed case keeps one row of voxels instead of a box, and beside it which of
them the lesion or a small structure touches, so that `redraw` computes nothing where nothing is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from brainseg_utils.phantom.fields import Axes
from brainseg_utils.phantom.geometry import FIELD_STEP, FIELDS, FRACTIONS, SHADING, Geometry

RIM = 2
"""Voxels around the brain that are kept for what blur and slice profile bring in."""
REACH = -5.5
"""Distance (mm) outside a lesion's border at which the softest border has faded to a hundredth."""
SMALL = ("choroid", "dura", "vessel")
"""Structures laid over everything else, in this order."""


@dataclass(frozen=True)
class Packed:
    """One case as rows of voxels.

    Attributes:
        shape: of the head's box, turned to RAS as every case is when it is read.
        axes: of the box, head mm, ascending.
        kept: flat index into the box of the brain and a rim around it (N,).
        brain: index into `kept` of the brain alone (M,).
        layers: name to its values at `kept`, uint8 or int8 as in `Geometry.layers` (N,).
        lesion: index into `kept` of what the lesion touches (L,); empty for a healthy subject.
        small: index into `kept` of vessels, dura and choroid plexus.
        matter: index into `kept` of white-matter hyperintensities.
        label: uint8 (X, Y, Z) of the box, 1 NETC, 2 SNFH, 3 ET, 4 RC.
        points: tumour voxels (K, 3) of each tissue that is present, to centre patches on.
        tumour: boolean (M,), which voxels of the brain are labelled.
        spacing: mm.
        facts: of the geometry.
    """

    shape: tuple[int, int, int]
    axes: Axes
    kept: np.ndarray
    brain: np.ndarray
    layers: Mapping[str, np.ndarray]
    lesion: np.ndarray
    small: np.ndarray
    matter: np.ndarray
    label: np.ndarray
    points: tuple[np.ndarray, ...]
    tumour: np.ndarray
    spacing: int
    facts: Mapping[str, Any]

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        arrays = [*self.layers.values(), self.kept, self.brain, self.lesion, self.small, self.matter, self.label]
        return sum(array.nbytes for array in [*arrays, *self.points, self.tumour])

    def lesion_box(self) -> tuple[slice, slice, slice]:
        """The box around what the lesion touches, as slices of the head's box."""
        places = np.unravel_index(self.kept[self.lesion], self.shape)
        a, b, c = (slice(int(p.min()), int(p.max()) + 1) for p in places)
        return a, b, c


def pack(case: Geometry) -> Packed:
    """Packs a geometry.

    Example:
        >>> from brainseg_utils.phantom.geometry import geometry
        >>> case = geometry(0, 3, kind="ring")
        >>> packed = pack(case)
        >>> len(packed.brain) == int(case.mask.sum()), len(packed.kept) < case.mask.size / 1.5
        (True, True)
    """
    turn = tuple(slice(None, None, -1 if axis[0] > axis[-1] else 1) for axis in case.grid.axes)
    mask, label = np.ascontiguousarray(case.mask[turn]), np.ascontiguousarray(case.label[turn])
    around = ndimage.binary_dilation(mask, iterations=RIM)
    kept = np.flatnonzero(around).astype(np.int32)
    layers = {
        name: np.ascontiguousarray(case.layers[name][turn]).reshape(-1)[kept]
        for name in (*FRACTIONS, *FIELDS, SHADING)
        if name in case.layers
    }
    touched = np.zeros(len(kept), bool)
    for name in FIELDS:
        if name in layers:
            touched |= layers[name] > REACH / FIELD_STEP
    small = np.zeros(len(kept), bool)
    for name in SMALL:
        small |= layers[name] > 0
    brain = np.flatnonzero(mask.reshape(-1)[kept]).astype(np.int32)
    points = tuple(np.argwhere(label == n).astype(np.int16) for n in np.unique(label) if n)
    return Packed(
        shape=tuple(mask.shape),  # type: ignore[arg-type]
        axes=tuple(axis[side] for axis, side in zip(case.grid.axes, turn, strict=True)),  # type: ignore[arg-type]
        kept=kept,
        brain=brain,
        layers=layers,
        lesion=np.flatnonzero(touched).astype(np.int32),
        small=np.flatnonzero(small).astype(np.int32),
        matter=np.flatnonzero(layers["wmh"]).astype(np.int32),
        label=label,
        points=points,
        tumour=label.reshape(-1)[kept[brain]] > 0,
        spacing=case.spacing,
        facts=case.facts,
    )
