# %% [markdown]
# # 00 First look: from a scan to a scored segmentation
#
# **You will be able to**
# - open a patient's MRI sequences, step through them and turn them in space,
# - lay a segmentation over them and say which tissue is which,
# - compare a prediction with the truth, and read Dice and HD95,
# - state a tumour's size in millilitres, from a function of your own,
# - run all of it on your own folder of scans.
#
# **Time:** {{time quick}} (quick), {{time full}} (full) · **Needs:** Python and the course; nothing is downloaded · **Rebuilds:** one line
# of R1, in the bug lab
#
# This notebook walks the whole road once, fast; the other nine take it apart. R1 is one of five student reports (R0 to R4) that the course
# rebuilds. *BraTS* is the yearly challenge in brain-tumour segmentation whose data and rules most of them use. The course teaches; it is not a
# medical device.

# %% [markdown]
# ## Where the data comes from
# `data_dir` is a folder of scans in the layout of a public data set, `case_number` a case in it. Left empty, the course makes its own
# patients, called *phantoms*: a real average brain, bent anew for each of them, in which a tumour was grown and then scanned by a
# simulated scanner. No patient's scan is in this course.

# %% tags=["parameters"]
profile = "quick"
data_dir = ""
case_number = 0
output_dir = ""
seed = 0

# %% [markdown]
# The next cell starts the notebook: it fixes every random number, finds or makes the scans, and blocks the internet, so that
# nothing can leave your machine.

# %%
import numpy as np
import pandas as pd

from brainseg_utils import course
from brainseg_utils.course.readme import LESSONS
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.evaluation import perturb, protocols
from brainseg_utils.inference.volumes import VolumePredictor
from brainseg_utils.views import figures, slices, widget, words
from brainseg_utils.views.state import ViewState, largest_lesion_point, scene_of
from brainseg_utils.views.volumes import view_volume

setup = course.begin("00", profile=profile, data_dir=data_dir, output_dir=output_dir, seed=seed, cases=4)
check, quiz = setup.check, setup.quiz

# %% [markdown]
# ## Where this notebook ends
# A *segmentation* says for every point of a scan which tissue it is. A *voxel* is such a point: a small box, as a pixel is a small square.
# This is where we are going: one scan, what an expert marked in it (the *truth*), and what a network makes of it (the *prediction*). The network
# comes with the course: notebook 04 explains how it works. It has never seen this case (of your own scans:
# unless it is one of the eight on its *model card*, of which more below), and the truth is not shown to it.

# %%
cases = find_cases(setup.data_dir)
case = cases[case_number]
volume, truth = case.images(), case.label().data
predictor = VolumePredictor.load("phantom" if setup.phantom else None, case.layout)
prediction, _ = predictor.segment(case)

# %% [markdown]
# Before you go on: in the picture, where do truth and prediction agree, and where do they not?

# %%
scene = scene_of(case, prediction, modalities=("t1c", "t2f"))
end = ViewState(scene, point=largest_lesion_point(scene), labels="both", crosshair=False, size=300)
figures.show(slices.render(end), alt=words.describe(end))

# %% [markdown]
# Networks usually agree with an expert about the place, and disagree along the outlines, about which tissue is which, and in small pieces
# elsewhere. How much is that here? A number is needed, and the rest of this notebook gets there. What the network was trained on, and how well it does on
# real scans, is written on its *model card*, `data/reference/models`; every model should have one.
#
# ## What is in a case?
# A *case* is one visit of one patient to the scanner. It has four images, called *modalities*: the same head, four times, with the scanner
# tuned to show different things. They lie voxel on voxel, so one array holds them all.

# %%
for modality in case.modalities:
    print(f"{modality}: {case.paths[modality].name}")
print(f"array (modality, x, y, z): {volume.data.shape}, one voxel {volume.spacing} mm")

# %% [markdown]
# The axes always run to the patient's right, front and top (*RAS*), whatever the file's own order is; notebook 01 shows what happens
# when one forgets it. What do the four show?
#
# - **T1** (`t1n`): anatomy. Fluid is dark, white matter bright.
# - **T1 with contrast** (`t1c`): as T1, after an injection that leaks out where a tumour made the vessels leaky. Active tumour lights up.
# - **T2** (`t2w`): water is bright, be it fluid or swelling.
# - **FLAIR** (`t2f`): as T2, but free fluid is dark, so that swelling stands out.
#
# ## Look
# Move the slice slider or use the arrow keys; click to put the cross on a point in all four at once; `Page Up` and `Page Down` go in larger steps.
# Try the three planes. The letters say where the patient's left and right are: you look at the patient as if from the feet, so the
# left of the picture is the patient's right. The thin lines are the borders of what was marked; `b` takes them off, `o` fills them with colour.

