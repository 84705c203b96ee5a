# %% [markdown]
# # 08 Modalities and cross-validation
#
# **You will be able to**
# - measure what each of the four pictures of a scan tells apart, before any network is trained,
# - compare T1 alone, T1 + T2 + FLAIR and all four, and say what a network does when one of them is missing,
# - divide patients into folds, train one run a fold, and report a mean with its spread,
# - say by how much "the best fold" promises too much, and choose between recipes without fooling yourself,
# - put five networks together, and see what that is worth,
# - find three mistakes, two that nothing warned of and one whose warning is easily silenced: channels under the wrong name, a schedule that was fed a loss, weights that do not fit.
#
# **Time:** {{time quick}} (quick), {{time full}} (full) · **Needs:** notebook 04 or its glossary; nothing is downloaded ·
# **Rebuilds:** R4
#
# The student report R4 asked two good questions: which of the four pictures does a network need, and how sure can one be of a result? It trained MONAI's UNet on T1 alone, then on T1, T2 and FLAIR, with five folds. This notebook asks them again,
# and looks at what went wrong on the way. Everyone writes such bugs. This is not a medical device.

# %% [markdown]
# ## Settings
# `data_dir` is a folder of scans with masks (BraTS of any year, or a Decathlon folder). Left empty, the course makes phantoms: a real average brain, deformed anew for each
# patient, in which a tumour was grown. They are of the easy kind, so that a network learns something in seconds.

# %% tags=["parameters"]
profile = "quick"
data_dir = ""
output_dir = ""
seed = 0

# %% [markdown]
# Seeds are fixed and the internet is blocked; `setup` knows where the data are and where results go.

# %%
import inspect
import json
import math
import shutil
import textwrap
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from brainseg_utils import course

quick = profile == "quick"
setup = course.begin("08", profile=profile, data_dir=data_dir, output_dir=output_dir, seed=seed, cases=16 if quick else 40, difficulty="easy")  # fmt: skip
check, quiz = setup.check, setup.quiz

# %% [markdown]
# What the notebook takes from the course's package, room by room: data, networks, training, prediction, scores, pictures.

# %%
from brainseg_utils.course.checkout import find_root
from brainseg_utils.course.reference import reference_runs
from brainseg_utils.datasets import splits
from brainseg_utils.datasets.cases import Case
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.evaluation import statistics, voxel
from brainseg_utils.inference.regions import label as labels_of
from brainseg_utils.inference.volumes import VolumePredictor
from brainseg_utils.models import registry
from brainseg_utils.phantom.cohort import case_list
from brainseg_utils.training import crossval, samples3d
from brainseg_utils.training import recipe as recipes
from brainseg_utils.training.train import train
from brainseg_utils.views import figures, palette, slices

figures.use_style()

# %% [markdown]
# The cases that have a tumour. Real scans that the course keeps for its last test are left out. A quarter of the patients is held out from everything in this notebook; the others train, and are later dealt into folds.

# %%
kept_apart = json.loads((find_root() / "data" / "split.json").read_text(encoding="utf-8"))["brats"]["test"]
labelled = [case for case in find_cases(setup.data_dir) if case.label_path and case.id not in kept_apart]
truths = {case.id: case.label() for case in labelled}
cases = [case for case in labelled if case.scheme.region(truths[case.id].data, "WT").any()]
apart = splits.split(cases, {"train": 0.75, "val": 0.25}, setup.seed)
held_out, others = ([case for case in cases if case.id in apart[name]] for name in ("val", "train"))
print(f"{len(cases)} cases with a tumour: {len(others)} to train on, {len(held_out)} held out")

# %% [markdown]
# ## Where this ends
# Three networks that differ in one thing: which pictures they get. Network, loss, patches and augmentation are those of the course's recipe for volumes (notebook 04), made smaller in the quick profile. The schedule is R4's as it was meant: a cosine down to almost 0, then a *warm restart*; here one cosine is all there is time for.

# %%
STEPS, EPOCHS = (90, 3) if quick else (1500, 10)
SMALL = {
    "network.widths": [16, 32, 48] if quick else [32, 64, 96], "data.size": [32, 32, 32] if quick else [96, 96, 96],
    "data.dropout": 0.0, "data.cache": str(setup.output_dir / "cache"), "budget.batch": 4 if quick else 2,
    "budget.steps": STEPS, "budget.epoch_steps": STEPS // EPOCHS, "optimiser.rate": 4e-3, "seed": setup.seed,
    "schedule.name": "restarts", "schedule.cycle": EPOCHS, "schedule.floor": 1e-3, "engine.ema": 0.0, "engine.keep": ["last"],
}  # fmt: skip


def train_small(name, **changes):
    """A run under a name of its own; changes are written `data__modalities=[...]`."""
    dotted = {place.replace("__", "."): value for place, value in changes.items()}
    folder = setup.output_dir / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    kept = {place: value for place, value in SMALL.items() if not (place == "network.widths" and "network.name" in dotted)}  # fmt: skip
    recipe = recipes.load("course_resunet3d", setup.profile.name, {**kept, **dotted})
    return train(recipe, setup.data_dir, folder, split=apart)


# %% [markdown]
# R4's two subsets, and all four pictures. **Guess** how far apart their Dice for the whole tumour (WT) and for enhancing tumour (ET) will be.

# %%
SUBSETS = {"T1 alone": ["t1n"], "T1 + T2 + FLAIR": ["t1n", "t2w", "t2f"], "all four": list(MODALITIES)}
REGIONS = ("WT", "TC", "ET")
runs = {name: train_small(name, data__modalities=channels) for name, channels in SUBSETS.items()}
for name, run in runs.items():
    shares = ", ".join(f"{region} {run.metrics[f'dice_{region}']:.2f}" for region in REGIONS)
    print(f"{name:16}{run.metrics['steps']} steps, {run.metrics['seconds']:.0f} s; held-out Dice {shares}")

