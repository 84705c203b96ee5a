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
from brainseg_utils.phantom.fields import Array, Axes, mixture, random_field, separable
from brainseg_utils.phantom.geometry import Geometry
from brainseg_utils.phantom.parameters import Parameters
from brainseg_utils.phantom.settings import LggSettings
from brainseg_utils.phantom.streams import Step, normal, stream, uniform
from brainseg_utils.phantom.template import closing, signed_distance

SIZE = 256
"""Pixels of a slice, rows and columns."""
CHANNELS = {"t1n": 0, "t2f": 3, "t1c": 1}
"""Channel names in the files' order, and their place in a rendering."""
HEAD_STEP = 2.0
"""Voxel size (mm) of the grid on which the head is drawn."""
HEAD_BOX = ((-104.0, 104.0), (-118.0, 128.0), (-74.0, 92.0))
"""Head coordinates (mm) that the slices are cut from."""
FIRST_DAY, DAYS = datetime.date(1995, 1, 1), 5000
WHITE_PERCENTILE = 70
"""Percentile of the brain's intensities taken as white matter when the head is scaled to it."""


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
    axes = _head_axes()
    fine = tuple(np.sort(axis) for axis in case.grid.axes)
    order = tuple(slice(None, None, -1 if axis[0] > axis[-1] else 1) for axis in case.grid.axes)
    lesion = _onto((case.label > 0).astype(np.float32)[order], fine, axes)
    brain = _onto(case.mask.astype(np.float32)[order], fine, axes)
    volumes = np.stack([_onto(images[c].astype(np.float32)[order], fine, axes) for c in CHANNELS.values()])
    volumes = _add_head(volumes, brain, axes, s, head_rng)
    widths = {float(k): v for k, v in s.thickness.items()}
    thickness = float(rng.choice(list(widths), p=np.array(list(widths.values())) / sum(widths.values())))
    pixel = uniform(rng, s.field_of_view) / SIZE
    offset = rng.normal(0, s.offset_sd, 2) * pixel
    centre = (0.0, 0.0)
    bases = _slice_bases(axes, brain > 0.5, thickness, pixel, offset + centre, s.profile, rng.random())
    cut = np.stack([separable(volume, bases) for volume in volumes])
    mask = separable(lesion, bases) > 0.5
    missing = rng.random()
    if missing < s.missing_post + s.missing_both:
        cut[2] = cut[1]
    if missing < s.missing_both:
        cut[0] = cut[1]
    facts = {"slice_thickness": thickness, "slices": int(mask.shape[2]), "tumour_slices": int(mask.any((0, 1)).sum())}
    facts["missing"] = (
        "both" if missing < s.missing_both else "post" if missing < s.missing_post + s.missing_both else ""
    )
    return _eight_bits(cut, s, rng), mask, facts


def _head_axes() -> Axes:
    """Ascending axes (head mm), RAS, of the grid on which the head is drawn."""
    x, y, z = (np.arange(low, high + HEAD_STEP / 2, HEAD_STEP, dtype=np.float32) for low, high in HEAD_BOX)
    return x, y, z


def _onto(values: Array, source: Axes, target: Axes) -> Array:
    """Linear interpolation onto the head's grid, 0 beyond the source's border."""
    bases = []
    for s, t in zip(source, target, strict=True):
        step = float(s[1] - s[0])
        where = (t[:, None] - s[None]) / step
        width = max(1.0, HEAD_STEP / step)  # averages where the source is finer
        weights = np.clip(1 - np.abs(where) / width, 0, None)
        inside = (t >= s[0] - step) & (t <= s[-1] + step)
        total = np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
        bases.append((weights / np.maximum(total, 0.5) * inside[:, None]).astype(np.float32))
    return separable(np.ascontiguousarray(values), tuple(bases))


def _add_head(volumes: np.ndarray, brain: Array, axes: Axes, s: LggSettings, rng: np.random.Generator) -> np.ndarray:
    """Fluid, skull, scalp, face and orbits around the brain, as bright as this scan's white matter makes them."""
    inside = brain > 0.5
    closed = ndimage.binary_fill_holes(closing(inside, 8 / HEAD_STEP))
    distance = -signed_distance(closed, HEAD_STEP)
    x, y, z = (axis.reshape([-1 if a == n else 1 for n in range(3)]) for a, axis in enumerate(axes))
    skull = np.clip(normal(rng, s.skull) + 1.2 * random_field(rng, s.head_knots)(axes), 2.5, None)
    scalp = np.clip(normal(rng, s.scalp) + 1.5 * random_field(rng, s.head_knots)(axes), 2.0, None)
    fluid_gap = np.float32(s.fluid_gap)
    face = np.clip((y - 10) / 20, 0, 1) * np.clip((-8 - z) / 15, 0, 1)  # antero-inferior
    scalp = scalp + 30 * face
    neck = np.clip((-35 - z) / 12, 0, 1) * (np.abs(x) < 70)
    scalp = scalp + 14 * neck
    outer = fluid_gap + skull + scalp
    diploe = np.clip(1 - np.abs(distance - fluid_gap - skull / 2) / (0.28 * skull), 0, 1)
    patchy = mixture(rng, (12.0, 6.0), (0.8, 0.6), axes)
    orbits = _orbits(axes, rng)
    whites = [float(np.percentile(v[inside], WHITE_PERCENTILE)) for v in volumes]
    result = np.empty_like(volumes)
    for c, (volume, white) in enumerate(zip(volumes, whites, strict=True)):
        fluid = float(np.percentile(volume[inside], 4))
        level_skull, level_scalp = s.skull_level[c] * white, s.scalp_level[c] * white
        bone = level_skull + (s.diploe_level * white - level_skull) * diploe
        soft = level_scalp * (0.62 + 0.22 * np.clip(patchy, -2, 2))
        soft = soft * (1 - 0.55 * np.maximum(face, neck) * (patchy > 0.1))
        head = np.where(distance < fluid_gap, fluid, np.where(distance < fluid_gap + skull, bone, soft))
        head = head + orbits * (0.45 * white - head)
        head = np.where(distance < outer, head, 0)
        head = ndimage.gaussian_filter(head.astype(np.float32), 0.45)
        result[c] = volume + (1 - np.clip(brain, 0, 1)) * head
    return result


def _orbits(axes: Axes, rng: np.random.Generator) -> Array:
    """Fraction of two eyeballs."""
    x, y, z = (axis.reshape([-1 if a == n else 1 for n in range(3)]) for a, axis in enumerate(axes))
    centre_y, centre_z = 76 + rng.normal(0, 2), -40 + rng.normal(0, 2)
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.float32)
    for side in (-1, 1):
        r = np.sqrt((x - side * 31) ** 2 + (y - centre_y) ** 2 + (z - centre_z) ** 2)
        total += np.clip(12 - r + 0.5, 0, 1).astype(np.float32)
    return total


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
        where = np.abs(pixels[:, None] - axis[None]) / HEAD_STEP
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
