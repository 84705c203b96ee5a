"""The head around a brain, for slices that were not skull-stripped: fluid, skull, scalp, face and orbits.

None of it is anatomy to learn from; it is what surrounds a brain on a real slice, in the right place, size and order
of brightness, so that a network and its normalisation meet it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from brainseg_utils.phantom.fields import Array, Axes, mixture, random_field
from brainseg_utils.phantom.settings import LggSettings
from brainseg_utils.phantom.streams import normal
from brainseg_utils.phantom.template import closing, signed_distance

BOX = ((-104.0, 104.0), (-118.0, 128.0), (-74.0, 92.0))
"""Head coordinates (mm) that the slices are cut from."""
FACE = ((0.0, 42.0, -52.0), (58.0, 58.0, 62.0))
"""Centre and half axes (mm) of the ellipsoid of the face."""
NECK = ((0.0, -22.0), (60.0, 66.0), -34.0)
"""Centre and half axes (mm) of the neck's cross-section, and the height below which it counts."""
NOSE = ((0.0, 96.0, -52.0), (12.0, 16.0, 22.0))
EYES = ((31.0, 66.0, -34.0), 12.0)
AIRWAY = ((0.0, 58.0, -50.0), (13.0, 30.0, 22.0))
CLOSE = 10.0
"""Sulci and cisterns narrower than twice this (mm) lie within the head's inner surface."""
SOLID = 0.5
WHITE_PERCENTILE, FLUID_PERCENTILE = 70, 4
"""Percentiles of the brain's intensities taken as white matter and as fluid."""


@dataclass(frozen=True)
class Surroundings:
    """Fractions of what lies around the brain, (X, Y, Z) on the head's grid."""

    fluid: Array
    bone: Array
    diploe: Array
    fat: Array
    muscle: Array
    air: Array
    eyes: Array


def head_axes(step: float) -> Axes:
    """Ascending axes (head mm), RAS, of the grid on which the head is drawn; `step` is its voxel size (mm)."""
    x, y, z = (np.arange(low, high + step / 2, step, dtype=np.float32) for low, high in BOX)
    return x, y, z


def add_head(volumes: np.ndarray, brain: Array, axes: Axes, s: LggSettings, rng: np.random.Generator) -> np.ndarray:
    """Puts a head around a brain.

    Args:
        volumes: (3, X, Y, Z) channels, 0 outside the brain.
        brain: (X, Y, Z) fraction of brain.
        axes: the grid (head mm).
        s: settings of the layout.
        rng: the head's stream.

    Returns:
        (3, X, Y, Z) with a head as bright as this scan's white matter makes it.
    """
    around = _surroundings(brain > SOLID, axes, s, rng)
    texture = 1 + np.float32(0.12) * mixture(rng, (14.0, 6.0), (0.8, 0.6), axes)
    result = np.empty_like(volumes)
    inside = brain > SOLID
    step = float(axes[0][1] - axes[0][0])
    for c, volume in enumerate(volumes):
        white = float(np.percentile(volume[inside], WHITE_PERCENTILE))
        head = around.fluid * (float(np.percentile(volume[inside], FLUID_PERCENTILE)) / white)
        head += around.bone * s.skull_level[c] + around.diploe * s.diploe_level
        head += around.fat * s.scalp_level[c] + around.muscle * s.muscle_level[c]
        head = head * texture + around.air * s.air_level
        head += around.eyes * (s.eye_level[c] - head)
        head = ndimage.gaussian_filter(head.astype(np.float32) * np.float32(white), 0.9 / step)
        result[c] = volume + (1 - np.clip(brain, 0, 1)) * head
    return result


