# %% [markdown]
# # 07 Metrics and error analysis
#
# **You will be able to**
# - say what Dice, IoU, sensitivity, HD95, NSD and lesion-wise Dice measure, and name a mistake that each of them does not see,
# - score lesions one by one as the BraTS challenge does, by hand and by function,
# - find out what kind of mistakes a model makes, where, on which side of the outline and in which lesions,
# - check whether a probability means what it says, and whether a model is in doubt where it is wrong,
# - tune a post-processing without fooling yourself, and compare two models with paired intervals,
# - find four mistakes in published numbers from the numbers alone.
#
# **Time:** {{time quick}} (quick), {{time full}} (full) · **Needs:** notebook 00; nothing is downloaded · **Rebuilds:** the scores and the error
# analysis of R1, the result table of R3
#
# Reports R1 and R3 are two of the student reports that this course rebuilds. R1 scored two networks on BraTS 2024 and closed its error analysis
# with the word "inconclusive". R3 gave an accuracy of 96.55% in its headline. Both had trained; both were let down by how they measured.

# %% [markdown]
# ## What is scored here
# `data_dir` is a folder of scans with masks (left empty, the course makes phantoms). `prediction_dir` is a folder of predicted masks for them, matched by
# case id as `brainseg evaluate` does it. Left empty, the notebook makes predictions from the truth, **by mistakes it states**: then every
# result can be checked against its cause. With your own model's folder the same cells run, and the causes are yours to find.

# %% tags=["parameters"]
profile = "quick"
data_dir = ""
prediction_dir = ""
output_dir = ""
seed = 0

# %% [markdown]
# The next cell starts the notebook.

# %%
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from brainseg_utils import course
from brainseg_utils.datasets import nifti, splits
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.evaluation import calibration, components, errors, perturb, sandbox, statistics, tuning, voxel
from brainseg_utils.evaluation.cohort import COLUMNS, score_job
from brainseg_utils.evaluation.matching import match
from brainseg_utils.evaluation.protocols import get_protocol, score_case
from brainseg_utils.evaluation.surface import bounding_box
from brainseg_utils.inference.volumes import VolumePredictor
from brainseg_utils.views import figures, metric_sliders, palette, slices
from brainseg_utils.views.state import Scene, ViewState, Window

setup = course.begin("07", profile=profile, data_dir=data_dir, output_dir=output_dir, seed=seed)
check, quiz = setup.check, setup.quiz
figures.use_style()

# %% [markdown]
# The cases, their truths, and the *protocol*: the scoring rules of the challenge that the data belongs to. Masks are kept, images are read when a
# picture needs one.

# %%
CASES = 12 if setup.profile.quick else 60
cases = {case.id: case for case in find_cases(setup.data_dir) if case.label_path is not None}
cases = {name: cases[name] for name in sorted(cases)[:CASES]}
scheme = next(iter(cases.values())).scheme
rules = get_protocol({"brats2024": "brats2024", "brats2024-ped": "brats2023-ped"}.get(scheme.name, "brats2023"))
volumes = {name: case.label() for name, case in cases.items()}
truths = {name: volume.data for name, volume in volumes.items()}
print(f"{len(cases)} cases, labels {scheme.describe()}; protocol {rules.name}, regions {', '.join(rules.regions)}")

# %% [markdown]
# ### Mistakes with a known cause
# Two stand-ins for trained models. The **first** draws every outline 1.5 mm off, at random, and makes one further mistake a case, in turn:
#
# - *generous*: the whole outline one voxel too far out,
# - *dead core called enhancing*: every voxel of NETC becomes ET,
# - *specks*: five false balls (radius 2.5 mm) of ET elsewhere in the brain,
# - *missed*: the smallest separate part is not found, and of the rest the enhancing tumour is called dead core.
#
# The **second** draws outlines 1 mm off, and in every third case one voxel too tight. Which one is better? Keep a guess until the last part.

# %%
CAUSES = ("generous", "dead core called enhancing", "specks", "missed")
ET, NETC = scheme.value("ET"), scheme.value("NETC")


def rough(label, spacing, mm, name):
    """Outlines off by `mm` on average; only the part around the tumour is bent, which is quicker."""
    box = bounding_box(label > 0, margin=8)
    out = label.copy()
    if box:
        out[box] = perturb.deform(label[box], spacing, mm, scale_mm=6, rng=setup.rng("outline", name, str(mm)))
    return out


def resized(label, spacing, mm):
    """The outline moved by `mm`, in the part around the tumour."""
    box = bounding_box(label > 0, margin=4)
    out = label.copy()
    if box:
        out[box] = perturb.grow(label[box], spacing, mm)
    return out


# %% [markdown]
# The two recipes. Nothing else is ever done to the truth.


# %%
def first_model(name, number):
    label, spacing = rough(truths[name], volumes[name].spacing, 1.5, name), volumes[name].spacing
    cause = CAUSES[number % len(CAUSES)]
    if cause == "generous":
        return resized(label, spacing, max(spacing))
    if cause == "dead core called enhancing":
        return perturb.relabel(label, NETC, ET)
    if cause == "specks":
        brain = cases[name].images(("t1c",)).data[0] != 0
        return perturb.add_specks(label, spacing, brain, count=5, value=ET, rng=setup.rng("specks", name))
    return perturb.relabel(perturb.miss_smallest(label), ET, NETC)


def second_model(name, number):
    label, spacing = rough(truths[name], volumes[name].spacing, 1.0, name), volumes[name].spacing
    return resized(label, spacing, -max(spacing)) if number % 3 == 0 else label


# %% [markdown]
# They are written as files and read back, so that stand-ins and your own predictions take the same way. With a `prediction_dir`, the "first model" is
# yours, and the "second" is yours without pieces below 100 mm³: does that clean-up help?

# %%
folders = {"first": prediction_dir or setup.output_dir / "first", "second": setup.output_dir / "second"}


def read_predictions(folder):
    """The tidy table of scores, and the predicted labels by case on the truth's RAS grid."""
    jobs = {job.case: job for job in match(setup.data_dir, Path(folder), rules).jobs if job.case in cases}
    rows, found = [], {}
    for name, job in jobs.items():
        outcome = score_job(job, rules)
        if outcome.fault:
            print(outcome.fault)  # named, left out, and the others go on
        elif job.prediction:
            file = nifti.read(job.prediction[0])
            data = nifti.to_ras(file.data, file.affine)[0].reshape(truths[name].shape)
            found[name] = np.where(np.isin(data, list(scheme.tissues)), data, 0).astype(np.uint8)
        rows += [(name, *score) for score in outcome.scores]
    return pd.DataFrame(rows, columns=list(COLUMNS)), found


def write_predictions(folder, make):
    """One file a case, in the axis order of the truth's file."""
    for number, name in enumerate(cases):
        affine = nifti.read(cases[name].label_path).affine
        nifti.write(folder / f"{name}.nii.gz", nifti.from_ras(make(name, number), affine), affine)


# %% [markdown]
# Scores are one row a case, region and metric: the table that `brainseg evaluate TRUTH PREDICTION` writes. A case without a prediction stays in it with the worst scores: leaving it
# out would make a model better that crashes on hard cases.

# %%
if not prediction_dir:
    write_predictions(folders["first"], first_model)
tables, predictions = {}, {}
tables["first"], predictions["first"] = read_predictions(folders["first"])


def cleaned(name, number):
    """The first model's mask without small pieces: the second model if the predictions are your own."""
    label = predictions["first"].get(name, np.zeros_like(truths[name]))
    return np.where(tuning.remove_small(label > 0, volumes[name].spacing, 100.0), label, 0).astype(np.uint8)


write_predictions(folders["second"], cleaned if prediction_dir else second_model)
tables["second"], predictions["second"] = read_predictions(folders["second"])
both = [name for name in cases if all(name in found for found in predictions.values())]
causes = {name: "" if prediction_dir else CAUSES[number % len(CAUSES)] for number, name in enumerate(cases)}
print({model: f"{len(found)} of {len(cases)} cases predicted" for model, found in predictions.items()})

# %% [markdown]
# The first model's scores, one row a case and region, for a first look:

# %%
wide = tables["first"].pivot(index=["case", "region"], columns="metric", values="value")
wide.xs("WT", level="region")[["dice", "iou", "hd95", "nsd_area_1mm", "sensitivity", "lesion_dice"]].head(4).round(3)

# %% [markdown]
# ## Where this notebook ends
# On the left the worst case of the first model: what it missed (yellow), what it invented (blue), what it gave the wrong name (white dots). On the right all cases: each point is a
# case and region, its Dice against its lesion-wise Dice. At the end you can say of every point that lies off the diagonal why it does.


# %%
def error_slice(name, model="first", size=250):
    """The case's FLAIR with its errors, in the slice with most predicted pieces, and of those with most errors."""
    flair, found = cases[name].images(("t2f",)), predictions[model][name]
    wrong, pieces = errors.error_map(truths[name], found) > 1, components.components(found > 0)
    crop = bounding_box(flair.data[0] != 0, margin=2)
    number = [(len(np.unique(pieces[:, :, z])), wrong[:, :, z].sum()) for z in range(found.shape[2])]
    z = max(range(len(number)), key=number.__getitem__) - crop[2].start
    labels = truths[name][crop], found[crop]
    scene = Scene(flair.data[:, *crop], ("t2f",), flair.spacing, *labels, scheme.tissues)
    view = ViewState(scene, (0, 0, z), labels="errors", window=Window(1, 99.9), crosshair=False, opacity=0.6, size=size)
    return slices.render(view)


