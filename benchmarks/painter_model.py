"""A painter as a model that comes with the course: weights in half precision and a card."""

from __future__ import annotations

from pathlib import Path

import torch

from brainseg_utils.files import write_text
from brainseg_utils.training.gan_run import GanRun, read_generator, write_generator

MODEL = Path(__file__).resolve().parent.parent / "data" / "reference" / "models" / "painter"
CARD = """# Model card: a painter of tumours, learned from phantoms

**Use:** teaching and research: more training patches with a tumour, for notebook 06 and `data.painter` of a recipe. Not
a medical device; a painted scan is no patient's and must not be passed off as one.

**Input:** T1, T1 with contrast, T2, FLAIR at 2 mm, z-scores over the brain; a hole, the label map of the tumour to
paint (NETC, SNFH, ET, RC), and its contrast code (mean of each tissue in each modality). **Output:** the scan with the
tumour painted into the hole, to the bit unchanged outside it.

**Network:** `painter`, {parameters:,} parameters, against `patch_critic`; recipe `course_painter`, quick profile;
the file holds the recipe and {codes} contrast codes of training patches beside the weights.

**Data:** synthetic heads alone (`brainseg_utils.phantom`), made while it trained; {steps} steps of {batch} patches of
{side} voxels a side. The phantoms' anatomy is the MNI ICBM 2009c atlas through nilearn (Fonov et al.,
doi:10.1016/j.neuroimage.2010.07.033), free to use with its copyright notice. No patient's scan was trained on.

**How good:** `data/reference/runs/gan_judge`: how much of the gap from healthy to real tissue it closes in each tissue
and modality, texture, variety; `gan_develop`: the gaps on real scans. What painted extras are worth to a segmentation:
`gan_experiment`, `gan_fewshot`.

**Weak where:** the tissue around a painted tumour is not pushed aside; necrosis comes out more even than a real one;
thin enhancing rims of real scans are too dark, and the border of the hole is a sharper step than in the scan
(`gan_develop`); treated tumours (RC) were in none of its patches.

**Made by:** `python benchmarks/reference_gan.py --only painters`, seed {seed} ({minutes:.0f} minutes of a part of one
CPU core), torch {version}.
"""


def ship(run: GanRun) -> None:
    """Writes a painter as the model that comes with the course."""
    recipe, weights, codes = read_generator(run.path)
    assert codes is not None
    half = {name: tensor.half() for name, tensor in weights.items()}
    write_generator(MODEL / "weights.safetensors", recipe, half, codes)
    facts = {
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "steps": run.metrics["steps"],
        "batch": recipe.budget.batch,
        "side": recipe.data.options["size"][0],
        "minutes": run.metrics["seconds"] / 60,
        "codes": len(codes),
        "version": torch.__version__,
        "seed": recipe.seed,
    }
    write_text(MODEL / "card.md", CARD.format(**facts))