# %% [markdown]
# What do they say about one patient? One function makes labels of a network's probabilities, another draws outlines: of the whole tumour, of the core (TC: ET and the part of the core that does not enhance, NETC), and of ET.


# %%
def mask_of(made, case):
    """Labels of a prediction on the case's own grid."""
    regions = dict(zip(made.regions, made.data, strict=True))
    return made.box.paste(labels_of(regions, case.scheme, made.spacing))


def outlines(axes, case, mask, modality, level, title):
    picture = case.images((modality,)).data[0]
    plane = slices.cut(picture, "axial", level)
    axes.imshow(plane, cmap=plt.get_cmap("gray", 32), interpolation="nearest")
    rows, columns = (np.flatnonzero((plane > 0).any(axis)) for axis in (1, 0))
    axes.set(xlim=(columns[0] - 2, columns[-1] + 2), ylim=(rows[-1] + 2, rows[0] - 2))
    for region in REGIONS:
        inside = slices.cut(case.scheme.region(mask, region), "axial", level)
        if inside.any():
            axes.contour(inside, [0.5], colors=palette.style(region).colour, linestyles=palette.style(region).dash, linewidths=1.6)  # fmt: skip
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)


# %% [markdown]
# The held-out patient with most enhancing tumour, in the slice with most of the core:

# %%
star = max(held_out, key=lambda case: int(case.scheme.region(truths[case.id].data, "ET").sum()))
level = int(star.scheme.region(truths[star.id].data, "TC").sum((0, 1)).argmax())
figure, row = plt.subplots(1, 4, figsize=(9.2, 3.3))
outlines(row[0], star, truths[star.id].data, "t1c", level, "truth, on T1 contrast")
for axes, (name, seen_on) in zip(row[1:], (("T1 alone", "t1n"), ("T1 + T2 + FLAIR", "t2f"), ("all four", "t1c")), strict=True):  # fmt: skip
    found = mask_of(VolumePredictor([runs[name].load()])(star), star)
    outlines(axes, star, found, seen_on, level, f"{name}\non {palette.modality_name(seen_on)}")
handles = [plt.Line2D([], [], **figures.line_style(region)) for region in REGIONS]
figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
figures.show(figure, "One slice four times with outlines of whole tumour, core and enhancing tumour: the truth on T1 with contrast agent, and what the "
             "networks say that saw T1 alone, T1, T2 and FLAIR, and all four.")  # fmt: skip

# %% [markdown]
# By the end you know what part of such a difference lies in the pictures, what part in the patients that happened to be held out, and what part in luck.
#
# ## 1 What does each picture tell apart?
# **Question: could one have known, before training, which picture is needed for what?** A scan has four: T1, T1 after a contrast agent, T2 and FLAIR (notebook 01). Two tissues can be told apart in a picture if their brightness differs by more than it varies inside each.
# In numbers, for brightnesses $a$ of one tissue and $b$ of the other,
#
# $$d = \frac{|\bar a - \bar b|}{\sqrt{(s_a^2 + s_b^2)/2}}$$
#
# with the means $\bar a, \bar b$ and the variances $s_a^2, s_b^2$. A $d$ of 0 says "the same", 1 "they overlap a lot", 3 "hardly any overlap". **Your turn.**
#
# <details><summary>Hint</summary>
#
# `np.mean`, `np.var`, `np.sqrt`, and `abs` around the difference.
# </details>


# %% tags=["exercise"]
def contrast_of(a, b):
    # BEGIN SOLUTION: how far two tissues are apart, in units of their spread
    # BLANK: return ...
    return abs(np.mean(a) - np.mean(b)) / np.sqrt((np.var(a) + np.var(b)) / 2)
    # END SOLUTION


check.contrast(contrast_of)

# %% [markdown]
# Four borders have to be found: oedema (SNFH) against healthy brain is the rim of the whole tumour, NETC against oedema the rim of the core, and ET has one with NETC inside and one with oedema outside. **Guess for each border which picture shows it best**, then look. (The notebook's own copy of the formula, so that it runs with the blank, too.)


# %%
def apart_by(a, b):
    return abs(a.mean() - b.mean()) / np.sqrt((a.var() + b.var()) / 2) if len(a) > 1 < len(b) else np.nan


BORDERS = {
    "oedema / brain": ("SNFH", ""),
    "NETC / oedema": ("NETC", "SNFH"),
    "ET / NETC": ("ET", "NETC"),
    "ET / oedema": ("ET", "SNFH"),
}
measured = {modality: {border: [] for border in BORDERS} for modality in MODALITIES}
for case in cases:
    scan, mask = case.images().data, truths[case.id].data
    healthy = (scan > 0).any(0) & (mask == 0)
    for border, (inner, outer) in BORDERS.items():
        first = case.scheme.region(mask, inner)
        second = case.scheme.region(mask, outer) if outer else healthy
        for modality, picture in zip(MODALITIES, scan, strict=True):
            measured[modality][border].append(apart_by(picture[first], picture[second]))

# %% [markdown]
# The median over the patients:

# %%
told = pd.DataFrame({m: {b: np.nanmedian(v) for b, v in by.items()} for m, by in measured.items()})
told.columns = [palette.modality_name(m) for m in told.columns]
figure, axes = plt.subplots(figsize=(5.6, 2.8))
shades = axes.imshow(told, cmap="viridis", vmin=0)
for (r, c), value in np.ndenumerate(told.to_numpy()):
    axes.text(c, r, f"{value:.1f}", ha="center", va="center", color="white" if value < told.to_numpy().max() / 2 else "black")  # fmt: skip
