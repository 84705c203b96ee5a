"""Fresh contrast for a case, quickly: what training draws instead of `scanner.render`.

The physics is the scanner's: the same tables, jitter, orders of brightness, textures, receive field, blur, thick slices
and display curve. Three things make it three to four times as quick: only the head's own voxels are computed, random
fields get knots where the head is and not in the whole frame, and the magnitude image takes one normal deviate a voxel
instead of two (the Rician law's difference shows in air alone). The gain of the receiver is left out: whoever
normalises removes it.

How far a draw may leave the scanner's range is a `looks.Look`.
"""

from __future__ import annotations

import numpy as np

from brainseg_utils.phantom import looks
from brainseg_utils.phantom.contrast import T1C, T1N, Contrast, draw_contrast
from brainseg_utils.phantom.fields import BOX, KNOT_SD, Array, Axes, basis, knot_count, separable, sigmoid
from brainseg_utils.phantom.geometry import FIELD_STEP, FULL, SHADING
from brainseg_utils.phantom.packed import SMALL, Packed
from brainseg_utils.phantom.parameters import Parameters, default
from brainseg_utils.phantom.scanner import ALPHA, AXIS_X, AXIS_Z, BLOCK_SD, slice_matrix
from brainseg_utils.phantom.streams import uniform
from brainseg_utils.phantom.template import SHADING_STEP
from brainseg_utils.phantom.threads import single_threaded

FAINTEST = np.float32(0.02)


@single_threaded
def redraw(
    case: Packed, rng: np.random.Generator, look: looks.Look | None = None, parameters: Parameters | None = None
) -> np.ndarray:
    """The four modalities of a packed case with fresh contrast, float32 (4, M): T1n, T1c, T2w, T2f at `case.brain`.

    Args:
        case: the packed geometry.
        rng: decides everything.
        look: shares of draws beyond the scanner's range; default none.
        parameters: all settings; default the package's own.
    """
    p, look = parameters or default(), look or looks.Look()
    factors = p.setting(case.facts["difficulty"])
    contrast = draw_contrast(p, rng, case.facts, factors)
    if rng.random() < look.wild:
        contrast = looks.wild(contrast, rng)
    if look.alike and rng.random() < look.alike:  # a share of 0 takes no draw: older runs' pictures stay
        contrast = looks.alike(contrast, rng)
    rough = rng.random() < look.rough
    left = np.ones(4, np.float32)
    if rng.random() < look.faint:
        left[:] = rng.uniform(*looks.FAINT, 4)
        left[T1C] = rng.uniform(*looks.FAINT_T1C)
    cysts = look.cysts > 0 and rng.random() < look.cysts
    clean = _compose(case, contrast, p, factors.traps, left, cysts, rng)
    protocol_2d = rng.random() < p.scanner.protocol_2d
    thick = p.scanner.thick_2d if protocol_2d else p.scanner.thick_3d
    out = np.empty((4, len(case.brain)), np.float32)
    for modality in range(4):
        probability = thick[modality] * factors.thick
        strength = (factors.bias, factors.noise)
        _scan(case, clean[modality], out[modality], p, strength, probability, rough, rng)
    return out


def local_field(rng: np.random.Generator, spacing: float, axes: Axes) -> Array:
    """A field as of `fields.random_field`, with knots only where the axes need them; (X, Y, Z)."""
    bases = []
    for axis, half in zip(axes, BOX, strict=True):
        whole = basis(tuple(axis.tolist()), float(spacing), half, knot_count(half, spacing))
        used = np.flatnonzero(whole.any(axis=0))
        bases.append(whole[:, used[0] : used[-1] + 1])
    first, second, third = bases
    knots = rng.standard_normal((first.shape[1], second.shape[1], third.shape[1]), dtype=np.float32)
    return separable(knots / np.float32(KNOT_SD), (first, second, third))