def _surroundings(inside: np.ndarray, axes: Axes, s: LggSettings, rng: np.random.Generator) -> Surroundings:
    step = float(axes[0][1] - axes[0][0])
    closed = ndimage.binary_fill_holes(closing(inside, CLOSE / step))
    distance = ndimage.gaussian_filter(-signed_distance(closed, step), 1.4 / step)
    skull = np.clip(normal(rng, s.skull) + 0.8 * random_field(rng, s.head_knots)(axes), 3.0, None)
    scalp = np.clip(normal(rng, s.scalp) + 1.0 * random_field(rng, s.head_knots)(axes), 3.0, None)
    inner = s.fluid_gap + skull  # outer surface of the skull, as a distance from the brain
    hull = _outer_surface(distance - inner - scalp, axes, rng)
    fluid, within_skull, in_head = _step(s.fluid_gap - distance), _step(inner - distance), _step(-hull)
    bone = within_skull - fluid
    diploe = bone * np.clip(1.2 - np.abs(distance - s.fluid_gap - skull / 2) / (0.22 * skull), 0, 1)
    soft = in_head * (1 - within_skull)
    rind = _step(hull + scalp)  # the layer of fat below the skin
    folds = mixture(rng, (16.0, 7.0), (0.9, 0.5), axes)
    fat = soft * np.maximum(rind, _step(3 * (folds - 0.9)))
    forward = _columns(axes)[1] > 20
    cavity = _step(-_ellipsoid(axes, *AIRWAY)) * _step(4 * (folds + 0.5))
    air = soft * (1 - rind) * np.maximum(cavity, _step(5 * (-folds - 1.3)) * forward)
    skull_base = soft * (1 - rind) * _step(4 * (0.45 - np.abs(folds + 0.6)))
    eyes = sum(_step(EYES[1] - _distance_to(axes, (side * EYES[0][0], *EYES[0][1:]))) for side in (-1, 1))
    orbit_fat = sum(_step(19 - _distance_to(axes, (side * EYES[0][0], *EYES[0][1:]))) for side in (-1, 1))
    fat = np.maximum(fat, soft * np.clip(orbit_fat, 0, 1))
    air = air * (1 - np.clip(orbit_fat, 0, 1))
    fat = fat * (1 - air)
    base = skull_base * (1 - fat) * (1 - air)
    muscle = np.clip(soft - fat - air - base, 0, 1)
    return Surroundings(fluid, bone + base - diploe, diploe, fat, muscle, air, np.clip(eyes, 0, 1) * soft)


def _outer_surface(scalp: Array, axes: Axes, rng: np.random.Generator) -> Array:
    """Signed distance (mm, about) to the skin, negative inside: scalp, face, nose and neck joined smoothly."""
    x, y, z = _columns(axes)
    wobble = 2.0 * random_field(rng, 40.0)(axes)
    face = _ellipsoid(axes, *FACE) + wobble
    (cx, cy), (rx, ry), top = NECK
    neck = (np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2) - 1) * min(rx, ry) + np.maximum(z - top, 0) + wobble
    return _smooth_minimum(_smooth_minimum(_smooth_minimum(scalp, face), neck), _ellipsoid(axes, *NOSE))


def _smooth_minimum(a: Array, b: Array, width: float = 8.0) -> Array:
    """The union of two signed distances with a fillet of `width` mm."""
    blend = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return (b + (a - b) * blend - width * blend * (1 - blend)).astype(np.float32)


def _columns(axes: Axes) -> tuple[Array, Array, Array]:
    x, y, z = axes
    return x[:, None, None], y[None, :, None], z[None, None, :]


def _ellipsoid(axes: Axes, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Array:
    """Distance to an ellipsoid (mm, about), negative inside."""
    squared = sum(((p - c) / r) ** 2 for p, c, r in zip(_columns(axes), centre, radii, strict=True))
    return ((np.sqrt(squared) - 1) * min(radii)).astype(np.float32)


def _distance_to(axes: Axes, centre: tuple[float, float, float]) -> Array:
    return np.sqrt(sum((p - c) ** 2 for p, c in zip(_columns(axes), centre, strict=True))).astype(np.float32)


def _step(millimetres: Array) -> Array:
    """A fraction that rises from 0 to 1 over 2 mm."""
    return np.clip(millimetres / 2 + np.float32(0.5), 0, 1).astype(np.float32)