axes.set_xticks(range(4), told.columns, fontsize=8)
axes.set_yticks(range(len(told.index)), told.index, fontsize=8)
axes.grid(visible=False)
figure.colorbar(shades, label="contrast d")
best = {border: told.loc[border].idxmax() for border in told.index}
figures.show(figure, "Contrast of four borders in four pictures, as a table in colours. Highest: " + "; ".join(f"{b}: {m}" for b, m in best.items()))  # fmt: skip

# %% [markdown]
# **Answer.** Read it by rows. Enhancing means: brighter *after* the contrast agent, so that the lowest row should belong to T1 contrast; look whether it does here. ET and dead core differ in other pictures, too; it is against the oedema that ET stands out in T1 contrast above all. The rim of the whole tumour is what FLAIR and T2 are made for: water is bright in both, and FLAIR turns the brain's own water dark. R4's two subsets, T1 alone and
# T1 + T2 + FLAIR, both lack the picture that ET is named after.

# %%
quiz("contrast-agent")

# %% [markdown]
# ## 2 Three subsets
# **Question: how much does a network lose by a picture?** The live runs above are one seed and seconds; they stand in the first rows of the table. The others are from **recorded reference runs**, each with 30 s of computing time (what is printed below is time on the clock), made once on other phantoms (of normal difficulty, 32 to train on and 8 held out), with R4's recipe, its network made smaller, and with the course's.

# %%
RECORDED = reference_runs()
NOT_YET = "not recorded yet"


def recorded(name, region, key="phantoms"):
    """Mean Dice of a recorded run with its 95 % interval over patients, in words."""
    summary = RECORDED[name].summary.get(key, {}) if name in RECORDED else {}
    if region not in summary:
        return NOT_YET
    return "{mean:.2f} ({low:.2f} to {high:.2f})".format(**summary[region])


STEMS = {"T1 alone": "t1", "T1 + T2 + FLAIR": "t1t2flair", "all four": "all"}
table = pd.DataFrame({name: {f"live, {r}": f"{run.metrics[f'dice_{r}']:.2f}" for r in REGIONS} for name, run in runs.items()}).T  # fmt: skip
for whose in ("R4", "course"):
    for region in REGIONS:
        of = {n: s if whose == "course" else {"all": "r4_unet"}.get(s, f"r4_unet_{s}") for n, s in STEMS.items()}
        stems = {n: f"modalities_{'course_' * (whose == 'course')}{s}" for n, s in of.items()}
        table[f"{whose}, {region}"] = [recorded(stems[name], region) for name in table.index]
table.T.style.set_uuid("subsets")

# %% [markdown]
# In brackets stands a *bootstrap interval*: the patients are drawn again and again with replacement, and 95 % of the means lie inside (notebook 07). How the recorded ones were made:

# %%
for name in sorted(RECORDED):
    if name.startswith("modalities_"):
        print(textwrap.fill(f"{name}: {RECORDED[name].made}", 110, subsequent_indent="  "))

# %% [markdown]
# **Answer.** Read along a row. ET from the second column to the third is the price of leaving out the contrast agent; WT from the first to the second is that of leaving out FLAIR and T2. A network that has hardly learned, as R4's in 30 s, cannot show that price: its ET is as low with the contrast agent as without. Intervals that overlap do not settle it, either: both networks were judged on the same patients, so one takes the difference patient by patient, as under Results. There stand longer runs of both recipes, R4's at its stated size, with other numbers for that reason.
#
# ## Bug lab 1: channels under the wrong name (R4)
# **Watch it fail.** R4's network has three outputs, in the order of MONAI's conversion: TC, WT, ET. Its training log calls them "NC", "edema" and "ET". Nothing breaks: a name is only text. Here is the log that results, for the network with all four pictures, and beside it how much tissue the truth has under each name.

# %%
LOGGED = {"NC": "TC", "edema": "WT", "ET": "ET"}  # the name in the log: what the channel is
predictor = VolumePredictor([runs["all four"].load()])
predicted = {case.id: mask_of(predictor(case), case) for case in held_out}


def mean_of(function):
    return float(np.mean([function(case) for case in held_out]))


def dice_of(region):
    return mean_of(lambda c: voxel.count(*(c.scheme.region(m, region) for m in (truths[c.id].data, predicted[c.id]))).dice)  # fmt: skip


def millilitres(region):
    return mean_of(lambda c: c.scheme.region(truths[c.id].data, region).sum() * truths[c.id].voxel_ml)


log = {name: {"Dice in the log": dice_of(region), "mL in that channel": millilitres(region)} for name, region in LOGGED.items()}  # fmt: skip
pd.DataFrame(log).T.style.format("{:.2f}").set_uuid("log")

# %% [markdown]
# **Find it.** Two facts give the names away without reading any code: the volumes do not fit anatomy ("edema" holds all the tumour), and the channels overlap, which tissues cannot:

# %% tags=["nbval-check-output"]
inside = {}
for inner, outer in (("ET", "NC"), ("NC", "edema")):
    pairs = [[c.scheme.region(truths[c.id].data, LOGGED[n]) for n in (inner, outer)] for c in cases]
    inside[inner, outer] = all((b | ~a).all() for a, b in pairs)
    print(f"{inner} lies inside {outer} in every patient: {inside[inner, outer]}")

# %% [markdown]
# They are regions, nested in each other. **Mend it:** write the tissues from the three regions (masks of booleans): NETC, SNFH (oedema and infiltration), ET, in this order.
#
# <details><summary>Hint</summary>
#
# `a & ~b` is what lies in `a` and not in `b`.
# </details>


# %% tags=["exercise"]
def tissues_of(tc, wt, et):
    # BEGIN SOLUTION: NETC, SNFH and ET from the regions
    # BLANK: return ...
    return tc & ~et, wt & ~tc, et
    # END SOLUTION


check.tissues(tissues_of)