# %% [markdown]
# The worst case is the one with the lowest lesion-wise Dice of the tumour core.

# %%
worst = errors.worst_cases(tables["first"][tables["first"]["case"].isin(both)], "lesion_dice", "TC", 1)["case"][0]
figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.7))
left.imshow(error_slice(worst))
left.set_axis_off()
left.set_title(f"{worst}", fontsize=9)
for region, marker in zip(("WT", "TC", "ET"), "osD", strict=True):
    part = wide.xs(region, level="region")
    right.plot(part["dice"], part["lesion_dice"], marker, color=palette.style(region).colour, label=region, alpha=0.8)
right.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="-")
right.set(xlabel="Dice", ylabel="lesion-wise Dice", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
right.legend()
figures.show(figure, "Left: one slice with missed, extra and wrongly named voxels. Right: Dice against lesion-wise Dice for every case and "
             "region; points off the diagonal have lesions that are missed, invented or too small to count.")  # fmt: skip

# %% [markdown]
# ## 1 What do the metrics measure?
# A prediction and a truth share some voxels and not others. Four counts say it all, as long as place does not matter: *true positives* TP (in both), *false
# positives* FP (predicted only), *false negatives* FN (missed), *true negatives* TN (in neither).
#
# $$\text{Dice}=\frac{2\,TP}{2\,TP+FP+FN}\qquad \text{IoU}=\frac{TP}{TP+FP+FN}\qquad \text{sensitivity}=\frac{TP}{TP+FN}\qquad
# \text{precision}=\frac{TP}{TP+FP}$$
#
# On two rows of ten voxels, small enough to count:

# %% tags=["nbval-check-output"]
truth_row = np.array([0, 1, 1, 1, 1, 1, 0, 0, 0, 0], bool)
guess_row = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0], bool)
counts = voxel.count(truth_row, guess_row)
print(counts)
print(f"Dice 6/9 = {counts.dice:.3f}, IoU 3/6 = {counts.iou:.3f}, sensitivity 3/5 = {counts.sensitivity:.3f}")

# %% [markdown]
# Two metrics ask *how far* instead of *how many*. Walk along the outline of one mask and note, at each point, the distance to the other outline.
#
# - **HD95** (mm): the distance that 95% of the outline stays below; both ways, the worse counts. The maximum itself (*Hausdorff distance*, HD) hangs on a single voxel.
# - **NSD** (*normalised surface Dice*): the share of both outlines that lies within a tolerance of the other one, here 1 mm.
#
# And one asks *how many lesions*: **lesion-wise Dice** gives every lesion its own Dice, adds a zero for each one missed or invented, and averages
# (section 4).
#
# ## 2 Metrics as sliders
# A lesion of about 40 mL or what comes nearest to it, with a second, small one beside it, which is made up. **Guess first**:
#
# 1. Move the mask by 4 mm: which falls faster, Dice or NSD?
# 2. Grow it by 4 mm: which score does not notice?
# 3. Cut a gap through its middle: will lesion-wise Dice call it two lesions?
# 4. Blur it until the small lesion is gone: what does Dice say?

# %%
sizes = {name: scheme.region(truths[name], "WT").sum() * volumes[name].voxel_ml for name in cases}
played = min(sizes, key=lambda name: abs(sizes[name] - 40))
flair = cases[played].images(("t2f",))
box = sandbox.Sandbox.of(flair.data[0], scheme.region(truths[played], "WT"), flair.spacing)
metric_sliders.MetricSliders(box, sandbox.Change(blur=2, split=4, grow=1, move=2))

# %% [markdown]
# The same without a kernel: each slider alone. Above, the mask at the right end of the curve (yellow is missed, blue extra); below, the scores on the way there (HD95 on its own axis).


# %%
STEPS = {"move": (0, 13, 2), "grow": (-8, 9, 2), "split": (0, 17, 2), "blur": (0, 9, 1)}
STYLES = {"dice": "-", "iou": "--", "sensitivity": ":", "nsd": "-.", "lesion_dice": (0, (6, 2))}
sweeps, bare = {}, replace(box, image=np.zeros_like(box.image))  # without the scan, to see the mask
figure, axes = plt.subplots(2, 4, figsize=(8.6, 4.6), height_ratios=(1, 1.3))
for (name, limits), above, below in zip(STEPS.items(), axes[0], axes[1], strict=True):
    steps = np.arange(*limits, dtype=float)
    masks = [sandbox.changed(box, sandbox.Change(**{name: step})) for step in steps]
    sweeps[name] = pd.DataFrame([sandbox.measure(box, mask)._asdict() for mask in masks], index=steps)
    above.imshow(metric_sliders.render_slice(bare, masks[-1], 200)[:-26])
    above.set_axis_off()
    above.set_title(f"{name} {steps[-1]:g} mm", fontsize=10)
    for metric, line in STYLES.items():
        below.plot(steps, sweeps[name][metric], linestyle=line, label=metric_sliders.NAMES[metric])
    below.set(xlabel=f"{name} (mm)", ylim=(-0.03, 1.05))
    millimetres = below.twinx()
    millimetres.plot(steps, sweeps[name]["hd95"].clip(upper=40), color="black", marker=".", linewidth=0.8, label="HD95")
    millimetres.set(ylim=(-1, 41), ylabel="HD95 (mm)" if name == "blur" else "")
handles = [*below.get_legend_handles_labels()[0], millimetres.lines[0]]
axes[1, 0].set_ylabel("score")
figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8)
figures.show(figure, "Four columns: the mask moved, grown, split and blurred, with curves of Dice, IoU, sensitivity, NSD, lesion-wise "
             "Dice and HD95 against the slider's value.")  # fmt: skip

# %% [markdown]
# Your guesses against the curves:

# %%
moved, grown, cut, soft = (sweeps[n].loc[v] for n, v in (("move", 4.0), ("grow", 4.0), ("split", 8.0), ("blur", 8.0)))
print(f"1. moved by 4 mm:   Dice {moved.dice:.2f}, NSD {moved.nsd:.2f}")
print(f"2. grown by 4 mm:   sensitivity {grown.sensitivity:.2f}, Dice {grown.dice:.2f}")
print(
    f"3. a gap of 8 mm:   {cut.found:.0f} lesions found, {cut.missed:.0f} missed; lesion-wise Dice {cut.lesion_dice:.2f}"
)
print(f"4. blurred by 8 mm: {soft.missed:.0f} missed; Dice {soft.dice:.2f}, lesion-wise Dice {soft.lesion_dice:.2f}")

# %% [markdown]
# A picture of the whole widget takes well below a tenth of a second in the kernel (`benchmarks/metric_sliders.py` measures it), so the sliders follow the hand.
#
# IoU's curve is always below that of Dice, and of the same shape: for one pair of masks they are the same thing in two units,
#
# $$\text{IoU}=\frac{\text{Dice}}{2-\text{Dice}}.$$
#
# For a *mean* over cases this does not hold exactly. What does hold?
#
# ### Exercise 1: which mean Dice goes with a mean IoU?
# A report gives a mean IoU over its cases, and no Dice. Write a function that returns the lowest and the highest mean Dice that is possible.
# The lowest comes about when every case is either perfect (1) or lost (0), the highest when all cases are equal.
# <details><summary>Hint</summary> A case with IoU 1 has Dice 1, a case with 0 has 0: then what is the mean Dice? If all cases have the mean IoU, solve the
# formula above for Dice.</details>


# %% tags=["exercise"]
def dice_range(iou: float) -> tuple[float, float]:
    # BEGIN SOLUTION: the lowest and the highest mean Dice
    # BLANK: return ..., ...
    return iou, 2 * iou / (1 + iou)
    # END SOLUTION


check.dice_range(dice_range)

# %% [markdown]
# You will need it in the bug lab. Which of the metrics knows about size?

# %%
quiz("small-lesion-dice")

# %% [markdown]
# ## 3 When does each of them lie?
# Every metric is blind to something. Here are nine predictions of a ball of 20 mm radius (once of 4 mm) in a volume of 1 mm voxels. **Before you run it**: cover
# the table with your hand; for each line, name one score that will look good although it should not.


# %%
def ball(radius, x=0, clump=0, far=55):
    """A ball of 1 mm voxels in the middle of a volume, moved by x; and a clump of radius `clump`, `far` mm away."""
    grid = np.ogrid[-45:75, -40:40, -40:40]
    mask = (grid[0] - x) ** 2 + grid[1] ** 2 + grid[2] ** 2 <= radius**2
    if clump:
        mask = mask | ((grid[0] - far) ** 2 + grid[1] ** 2 + grid[2] ** 2 <= clump**2)
    return mask


def all_scores(truth, prediction):
    """The scores of the whole tumour by the rules of 2023."""
    labels = [2 * mask.astype(np.uint8) for mask in (truth, prediction)]
    return {s.metric: s.value for s in score_case(*labels, (1, 1, 1), "brats2023") if s.region == "WT"}


# %% [markdown]
# The nine pairs of truth and prediction, and their scores:

