"""How training pictures leave what is known behind, each way for a share of the draws.

Wild contrasts: a modality's tissues go part of the way, or all of it, to any brightness (after Billot 2023, SynthSeg,
doi 10.1016/j.media.2023.102789). Rough scans: more shading, blur, noise and thicker slices than the parameters allow.
Faint lesions, through which the healthy brain is seen: in real scans what is marked as oedema varies in itself twice as
much as the parameters let it. Cysts in the core, near fluid on every modality, as large low-grade tumours have. And
oedema that looks like core without enhancement, or such core like oedema, so that only its place tells them apart.

Two more ways change where a lesion lies, not how it looks: oedema as an even band, and small cores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from brainseg_utils.phantom.contrast import Contrast
from brainseg_utils.phantom.parameters import Parameters, default
from brainseg_utils.phantom.settings import LogNormal
from brainseg_utils.phantom.streams import uniform

WILD_MEAN = (0.2, 1.7)
"""Brightness of any tissue in a wild modality, white matter on T1 being 1."""
WILD_MODALITY = 0.5
"""Probability that a modality of a wild draw is wild."""
WILD_WAY = (0.0, 1.0)
"""How far a wild modality's tissues go from their own brightness (0) to any (1)."""
ROUGH_BIAS, ROUGH_NOISE = (1.0, 2.5), (1.0, 3.0)
"""Factors on shading and noise of a rough scan."""
ROUGH_BLUR = (0.0, 1.6)
"""Added point spread (mm) of a rough scan."""
ROUGH_THICK = 0.5
"""Least probability of thick slices in a rough scan."""
FAINT, FAINT_T1C = (0.35, 1.0), (0.7, 1.0)
"""Share of a faint lesion's own contrast that is left, in each modality; enhancement stays clearer."""
CYST_KNOTS, CYST_WEIGHTS = (14.0, 6.0), (0.8, 0.4)
"""Of the field that is higher than a level where the core is cystic."""
CYST_LEVEL, CYST_EDGE = (-1.0, 1.0), 0.15
"""The level, from nearly all of the core to a little of it, and the softness of the border in units of the field."""
CYST_MEAN = ((0.3, 0.8), (0.3, 0.8), (1.35, 1.95), (0.3, 1.1))
"""Brightness of a cyst in each modality, from fluid to what has much protein in it."""
ALIKE_WAY = (0.3, 1.0)
"""How far one tissue's brightness goes to the other's where oedema and core look alike."""
BAND_GROWTH: dict[str, Any] = {"oedema_power": 0.5, "oedema_grey": (0.5, 1.0), "oedema_rough": (0.1, 0.4)}
BAND_LGG = LogNormal(median=0.45, sigma=0.6, low=0.05, high=3.0)
"""Oedema as an even band around the core, through grey matter as through white: as it is drawn around many low-grade
tumours, a few millimetres of partial volume. Its volume there is this many times the core's."""
SMALL_CORE = LogNormal(median=3.0, sigma=1.0, low=0.2, high=40.0)
"""Volume (cm3) of small cores, enhancing ones in much oedema: of real cores a twentieth has 1 cm3 or less."""


@dataclass(frozen=True)
class Look:
    """How far the draws leave the scanner's own range.

    Attributes:
        wild: share of draws with wild contrasts.
        rough: share of rough scans.
        faint: share of draws with a faint lesion.
        cysts: share of draws with cysts in the core.
        alike: share of draws in which oedema and core without enhancement look alike.
    """

    wild: float = 0.0
    rough: float = 0.0
    faint: float = 0.0
    cysts: float = 0.0
    alike: float = 0.0


def wild(contrast: Contrast, rng: np.random.Generator) -> Contrast:
    """Every tissue nearer to any brightness, in some of the modalities."""
    way = np.where(rng.random(4) < WILD_MODALITY, rng.uniform(*WILD_WAY, 4), 0.0)
    mean = {name: (1 - way) * own + way * rng.uniform(*WILD_MEAN, 4) for name, own in contrast.mean.items()}
    return replace(contrast, mean=mean)


def alike(contrast: Contrast, rng: np.random.Generator) -> Contrast:
    """Core without enhancement nearer to oedema; around a core with a rim, oedema nearer to such tissue."""
    one, other = ("net", "oedema") if contrast.core == "net" else ("oedema", "net")
    way = uniform(rng, ALIKE_WAY)
    mixed = (1 - way) * contrast.mean[one] + way * contrast.mean[other]
    return replace(contrast, mean={**contrast.mean, one: mixed})


def shapes(rng: np.random.Generator, band: float, small: float) -> Parameters:
    """The package's own settings, in a share of cases with oedema as an even band, in a share with a small core."""
    own = default()
    banded, shrunk = rng.random(2) < (band, small)
    if banded:
        tumour = replace(own.tumour, oedema_lgg=BAND_LGG)
        own = replace(own, tumour=tumour, growth=replace(own.growth, **BAND_GROWTH))
    return replace(own, tumour=replace(own.tumour, core=SMALL_CORE)) if shrunk else own