# %% [markdown]
# **See what changes.** The same masks, scored under the name that they deserve:

# %%
REAL = {"NC": "NETC", "edema": "SNFH", "ET": "ET"}
renamed = pd.DataFrame({name: {"as logged": dice_of(LOGGED[name]), "the tissue of that name": dice_of(REAL[name])} for name in LOGGED}).T  # fmt: skip
renamed["the log says too much by"] = renamed["as logged"] - renamed["the tissue of that name"]
renamed.style.format("{:.2f}").format("{:+.2f}", subset=["the log says too much by"]).set_uuid("renamed")

# %% [markdown]
# No network became better or worse. But a reader of the log would have believed of two tissues what holds of two regions, and a large region is easier than a thin rim of it. The course's recipes name their channels in one place (`data.regions`), from which target, loss, log and labels are made.
#
# ## 3 A picture is missing
# **Question: a network was trained on four pictures, and a patient comes with three. What now?** Patients move, protocols differ, contrast agent is not given to everyone. One can fill the channel with 0:

# %%
quiz("zero-fill")

# %% [markdown]
# The alternative is to train for it: *modality dropout* sets pictures of a training sample to 0 at random, as if they had not been taken. In the package:

# %%
print(inspect.getsource(samples3d.lose_modalities).split('"""')[2])

# %% [markdown]
# One is always left, and one is lost more often than two. A network trained like that, for as many steps as the others:

# %%
runs["with dropout"] = train_small("with dropout", data__dropout=0.5)

# %% [markdown]
# Then each picture in turn is taken away from the held-out patients. **Guess two things:** which picture is missed most, and what dropout costs when nothing is missing.


# %%
@dataclass(frozen=True)
class Without(Case):
    """A case one of whose pictures was not taken: it is 0 everywhere."""

    lost: str = ""

    def images(self, modalities=None):
        wanted = tuple(modalities or MODALITIES)
        scan = super().images(wanted)
        if self.lost in wanted:
            scan.data[wanted.index(self.lost)] = 0
        return scan


def dice_without(name, lost):
    """Mean Dice over patients and regions."""
    network = VolumePredictor([runs[name].load()])
    values = []
    for case in held_out:
        found, truth = mask_of(network(Without(**vars(case), lost=lost)), case), truths[case.id].data
        values += [voxel.count(case.scheme.region(truth, r), case.scheme.region(found, r)).dice for r in REGIONS]
    return np.mean(values)


# %% [markdown]
# Live, and as recorded, where training was longer; mean Dice over patients and the three regions.


# %%
def recorded_mean(name, key, digits=2):
    summary = RECORDED[name].summary.get(key, {}) if name in RECORDED else {}
    return f"{np.mean([summary[region]['mean'] for region in REGIONS]):.{digits}f}" if summary else NOT_YET


lost_table = {}
for lost in ("", *MODALITIES):
    title, key = (f"without {palette.modality_name(lost)}", f"phantoms without {lost}") if lost else ("all there", "phantoms")  # fmt: skip
    live = {f"live, {name}": f"{dice_without(name, lost):.2f}" for name in ("all four", "with dropout")}
    kept = {f"recorded, {n}": recorded_mean(f"modalities_course_{s}", key) for n, s in (("all four", "all"), ("with dropout", "dropout"))}  # fmt: skip
    lost_table[title] = {**live, **kept}
pd.DataFrame(lost_table).T.style.set_uuid("lost")

# %% [markdown]
# **Answer.** Read each column against its first row. The column of the network without dropout says how much it leans on each picture; its neighbour says what can be done about that by training alone. The picture missed most need not be the one of most contrast: of pictures that agree, a network leans on whichever it happened to learn from, and another seed may lean on another. Dropout is not free: the network has to learn many tasks in the steps of one. The course's networks for `brainseg predict` are trained with it, so that a patient
# with three pictures gets an answer, and a notice that one was missing.
#
# ## 4 Five folds
# **Question: with so few held-out patients, how much of a Dice is the network and how much the patients?** In *k-fold cross-validation* the patients are dealt into $k$ groups; $k$ networks are trained, each without one group, and judged on it. Every patient is judged once, by a network that has not seen them.
#
# What must not happen is that a person is on two sides. After treatment many patients are scanned more than once, and both scans show the same head:

# %% tags=["nbval-check-output"]
scans = [name for name, _, _ in case_list(60, "brats2024", seed=1)]
people = [name.rsplit("-", 1)[0] for name in scans]
by_scan = np.random.default_rng(1).permutation(len(scans)) % 5
several = [p for p in set(people) if len({int(f) for f, q in zip(by_scan, people, strict=True) if q == p}) > 1]
print(f"{len(scans)} scans of {len(set(people))} patients, named like {scans[0]}")
print(f"dealt by scan into five folds, {len(several)} patients are in two folds or more")

# %% [markdown]
# **Your turn.** Deal by patient: `patients` has one name for each scan; return the number of its fold for each scan. Shuffle with `rng`: names are often in the order of hospitals or years. Folds may differ by one patient at most.
#
# <details><summary>Hint</summary>
#
# Shuffle the different names (`rng.permutation`), count through them, and take the remainder of that count by `k`. Then look up each scan's patient.
# </details>


# %% tags=["exercise"]
def deal(patients, k, rng):
    # BEGIN SOLUTION: a fold for each scan, by patient
    # BLANK: return ...
    names = sorted(set(patients))
    fold = {names[n]: place % k for place, n in enumerate(rng.permutation(len(names)))}
    return [fold[patient] for patient in patients]
    # END SOLUTION


check.deal(deal)

# %% [markdown]
# The package deals the same way (`splits.k_fold`). A fold is a run like any other, of which one setting differs, `split.validation = "fold3"`: five runs on five machines would do. Here `crossval.cross_validate` makes them, several at a time where there are several cores, and goes on where it was interrupted. The held-out patients of the sections above take no part.