# %%
widget.view_case(case, overlay=False)

# %% [markdown]
# On which modality is the outer edge of the abnormality easiest to see? On which the inner part that takes up contrast? Those two answers
# are why a model is given all four.
#
# ## What is marked?
# The truth is an array of the same grid that holds a small integer per voxel. Which integer is which tissue depends on the data set, and is
# never guessed: the case carries its *label scheme*.

# %%
print(f"{case.layout} labels: {case.scheme.describe()}")
for value, tissue in case.scheme.tissues.items():
    print(f"{tissue:5} {(truth == value).sum() * volume.voxel_ml:7.1f} mL")

# %% [markdown]
# - **NETC**, *non-enhancing tumour core*: dead tissue, or tumour that takes up no contrast.
# - **SNFH**, *surrounding FLAIR hyperintensity*: swelling (*oedema*) around the tumour, with tumour cells in it.
# - **ET**, *enhancing tumour*: the active part that contrast shows.
# - **RC**, *resection cavity*: the hole that an operation left; only in scans after treatment.
#
# Doctors ask for larger parts than single tissues, and the challenges score those. They are called *regions*: ET itself; the *tumour core*
# TC, what one could operate on; and the *whole tumour* WT, the core with the swelling
# around it.
#
# ### Exercise 1: which tissues make up the tumour core?
# <details><summary>Hint</summary> The core is TC. WT has one tissue that TC does not: the swelling.</details>

# %% tags=["exercise"]
# BEGIN SOLUTION: the set of tissue names that make up TC
core = {"NETC", "ET"}
# END SOLUTION
check.core_tissues(core)

# %% [markdown]
# Why regions at all? Choose an answer; every choice has its explanation.

# %%
quiz("region-or-tissue")

# %% [markdown]
# ## In space
# The same case, turned with the mouse. The prediction's tissues are drawn over the scan with contrast. On a page or in print you see three planes through
# the same point instead.

# %%
view_volume(case, prediction)

# %% [markdown]
# ## How large is it?
# Size is one of the things that guide treatment, and how it changes from scan to scan helps to tell whether the treatment works. A voxel is a box; its three sides are the *spacing*, in millimetres.
#
# ### Exercise 2: the volume in millilitres
# A millilitre is 1000 mm³. Write the function.
# <details><summary>Hint</summary> Count the voxels that are true, then multiply by the volume of one, which is the product of its three sides
# (<code>np.prod</code>).</details>


# %% tags=["exercise"]
def volume_ml(mask: np.ndarray, spacing: tuple[float, float, float]) -> float:
    # BEGIN SOLUTION: the volume of the true voxels in mL
    return mask.sum() * np.prod(spacing) / 1000
    # END SOLUTION


whole = case.scheme.region(truth, "WT")
check.volume(volume_ml, whole, volume.spacing)

# %% [markdown]
# What does a volume hang on, besides the mask?

# %%
quiz("what-a-millilitre-needs")

# %% [markdown]
# ## How good is the prediction?
# The commonest number is *Dice*. For two masks $A$ and $B$ (sets of voxels) it is
#
# $$\text{Dice} = \frac{2\,|A \cap B|}{|A| + |B|}$$
#
# where $|A|$ is the number of voxels in $A$ and $A \cap B$ holds the voxels that are in both. 1 is a perfect match, 0 no common voxel. On masks
# small enough to count by hand:

# %%
a = np.array([1, 1, 1, 1, 0, 0], bool)
b = np.array([0, 0, 1, 1, 1, 0], bool)
print(f"|A| = {a.sum()}, |B| = {b.sum()}, both = {(a & b).sum()}: Dice = 2 x 2 / (4 + 3) = {2 * 2 / 7:.3f}")

# %% [markdown]
# ### Exercise 3: Dice
# Two masks in, one number out. Think about one case more: the patient has no enhancing tumour and the prediction says so too. What should the
# number be?
# <details><summary>Hint</summary> If both are empty, the formula divides 0 by 0. They agree completely, though.</details>


