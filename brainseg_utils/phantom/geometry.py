"""One case without its contrast: where every tissue lies, as small integer layers.

Making a geometry takes a second or two of CPU; rendering one (`scanner.render`) a fifth of a second at 2 mm. So a
geometry is made once, kept, and rendered with fresh contrast whenever the case is drawn.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_utils.errors import DataError, SettingError, unknown
from brainseg_utils.files import atomic
from brainseg_utils.phantom import anatomy, grids, template
from brainseg_utils.phantom.fields import Array, Axes
from brainseg_utils.phantom.grids import Grid
from brainseg_utils.phantom.parameters import Parameters, default
from brainseg_utils.phantom.plan import MM3, Plan, draw_kind, draw_plan
from brainseg_utils.phantom.settings import Frame
from brainseg_utils.phantom.structures import structures
from brainseg_utils.phantom.threads import single_threaded
from brainseg_utils.phantom.tumour import ET, NETC, RC, SNFH, grow, shape

FRACTIONS = ("gm", "wm", "ventricle", "shell", "vessel", "dura", "choroid", "wmh", "toward", "blood")
"""Layers that hold fractions 0 to 1 (uint8, `FULL` a unit)."""
FIELDS = ("core", "oedema", "enhancing", "fluid")
"""Layers that hold signed pseudo-distances, positive inside (int8, `FIELD_STEP` mm)."""
FULL = 255.0
FIELD_STEP = 0.05
SHADING = "shading"
"""The template's own T1 residual (int8, `template.SHADING_STEP`)."""
NOT_FACTS = ("seeds", "pushes")
"""What of a plan is of no use to a reader of the record."""
BOX_MARGIN = 1
"""Blocks of 4 mm kept around the head."""


@dataclass(frozen=True)
class Geometry:
    """Where everything lies in one case.

    Attributes:
        layers: uint8 or int8 arrays (X, Y, Z) over the head's box: `FRACTIONS`, `FIELDS` (absent for a healthy
            subject) and `SHADING`. Fluid is what grey and white matter leave.
        mask: boolean (X, Y, Z), the brain as skull stripping left it.
        label: uint8 (X, Y, Z), 1 NETC, 2 SNFH, 3 ET, 4 RC.
        grid: the box's own grid (head coordinates, affine, spacing).
        box: the box as slices of the whole grid.
        whole: the whole grid's shape.
        affine: (4, 4) of the whole grid.
        facts: what was drawn and what came out (volumes in cm3, lengths in mm).
    """

    layers: Mapping[str, np.ndarray]
    mask: np.ndarray
    label: np.ndarray
    grid: Grid
    box: tuple[slice, slice, slice]
    whole: tuple[int, int, int]
    affine: np.ndarray
    facts: Mapping[str, Any]

    @property
    def spacing(self) -> int:
        """Voxel size (mm)."""
        return self.grid.spacing

    def fraction(self, name: str) -> Array:
        """A layer of `FRACTIONS` as float32, 0 to 1."""
        return self.layers[name].astype(np.float32) / np.float32(FULL)

    def field(self, name: str) -> Array:
        """A layer of `FIELDS` in mm, float32."""
        return self.layers[name].astype(np.float32) * np.float32(FIELD_STEP)

    def paste(self, values: np.ndarray, background: float = 0) -> np.ndarray:
        """An array over the box, (..., X, Y, Z), in the whole grid."""
        full = np.full(values.shape[:-3] + self.whole, background, values.dtype)
        full[(..., *self.box)] = values
        return full

    def crop(self, box: tuple[slice, slice, slice]) -> Geometry:
        """A part of the box, to be rendered alone (slices with a start and a stop, in voxels of the box)."""
        layers = {name: layer[box] for name, layer in self.layers.items()}
        a, b, c = (slice(o.start + s.start, o.start + s.stop) for o, s in zip(self.box, box, strict=True))
        return Geometry(
            layers, self.mask[box], self.label[box], self.grid.crop(box), (a, b, c), self.whole, self.affine, self.facts
        )

    def save(self, path: str | Path) -> Path:
        """Writes the geometry to one compressed `.npz` (atomic; about 1.5 MB at 2 mm)."""
        record = {
            "facts": dict(self.facts),
            "spacing": self.spacing,
            "box": [[s.start, s.stop] for s in self.box],
            "whole": list(self.whole),
        }
        arrays: dict[str, Any] = {
            "_record": np.array(json.dumps(record)),
            "_affine": self.affine,
            "_grid_affine": self.grid.affine,
            **{f"_axis{i}": axis for i, axis in enumerate(self.grid.axes)},
            "_mask": np.packbits(self.mask),
            "_label": self.label,
            **self.layers,
        }
        with atomic(path) as temporary:
            np.savez_compressed(temporary, **arrays)
        return Path(path)