# %%
dealt = splits.k_fold(others, min(5, len(others)), setup.seed)
folds = splits.Split({**dealt.subsets, "test": apart["val"]}, setup.seed)
splits.check(folds, cases)
shutil.rmtree(setup.output_dir / "folds", ignore_errors=True)
fold_runs = crossval.cross_validate("course_resunet3d", setup.data_dir, setup.output_dir / "folds", folds, profile, setup.workers, SMALL)  # fmt: skip
print(", ".join(f"{run.path.name}: {len(folds[run.path.name])} patients" for run in fold_runs))

# %% [markdown]
# What the runs say of themselves, at the end of training and on the network's grid: mean, spread (the standard deviation), least and greatest Dice over the folds.

# %%
crossval.spread(fold_runs).loc[list(REGIONS)].style.format("{:.2f}").set_uuid("spread")

# %% [markdown]
# Which patients make the folds differ? Each fold's network judges its own patients, on the scans' own grid. One row a patient, because patients are what is being sampled:


# %%
def dice_row(case, mask):
    return {r: voxel.count(case.scheme.region(truths[case.id].data, r), case.scheme.region(mask, r)).dice for r in REGIONS}  # fmt: skip


networks = {run.path.name: VolumePredictor([run.load()]) for run in fold_runs}
judged = pd.DataFrame(
    {"fold": name, "case": case.id, **dice_row(case, mask_of(network(case), case))}
    for name, network in networks.items()
    for case in others
    if case.id in folds[name]
)
judged["mean"] = judged[list(REGIONS)].mean(axis=1)
by_fold = judged.groupby("fold")[[*REGIONS, "mean"]].mean()
by_fold.style.format("{:.2f}").set_uuid("folds")

# %% [markdown]
# ET can differ much from the table before. A patient without ET counts 1 or 0: there a single voxel made it 0, here voxels of ET outside the core are dropped when labels are made. In a fold of two such a patient decides half of the score. That is no property of the networks.

# %% [markdown]
# And together: the mean over the folds, their spread, the "best fold" as R4 reports it; below the mean over all patients with its bootstrap interval.

# %%
together = by_fold.agg(["mean", "std"]).rename(index={"std": "spread of the folds"})
together.loc["best fold"] = by_fold.loc[by_fold["mean"].idxmax()]
together.loc["best fold promises too much by"] = together.loc["best fold"] - together.loc["mean"]
rng = setup.rng("bootstrap")
for column in together:
    ends = statistics.bootstrap_interval(judged[column], rng)
    together.loc["patients, from", column], together.loc["patients, to", column] = ends
together.style.format("{:.2f}").set_uuid("together")

# %% [markdown]
# **Answer.** The rows differ although recipe, size and training length are the same: that spread is the part of a single held-out score that belongs to the patients (and to chance). One caution: the folds share most of their training patients, so that their spread divided by $\sqrt 5$ is *not* an error bar of the mean; no unbiased one exists (Bengio and Grandvalet 2004).
# The interval over patients is the more honest one, and it is wide when patients are few.
#
# ### The best fold
# R4 tests "the best fold" and calls that the result. By how much does such a choice promise too much? Suppose five networks that are all equally good, true Dice .73, and scores that vary by .03 from fold to fold. **Guess the mean of the best of five**, then draw ten thousand times.

# %% tags=["nbval-check-output"]
draws = np.random.default_rng(0).normal(0.73, 0.03, (10_000, 20))
for k in (1, 2, 5, 10, 20):
    print(f"the best of {k:2}: {draws[:, :k].max(axis=1).mean():.3f}")

# %% [markdown]
# The best of five comes out more than one spread above the truth, with nothing gained: a maximum of noisy numbers is a biased number.

# %%
quiz("best-fold")

# %% [markdown]
# ### Choosing between recipes: nested
# The same holds for recipes. Choose the best of twenty by their cross-validated mean, and report that mean: it is a maximum again. A **nested** cross-validation keeps the choice inside: of the outer folds one is put aside, the recipes are compared on the others alone, and the winner is scored on the one put aside. Twenty equal recipes, thirty patients, again by drawing:


# %% tags=["nbval-check-output"]
def promised(scores, folds=5):
    """(mean of the winner on the patients that chose it, mean on outer folds that did not)."""
    plain, outer = scores.mean(1).max(), []
    for part in np.array_split(np.arange(scores.shape[1]), folds):
        inner = np.delete(scores, part, axis=1)
        outer.append(scores[inner.mean(1).argmax(), part].mean())
    return plain, np.mean(outer)


rng20 = np.random.default_rng(0)
both = np.mean([promised(rng20.normal(0.73, 0.12, (20, 30))) for _ in range(2000)], axis=0)
print(f"true Dice of all twenty .730; the winner's own score {both[0]:.3f}, nested {both[1]:.3f}")

# %% [markdown]
# Nested costs as many trainings as outer folds times inner folds times recipes. The cheap version of the same idea is a test set that nobody looks at until the choice is made; the course keeps eight real scans for that. Their scores stand under Results, so that nothing may be chosen by them any more.

# %%
quiz("choose-and-report")

# %% [markdown]
# ## 5 Five networks, one answer
# **Question: which of the five networks should be used afterwards?** All of them. An *ensemble* averages their probabilities, then applies the threshold. None of the five has seen the held-out patients, so that all can be tried on them. **Guess:** is the ensemble better than the mean of the five, than the best?