def _compose(
    case: Packed, contrast: Contrast, p: Parameters, traps: float, left: Array, cysts: bool, rng: np.random.Generator
) -> Array:
    """The picture before the machine, (4, N); `left` of the lesion's contrast, (4,)."""
    t, mean = p.contrast.texture, {name: v.astype(np.float32) for name, v in contrast.mean.items()}
    wm, gm, shell = (_fraction(case, name) for name in ("wm", "gm", "shell"))
    rest = 1 - shell
    csf = (1 - wm - gm) * rest
    layers = np.stack([wm * rest, gm * rest, csf, shell, case.layers[SHADING].astype(np.float32)])
    shading = np.asarray(t.shading, np.float32) * np.float32(SHADING_STEP)
    image = np.stack([mean["wm"], mean["gm"], mean["csf"], mean["shell"], shading], axis=1) @ layers
    brain = _texture(case, t.brain_knots, t.brain_weights, case.axes, rng).reshape(-1)[case.kept]
    signs = np.where(rng.random(4) < 0.5, np.float32(t.brain), -np.float32(t.brain))
    for modality, sign in zip(image, signs, strict=True):
        modality *= 1 + np.float32(sign) * brain
    some = image[:, case.matter]
    alpha = np.minimum(_fraction(case, "wmh", case.matter) * np.float32(traps), 1)
    some += alpha * (mean["wmh"][:, None] - some)
    image[:, case.matter] = some
    if len(case.lesion):
        image[:, case.lesion] = _lesion(case, image[:, case.lesion], contrast, mean, p, left, cysts, rng)
    some = image[:, case.small]
    for name, most in zip(SMALL, (1.0, 0.8, 1.0), strict=True):
        some += np.float32(most) * _fraction(case, name, case.small) * (mean[name][:, None] - some)
    image[:, case.small] = some
    return np.maximum(image, FAINTEST, out=image)


def _lesion(
    case: Packed,
    image: Array,
    contrast: Contrast,
    mean: dict[str, Array],
    p: Parameters,
    left: Array,
    cysts: bool,
    rng: np.random.Generator,
) -> Array:
    """Oedema, core, enhancement, cavity and blood over the healthy picture of the lesion's voxels, (4, L)."""
    t, where = p.contrast.texture, case.lesion
    wm, gm = (_fraction(case, name, where) for name in ("wm", "gm"))
    takes = wm + np.float32(0.8) * gm + np.float32(0.1) * (1 - wm - gm)
    edge = sigmoid((_field(case, "oedema", where) + np.float32(0.3)) / np.float32(contrast.oedema_edge))
    strength = np.float32(contrast.oedema_strength)
    oedema = edge * takes * (strength + (1 - strength) * edge)
    core, rim, fluid = (
        sigmoid(_field(case, name, where) / np.float32(ALPHA)) for name in ("core", "enhancing", "fluid")
    )
    box = case.lesion_box()
    places = np.unravel_index(case.kept[where], case.shape)
    inside = tuple(place - side.start for place, side in zip(places, box, strict=True))
    axes = tuple(axis[side] for axis, side in zip(case.axes, box, strict=True))
    patterns = [
        _texture(case, knots, weights, axes, rng)[inside]
        for knots, weights in (
            (t.oedema_knots, t.oedema_weights),
            (t.core_knots, t.core_weights),
            (t.core_knots, t.core_weights),
        )
    ]
    patterns[2] = np.maximum(patterns[2], np.float32(t.et_lowest))
    cyst: Array = np.zeros(len(where), np.float32)
    fill = np.zeros(4, np.float32)
    if cysts:
        field = _texture(case, looks.CYST_KNOTS, looks.CYST_WEIGHTS, axes, rng)[inside]
        cyst = sigmoid((field - np.float32(uniform(rng, looks.CYST_LEVEL))) / np.float32(looks.CYST_EDGE))
        fill[:] = [uniform(rng, pair) for pair in looks.CYST_MEAN]
    toward, blood = _fraction(case, "toward", where), _fraction(case, "blood", where)
    for m, modality in enumerate(image):
        sign, factor = (-1 if m <= 1 else 1), t.by_modality[m]  # what is brighter on T2 is darker on T1
        amplitudes = (
            sign * contrast.oedema_texture * 0.5,
            sign * factor * contrast.core_texture,
            factor * contrast.enhancing_texture,
        )
        healthy = modality.copy()
        tissues = ("oedema", contrast.core, "et")
        for name, alpha, amplitude, pattern in zip(tissues, (oedema, core, rim), amplitudes, patterns, strict=True):
            colour = mean[name][m] * (1 + np.float32(amplitude) * pattern)
            if name == "oedema":
                colour += np.float32(contrast.gradient[m]) * toward
            elif name == contrast.core:
                colour += cyst * (fill[m] - colour)
            modality += alpha * (colour - modality)
        modality += (1 - left[m]) * (healthy - modality)
        modality += fluid * (mean["rc"][m] - modality)
        if m == T1N:
            modality += blood * (np.float32(t.blood_t1n) - modality)
    return image


