# %% [markdown]
# # 01 Data exploration: know the scans before you train on them
#
# **You will be able to**
# - say what each of the four MRI sequences shows, and measure what the others add,
# - read a NIfTI file's header and affine, turn a voxel into millimetres, and notice a scan that was flipped,
# - translate masks between the label schemes of BraTS 2020 to 2024, the Decathlon and LGG, and tell tissues from
#   regions,
# - describe a cohort in one table, and say what an accuracy of 96% is worth on it,
# - list the faults of a folder of scans with one command,
# - split a cohort so that its scores mean something, and show by measurement what happens otherwise.
#
# **Time:** {{time quick}} (quick), {{time full}} (full) · **Needs:** notebook 00 is of use; nothing is downloaded ·
# **Rebuilds:** R2's data and its split by slice, with one figure of R2 and one of R3 looked at closely
#
# The R-numbers are five student reports that the course rebuilds; the README lists them. This is not a medical
# device, and nothing in it is advice about a patient.

# %% [markdown]
# ## Settings
# Give your own folders here: `data_dir` a BraTS-like data set or a Decathlon folder, `lgg_dir` the Kaggle LGG slices.
# Left empty, the course makes its own patients, called **phantoms**: a real average brain, deformed anew for each, in
# which a tumour was grown.

# %% tags=["parameters"]
profile = "quick"
data_dir = ""
lgg_dir = ""
output_dir = ""
seed = 0

# %% [markdown]
# Begin: seeds are fixed and the internet is blocked. In the quick profile at most 24 scans of a larger folder are
# used.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from brainseg_utils import course
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.labels import SCHEMES, TISSUE_NAMES
from brainseg_utils.datasets.layouts import LAYOUTS, MODALITIES, MODALITY_TITLES
from brainseg_utils.progress import track
from brainseg_utils.views import figures, palette, slices, widget

setup = course.begin("01", profile=profile, data_dir=data_dir, lgg_dir=lgg_dir, output_dir=output_dir, seed=seed)
check, quiz = setup.check, setup.quiz
figures.use_style()
pd.options.display.max_colwidth = None
cases = find_cases(setup.data_dir)
cases = [case for case in cases if case.label_path][: 24 if setup.profile.quick else None]
print(f"{len(cases)} labelled scans of {len({c.patient for c in cases})} patients, layout {cases[0].layout}")

# %% [markdown]
# ## Where this notebook ends
#
# One patient, four pictures of the same slice, and what experts (or, in a phantom, its maker) have drawn on it. At
# the end you can explain everything in this figure: why there are four pictures, which side is the patient's left,
# what the colours mean and what they are called in a file, how much of the head they fill, and whether a network that
# was tested on the next slice of the same patient has proved anything.
#
# In JupyterLab the picture is live: click into it to move the crosshair, walk through the slices with the arrow keys,
# and press `a`, `c`, `s` for the three planes. On paper it stands still.


# %%
def has_everything(case, voxels=300):
    """Whether the mask holds a fair amount of the three tissues that all BraTS years have."""
    mask = case.label().data
    return all((mask == case.scheme.value(tissue)).sum() >= voxels for tissue in ("NETC", "SNFH", "ET"))


example = next((case for case in cases if has_everything(case)), cases[0])
widget.view_case(example)

# %% [markdown]
# ## 1 · Why four modalities?
#
# An MRI scanner can make water, fat or leaked contrast medium bright, by the timing of its pulses. One way of timing
# is a **sequence**, and the image it gives is called a **modality** in this course.
#
# | name here | also called | bright | dark | for |
# |---|---|---|---|---|
# | `t1n` | T1, native | white matter, fat | water | anatomy |
# | `t1c` | T1ce, T1Gd, T1 with contrast | as T1, and wherever gadolinium leaks out of damaged vessels | water | enhancing tumour (ET) |
# | `t2w` | T2 | water: ventricles, oedema, cysts | white matter | fluid of any kind |
# | `t2f` | FLAIR | oedema, infiltrated tissue | free water, by a second pulse that silences it | oedema beside the ventricles |
#
# The **contrast medium** (gadolinium) stays in healthy vessels: the blood-brain barrier holds it back. Where a tumour
# has broken the barrier, it leaks, and T1 becomes bright. That is what "enhancing" means: brighter in `t1c` than in
# `t1n`.
#
# **Look first.** In the figure above, find something bright in T2 and dark in FLAIR. (Free water: the grooves at the
# brain's surface and, some slices further down, the ventricles, the chambers in its middle.) Then something bright in
# both. (Oedema: water bound in tissue. In JupyterLab, `o` takes the colours off it.)
#
# Now measure it. We walk through the cohort **once**, load each scan, and keep little: some voxels of each tissue,
# volumes, and where the tumour lies. The rest of the notebook lives on these.


# %%
def z_scores(images, brain):
    """Each modality shifted and stretched so that its brain has mean 0 and standard deviation 1."""
    inside = images[:, brain]
    return (inside - inside.mean(axis=1, keepdims=True)) / inside.std(axis=1, keepdims=True)


def sample_tissues(values, labels, tissues, rng, wanted=1500):
    """Up to `wanted` voxels of each tissue, (voxels, modalities); "brain" is what carries no label."""
    samples = {}
    for value, name in {0: "brain", **tissues}.items():
        at = np.flatnonzero(labels == value)
        samples[name] = values[:, rng.choice(at, min(wanted, len(at)), replace=False)].T
    return samples


# %% [markdown]
# For the position of the tumour we use boxes of 4 mm in coordinates from the centre of the brain, so that scans of
# any grid fit together: `x` runs to the patient's right, `y` to the front, `z` up. That order of axes is called
# **RAS**, and every array that the course loads is in it.

# %%
BOX_MM, HALF_MM = 4, np.array([84, 108, 88])