def load(path: str | Path) -> Geometry:
    """Reads what `Geometry.save` wrote.

    Raises:
        DataError: absent, damaged or another kind of file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            record = json.loads(str(arrays["_record"]))
            a, b, c = (slice(*pair) for pair in record["box"])
            label = arrays["_label"]
            axes = (arrays["_axis0"], arrays["_axis1"], arrays["_axis2"])
            mask = np.unpackbits(arrays["_mask"], count=label.size).reshape(label.shape).astype(bool)
            layers = {name: arrays[name] for name in arrays.files if not name.startswith("_")}
            own = Grid(label.shape, arrays["_grid_affine"], axes, record["spacing"])
            return Geometry(
                layers, mask, label, own, (a, b, c), tuple(record["whole"]), arrays["_affine"], record["facts"]
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"no geometry ({error})", where=path, expected="a file that Geometry.save wrote", remedy="make it again"
        ) from None


@single_threaded
def geometry(
    seed: int,
    index: int,
    *,
    kind: str | None = None,
    treatment: str = "pre",
    spacing: int = 2,
    frame: str = "sri24",
    difficulty: str = "normal",
    healthy: float | None = None,
    visit: int = 0,
    weights: Mapping[str, float] | None = None,
    parameters: Parameters | None = None,
) -> Geometry:
    """Makes the geometry of one case; the same arguments give the same arrays on every run.

    Args:
        seed: of the cohort.
        index: of the case; subject and lesion are drawn from (seed, index) alone.
        kind: `ring`, `solid`, `lgg`, `cavity`, `cavity_et`, `recur` or `healthy`; default: drawn.
        treatment: `pre` or `post`, which kinds are drawn.
        spacing: 1 or 2 (mm); both give the same case.
        frame: `sri24` (240x240x155, LPS) or `mni` (182x218x182, LAS).
        difficulty: `easy`, `normal` or `hard`.
        healthy: probability of a subject without a lesion; default by treatment.
        visit: 0 for the first scan, 1 and more for later scans of the same head and lesion.
        weights: of the kinds; default those of the treatment.
        parameters: all settings; default the package's own.

    Raises:
        SettingError: an unknown kind, treatment, frame or difficulty, or another spacing.

    Example:
        >>> case = geometry(0, 3, kind="ring")
        >>> case.label.dtype, case.spacing, sorted(set(case.label.ravel().tolist()))
        (dtype('uint8'), 2, [0, 1, 2, 3])
    """
    p = parameters or default()
    if spacing not in (1, 2):
        raise SettingError(
            f"spacing {spacing!r}", where="phantom", expected="1 or 2 (mm)", remedy="choose one of these"
        )
    if frame not in p.frame:
        raise unknown("frame", frame, p.frame)
    if treatment not in ("pre", "post"):
        raise unknown("treatment", treatment, ("pre", "post"))
    factors = p.setting(difficulty)
    if kind is None:
        mix = weights or (p.tumour.pre if treatment == "pre" else p.tumour.post)
        share = p.tumour.healthy[treatment] if healthy is None else healthy
        kind = draw_kind(p, dict(mix), share, seed, index)
    head = Head(p, p.frame[frame], seed, index)
    plan = draw_plan(p, head.coarse, head.axes(grids.BLOCK), seed, index, kind=kind, volume=factors.volume, visit=visit)
    return head.build(plan, spacing, {"seed": seed, "index": index, "visit": visit, "difficulty": difficulty})


class Head:
    """A subject in its box: grids at 4, 2 and 1 mm that share their borders."""

    def __init__(self, parameters: Parameters, frame: Frame, seed: int, index: int) -> None:
        self.parameters, self.frame, self.seed, self.index = parameters, frame, seed, index
        self.template = template.load()
        self.subject = anatomy.draw_subject(parameters, frame, seed, index)
        whole = self._mirrored(grids.grid(frame, grids.BLOCK).axes)
        rough = anatomy.tissues(self.subject, self.template, parameters, whole)
        self.blocks = _bounding_box(rough.mask)
        self.coarse = _cut(rough, self.blocks)

    def axes(self, spacing: int) -> Axes:
        """The box's axes (head mm) at 1, 2 or 4 mm; mirrored for a mirrored head, so that everything is."""
        whole = grids.grid(self.frame, spacing)
        return self._mirrored(whole.crop(grids.rescale_box(self.blocks, whole)).axes)

    def _mirrored(self, axes: Axes) -> Axes:
        return (axes[0] * np.float32(self.subject.flip), axes[1], axes[2])

    def tissues(self, spacing: int, plan: Plan) -> anatomy.Tissues:
        """The head's tissues under a lesion's mass effect."""
        axes = self.axes(spacing)
        return anatomy.tissues(self.subject, self.template, self.parameters, axes, grids.flow_axes(axes), plan.pushes)

    def build(self, plan: Plan, spacing: int, facts: dict[str, Any]) -> Geometry:
        """Grows the plan's lesion and packs all layers."""
        p, axes = self.parameters, self.axes(spacing)
        at_two = self.tissues(2, plan)
        found = at_two if spacing == 2 else self.tissues(spacing, plan)
        layers = {
            **{name: getattr(found, name) for name in ("gm", "wm", "ventricle", "shell")},
            **structures(self.subject, p, found, axes, self.seed, self.index),
        }
        label = np.zeros(found.mask.shape, np.uint8)
        lesion = None
        if plan.foci:
            source = self.axes(2)
            grown = grow(plan, p, at_two, source, self.seed, self.index)
            lesion = shape(plan, p, grown, source, found, axes, self.seed, self.index)
            label = lesion.label
            layers |= {"toward": lesion.toward, "blood": lesion.blood}
        packed = {name: _fraction(layer) for name, layer in layers.items()}
        packed[SHADING] = np.round(found.shading / template.SHADING_STEP).astype(np.int8)
        if lesion is not None:
            packed |= {name: _field(getattr(lesion, name)) for name in FIELDS}
        whole = grids.grid(self.frame, spacing)
        box = grids.rescale_box(self.blocks, whole)
        return Geometry(
            layers=packed,
            mask=found.mask,
            label=label,
            grid=whole.crop(box),
            box=box,
            whole=whole.shape,
            affine=whole.affine,
            facts={**facts, **_facts(plan, self.subject, label, found.mask, spacing)},
        )