# %%
made = {name: {case.id: network(case) for case in held_out} for name, network in networks.items()}
alone = pd.DataFrame({n: {c.id: np.mean(list(dice_row(c, mask_of(p[c.id], c)).values())) for c in held_out} for n, p in made.items()})  # fmt: skip
ensemble, votes = {}, {}
for case in held_out:
    five = [p[case.id] for p in made.values()]
    box, names = five[0].box, five[0].regions
    for kept, data in ((ensemble, [p.data for p in five]), (votes, [p.data >= 0.5 for p in five])):
        planes = dict(zip(names, np.mean(data, axis=0), strict=True))
        kept[case.id] = np.mean(list(dice_row(case, box.paste(labels_of(planes, case.scheme, five[0].spacing))).values()))  # fmt: skip

# %% [markdown]
# Mean Dice over regions and held-out patients:

# %%
chosen = by_fold["mean"].idxmax()
rows = {"the five, their mean": alone.mean().mean(), "the worst of them": alone.mean().min(), "the best of them, known afterwards": alone.mean().max(),
        "the one best on its own fold": alone[chosen].mean(), "majority vote": np.mean(list(votes.values())), "ensemble: mean probability": np.mean(list(ensemble.values()))}  # fmt: skip
shown_rows = pd.DataFrame({"live": {name: f"{value:.3f}" for name, value in rows.items()}})
shown_rows.iloc[3, 0] += f" ({chosen})"
FOLDS = [f"folds_fold{k}" for k in range(5)]
kept_folds = [np.mean([RECORDED[n].summary["phantoms"][r]["mean"] for r in REGIONS]) for n in FOLDS if n in RECORDED]
if len(kept_folds) == 5:
    shown_rows["recorded"] = NOT_YET
    shown_rows.iloc[:3, 1] = [f"{f(kept_folds):.3f}" for f in (np.mean, np.min, np.max)]
    own = [np.mean([RECORDED[n].summary["fold"][r]["mean"] for r in REGIONS]) for n in FOLDS]
    shown_rows.iloc[3, 1] = f"{kept_folds[int(np.argmax(own))]:.3f} (fold{int(np.argmax(own))})"
    shown_rows.iloc[4, 1], shown_rows.iloc[5, 1] = "not made", recorded_mean("folds_ensemble", "phantoms", 3)
shown_rows.style.set_uuid("ensemble")

# %% [markdown]
# **Answer.** The row to compare the last one with is the first: that is what picking a network blindly gives. The best of them is only known after looking at the patients on which it is then reported, and the network that was best on its own fold is not that one by any rule: compare the fourth row with the second, it may be the worst elsewhere. The mean of probabilities keeps what a vote throws away, how sure each network is. The price is five predictions
# instead of one. `inference.ensemble.join` writes the folds' weights into one file, which `brainseg predict --weights` takes like any other.
#
# ### Three seeds or five folds?
# A seed decides the first weights and the order of the patches; the patients stay the same. So seeds measure the luck of training, folds that and the patients. Recorded runs of one recipe: five folds, and fold 0 again with two other seeds.

# %%
SEEDS = ["folds_fold0", "folds_fold0_seed1", "folds_fold0_seed2"]


def spread_of(names, key):
    """Mean and spread over runs of the mean Dice, in words."""
    values = [np.mean([RECORDED[n].summary[key][r]["mean"] for r in REGIONS]) for n in names if n in RECORDED]
    return f"{np.mean(values):.3f}, spread {np.std(values, ddof=1):.3f} ({len(values)} runs)" if len(values) > 1 else NOT_YET  # fmt: skip


pairs = {"judged on their own fold": "fold", "judged on the same 8 others": "phantoms"}
spreads = {row: {"five folds": spread_of(FOLDS, key), "fold 0, three seeds": spread_of(SEEDS, key)} for row, key in pairs.items()}  # fmt: skip
pd.DataFrame(spreads).T.style.set_uuid("seeds")

# %% [markdown]
# Two numbers are enough to compute a spread, and five still estimate it badly: if a part comes out larger than the whole, that is why. The table shows how to ask: the left column's upper row is meant to hold everything that varies, the lower row takes the judges away, the right column the training patients.
#
# ## Bug lab 2: a schedule that was fed a loss (R4)
# **Watch it fail.** R4's rate is meant to fall along a cosine for ten epochs and then to restart. PyTorch's scheduler takes the place in the cycle as an argument, `step(epoch)`. R4 calls `step(validation_loss)`. No error: a loss is a number, too.

# %% tags=["nbval-check-output"]
weight = torch.nn.Parameter(torch.zeros(1))
optimiser = torch.optim.SGD([weight], lr=1e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, T_0=10, eta_min=1e-6)
optimiser.step()
for loss in (0.9, 0.6, 0.3, 0.1):
    scheduler.step(loss)
    print(f"validation loss {loss}: rate {optimiser.param_groups[0]['lr']:.6f}")

# %% [markdown]
# **Find it.** Write the rate at a place in the cycle: from `base` at the beginning, along half a cosine, to `least` at the end, then again from the beginning.
#
# <details><summary>Hint</summary>
#
# $\frac{1}{2}(1+\cos(\pi p))$ falls from 1 to 0 while $p$ goes from 0 to 1. Here $p$ is the place in its own cycle, divided by the cycle's length; `%` takes whole cycles off.
# </details>


# %% tags=["exercise"]
def rate_at(place, cycle, base, least):
    # BEGIN SOLUTION: a cosine with warm restarts
    # BLANK: return ...
    return least + (base - least) * (1 + math.cos(math.pi * (place % cycle) / cycle)) / 2
    # END SOLUTION


check.rate(rate_at)

# %% [markdown]
# A Dice loss lies between 0 and 1. So the "epoch" that the scheduler sees is always in the first tenth of the first cycle:

# %% tags=["nbval-check-output"]
lowest = (1 + math.cos(math.pi * 1 / 10)) / 2
print(f"fed a loss from 0 to 1, the rate stays between {lowest:.1%} and 100% of its start")