def boxes(mask, centre, spacing):
    """The boxes that a mask touches, as an array of truth values over the head."""
    place = (np.argwhere(mask) * spacing - centre + HALF_MM) // BOX_MM
    grid = np.zeros(2 * HALF_MM // BOX_MM, bool)
    inside = ((place >= 0) & (place < grid.shape)).all(axis=1)
    grid[tuple(place[inside].astype(int).T)] = True
    return grid


def middle(mask, spacing):
    """Centre of a mask's bounding box in mm from the array's corner."""
    at = np.argwhere(mask)
    return (at.min(axis=0) + at.max(axis=0)) / 2 * spacing


# %% [markdown]
# And the one walk:


# %%
def measure(case, rng):
    """One scan's row of the cohort table, its sampled voxels, and its boxes."""
    images, mask = case.images(), case.label().data
    brain = (images.data != 0).any(axis=0)
    row = {"case": case.id, "patient": case.patient, "grid": " × ".join(map(str, mask.shape))}
    row["spacing mm"] = " × ".join(f"{s:g}" for s in images.spacing)
    row |= {"voxels": mask.size, "brain voxels": int(brain.sum()), "brain mL": brain.sum() * images.voxel_ml}
    for tissue in case.scheme.tissues.values():
        row[tissue] = int((mask == case.scheme.value(tissue)).sum())
    for region in ("ET", "TC", "WT"):
        row[f"{region} mL"] = case.scheme.region(mask, region).sum() * images.voxel_ml
    for name, channel in zip(MODALITIES, images.data, strict=True):
        row |= {f"{name} p{p}": v for p, v in zip((1, 50, 99), np.percentile(channel[brain], (1, 50, 99)), strict=True)}
    centre, spacing = middle(brain, images.spacing), np.array(images.spacing)
    place = [boxes(m, centre, spacing) for m in (case.scheme.region(mask, "WT"), brain)]
    return row, sample_tissues(z_scores(images.data, brain), mask[brain], case.scheme.tissues, rng), place


measured = [measure(case, setup.rng("voxels", case.id)) for case in track(cases, "measuring")]
cohort = pd.DataFrame([row for row, _, _ in measured]).set_index("case")
samples = [voxels for _, voxels, _ in measured]
tissues = [name for name in palette.TISSUES if name in cohort]

# %% [markdown]
# How bright is each tissue in each modality? In **z-scores**: 0 is the mean of that patient's brain, 1 is one
# standard deviation above.
#
# **Guess before you look:** in which column will ET be highest? In which will SNFH (oedema and infiltration) stand
# out most from the brain?

# %%
figure, axes = plt.subplots(1, 4, figsize=(9, 2.9), sharey=True)
groups = ["brain", *tissues]
for column, (axis, name) in enumerate(zip(axes, MODALITIES, strict=True)):
    values = [np.concatenate([s[g][:, column] for s in samples if g in s]) for g in groups]
    drawn = axis.boxplot(values, showfliers=False, patch_artist=True, widths=0.6)
    for box, group in zip(drawn["boxes"], groups, strict=True):
        look = figures.bar_style(group) if group in tissues else {"facecolor": "#DDDDDD", "hatch": ""}
        box.set(facecolor=look["facecolor"], hatch=look["hatch"], edgecolor="black", linewidth=0.5)
    plt.setp(drawn["medians"], color="black")
    axis.set(title=MODALITY_TITLES[name], xticklabels=groups)
    axis.tick_params(axis="x", rotation=60)
axes[0].set_ylabel("z-score over the brain")
medians = {g: np.median(np.concatenate([s[g] for s in samples if g in s]), axis=0) for g in groups}
told = "; ".join(f"{g} " + ", ".join(f"{v:.1f}" for v in medians[g]) for g in groups)
figures.show(figure, f"Four box plots, T1, T1 with contrast, T2, FLAIR. Median z-scores in that order: {told}.")

# %% [markdown]
# Boxes that overlap mean: brightness alone cannot tell the two tissues apart. How often it can is one number, the
# **AUC**: draw a voxel of each tissue; how often is the one brighter than the other? 0.5 is a coin, 1.0 is always
# (and so is 0.0, with the sign turned). We take it per patient, and average.
#
# The last column uses all four: a weighted sum of the modalities, with weights that were fitted on the **other**
# patients (Fisher's discriminant, 1936). It is about the simplest thing that can learn.

# %%
from scipy.stats import rankdata


def auc(a, b):
    """Share of pairs in which the voxel of `a` is brighter than that of `b`."""
    ranks = rankdata(np.concatenate([a, b]))[: len(a)]
    return (ranks.sum() - len(a) * (len(a) + 1) / 2) / (len(a) * len(b))


def direction(a, b):
    """Weights whose sum separates `a` from `b` best, if both are clouds of one shape: Fisher's discriminant."""
    return np.linalg.solve(np.cov(a.T) + np.cov(b.T), a.mean(axis=0) - b.mean(axis=0))


# %% [markdown]
# Each scan gives one pair of samples, if both tissues are there. For the weights of a scan, all scans of its patient
# are left out: why that matters is the subject of section 8.


# %%
def pairs_of(one, other, least=50):
    """Patient and sampled voxels of two tissues, scan by scan, where there are enough of both."""
    known = zip(cohort["patient"], samples, strict=True)
    return [(p, s[one], s[other]) for p, s in known if one in s and min(len(s[one]), len(s[other])) >= least]


def separations(pairs):
    """AUC of one pair of tissues: a number a modality, and one for all four together."""
    single = np.mean([[auc(a[:, m], b[:, m]) for m in range(4)] for _, a, b in pairs], axis=0)
    together = []
    for patient, a, b in pairs:
        rest = [(c, d) for other, c, d in pairs if other != patient] or [(a, b)]
        weights = direction(*(np.concatenate(side) for side in zip(*rest, strict=True)))
        together.append(auc(a @ weights, b @ weights))
    return [*np.maximum(single, 1 - single), np.mean(together)]


# %% [markdown]
# **Guess again:** will one modality win everywhere?

# %%
questions = [("SNFH", "brain"), ("ET", "SNFH"), ("ET", "NETC"), ("NETC", "SNFH"), ("RC", "NETC")]
pairs = {" / ".join(q): found for q in questions if set(q) <= {*tissues, "brain"} and (found := pairs_of(*q))}
separation = pd.DataFrame({q: separations(p) for q, p in pairs.items()}, index=[*MODALITIES, "all four"]).T
separation.round(2).assign(scans=[len(p) for p in pairs.values()])

# %% [markdown]
# **Your turn.** Which single modality separates each pair best? Make a dictionary, such as `{"ET / NETC": "t2w",
# ...}`, from the table, by a line of code that would still be right on another cohort.
#
# <details><summary>Hint</summary>
#
# `idxmax(axis=1)` of a table gives, for each row, the column with the largest value. Take only the four columns in `MODALITIES`.
# </details>

# %% tags=["exercise"]
# BEGIN SOLUTION: one modality for each row of `separation`
best = separation[list(MODALITIES)].idxmax(axis=1).to_dict()
# END SOLUTION
check.best_modality(best, separation)

# %% [markdown]
# **So why four?** Count, in the table: how many different modalities win a row, and how often do the four together
# beat the best of them?

# %%
single = separation[list(MODALITIES)]
gain = separation["all four"] - single.max(axis=1)
print(
    f"{single.idxmax(axis=1).nunique()} modalities win {len(single)} rows; all four together are ahead in {(gain > 0).sum()}"
)
print(f"gain of all four over the best single one: from {gain.min():+.2f} to {gain.max():+.2f} AUC")

# %% [markdown]
# No modality is the best one for every question, and what one leaves open another settles. (Where the four together
# are behind, look at the last column of the table: weights that were fitted on a handful of other patients need not
# suit the next one.) Notebook 08 measures the same with networks: what is lost when a modality is missing.

# %%
quiz("why-four")

# %% [markdown]
# ## 2 · Where is a voxel? NIfTI, header and affine
#
# **Question:** a file holds 3D numbers. Which of them is the patient's left?
#
# The array does not say. The **header** in front of it does. NIfTI is the file format of nearly all such data sets:
# 348 bytes of header, then the numbers, usually compressed (`.nii.gz`). These are the fields that matter:

# %%
import nibabel as nib

from brainseg_utils.datasets import nifti

stored = nifti.read(example.paths["t2f"])
header = stored.header
fields = {
    "dim (voxels along each axis)": tuple(int(n) for n in header.get_data_shape()),
    "pixdim (their size)": tuple(round(float(s), 3) for s in header.get_zooms()),
    "xyzt_units (of that size)": header.get_xyzt_units()[0],
    "datatype (of the numbers)": str(header.get_data_dtype()),
    "scl_slope, scl_inter (intensity = slope · number + inter)": nifti.scaling(header),
    "qform_code, sform_code (which affine is set)": (int(header["qform_code"]), int(header["sform_code"])),
    "orientation (where the axes run to)": "".join(nib.aff2axcodes(stored.affine)),
}
print(example.paths["t2f"].name)
pd.Series(fields, name="value").to_frame()

# %% [markdown]
# (In a Decathlon file there is a fourth axis: the four modalities.) The **affine** is a 4 × 4 matrix. It takes a
# voxel's index (i, j, k) to its place in the scanner, in millimetres: x to the patient's right, y to the front, z up.

# %%
print(np.array2string(stored.affine, precision=2, suppress_small=True))

# %% [markdown]
# Read it column by column: the first says where you go if `i` grows by one, the second and third the same for `j` and
# `k`, and the last one where voxel (0, 0, 0) lies. The length of a column is the voxel's size along that axis. As a
# formula, with A the upper left 3 × 3 part and t the last column:
#
# &nbsp;&nbsp;&nbsp;&nbsp;(x, y, z) = A · (i, j, k) + t
#
# By hand: if the three columns of A are (-2, 0, 0), (0, -2, 0) and (0, 0, 3), and t is (10, 238, -5), then voxel (3,
# 5, 7) lies at x = -2·3 + 10 = 4, y = -2·5 + 238 = 228, z = 3·7 - 5 = 16 mm.
#
# **Your turn.** Write it, for any affine.
#
# <details><summary>Hint</summary>
#
# `affine[:3, :3]` is A, `affine[:3, 3]` is t, and `@` is the matrix product. Or append a 1 to the voxel and use the whole matrix; then leave out the fourth number of the result.
# </details>


# %% tags=["exercise"]
def to_mm(affine, voxel):
    # BEGIN SOLUTION: three numbers, x, y and z in mm
    return affine[:3, :3] @ np.asarray(voxel) + affine[:3, 3]
    # END SOLUTION


check.to_mm(to_mm)

# %% [markdown]
# ### A scan, flipped on purpose
#
# Three people hand you the same scan. One as it is. One has reversed the first axis of the array ("it looked mirrored
# in my viewer") and kept the header. One has reversed the axis **and** mended the affine. All three files load, and
# all three look like a head.
#
# **Guess:** in which of them does the tumour change sides?

# %%
volume = stored.data if stored.data.ndim == 3 else stored.data[..., example.channels["t2f"]]
mask = nifti.read(example.label_path).data
mended = nib.Nifti1Image(volume, stored.affine).slicer[::-1]  # nibabel's slicer takes the affine along
files = {
    "as it is": (volume, mask, stored.affine),
    "array reversed": (volume[::-1], mask[::-1], stored.affine),
    "array and affine": (mended.get_fdata(), mask[::-1], mended.affine),
}

# %% [markdown]
# Each is turned to RAS, as every loader does, and drawn as radiologists look at it: **the patient's right is on the
# left** of the picture.

# %%
figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.4))
tumour = example.scheme.values("WT")
told = []
for axis, (name, (data, labels, affine)) in zip(axes, files.items(), strict=True):
    head, placed = nifti.to_ras(data, affine)
    region = np.isin(nifti.to_ras(labels, affine)[0], tumour)
    level = int(region.sum(axis=(0, 1)).argmax())
    of_tumour, of_head = (np.argwhere(m).mean(axis=0)[0] for m in (region, head != 0))
    apart = (of_tumour - of_head) * placed[0, 0]  # RAS: the first axis grows to the patient's right
    side = "right" if apart > 0 else "left"
    axis.imshow(slices.cut(head, "axial", level), vmax=np.percentile(head[head != 0], 99.5))
    axis.contour(slices.cut(region, "axial", level), [0.5], colors=palette.style("WT").colour, linewidths=1.5)
    axis.set_title(f"{name}\ntumour {abs(apart):.0f} mm to the {side}", fontsize=10)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.text(0.02, 0.5, "R", transform=axis.transAxes, color="white", ha="left")
    axis.text(0.98, 0.5, "L", transform=axis.transAxes, color="white", ha="right")
    told.append(f"{name}: tumour on the patient's {side}")
