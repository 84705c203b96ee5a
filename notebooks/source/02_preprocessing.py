# %% [markdown]
# # 02 Preprocessing and augmentation: what a network is given to see
#
# **You will be able to**
# - walk a scan through the pipeline of each report, stage by stage, and name the stages that do harm,
# - bring scans of different brightness onto one scale, and say what a bright artefact does to each way of doing so,
# - crop, resample and draw patches without leaking the truth and without losing millilitres,
# - augment image and label together, in the right order, and know what each change does to both,
# - work out what a data set costs on disk and in memory, and build a cache that reads it fast.
#
# **Time:** {{time quick}} (quick), {{time full}} (full) · **Needs:** notebook 01, or its glossary; nothing is downloaded ·
# **Rebuilds:** the pipelines of R0, R1, R2, R3 and R4
#
# R0 to R4 are five student reports on brain-tumour segmentation; the course rebuilds each. Their mistakes are kept, named and
# measured: everyone writes such bugs, and this notebook shows how one notices. It is not a medical device.

# %% [markdown]
# ## Settings
# `data_dir` is a BraTS-like folder and `lgg_dir` a folder of LGG slices (R2 works on those). Left empty, the course makes phantoms:
# a real average brain, deformed anew for each patient, in which a tumour was grown.

# %% tags=["parameters"]
profile = "quick"
data_dir = ""
lgg_dir = ""
output_dir = ""
seed = 0

# %% [markdown]
# Seeds are fixed and the internet is blocked; `setup` knows where the data are and where results go.

# %%
import textwrap
import time
from typing import NamedTuple

import matplotlib.pyplot as plt
import monai.transforms as mt
import numpy as np
import pandas as pd
import torch

from brainseg_utils import course
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.errors import DataError
from brainseg_utils.pipeline import arrays, augment, registry
from brainseg_utils.pipeline.transforms import classes, load_case, load_slice
from brainseg_utils.progress import track
from brainseg_utils.views import figures, palette
from brainseg_utils.views.slices import cut

setup = course.begin("02", profile=profile, data_dir=data_dir, lgg_dir=lgg_dir, output_dir=output_dir, seed=seed)
check, quiz = setup.check, setup.quiz
figures.use_style()

# %% [markdown]
# Every case is read once here. Of each we keep what the measurements need: where the brain is, where the tumour is, the voxel size,
# and the FLAIR intensities. `brain` is where any of the four sequences differs from 0: BraTS scans are *skull-stripped*, everything
# outside the brain was set to exactly 0.


# %%
class Scan(NamedTuple):
    id: str
    flair: np.ndarray  # (X, Y, Z)
    brain: np.ndarray  # (X, Y, Z), true inside the brain
    label: np.ndarray  # (X, Y, Z), class numbers: 0 background, 1 NETC, 2 SNFH, 3 ET, 4 RC
    spacing: np.ndarray  # mm along X, Y, Z


def read(case):
    item = load_case(case)
    image, label = np.asarray(item["image"]), np.asarray(item["label"])[0]
    return Scan(case.id, image[3], arrays.brain_mask(image), label, item["image"].pixdim.numpy())


cases = [case for case in find_cases(setup.data_dir) if case.label_path]
cases = cases[: 12 if setup.profile.quick else 40]
scans = [read(case) for case in track(cases, "reading")]
with_tumour = [scan for scan in scans if scan.label.any()]
if not with_tumour:
    raise DataError("no case with a labelled tumour", where=setup.data_dir, remedy="give a labelled data set")

# %% [markdown]
# The pictures show one patient: the one whose tumour is the largest with all tissues present.

# %%
pick = max(scans, key=lambda scan: (len(np.unique(scan.label)), np.count_nonzero(scan.label)))
example = cases[[scan.id for scan in scans].index(pick.id)]
item = load_case(example)
image, label, brain = np.asarray(item["image"]), pick.label, pick.brain
scheme, spacing = example.scheme, pick.spacing
side = (64,) * 3 if spacing.min() > 1.5 else (128,) * 3  # voxels of the reports' 128 mm
print(
    f"{len(scans)} cases, {len(with_tumour)} with a tumour; grid {label.shape}, voxels of {spacing.round(2).tolist()} mm"
)
print(
    f"pictures: {pick.id}; brain {brain.mean():.0%} of the grid, tumour {(label > 0).sum() / brain.sum():.1%} of the brain"
)

# %% [markdown]
# One small function draws all the slices of this notebook. Tissues and regions are outlined in their own colour and line style, the
# same all through the course. The slice is the one with the most tumour, unless one is asked for.


# %%
GREYS = plt.get_cmap("gray", 40)
REGION_ORDER = {"r0": ("ET", "TC", "WT"), "r4": ("TC", "WT", "ET")}  # as each report stacks its channels