# %%
nothing = np.zeros_like(ball(1))
PAIRS = {
    "large ball, moved 2 mm": (ball(20), ball(20, 2)),
    "small ball, moved 2 mm": (ball(4), ball(4, 2)),
    "moved 6 mm": (ball(20), ball(20, 6)),
    "moved 12 mm": (ball(20), ball(20, 12)),
    "one voxel too many, far away": (ball(20), ball(20, clump=0.5)),
    "a false clump, radius 4 mm": (ball(20), ball(20, clump=4)),
    "a false clump, radius 5 mm": (ball(20), ball(20, clump=5)),
    "everything called tumour": (ball(20), ~nothing),
    "nothing called tumour": (ball(20), nothing),
}
SHOWN = {
    "dice": "Dice", "hd95": "HD95 (mm)", "nsd_area_1mm": "NSD 1 mm", "sensitivity": "sensitivity",
    "precision": "precision", "accuracy": "accuracy", "lesion_dice": "lesion-wise Dice",
}  # fmt: skip
lies = pd.DataFrame({name: all_scores(*pair) for name, pair in PAIRS.items()}).T
lies[list(SHOWN)].rename(columns=SHOWN).round(3)

# %% [markdown]
# - **Dice** punishes the same 2 mm much more on a small lesion: its level says as much about lesion size as about quality. It does not see *where* voxels are wrong.
# - **HD95** ignores what holds less than 5% of the outline, and then jumps: between the two clumps lies one millimetre of radius. A missed lesion may leave it at 0.
# - **NSD** counts what lies within 1 mm and does not ask how far off the rest is: the false clump would cost the same 5 mm or 50 mm away.
# - **Sensitivity** is perfect when everything is called tumour; **precision** is its counterpart.
# - **Accuracy** (R3's headline) is high for a prediction of nothing. It counts air.
# - **Lesion-wise Dice** halves for a single stray voxel that costs Dice nothing.
#
# So no score alone: one for volume, one for the outline in mm, one for lesions, and a look at the worst cases.

# %%
quiz("hd95-jump")

# %% [markdown]
# ### Empty masks
# A patient may have no enhancing tumour. What is the Dice of nothing against nothing? The formula says 0/0; somebody has to decide. The challenge did:

# %%
nearly = np.zeros_like(nothing)
nearly[60, 40, 40] = True
EMPTY = {
    "both empty": (nothing, nothing),
    "truth empty, one voxel predicted": (nothing, nearly),
    "one voxel of truth missed": (nearly, nothing),
}
empties = pd.DataFrame({name: all_scores(*pair) for name, pair in EMPTY.items()}).T
empties[list(SHOWN)].rename(columns=SHOWN).round(3)

# %% [markdown]
# Nothing is left out, no NaN appears, and a distance that does not exist is replaced by a penalty (374 mm in 2023, about the diagonal of the volume). Some
# libraries skip such cases instead. (The 1 in the last line: a lesion below 50 mm³ does not count lesion-wise, section 4.) What is that worth to a model that invents tumours? Take the ET of the cohort's cases and let a prediction claim one
# false voxel wherever there is none:

# %%
present = pd.Series({name: bool((truth == ET).any()) for name, truth in truths.items()})
of_et = tables["second"].query("region == 'ET' and metric == 'dice'")
honest = of_et.set_index("case")["value"].reindex(present.index).fillna(0)
inventive = honest.where(present, 0.0)
print(f"{(~present).sum()} of {len(present)} cases have no ET")
print(
    f"as the challenge scores it: second model {honest.mean():.3f}, if it invented ET in those {inventive.mean():.3f}"
)
print(
    f"cases without ET left out:  second model {honest[present].mean():.3f}, if it invented {inventive[present].mean():.3f}"
)

# %% [markdown]
# Left out, an invented tumour costs nothing (if every case of your cohort has ET, the four numbers show it too: nothing to leave out, nothing to gain).

# %%
quiz("nan-skipped")

# %% [markdown]
# ## 4 Lesion by lesion, as the challenge does it
# Patients have several lesions, and a missed small one may matter more than the outline of the large one. BraTS 2023 scores them like this. The example has one slice
# for drawing, thick enough to count as a volume: four blobs of truth (A to D), four of prediction.

# %%
BLOBS_TRUTH = {"A": (4, 6, 16, 18), "B": (18, 6, 26, 12), "C": (38, 8, 46, 16), "D": (40, 32, 42, 34)}
BLOBS_PREDICTION = {"p": (5, 6, 15, 20), "q": (18, 7, 25, 14), "r": (8, 34, 14, 40), "s": (39, 31, 43, 35)}


def painted(blobs):
    """A mask (50, 46, 4) at 1 mm with the given boxes x0, y0, x1, y1."""
    mask = np.zeros((50, 46, 12), bool)
    for x0, y0, x1, y1 in blobs.values():
        mask[x0:x1, y0:y1, 4:8] = True
    return mask


example, guess = painted(BLOBS_TRUTH), painted(BLOBS_PREDICTION)
print("volumes of the truth's blobs in mm³:", {n: 4 * (b[2] - b[0]) * (b[3] - b[1]) for n, b in BLOBS_TRUTH.items()})

# %% [markdown]
# **Step 1: group the truth.** Dilate it by 3 voxels and number the connected pieces: parts nearer than about 6 voxels become one lesion. The lesion itself is
# the undilated part; the dilated piece is its *reach*.
# **Step 2: number the prediction's pieces** as they are.
# **Step 3: match.** A piece belongs to every lesion whose reach it touches. **Guess** from the rule which of p, q, r, s will match what.

# %%
RULE = get_protocol("brats2023").lesion_rules["WT"]
reach = components.components(components.dilate(example, RULE.dilations))
lesions = reach * example
pieces = components.components(guess)
matches = {n: [int(k) for k in np.unique(pieces[reach == n]) if k] for n in range(1, reach.max() + 1)}
invented = sorted(set(range(1, pieces.max() + 1)) - {k for found in matches.values() for k in found})
print("lesion: matching pieces", matches, "| pieces that match none:", invented)

# %% [markdown]
# The steps as pictures. Dotted: the reach.


# %%
def numbers_on(axes, numbered, letter):
    for n in range(1, numbered.max() + 1):
        x, y, _ = (axis.mean() for axis in np.nonzero(numbered == n))
        axes.text(x, y, f"{letter}{n}", ha="center", va="center", fontsize=10, weight="bold")


def filled(axes, mask, colour, hatch):
    axes.contourf(mask[:, :, 5].T.astype(float), levels=[0.5, 1.5], colors=[colour], hatches=[hatch], alpha=0.6)


figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.2))
titles = "1 truth, grouped by reach", "2 the prediction's pieces", "3 pieces in reach"
for ax, title in zip(axes, titles, strict=True):
    ax.set(title=title, xlim=(0, 49), ylim=(0, 45), aspect="equal", xlabel="x (mm)")
    ax.grid(False)
for ax in (axes[0], axes[2]):
    filled(ax, example, palette.OKABE_ITO["orange"], "")
    ax.contour((reach > 0)[:, :, 5].T.astype(float), levels=[0.5], colors="black", linestyles="dotted")
for ax in (axes[1], axes[2]):
    filled(ax, guess, palette.OKABE_ITO["sky blue"], "\\\\")
numbers_on(axes[0], lesions, "L")
numbers_on(axes[1], pieces, "P")
axes[0].set_ylabel("y (mm)")
figures.show(figure, "Three drawings: truth blobs grouped into three lesions by dotted reaches, four predicted pieces, and both laid over "
             "each other; one piece lies outside every reach and one lesion has no piece.")  # fmt: skip

# %% [markdown]
# **Step 4: score each lesion** against the union of all pieces that match it, each one whole. No match: Dice 0, HD95 374 mm.
# **Step 5: leave out** lesions of 50 mm³ or less: they count neither as found nor as missed, and pieces that match them are not false.

# %%
steps = []
for n, found in matches.items():
    lesion, union = lesions == n, np.isin(pieces, found) & bool(found)
    steps.append(
        {
            "lesion": f"L{n}",
            "volume (mm³)": int(lesion.sum()),
            "counts": bool(lesion.sum() > RULE.threshold),
            "pieces": ", ".join(f"P{k}" for k in found) or "none",
            "Dice": round(voxel.count(lesion, union).dice, 3),
        }
    )
steps = pd.DataFrame(steps)
steps

# %% [markdown]
# ### Exercise 2: the last step
# **Step 6: average.** Write the lesion-wise Dice from the lesions' Dice, whether each of them counts, and the number of invented pieces.
# <details><summary>Hint</summary> Sum the Dice of the lesions that count. Divide by how many of them there are plus how many pieces were invented. If there is nothing to divide
# by, there was nothing to find and nothing was claimed.</details>


# %% tags=["exercise"]
def lesion_dice(dices: list[float], counts: list[bool], invented: int) -> float:
    # BEGIN SOLUTION: the sum over the lesions that count, over their number and the invented pieces
    kept = [dice for dice, counted in zip(dices, counts, strict=True) if counted]
    total = len(kept) + invented
    return sum(kept) / total if total else 1.0
    # END SOLUTION


done = check.lesion_dice(lesion_dice)
done

# %% [markdown]
# Your number beside the package's, and beside the plain Dice:

# %%
official = all_scores(example, guess)
mine = lesion_dice(list(steps["Dice"]), list(steps["counts"]), len(invented)) if done else None
print(f"yours: {mine if mine is None else round(mine, 3)}, the package's: {official['lesion_dice']:.3f}, "
      f"plain Dice: {official['dice']:.3f}; found {official['lesion_tp']:.0f}, "
      f"missed {official['lesion_fn']:.0f}, invented {official['lesion_fp']:.0f}")  # fmt: skip