figures.show(figure, f"The same FLAIR slice three times with the whole tumour outlined. {'; '.join(told)}.")

# %% [markdown]
# Only the second is wrong, and nothing in it looks wrong. A patient could be operated on the healthy side. That is
# why a flip as augmentation (notebook 02) is done to image **and** mask in memory, and never written to a file with
# the old affine.
#
# **Your turn.** Do what `slicer` did for the third person: the array with its first axis reversed, and the affine
# under which every voxel stays where it is in the patient.
#
# <details><summary>Hint</summary>
#
# New voxel i is old voxel n - 1 - i. Write that as a 4 × 4 matrix (a -1 on the diagonal, and n - 1 in the last
# column), and let it act on the index before the old affine does.
# </details>


# %% tags=["exercise"]
def true_flip(data, affine):
    # BEGIN SOLUTION: reverse the first axis; keep every voxel at its place
    # BLANK: flipped = ...
    # BLANK: moved = ...
    # BLANK: return flipped, moved
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = data.shape[0] - 1
    return data[::-1], affine @ mirror
    # END SOLUTION


check.true_flip(true_flip)

# %% [markdown]
# What the second person did, once more:

# %%
quiz("affine")

# %% [markdown]
# ## 3 · What does a 4 mean? Label schemes, tissues and regions
#
# **Question:** somebody gives you a mask whose values are 0, 1, 2 and 4. What is 4?
#
# It depends on the year. This table is taken from the package's only list of schemes; every part of the course asks
# it.

# %%
rows = {}
for layout in LAYOUTS.values():
    scheme = layout.scheme
    row = {str(value): scheme.tissues.get(value, "") for value in (1, 2, 3, 4, 255)}
    for region in ("ET", "TC", "WT"):
        row[region] = " + ".join(map(str, scheme.values(region))) if region in scheme.regions else ""
    rows[layout.name] = {"scheme": scheme.name, **row}
pd.DataFrame(rows).T

# %% [markdown]
# Left, the **tissues**: each voxel has one, and the file holds its number. Right, the **regions**, which the
# challenges score: sets of tissues, one inside the other. ET is the enhancing tumour, TC (tumour core) adds what does
# not enhance (NETC), WT (whole tumour) adds oedema and infiltration (SNFH). RC, the cavity that surgery leaves,
# belongs to none of the three. `brats2021` is the scheme of 2017 to 2021: the 3 was given up when two tissues were
# merged. LGG marks one thing only, the FLAIR abnormality.

# %%
look = figures.legend_handles(["NETC", "SNFH", "ET", "RC"])
for handle in look:
    handle.set_label(f"{handle.get_label()}: {TISSUE_NAMES[handle.get_label()]}")
figure, axis = plt.subplots(figsize=(6.4, 1.1))
axis.axis("off")
axis.legend(handles=look, loc="center", handlelength=3, handleheight=1.3)
figures.show(figure, "The course's four tissue colours with their hatches and names: NETC, SNFH, ET and RC.")

# %% [markdown]
# Now read one mask under every scheme, and ask each for the tumour core (TC). Each row is the same patient, written
# as that data set would write it; each column is the scheme that a programmer assumed. **Guess:** what stands off the
# diagonal?

# %%
names = ["brats2021", "brats2023", "brats2024", "msd"]
truth = example.label().data
if "RC" in tissues:
    truth[example.scheme.region(truth, "RC")] = 0  # the other years have no number for a cavity