# %% tags=["exercise"]
def dice(a: np.ndarray, b: np.ndarray) -> float:
    # BEGIN SOLUTION: twice the shared voxels over the sum of both; and the case of two empty masks
    total = a.sum() + b.sum()
    return 2 * (a & b).sum() / total if total else 1.0
    # END SOLUTION


check.dice(dice, a, b)

# %% [markdown]
# Exercise 3 had a case without tumour. The challenge had to decide it as well:

# %%
quiz("empty-both")

# %% [markdown]
# Dice says nothing about *where* the mistakes are. *HD95* does: take every point on one outline, measure how far it is from the other outline, in
# millimetres, and take the distance that 95% of the points stay below (both ways, the worse counts). 0 is perfect; a large number means that a
# piece of outline lies far from where it should be.
#
# **Guess first**, from the picture above: which of the three regions will have the lowest Dice? Will the HD95 of WT be nearer to 2 mm or to 50 mm?

# %%
rows = protocols.score_case(truth, prediction, volume.spacing, "brats2023", case.scheme)
names = {
    "dice": "Dice",
    "hd95": "HD95 (mm)",
    "volume_truth": "truth (mL)",
    "volume_prediction": "prediction (mL)",
}
scores = pd.DataFrame([row for row in rows if row.metric in names])
table = scores.pivot(index="region", columns="metric", values="value")
table = table.loc[["ET", "TC", "WT"], list(names)].rename(columns=names).rename_axis(columns=None)
table[["truth (mL)", "prediction (mL)"]] /= 1000  # from mm³
table.round(2)

# %% [markdown]
# A large, compact region can lose a layer of voxels all around and keep a high Dice. ET is often a thin shell, nearly all outline, so that the same shift costs it
# a large share of its voxels. A small false piece elsewhere hardly touches Dice; it touches HD95 if it holds more than 5% of the
# outline. A region that neither side has gets the perfect scores, 1 and 0;
# one that only one side has gets a Dice of 0 and BraTS's penalty of 374 mm, about the diagonal of a whole scan. Now see the mistakes themselves:

# %%
wrong = ViewState(scene, point=end.point, labels="errors", crosshair=False, size=300)
figures.show(slices.render(wrong), alt=words.describe(wrong))

# %% [markdown]
# The two numbers can disagree. What does it mean when they do?

# %%
quiz("hd95-large")

# %% [markdown]
# One number has not been mentioned yet, the one that reports often put first: *accuracy*, the share of all voxels whose label is right.

# %%
quiz("why-not-accuracy")

# %% [markdown]
# ## Bug lab: a Dice above 1
# Report R1 trained several networks on BraTS 2024, and computed its Dice like this. It looks like the formula above. **Before you run it**: the
# prediction below is the truth itself. What should come out?