# %% [markdown]
# BraTS 2024 changes some of it: other dilations and thresholds per tissue, the prediction is grouped like the truth and loses its tiny groups, lesions of neighbouring tissues are
# joined, and a miss costs 337 mm. `brainseg evaluate --protocol brats2024` does that. An invented group that is too small to count then costs Dice everything (0 for a region that is not
# there) and lesion-wise Dice nothing: such a point lies above the diagonal.
#
# Now the cohort. Why do points lie off the diagonal of the first picture? These are the cases with the largest gap:

# %%
gap = (wide["dice"] - wide["lesion_dice"]).rename("gap")
far_off = wide.assign(gap=gap).sort_values("gap", ascending=False).head(5).reset_index()
far_off["known cause"] = far_off["case"].map(causes)
columns = ["case", "region", "known cause", "dice", "lesion_dice", "lesion_tp", "lesion_fp", "lesion_fn"]
far_off[columns].round(3)

# %% [markdown]
# One rule is easily overlooked:

# %%
quiz("lesion-union")

# %% [markdown]
# ## 5 What kind of mistakes, where, and in which lesions?
# A mean says how much is wrong. These questions ask what. R1 asked the same ones and got no answer; see why, then ask them so that there is one.
#
# ### What is taken for what?
# R1 counted the *share of misclassified voxels* of the whole volume:

# %%
share = np.mean([(truths[name] != predictions["first"][name]).mean() for name in both])
empty_share = np.mean([(truths[name] != 0).mean() for name in both])
print(f"misclassified voxels of the volume: {share:.2%}; for a prediction of nothing it would be {empty_share:.2%}")

# %% [markdown]
# Air and healthy brain swallow the mistakes. Take each tissue for itself: what became of its voxels? Rows are the truth, columns the prediction, every row adds up to 1.

# %%
per_case = {name: errors.misclassified(truths[name], predictions["first"][name], scheme) for name in both}
mean_of = {t: [name for name in both if (truths[name] == v).any()] for v, t in scheme.tissues.items()}
confusion = pd.DataFrame(
    {t: np.mean([per_case[n].loc[t] for n in names], axis=0) for t, names in mean_of.items() if names}
).T
confusion.columns = per_case[both[0]].columns
confusion.round(3)

# %% [markdown]
# In the stand-ins, enhancing tumour and dead core are taken for each other, much more than either is missed. In all cases, or in some? One line a case:

# %%
swapped = pd.DataFrame({
    "NETC called ET": {n: per_case[n].loc["NETC", "ET"] for n in both},
    "ET called NETC": {n: per_case[n].loc["ET", "NETC"] for n in both},
    "known cause": {n: causes[n] for n in both},
})  # fmt: skip
swapped.sort_values("NETC called ET", ascending=False).head(8).round(3)

# %% [markdown]
# A mean over the cohort mixes cases in which it happens with cases in which it does not. If the stand-ins are yours, the last column names those that were made so.
#
# ### Where in the head?
# BraTS scans lie on one *atlas*: the same voxel is the same place in every head. So the errors of all cases can be laid over one another. Left: where
# tumours are; middle: where errors are. **Guess** how the two will differ before you look.

# %%
reference = volumes[both[0]]
heat = errors.HeatMap(reference.data.shape, reference.affine)
place = errors.HeatMap(reference.data.shape, reference.affine)
for name in both:
    heat.add(errors.error_map(truths[name], predictions["first"][name]), volumes[name].affine)
    place.add(np.where(scheme.region(truths[name], "WT"), errors.MISSED, 0).astype(np.uint8), volumes[name].affine)
tumours, wrong = place.share(errors.MISSED), heat.share()
rate = np.divide(wrong, np.maximum(tumours, wrong), out=np.zeros_like(wrong), where=(tumours + wrong) > 0)

# %% [markdown]
# Each map is a view from above: the mean over the slices.

# %%
background = np.mean([cases[n].images(("t1n",)).data[0] for n in both[:4]
                      if volumes[n].data.shape == reference.data.shape], axis=0)  # fmt: skip
middle = slices.cut(background, "axial", int((background > 0).any(axis=(0, 1)).nonzero()[0].mean()))
extent = (0, middle.shape[1] * reference.spacing[0], 0, middle.shape[0] * reference.spacing[1])
figure, axes = plt.subplots(1, 3, figsize=(8.6, 3.5))
titles = ("tumour, % of cases", "error, % of cases", "errors, % of tumour or error voxels")
weights = (tumours > 0) | (wrong > 0)
together = rate.sum(axis=2) / np.maximum(weights.sum(axis=2), 1)
together[tumours.mean(axis=2) < 0.1 * tumours.mean(axis=2).max()] = 0  # too few tumours to say anything
for ax, title, flat in zip(axes, titles, (tumours.mean(axis=2), wrong.mean(axis=2), together), strict=True):
    picture = 100 * flat.T[::-1, ::-1]
    ax.imshow(middle, cmap="gray", extent=extent)
    drawn = ax.imshow(
        np.ma.masked_less_equal(picture, 0), cmap="viridis", extent=extent, alpha=0.85, interpolation="nearest"
    )
    figure.colorbar(drawn, ax=ax, shrink=0.7)
    ax.set(title=title, xlabel="mm (patient's right is left)", xticks=[], yticks=[])
    ax.title.set_fontsize(9)
    ax.grid(False)
figures.show(figure, "Three maps of the cohort seen from above on a mean brain: where tumours are, where errors are, and errors as a "
             "share of tumour or error voxels. The first two look alike.")  # fmt: skip

# %% [markdown]
# The middle map mostly repeats the left one: where there are more tumours, there are more errors. That is why R1's heat map could not say anything. The
# right one divides by what was there. And a number for it, by half of the brain:


# %%
def by_half(axis, names):
    """Errors over tumour voxels in the two halves of the atlas along an axis."""
    half = reference.data.shape[axis] // 2
    for side, part in zip(names, (slice(None, half), slice(half, None)), strict=True):
        here = [slice(None)] * 3
        here[axis] = part
        lesion, error = tumours[tuple(here)].sum(), wrong[tuple(here)].sum()
        yield {
            "half": side,
            "errors (share of all)": error / wrong.sum(),
            "errors per tumour voxel": error / max(lesion, 1e-9),
        }


halves = [*by_half(0, ("left", "right")), *by_half(1, ("back", "front")), *by_half(2, ("lower", "upper"))]
pd.DataFrame(halves).set_index("half").round(2)

# %% [markdown]
# What may one conclude from a bright spot?

# %%
quiz("heat-map")

# %% [markdown]
# ### Too wide or too tight?
# R1's "boundary distance" was a count: take the outline of both masks and count the voxels that belong to one outline only (exclusive or). Watch what it can tell.
# Three balls: grown by 2 mm, shrunk by 2 mm, moved by 2 mm.


# %%
def xor_count(truth, prediction):
    """R1's boundary distance: outline voxels that the other outline does not have."""
    shells = [mask ^ perturb.grow(mask.astype(np.uint8), (1, 1, 1), -1).astype(bool) for mask in (truth, prediction)]
    return int((shells[0] ^ shells[1]).sum())


for name, other in {"grown": ball(22), "shrunk": ball(18), "moved": ball(20, 2)}.items():
    signed = errors.signed_distances(ball(20), other, (1, 1, 1))
    print(f"{name:7} R1's count {xor_count(ball(20), other):6}; "
          f"signed distance: median {np.median(signed):+.1f} mm, quarter to three quarters {np.quantile(signed, 0.25):+.1f} to {np.quantile(signed, 0.75):+.1f} mm")  # fmt: skip

# %% [markdown]
# The count is in voxels, grows with the tumour, and does not know the direction. The *signed distance* does: for each point of the predicted outline, how far it lies
# from the true one, positive outside, negative inside. A median off 0 is a *bias* (mend it, for instance with another threshold); a spread around 0 is *noise*.

# %%
signed = {}
for model, found in predictions.items():
    for name in both:
        masks = (scheme.region(labels, "WT") for labels in (truths[name], found[name]))
        signed[model, name] = errors.signed_distances(*masks, volumes[name].spacing)
groups = {"first, generous": [n for n in both if causes[n] == "generous"],
          "first, others" if not prediction_dir else "first": [n for n in both if causes[n] != "generous"]}  # fmt: skip
chosen = {label: np.concatenate([signed["first", n] for n in names]) for label, names in groups.items() if names}
chosen["second"] = np.concatenate([signed["second", n] for n in both])
figure, ax = plt.subplots(figsize=(7.5, 3))
step = max(reference.spacing)  # a voxel a class: distances on a grid come in steps
edges = np.arange(-10 - step / 2, 10 + step, step)
for label, values in chosen.items():
    shares = errors.boundary_profile(values, edges)
    ax.plot(
        (shares["low"] + shares["high"]) / 2,
        100 * shares["share"],
        label=f"{label}: median {np.median(values):+.1f} mm",
    )
ax.axvline(0, color="grey", linewidth=1, linestyle="-")
ax.set(xlabel="signed distance (mm): inside the truth < 0 < outside", ylabel="% of the predicted outline")
ax.legend()
figures.show(figure, "Shares of the predicted outline by signed distance to the true one: the generous cases lie to the right of zero, the "
             "others around it.")  # fmt: skip