table = pd.DataFrame(index=pd.Index(names, name="written as"), columns=[f"read as {n}" for n in names])
for written in names:
    on_disk = example.scheme.convert(truth, SCHEMES[written])
    for assumed in names:
        found = np.isin(on_disk, SCHEMES[assumed].values("TC"))
        right = example.scheme.region(truth, "TC")
        table.loc[written, f"read as {assumed}"] = f"{found.sum()}, of them {(found & right).sum()} right"
table

# %% [markdown]
# That was the tumour core (TC), in voxels. Three ways to go wrong, and none of them stops a program: tissue is lost
# (2021 and 2023 mixed up: the ET is not found), another tissue is taken in (Decathlon's 1 is oedema, and is taken for
# core), or nothing happens until a patient with a cavity comes (2024 read as 2021: RC would become ET).
#
# And a score may *improve*. Take a model that never finds any enhancing tumour, and an evaluation written for another
# year. By the challenges' rule a patient without ET and a prediction without ET agree perfectly: Dice 1.


# %%
def dice(one, other):
    """Twice the shared voxels over the sum; 1 if both are empty, the challenges' rule."""
    total = one.sum() + other.sum()
    return 2 * (one & other).sum() / total if total else 1.0


wrong = SCHEMES["brats2023" if example.scheme.value("ET") == 4 else "brats2021"]
with_et = [case for case in cases if cohort.loc[case.id, "ET"] > 0]
scores = {"right scheme": [], "wrong scheme": []}
for case in with_et:
    labels = case.label().data
    nothing = np.zeros(labels.shape, bool)
    scores["right scheme"].append(dice(case.scheme.region(labels, "ET"), nothing))
    scores["wrong scheme"].append(dice(wrong.region(labels, "ET"), nothing))
for name, values in scores.items():
    used = example.scheme.name if name == "right scheme" else wrong.name
    print(f"{name} ({used}): mean ET Dice {np.mean(values):.2f} of a model that never predicts ET, {len(values)} scans")

# %% [markdown]
# The package refuses instead of guessing: each mask is checked against the scheme of its layout as it is loaded.

# %%
from brainseg_utils.errors import LabelError

try:
    wrong.check(example.label().data, where="your mask")
except LabelError as error:
    print(error)

# %% [markdown]
# But values 1, 2, 3 fit three schemes, and no check of values can tell Decathlon's from BraTS 2023's. The scheme has
# to come **with** the data.
#
# **Your turn.** Write the translation of a mask between two schemes, each given as a dictionary from value to tissue.
# Remember that one may swap two values.
#
# <details><summary>Hint</summary>
#
# Start with a new array of zeros. For each value of the old scheme, find the value with the same name in the new one,
# and write it where the **old** mask has the old value.
# </details>


# %% tags=["exercise"]
def translate(mask, old, new):
    # BEGIN SOLUTION: the same tissues, in the integers of `new`
    # BLANK: translated = ...
    # BLANK: return translated
    translated = np.zeros_like(mask)
    values = {tissue: value for value, tissue in new.items()}
    for value, tissue in old.items():
        translated[mask == value] = values[tissue]
    return translated
    # END SOLUTION


check.translate(translate)

# %% [markdown]
# The question of this section, and what you would do:

# %%
quiz("value-four")

# %% [markdown]
# And the regions:

# %%
quiz("regions")

# %% [markdown]
# ## 4 · A cohort in one table
#
# **Question:** how different are the patients, and what does a network have to find among how much else?

# %%
volumes = cohort[["grid", "spacing mm", "brain mL", "WT mL", "TC mL", "ET mL"]]
volumes.round(1).head(12)

# %% [markdown]
# Look at the spread of WT, and for zeros: scans without enhancement, or without any tumour, are part of every honest
# cohort. **What such a case is worth in a score** has to be settled before training (notebook 07).

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
for place, region in enumerate(("WT", "TC", "ET")):
    values = cohort[f"{region} mL"]
    jitter = setup.rng("jitter", region).uniform(-0.15, 0.15, len(values))
    line = figures.line_style(region)
    axes[0].plot(place + jitter, values, "o", color=line["color"], alpha=0.8, markeredgecolor="black", markersize=5)
    axes[0].plot([place - 0.3, place + 0.3], [values.median()] * 2, color="black", linestyle="-")
axes[0].set(xticks=range(3), xticklabels=["WT", "TC", "ET"], ylabel="volume (mL)", title="tumours, median as a line")
for name, style in zip(MODALITIES, ["-", "--", ":", "-."], strict=True):
    order = np.sort(cohort[f"{name} p50"])
    axes[1].plot(np.arange(1, len(order) + 1), order, "o", linestyle=style, label=MODALITY_TITLES[name], markersize=4)
axes[1].set(
    xlabel="scan, darkest to brightest", ylabel="median of the brain (no unit)", ylim=(0, None), title="intensities"
)
axes[1].xaxis.get_major_locator().set_params(integer=True)
axes[1].legend(fontsize=8)
spread = max(cohort[f"{name} p50"].max() / max(cohort[f"{name} p50"].min(), 1) for name in MODALITIES)
alt = (
    f"Left: tumour volumes of each scan; median WT {cohort['WT mL'].median():.0f} mL, from {cohort['WT mL'].min():.0f} "
    f"to {cohort['WT mL'].max():.0f}. Right: median intensity of each scan, up to {spread:.1f} times apart in a modality."
)
figures.show(figure, alt)

# %% [markdown]
# On the right: the same tissue in the same modality, in other people. **MRI has no unit.** A CT value means something
# by itself, an MRI intensity only beside the others of its scan. That is why each scan is normalised on its own
# (notebook 02), and why a threshold that works on one patient fails on the next.
#
# ### What an accuracy of 96% is worth
#
# How often does each label occur? As shares of all voxels of the cohort, and of those inside the brain:

# %%
counts = cohort[tissues].sum()
shares = pd.DataFrame(
    {
        "share of all voxels": counts / cohort["voxels"].sum(),
        "share of the brain": counts / cohort["brain voxels"].sum(),
    }
)
shares.loc["no tumour tissue"] = 1 - shares.sum()
(100 * shares).round(2).astype(str) + " %"

# %% [markdown]
# R3 reports an accuracy of 96.55% for BraTS 2020, and R2 says that an all-zero prediction reaches about 96% on LGG.
#
# **Your turn.** Take the whole tumour of our example, and a "network" that answers *background* everywhere. What are
# its accuracy (share of all voxels that are right) and its Dice?

# %% tags=["exercise"]
whole_tumour = example.scheme.region(example.label().data, "WT")
# BEGIN SOLUTION: two numbers between 0 and 1
accuracy = 1 - float(whole_tumour.mean())
overlap = 0.0
# END SOLUTION
check.nothing_found((accuracy, overlap), whole_tumour)

# %% [markdown]
# The same for every scan:

# %%
present = cohort[cohort["WT mL"] > 0]
tumour_voxels = present[[t for t in tissues if t != "RC"]].sum(axis=1)
on_grid = 1 - tumour_voxels / present["voxels"]
in_brain = 1 - tumour_voxels / present["brain voxels"]
print(f"accuracy of 'background everywhere' on {len(present)} scans with a tumour; Dice 0 on each")
print(f"  counting every voxel:      mean {on_grid.mean():.2%}, worst scan {on_grid.min():.2%}")
print(f"  counting the brain's only: mean {in_brain.mean():.2%}, worst scan {in_brain.min():.2%}")