def _facts(plan: Plan, subject: anatomy.Subject, label: np.ndarray, mask: np.ndarray, spacing: int) -> dict[str, Any]:
    """What was drawn and what came out, as plain JSON values."""
    unit = spacing**3 / MM3
    counts = np.bincount(label.ravel(), minlength=5)
    return {
        **{k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(plan).items() if k not in NOT_FACTS},
        "mass_effect": [round(push.strength, 4) for push in plan.pushes],
        "ventricle": round(subject.ventricle, 3),
        "age": round(subject.age, 3),
        "flip": subject.flip,
        "brain_volume": round(float(mask.sum() * unit), 2),
        "volumes": {
            name: round(float(counts[value] * unit), 3)
            for name, value in (("NETC", NETC), ("SNFH", SNFH), ("ET", ET), ("RC", RC))
        },
    }


def _bounding_box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """Slices around a mask with a margin, cut at the array's border."""
    slices = []
    for axis, n in enumerate(mask.shape):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        slices.append(slice(max(int(hit[0]) - BOX_MARGIN, 0), min(int(hit[-1]) + 1 + BOX_MARGIN, n)))
    return slices[0], slices[1], slices[2]


def _cut(found: anatomy.Tissues, box: tuple[slice, slice, slice]) -> anatomy.Tissues:
    return anatomy.Tissues(**{name: values[(..., *box)] for name, values in vars(found).items()})


def _fraction(values: Array) -> np.ndarray:
    return np.clip(np.round(values * np.float32(FULL)), 0, 255).astype(np.uint8)


def _field(values: Array) -> np.ndarray:
    return np.clip(np.round(values / np.float32(FIELD_STEP)), -127, 127).astype(np.int8)
