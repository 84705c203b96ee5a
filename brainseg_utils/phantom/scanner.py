"""A geometry seen by a scanner: four modalities with texture, shading, thick slices and noise.

Order of things in one modality: tissues are mixed, then texture, lesion and small structures laid over; then
what the machine does: receive field (bias), point spread, slice profile, Rician noise, display curve, scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from brainseg_utils.phantom.contrast import T1N, Contrast, draw_contrast
from brainseg_utils.phantom.contrast_settings import TextureSettings
from brainseg_utils.phantom.fields import Array, mixture, random_field, sigmoid
from brainseg_utils.phantom.geometry import SHADING, Geometry
from brainseg_utils.phantom.parameters import Parameters, default
from brainseg_utils.phantom.settings import Difficulty
from brainseg_utils.phantom.streams import Step, stream, uniform
from brainseg_utils.phantom.template import SHADING_STEP
from brainseg_utils.phantom.threads import single_threaded

ALPHA = 0.45
"""Softness (mm) of the borders of core, cavity and enhancement."""
BLOCK_SD = 2 / 12**0.5
"""Standard deviation (mm) of a 2 mm block: the blur of averaging 1 mm voxels."""
AXIS_Z, AXIS_X = 2, 0


@dataclass(frozen=True)
class Layers:
    """A geometry's layers as float32 fractions, shared by the four modalities; all (X, Y, Z)."""

    fraction: dict[str, Array]
    oedema: Array | None
    edge: Array | None
    core: Array | None
    enhancing: Array | None
    fluid: Array | None


@single_threaded
def render(case: Geometry, seed: int, draw: int = 0, parameters: Parameters | None = None) -> np.ndarray:
    """The four modalities of a case, int16 (4, X, Y, Z) over the case's box: T1n, T1c, T2w, T2f.

    Args:
        case: the geometry.
        seed: of the rendering; the cohort's own files use the cohort's seed.
        draw: number of the rendering: 0 is the cohort's, any other a fresh contrast of the same geometry.
        parameters: all settings; default the package's own.

    Returns:
        Intensities of 1 or more inside `case.mask`, 0 outside. `case.paste` puts them into the whole grid.

    Example:
        >>> from brainseg_utils.phantom.geometry import geometry
        >>> case = geometry(0, 3, kind="healthy")
        >>> images = render(case, seed=0)
        >>> images.dtype, bool((images[:, case.mask] > 0).all()), bool((images[:, ~case.mask] == 0).all())
        (dtype('int16'), True, True)
    """
    p = parameters or default()
    factors = p.setting(case.facts["difficulty"])
    key = (case.facts["index"], case.facts["visit"], draw)
    rng = stream(seed, key[0], Step.RENDER, *key[1:])
    contrast = draw_contrast(p, rng, case.facts, factors)
    layers = _layers(case, contrast)
    protocol_2d = rng.random() < p.scanner.protocol_2d
    texture = _textures(case, p, rng)
    images = np.zeros((4, *case.mask.shape), np.int16)
    for modality in range(4):
        own = stream(seed, key[0], Step.MODALITY + modality, *key[1:])
        clean = _compose(case, layers, contrast, texture, p, modality, factors, own)
        thick = (p.scanner.thick_2d if protocol_2d else p.scanner.thick_3d)[modality] * factors.thick
        seen = scan(clean, case, p, factors, own, thick)
        images[modality] = np.where(case.mask, np.clip(np.round(seen), 1, 32767), 0)
    return images


def _layers(case: Geometry, contrast: Contrast) -> Layers:
    """Fractions and soft lesion borders (alphas)."""
    names = ("gm", "wm", "ventricle", "shell", "vessel", "dura", "choroid", "wmh")
    fraction = {name: case.fraction(name) for name in names}
    fraction["csf"] = 1 - fraction["gm"] - fraction["wm"]
    if "core" not in case.layers:
        return Layers(fraction, None, None, None, None, None)
    fraction |= {name: case.fraction(name) for name in ("toward", "blood")}
    takes = fraction["wm"] + np.float32(0.8) * fraction["gm"] + np.float32(0.1) * fraction["csf"]
    edge = sigmoid((case.field("oedema") + np.float32(0.3)) / np.float32(contrast.oedema_edge))
    strength = contrast.oedema_strength + (1 - contrast.oedema_strength) * edge
    return Layers(
        fraction=fraction,
        oedema=(edge * takes * strength).astype(np.float32),
        edge=edge,
        core=sigmoid(case.field("core") / np.float32(ALPHA)),
        enhancing=sigmoid(case.field("enhancing") / np.float32(ALPHA)),
        fluid=sigmoid(case.field("fluid") / np.float32(ALPHA)),
    )


def _textures(case: Geometry, parameters: Parameters, rng: np.random.Generator) -> dict[str, Array]:
    """Patterns that all modalities share; each shows them in its own strength."""
    t, axes = parameters.contrast.texture, case.grid.axes
    found = {"brain": mixture(rng, t.brain_knots, t.brain_weights, axes)}
    if "core" in case.layers:
        found["oedema"] = mixture(rng, t.oedema_knots, t.oedema_weights, axes)
        found["core"] = mixture(rng, t.core_knots, t.core_weights, axes)
        found["enhancing"] = mixture(rng, t.core_knots, t.core_weights, axes)
    return found