# %% [markdown]
# The last class on each side holds all that is further away: not an outline that slipped but pieces that do not belong.
#
# ### Large or small lesions?

# %%
lesion_rows = pd.concat(
    errors.lesion_table(truths[n], found[n], volumes[n].spacing, rules, n, scheme).assign(model=model)
    for model, found in predictions.items() for n in both
)  # fmt: skip
kept = lesion_rows[lesion_rows["kept"]]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), sharey=True)
for ax, (model, part) in zip(axes, kept.groupby("model"), strict=True):
    for region, marker in zip(("WT", "TC", "ET"), "osD", strict=True):
        here = part[part["region"] == region]
        ax.semilogx(
            here["volume"] / 1000, here["dice"], marker, color=palette.style(region).colour, label=region, alpha=0.8
        )
    ax.set(title=f"{model} model", xlabel="volume of the lesion (mL)", ylim=(-0.05, 1.05))
axes[0].set_ylabel("Dice of the lesion")
axes[0].legend()
figures.show(figure, "Dice of each lesion against its volume for both models, by region; missed lesions lie at zero, small lesions lie "
             "lower than large ones.")  # fmt: skip

# %% [markdown]
# By size class: the share found, and the Dice of those found. Read the number of lesions first; a share of three lesions is no share.

# %%
EDGES_MM3 = (0, 1_000, 10_000, np.inf)
table = pd.concat(errors.strata(part, EDGES_MM3).assign(model=model) for model, part in kept.groupby("model"))
table["volume (mL)"] = [f"{a / 1000:g} to {b / 1000:g}" for a, b in zip(table["low"], table["high"], strict=True)]
table[table["region"].isin(["WT", "ET"])].sort_values(["region", "low"]).pivot_table(
    index=["region", "volume (mL)"], columns="model", values=["lesions", "found", "dice_found"], sort=False
).round(2)

# %% [markdown]
# ### Which cases?
# The most useful minute of any evaluation: look at the worst ones. Before you read the causes below the pictures, say what you see: yellow with rising lines
# is missed, blue with falling lines is extra, white dots are another tissue's.

# %%
rows = tables["first"][tables["first"]["case"].isin(both)]
listed = errors.worst_cases(rows, "dice", "TC", 3)
pictures = [error_slice(name, size=160) for name in listed["case"]]
tallest = max(len(picture) for picture in pictures)
gallery = np.hstack([np.pad(p, ((0, tallest - len(p)), (0, 4), (0, 0)), constant_values=18) for p in pictures])
figures.show(gallery, "The three cases with the lowest Dice of the tumour core, each in one slice with missed, extra and wrongly named "
             "voxels.")  # fmt: skip

# %% [markdown]
# From left to right:

# %%
listed.assign(**{"known cause": listed["case"].map(causes)})[
    ["case", "region", "metric", "value", "known cause"]
].round(3)

# %% [markdown]
# ## 6 Does a model know when it is wrong?
# A network gives *probabilities*. Is 0.8 right in 8 of 10 voxels? Then it is *calibrated*. The stand-ins have no probabilities, so they are made, in a stated way, from the first
# model's outline: $p=\Phi(d/s)$, with $d$ the distance to the predicted outline in mm (positive inside), $\Phi$ the normal distribution and $s$ how unsure the
# model is of its outline. Three models in one: $s$ = 0.5 mm (sure of itself), 2 mm, 6 mm (timid). **Guess**: the outlines are about 1.5 mm off; which one is calibrated?

# %%
from scipy import ndimage, special

SURE_MM = {"sure, 0.5 mm": 0.5, "2 mm": 2.0, "timid, 6 mm": 6.0}
MARGIN_MM = 16


def outline_distance(mask, spacing):
    """Distance to the outline in mm, positive inside; far outside everywhere if there is no outline."""
    if not mask.any():
        return np.full(mask.shape, -99.0)
    inside, outside = (ndimage.distance_transform_edt(m, sampling=spacing) for m in (mask, ~mask))
    return np.where(mask, inside - min(spacing) / 2, min(spacing) / 2 - outside)


def around(name, region, model="first"):
    """Truth and distance to the predicted outline of a region, in a box around all that was predicted."""
    found = predictions[model][name]
    part = bounding_box(found > 0, int(MARGIN_MM / min(volumes[name].spacing)))
    if part is None:
        return None
    masks = (scheme.region(labels[part], region) for labels in (truths[name], found))
    return next(masks), outline_distance(next(masks), volumes[name].spacing)


# %% [markdown]
# The distances of all cases, and the three maps made from them.

# %%
near = {name: pair for name in both if (pair := around(name, "WT"))}
shares_of_volume = [truth_part.size / truths[name].size for name, (truth_part, _) in near.items()]
true_voxels = np.concatenate([t.ravel() for t, _ in near.values()])
distances = np.concatenate([d.ravel() for _, d in near.values()])
maps = {name: special.ndtr(distances / s) for name, s in SURE_MM.items()}
curves = {name: calibration.reliability(p, true_voxels) for name, p in maps.items()}

# %% [markdown]
# The *reliability diagram* puts what was said against what was true. The *expected calibration error* (ECE) is the mean gap between the two, over the voxels of a box around
# the tumour, and over the whole volume.

# %%
figure, ax = plt.subplots(figsize=(4.6, 4.2))
for (name, curve), marker in zip(curves.items(), "osD", strict=True):
    ax.plot(curve["confidence"], curve["frequency"], marker=marker, label=name)
ax.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="-")
ax.set(xlabel="predicted probability", ylabel="share of voxels that are tumour", aspect="equal")
ax.legend(title="unsure by")
figures.show(figure, "Reliability diagram of three maps: the sure one is too flat, the timid one too steep, the one of 2 mm lies nearest to "
             "the diagonal.")  # fmt: skip
ece = pd.DataFrame({"ECE around the tumour": {name: calibration.calibration_error(c) for name, c in curves.items()}})
ece["ECE of the whole volume"] = ece["ECE around the tumour"] * np.mean(shares_of_volume)  # outside, 0 is said and true
ece.round(4)

# %% [markdown]
# With outlines that are 1.5 mm off, the sure one is wrong more often than it says, the timid one less often. All three have the same mask at a threshold of 0.5, and so the same Dice: calibration is another
# property. And over the whole volume everything looks calibrated.

# %%
quiz("ece-volume")

# %% [markdown]
# ### In doubt where it is wrong?
# *Uncertainty* can be read off a probability (*entropy*: 1 bit at p = 0.5, 0 where the model is sure), or off several predictions of one scan, turned and bent a little
# (*test-time augmentation*): where they disagree, the model hangs on details. Here: the first model's mask, bent six times by 1.5 mm. Does either point to the errors?

# %%
looked = list(near)[:6]
doubt, mistaken = {"entropy": [], "augmentation": []}, []
for name in looked:
    truth_part, d = near[name]
    doubt["entropy"].append(calibration.entropy(special.ndtr(d / 2.0)).ravel())
    rng = setup.rng("augmentation", name)
    bent = [perturb.deform((d > 0).astype(np.uint8), volumes[name].spacing, 1.5, 6, rng) for _ in range(6)]
    doubt["augmentation"].append(calibration.disagreement(np.stack(bent)).ravel())
    mistaken.append(((d > 0) != truth_part).ravel())
doubt = {kind: np.concatenate(values) for kind, values in doubt.items()}
mistaken = np.concatenate(mistaken)
figure, ax = plt.subplots(figsize=(6, 3.4))
for kind, values in doubt.items():
    curve = calibration.rejection_curve(values, mistaken)
    quality = calibration.ranking_quality(values, mistaken)
    ax.plot(100 * (1 - curve["kept"]), 100 * curve["error"], label=f"{kind} (area under ROC {quality:.2f})")
ax.plot(100 * (1 - curve["kept"]), 100 * curve["ideal"], label="the best order there is")
ax.plot(100 * (1 - curve["kept"]), 100 * curve["random"], label="no information")
ax.set(xlabel="most doubtful voxels handed to a human (%)", ylabel="wrong voxels among the rest (%)", ylim=(0, None))
ax.legend()
figures.show(figure, "Wrong voxels among the rest against the share handed to a human: both kinds of uncertainty fall fast at first and "
             "then level off above the ideal curve.")  # fmt: skip

# %% [markdown]
# Handing over a little removes most errors: those at outlines, where the model hesitates. Are there errors without doubt? Look at ET, case by case: the share of the
# wrong voxels at which the entropy is below 0.1 bit.

# %%
blind = []
for name in both:
    if pair := around(name, "ET"):
        truth_part, d = pair
        wrong_here, sure = (d > 0) != truth_part, calibration.entropy(special.ndtr(d / 2.0)) < 0.1
        blind.append((name, causes[name], wrong_here.sum(), (wrong_here & sure).sum() / max(wrong_here.sum(), 1)))
blind = pd.DataFrame(blind, columns=["case", "known cause", "wrong voxels (ET)", "of these without doubt"])
blind.sort_values("of these without doubt", ascending=False).reset_index(drop=True).round(2)