# %% [markdown]
# So an accuracy is mostly a statement about how much air the array holds: a narrower crop lowers it, a wider one
# raises it, and no tumour voxel changed. R3's 96.55% was the accuracy of four classes; set it beside the figure
# above, and beside the IoU (intersection over union: the voxels that both masks have, over those that either has) of
# .43 at which R3's own training table ends. Dice and IoU leave out what both call
# background, which is why the challenges use them.

# %%
quiz("accuracy")

# %% [markdown]
# ## 5 · Where are the tumours?
#
# **Question:** could a network learn where to look without looking? **Guess:** in which part of the head are there
# none?
#
# Each picture looks through the head along one axis and shows the share of patients that have tumour anywhere along
# that line of sight. The outline is the brain.

# %%
places = np.stack([tumour for _, _, (tumour, _) in measured])
heads = np.stack([brain for _, _, (_, brain) in measured])
figure, axes = plt.subplots(1, 3, figsize=(9, 3.4))
views = {"axial, from below": (2, 0, 1), "coronal, from the front": (1, 0, 2), "sagittal, from the left": (0, 1, 2)}
for axis, (title, (along, across, up)) in zip(axes, views.items(), strict=True):
    edges = [HALF_MM[across], -HALF_MM[across], -HALF_MM[up], HALF_MM[up]]
    seen = places.any(axis=along + 1).mean(axis=0).T[::-1, ::-1]
    drawn = axis.imshow(100 * seen, extent=edges, cmap=palette.MAPS["probability"], vmin=0, vmax=100)
    outline = heads.any(axis=along + 1).mean(axis=0).T[::-1, ::-1]
    axis.contour(outline, [0.5], extent=edges, origin="upper", colors="white", linewidths=1)
    axis.set(title=title, xlabel=f"{'xyz'[across]} (mm)", ylabel=f"{'xyz'[up]} (mm)")
    axis.grid(False)
figure.colorbar(drawn, ax=axes, label="patients with tumour here (%)", shrink=0.8)
centre = np.array([np.argwhere(p).mean(axis=0) for p in places if p.any()]) * BOX_MM - HALF_MM
left = int((centre[:, 0] < 0).sum())
alt = (
    f"Three heat maps of tumour position in {len(places)} scans. {left} of {len(centre)} tumours have their centre on the "
    f"left; centres are on average {centre[:, 2].mean():.0f} mm above the middle of the brain."
)
figures.show(figure, alt)

# %% [markdown]
# Most gliomas of adults grow in the cerebrum, above all in its white matter; in the cerebellum, below and behind, they
# are rare. With few
# patients the map is patchy: it is a count, not a law. How far does position alone carry? Predict, for each patient,
# the boxes in which at least a third of the **others** have tumour:

# %%
guessed = []
for patient in cohort["patient"].unique():
    mine = (cohort["patient"] == patient).to_numpy()
    prediction = places[~mine].mean(axis=0) >= 1 / 3
    guessed += [dice(prediction, place) for place in places[mine] if place.any()]
print(
    f"Dice of a guess from position alone: mean {np.mean(guessed):.2f}, best {np.max(guessed):.2f}, {len(guessed)} scans"
)

# %% [markdown]
# Little, and not nothing, for a "network" that never saw the patient. Keep the number: a model has to beat it clearly
# before it can be said to look.
#
# ## 6 · LGG: slices instead of volumes
#
# R2 worked in 2D, with the LGG set that Buda and others put on Kaggle: 110 patients of The Cancer Genome Atlas, one
# colour picture a slice, whose red, green and blue are T1, FLAIR and T1 with contrast. There is no header: no
# spacing, no sides. The course stacks a patient's slices into a volume and knows from the set's documentation how
# they lie.
#
# One walk again. Slices are averaged to 64 × 64 pixels for what follows.

# %%
EDGE = 64


def shrink(stack):
    """(..., X, Y, Z) averaged over squares to (Z, ..., EDGE, EDGE)."""
    factor = stack.shape[-3] // EDGE
    cut = stack[..., : EDGE * factor, : EDGE * factor, :]
    parts = cut.reshape(*cut.shape[:-3], EDGE, factor, EDGE, factor, cut.shape[-1])
    return np.moveaxis(parts.mean(axis=(-4, -2), dtype=np.float32), -1, 0)


lgg = find_cases(setup.lgg_dir)
stacks, masks, rows = [], [], []
for case in track(lgg, "slices"):
    images, mask = case.images().data, case.label().data > 0
    stacks.append(shrink(images))
    masks.append(shrink(mask) > 0.5)
    area = mask.sum(axis=(0, 1))
    rows.append([case.id, len(area), (area > 0).sum(), mask.sum(), mask.size])
columns = ["case", "slices", "with tumour", "tumour pixels", "pixels"]
slice_table = pd.DataFrame(rows, columns=columns).set_index("case")
slice_table.head(8)

# %% [markdown]
# One patient, every few slices. Orange: what was marked.

# %%
typical = lgg[int(slice_table["tumour pixels"].argmax())]
view = replace(widget.view_case(typical, shown=("t2f",)).state, size=150)
picture, alt = figures.montage(view, np.linspace(2, len(typical.slice_paths) - 3, 8).round().astype(int), columns=4)
figures.show(picture, alt)

# %% [markdown]
# Some patients lack a sequence, and the makers of the set filled the gap with FLAIR. A network cannot know that: its
# "T1" is suddenly a FLAIR. Of the full set's 110 patients, its makers say, 101 have all three; in a small cohort it may be everybody.
#
# **Your turn.** Write the function that finds out: given a patient's three channels in the order of `LGG_CHANNELS`
# (`t1n`, `t2f`, `t1c`), which of them, FLAIR apart, are copies of FLAIR?
#
# <details><summary>Hint</summary>
#
# Equal in *every* pixel: `np.array_equal`. Air is equal in every channel of every patient, so "equal in some pixels"
# says nothing.
# </details>

# %% tags=["exercise"]
from brainseg_utils.datasets.layouts import LGG_CHANNELS


def filled_in(images):
    # BEGIN SOLUTION: a list of channel names
    # BLANK: copies = ...
    # BLANK: return copies
    flair = images[LGG_CHANNELS.index("t2f")]
    names = [name for name in LGG_CHANNELS if name != "t2f"]
    return [name for name in names if np.array_equal(images[LGG_CHANNELS.index(name)], flair)]
    # END SOLUTION


check.filled_in(filled_in)

# %% [markdown]
# Once it is right, your function goes through the cohort (on the shrunken slices: equal stays equal):

# %%
if check.filled_in(filled_in):
    copies = {case.id: filled_in(stack.swapaxes(0, 1)) for case, stack in zip(lgg, stacks, strict=True)}
    copies = {case: names for case, names in copies.items() if names}
    print(f"{len(copies)} of {len(lgg)} patients have a sequence filled in with FLAIR")
    for case, names in copies.items():
        print(f"  {case}: {', '.join(names)}")

# %% [markdown]
# ### Empty masks, and two baselines of R2
#
# Most slices have no tumour. R2 gives two baselines: *all zero*, "accuracy about 96%, IoU 0", and *random* (a coin
# for each pixel), "accuracy 50%, IoU about 10%".
#
# **Check them with a pencil first.** If a share *p* of the pixels is tumour, the coin hits half of it (p/2), and the
# union of coin and truth is 1/2 + p/2. So its IoU is p / (1 + p). An IoU of 10% would need p = 11%; an all-zero
# accuracy of 96% needs p = 4%. Both at once cannot be. What is p?

