"""How bright each tissue is in each modality, drawn anew for every rendering.

A case takes a random mixture of two tables, log-normal jitter around it, and is then held to the orders that make
the modalities what they are (enhancement is brighter than white matter on T1 with contrast, oedema than grey matter on
FLAIR). One case in five varies widely.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from brainseg_utils.phantom.parameters import Parameters
from brainseg_utils.phantom.settings import Difficulty
from brainseg_utils.phantom.streams import uniform

T1N, T1C, T2W, T2F = range(4)
"""Positions of the modalities, in the course's order."""
LESION = ("oedema", "ncr", "net", "et")
"""Tissues that a difficulty makes more or less distinct."""


@dataclass(frozen=True)
class Contrast:
    """Intensities of one rendering, white matter on T1 about 1.

    Attributes:
        mean: tissue to (4,) intensities, T1n T1c T2w T2f.
        core: which tissue label 1 is made of in this case, `ncr` or `net`.
        gradient: (4,), added to oedema at the core's border, fading outward.
        oedema_texture, core_texture, enhancing_texture: relative amplitudes.
        oedema_edge: softness of the oedema's border (mm).
        oedema_strength: how much of the tissue's own contrast oedema replaces at its border.
    """

    mean: dict[str, np.ndarray]
    core: str
    gradient: np.ndarray
    oedema_texture: float
    core_texture: float
    enhancing_texture: float
    oedema_edge: float
    oedema_strength: float


def draw_contrast(parameters: Parameters, rng: np.random.Generator, facts: Any, difficulty: Difficulty) -> Contrast:
    """Draws the intensities of one rendering.

    Args:
        parameters: all settings.
        rng: the rendering's own stream.
        facts: of the geometry; `kind` and `mismatch` are used.
        difficulty: factors on lesion contrast and jitter.
    """
    c = parameters.contrast
    weight = rng.random()
    wide = rng.random() < c.draw.wide_probability
    spread = (uniform(rng, c.draw.wide_factor) if wide else 1.0) * difficulty.jitter
    names = (*c.both, *c.physical)
    mean = {name: np.array(values) for name, values in c.both.items()}
    for name, values in c.physical.items():
        mean[name] = weight * np.array(values) + (1 - weight) * np.array(c.clinical[name])
    mean["et"][T1C] = uniform(rng, c.draw.et_t1c)
    if rng.random() < c.draw.cystic_probability:
        share = uniform(rng, c.draw.cystic_share)
        mean["ncr"] = (1 - share) * mean["ncr"] + share * np.array(c.draw.cystic)
    for name in names:
        mean[name] = mean[name] * np.exp(c.jitter[name] * spread * rng.standard_normal(4))
    for name in LESION:
        mean[name] = mean["wm"] + (mean[name] - mean["wm"]) * difficulty.contrast
    _guard(parameters, rng, mean)
    if facts.get("mismatch"):
        mean["net"][T2F] *= c.draw.mismatch_factor
    t = c.texture
    gradient = [uniform(rng, pair) for pair in (t.gradient_t1n, t.gradient_t1c, t.gradient_t2w, t.gradient_t2f)]
    return Contrast(
        mean=mean,
        core="net" if facts.get("kind") == "lgg" else "ncr",
        gradient=np.array(gradient),
        oedema_texture=uniform(rng, t.oedema),
        core_texture=uniform(rng, t.core),
        enhancing_texture=uniform(rng, t.et),
        oedema_edge=uniform(rng, t.oedema_edge),
        oedema_strength=uniform(rng, t.oedema_strength),
    )


def _guard(parameters: Parameters, rng: np.random.Generator, mean: dict[str, np.ndarray]) -> None:
    """Raises or lowers what would break the order of brightness; changes `mean` in place."""
    g = parameters.contrast.guard
    wm, gm = mean["wm"], mean["gm"]
    for modality in (T1N, T1C):
        gm[modality] = min(gm[modality], g.gm_t1_wm * wm[modality])
    for modality in (T1N, T1C, T2F):
        mean["csf"][modality] = min(mean["csf"][modality], g.csf_dark_wm * wm[modality])
    mean["csf"][T2W] = max(mean["csf"][T2W], g.csf_t2w_gm * gm[T2W])
    for name in (*LESION, "vessel", "wmh"):
        mean[name][T1N] = min(mean[name][T1N], g.t1n_wm * wm[T1N])
    mean["et"][T1C] = max(mean["et"][T1C], g.et_t1c_wm * wm[T1C], mean["ncr"][T1C] + g.et_t1c_ncr)
    mean["net"][T1C] = min(mean["net"][T1C], g.net_t1c_wm * wm[T1C])
    mean["oedema"][T2F] = max(mean["oedema"][T2F], uniform(rng, g.oedema_t2f) * max(gm[T2F], wm[T2F]))
    mean["oedema"][T2W] = max(mean["oedema"][T2W], g.oedema_t2w_gm * gm[T2W])
    mean["ncr"][T2W] = max(mean["ncr"][T2W], g.ncr_t2w_gm * gm[T2W])
    mean["net"][T2W] = max(mean["net"][T2W], g.net_t2w_gm * gm[T2W])
    mean["net"][T2F] = max(mean["net"][T2F], g.net_t2f_gm * gm[T2F])