# %% [markdown]
# Where a whole tissue was not seen, or was taken for another one, the model is wrong deep inside and sure of it: uncertainty shows hesitation, not ignorance.
#
# ## 7 Post-processing, tuned on validation cases only
# From a probability to a mask: a threshold, and perhaps pieces below some volume removed. Which values? Half of the cases, by patient, is for choosing (*validation*), the
# other half for reporting (*test*). The map is one of ET, again made in a stated way: the second model's outline with $s$ = 2 mm, pulled in by 0.5 mm (a model that says too little),
# and four false balls of 2 to 5 mm radius a case, with a probability between 0.3 and 0.9. **Guess**: removing small pieces helps; what can it destroy?


# %%
def noisy_probability(name):
    """The probability map described above, in the box around the tumour."""
    d = enhancing[name][1]
    rng, p = setup.rng("balls", name), special.ndtr((d - 0.5) / 2.0)
    free = np.argwhere(d < -8)
    for centre in free[rng.integers(0, len(free), 4)] if len(free) else []:
        steps = [
            (g - c) * s
            for g, c, s in zip(np.ogrid[tuple(map(slice, d.shape))], centre, volumes[name].spacing, strict=True)
        ]
        inside = steps[0] ** 2 + steps[1] ** 2 + steps[2] ** 2 <= rng.uniform(2, 5) ** 2
        p[inside] = np.maximum(p[inside], rng.uniform(0.3, 0.9))
    return p


# %% [markdown]
# Every setting is scored on every case once; the split by patient then says which rows may be looked at.

# %%
enhancing = {name: pair for name in both if (pair := around(name, "ET", "second"))}
settings = tuning.grid(thresholds=np.arange(1, 10) / 10, smallest=(0, 50, 100, 200, 400))
sweep = tuning.sweep(
    (tuning.ValidationCase(n, noisy_probability(n), enhancing[n][0], volumes[n].spacing) for n in enhancing), settings
)
split = splits.split([cases[n] for n in enhancing], {"val": 0.5, "test": 0.5}, seed=setup.seed)
on_validation, on_test = (sweep[sweep["case"].isin(split[part])] for part in ("val", "test"))
figure, ax = plt.subplots(figsize=(6.4, 3.2))
for (smallest, part), marker in zip(on_validation.groupby("smallest"), "osD^v", strict=True):
    ax.plot(part.groupby("threshold")["dice"].mean(), marker=marker, label=f"{smallest:g} mm³")
ax.set(xlabel="threshold", ylabel="mean Dice, validation cases")
figure.legend(title="pieces removed below", loc="outside right upper")
figures.show(figure, "Mean Dice of the validation cases against the threshold, one line for each smallest volume; small pieces "
             "removed help.")  # fmt: skip

# %% [markdown]
# `choose` takes the best on validation. It refuses a table with test cases in it:

# %%
from brainseg_utils.errors import SettingError

best = tuning.choose(on_validation, split["test"])
print(f"chosen on validation: threshold {best.threshold:g}, pieces below {best.smallest:g} mm³ removed")
try:
    tuning.choose(sweep, split["test"])
except SettingError as error:
    print(error)

# %% [markdown]
# What it gains on the test cases, and what one would have reported after choosing on the test cases themselves:


# %%
def mean_dice(table, setting):
    same = (table["threshold"] == setting.threshold) & (table["smallest"] == setting.smallest)
    return table[same]["dice"].mean()


greedy = tuning.choose(on_test, [])
plain = tuning.PostProcessing()
choices = {"none (threshold 0.5)": plain, "chosen on validation": best, "chosen on test (cheating)": greedy}
pd.DataFrame({
    "threshold": {k: s.threshold for k, s in choices.items()},
    "smallest (mm³)": {k: s.smallest for k, s in choices.items()},
    "validation Dice": {k: mean_dice(on_validation, s) for k, s in choices.items()},
    "test Dice": {k: mean_dice(on_test, s) for k, s in choices.items()},
}).round(4)  # fmt: skip

# %% [markdown]
# A gain on the validation cases need not come back on the test cases. And one split is one draw. Draw it 100 times: how much too high is the number that was tuned on its own cases?

# %%
optimism = []
for number in range(100):
    parts = splits.split([cases[n] for n in enhancing], {"val": 0.5, "test": 0.5}, seed=number)
    tables_of = [sweep[sweep["case"].isin(parts[part])] for part in ("val", "test")]
    chosen_on = [tuning.choose(table, []) for table in tables_of]
    optimism.append(mean_dice(tables_of[1], chosen_on[1]) - mean_dice(tables_of[1], chosen_on[0]))
print(
    f"too high by {np.mean(optimism):.4f} on average, by {np.max(optimism):.4f} at worst, and too low {np.sum(np.array(optimism) < 0)} times of 100"
)

# %% [markdown]
# The gift is never negative: a choice made on the very cases cannot lose there against another choice. It grows with what one tries out, and shrinks with the number of cases.

# %%
quiz("tuned-on-test")

# %% [markdown]
# ## 8 Two models compared
# The first and the second model: who is better? Two means with two intervals will not do. Patients differ more than models do, and both models met the same patients: so take the
# **difference in each patient**, and an interval of its mean. The *bootstrap* draws the patients again and again, with replacement, and looks how the mean
# moves. **Your guess** from the beginning: which model, and in which region?

# %%
dice_of = {
    model: table[(table["metric"] == "dice") & (table["region"] == "WT")].set_index("case")["value"]
    for model, table in tables.items()
}
pairs = pd.DataFrame(dice_of).dropna()
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4), width_ratios=(1.3, 1))
left.plot([0, 1], pairs[["first", "second"]].to_numpy().T, color="grey", marker="o", linestyle="-", linewidth=0.8)
for at, model in enumerate(pairs):
    low, high = statistics.bootstrap_interval(pairs[model], setup.rng("interval", model))
    left.errorbar(
        at + (at - 0.5) * 0.3,
        pairs[model].mean(),
        [[pairs[model].mean() - low], [high - pairs[model].mean()]],
        fmt="s",
        capsize=5,
    )
left.set(xticks=[0, 1], xticklabels=["first", "second"], xlim=(-0.4, 1.4), ylabel="Dice WT", title="each for itself")
difference = pairs["second"] - pairs["first"]
low, high = statistics.bootstrap_interval(difference, setup.rng("interval"))
right.plot(np.zeros(len(difference)), difference, "o", color="grey")
right.errorbar(0.15, difference.mean(), [[difference.mean() - low], [high - difference.mean()]], fmt="s", capsize=5)
right.axhline(0, color="black", linewidth=0.8)
right.set(xlim=(-0.5, 0.6), xticks=[], ylabel="second minus first, Dice WT", title="patient by patient")
figures.show(figure, "Left: Dice of each patient under both models, joined by lines, with the mean and its interval beside each. Right: the "
             "differences with the interval of their mean.")  # fmt: skip

# %% [markdown]
# The same for all regions, with a test: *Wilcoxon's signed-rank test* asks whether the differences lie around 0. And since every further region that is tested is a further chance of a false
# alarm, the p-values are adjusted by *Holm's* method.

# %%
comparison = statistics.compare(tables["first"], tables["second"], ("dice", "lesion_dice", "hd95"), seed=setup.seed)
digits = {"first": 3, "second": 3, "difference": 3, "low": 3, "high": 3, "p": 4, "p_holm": 4}
comparison.drop(columns=["unit", "cases"]).round(digits)

# %% [markdown]
# Read the interval first (how large is the difference, in which direction?), the p-value last. With few cases the smallest p-value that is possible is not small: six
# patients who all improve give 0.031.
#
# ### Exercise 3: Holm
# Sort the p-values. Multiply the smallest by the number of tests $m$, the next by $m-1$, and so on; none may be smaller than the one before it, and none above 1. Give them back in
# the order in which they came.
# <details><summary>Hint</summary> <code>np.argsort</code> gives the order, <code>np.maximum.accumulate</code> lets no value fall below the one before;
# <code>out[order] = ...</code> puts them back.</details>


# %% tags=["exercise"]
def holm(p_values):
    p = np.asarray(p_values, float)
    # BEGIN SOLUTION: adjusted p-values in the order of the given ones
    # BLANK: return ...
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted
    # END SOLUTION


check.holm(holm, [0.030, 0.004, 0.020])

# %% [markdown]
# And what would the two means alone have said?

# %%
quiz("paired")

# %% [markdown]
# ## 9 A network instead of stand-ins
# The first and the second model were made from the truth, so that every question had an answer to check against. A network gives no such help. This is the one that comes with the
# course (its *model card* in `data/reference/models` says what it was trained on); it has never seen these cases, unless your scans are among the eight patients named there. Its segmentations take the same way as the others: files, read back, scored.

# %%
layout = next(iter(cases.values())).layout
predictor = VolumePredictor.load("phantom" if setup.phantom else None, layout)
write_predictions(setup.output_dir / "network", lambda name, number: predictor.segment(cases[name])[0])
tables["network"], predictions["network"] = read_predictions(setup.output_dir / "network")
print(f"{len(predictions['network'])} of {len(cases)} cases predicted")

# %% [markdown]
# **Guess**, before you run the next cell: which region is hardest for it? And what will it take for what?

# %%
columns = ["dice", "lesion_dice", "hd95"]
of_network = tables["network"][tables["network"]["metric"].isin(columns)]
of_network.pivot_table(index="region", columns="metric", values="value", sort=False)[columns].round(3)

# %% [markdown]
# The table of section 5, for the network. Rows are the truth, columns what it said.