# %%
with_tumour = slice_table["with tumour"].sum()
every = slice_table["tumour pixels"].sum() / slice_table["pixels"].sum()
per_slice = slice_table["pixels"] / slice_table["slices"]
marked_only = slice_table["tumour pixels"].sum() / (per_slice * slice_table["with tumour"]).sum()
baselines = pd.DataFrame(
    {
        "R2, stated": [None, 0.96, 0.10],
        "all slices": [every, 1 - every, every / (1 + every)],
        "slices with tumour only": [marked_only, 1 - marked_only, marked_only / (1 + marked_only)],
    },
    index=["share of tumour pixels p", "accuracy of all zero", "IoU of a coin"],
)
print(
    f"{with_tumour} of {slice_table['slices'].sum()} slices have tumour ({with_tumour / slice_table['slices'].sum():.0%})"
)
baselines.map(lambda v: "" if pd.isna(v) else f"{v:.1%}")

# %% [markdown]
# Which of the two columns is meant also matters for a score: on a slice without tumour, an empty prediction is
# perfect (Dice 1, by convention), so a mean over slices is lifted by every empty slice that a model leaves alone. The
# course therefore stacks a patient's slices and scores **the patient**.

# %%
quiz("empty-slices")

# %% [markdown]
# ## 7 · Is the folder sound? A damaged cohort
#
# **Question:** a thousand scans came over three disks and a web form. Which of them are broken? Training tells you on
# the second evening, or never.
#
# We make a small copy of six scans (every third voxel, so that it is quick; with a smaller folder, of what there is)
# and damage it on purpose.
# `datasets.damage` has some thirty ways to do that, one for each kind of fault; we take six.

# %%
import shutil

from brainseg_utils.datasets import damage
from brainseg_utils.datasets.export import write_case

THIN = 3
damaged_dir = setup.output_dir / "damaged"
shutil.rmtree(damaged_dir, ignore_errors=True)
thin = (..., *[slice(None, None, THIN)] * 3)


def copy_thinned(case, case_id, mirrored=False):
    """Writes a case in the layout of 2024, which has a number for every tissue; `mirrored` forgets the affine."""
    images, label = case.images(), case.label().data[thin]
    data, turn = images.data[thin], -1 if mirrored else 1
    volumes = {name: channel[::turn] for name, channel in zip(MODALITIES, data, strict=True)}
    affine = images.affine @ np.diag([THIN, THIN, THIN, 1])
    return write_case(damaged_dir, "brats2024", case_id, volumes, label[::turn], affine, scheme=case.scheme.name)


copied = [copy_thinned(case, f"BraTS-GLI-{90000 + i}-100", mirrored=i == 2) for i, case in enumerate(cases[:6])]
print(f"{len(copied)} scans copied")

# %% [markdown]
# The copy is not only damaged below: the third scan was written **mirrored** with its old affine, as in section 2.
# And now the six:

# %%
done = [damage.copy_patient(damaged_dir)]
if len(copied) > 3:
    ways = {3: [damage.truncate, damage.rename_t2, damage.write_unknown_label], 1: [damage.shift], 0: [damage.add_nan]}
    done += [way(copied[number]) for number, several in ways.items() for way in several]
pd.DataFrame([(d.kind.value, d.file.split("/")[-1], d.done) for d in done], columns=["fault", "file", "what was done"])

# %% [markdown]
# One command lists them, with file, what was found, what was expected and what to do. On the command line it is
# `brainseg data verify FOLDER`, and its exit code is 1 if there is a fault.
#
# **Guess:** which of the seven will it miss?

# %%
from brainseg_utils.datasets.verify import verify

report = verify(damaged_dir, workers=1)
print(report.summary())
pd.DataFrame(
    [(f.file.split("/")[-1], f.kind, f.found, f.remedy) for f in report.faults],
    columns=["file", "fault", "found", "remedy"],
)

# %% [markdown]
# The mirrored scan, BraTS-GLI-90002-100, is not there. Image, mask and header agree with each other; only the patient
# disagrees. Nothing in the files can show it, so `verify` is where you start, and looking is where you go on.
#
# And the folder that this notebook works on?

# %%
sound = verify(setup.data_dir, workers=setup.workers) if len(find_cases(setup.data_dir)) <= len(cases) else None
print(
    sound.summary()
    if sound
    else f"large folder: run `brainseg data verify` on it once; {len(cases)} scans are used here"
)

# %% [markdown]
# What a clean report means:

# %%
quiz("verify")

# %% [markdown]
# ## 8 · Splits: what does a score prove?
#
# **Question:** a model is scored on data that it was not trained on. Is that enough?
#
# It is not: it has to be scored on **patients** that it was not trained on, because the next patient is whom it is
# for. A scan makes up to 155 slices, each nearly the same as the one above it. And one patient may have come three
# times: 2023 and 2024 count the visits in the last three digits of the id.

# %% tags=["nbval-check-output"]
from brainseg_utils.datasets.layouts import patient_of

for case_id in ("BraTS-GLI-00002-100", "BraTS-GLI-00002-101", "BraTS-SSA-00002-000", "TCGA_CS_4941_19960909"):
    print(f"{case_id:22} belongs to patient {patient_of(case_id)}")

# %% [markdown]
# `datasets.splits` draws patients, saves the split to a file, and refuses one with a patient on two sides:

# %%
from brainseg_utils.datasets import splits
from brainseg_utils.errors import DataError

drawn = splits.split(lgg, {"train": 0.75, "test": 0.25}, seed=seed)
print({name: len(ids) for name, ids in drawn.subsets.items()}, "patients")
try:
    splits.check(splits.Split({"train": drawn["train"], "test": drawn["test"] + drawn["train"][:1]}, seed))
except DataError as error:
    print(f"refused: {error}")

# %% [markdown]
# ### Bug lab: R2's split by slice
#
# R2's set is a folder of slices. The obvious thing is to list the files, shuffle them, and put some aside. R2 did
# that, and it looks right: no file is in both sets. Here it is, on our LGG slices, with a quarter to test on:

# %%
pictures = np.concatenate(stacks)
truths = np.concatenate(masks)
owner = np.repeat(np.arange(len(lgg)), slice_table["slices"])
level = np.concatenate([np.arange(n) for n in slice_table["slices"]])


def split_by_slice(patients, share, rng):
    """R2's way: which slices are in the test set."""
    return rng.permutation(len(patients)) < round(share * len(patients))


test = split_by_slice(owner, 0.25, setup.rng("r2"))
print(f"{(~test).sum()} slices to train on, {test.sum()} to test on, none of them in both")

# %% [markdown]
# **Watch it fail.** The "model" below cannot learn anything. For each test slice it looks for the most similar
# picture in the training set, and copies that picture's mask, pixel by pixel. Similar means: the highest correlation
# of two 16 × 16 thumbnails. **Guess its Dice.**

# %%
thumbs = pictures.reshape(len(pictures), 3, 16, 4, 16, 4).mean(axis=(3, 5)).reshape(len(pictures), -1)
thumbs -= thumbs.mean(axis=1, keepdims=True)
thumbs /= np.maximum(np.linalg.norm(thumbs, axis=1, keepdims=True), 1e-6)