def draw(axes, volume, masks, names, z=None, window=None, caption=""):
    """One axial slice of an (X, Y, Z) volume; `masks` are (X, Y, Z), one for each name."""
    area = np.any(masks, axis=0).sum(axis=(0, 1)) if len(masks) else np.zeros(1)
    z = z if z is not None else int(area.argmax()) if area.any() else volume.shape[2] // 2
    picture = cut(np.asarray(volume), "axial", z)
    low, high = window or np.percentile(volume, (0.5, 99.7))
    axes.imshow(picture, cmap=GREYS, vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
    for mask, name in zip(masks, names, strict=True):
        flat, style = cut(np.asarray(mask), "axial", z), palette.style(name)
        if flat.any() and not flat.all():
            axes.contour(flat, [0.5], colors=style.colour, linestyles=style.dash, linewidths=1.3)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.set_title(caption, fontsize=7)


def tissue_masks(numbers, of=scheme):
    return [numbers == n for n in range(1, len(classes(of)) + 1)], classes(of)


# %% [markdown]
# ## Where this ends
# Left, the scan as it lies on disk. Beside it, four of the *training samples* that the course's pipeline makes of it: normalised, cropped to the brain,
# a random *patch* (a box cut out of the scan), turned, bent, brightened, made noisy. The label went along each time.

# %%
samples = []
for number in range(4):
    *_, (_, sample) = registry.walk(item, "course", seed=setup.seed + number, size=side, foreground=1.0)
    samples.append(sample)
figure, row = plt.subplots(1, 5, figsize=(8.2, 2.0))
draw(row[0], image[3], *tissue_masks(label), caption="the scan, FLAIR")
for axes, number, sample in zip(row[1:], range(1, 5), samples, strict=True):
    masks, names = tissue_masks(np.asarray(sample["label"])[0])
    draw(axes, np.asarray(sample["image"])[3], masks, names, caption=f"sample {number}")
figure.legend(handles=figures.legend_handles(classes(scheme)), loc="outside lower center", ncols=4, fontsize=7)
figures.show(figure, "A FLAIR slice with outlined tumour, and four training samples made from the same scan, each turned, "
             "bent and of another brightness, with outlines that follow the tumour.")  # fmt: skip

# %% [markdown]
# ## 1 Five pipelines, stage by stage
# **Question: which of these stages would you leave out, and which would you move?** Look before you read on. Each row below is one report's pipeline on the same
# patient, in the report's order. Under each picture stand the grid and the range of values. A stage that changed nothing this time
# (a flip that was not drawn) is left out. A star marks a stage that does harm. After a z-score over the brain the air is 0, which is the
# brain's mean: it is drawn grey.


# %%
def show_pipeline(report, start, channel=3, **settings):
    stages, before = [("as loaded", kept_of(start, channel), "")], start
    for step, after in registry.walk(start, report, seed=setup.seed, **settings):
        if any(not np.array_equal(np.asarray(before[k]), np.asarray(after[k])) for k in ("image", "label")):
            stages.append((step.name, kept_of(after, channel), step.mistake))
        before = after
    rows, columns = -(-len(stages) // 6), 6
    figure, grid = plt.subplots(rows, columns, figsize=(8.4, 2.0 * rows + 0.3), squeeze=False)
    figure.get_layout_engine().set(h_pad=0.07)
    used = set()
    for axes in grid.flat[len(stages) :]:
        axes.remove()
    for axes, (name, state, mistake) in zip(grid.flat, stages, strict=False):
        used |= set(show_stage(axes, report, name, state, mistake))
    figure.legend(handles=figures.legend_handles(used), loc="outside lower center", ncols=6, fontsize=7)
    names, harmful = ", ".join(s[0] for s in stages), "; ".join(s[0] for s in stages if s[2]) or "none"
    title = registry.PIPELINES[report].title
    figures.show(figure, f"{title}, one slice after each stage: {names}. Harmful: {harmful}.")
    for name, text in registry.mistakes(report, **settings).items():
        print(textwrap.fill(f"* {name}: {text}", 90, subsequent_indent="  "))


# %% [markdown]
# The label changes its form on the way: class numbers at first, and *region channels* in R0 and R4. A region is a union of tissues
# (notebook 01): WT, the whole tumour, holds TC, the tumour core, which holds ET.


# %%
def kept_of(state, channel):
    """What a picture needs of a stage: one channel, the label, and what its numbers mean."""
    return np.asarray(state["image"])[channel].copy(), np.asarray(state["label"]), state["scheme"]


def show_stage(axes, report, name, state, mistake):
    """Draws one stage and returns the names that it outlined."""
    picture, mask, labels = state
    grid = "x".join(map(str, picture.shape))
    if picture.ndim == 2:  # R2's slices, stored as rows and columns
        picture, mask = picture.T[::-1, ::-1, None], mask.transpose(0, 2, 1)[:, ::-1, ::-1, None]
    if len(mask) > 1:
        masks, names = list(mask > 0), REGION_ORDER[report]
    else:
        masks, names = tissue_masks(mask[0], get_scheme(labels))
    words = ("* " if mistake else "") + name
    draw(axes, picture, masks, names, caption=wrapped(words))
    axes.set_xlabel(f"{grid}\n{picture.min():.4g} to {picture.max():.4g}", fontsize=6.5)
    return names


def wrapped(words, width=21):
    return "\n".join(textwrap.wrap(words, width))


# %% [markdown]
# **R0** (Swin-UNETR, notebook 05) normalises each sequence over its non-zero voxels and takes a random patch from anywhere.

# %%
show_pipeline("r0", item, size=side)

# %% [markdown]
# **R1** (3D U-Net and others on BraTS 2024, notebook 04) clips, normalises over the whole array, crops around the truth with a margin of 20 voxels and
# resizes what is left. R1's voxels were 1 mm wide, so its margin was 20 mm; with larger voxels, as in the quick profile, the picture shows a wider one.

# %%
show_pipeline("r1", item, size=side)

# %% [markdown]
# **R2** (2D networks on slices of low-grade glioma, notebook 03) has the shortest one: a colour picture, three sequences as its
# red, green and blue. The red channel is T1, green FLAIR, blue T1 with contrast; here is FLAIR.

# %%
patients = [case for case in find_cases(setup.lgg_dir) if all(case.mask_paths)][:6]
areas = [(int((p.label().data > 0).sum(axis=(0, 1)).max()), p) for p in patients]
patient = max(areas, key=lambda pair: pair[0])[1]
number = max(range(len(patient.mask_paths)), key=lambda n: load_slice(patient, n)["label"].sum())
show_pipeline("r2", load_slice(patient, number), channel=1)

# %% [markdown]
# **R3** (3D U-Net with Dice and Focal loss, notebook 04) scales between minimum and maximum and squeezes the whole scan into a cube.

# %%
show_pipeline("r3", item, size=side)

# %% [markdown]
# **R4** (MONAI's UNet, notebook 08) augments first, normalises second, and crops a fixed border at the end.

# %%
show_pipeline("r4", item, spacing=float(spacing.min()))

# %% [markdown]
# **The course** normalises first, crops to the brain, draws a patch, and then augments.

# %%
show_pipeline("course", item, size=side)

# %% [markdown]
# The rest of this notebook takes the starred stages one at a time: what does each cost, in numbers? The answers are collected here.

# %%
results = []


def note(stage, report, measure, harmful, better):
    results.append(
        {"stage": stage, "report": report, "measured": measure, "the report's way": harmful, "a better way": better}
    )


# %% [markdown]
# ## 2 On what scale?
# **Question: the same tissue has the value 300 in one scan and 900 in the next. What should a network be given?**
#
# MRI intensities have no unit. Scanner, coil and sequence decide them. Normalising means choosing what to subtract (a *centre*) and what to divide by (a *spread*):
#
# $$ y = \frac{x - c}{s} $$
#
# $x$ is a voxel's intensity, $y$ what the network gets. The *z-score* takes the mean for $c$ and the standard deviation for $s$; *min-max*
# takes the minimum, and the distance from there to the maximum. By hand, on four voxels:

# %% tags=["nbval-check-output"]
four = np.array([100.0, 200.0, 300.0, 400.0])
z_by_hand = (four - 250) / np.sqrt(((four - 250) ** 2).mean())
unit = (four - 100) / (400 - 100)
print("z-score", z_by_hand.round(2).tolist(), " min-max", unit.round(2).tolist())

# %% [markdown]
# **Your turn.** Write the z-score over the brain for a whole scan: each modality by itself, the background 0 again afterwards.
#
# <details><summary>Hint</summary>
#
# `channel[mask]` are the brain's values of one modality. Make an array of zeros first and fill in the brain only.
# </details>


# %% tags=["exercise"]
def zscore(image, mask):
    """(C, X, Y, Z) image and (X, Y, Z) mask to an image of the same shape."""
    # BEGIN SOLUTION: one mean and one standard deviation for each modality, over the mask
    # BLANK: out = np.zeros(image.shape, np.float32)
    # BLANK: for channel, result in zip(image, out, strict=True):
    # BLANK:     values = ...
    # BLANK: return ...
    out = np.zeros(image.shape, np.float32)
    for channel, result in zip(image, out, strict=True):
        values = channel[mask]
        result[mask] = (values - values.mean()) / values.std()
    return out
    # END SOLUTION


check.zscore(zscore)

# %% [markdown]
# ### A bright artefact
# A vessel full of contrast agent, the bright rim beside a metal clip, a few values that a program wrote wrongly: some voxels are many times brighter than any tissue.
# We put one into the scan, a ball of 4 mm radius in the depth of the healthy brain, eight times as bright as the brightest tissue.

# %%
from scipy.ndimage import distance_transform_edt

RADIUS_MM, TIMES = 4.0, 8.0


def distance_mm(centre):
    """Distance of every voxel of the example's grid from a voxel."""
    x, y, z = ((np.arange(n) - c) * s for n, c, s in zip(brain.shape, centre, spacing, strict=True))
    return np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2)


depth = distance_transform_edt(brain & (label == 0), sampling=spacing)
centre = np.unravel_index(depth.argmax(), depth.shape)
ball = distance_mm(centre) <= RADIUS_MM
spoiled = image.copy()
spoiled[:, ball] = TIMES * np.percentile(image[:, brain], 99.9, axis=1)[:, None]
print(f"the artefact: {ball.sum()} voxels, {ball.sum() / brain.sum():.3%} of the brain")

# %% [markdown]
# Six ways to normalise, each as a function of an image. *Clipping* to percentiles sets what lies below the lower one or above the upper one to that percentile. The
# last way divides by the distance between the 10th and the 90th percentile, which a few voxels cannot move.


# %%
def inside(image):
    return (image != 0).any(axis=0)


def r1_scale(image):
    return arrays.zscore(arrays.clip_percentiles(image, 2.5, 97.5, inside(image)), np.ones(image.shape[1:], bool))


WAYS = {
    "min-max (R3)": arrays.min_max,
    "z-score, everything": lambda image: arrays.zscore(image, np.ones(image.shape[1:], bool)),
    "clip, z-score, everything (R1)": r1_scale,
    "z-score, brain (R0, R4)": lambda image: arrays.zscore(image, inside(image)),
    "clip, z-score, brain (course)": lambda image: arrays.zscore(
        arrays.clip_percentiles(image, 0.5, 99.5, inside(image)), inside(image)
    ),
    "median, p10 to p90, brain": lambda image: arrays.median_scale(image, inside(image), (-5.0, 6.0)),
}

# %% [markdown]
# **Guess first:** how much of the difference between tumour and healthy brain is left in each after the artefact? All of it, half, a tenth?
#
# We measure the *contrast*: the median of FLAIR in the tumour minus the median in the healthy brain, in the units that the network gets.


# %%
def contrast(flair):
    return float(np.median(flair[label > 0]) - np.median(flair[brain & (label == 0)]))


clean = {name: way(image)[3].copy() for name, way in WAYS.items()}
dirty = {name: way(spoiled)[3].copy() for name, way in WAYS.items()}
kept = {name: contrast(dirty[name]) / contrast(clean[name]) for name in WAYS}
table = pd.DataFrame(
    {
        "contrast": {name: contrast(clean[name]) for name in WAYS},
        "with artefact": {name: contrast(dirty[name]) for name in WAYS},
        "kept": {name: f"{share:.0%}" for name, share in kept.items()},
    }
).round(3)
table

# %% [markdown]
# The same slice through the artefact. In each column both pictures are drawn with the same window, that of the clean scan: what got
# darker in the lower row got closer together for the network.

# %%
figure, rows = plt.subplots(2, len(WAYS), figsize=(8.4, 3.3))
for column, name in zip(rows.T, WAYS, strict=True):
    window = tuple(np.percentile(clean[name][brain], (1, 99)))
    low = min(window[0], 0.0)
    for axes, state, title in zip(column, (clean, dirty), (wrapped(name, 16), f"kept {kept[name]:.0%}"), strict=True):
        draw(axes, state[name], [], [], z=int(centre[2]), window=(low, window[1]), caption=title)
rows[0, 0].set_ylabel("clean", fontsize=8)
rows[1, 0].set_ylabel("with artefact", fontsize=8)
alt = ", ".join(f"{name} {share:.0%}" for name, share in kept.items())
figures.show(
    figure, f"One FLAIR slice normalised in six ways, without and with a bright artefact. Contrast kept: {alt}."
)

# %% [markdown]
# **Answer.** Whatever is decided by single voxels is lost to single voxels: the maximum first of all, the standard deviation somewhat, percentiles not at all.

# %%
note("min-max to 0-1", "R3", "tumour contrast kept with one bright artefact",
     f"{kept['min-max (R3)']:.0%}", f"{kept['clip, z-score, brain (course)']:.0%}")  # fmt: skip
quiz("over-what")

# %% [markdown]
# ### Is the same tissue the same number in every patient?
# That is what normalising is for. For each patient and each way we take the healthy brain's FLAIR values and draw the range of their
# middle 80%, with the median as a dot. If a way works, the bars line up.

# %%
spans = {name: [] for name in ["raw", *WAYS]}
for scan in track(scans, "normalising"):
    healthy = scan.brain & (scan.label == 0)
    for name in spans:
        one = scan.flair[None]
        spans[name].append(np.percentile((one if name == "raw" else WAYS[name](one))[0][healthy], (10, 50, 90)))
spans = {name: np.array(values) for name, values in spans.items()}
unevenness = {name: v[:, 1].std() / (v[:, 2] - v[:, 0]).mean() for name, v in spans.items()}

# %% [markdown]
# The number over each panel is the *unevenness*: how much the median differs between patients (its standard deviation), as a share of
# one patient's own range. 0 would be perfect.

# %%
figure, row = plt.subplots(1, len(spans), figsize=(8.6, 2.5))
for axes, (name, values) in zip(row, spans.items(), strict=True):
    number = np.arange(len(values))
    axes.vlines(number, values[:, 0], values[:, 2], color=palette.OKABE_ITO["blue"], linewidth=2)
    axes.plot(number, values[:, 1], "o", markersize=3, color=palette.OKABE_ITO["vermilion"])
    axes.set_title(f"{wrapped(name, 15)}\nuneven {unevenness[name]:.2f}", fontsize=7)
    axes.set_xticks([])
    axes.tick_params(labelsize=6)
figure.supxlabel("patients", fontsize=8)
row[0].set_ylabel("FLAIR, healthy brain", fontsize=8)
listed = ", ".join(f"{name} {value:.2f}" for name, value in unevenness.items())
figures.show(figure, f"Ranges of healthy brain in each patient for seven scales. Unevenness of the medians: {listed}.")

# %% [markdown]
# **Answer.** Raw numbers say little, and min-max lets each scan's brightest voxel decide. Of the two z-scores, the one over everything
# adds what the air contributes, which differs from head to head. A measure of the brain alone lines the bars up best.
#
# ## 3 Where to cut?
# **Question: most of a scan is air. How may one cut it off?** A crop around the brain needs the image only. A crop around the tumour
# (R1) needs the truth. It makes training comfortable: less memory, and classes that are less out of balance. At test time there is no truth.
#
# ### Which mask is the brain?
# R1 takes `> 0`. A skull-stripped scan may hold negative intensities (some of BraTS-Africa do), and brain voxels of exactly 0 in one sequence. How many brain voxels are
# not above 0 in FLAIR alone, and how many in any sequence?

# %%
lost_one = [float((scan.flair[scan.brain] <= 0).mean()) for scan in scans]
negative = sum(bool((scan.flair < 0).any()) for scan in scans)
print(
    f"FLAIR not above 0 inside the brain: {np.mean(lost_one):.3%} of its voxels on average, {max(lost_one):.3%} at worst"
)
print(f"scans with negative FLAIR values: {negative} of {len(scans)}; the course takes 'any sequence differs from 0'")

# %% [markdown]
# ### What does a predictor score that has never seen an image?
# Call everything in the box tumour. If a share $p$ of the box is tumour, then precision is $p$ (of what is predicted, so much is
# right), sensitivity is 1 (nothing is missed).
#
# **Your turn.** What is its Dice, as a function of $p$? Dice is twice the shared voxels over predicted plus true voxels.
#
# <details><summary>Hint</summary>
#
# Take a box of 100 voxels, $100p$ of them tumour. How many are shared, how many predicted, how many true?
# </details>


# %% tags=["exercise"]
def dice_of_everything(share):
    # BEGIN SOLUTION: shared voxels, predicted voxels and true voxels of a box of 1
    # BLANK: return ...
    return 2 * share / (share + 1)
    # END SOLUTION


check.dice_of_everything(dice_of_everything)

# %% [markdown]
# Now a slightly cleverer one that is still blind: an ellipsoid in the middle of the box, which ends some millimetres before its sides.
# The distance is the same for all patients, and the best one is searched for each kind of box.

# %%
MARGIN_MM = 20  # R1's


def blind_dice(mask, spacing, gaps=range(0, 61, 5)):
    """Dice of an ellipsoid in the middle of the box, for each gap in mm between it and the box's sides."""
    half = np.array(mask.shape) * spacing / 2
    axes = [(np.arange(n) + 0.5) * s - h for n, s, h in zip(mask.shape, spacing, half, strict=True)]
    scores = []
    for gap in gaps:
        radius = np.maximum(half - gap, spacing)
        x, y, z = (a**2 / r**2 for a, r in zip(axes, radius, strict=True))
        ellipsoid = x[:, None, None] + y[None, :, None] + z[None, None, :] <= 1
        scores.append(2 * (ellipsoid & mask).sum() / (ellipsoid.sum() + mask.sum()))
    return scores


# %% [markdown]
# **Guess first:** the mean Dice of that ellipsoid in the brain's box, and in R1's box.


# %%
def boxes(scan):
    tumour = scan.label > 0
    margin = round(MARGIN_MM / scan.spacing.min())
    whole = arrays.bounding_box(np.ones_like(tumour))
    return {
        "whole grid": whole,
        "brain's box": arrays.bounding_box(scan.brain),
        "truth's box + 20 mm (R1)": arrays.bounding_box(tumour, margin),
        "truth's box": arrays.bounding_box(tumour),
    }


rows = []
for scan in track(with_tumour, "cropping"):
    for name, box in boxes(scan).items():
        mask = box.crop(scan.label > 0)
        p = mask.mean()
        rows.append((name, mask.size / scan.label.size, p, 2 * p / (1 + p), blind_dice(mask, scan.spacing)))

# %% [markdown]
# One row a kind of box, means over the patients.

# %%
crops = pd.DataFrame(rows, columns=["box", "grid kept", "tumour in it", "Dice of everything", "gaps"])
blind = crops.groupby("box", sort=False)["gaps"].apply(lambda g: float(np.mean(g.tolist(), axis=0).max()))
means = crops.drop(columns="gaps").groupby("box", sort=False).mean().assign(**{"Dice, blind ellipsoid": blind})
means.map("{:.3f}".format)

# %% [markdown]
# The same as a picture: the blind ellipsoid in the brain's box and in R1's box, on the patient of this notebook.

# %%
figure, row = plt.subplots(1, 2, figsize=(6.4, 2.9), gridspec_kw={"width_ratios": [1, 1.35]})
box = boxes(pick)["truth's box + 20 mm (R1)"]
draw(
    row[0], box.crop(image)[3], *tissue_masks(box.crop(label)), caption="R1's crop: the tumour is always in the middle"
)
names = list(means.index)
row[1].barh(names[::-1], means["Dice, blind ellipsoid"][::-1], height=0.6, color=palette.OKABE_ITO["orange"], hatch="//",
            edgecolor="black", linewidth=0.5)  # fmt: skip
for place, value in enumerate(means["Dice, blind ellipsoid"][::-1]):
    row[1].text(value, place, f" {value:.2f}", va="center", fontsize=7)
row[1].set(xlim=(0, 1), xlabel="Dice of a predictor that never saw an image")
row[1].tick_params(labelsize=7)
row[1].xaxis.label.set_fontsize(7)
blind_text = ", ".join(f"{name} {value:.2f}" for name, value in blind.items())
figures.show(
    figure, f"Left, a slice of R1's crop with the tumour in its middle. Right, Dice of a blind ellipsoid: {blind_text}."
)

# %% [markdown]
# **Answer.** Cut at the brain: the air goes, and nothing is given away that a new patient's scan would not give too. A crop around the
# truth is a *leak*: information from the answer reached the question.

# %%
leaking, fair = (f"{blind[name]:.2f}" for name in ("truth's box + 20 mm (R1)", "brain's box"))
note("crop around the truth", "R1", "Dice without looking at the image", leaking, fair)
quiz("leak")

# %% [markdown]
# ## 4 Resampling or resizing?
# **Question: networks want one grid. May a scan simply be stretched to it?** *Resampling* asks for a voxel size in mm and takes as many voxels as
# that needs. *Resizing* asks for a number of voxels and takes whatever voxel size comes out: another one along each axis (R3), or in each patient (R1).
#
# To see it we draw a ball of 25 mm radius into the brain and cut it from front to back (sagittal; the face is on the left).

# %%
from monai.data import MetaTensor

far = distance_mm(np.array(brain.shape) // 2)
both = {"image": image[3:], "label": (far <= 25)[None].astype(np.uint8)}
state = {key: MetaTensor(torch.from_numpy(array), affine=item["image"].affine) for key, array in both.items()}
to_cube = mt.Resized(["image", "label"], side, mode=("trilinear", "nearest"))
to_mm = mt.Spacingd(["image", "label"], (1.5 * spacing.max(),) * 3, mode=("bilinear", "nearest"))
shown_states = {
    "as scanned": state,
    "resized to a cube (R3)": to_cube(dict(state)),
    "resampled": to_mm(dict(state)),
}

# %% [markdown]
# Each voxel is drawn as a square: what a network sees, which knows nothing of millimetres.

# %%
figure, row = plt.subplots(1, 3, figsize=(7.0, 2.7))
described = []
for axes, (name, after) in zip(row, shown_states.items(), strict=True):
    picture, mask = np.asarray(after["image"])[0], np.asarray(after["label"])[0] > 0
    x = int(mask.sum(axis=(1, 2)).argmax())
    axes.imshow(cut(picture, "sagittal", x), cmap=GREYS, interpolation="nearest")
    axes.contour(cut(mask, "sagittal", x), [0.5], colors=palette.OKABE_ITO["orange"], linewidths=1.5)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    wide, high = (np.ptp(np.flatnonzero(mask.any(axis=others))) + 1 for others in ((0, 2), (0, 1)))
    mm = " x ".join(f"{s:.2f}" for s in after["image"].pixdim)
    axes.set_title(f"{name}\nvoxels {mm} mm\nball {wide} wide, {high} high", fontsize=7)
    described.append(f"{name} {wide} wide and {high} high")
figures.show(figure, f"Sagittal slices with a ball, in voxels: {', '.join(described)}.")

# %% [markdown]
# ### And the tumour's volume?
# A program that counts voxels and was told the old voxel size gives a wrong volume after resizing. The right one follows from how many voxels the same
# head is now divided into.
#
# **Your turn.** Write the volume in mL of a mask on a resized grid, from the grid that the scan had before.
#
# <details><summary>Hint</summary>
#
# Along each axis the head's length in mm stays: voxels before times size before = voxels now times size now.
# </details>


# %% tags=["exercise"]
def resized_ml(mask, shape_before, spacing_before):
    # BEGIN SOLUTION: the voxel size now, then voxels times the volume of one, in mL
    # BLANK: spacing_now = ...
    # BLANK: return ...
    spacing_now = [s * n / m for s, n, m in zip(spacing_before, shape_before, mask.shape, strict=True)]
    return float(mask.sum() * np.prod(spacing_now) / 1000)
    # END SOLUTION


check.resized_ml(resized_ml)

# %% [markdown]
# Measured on all patients: the volume that a program reads which still believes in the old voxel size, after R3's resizing of the whole scan
# and after R1's crop and resizing. And the *round trip*: the mask goes to R3's grid and back. What is its Dice with itself? R1 scored on the
# resized grid, so this loss does not show in its scores.


# %%
def resize(mask, shape):
    tensor = torch.from_numpy(mask[None, None].astype(np.float32))
    return torch.nn.functional.interpolate(tensor, size=tuple(shape), mode="nearest-exact")[0, 0].numpy() > 0


volumes = []
for scan in track(with_tumour, "resizing"):
    tumour = scan.label > 0
    ml = np.prod(scan.spacing) / 1000
    cube, box = resize(tumour, side), boxes(scan)["truth's box + 20 mm (R1)"]
    back = resize(cube, tumour.shape)
    volumes.append((scan.id, tumour.sum() * ml, cube.sum() * ml, resize(box.crop(tumour), side).sum() * ml,
                    2 * (back & tumour).sum() / (back.sum() + tumour.sum())))  # fmt: skip
volumes = pd.DataFrame(volumes, columns=["case", "true mL", "R3 mL", "R1 mL", "round trip Dice"]).set_index("case")
factors = volumes[["R3 mL", "R1 mL"]].div(volumes["true mL"], axis=0)

# %% [markdown]
# On the line the volume is right. Where all scans have one grid, R3's points lie beside it by one factor. R1's factor differs from patient to patient, so nobody
# can undo it who has not kept the box.

# %%
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

figure, axes = plt.subplots(figsize=(5.0, 3.4))
ends = np.array([volumes["true mL"].min() * 0.7, volumes["true mL"].max() * 1.4])
axes.loglog(ends, ends, color="black", linewidth=0.8, linestyle="-", label="right")
for name, mark, colour in (("R3 mL", "s", "blue"), ("R1 mL", "^", "vermilion")):
    axes.loglog(volumes["true mL"], volumes[name], mark, color=palette.OKABE_ITO[colour], markersize=5,
                label=f"{name[:2]}: {factors[name].min():.2f} to {factors[name].max():.2f} times")  # fmt: skip
axes.set(xlabel="tumour volume, mL", ylabel="read after resizing, mL")
for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())
axes.legend(fontsize=7)
axes.tick_params(labelsize=7)
figures.show(figure, f"Volumes read after resizing against the true ones. R3: {factors['R3 mL'].mean():.2f} times on average; "
             f"R1: {factors['R1 mL'].min():.2f} to {factors['R1 mL'].max():.2f} times.")  # fmt: skip

# %% [markdown]
# **Answer.** Resample to a voxel size; keep the affine, which carries it; and score on the scan's own grid.

# %%
trip = volumes["round trip Dice"]
print(f"mask to R3's grid and back: Dice {trip.mean():.3f} on average, {trip.min():.3f} at worst, without any network")
note("resize to a cube", "R3", "Dice of the truth with itself, there and back", f"{trip.mean():.3f}", "1.000")
note("crop and resize", "R1", "volume read, times the true one",
     f"{factors['R1 mL'].min():.2f} to {factors['R1 mL'].max():.2f}", "1.00")  # fmt: skip

# %% [markdown]
# ## 5 Patches, and which of them hold tumour
# **Question: a whole scan does not fit the memory, so a network trains on patches. How many of them hold any tumour at all?** A smaller patch costs
# less and shows less. Drawn anywhere, most small ones hold air or healthy brain. *Foreground sampling* asks for tumour in a share of them.
#
# **Guess first:** the share of random patches of 32 mm that hold tumour. And of 128 mm?

# %%
from brainseg_utils.pipeline.course import draw_start

SIZES_MM = (32, 64, 96, 128)
DRAWS = 60


def share_with_tumour(scan, mm, where, rng, foreground=0.0):
    """Share of random patches that hold tumour, and the tumour's mean share of their voxels."""
    box = arrays.bounding_box(scan.brain if where == "brain" else np.ones_like(scan.brain))
    mask, size = box.crop(scan.label > 0), np.maximum(1, np.round(mm / scan.spacing)).astype(int)
    places, found = np.argwhere(mask), []
    for _ in range(DRAWS):
        point = places[rng.integers(len(places))] if rng.random() < foreground else None
        start = draw_start(rng, mask.shape, size, point)
        patch = mask[tuple(slice(max(a, 0), max(a, 0) + n) for a, n in zip(start, size, strict=True))]
        found.append((patch.any(), patch.sum() / np.prod(size)))
    return np.mean(found, axis=0)


# %% [markdown]
# Three rules: anywhere in the scan (R0), anywhere in the brain's box, and the course's: in the brain's box, and in half of the draws around a tumour voxel.

# %%
RULES = {"anywhere (R0)": ("scan", 0.0), "in the brain's box": ("brain", 0.0), "half around tumour": ("brain", 0.5)}
draws = {}
for name, (where, foreground) in RULES.items():
    rng = setup.rng("patches", name)
    for mm in SIZES_MM:
        found = [share_with_tumour(scan, mm, where, rng, foreground) for scan in with_tumour]
        draws[name, mm] = np.mean(found, axis=0)
patches = pd.DataFrame({name: {f"{mm} mm": draws[name, mm][0] for mm in SIZES_MM} for name in RULES})
patches.map("{:.0%}".format)

# %% [markdown]
# And how much of the voxels is tumour? That is the class imbalance which the loss meets (notebook 01).

# %%
figure, axes = plt.subplots(figsize=(5.0, 2.6))
for name in RULES:
    axes.plot(SIZES_MM, [100 * draws[name, mm][1] for mm in SIZES_MM], marker="o", markersize=4, label=name)
axes.set(xlabel="patch side, mm", ylabel="tumour, % of the voxels", xticks=SIZES_MM, ylim=(0, None))
axes.legend(fontsize=7)
figures.show(figure, "Tumour share of the voxels by patch size for three sampling rules; the rule that asks for tumour lies "
             "highest, most of all for small patches.")  # fmt: skip

# %% [markdown]
# **Answer.** Few of the small ones, when drawn anywhere: most of a scan is air or healthy brain. The course draws the tissue first and then one of its
# voxels, so that a small lesion or a rare tissue is met as often as a large one.

# %%
quiz("all-foreground")

# %% [markdown]
# ## 6 Augmentation: what happens to the image, and what to the label?
# **Question: which changes make another patient of a patient, and must the label change too?** *Augmentation* shows the network variants that
# could have been scanned: another position, another shape, another scanner. What moves tissue must move its label by exactly the same amount. What changes
# brightness must leave the label alone.
#
# We work on a slab of the normalised scan around the tumour. Every function has a strength from 0 to 1; the unit of 1 stands beside it.

# %%
scaled = WAYS["clip, z-score, brain (course)"](image)
box = arrays.bounding_box(brain)
middle = int((label > 0).sum(axis=(0, 1)).argmax())
reach = round(24 / spacing[2])
slab = (slice(None), *box.slices[:2], slice(max(0, middle - reach), middle + reach + 1))
base = torch.from_numpy(np.ascontiguousarray(scaled[slab]))
base_label = torch.from_numpy(np.ascontiguousarray(label[None][slab]))


def moved(degrees=(0, 0, 0), scale=1.0, bend_mm=0.0, rng=None):
    """Rotation, enlargement and elastic deformation of image and label by one grid, read once."""
    knots = [max(2, round(n * s / 24) + 1) for n, s in zip(base.shape[1:], spacing, strict=True)]
    bend = (
        None if rng is None else torch.as_tensor(rng.normal(0, bend_mm / spacing[0], (3, *knots)), dtype=torch.float32)
    )
    where = augment.sampling_grid(base.shape[1:], augment.rotation_matrix(degrees, scale), bend)
    return augment.warp(base, where), augment.warp(base_label, where, nearest=True)


# %% [markdown]
# Ten changes. The first four move tissue, the others change brightness. `rng` decides directions and patterns, the strength how much.


# %%
def channels_of(rng, spread):
    return np.exp(rng.uniform(-spread, spread, len(base)))


AUGMENTATIONS = {
    "mirror": ("left and right", lambda s, rng: (base.flip(1), base_label.flip(1))),
    "rotate": ("45 degrees", lambda s, rng: moved((0, 0, 45 * s * rng.choice([-1, 1])))),
    "enlarge": ("40%", lambda s, rng: moved(scale=1 + 0.4 * s)),
    "elastic": ("sd 10 mm", lambda s, rng: moved(bend_mm=10 * s, rng=rng)),
    "gamma": ("exponent 1/2 or 2", lambda s, rng: (
        augment.gamma(base, [2 ** (s * rng.choice([-1, 1]))] * len(base)), base_label)),
    "gain, offset": ("50%, 1 sd", lambda s, rng: (
        augment.gain_offset(base, channels_of(rng, 0.5 * s), rng.uniform(-s, s, len(base))), base_label)),
    "bias field": ("sd .5 of its logarithm", lambda s, rng: (
        augment.bias_field(base, torch.as_tensor(rng.normal(0, 0.5 * s, (len(base), 3, 3, 3)))), base_label)),
    "blur": ("sd 2 voxels", lambda s, rng: (augment.blur(base, 2 * s), base_label)),
    "noise": ("sd .7", lambda s, rng: (
        augment.noise(base, 0.7 * s, torch.Generator().manual_seed(int(rng.integers(2**31)))), base_label)),
    "drop FLAIR": ("all of it", lambda s, rng: (augment.drop(base, [3]), base_label)),
}  # fmt: skip

# %% [markdown]
# `render` turns three settings into pixels and knows nothing of sliders: the same settings give the same picture.

# %%
from brainseg_utils.views import png
from brainseg_utils.views.slices import render as render_slices
from brainseg_utils.views.state import Scene, ViewState, Window

LOW, HIGH = -2.5, 4.5  # sd; air is drawn black


def render(name, strength, number):
    """FLAIR before and after one augmentation, with the label's outline: (H, W, 3) uint8."""
    changed = AUGMENTATIONS[name][1](strength, np.random.default_rng(number))
    halves = []
    for title, (picture, mask) in {"before": (base, base_label), f"{name} {strength:.2f}": changed}.items():
        flair = picture[3:].numpy()
        scene = Scene(np.where(flair == 0, LOW, flair), ("t2f",), tuple(spacing.tolist()), mask[0].numpy(), None,
                      dict(enumerate(classes(scheme), 1)), title)  # fmt: skip
        view = ViewState(scene, window=Window(LOW, HIGH, "value"), crosshair=False, opacity=0.2, size=380)
        halves.append(render_slices(view))
    return np.hstack(halves)


# %% [markdown]
# The sliders around it. In a live notebook, move them: what does the outline do? Printed or on a page, the picture after this cell shows all ten.

# %%
import ipywidgets as w

controls = [
    w.Dropdown(options=list(AUGMENTATIONS), value="rotate", description="change"),
    w.FloatSlider(0.5, min=0, max=1, step=0.05, description="strength", continuous_update=False),
    w.IntSlider(0, min=0, max=20, description="seed", continuous_update=False),
]
view = w.Image(format="png")


def redraw(_=None):
    name, strength, number = (control.value for control in controls)
    view.value = png.encode(render(name, strength, number))
    controls[1].tooltip = f"1 means: {AUGMENTATIONS[name][0]}"


for control in controls:
    control.observe(redraw, "value")
redraw()
w.VBox([w.HBox(controls), view])

# %% [markdown]
# All ten at strength .7, the label outlined:

# %%
figure, rows = plt.subplots(2, 5, figsize=(8.2, 4.2))
effects = []
for axes, (name, (unit, change)) in zip(rows.flat, AUGMENTATIONS.items(), strict=True):
    picture, mask = change(0.7, setup.rng("augment", name))
    flair = picture[3].numpy()
    masks, names = tissue_masks(mask[0].numpy())
    draw(axes, np.where(flair == 0, LOW, flair), masks, names, window=(LOW, HIGH), caption=f"{name}\n(1 = {unit})")
    difference = (picture - base)[:, (base != 0).any(0)].abs().mean()
    voxels, before = int((mask > 0).sum()), int((base_label > 0).sum())
    effects.append(
        {
            "change": name,
            "image, mean change in sd": float(difference),
            "label voxels changed, of the tumour's": float((mask != base_label).sum() / before),
            "volume": voxels / before - 1,
        }
    )
figures.show(figure, "Ten augmentations of one FLAIR slice with the tumour outlined: mirror, rotate, enlarge and elastic move "
             "the outline with the tissue; the six others change brightness and leave it.")  # fmt: skip

# %% [markdown]
# The same in numbers: what changed in the image, in the label, and in the tumour's volume (inside the slab).

# %%
effects = pd.DataFrame(effects).set_index("change")
effects.assign(**{
    "image, mean change in sd": effects["image, mean change in sd"].map("{:.2f}".format),
    "label voxels changed, of the tumour's": effects.iloc[:, 1].map("{:.0%}".format),
    "volume": effects["volume"].map("{:+.1%}".format),
})  # fmt: skip

# %% [markdown]
# ### How a label is turned
# An image is turned with linear interpolation: a new voxel is a mean of its neighbours. **Guess first:** what happens if a mask is turned in the
# same way, and rounded? We keep one tissue only and turn it by 20 degrees, once with each kind of interpolation.

# %%
top = int(label.max())
only = torch.from_numpy(((base_label == top) * top).numpy().astype(np.float32))
turn = augment.sampling_grid(base.shape[1:], augment.rotation_matrix((0, 0, 20)))
linear = augment.warp(only, turn).round().int().numpy()
nearest = augment.warp(only, turn, nearest=True).int().numpy()
names = ("background", *classes(scheme))
for way, turned in (("linear", linear), ("nearest", nearest)):
    counts = {names[n]: int((turned == n).sum()) for n in range(1, top + 1)}
    print(f"{way}: {counts}; the mask held {names[top]} only")
invented = ((linear > 0) & (linear < top)).sum() / (linear > 0).sum()
note("linear interpolation of labels", "(none)", "voxels of tissues that were not there", f"{invented:.0%}", "0%")

# %% [markdown]
# **Answer.** Between the number of a tissue and 0 lie the numbers of other tissues, so a rim of them appears. Masks are turned with the nearest
# voxel's value, in the same grid as the image.

# %%
quiz("label-interpolation")

# %% [markdown]
# And which changes need the label at all?

# %%
quiz("label-too")

# %% [markdown]
# ## 7 Order matters
# **Question: R4 shifts, scales and adds noise first, and normalises afterwards. What does the network see of it?** Write a scaled and shifted image as $ax + b$. Its
# mean is $ac + b$ and its standard deviation $as$ (for $a > 0$), so its z-score is
#
# $$ \frac{(ax + b) - (ac + b)}{as} = \frac{x - c}{s} $$
#
# the same as before.
#
# **Your turn.** Each of these is done to the brain's voxels, and a z-score over the brain follows. Is anything of it left, `True` or `False`?
#
# <details><summary>Hint</summary>
#
# A z-score can undo what one mean and one standard deviation describe. Gamma raises each voxel to a power; a bias field is another factor in each place.
# </details>

# %% tags=["exercise"]
# BEGIN SOLUTION: True where something is left after the z-score
# BLANK: left = {"shift": ..., "scale": ..., "gamma": ..., "bias field": ..., "noise": ...}
left = {"shift": False, "scale": False, "gamma": True, "bias field": True, "noise": True}
# END SOLUTION
check.survives(left)

# %% [markdown]
# Now with R4's own transforms on FLAIR, as MONAI runs them on intensities as they are stored, each at its full strength. *Left* is the mean change inside the brain, in standard deviations, after the z-score over
# the non-zero voxels. The same transform after the z-score stands beside it. The last column tells over which share of the grid the z-score was
# taken.
#
# **Guess first:** which row is nearly 0?

# %%
over_non_zero = mt.NormalizeIntensity(nonzero=True, channel_wise=True)


def normalise(x):
    return np.asarray(over_non_zero(x.clone()))  # MONAI's writes into what it is given


CHANGES = {
    "scale by .1": mt.ScaleIntensity(minv=None, maxv=None, factor=0.1),
    "shift by .1, brain only": lambda x: x + 0.1 * torch.as_tensor(brain),
    "shift by .1": mt.ShiftIntensity(0.1),
    "Gaussian noise, sd .1": mt.RandGaussianNoise(prob=1.0, std=0.1, sample_std=False).set_random_state(seed),
    "bias field": mt.RandBiasField(degree=2, prob=1.0).set_random_state(seed),
}
plain, order = normalise(item["image"][3:]), {}
for name, change in CHANGES.items():
    changed = change(item["image"][3:].clone())
    gone = normalise(changed) - plain
    done = np.asarray(change(torch.from_numpy(plain.copy()))) - plain
    over = float((np.asarray(changed) != 0).mean())
    order[name] = (np.abs(gone[0][brain]).mean(), np.abs(done[0][brain]).mean(), over)

# %% [markdown]
# In standard deviations, and the share of the grid:

# %%
order = pd.DataFrame(order, index=["left, if before (R4)", "if after", "grid normalised over"]).T
order.map("{:.4f}".format)

# %% [markdown]
# Two lessons in one table. The scale, and the shift of the brain alone, are void: the z-score undoes them. A tenth is also nothing where tissue has hundreds of units, as noise and shift have
# to be measured in the unit of what they are added to. But MONAI's shift and noise are added to *all* voxels, the air too. After that
# nothing is 0 any more, "non-zero" means everything, and the z-score became the one over the background. Validation has no random stages, so there it is the one over the brain.

# %%
switched = 1 - (1 - 0.25) ** 2
values = order["left, if before (R4)"]
print(
    f"R4's scale: {values['scale by .1']:.5f} sd left; shift of the brain alone: {values['shift by .1, brain only']:.5f} sd"
)
print(f"R4's shift as it runs: {values['shift by .1']:.2f} sd, the work of the background, not of the .1")
print(
    f"with p .25 each, {switched:.0%} of the training samples are normalised in another way than the validation scans"
)
whole, proper = f"{order['grid normalised over']['shift by .1']:.0%}", f"{brain.mean():.0%}"
note("shift of all voxels before the z-score", "R4", "grid that the z-score is over", whole, proper)
note(
    "scale before the z-score",
    "R4",
    "change left, sd",
    f"{values['scale by .1']:.4f}",
    f"{order['if after']['scale by .1']:.4f}",
)

# %% [markdown]
# **Answer.** Normalise first; then a strength of .1 is a tenth of a standard deviation in every scan and every modality, and nothing undoes it.

# %%
quiz("order")

# %% [markdown]
# ## 8 On the fly or on disk?
# **Question: R1 wrote its augmented copies to disk, and its data grew from 250 GB to 470 GB. What would yours come to?** *On disk* means
# that every copy is a file. *On the fly* means that a copy is made when a batch asks for it, and forgotten.
#
# **Your turn.** The size of a cohort of uncompressed arrays in GB (thousand million bytes).
#
# <details><summary>Hint</summary>
#
# One case: modalities times voxels values. `width` is bytes a value: 8 for float64, 4 for float32, 2 for int16.
# </details>


# %% tags=["exercise"]
def gigabytes(cases, channels, shape, width):
    # BEGIN SOLUTION: values of the whole cohort, times their width, over a thousand million
    # BLANK: return ...
    return cases * channels * np.prod(shape, dtype=float) * width / 1e9
    # END SOLUTION


check.gigabytes(gigabytes)

# %% [markdown]
# R1 states 1,350 patients, 1,080 of them for training, four modalities on 182x218x182 voxels, and 250 GB. It does not state how a value was stored. What would fit?
# (`broadcast_to` makes an array that claims its size without taking the memory.)

# %% tags=["nbval-check-output"]
for patients_kept in (1350, 1080):
    for kind in (np.float32, np.float64):
        size = np.broadcast_to(kind(0), (patients_kept, 4, 182, 218, 182)).nbytes / 1e9
        print(f"{patients_kept} patients as {kind.__name__}: {size:.1f} GB")

# %% [markdown]
# One of them comes out at R1's figure: the training patients with eight bytes a value. NumPy computes in float64 unless told otherwise; scans are stored with two bytes a value,
# and compressed. That is our reading, R1 does not say. Now your cohort, and what it would be with R1's growth. The last column counts the different
# samples that a network meets of one scan: on the fly a new one in every epoch, on disk as many as there are files.

# %%
R1_BEFORE_GB, R1_AFTER_GB, EPOCHS = 250, 470, 100
files = {path for case in cases for path in (*case.paths.values(), case.label_path)}
on_disk = sum(path.stat().st_size for path in files) / 1e9
as_float = {kind: len(cases) * image.size * np.dtype(kind).itemsize / 1e9 for kind in ("int16", "float32", "float64")}
growth = R1_AFTER_GB / R1_BEFORE_GB
sizes = pd.DataFrame({
    "GB": {"compressed files, as they are": on_disk, **{f"arrays, {kind}": size for kind, size in as_float.items()},
           "R1's way: float64 and copies": as_float["float64"] * growth},
})  # fmt: skip
sizes["times the files"] = sizes["GB"] / on_disk
sizes["samples of a scan in 100 epochs"] = [EPOCHS] * 4 + [round(growth, 2)]
sizes.round(3)

# %% [markdown]
# **Answer.** On the fly costs no disk at all, and every epoch brings new variants. Copies on disk are fixed on the day they are
# written. What deserves a file is the part that is always the same: the next section.

# %%
note("augmentation on disk", "R1", "size, times the compressed files", f"{sizes['times the files'].iloc[-1]:.0f}", "1")
quiz("disk-or-fly")

# %% [markdown]
# ## 9 The cache: what never changes is computed once
# **Question: reading a patch means unpacking four whole files, normalising them, and throwing most of it away. Must that happen in every epoch?** The *cache* keeps each case after the last stage without
# chance, cropped to the brain, as 16-bit integers with one factor a modality. Files are *memory-mapped*: a patch is read from its place in the file,
# and the rest stays on disk.

# %%
from brainseg_utils.pipeline.cache import Cache
from brainseg_utils.pipeline.loaders import Patches, loader

few = cases[: 6 if setup.profile.quick else None]
cache = Cache(setup.output_dir / "cache", "course", size=side)
summary = cache.build(few, workers=1)
entries = cache.entries(few)
files = {path for case in few for path in (*case.paths.values(), case.label_path)}
stored = pd.DataFrame({"MB": {
    "files, compressed": sum(path.stat().st_size for path in files) / 1e6,
    "float32 arrays, whole grid": sum(4 * 4 * np.prod(entry.box.full) for entry in entries) / 1e6,
    "cache, int16, brain's box": summary.bytes / 1e6,
}})  # fmt: skip
print(f"{summary.cases} cases; largest rounding error {summary.error:.5f} sd")
stored.round(1)

# %% [markdown]
# What a network gets from it: a batch of patches, and labels of class numbers.

# %% tags=["nbval-check-output"]
batch = next(iter(loader(Patches(entries, side, seed=setup.seed), batch_size=2)))
print({key: tuple(batch[key].shape) for key in ("image", "label")}, batch["image"].dtype, batch["label"].dtype)

# %% [markdown]
# **Guess first:** how many times faster? On one side MONAI's plain `Dataset` with the same stages: load, clip, normalise, crop, patch, flip. On the other
# the same patch and flips from the cache. Neither augments further; one process and one thread each.

# %%
import monai.data

stages = [step.transform for step in registry.steps("course", size=side) if step.kind in ("fixed", "patch", "flip")]
ways = {
    "MONAI Dataset, no cache": (monai.data.Dataset(few, mt.Compose([load_case, *stages])), 6),
    "cache": (Patches(entries, side), 120),
}
speed, threads = {}, torch.get_num_threads()
torch.set_num_threads(1)  # as in a worker process of a loader
for name, (dataset, count) in ways.items():
    dataset[0]  # once for what only the first sample pays
    start = time.perf_counter()
    for number in range(count):
        dataset[number % len(dataset)]
    speed[name] = count / (time.perf_counter() - start)
torch.set_num_threads(threads)
ratio = speed["cache"] / speed["MONAI Dataset, no cache"]
for name, value in speed.items():
    print(f"{name}: {value:.1f} samples a second")
print(f"the cache is {ratio:.0f} times as fast on this machine, in this run")

# %% [markdown]
# **Answer.** A network on a GPU waits for its data more often than one thinks. Measure samples per second before you change the network.
#
# Also note what the cache of R4 would hold: its normalisation comes after the augmentation, so nothing behind the first random stage can be kept.
# Order costs time as well.

# %% [markdown]
# ## Bug lab 1: a scan that the network refuses (R4)
# R4 crops 5 voxels from the start and 6 from the end of each axis, and gives the rest to a U-Net that halves its grid four times and doubles it
# again. BraTS scans have 240x240x155 voxels.
#
# **Watch it fail.** The network is R4's with an eighth of the channels. The grid is a small one with the same remainders, so that it fits any laptop; its last axis is even smaller.

# %%
from monai.networks.nets import UNet

R4_SHAPE = tuple(n - 5 - 6 for n in (240, 240, 155))
network = UNet(3, in_channels=4, out_channels=3, channels=(2, 4, 8, 16, 32), strides=(2,) * 4, num_res_units=2).eval()
small = tuple(16 + n % 16 for n in R4_SHAPE)


def attempt(shape):
    with torch.no_grad():
        try:
            return f"runs, output {tuple(network(torch.zeros(1, 4, *shape)).shape[2:])}"
        except RuntimeError as error:
            return f"refuses: {str(error).splitlines()[0][:150]}"


print(f"R4's grid {R4_SHAPE}; remainders by 16: {[n % 16 for n in R4_SHAPE]}; tried on {small}")
print(attempt(small))

# %% [markdown]
# **Find it.** Each convolution with stride 2 halves an axis and rounds up; each transposed one doubles it. On the way up the network joins
# two arrays, one from the way down and one from below. Do they have the same size?

# %% tags=["nbval-check-output"]
for size in (229, 144, 240):
    down = [size]
    for _ in range(4):
        down.append(-(-down[-1] // 2))
    pairs = [(2 * deep, kept) for deep, kept in zip(down[:0:-1], down[-2::-1], strict=True)]
    wrong = [f"{up} meets {skip}" for up, skip in pairs if up != skip]
    print(f"{size}: down {down}; {wrong[0] if wrong else 'every pair fits'}")

# %% [markdown]
# **Mend it.** Write the shape to pad to: along each axis the smallest multiple that is not below the size.
#
# <details><summary>Hint</summary>
#
# Round up: `-(-n // multiple)` is how many multiples are needed.
# </details>


# %% tags=["exercise"]
def padded_shape(shape, multiple):
    # BEGIN SOLUTION: round each axis up
    # BLANK: return ...
    return tuple(-(-n // multiple) * multiple for n in shape)
    # END SOLUTION


check.padded_shape(padded_shape)

# %% [markdown]
# **See the gain.** The runnable recipe has one stage more, `pad to a multiple of 16`. Here it is, on the small grid and on your own scan's, with the share of voxels that it adds.

# %%
mended = mt.DivisiblePad(16)(torch.zeros(1, *small)).shape[1:]
print(f"padded to {tuple(mended)}: {attempt(mended)}")
stated, runnable = (registry.preprocessing("r4", multiple=m, spacing=float(spacing.min())) for m in (None, 16))
shapes = [tuple(pipeline(dict(item))["image"].shape[1:]) for pipeline in (stated, runnable)]
fits = [all(n % 16 == 0 for n in shape) for shape in shapes]
print(f"your scan: stated {shapes[0]}, fits: {fits[0]}; padded {shapes[1]}, fits: {fits[1]}; "
      f"{np.prod(shapes[1]) / np.prod(shapes[0]) - 1:+.0%} voxels")  # fmt: skip
note("border crop", "R4", "grids that the network takes", f"{int(fits[0])} of 1", f"{int(fits[1])} of 1")

# %% [markdown]
# ## Bug lab 2: two normalisations in one (R1 and R3)
# R1 takes mean and standard deviation over the whole array, R3 takes minimum and maximum. Both ran without an error, and both trained. That is the hard kind of bug.
#
# **Watch it fail.** Two things that say nothing about the tissue: some more air around the head, and the bright artefact of section 2. How far does the
# healthy brain's median move, in units of its own spread?

# %%
healthy = brain & (label == 0)
AIR = 20  # voxels added on each side


def movement(way):
    """How far the healthy brain's FLAIR median moves with more air and with an artefact, in its own p10 to p90 spread."""
    before = way(image)[3][healthy]
    wider = way(np.pad(image, ((0, 0),) + ((AIR, AIR),) * 3))[3][AIR:-AIR, AIR:-AIR, AIR:-AIR][healthy]
    after = way(spoiled)[3][healthy]
    spread = np.subtract(*np.percentile(before, (90, 10)))
    return [float(abs(np.median(other) - np.median(before)) / spread) for other in (wider, after)]


broken = {
    name: movement(WAYS[name]) for name in ("min-max (R3)", "z-score, everything", "clip, z-score, everything (R1)")
}
pd.DataFrame(broken, index=["more air", "bright artefact"]).T.map("{:.2f}".format)

# %% [markdown]
# **Find it.** Which of the two does R1's clipping cure, and which not? Which one does R3 not suffer from, and why? (Its minimum is the air's 0.)
#
# **Mend it.** Write a normalisation that neither moves: the tissue's standard deviation near 1, the air 0.
#
# <details><summary>Hint</summary>
#
# Both measures must come from the brain only, and no single voxel may decide them: clip to percentiles of the brain first, or divide by a distance of percentiles.
# </details>


# %% tags=["exercise"]
def robust_scale(image):
    """(C, X, Y, Z) image with air of exactly 0 to an image of the same shape."""
    brain = (image != 0).any(axis=0)
    out = np.zeros(image.shape, np.float32)
    # BEGIN SOLUTION: for each channel, centre and spread of the clipped values inside the brain
    # BLANK: for channel, result in zip(image, out, strict=True):
    # BLANK:     values = ...
    # BLANK: return ...
    for channel, result in zip(image, out, strict=True):
        values = channel[brain]
        values = np.clip(values, *np.percentile(values, (2, 98)))
        result[brain] = (values - values.mean()) / values.std()
    return out
    # END SOLUTION


mended_well = check.robust_scale(robust_scale)
mended_well

# %% [markdown]
# **See the gain.** The course's two ways beside the broken ones, and yours if the check passed.

# %%
good = {name: movement(WAYS[name]) for name in ("clip, z-score, brain (course)", "median, p10 to p90, brain")}
if mended_well:
    good["yours"] = movement(robust_scale)
moved_table = pd.DataFrame({**broken, **good}, index=["more air", "bright artefact"])
course_way = moved_table["clip, z-score, brain (course)"]
note("z-score over everything", "R1", "tissue moved by more air, of its spread",
     f"{broken['clip, z-score, everything (R1)'][0]:.2f}", f"{course_way['more air']:.2f}")  # fmt: skip
note("min-max", "R3", "tissue moved by an artefact, of its spread",
     f"{broken['min-max (R3)'][1]:.2f}", f"{course_way['bright artefact']:.2f}")  # fmt: skip
moved_table.T.map("{:.2f}".format)

# %% [markdown]
# ## What the mistakes cost here
# Everything that was measured above, on the data of this run.

# %%
pd.DataFrame(results).set_index("stage")

# %% [markdown]
# ## When it goes wrong
# | you see | look at |
# |---|---|
# | the loss is NaN in the first batch | a channel that is constant in the brain: its standard deviation is 0; the minimum and maximum after each stage (the numbers under the pictures) |
# | good in training, bad on a new scanner | the ranges of section 2 for both scanners; is the same tissue the same number? |
# | test scores far above the literature | does any stage read the label, or statistics of the test cases? Run the pipeline on an item without its label: it must run |
# | volumes are wrong by a factor | voxel size after the last stage; was the mask brought back to the scan's own grid? |
# | labels that no data set has | how masks are interpolated, here and in every library on the way |
# | `Sizes of tensors must match` | each axis by 2 to the power of the number of halvings |
# | an image changed although nobody meant to | transforms that write into what they are given, as MONAI's `NormalizeIntensity` does: give them a clone |
# | the GPU idles | samples per second of the loader alone, without the network |
# | memory runs out in the loader | whole scans in float64; how many workers hold one at the same time |
#
# ## Words of this notebook
# **normalise**: bring intensities onto one scale. **z-score**: minus the mean, over the standard deviation. **percentile**: the value below which that per cent
# of the values lie. **skull-stripped**: everything outside the brain set to 0. **bounding box**: the smallest box that holds a mask. **leak**: information from the answer that reached the question.
# **spacing**: voxel size in mm. **affine**: the matrix from voxel indices to millimetres. **resample**: to another voxel size. **resize**: to another number of voxels. **patch**: a box cut out
# of a scan. **foreground sampling**: asking for tumour in a share of the patches. **augmentation**: variants that could have been scanned. **bias field**: smooth shading,
# mostly from the scanner's coils. **memory-mapped**: a file read in place, part by part.
#
# ## Read on
# - Isensee F. et al., nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation, Nature Methods 2021, doi 10.1038/s41592-020-01008-z: how to choose spacing, normalisation and patch size by rule.
# - Pérez-García F. et al., TorchIO, Computer Methods and Programs in Biomedicine 2021, doi 10.1016/j.cmpb.2021.106236: augmentations as physics.
# - Nyúl L. G., Udupa J. K., On standardizing the MR image intensity scale, Magnetic Resonance in Medicine 1999, doi 10.1002/(SICI)1522-2594(199912)42:6<1072::AID-MRM11>3.0.CO;2-M.
# - Tustison N. J. et al., N4ITK: improved N3 bias correction, IEEE Transactions on Medical Imaging 2010, doi 10.1109/TMI.2010.2046908.
# - Bakas S. et al., Advancing the Cancer Genome Atlas glioma MRI collections with expert segmentation labels and radiomic features, Scientific Data 2017, doi 10.1038/sdata.2017.117: how BraTS scans were prepared.
# - Cardoso M. J. et al., MONAI, arXiv 2211.02701: the dictionary transforms used here.
#
# ## What to take along
# 1. Normalise over the brain, with measures that no single voxel decides, before any intensity augmentation.
# 2. Crop by what is known at test time.
# 3. Keep millimetres: resample, carry the affine, score on the scan's own grid.
# 4. What moves tissue moves its label, nearest neighbour, same grid.
# 5. Compute once what never changes, make on the fly what is random, and measure samples per second.
#
# Next, notebook 03 trains on this: two networks on LGG slices.
