"""Slices of a phantom as the Kaggle LGG set stores them: 2D, 8 bits, three channels, with skull and scalp.

The three channels are T1 before contrast, FLAIR and T1 after contrast; the mask is everything abnormal on FLAIR. A
head is drawn around the brain (fluid, dark skull with diploe, bright scalp, face and orbits), the volume is cut into
thick slices of 256 x 256 pixels, and in some patients a missing sequence is filled with FLAIR, as in the data set.

Source of the layout: Buda, Saha and Mazurowski, Comput. Biol. Med. 109 (2019) 218-225.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from brainseg_utils.datasets.export import write_slices
from brainseg_utils.phantom.fields import Array, Axes, separable
from brainseg_utils.phantom.geometry import Geometry
from brainseg_utils.phantom.head import add_head, head_axes
from brainseg_utils.phantom.parameters import Parameters
from brainseg_utils.phantom.settings import LggSettings
from brainseg_utils.phantom.streams import Step, stream, uniform
from brainseg_utils.phantom.threads import single_threaded

SIZE = 256
"""Pixels of a slice, rows and columns."""
CHANNELS = {"t1n": 0, "t2f": 3, "t1c": 1}
"""Channel names in the files' order, and their place in a rendering."""
FIRST_DAY, DAYS = datetime.date(1995, 1, 1), 5000


def scan_date(seed: int, index: int) -> str:
    """A date for a patient's folder name, as the data set has one."""
    day = int(stream(seed, index, Step.SLICES, 1).integers(DAYS))
    return (FIRST_DAY + datetime.timedelta(days=day)).strftime("%Y%m%d")


def write(
    out: Path, case_id: str, case: Geometry, images: np.ndarray, seed: int, parameters: Parameters
) -> tuple[list[Path], dict[str, Any]]:
    """Writes one patient's slices; returns the files and what was drawn."""
    pixels, mask, facts = slices(case, images, seed, parameters)
    folder = write_slices(out, case_id, dict(zip(CHANNELS, pixels, strict=True)), mask)
    kept = {f"{case_id}_{k + 1}{end}" for k in range(mask.shape[2]) for end in (".tif", "_mask.tif")}
    return sorted(folder / name for name in kept), facts


@single_threaded
def slices(
    case: Geometry, images: np.ndarray, seed: int, parameters: Parameters
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Cuts a rendered case into slices.

    Args:
        case: the geometry.
        images: int16 (4, X, Y, Z), its rendering.
        seed: of the cohort.
        parameters: all settings.

    Returns:
        uint8 (3, 256, 256, K) and boolean (256, 256, K) in RAS order (K from inferior to superior), and what was
        drawn.
    """
    s, index = parameters.lgg, case.facts["index"]
    rng, head_rng = stream(seed, index, Step.SLICES), stream(seed, index, Step.HEAD)
    step = float(case.spacing)
    axes = head_axes(step)
    x, y, z = (np.sort(axis) for axis in case.grid.axes)
    fine = (x, y, z)
    order = tuple(slice(None, None, -1 if axis[0] > axis[-1] else 1) for axis in case.grid.axes)
    lesion = _onto((case.label > 0).astype(np.float32)[order], fine, axes)
    lesion = ndimage.gaussian_filter(lesion, s.outline_sd / step)
    brain = _onto(case.mask.astype(np.float32)[order], fine, axes)
    volumes = np.stack([_onto(images[c].astype(np.float32)[order], fine, axes) for c in CHANNELS.values()])
    volumes = add_head(volumes, brain, axes, s, head_rng)
    widths = {float(k): v for k, v in s.thickness.items()}
    thickness = float(rng.choice(list(widths), p=np.array(list(widths.values())) / sum(widths.values())))
    pixel = uniform(rng, s.field_of_view) / SIZE
    offset = rng.normal(0, s.offset_sd, 2) * pixel
    bases = _slice_bases(axes, brain > 0.5, thickness, pixel, offset, s.profile, rng.random())
    cut = np.stack([separable(volume, bases) for volume in volumes])
    mask = separable(lesion, bases) > 0.5
    missing = _missing(rng.random(), s)
    if missing:
        cut[2] = cut[1]
    if missing == "both":
        cut[0] = cut[1]
    facts = {
        "slice_thickness": thickness,
        "slices": int(mask.shape[2]),
        "tumour_slices": int(mask.any(axis=(0, 1)).sum()),
        "missing": missing,
    }
    return _eight_bits(cut, s, rng), mask, facts


def _missing(chance: float, s: LggSettings) -> str:
    """Which sequences are filled with FLAIR: "", "post" or "both" (before and after contrast)."""
    if chance < s.missing_both:
        return "both"
    return "post" if chance < s.missing_both + s.missing_post else ""


def _onto(values: Array, source: Axes, target: Axes) -> Array:
    """Linear interpolation onto the head's grid, 0 beyond the source's border."""
    bases = []
    for s, t in zip(source, target, strict=True):
        weights = 1 - np.abs(t[:, None] - s[None]) / float(s[1] - s[0])
        bases.append(np.clip(weights, 0, None).astype(np.float32))
    return separable(np.ascontiguousarray(values), tuple(bases))


def _slice_bases(
    axes: Axes,
    brain: np.ndarray,
    thickness: float,
    pixel: float,
    offset: np.ndarray,
    profile: float,
    phase: float,
) -> tuple[Array, Array, Array]:
    """Matrices that cut slices: linear in the plane, a Gaussian profile across it."""
    bases = []
    for axis, shift in zip(axes[:2], offset, strict=True):
        centre = float(np.mean(axis[[0, -1]]))
        pixels = centre + shift + (np.arange(SIZE) - (SIZE - 1) / 2) * pixel
        where = np.abs(pixels[:, None] - axis[None]) / float(axis[1] - axis[0])
        bases.append(np.clip(1 - where, 0, None).astype(np.float32))
    filled = np.flatnonzero(brain.any(axis=(0, 1)))
    low, high = axes[2][filled[0]], axes[2][filled[-1]]
    centres = np.arange(low + 4 + phase * thickness, high + 8, thickness)
    across = np.exp(-(((axes[2][None] - centres[:, None]) / (profile * thickness)) ** 2) / 2)
    across /= np.maximum(across.sum(axis=1, keepdims=True), 1e-6)
    return bases[0], bases[1], across.astype(np.float32)


def _eight_bits(cut: np.ndarray, s: LggSettings, rng: np.random.Generator) -> np.ndarray:
    """Each channel scaled so that its foreground has a usual mean, with background noise."""
    pixels = np.empty(cut.shape, np.uint8)
    for c, values in enumerate(cut):
        foreground = values > 0.12 * values.max()
        mean = float(values[foreground].mean()) if foreground.any() else 1.0
        gain = min(s.foreground_mean / mean, s.ceiling / max(float(np.percentile(values, 99.9)), 1e-6))
        noise = np.abs(rng.normal(0, s.noise, values.shape))
        pixels[c] = np.clip(np.round(values * gain + noise), 0, 255)
    return pixels