def copier(train, test):
    """The mask of the most similar training slice, for each test slice."""
    return truths[train][(thumbs[test] @ thumbs[train].T).argmax(axis=1)]


def by_person(predicted, where):
    """Dice of each patient's stacked slices, for patients that have tumour there."""
    truth, people = truths[where], owner[where]
    marked = [p for p in np.unique(people) if truth[people == p].any()]
    return np.array([dice(predicted[people == p], truth[people == p]) for p in marked])


train_at, test_at = np.flatnonzero(~test), np.flatnonzero(test)
suspicious = by_person(copier(train_at, test_at), test_at)
print(f"the copier's mean Dice: {suspicious.mean():.2f}")

# %% [markdown]
# Two radiologists who mark the same LGG scans agree to a Dice of about .84 (Buda 2019). A copying machine should not
# come near it. Whenever a score is too good for the method, **suspect the test before you praise the model**.
#
# **Find it.** Where did the copied masks come from?

# %%
nearest = train_at[(thumbs[test_at] @ thumbs[train_at].T).argmax(axis=1)]
same = owner[nearest] == owner[test_at]
away = np.abs(level[nearest] - level[test_at])[same]
shared = len(set(owner[test_at]) & set(owner[train_at]))
print(f"{shared} of {len(set(owner[test_at]))} patients of the test set are in the training set, too")
print(
    f"{same.mean():.0%} of the test slices copied from their own patient, {np.median(away):.0f} slice(s) away (median)"
)

# %% [markdown]
# Three of them. Above, the test slice with its true mask; below, the training slice that the mask was copied from.

# %%
shown = test_at[truths[test_at].any(axis=(1, 2))]
shown = setup.rng("shown").choice(shown, 3, replace=False)
figure, axes = plt.subplots(2, 3, figsize=(6.6, 5))
told = []
for column, at in enumerate(shown):
    source = nearest[np.flatnonzero(test_at == at)[0]]
    for axis, number, side in zip(axes[:, column], (at, source), ("test", "training"), strict=True):
        axis.imshow(pictures[number, 1].T[::-1, ::-1])
        if truths[number].any():
            axis.contour(truths[number].T[::-1, ::-1], [0.5], colors=palette.style("tumour").colour, linewidths=1.5)
        axis.set_title(f"{side}: {lgg[owner[number]].id[:12]}, slice {level[number] + 1}", fontsize=8)
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
    whose = "the same patient" if owner[at] == owner[source] else "another patient"
    told.append(f"slice {level[at] + 1} copied from slice {level[source] + 1} of {whose}")
figures.show(figure, f"Three test slices over the training slices most like them, masks outlined: {'; '.join(told)}.")

# %% [markdown]
# **Mend it.** Write the split by patient: the same arguments, the same kind of answer, but nobody on both sides.
#
# <details><summary>Hint</summary>
#
# Draw from `np.unique(patients)` without replacement (`rng.choice`), then ask for each slice whether its patient was
# drawn (`np.isin`).
# </details>


# %% tags=["exercise"]
def split_by_patient(patients, share, rng):
    # BEGIN SOLUTION: which slices are in the test set
    # BLANK: chosen = ...
    # BLANK: return chosen
    people = np.unique(patients)
    chosen = rng.choice(people, max(1, round(share * len(people))), replace=False)
    return np.isin(patients, chosen)
    # END SOLUTION


check.split_by_patient(split_by_patient)

# %% [markdown]
# Once it is right, the copier meets your split:

# %%
if check.split_by_patient(split_by_patient):
    apart = split_by_patient(owner, 0.25, setup.rng("mended"))
    honest = by_person(copier(np.flatnonzero(~apart), np.flatnonzero(apart)), np.flatnonzero(apart))
    print(f"the copier's mean Dice, patients apart: {honest.mean():.2f} (before: {suspicious.mean():.2f})")

# %% [markdown]
# **See what it costs, measured.** One split is luck. So: five folds, so that each slice is predicted once by a model
# that has not seen it (by slice), or has seen nothing of its patient (by patient); all of it with several seeds; the
# same slices, the same models, the same score per patient. Only the folds differ.
#
# Beside the copier stands a model that *can* learn but not memorise: the **painter**. It looks at one pixel at a time
# (three intensities, three local means, and their squares: 12 numbers), weighs them by the discriminant of section 1,
# and paints what lies above a threshold. Twelve weights cannot hold a patient.

# %%
from scipy.ndimage import uniform_filter

around = np.stack([uniform_filter(p, (0, 5, 5)) for p in pictures])
pixels = np.concatenate([pictures, around], axis=1).transpose(0, 2, 3, 1) / 100
pixels = np.concatenate([pixels, pixels**2], axis=-1)
HEAD = 0.3  # a local mean of FLAIR above this is not air


def drawn_pixels(where, train, rng, count=4000):
    """The 12 numbers of some pixels, drawn from a mask over the training slices."""
    number, *at = np.unravel_index(rng.choice(np.flatnonzero(where), count), where.shape)
    return pixels[(train[number], *at)].astype(float)


def painter(train, test, rng, shown=60):
    """Pixels above a threshold of a weighted sum; weights and threshold come from the training slices."""
    tumour = truths[train]
    a = drawn_pixels(tumour, train, rng)
    b = drawn_pixels(~tumour & (pixels[train, ..., 4] > HEAD), train, rng)
    weights = direction(a, b).astype(np.float32)
    trial = np.concatenate([rng.choice(train[tumour.any(axis=(1, 2))], shown), rng.choice(train, shown)])
    painted = pixels[trial] @ weights
    best = max(np.percentile(a @ weights, np.arange(5, 80, 5)), key=lambda t: dice(painted > t, truths[trial]))
    return pixels[test] @ weights > best


# %% [markdown]
# **Guess four numbers** before you run this: copier and painter, by slice and by patient.

# %%
FOLDS = 5
seeds = range(3 if setup.profile.quick else 10)


def folds(kind, rng):
    """A fold number for each slice: drawn by slice or by patient."""
    units = owner if kind == "by patient" else np.arange(len(owner))
    dealt = np.arange(units.max() + 1) % FOLDS
    return rng.permutation(dealt)[units]


def out_of_fold(model, kind, number):
    """Dice of each patient, every slice predicted by a model that was not trained on its fold."""
    fold, predicted = folds(kind, setup.rng("folds", kind, number)), np.zeros_like(truths)
    for k in range(FOLDS):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        extra = [setup.rng("painter", number, k)] if model is painter else []
        predicted[test] = model(train, test, *extra)
    return by_person(predicted, np.arange(len(owner)))


kinds, models = ("by slice", "by patient"), (copier, painter)
runs = [(model, kind, number) for model in models for kind in kinds for number in seeds]
scored = {(m.__name__, kind, number): out_of_fold(m, kind, number) for m, kind, number in track(runs, "splits")}

# %% [markdown]
# ## 9 · Results
#
# From the runs above. The gap is each patient's difference between the two splits, averaged over seeds; its 95%
# interval comes from drawing the patients anew 2,000 times (bootstrap).


# %%
def interval(values, rng, draws=2000):
    """Mean and 95% bootstrap interval."""
    means = rng.choice(values, (draws, len(values))).mean(axis=1)
    return values.mean(), *np.percentile(means, [2.5, 97.5])