# %% [markdown]
# Drawn over thirty epochs:

# %%
epochs = np.arange(0, 30, 0.1)
meant = [1e-6 + (1e-3 - 1e-6) * (1 + math.cos(math.pi * (e % 10) / 10)) / 2 for e in epochs]
figure, axes = plt.subplots(figsize=(5.6, 2.6))
axes.plot(epochs, meant, label="fed the epoch")
axes.fill_between(epochs, 1e-3 * lowest, 1e-3, color="C1", hatch="//", alpha=0.6, label="fed a loss")
axes.set(xlabel="epoch", ylabel="learning rate", ylim=(0, 1.1e-3))
axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
figures.show(figure, "Learning rate over thirty epochs. Fed the epoch it falls along three cosines to almost 0; fed a loss it stays in a thin band at its start.")  # fmt: skip

# %% [markdown]
# It is a constant rate that even rises a little while the loss falls. **Mend it, see the gain.** The network with all four pictures was trained with the schedule as meant, one cycle long. The same again with the rate that R4's call gives, 97.6 % or more of the start:

# %%
runs["fed a loss"] = train_small("fed a loss", schedule__cycle=10 * EPOCHS)  # its first tenth is all that is seen
gain = pd.DataFrame({name: {r: runs[key].metrics[f"dice_{r}"] for r in REGIONS} for name, key in (("fed a loss", "fed a loss"), ("as meant", "all four"))}).T  # fmt: skip
gain.loc["gained"] = gain.loc["as meant"] - gain.loc["fed a loss"]
gain.style.format("{:.3f}").format("{:+.3f}", subset=("gained", slice(None))).set_uuid("schedule")

# %% [markdown]
# One pair of runs, of one seed: section 4 has shown how far such a pair can be trusted, and in a run as short as this one a rate that never falls may cost little or nothing. That is how such a bug stays unseen: it is there whether or not it costs anything, and no score shows it. The logged rate does, after two epochs. (Here the first tenth of a long cosine stands in for it: the same band, run through downwards.)

# %%
rates = {name: runs[key].history().set_index("step")["rate"] for name, key in (("fed a loss", "fed a loss"), ("as meant", "all four"))}  # fmt: skip
pd.DataFrame(rates).style.format("{:.5f}").set_uuid("rates")

# %% [markdown]
# Every run of the course keeps the rate in its `history.csv`, for that reason.
#
# ## Bug lab 3: a checkpoint that does not fit its network (R4)
# **Watch it fail.** R4 trains MONAI's UNet with two residual units at each scale. The program that loads the weights builds it again, and forgets them. What do the two have in common?

# %% tags=["nbval-check-output"]
for units in (2, 0):
    counted = registry.count_parameters(registry.on_paper("monai_unet", in_channels=3, residual_units=units))
    print(f"R4's UNet for three pictures, {units} residual units: {counted:,} parameters")

# %% [markdown]
# Loading raises an error, which is the good case. A quick "remedy" is found on the internet: `strict=False`. Here with a smaller network of that kind, trained like the others above:

# %%
channels = [16, 32, 64] if quick else [16, 32, 64, 128, 256]
runs["MONAI's UNet"] = train_small(
    "monai", network__name="monai_unet", network__channels=channels, network__dropout=0.0
)
trained = runs["MONAI's UNet"].load()
options = {"in_channels": 4, "out_channels": 3, **dict(trained.recipe.network.options)}
torch.manual_seed(setup.seed)
rebuilt = registry.build("monai_unet", **{**options, "residual_units": 0})
weights = trained.network.state_dict()
try:
    rebuilt.load_state_dict(weights)
except RuntimeError as error:
    print(f"strict: {len(str(error).splitlines())} lines of error, beginning with", *str(error).splitlines()[:1])
sizes = {name: tensor.shape for name, tensor in rebuilt.state_dict().items()}
same = {name: tensor for name, tensor in weights.items() if sizes.get(name) == tensor.shape}
rebuilt.load_state_dict(same, strict=False)
print(f"not strict, other shapes left out: no error; {len(same)} of {len(sizes)} tensors were loaded")

# %% [markdown]
# **Find it.** Write what PyTorch's error is about. Given are the shapes by name, of the network (`wanted`) and of the file (`given`). Return three lists of names: what the file lacks, what the network does not know, and what is in both with another shape.


# %% tags=["exercise"]
def misfits(wanted, given):
    # BEGIN SOLUTION: missing, unexpected, of another shape
    # BLANK: return ...
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    return missing, unexpected, [name for name in wanted if name in given and wanted[name] != given[name]]
    # END SOLUTION


fits = check.misfits(misfits)
fits

# %% [markdown]
# On the two networks here:

# %%
if fits:
    found = misfits(sizes, {name: tensor.shape for name, tensor in weights.items()})
    for what, names in zip(("the file lacks", "the network does not know", "have another shape"), found, strict=True):
        print(f"{what}: {len(names)}, such as {names[0] if names else 'none'}")

# %% [markdown]
# **Mend it, see the gain.** A file that carries its own recipe cannot be rebuilt wrongly: `run.load()` reads the network's options from the weights file. The same held-out patients, with the quick remedy and with that:


# %%
def dice_of_network(network):
    from dataclasses import replace

    predictor = VolumePredictor([replace(trained, network=network.eval())])
    return pd.DataFrame([dice_row(case, mask_of(predictor(case), case)) for case in held_out]).mean()


loaders = pd.DataFrame({"rebuilt without its units": dice_of_network(rebuilt), "rebuilt from its recipe": dice_of_network(trained.network)}).T  # fmt: skip
loaders.loc["gained"] = loaders.iloc[1] - loaders.iloc[0]
loaders.style.format("{:.3f}").format("{:+.3f}", subset=("gained", slice(None))).set_uuid("loader")