# %%
def dice_of_r1(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Dice as report R1 computed it, on label maps."""
    return 2 * (truth * prediction).sum() / (truth.sum() + prediction.sum())


labels = truth.astype(float)
print(f"the truth against itself: {dice_of_r1(labels, labels):.3f}")
print(f"the prediction:           {dice_of_r1(labels, prediction.astype(float)):.3f}")

# %% [markdown]
# A Dice above 1 is a gift: it shows that something is wrong. Most mistakes are not so kind. The function multiplies *label numbers*: a voxel of
# label 3 counts $3 \times 3 = 9$ above the line and $3 + 3 = 6$ below. Labels are names, not amounts; had ET been called 7, the
# score would be another one.
#
# Watch it miss something, too. Take a prediction that calls all of the non-enhancing core (NETC) enhancing tumour: what does R1's function give it, beside the Dice of
# the region ET?

# %%
et, core_value = case.scheme.value("ET"), case.scheme.value("NETC")
confused = perturb.relabel(truth, core_value, et)  # every NETC voxel is called ET
right = protocols.voxel.count(truth == et, confused == et).dice
print(f"R1's Dice: {dice_of_r1(labels, confused.astype(float)):.3f}   Dice of ET: {right:.3f}")

# %% [markdown]
# R1's figure stays far above 1, although a whole tissue has the wrong name. The Dice of ET has noticed.
#
# ### Exercise 4: mend it
# Write a Dice of two *label maps* for a region, given as the label values that make it up.
# <details><summary>Hint</summary> Make masks first: <code>np.isin(label_map, values)</code>. Your <code>dice</code> above does the rest.</details>


# %% tags=["exercise"]
def region_dice(truth: np.ndarray, prediction: np.ndarray, values: tuple[int, ...]) -> float:
    # BEGIN SOLUTION: the Dice of the voxels whose label is one of the values
    return dice(np.isin(truth, values), np.isin(prediction, values))
    # END SOLUTION


mended = check.mended_dice(region_dice)
mended

# %% [markdown]
# And the gain: with the mended function the truth gets exactly 1, and the prediction the value of the table above.

# %%
values = case.scheme.values("WT")
if mended:
    print(f"the truth against itself: {region_dice(truth, truth, values):.3f}")
    print(f"the prediction, WT:       {region_dice(truth, prediction, values):.3f}")
    print(f"in the table above:       {table.loc['WT', 'Dice']:.3f}")
else:
    print("solve exercise 4 to see the gain")

# %% [markdown]
# ## Results
# What this notebook measured, in one table: the case, the network's prediction, three regions. The networks that you train from notebook 03 on are scored by
# the same lines.

# %%
summary = table.round(3)
summary.insert(0, "case", case.id)
summary.to_csv(setup.output_dir / "scores.csv")
summary

# %% [markdown]
# A table is a fact only as long as the code that makes it stays the same. On two masks that never change, the metrics must always give these
# numbers, and the course's tests compare them:

# %% tags=["nbval-check-output"]
cube = np.zeros((20, 20, 20), int)
cube[5:12, 5:12, 5:12] = 1
moved = perturb.shift(cube, (2, 0, 0))
fixed = {(r.region, r.metric): r.value for r in protocols.score_case(cube, moved, (1, 1, 1), "brats2023")}
print(f"a cube of 7 mm, moved by 2 mm: Dice {fixed['WT', 'dice']:.4f}, HD95 {fixed['WT', 'hd95']:.1f} mm")

# %% [markdown]
# ## On your own scans
# Everything above runs on your folder: set `data_dir` in the settings cell and run the notebook again, or from a terminal
#
# ```
# brainseg data verify DIR
# brainseg course run --only 00 -p data_dir DIR
# brainseg predict DIR --out PREDICTIONS
# ```
#
# The first command lists every fault of the folder, with what to do about it; the second runs this notebook on it; the third writes a segmentation for every case, with the network above. BraTS 2020, 2021, 2023, 2024
# and Decathlon folders are recognised by their names. These are the cases at hand now:

# %%
listed = [{"case": c.id, "patient": c.patient, "labels": c.scheme.describe()} for c in cases[:8]]
pd.DataFrame(listed).rename_axis("case_number")

# %% [markdown]
# ## When it goes wrong
# - **A widget stays blank.** Run `brainseg doctor`; then reload the page and run the cell again. Pictures made with `slices.render`, as the first
#   one of this notebook, need no widget.
# - **"no cases found"**: the names are not those of a known data set. `brainseg data verify DIR` says what it expected.
# - **"label value 4 is not in scheme"**: 4 is enhancing tumour until 2021 and a resection cavity since 2024; the folder's layout and its labels
#   do not belong together. Notebook 01 shows why nobody should guess.
# - **A Dice of 1 for a region that is not there** is right: nothing to find, nothing claimed.
# - **A Dice above 1, or an accuracy of 99%,** is wrong, or says nothing. You have seen why.
#
# ## What comes next

# %%
ahead = [{"": n.name[:2], "notebook": n.title, "what it explains": n.teaches} for n in LESSONS[1:]]
pd.DataFrame(ahead).set_index("").style.set_uuid("ahead").set_properties(**{"text-align": "left"})

# %% [markdown]
# ## In short
# - A case is four images on one grid and, for training, a mask; a mask means nothing without its label scheme.
# - Regions (ET, TC, WT) are unions of tissues; the scores are given for regions.
# - Dice measures shared volume, HD95 how far outlines lie apart; neither is enough alone.
# - Labels are names: never calculate with them.
#
# **Glossary.** *Voxel*: a small box of a volume, with three side lengths. *Modality*: one of the four images. *Mask*: an array that says which voxels
# belong. *Region*: a union of tissues that is scored. *Spacing*: the voxel's side lengths in mm. *RAS*: axes run right, anterior, superior.
# *Phantom*: a made-up patient.
#
# **Reading.** Menze and others, *The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS)*, IEEE TMI 2015,
# doi 10.1109/TMI.2014.2377694. Maier-Hein, Reinke and others, *Metrics reloaded*, Nature Methods 2024, doi 10.1038/s41592-023-02151-z.