# %%
taken = {name: errors.misclassified(truths[name], found, scheme) for name, found in predictions["network"].items()}
rows_of = {t: [n for n in taken if (truths[n] == v).any()] for v, t in scheme.tissues.items()}
said = pd.DataFrame({t: np.mean([taken[n].loc[t] for n in names], axis=0) for t, names in rows_of.items() if names}).T
said.columns = next(iter(taken.values())).columns
said.round(3)

# %% [markdown]
# And the case with the lowest Dice of the tumour core: missed yellow, invented blue, wrong name white dots.

# %%
hardest = errors.worst_cases(tables["network"], "dice", "TC", 1)["case"][0]
figure, axis = plt.subplots(figsize=(2.6, 2.8))
axis.imshow(error_slice(hardest, "network", size=200))
axis.set_axis_off()
axis.set_title(hardest, fontsize=9)
figures.show(figure, f"Errors of the course's network in one slice of {hardest}, the case with its lowest Dice of the core.")  # fmt: skip

# %% [markdown]
# You have the tools to go on: section 4 says whether a lesion was missed or only badly outlined, section 5 whether outlines run too wide, section 7 whether a threshold would help. What
# stands above is an average of a few cases; the card has the scores on real scans, case by case.

# %% [markdown]
# ## Bug lab 1: the mean of R1
# R1 computed Dice for each *batch* during validation, over all voxels of the batch, and averaged over batches. It looks harmless. **Before you run it**: the predictions are
# fixed. Can the score depend on the order in which the cases are loaded?


# %%
def counts_of(name, region="ET"):
    c = voxel.count(*(scheme.region(labels, region) for labels in (truths[name], predictions["first"][name])))
    return c.tp, c.fp, c.fn


def r1_score(counts, batch=5):
    """Dice over each batch's pooled voxels, averaged over batches, as report R1 did."""
    starts = range(0, len(counts), batch)
    pooled = [np.sum(counts[start : start + batch], axis=0) for start in starts]
    return float(np.mean([2 * tp / max(2 * tp + fp + fn, 1) for tp, fp, fn in pooled]))


counts = [counts_of(name) for name in both]
orders = [setup.rng("order", n).permutation(len(counts)) for n in range(200)]
scores = [r1_score([counts[i] for i in order]) for order in orders]
print(f"the same predictions in 200 orders: {min(scores):.3f} to {max(scores):.3f}")

# %% [markdown]
# It can: large tumours decide within a batch, the last, smaller batch weighs as much as a full one, and a case without ET disappears in its batch.
#
# ### Exercise 4: mend it
# From a list of `(TP, FP, FN)`, one a case: the mean over cases, with the challenge's values for empty masks.
# <details><summary>Hint</summary> One Dice a case. If all three counts are 0, both masks were empty: what is the Dice then?</details>


# %% tags=["exercise"]
def mean_over_cases(counts):
    # BEGIN SOLUTION: the mean of the cases' Dice
    dices = [2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0 for tp, fp, fn in counts]
    return float(np.mean(dices))
    # END SOLUTION


mended = check.mean_over_cases(mean_over_cases, counts)
mended

# %% [markdown]
# How much does it matter? One set of predictions, one region (ET), five ways to get "the mean Dice" out of it. Only one of them is what the challenge reports.


# %%
def of_label_values(name):
    """R1's other slip (notebook 00): label numbers multiplied, all tissues in one."""
    t, p = (labels.astype(float) for labels in (truths[name], predictions["first"][name]))
    return 2 * (t * p).sum() / max(t.sum() + p.sum(), 1)


cohort_dice = [voxel.Counts(*c, 0).dice for c in counts]
ways = {
    "case by case, empties defined": np.mean(cohort_dice),
    "yours": mean_over_cases(counts) if mended else np.nan,
    "cases without ET left out": np.mean(
        [d for d, c in zip(cohort_dice, counts, strict=True) if c[0] + c[2]] or [np.nan]
    ),
    "all voxels pooled": voxel.Counts(*np.sum(counts, axis=0), 0).dice,
    "R1: batches of 5, best order found": max(scores),
    "R1: label values multiplied": np.mean([of_label_values(n) for n in both]),
}
pd.Series(ways, name="mean Dice").round(3).to_frame()

# %% [markdown]
# The last line does not even speak of ET: a model that finds all oedema and no enhancing tumour can still look good in it.
#
# ## Bug lab 2: the HD95 of R1
# R1's function of that name took **all tumour voxels** of one mask, the distance of each to the nearest voxel of the other, and the **maximum**, in **voxels**. Four mistakes in one
# line. Watch it on the cohort.


# %%
def r1_hd95(truth, prediction):
    """R1's "HD95": the largest distance of any tumour voxel to the other mask, in voxels."""
    if not truth.any() or not prediction.any():
        return np.inf
    part = bounding_box(truth | prediction, 1)
    truth, prediction = truth[part], prediction[part]
    return max(ndimage.distance_transform_edt(~b)[a].max() for a, b in ((truth, prediction), (prediction, truth)))


def of_region(name, region="ET"):
    return tuple(scheme.region(labels, region) for labels in (truths[name], predictions["first"][name]))


theirs = pd.Series({name: r1_hd95(*of_region(name)) for name in both})
ours = tables["first"].query("region == 'ET' and metric == 'hd95'").set_index("case")["value"].reindex(both)
ladder = pd.DataFrame({
    "R1 (voxels)": theirs,
    "R1 in mm": theirs * float(np.mean([volumes[n].spacing[0] for n in both])),
    "HD95 of the challenge (mm)": ours,
    "known cause": pd.Series(causes),
}).loc[both]  # fmt: skip
ladder.sort_values("R1 (voxels)", ascending=False).round(2)

# %% [markdown]
# - *Voxels instead of mm*: the number changes with the grid, and R1 had resized its masks.
# - *The maximum*: one false voxel decides.
# - *All voxels*: the inner ones measure nothing of the outline (with a maximum they only hide; with a 95% point they would water it down).
# - *Infinite for an empty mask*: a single such case makes the mean infinite, and leaving it out rewards the miss.

# %%
print(
    f"mean over the cases: R1 {theirs.mean():.1f} voxels, the challenge's {ours.mean():.1f} mm (median {ours.median():.1f} mm)"
)

# %% [markdown]
# ### Exercise 5: mend it
# Write an HD95 in mm: outlines only, both directions, the 95% point of each, the larger of the two; 0 if both masks are empty, `penalty` if one is.
# <details><summary>Hint</summary> The outline: <code>mask & ~ndimage.binary_erosion(mask)</code>. Distances in mm to it: <code>ndimage.distance_transform_edt(~outline,
# sampling=spacing)</code>, read off at the other outline; then <code>np.percentile</code>.</details>


# %% tags=["exercise"]
def hd95(truth, prediction, spacing, penalty):
    # BEGIN SOLUTION: HD95 in mm, with the values for empty masks
    # BLANK: return ...
    if not (truth.any() and prediction.any()):
        return 0.0 if truth.any() == prediction.any() else penalty
    outlines = [mask & ~ndimage.binary_erosion(mask) for mask in (truth, prediction)]
    distances = [ndimage.distance_transform_edt(~outline, sampling=spacing) for outline in outlines]
    return float(max(np.percentile(distances[1][outlines[0]], 95), np.percentile(distances[0][outlines[1]], 95)))
    # END SOLUTION


repaired = check.mended_hd95(hd95)
repaired

# %% [markdown]
# The gain, case by case. Yours and the challenge's may still differ a little: it weights the points of the outline by area, and counts the corners of voxels, not their
# centres. A stated definition is part of the number.

# %%
some, mine = both[:6], {}
if repaired:
    for n in some:
        part = bounding_box(of_region(n)[0] | of_region(n)[1], 2)
        pair = [m[part] for m in of_region(n)] if part else of_region(n)
        mine[n] = hd95(*pair, volumes[n].spacing, rules.penalty)
compared = pd.DataFrame({"R1 (voxels)": theirs[some], "challenge (mm)": ours[some]})
compared.assign(**{"yours (mm)": mine}).round(2) if repaired else "solve exercise 5 to see the gain"

# %% [markdown]
# ## Bug lab 3: numbers that cannot belong together (R3)
# Report R3 states for its test: Dice .80 (ET), .75 (oedema), .70 (dead core); IoU .73, .68, .65; accuracy 96.55%. It also prints the table of its training.

# %%
EPOCHS = pd.DataFrame(
    {
        "train accuracy": [0.7495, 0.9563, 0.9386, 0.9462, 0.9428, 0.9505, 0.9520, 0.9487, 0.9593, 0.9618],
        "validation accuracy": [0.9547, 0.8951, 0.9310, 0.8906, 0.7789, 0.9425, 0.8504, 0.9066, 0.9246, 0.9655],
        "train IoU": [0.1422, 0.2308, 0.2592, 0.3032, 0.3105, 0.3643, 0.4041, 0.4057, 0.4404, 0.4727],
        "validation IoU": [0.2061, 0.2307, 0.2886, 0.2842, 0.2572, 0.3755, 0.3327, 0.4002, 0.3983, 0.4270],
    },
    index=pd.RangeIndex(1, 11, name="epoch"),
)
figure, ax = plt.subplots(figsize=(6.4, 3.2))
for column, marker in zip(EPOCHS, "osD^", strict=True):
    ax.plot(EPOCHS[column], marker=marker, markersize=4, label=column)