def _compose(
    case: Geometry,
    layers: Layers,
    contrast: Contrast,
    texture: dict[str, Array],
    parameters: Parameters,
    modality: int,
    factors: Difficulty,
    rng: np.random.Generator,
) -> Array:
    """The picture before the machine: tissues, lesion, small structures; float32 (X, Y, Z)."""
    t, f = parameters.contrast.texture, layers.fraction
    mean = {name: np.float32(values[modality]) for name, values in contrast.mean.items()}
    image = mean["wm"] * f["wm"] + mean["gm"] * f["gm"] + mean["csf"] * f["csf"]
    image += f["shell"] * (mean["shell"] - image)
    image += case.layers[SHADING] * np.float32(SHADING_STEP * t.shading[modality])
    sign = 1 if rng.random() < 0.5 else -1
    image *= 1 + np.float32(sign * t.brain) * texture["brain"]
    traps = np.float32(factors.traps)
    image += np.minimum(f["wmh"] * traps, 1) * (mean["wmh"] - image)
    if layers.oedema is not None:
        _lay_lesion(image, layers, contrast, texture, mean, modality, t)
    image += f["choroid"] * (mean["choroid"] - image)
    image += np.float32(0.8) * f["dura"] * (mean["dura"] - image)
    image += f["vessel"] * (mean["vessel"] - image)
    return np.maximum(image, np.float32(0.02))


def _lay_lesion(
    image: Array,
    layers: Layers,
    contrast: Contrast,
    texture: dict[str, Array],
    mean: dict[str, np.float32],
    modality: int,
    t: TextureSettings,
) -> None:
    """Oedema, core, enhancement, cavity and blood over the healthy picture, in place."""
    assert layers.oedema is not None and layers.core is not None
    assert layers.enhancing is not None and layers.fluid is not None
    sign = -1 if modality <= 1 else 1  # what is brighter on T2 is darker on T1
    oedema = mean["oedema"] * (1 + np.float32(sign * contrast.oedema_texture * 0.5) * texture["oedema"])
    oedema += np.float32(contrast.gradient[modality]) * layers.fraction["toward"]
    image += layers.oedema * (oedema - image)
    factor = t.by_modality[modality]
    core = mean[contrast.core] * (1 + np.float32(sign * factor * contrast.core_texture) * texture["core"])
    image += layers.core * (core - image)
    rim = mean["et"] * (
        1 + np.float32(factor * contrast.enhancing_texture) * np.maximum(texture["enhancing"], t.et_lowest)
    )
    image += layers.enhancing * (rim - image)
    image += layers.fluid * (mean["rc"] - image)
    if modality == T1N:
        image += layers.fraction["blood"] * (np.float32(t.blood_t1n) - image)


def scan(
    clean: Array, case: Geometry, parameters: Parameters, factors: Difficulty, rng: np.random.Generator, thick: float
) -> Array:
    """What the machine makes of a clean picture: bias, blur, slices, noise, display curve, scale."""
    s, image = parameters.scanner, clean
    if rng.random() < s.bias_probability:
        bias = random_field(rng, s.bias_knots)(case.grid.axes)
        image = image * np.exp(np.float32(uniform(rng, s.bias_sd) * factors.bias) * bias)
    width = uniform(rng, s.blur)
    if case.spacing == 2:
        width = float(np.hypot(width, BLOCK_SD))
    image = ndimage.gaussian_filter(image, width / case.spacing, mode="nearest", truncate=3.0)
    if rng.random() < thick:
        thickness = uniform(rng, s.slice_thickness) * uniform(rng, s.slice_factor)
        axis = AXIS_X if rng.random() < s.sagittal else AXIS_Z
        image = thick_slices(image, axis, thickness / case.spacing, s.slice_profile, rng.random())
    sd = np.float32(uniform(rng, s.noise) * factors.noise / (s.noise_divisor_2mm if case.spacing == 2 else 1))
    real = image + sd * rng.standard_normal(image.shape, dtype=np.float32)
    image = np.hypot(real, sd * rng.standard_normal(image.shape, dtype=np.float32))
    gamma = np.float32(np.exp(rng.normal(0, s.gamma_sd)))
    return np.float32(uniform(rng, s.gain)) * image**gamma


def thick_slices(image: Array, axis: int, thickness: float, profile: float, phase: float) -> Array:
    """Slices of a given thickness, linearly interpolated back to the voxels of `axis`.

    Args:
        image: (X, Y, Z).
        axis: across the slices.
        thickness: distance of the slices (voxels).
        profile: sd of the Gaussian slice profile, as a share of the thickness.
        phase: where the first slice lies, 0 to 1 of a thickness.

    Example:
        >>> flat = thick_slices(np.ones((4, 4, 12), np.float32), 2, 3.0, 0.42, 0.5)
        >>> bool(np.allclose(flat, 1))
        True
    """
    matrix = slice_matrix(image.shape[axis], thickness, profile, phase)
    return np.moveaxis(np.tensordot(matrix, image, (1, axis)), 0, axis)


def slice_matrix(n: int, thickness: float, profile: float, phase: float) -> Array:
    """What each of `n` voxels along an axis takes from the others under thick slices, (n, n); rows sum to about 1."""
    centres = np.arange((phase - 1) * thickness, n + thickness, thickness)
    voxels = np.arange(n)
    seen = np.exp(-(((voxels[None] - centres[:, None]) / (profile * thickness)) ** 2) / 2)
    seen /= np.maximum(seen.sum(axis=1, keepdims=True), 1e-12)
    back = np.clip(1 - np.abs(voxels[:, None] - centres[None]) / thickness, 0, None)
    return (back @ seen).astype(np.float32)
