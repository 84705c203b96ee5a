"""How training pictures leave what is known behind, each way for a share of the draws.

Wild contrasts: a modality's tissues go part of the way, or all of it, to any brightness (after Billot 2023, SynthSeg,
doi 10.1016/j.media.2023.102789). Rough scans: more shading, blur, noise and thicker slices than the parameters allow.
Faint lesions, through which the healthy brain is seen: in real scans what is marked as oedema varies in itself twice as
much as the parameters let it. Cysts in the core, near fluid on every modality, as large low-grade tumours have. And
oedema that looks like core without enhancement, or such core like oedema, so that only its place tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from brainseg_utils.phantom.contrast import Contrast
from brainseg_utils.phantom.streams import uniform

WILD_MEAN = (0.2, 1.7)
"""Brightness of any tissue in a wild modality, white matter on T1 being 1."""
WILD_MODALITY = 0.5
"""Probability that a modality of a wild draw is wild."""
WILD_WAY = (0.0, 1.0)
"""How far a wild modality's tissues go from their own brightness (0) to any (1)."""
ALIKE_WAY = (0.3, 1.0)
"""How far one tissue's brightness goes to the other's where oedema and core look alike."""


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