results = {}
for model in models:
    name = model.__name__
    mean = {kind: np.mean([scored[name, kind, n] for n in seeds], axis=0) for kind in kinds}
    spread = {kind: np.std([scored[name, kind, n].mean() for n in seeds], ddof=1) for kind in kinds}
    gap, low, high = interval(mean["by slice"] - mean["by patient"], setup.rng("bootstrap", name))
    row = {kind: f"{mean[kind].mean():.2f} ± {spread[kind]:.2f}" for kind in kinds}
    results[name] = {**row, "gap, by slice - by patient": f"{gap:+.2f} [{low:+.2f}, {high:+.2f}]"}
results = pd.DataFrame(results).T.rename_axis(
    f"mean Dice of {len(mean['by slice'])} patients, ± over {len(seeds)} seeds"
)
results

# %% [markdown]
# The same, patient by patient:

# %%
figure, axis = plt.subplots(figsize=(6.2, 3.4))
told = []
for place, model in enumerate(models):
    pair = [np.mean([scored[model.__name__, kind, n] for n in seeds], axis=0) for kind in kinds]
    x = np.array([place - 0.18, place + 0.18])
    axis.plot(x, np.stack(pair), color="#999999", linewidth=0.6, linestyle="-")
    for at, values, mark in zip(x, pair, "os", strict=True):
        axis.plot(np.full(len(values), at), values, mark, markersize=4, color="C0", alpha=0.6)
        axis.hlines(values.mean(), at - 0.09, at + 0.09, color="C1", linewidth=3)
    told.append(f"{model.__name__} {pair[0].mean():.2f} by slice, {pair[1].mean():.2f} by patient")
axis.set(
    xticks=[-0.18, 0.18, 0.82, 1.18],
    xticklabels=["copier\nby slice", "copier\nby patient", "painter\nby slice", "painter\nby patient"],
)
axis.set(ylabel="Dice", ylim=(-0.03, 1), title="one dot a patient, bar: mean")
figures.show(figure, f"Dice of each patient under two splits, joined by lines. Means: {'; '.join(told)}.")

# %% [markdown]
# Two things to take away, in your own words, from your own figures:
#
# 1. **How much a leak pays depends on how much a model can memorise.** The copier is all memory, the painter has next
#    to none. A network with millions of weights can do both, and its score by slice does not say which of the two it
#    did.
# 2. **A leak does not only lift scores, it can turn the order round.** Compare the two rows in each column: which
#    model would R2's split have told you to buy?

# %%
means = {(m.__name__, kind): np.mean([scored[m.__name__, kind, n] for n in seeds]) for m in models for kind in kinds}
winner = {kind: max(models, key=lambda m: means[m.__name__, kind]).__name__ for kind in kinds}
print("; ".join(f"{kind}: the {name} wins" for kind, name in winner.items()))

# %% [markdown]
# ### How near must the neighbour be?
#
# Would it help to leave a few slices out on either side? Let the copier see every other slice of the patient
# **except** those nearer than *d* slices.

# %%
likeness = thumbs @ thumbs.T
own = owner[:, None] == owner[None]
distance = np.abs(level[:, None] - level[None])
gaps = [1, 2, 3, 4, 6, 8, 12, 16]
curve = []
for d in [*gaps, np.inf]:
    allowed = np.where(own & (distance < d), -2, likeness)
    curve.append(by_person(truths[allowed.argmax(axis=1)], np.arange(len(owner))).mean())
figure, axis = plt.subplots(figsize=(6.2, 3))
axis.plot(gaps, curve[:-1], "o-", label="slices of the patient, d or more away")
axis.axhline(curve[-1], color="black", linestyle="--", label="other patients only")
axis.set(xlabel="d: slices to the nearest training slice of the same patient", ylabel="copier's mean Dice", ylim=(0, 1))
axis.legend()
listed = ", ".join(f"{c:.2f} at {d}" for d, c in zip(gaps, curve, strict=False))
figures.show(
    figure,
    f"The copier's Dice falls as its nearest neighbour gets further away: {listed}; other patients only {curve[-1]:.2f}.",
)

# %% [markdown]
# The leak fades with the distance. How many slices would have to be left out depends on their thickness and on the
# size of the tumour, and nobody knows that number beforehand. Patients are the unit that needs no number.
#
# In published work the same mistake was measured with networks: three 2D CNNs for Alzheimer's and Parkinson's disease
# gained 29 to 55 points of accuracy from splits by slice, and reached 96% on **random** labels, where 50% is the
# truth (Yagis and others 2021). Notebook 03 repeats it with R2's own networks.

# %%
quiz("leak")

# %% [markdown]
# ## When it goes wrong
#
# | you see | look at |
# |---|---|
# | `no cases found` | the folder: give the data set's root or its parent; `brainseg data verify` says which names it expects |
# | `several data sets in one folder` | give the folder of one; 2023 and 2024 use the same words in their names and not the same labels |
# | `label value 4 is not in scheme` | the year. Name the right layout; never change the 4 by hand before you know it |
# | a picture upside down or mirrored | were arrays taken from `nibabel` as they are stored? `Case.images()` turns them to RAS |
# | `damaged gzip` | an interrupted download: get that file again |
# | the kernel dies while loading | four modalities at 1 mm are 140 MB as float32: go through the cohort case by case, as here, and keep only what you need |
# | a table with `NaN` | a tissue that no scan of the cohort has, or a patient without tumour: decide what it means before you average |
# | a score that is too good | who is in both sets? Count patients, not files |

# %% [markdown]
# ## Recap
#
# - Four modalities, because none is the best one for every pair of tissues.
# - An array has no sides; the affine gives it some. Change both or neither.
# - A label's value means nothing without its scheme. Tissues are written, regions are scored.
# - Nearly all of a scan is background, so accuracy says little and Dice says more.
# - `brainseg data verify` finds what files can contradict; looking finds the rest.
# - Split by patient. A split by slice measures memory.
#
# **Glossary.** *Affine*: matrix from voxel index to millimetres. *AUC*: how often one group's value lies above
# another's. *Case*: one scan session. *Dice*: twice the overlap over the sum of two masks. *ET, NETC, SNFH, RC*:
# enhancing tumour, non-enhancing core, surrounding FLAIR hyperintensity, resection cavity. *TC, WT*: tumour core,
# whole tumour. *IoU*: overlap over union. *Leak*: the test set's patients are known in training. *Modality*: one of
# the images of a scan. *RAS*: axes that run to the patient's right, anterior and superior. *Scheme*: what the
# integers of a mask mean. *Spacing*: a voxel's size in mm. *z-score*: distance from the mean in standard deviations.
#
# **Reading**
# - Menze and others, the first BraTS challenge, 2015, doi 10.1109/TMI.2014.2377694
# - Baid and others, BraTS 2021, arXiv 2107.02314 · de Verdier and others, BraTS 2024 post-treatment, arXiv 2405.18368
#   · Antonelli and others, the Decathlon, arXiv 2106.05735
# - Buda, Saha and Mazurowski, the LGG set, 2019, doi 10.1016/j.compbiomed.2019.05.002
# - Yagis and others, leaks by slice, 2021, doi 10.1038/s41598-021-01681-w · Kapoor and Narayanan, leaks in many
#   sciences, 2023, arXiv 2207.07048
# - *Coordinate systems and affines*, in the documentation of nibabel
#
# Next: **02 Preprocessing and augmentation**.