ax.axhspan(0.65, 0.73, color=palette.OKABE_ITO["yellow"], alpha=0.4, label="IoU in R3's result table")
ax.set(xlabel="epoch", ylim=(0, 1))
ax.legend(fontsize=8, ncols=2)
figures.show(figure, "R3's training: accuracy near 0.95 from the first epochs on, IoU rising slowly to 0.43 in validation, and a band "
             "from 0.65 to 0.73 far above it: the IoU of its result table.")  # fmt: skip

# %% [markdown]
# First the accuracy. **Guess**: does a higher validation accuracy go with a higher validation IoU from epoch to epoch? And what accuracy has a prediction of nothing?

# %%
early, late = EPOCHS["validation accuracy"].loc[1], EPOCHS["validation accuracy"].loc[8]
order = EPOCHS["validation accuracy"].corr(EPOCHS["validation IoU"], method="spearman")
background = np.mean([(truths[name] == 0).mean() for name in cases])
print(
    f"epoch 1: accuracy {early:.4f}, IoU {EPOCHS['validation IoU'].loc[1]:.4f}; epoch 8: {late:.4f}, {EPOCHS['validation IoU'].loc[8]:.4f}"
)
print(f"rank correlation of the two over the ten epochs: {order:.2f}")
print(f"accuracy of a prediction of nothing on the cases here: {background:.4f}")

# %% [markdown]
# The epoch with the lowest IoU has the second highest accuracy. Accuracy followed the background, and as a headline it says nothing about the tumour.
#
# Now the IoU. With exercise 1 the three pairs of the result table can be checked against themselves, and against the training. What Dice is possible at all for a mean IoU of .4270?


# %%
def possible(iou):
    """Lowest and highest mean Dice for a mean IoU (exercise 1)."""
    return iou, 2 * iou / (1 + iou)


STATED = {"ET": (0.80, 0.73), "oedema": (0.75, 0.68), "dead core": (0.70, 0.65)}
means = np.mean(list(STATED.values()), axis=0)
rows = {
    **STATED,
    "mean of the three": tuple(means),
    "end of training, validation": (np.nan, EPOCHS["validation IoU"].iloc[-1]),
}
claims = pd.DataFrame(rows, index=["stated Dice", "stated IoU"]).T
claims["lowest Dice"], claims["highest Dice"] = possible(claims["stated IoU"])
claims["IoU if all cases were equal"] = claims["stated Dice"] / (2 - claims["stated Dice"])
claims.round(3)

# %% [markdown]
# - Each stated pair is possible *by itself*: the Dice lies in its range. But its IoU is higher than that of equal cases, so cases would have to differ strongly.
# - The run whose validation IoU ends at .427 (its best epoch) allows a mean Dice of .598 at most. The stated mean Dice is .75, the stated mean IoU .687. If the training counted the
#   background as a fourth class, as is common, it is worse: background is easy and lifts the mean.
#
# So the result table does not come from this run and this validation set, or not from these definitions. Perhaps another run, another threshold, another subset; the
# report does not say. Nobody needs the data to see it: two columns and a formula do. Check your own report like this before you hand it in.
#
# ## R1's questions, answered
# The same questions that ended "inconclusive", why they did, and what the cells above say about the first model:


# %%
def of_first(region):
    return kept[(kept["model"] == "first") & (kept["region"] == region)]


right_share = np.mean([(predictions["first"][n] == truths[n])[truths[n] > 0].mean() for n in both])
medians = {n: np.median(signed["first", n]) for n in both if len(signed["first", n])}
off = max(medians, key=lambda n: abs(medians[n]))
most = swapped[["NETC called ET", "ET called NETC"]].mean().idxmax()
rates = [row["errors per tumour voxel"] for row in halves]
missed = {region: int((of_first(region)["matches"] == 0).sum()) for region in ("WT", "ET")}
wins = comparison[comparison["metric"] == "dice"].query("p_holm < 0.05")
verdict = ", ".join(f"{r} {d:+.3f}" for r, d in zip(wins["region"], wins["difference"], strict=True)) or "in no region"
ANSWERS = [
    ("How much?", "share of all voxels", f"{1 - right_share:.0%} of the tumour's voxels are wrong (of all voxels: {share:.1%})"),
    ("What for what?", "no table of tissues", f"most often {most}; in {(swapped[most] > 0.5).sum()} of {len(both)} cases for more than half"),
    ("Where?", "counts, not divided by tumours", f"{min(rates):.2f} to {max(rates):.2f} errors per tumour voxel in six halves of the head"),
    ("Outline?", "a count of outline voxels", f"median {np.median(list(medians.values())):+.1f} mm; furthest off {off} ({medians[off]:+.1f} mm)"),
    ("Which lesions?", "not asked", f"missed: {missed['WT']} of {len(of_first('WT'))} WT lesions, {missed['ET']} of {len(of_first('ET'))} of ET"),
    ("Which model?", "two means", f"Dice, second minus first, after Holm: {verdict}"),
]  # fmt: skip
table = pd.DataFrame(ANSWERS, columns=["question", "R1: why it stayed open", "here"]).set_index("question")
table.style.set_uuid("answers").set_properties(**{"text-align": "left", "white-space": "normal"})

# %% [markdown]
# ## Results
# All models, with 95% intervals of the mean (bootstrap over the cases), the median beside them. It is written to the output folder, with all scores; `brainseg report` makes
# one page for a browser out of such scores.

# %%
for model, scores_of in tables.items():
    scores_of.to_csv(setup.output_dir / f"{model}_scores.csv", index=False)
summary = pd.concat(statistics.summarise(t, setup.seed).assign(model=model) for model, t in tables.items())
summary = summary[summary["metric"].isin(["dice", "lesion_dice", "hd95", "nsd_area_1mm"])]
summary["mean (95% interval)"] = [
    f"{m:.2f} ({a:.2f} to {b:.2f})" for m, a, b in summary[["mean", "low", "high"]].to_numpy()
]
summary["median"] = summary["median"].map("{:.2f}".format)
results = summary.pivot_table(
    index=["region", "metric"], columns="model", values=["mean (95% interval)", "median"], aggfunc="first", sort=False
)
results.to_csv(setup.output_dir / "results.csv")
results

# %% [markdown]
# Some numbers must never change. The course's tests compare these:

# %% tags=["nbval-check-output"]
print(
    f"the lesion-wise example: {all_scores(example, guess)['lesion_dice']:.6f}, plain Dice {all_scores(example, guess)['dice']:.6f}"
)
print(f"a clump of radius 4 or 5 mm: HD95 {lies['hd95'].iloc[5]:.1f} or {lies['hd95'].iloc[6]:.3f} mm")
print(f"IoU .4270 allows a mean Dice of {possible(0.4270)[0]:.4f} to {possible(0.4270)[1]:.4f}")

# %% [markdown]
# ## When it goes wrong
# - **A score is exactly 1, 0 or the penalty**: an empty mask. Look at the volumes of both sides before anything else.
# - **Dice above 1, NaN or infinity in a table**: multiplied labels, a skipped case, an undefined distance. Section 3 has the values that belong there.
# - **"no prediction belongs to any case"**: the files of `prediction_dir` do not carry the case ids. They may be named `ID.nii.gz`, end with the id, or lie in a folder named so.
# - **Another grid**: scores need prediction and truth voxel on voxel. Bring the prediction back to the truth's grid (nearest neighbour), never the truth to the network's.
# - **ET is 0 everywhere**: label 4 is ET until 2021 and RC since 2024 (notebook 01). The protocol and the folder's layout must belong together.
# - **HD95 is huge, Dice is fine**: a piece far away. Look at it; then section 7.
# - **A page of tables, no idea**: three worst cases, with pictures, first.
#
# ## In short
# - Each metric is blind to something: take one for volume, one for the outline in mm, one for lesions. Accuracy is none of them.
# - Empty masks have defined scores; whoever skips them rewards inventions.
# - One case, one vote; mean and median, with an interval.
# - Divide a map of errors by what was there; give distances a sign; look at the worst cases.
# - Calibration is not accuracy, and doubt is not knowledge: what a model does not see, it does not doubt.
# - Choose on validation cases, report on test cases, compare models patient by patient.
# - Numbers in a report can be checked against each other.
#
# **Glossary.** *TP, FP, FN, TN*: the four counts of two masks. *Dice, IoU*: shared volume, two formulas for one thing. *HD95*: the distance in mm that 95% of the outline stays
# below. *NSD*: share of the outlines within a tolerance. *Lesion-wise*: averaged over lesions, missed and invented ones as 0. *Reach*: a lesion's surroundings in which a piece
# counts as found. *Protocol*: the scoring rules of a challenge. *Calibrated*: a probability of 0.8 is right in 8 of 10 voxels. *Entropy*: doubt in bits. *Bootstrap*: drawing the cases again to see
# how a mean moves. *Wilcoxon, Holm*: a test for paired differences, and the adjustment for several tests.
#
# **Reading.** Maier-Hein, Reinke and others, *Metrics reloaded*, Nature Methods 2024, doi 10.1038/s41592-023-02151-z. Reinke and others, *Understanding metric-related pitfalls in image
# analysis validation*, Nature Methods 2024, doi 10.1038/s41592-023-02150-0. Nikolov and others on surface Dice, arXiv 1809.04430. De Verdier and others, *The 2024 BraTS challenge: glioma
# segmentation on post-treatment MRI*, arXiv 2405.18368. Guo and others, *On calibration of modern neural networks*, arXiv 1706.04599. Wilcoxon 1945, doi 10.2307/3001968.