def _scan(
    case: Packed,
    clean: Array,
    out: Array,
    p: Parameters,
    strength: tuple[float, float],
    thick: float,
    rough: bool,
    rng: np.random.Generator,
) -> None:
    """What the machine makes of one modality (N,), written to `out` (M,)."""
    s, (bias, noise) = p.scanner, strength
    if rough:
        bias, noise = bias * uniform(rng, looks.ROUGH_BIAS), noise * uniform(rng, looks.ROUGH_NOISE)
        thick = max(thick, looks.ROUGH_THICK)
    if rng.random() < s.bias_probability:
        field = local_field(rng, s.bias_knots, case.axes).reshape(-1)[case.kept]
        clean = clean * np.exp(np.float32(uniform(rng, s.bias_sd) * bias) * field)
    image: Array = np.full(case.shape, clean.mean(), np.float32)
    image.reshape(-1)[case.kept] = clean
    width = uniform(rng, s.blur) + (uniform(rng, looks.ROUGH_BLUR) if rough else 0.0)
    if case.spacing == 2:
        width = float(np.hypot(width, BLOCK_SD))
    image = blur(image, width / case.spacing)
    if rng.random() < thick:
        thickness = uniform(rng, s.slice_thickness) * uniform(rng, s.slice_factor) / case.spacing
        axis = AXIS_X if rng.random() < s.sagittal else AXIS_Z
        matrix = slice_matrix(image.shape[axis], thickness, s.slice_profile, rng.random())
        flat = image @ matrix.T if axis == AXIS_Z else matrix @ image.reshape(len(image), -1)
        image = flat.reshape(image.shape).astype(np.float32, copy=False)
    seen = image.reshape(-1)[case.kept[case.brain]]
    sd = uniform(rng, s.noise) * noise / (s.noise_divisor_2mm if case.spacing == 2 else 1)
    seen += np.float32(sd) * rng.standard_normal(len(seen), dtype=np.float32)
    exponent = np.float32(np.exp(rng.normal(0, s.gamma_sd)))
    np.power(np.maximum(np.abs(seen), FAINTEST), exponent, out=out)


def blur(image: Array, sd: float) -> Array:
    """Gaussian of `sd` voxels, cut at 3 sd; the outer voxels are repeated outwards. (X, Y, Z) to the same.

    A few shifted additions an axis: with the narrow Gaussians of a scanner five times as quick as a general filter.
    """
    reach = max(1, round(3 * sd))
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sd) ** 2)
    weights = (weights / (weights[0] + 2 * weights[1:].sum())).astype(np.float32)
    for axis in range(3):
        side = image.shape[axis]
        wide = np.pad(image, [(reach, reach) if a == axis else (0, 0) for a in range(3)], mode="edge")
        parts = [wide[(slice(None),) * axis + (slice(k, k + side),)] for k in range(2 * reach + 1)]
        total = parts[reach] * weights[0]
        for step in range(1, reach + 1):
            total += (parts[reach - step] + parts[reach + step]) * weights[step]
        image = total
    return image


def _fraction(case: Packed, name: str, where: np.ndarray | None = None) -> Array:
    values = case.layers[name] if where is None else case.layers[name][where]
    return values.astype(np.float32) * np.float32(1 / FULL)


def _field(case: Packed, name: str, where: np.ndarray) -> Array:
    return case.layers[name][where].astype(np.float32) * np.float32(FIELD_STEP)


def _texture(
    case: Packed, knots: tuple[float, ...], weights: tuple[float, ...], axes: tuple, rng: np.random.Generator
) -> Array:
    total = np.zeros(tuple(len(axis) for axis in axes), np.float32)
    for spacing, weight in zip(knots, weights, strict=True):
        total += np.float32(weight) * local_field(rng, spacing, axes)
    return total