# %% [markdown]
# The count of loaded tensors, printed above, is what a loader should print, or better refuse.

# %%
quiz("not-strict")

# %% [markdown]
# ### Two more of R4's, in a line each
# Its intensity changes come *before* the z-score, which takes them out again (notebook 02 measures it on whole pipelines):

# %% tags=["nbval-check-output"]
tissue = np.random.default_rng(0).normal(300, 60, 100_000)
plain, changed = ((x - x.mean()) / x.std() for x in (tissue, 1.1 * tissue + 20))
print(f"scaled by 1.1, shifted by 20, then z-scored: differs by {np.abs(changed - plain).max():.6f}")

# %% [markdown]
# And its *best metric* starts at 2 and is lowered: it is a loss under a metric's name, so that whoever reads the checkpoint's name takes a good loss, a low one, for a bad Dice.
#
# ## Results
# R4's recipe beside the course's, on the same patients and for the same computing time. Recorded runs; mean Dice with intervals over patients, on held-out phantoms and, trained on phantoms alone, on eight real scans.

# %%
comparison = {}
for title, stem in (("R4, all four", "phantoms_r4_unet"), ("course", "phantoms_course_resunet3d")):
    for key, where in (("phantoms", "held-out phantoms"), ("real", "real scans")):
        comparison[f"{title}, {where}"] = {region: recorded(stem, region, key) for region in REGIONS}
pd.DataFrame(comparison).T.style.set_uuid("comparison")

# %% [markdown]
# One run each, scored with its last weights. Were they its best? The looks at two held-out phantoms while it trained:

# %%
for title, stem in (("R4", "phantoms_r4_unet"), ("course", "phantoms_course_resunet3d")):
    if stem in RECORDED:
        told = RECORDED[stem].history.set_index("step")["dice"]
        print(f"{title}: mean Dice at best {told.max():.2f}, after step {told.idxmax()}; at the end {told.iloc[-1]:.2f}, after step {told.index[-1]}")  # fmt: skip

# %% [markdown]
# By how much the course is ahead, patient by patient. An interval that holds 0 is no finding; one that does not is a hint, since eight patients make intervals too narrow and several regions are looked at. $p$ is corrected for that (Holm, notebook 07). Read the rows of real scans by themselves: what holds on phantoms need not hold there.

# %%
ours = RECORDED.get("phantoms_course_resunet3d")
ahead = ours.summary.get("ahead of", {}).get("phantoms_r4_unet", {}) if ours else {}
differences = {where: {region: "{difference:+.2f} ({low:+.2f} to {high:+.2f}), p {p_holm:.2f}".format(**by[region]) for region in REGIONS} for where, by in ahead.items()}  # fmt: skip
pd.DataFrame(differences).T.style.set_uuid("ahead") if differences else print(NOT_YET)

# %% [markdown]
# ## When it goes wrong
# - **A fold scores far worse than the others.** Look at its patients before its training: one missed small tumour among three patients costs a third. Then at its loss curve.
# - **Dice of a fold is exactly 1 or 0.** A region that is empty in the truth: 1 if nothing was said, 0 for a single voxel (notebook 07).
# - **Folds look too good.** A patient is on two sides, or something was fitted on all cases before dealing: an average brain, an intensity scale, a choice of recipe.
# - **All modalities, but no ET.** Is the order of the channels the same as in training? T1 and T1 contrast are easily swapped, and nothing breaks.
# - **Out of memory with folds in parallel.** Each process holds a network and a cache of its own: fewer workers.
# - **The rate in the log does not move.** Then no schedule is at work, whatever the recipe says.
#
# ## Words
# **modality**: one of the four pictures, T1, T1 contrast, T2, FLAIR. **modality dropout**: pictures set to 0 at random in training. **fold**: a group of patients that is held out once. **cross-validation**: as many trainings as folds. **out of fold**: said by the network that has not seen the patient. **nested**: the choice is made inside, the score outside.
# **ensemble**: several networks, their probabilities averaged. **spread**: standard deviation. **bootstrap interval**: where 95 % of the means lie when patients are drawn again. **warm restart**: the rate jumps back to its start. **checkpoint**: saved weights. **strict**: every tensor must fit.
# **ET, TC, WT, NETC, SNFH**: enhancing tumour, core, whole tumour; non-enhancing core, oedema and infiltration.
#
# ## Read on
# - Baid U. et al., The RSNA-ASNR-MICCAI BraTS 2021 benchmark, arXiv 2107.02314: the four modalities and how they are prepared.
# - Havaei M. et al., HeMIS: hetero-modal image segmentation, MICCAI 2016, arXiv 1607.05194: missing modalities.
# - Neverova N. et al., ModDrop, TPAMI 2016, arXiv 1501.00102: modality dropout.
# - Bengio Y., Grandvalet Y., No unbiased estimator of the variance of k-fold cross-validation, JMLR 5, 2004.
# - Varma S., Simon R., Bias in error estimation when using cross-validation for model selection, BMC Bioinformatics 7:91, 2006, doi 10.1186/1471-2105-7-91.
# - Loshchilov I., Hutter F., SGDR: stochastic gradient descent with warm restarts, ICLR 2017, arXiv 1608.03983.
# - Isensee F. et al., nnU-Net, Nature Methods 2021, doi 10.1038/s41592-020-01008-z: five folds and their ensemble as a habit.
#
# ## What to take along
# 1. What a picture does not show, no training brings back; measure contrast first.
# 2. A missing modality is a task of its own: train for it, or do not promise it.
# 3. Deal patients, not scans; report the mean and its spread, never the best fold.
# 4. Whatever has chosen cannot judge.
# 5. Print names, rates and shapes: two of these bugs raised no error, and the third one's is easily silenced.
#
# Next, notebook 09 makes an application of such a network.
