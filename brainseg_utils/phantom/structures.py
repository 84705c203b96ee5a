"""Small structures of a healthy head that a network may take for a lesion, and that it must learn not to.

Vessels and choroid plexus enhance, dura and falx enhance, white-matter hyperintensities of age are bright on FLAIR.
"""

from __future__ import annotations

import numpy as np

from brainseg_utils.phantom.anatomy import Subject, Tissues
from brainseg_utils.phantom.fields import Array, Axes, random_field, sigmoid
from brainseg_utils.phantom.parameters import Parameters
from brainseg_utils.phantom.streams import Step, stream, uniform

ATRIUM = (20.0, -36.0, 10.0)
"""MNI point (mirrored to both sides) about which the choroid plexus lies."""


def structures(
    subject: Subject, parameters: Parameters, found: Tissues, axes: Axes, seed: int, index: int
) -> dict[str, Array]:
    """Fractions (X, Y, Z) of vessel, dura, choroid and wmh (white-matter hyperintensity), 0 to 1."""
    s = parameters.structures
    rng = stream(seed, index, Step.STRUCTURES)
    x, y, z = found.place
    vessel = _tubes(rng, s.vessel_knots, uniform(rng, s.vessel_radius), axes)
    vessel *= np.clip(found.csf * 1.5 + (found.surface < 4), 0, 1) * (1 - found.ventricle)
    thin = _tubes(rng, s.thin_vessel_knots, uniform(rng, s.thin_vessel_radius), axes) * (found.surface > 4)
    top = (z > 20) | (y < -70)
    inward = np.maximum(found.surface, 0)
    sinus = _soft((s.sinus_half_width - np.abs(x) - 0.6 * inward) / 2) * top  # a wedge between the hemispheres
    transverse = _soft((s.sinus_half_width - np.hypot(z + 8, inward)) / 2) * (y < -45)
    patchy = _soft(random_field(rng, s.dura_knots)(axes) + 0.7)
    vessel = np.maximum.reduce([vessel, thin, sinus * patchy, transverse * patchy]) * (found.surface > -3)

    falx = _soft(s.falx_half_width - np.abs(x)) * found.csf * top * (found.surface < 30)
    patchy = _soft(random_field(rng, s.dura_knots)(axes) * 2)
    dura = _soft(s.dura_depth - np.abs(found.surface + 1)) * patchy

    near = np.sqrt((np.abs(x) - ATRIUM[0]) ** 2 + (y - ATRIUM[1]) ** 2 + (z - ATRIUM[2]) ** 2)
    plexus = _soft(s.choroid_radius - near) * found.ventricle * _soft((random_field(rng, 5.0)(axes) - 0.2) * 3)

    young, old = s.lesion_threshold[1], s.lesion_threshold[0]
    threshold = young + (old - young) * subject.age
    outside = np.maximum(-found.ventricle_distance, 0)
    patches = random_field(rng, 9.0)(axes) + np.float32(0.7) * random_field(rng, 4.0)(axes)
    spots = (patches - threshold - 0.8 + 1.2 * np.exp(-((outside / s.lesion_reach) ** 2))) * 4
    band = uniform(rng, s.band) * (0.4 + subject.age)
    rim = (band - outside) * 2
    lesions = sigmoid(np.maximum(spots, rim)) * np.clip(found.wm * 1.3 - 0.3, 0, 1) * (z > -30)
    return {
        "vessel": vessel.astype(np.float32),
        "dura": np.maximum(falx, dura).astype(np.float32),
        "choroid": plexus.astype(np.float32),
        "wmh": lesions.astype(np.float32),
    }


def _soft(millimetres: np.ndarray) -> Array:
    """A fraction that rises from 0 to 1 over a millimetre."""
    return np.clip(millimetres + np.float32(0.5), 0, 1).astype(np.float32)


def _tubes(rng: np.random.Generator, spacing: float, radius: float, axes: Axes) -> Array:
    """Fraction inside tubes: within `radius` of both zero sets of two random fields (distance by first order)."""
    squared = np.zeros(tuple(len(a) for a in axes), np.float32)
    for _ in range(2):
        field = random_field(rng, spacing)(axes)
        slope = np.zeros_like(field)
        for axis in range(3):
            slope += np.gradient(field, axes[axis], axis=axis) ** 2
        squared += field**2 / (slope + np.float32(1e-4))
    return np.clip(radius - np.sqrt(squared) + np.float32(0.5), 0, 1)
