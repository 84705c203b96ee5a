# %% [markdown]
# # 04 3D: from an FCNN to a Residual U-Net on BraTS
#
# **You will be able to**
# - compute, before any training, what a network can see and how much memory it will take,
# - climb from an FCNN to a Residual U-Net one change at a time, count each rung's parameters, and say what the change is for,
# - measure the gradient that arrives at each layer, and tell a vanishing gradient from a loss that does not fit its network,
# - choose between region and class outputs, and between Dice + cross-entropy and Dice + Focal,
# - train on patches, predict whole scans in overlapping windows, and say what the blending is for,
# - score regions and tissues before and after treatment,
# - find three mistakes that trained without an error message, and measure what each of them cost.
#
# **Time:** {{time quick}} (quick), {{time full}} (full) · **Needs:** notebooks 01 to 03, or their glossaries; nothing is downloaded ·
# **Rebuilds:** R1, R3
#
# Two of the student reports that this course rebuilds segmented whole brain scans. R1 trained an FCNN, a "U-Net" and a Residual U-Net on scans after treatment and met a "vanishing gradient".
# R3 trained a 3D U-Net and put an accuracy of 96.55% into its headline. Both reports are looked at closely here, with respect: everyone writes such bugs. This is not a medical device.

# %% [markdown]
# ## Settings
# `data_dir` is a folder of scans with masks (BraTS of any year, or a Decathlon folder). Left empty, the course makes phantoms: a real average brain, deformed anew for each
# patient, in which a tumour was grown. They are of the easy kind, so that a network learns something in a minute and a half.

# %% tags=["parameters"]
profile = "quick"
data_dir = ""
output_dir = ""
seed = 0

# %% [markdown]
# Seeds are fixed and the internet is blocked; `setup` knows where the data are and where results go.

# %%
import inspect
import itertools
import json
import math
import shutil
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from torch import nn

from brainseg_utils import course
from brainseg_utils.course.session import package_digest
from brainseg_utils.course.threads import set_threads

setup = course.begin("04", profile=profile, data_dir=data_dir, output_dir=output_dir, seed=seed)
check, quiz = setup.check, setup.quiz
threads = set_threads()  # one or two, whichever trains faster on this machine now

# %% [markdown]
# What the notebook takes from the course's package, room by room: data, networks, training, prediction, scores, pictures.

# %%
from brainseg_utils.course.checkout import find_root
from brainseg_utils.course.reference import reference_runs
from brainseg_utils.datasets import splits
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.evaluation import voxel
from brainseg_utils.evaluation.protocols import score_case
from brainseg_utils.inference.regions import label as labels_of
from brainseg_utils.inference.volumes import VolumePredictor
from brainseg_utils.models import registry
from brainseg_utils.models.gradients import gradient_norms
from brainseg_utils.models.receptive import fields, measured
from brainseg_utils.models.residual_unet3d import AttentionGate, DenseBlock, ResidualBlock, ResidualUNet3D
from brainseg_utils.phantom import cohort
from brainseg_utils.training import losses, memory, train
from brainseg_utils.training import recipe as recipes
from brainseg_utils.training.loop import fit
from brainseg_utils.training.run import Run
from brainseg_utils.views import figures, palette, png, slices
from brainseg_utils.views.frames import Frames
from brainseg_utils.views.state import Scene, ViewState, Window, largest_lesion_point
from brainseg_utils.views.widget import Picture

figures.use_style()
REGIONS = ("ET", "TC", "WT")

# %% [markdown]
# The cases. Real scans that the course keeps for its last test are left out here. Networks are trained on some patients and judged on others, the *held-out* ones. Not every tumour takes up contrast, so that
# patients are dealt out by the volume of their enhancing tumour: with so few of them, chance alone could hold out none that have any.


# %%
def phantoms(name, count, layout):
    """A cohort of easy phantoms that all have a tumour; one that is there already is taken."""
    spacing = setup.profile.spacing_mm
    folder = setup.output_dir / "phantoms" / f"{name}-{count}-{spacing}mm-{setup.seed}-{package_digest()[:8]}"
    cohort.make(folder, count, layout, seed=setup.seed, spacing=spacing, difficulty="easy", workers=setup.workers, healthy=0.0)  # fmt: skip
    return find_cases(folder)


def divide(all_cases):
    """Three quarters to train on, the rest held out, by patient; both with as much enhancing tumour as can be."""
    sizes = {case.id: float(case.scheme.region(case.label().data, "ET").sum()) for case in all_cases}
    return splits.split(all_cases, {"train": 0.75, "val": 0.25}, setup.seed, sizes)


COUNT = 16 if setup.profile.quick else 64
kept_apart = json.loads((find_root() / "data" / "split.json").read_text(encoding="utf-8"))["brats"]["test"]
found_cases = phantoms("easy", COUNT, "brats2023") if setup.phantom else find_cases(setup.data_dir)
cases = [case for case in found_cases if case.label_path and case.id not in kept_apart]
division = divide(cases)
held_out = [case for case in cases if case.id in division["val"]]
with_et = [case for case in held_out if case.scheme.region(case.label().data, "ET").any()]
print(f"{len(cases)} cases: {len(cases) - len(held_out)} to train on, {len(held_out)} held out, {len(with_et)} of these with enhancing tumour")  # fmt: skip

# %% [markdown]
# ## Where this ends
# A *recipe* is a file that decides everything about a training (notebook 03). The next cells train the course's recipe for volumes, and draw what it says about a patient that
# it has never seen. One function does it for all recipes of this notebook; scans are read once for all recipes that want them alike.

# %%
kept_sources = {}


def sources_of(chosen, of=None):
    """What a recipe trains and validates on; `of` is a pair of cases and division, by default this notebook's."""
    some, parts = of or (cases, division)
    key = json.dumps([chosen.data.options, some[0].layout], sort_keys=True, default=str)
    if key not in kept_sources:
        kept_sources[key] = train.sources(chosen, *train.members(chosen, parts, some))
    return kept_sources[key]


def recipe_of(name, **changes):
    """A recipe with changes, which are written `budget__steps=240`."""
    dotted = {place.replace("__", "."): value for place, value in changes.items()}
    dotted |= {"seed": setup.seed, "data.cache": str(setup.output_dir / "cache")}
    return recipes.load(name, setup.profile.name, dotted)


def train_live(label, name, of=None, after=None, **changes):
    """Trains a recipe under a name of its own."""
    chosen = recipe_of(name, **changes)
    folder = setup.output_dir / "runs" / label
    shutil.rmtree(folder, ignore_errors=True)
    return fit(chosen, sources_of(chosen, of), Run.begin(folder, chosen), after)


# %% [markdown]
# After every epoch (here a fixed number of steps) the training hands over one held-out case and the network's probabilities for it. They are drawn as labels: the truth above, the network's below,
# in the slice with most tumour. If you run this yourself, the picture changes while the network learns.


# %%
def scene_of_batch(batch, probability):
    """What validation saw, as something to look at."""
    scheme = get_scheme("brats2023")
    truth, found = (
        scheme.from_regions({name: (x[n] >= 0.5).numpy() for n, name in enumerate(REGIONS)})
        for x in (batch["label"][0], probability[0])
    )
    image = batch["image"][0].numpy()
    return Scene(image, ("t1n", "t1c", "t2w", "t2f"), (GRID_MM,) * 3, truth, found, scheme.tissues, batch["case"][0])


def draw(scene, size=170, **settings):
    """The picture of a scene through the middle of its tumour."""
    view = {"shown": ("t2f", "t1c"), "labels": "both", "crosshair": False, "window": Window(1, 99.8), **settings}
    return slices.render(ViewState(scene, largest_lesion_point(scene), size=size, **view))


def watch(row, network, validation):
    scene = scene_of_batch(*validation.example)
    shares = ", ".join(f"{name} {row[f'dice_{name}']:.2f}" for name in REGIONS)
    film[row["step"]] = (draw(scene, 230), f"After {row['step']} steps; Dice of the held-out cases: {shares}.")
    with live.hold_sync():
        live.alt = film[row["step"]][1]
        live.png = png.encode(film[row["step"]][0])


# %% [markdown]
# The picture belongs to a running notebook, and is empty until the first epoch is done.

# %%
film, live = {}, Picture()
course_recipe = recipes.load("course_resunet3d", setup.profile.name)
GRID_MM = course_recipe.data.options.get("spacing", 0.0) or cases[0].label().spacing[0]
live

# %% [markdown]
# The training itself, and how it ended. *ET* is enhancing tumour, *TC* the tumour core (ET and the non-enhancing core, NETC), *WT* the whole tumour (TC and the oedema around it, SNFH); notebook 01 shows them. Training counts as the challenge does:
# where a patient has no ET, Dice is 1 if the network finds none either, and 0 if it finds a single voxel.

# %%
EPOCHS = 6  # looks at the held-out cases
length = {"budget__steps": course_recipe.budget.steps} if setup.profile.quick else {"budget__seconds": 180.0}
every = course_recipe.budget.steps // EPOCHS if setup.profile.quick else course_recipe.budget.epoch_steps
runs = {"course": train_live("course", "course_resunet3d", after=watch, budget__epoch_steps=every, **length)}
metrics = runs["course"].metrics
print(f"{metrics['parameters']:,} parameters, {metrics['steps']} steps in {metrics['seconds']:.0f} s")
print("Dice on the held-out patients: " + ", ".join(f"{name} {metrics[f'dice_{name}']:.2f}" for name in REGIONS))

# %% [markdown]
# The same as a film: the truth above, the network below, each time FLAIR on the left and T1 with contrast on the right.

# %%
moments = sorted(film)
Frames([film[m][0] for m in moments], [film[m][1] for m in moments], moments, "step", film=True, start=len(moments) - 1)

# %% [markdown]
# The course asks one thing of its quick profile, on any machine: on easy phantoms the mean Dice over WT and TC is .70 or more.

# %% tags=["nbval-check-output"]
ASKED = 0.70
reached = (metrics["dice_WT"] + metrics["dice_TC"]) / 2
print(f"mean Dice over WT and TC at least {ASKED:.2f}: {reached >= ASKED}")

# %% [markdown]
# By the end of the notebook you know why this network looks as it does, what the others on the way to it lack, and which of the report's troubles were no fault of their networks.
#
# ## 1 Why 3D?
# **Question: a scan is a stack of slices. What does a network lose that sees one slice at a time?** It loses the neighbours. How much do they tell? Take a slice's true mask and
# use it, unchanged, as the prediction for a slice some millimetres further up. **Guess the Dice at a distance of 2 mm, and at 16 mm.**


# %%
def neighbours(mask, step):
    """Dice between each slice with tumour and the slice `step` further up, the median over slices."""
    pairs = [(mask[:, :, k], mask[:, :, k + step]) for k in range(mask.shape[2] - step) if mask[:, :, k].any()]
    return float(np.median([voxel.count(a, b).dice for a, b in pairs])) if pairs else np.nan


DISTANCES = (2, 4, 8, 16, 32)  # mm
truths = {case.id: case.label() for case in cases}
rows = {}
for region in REGIONS:
    masks = {case.id: case.scheme.region(truths[case.id].data, region) for case in cases}
    height = {name: truths[name].spacing[2] for name in masks}
    by_case = {mm: [neighbours(m, max(1, round(mm / height[n]))) for n, m in masks.items()] for mm in DISTANCES}
    rows[region] = {f"{mm} mm away": np.nanmean(values) for mm, values in by_case.items()}
pd.DataFrame(rows).T.style.format("{:.2f}").set_uuid("neighbours")

# %% [markdown]
# **Answer.** A tumour is a body, not a set of outlines. For core and whole tumour the neighbouring slice is nearly the answer (of a thin rim such as ET it tells less), and the slices around it say whether a bright spot is a nodule or a vessel that runs through.
# A 3D convolution looks at 27 voxels where a 2D one looks at 9, so that it can use that. The price stands in the next section.
#
# ## 2 Before training: what it sees, what it costs
# **Question: R1 writes that its FCNN "did not yield satisfactory results". Could one have known?** Here is all of it:

# %%
fcnn = registry.on_paper("fcnn3d")
print(inspect.getsource(type(fcnn).forward))

# %% [markdown]
# A network's *receptive field* is the part of the scan that can change one output voxel. Two rules give it for a chain of layers:
#
# - a kernel of $k$ voxels adds $k-1$ steps on the grid on which it works,
# - a stride makes the steps of all **later** layers longer (2 for a pooling) or shorter (0.5 for an enlargement).
#
# The FCNN by hand: one voxel; a convolution of 3 makes it 3; a pooling of 2 makes it 4, steps are now 2 voxels; a transposed convolution of 2 (each voxel paints two a side: kernel 1, stride 0.5) changes nothing. Four voxels a side.
#
# **Your turn.** Write it for any chain of `(kernel, stride)`.
#
# <details><summary>Hint</summary>
#
# Keep two numbers: the size so far (1 before the first layer) and the length of a step (also 1). For each layer, first let the size grow by the steps of now, then change the step.
# </details>


# %% tags=["exercise"]
def field_of(chain):
    """[(3, 1), (2, 2), (1, 0.5)] to 4."""
    # BEGIN SOLUTION: the receptive field, in voxels a side
    # BLANK: return ...
    size, step = 1, 1
    for kernel, stride in chain:
        size += (kernel - 1) * step
        step *= stride
    return size
    # END SOLUTION


check.field(field_of)

# %% [markdown]
# The package follows the same rules through a whole network, along its deepest way. **Guess how wide the field of R1's U-Net is, and that of a U-Net with four scales**, before you run the cell. Fields are in voxels; the parameters are those of the stated
# sizes. R1 does not state the widths of its Residual U-Net, nor R3 those of its U-Net: both have the course's 16 channels here. *course* is the recipe's network at full size; the quick profile trains a smaller one.

# %% tags=["nbval-check-output"]
STATED = {
    "R1 FCNN": ("fcnn3d", {}),
    "R1 U-Net without skips": ("unet3d_r1", {}),
    "R1 Residual U-Net": ("residual_unet3d", {}),
    "R3 U-Net": ("unet3d", {}),
    "course": ("resunet3d", {}),
}
seen = {}
for name, (key, options) in STATED.items():
    network = registry.on_paper(key, **options)
    seen[name] = fields(network, (1, 4, 128, 128, 128))[-1].size
    print(f"{name:23} {registry.count_parameters(network):9,} parameters, sees {seen[name]:.0f} voxels a side")

# %% [markdown]
# Is it true? The field can also be measured: which input voxels change the middle output voxel at all? (The network's weights are replaced by positive ones for that, so that nothing cancels.)

# %%
for name, key, options in (("R1 FCNN", "fcnn3d", {"width": 4}), ("R1 U-Net without skips", "unet3d_r1", {"width": 2})):
    found = measured(registry.build(key, **options), size=64, period=4)
    print(f"{name}: {found:.0f} voxels measured, {seen[name]:.0f} computed")

# %% [markdown]
# How large is that beside a tumour? At 1 mm a voxel, the FCNN decides from a cube of 4 mm. It knows how bright a place is in four pictures, and nothing about where the place is or what is around it.

# %%
extents = []
for volume in truths.values():
    inside = np.argwhere(volume.data > 0)
    if len(inside):
        extents.append(float((np.ptp(inside, axis=0) + 1).max() * volume.spacing[0]))
figure, axes = plt.subplots(figsize=(6.0, 2.5))
axes.barh(list(seen), list(seen.values()), color=palette.OKABE_ITO["sky blue"], edgecolor="black", linewidth=0.5)
axes.axvline(np.median(extents), color=palette.OKABE_ITO["vermilion"], linestyle="--", linewidth=1.6)
axes.annotate(f"median tumour, {np.median(extents):.0f} mm", (np.median(extents), 0.5), (4, 0), textcoords="offset points", fontsize=8)  # fmt: skip
axes.invert_yaxis()
axes.set(xlabel="receptive field, voxels of 1 mm")
figures.show(figure, "Receptive fields of five networks as bars: 4 voxels for the FCNN, " + ", ".join(
    f"{size:.0f} for {name}" for name, size in list(seen.items())[1:]) + f"; the median tumour is {np.median(extents):.0f} mm long.")  # fmt: skip

# %% [markdown]
# The field is what *can* matter; in trained networks the middle counts most. And more is not free of trouble:

# %%
quiz("field-inside")

# %% [markdown]
# ### Memory
# **Question: R1's jobs ran out of memory. Could one have known?** A training keeps what each layer has put out, since the backward pass needs it. One map of the FCNN at 128x128x128 voxels by hand: 64 channels x 128³ voxels x 4 bytes.

# %% tags=["nbval-check-output"]
print(f"{64 * 128**3 * 4 / 2**20:.0f} MiB")

# %% [markdown]
# The package adds this up for a whole network without running it: on PyTorch's `meta` device tensors have shapes and no content. **Guess which network of the table needs most**, and by how many parameters it differs from the one that needs least.


# %%
def gibibytes(key, options, shape):
    return memory.forecast(registry.on_paper(key, **options), shape).total / 2**30


SHAPES = {"patch 64³": (1, 4, 64, 64, 64), "patch 128³": (1, 4, 128, 128, 128), "two of 128³": (2, 4, 128, 128, 128),
          "R1's whole scan": (1, 4, 182, 218, 182)}  # fmt: skip
costs = {name: {what: gibibytes(*network, shape) for what, shape in SHAPES.items()} for name, network in STATED.items()}
pd.DataFrame(costs).T.style.format("{:.1f} GiB").set_uuid("memory")

# %% [markdown]
# **Answer.** Yes, in a second. Memory goes with the finest grid and its channels, and hardly with parameters: the FCNN has the fewest by far and needs about as much as the course's network with hundreds of times its parameters, since that one works on a grid of half the resolution and keeps its many channels for the coarse scales.
# That is why one trains on *patches*. Was the forecast right? The course compares it with the peak of each training:

# %%
print(f"course, this run: forecast {metrics['forecast_mib']} MiB, the process grew by {metrics['grown_mib']} MiB")

# %% [markdown]
# With patches this small it cannot be told: the process also grows by the data that it reads, and by what libraries load at their first call. With large patches the two come together.
#
# ## 3 The ladder
# **Question: what does each idea of the U-Net's family add?** The only way to tell is to change one thing at a time. Each rung differs from the one below it, or from the one named, by one change:

# %%
WIDTH = 8 if setup.profile.quick else 16
SIDE = 32 if setup.profile.quick else 96  # voxels of a training patch
BASE = {"width": WIDTH, "norm": "instance"}
LADDER = {
    "FCNN": ("fcnn3d", {"width": 8 * WIDTH}, "one convolution, one pooling"),
    "no skips": ("residual_unet3d", {**BASE, "block": "plain", "skip": "none"}, "four scales down and up"),
    "skips": ("residual_unet3d", {**BASE, "block": "plain"}, "what the way down knew crosses to the way up"),
    "residual": ("residual_unet3d", BASE, "a shortcut around each block"),
    "attention gate": ("residual_unet3d", {**BASE, "skip": "attention"}, "from residual: skips are turned down where nothing is"),
    "dense": ("residual_unet3d", {**BASE, "block": "dense"}, "from skips: each layer sees all before it in its block"),
    "deep supervision": ("residual_unet3d", {**BASE, "deep_supervision": True}, "from residual: coarse scales answer too"),
    "SegResNet": ("segresnet", {"width": WIDTH, "vae": False, "size": (SIDE,) * 3}, "another residual U-Net, skips added up"),
    "VAE branch": ("segresnet", {"width": WIDTH, "vae": True, "size": (SIDE,) * 3}, "from SegResNet: the scan is redrawn as well"),
}  # fmt: skip

# %% [markdown]
# All of them answer with three region channels. Their parameters at the profile's width:

# %%
rungs = {}
for name, (key, options, change) in LADDER.items():
    network = registry.on_paper(key, out_channels=3, **options)
    rungs[name] = {"change": change, "parameters": registry.count_parameters(network)}
pd.DataFrame(rungs).T.style.format({"parameters": "{:,}"}).set_uuid("ladder").set_properties(**{"text-align": "left"})

# %% [markdown]
# The ideas, as they stand in the package. First what crosses the U:

# %%
print(inspect.getsource(ResidualUNet3D._meet))

# %% [markdown]
# - `x` comes from below. It knows *what* is there, on a coarse grid; `skip` comes from the way down and knows *where*.
# - `none` is R1's second network: the way up has to guess where a boundary runs from what passed through the coarsest grid.
# - `sum` and `torch.cat` hand it over: added up, or laid side by side as further channels.
# - An *attention gate* multiplies each voxel of the skip by a number from 0 to 1 first:

# %%
print(inspect.getsource(AttentionGate.share))

# %% [markdown]
# Then the blocks. A *residual* block learns what to add to its input, a *dense* one lays everything that it has found so far side by side.

# %%
print(inspect.getsource(ResidualBlock.forward))
print(inspect.getsource(DenseBlock.forward))

# %% [markdown]
# - *Deep supervision* asks the coarse scales of the way up for a mask of their own while training, and compares it with the truth at their size. What they say is dropped in prediction.
# - The *VAE branch* (variational autoencoder) must redraw the scan from 128 numbers. No label is needed for that, so that with few labelled scans the encoder has more to learn from.
#
# The stated sizes, by count. R4 (notebook 08) used MONAI's UNet with one, three or four pictures as input; its program that loads the weights again rebuilds the network without its residual units, and the weights do not fit.

# %% tags=["nbval-check-output"]
for name, key, options in (
    ("R1 FCNN", "fcnn3d", {}),
    ("R1 U-Net without skips", "unet3d_r1", {}),
    ("R4 UNet, 4 pictures", "monai_unet", {}),
    ("R4 UNet, 3 pictures", "monai_unet", {"in_channels": 3}),
    ("R4 UNet, 1 picture", "monai_unet", {"in_channels": 1}),
    ("R4 UNet, 3, as loaded", "monai_unet", {"in_channels": 3, "residual_units": 0}),
):
    print(f"{name:23} {registry.count_parameters(registry.on_paper(key, **options)):9,}")

# %% [markdown]
# Each rung now trains with the same loss on the same patches in the same order, for the same small number of steps. That is seconds: enough to see that they run and begin to learn, and not enough to rank them. What brightness alone can tell is learned in a few steps, what needs the whole depth is not. **Guess all the same: which rung will be last?**

# %%
STEPS = 36 if setup.profile.quick else 400
SHORT = {"budget__steps": STEPS, "budget__epoch_steps": STEPS, "engine__ema": 0.0, "data__size": (SIDE,) * 3}


def train_rung(name, **changes):
    key, options, _ = LADDER[name]
    network = {"network__name": key, **{f"network__{option}": value for option, value in options.items()}}
    return train_live(name, "course_resunet3d", **SHORT, **network, **changes)


for name in LADDER:
    runs[name] = train_rung(name)
    rungs[name] |= {f"{region} live": runs[name].metrics[f"dice_{region}"] for region in ("WT", "TC")}
    rungs[name]["seconds"] = runs[name].metrics["seconds"]

# %% [markdown]
# **Reference runs** are longer than a notebook can be: the same rungs on other phantoms, of normal difficulty, each with as many steps as fit into the same seconds of computing time, some of them with three seeds; made once and kept with
# their command, machine and time. Where there is none yet, the table says so.

# %%
RECORDED, SEEDS, NOT_YET = reference_runs(), (0, 1, 2), "not recorded yet"


def recorded(stem):
    """Region to mean Dice of a recorded run on its held-out phantoms; nothing where there is no such run yet."""
    told = RECORDED[stem].summary.get("phantoms", {}) if stem in RECORDED else {}
    return {region: values["mean"] for region, values in told.items()}


def recorded_rung(name):
    """Seed to mean Dice over WT, TC and ET of a rung's recorded runs."""
    tables = {number: recorded(f"ladder_{name.lower().replace(' ', '_')}_seed{number}") for number in SEEDS}
    return {number: np.mean([told[region] for region in REGIONS]) for number, told in tables.items() if told}


def in_words(values):
    return (
        f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f}, seeds: {len(values)})" if values else NOT_YET
    )


live_table = pd.DataFrame(rungs).T.drop(columns="change")
live_table["recorded, mean of WT, TC, ET"] = [in_words([*recorded_rung(name).values()]) for name in LADDER]
live_table.style.format({"parameters": "{:,}", "seconds": "{:.0f}", "WT live": "{:.2f}", "TC live": "{:.2f}"}).set_uuid("rungs")  # fmt: skip

# %% [markdown]
# How the recorded ones were made, or that they were not:

# %%
ladder_runs = [run for stem, run in RECORDED.items() if stem.startswith("ladder_")]
print(f"recorded runs of the ladder: {len(ladder_runs)}")
for run in ladder_runs[:1]:
    seconds = run.environment.get("budget", {}).get("cpu_seconds", np.nan)
    print(textwrap.fill(f"each with {seconds:.0f} s of computing time on one core; the first of them: {run.made}", 110))

# %% [markdown]
# R1 reports the order FCNN, then no skips, then residual, each from one training, and a U-Net with skips belongs before the last. Does the order hold, seed by seed? A step that holds in one seed and not in the next is no finding. Of the live columns, believe only large differences.

# %%
ORDER = ("FCNN", "no skips", "skips", "residual")
for lower, upper in itertools.pairwise(ORDER):
    one, other = recorded_rung(lower), recorded_rung(upper)
    gains = [other[number] - one[number] for number in SEEDS if number in one and number in other]
    told = f"ahead in {sum(g > 0 for g in gains)} of {len(gains)} seeds, by {np.mean(gains):+.3f} on average" if gains else NOT_YET  # fmt: skip
    print(f"{upper} beside {lower}: {told}")

# %% [markdown]
# Read such a line for what was measured: scores on whole patients, after a budget of seconds. A network that learns slowly stands low in it, wherever it would end after days, and one that fails in one seed of three pulls its mean down: look at the span in brackets, not at the mean alone. (One of the eight patients has no ET: an empty mask scores .042 over the three regions, and such a run has learned nothing yet.)
#
# Look at the FCNN: with four voxels it can tell tissues by brightness alone. In phantoms each tissue has its own brightness, so that this goes far, and few weights are learned soon. On real scans, where brightness overlaps more, nothing is claimed here. So this is an order under a budget and on phantoms; another budget, or other patients, can give another one. What skips hand over, and how soon, is looked at in bug lab 2.

# %%
quiz("skip-why")

# %% [markdown]
# ## 4 What "vanishing gradient" really was
# **Question: R1 saw that its loss hardly moved and its gradients were tiny, and took residual connections as the cure. Was that the illness?** The gradient at a layer says how the loss changes with that layer's weights. By the chain rule it is
# a product, with one factor for each layer between there and the loss. If all factors are below 1, the first layers of a deep network get nothing: that is a *vanishing gradient*.
#
# First a chain in which it does happen: 24 small convolutions without norms, with and without a shortcut around each.


# %%
class Chain(nn.Module):
    """24 convolutions with ReLU, one after the other."""

    def __init__(self, shortcut):
        super().__init__()
        self.first = nn.Conv3d(4, 8, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv3d(8, 8, 3, padding=1) for _ in range(24))
        self.head, self.shortcut = nn.Conv3d(8, 3, 1), shortcut

    def forward(self, x):
        x = self.first(x)
        for layer in self.layers:
            x = torch.relu(layer(x)) + (x if self.shortcut else 0)
        return self.head(x)


# %% [markdown]
# The measure is the length of the gradient at a layer's weights over the length of the weights: the share by which a plain step would change the layer. Beside the chain stand two rungs of the ladder, with four convolutions a block instead of two, so that they are
# deep as well. **Guess whether the plain rung's first layers starve.**

# %%
batch = sources_of(runs["skips"].recipe).train.batch(range(2))
image, truth = batch["image"].float(), batch["label"].float()


def gradients(network, loss=None):
    """Layer to gradient over weights, at the start of training."""
    loss = loss or losses.dice_ce(batch=True)
    return gradient_norms(network.train(), image, lambda out: losses.deep(loss, out, truth))


def fresh(key, **options):
    torch.manual_seed(setup.seed)
    return registry.build(key, **options)


deep = {**BASE, "convolutions": 4, "out_channels": 3}
curves = {}
for name, shortcut, block in (("plain", False, "plain"), ("residual", True, "residual")):
    torch.manual_seed(setup.seed)
    curves[f"chain of 24, {name}"] = gradients(Chain(shortcut))
    curves[f"U-Net with norms, {name}"] = gradients(fresh("residual_unet3d", block=block, **deep))

# %% [markdown]
# Layers from the first on the left to the last on the right; the scale is logarithmic.


# %%
def draw_gradients(axes, kept, title, styles):
    for name, style in styles.items():
        values = np.maximum(list(kept[name].values()), 1e-16)
        axes.plot(np.linspace(0, 1, len(values)), values, style, markersize=3, label=name.split(", ")[-1])
    axes.set(yscale="log", xlabel="place of the layer, first to last", title=title)
    axes.legend(fontsize=8)


figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.0))
draw_gradients(left, curves, "24 convolutions without norms", {"chain of 24, plain": "o-", "chain of 24, residual": "s--"})  # fmt: skip
draw_gradients(right, curves, "U-Net with instance norm", {"U-Net with norms, plain": "o-", "U-Net with norms, residual": "s--"})  # fmt: skip
left.set_ylabel("gradient over weights")
first = {name: next(iter(kept.values())) for name, kept in curves.items()}
figures.show(figure, "Gradient over weights, layer by layer. Left, in a chain of 24 convolutions without norms, it is "
             f"{first['chain of 24, plain']:.0e} at the first layer without and {first['chain of 24, residual']:.0e} with shortcuts; right, in a U-Net with norms, "
             f"{first['U-Net with norms, plain']:.0e} and {first['U-Net with norms, residual']:.0e}.")  # fmt: skip

# %% [markdown]
# **Answer, first half.** In the chain the shortcuts are what saves the first layers (they even make all gradients large: nothing there keeps the sum of so many layers small). In a U-Net with norms, which rescale what each layer puts out, there was nothing to save: both reach the first layers. Residual blocks may help such a network all the same, which is what the ladder's recorded runs are for, but not by curing a gradient that vanished. (The dip in the middle is the bottom of the U. The skips lead around it, with residual blocks or without.) R1's "U-Net" has no norms, but it has five layers
# of 3x3x3 convolutions, not 24. Something else made its gradients small.
#
# R1's networks end in a softmax. The cross-entropy of PyTorch begins with one. So the scores $z$ become probabilities $p$, and these are taken for scores again:
#
# $$ p = \text{softmax}(z) \qquad q = \text{softmax}(p) \qquad \text{loss} = -\log q_t $$
#
# $t$ is the voxel's true class. What is $q$ for a network that is perfectly sure and right, with five classes?

# %% tags=["nbval-check-output"]
p = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
q = torch.softmax(p, 0)
print("p", p.tolist(), " q", [round(x, 3) for x in q.tolist()], f" loss {-q[0].log():.3f}")

# %% [markdown]
# And the gradient? Take one voxel whose true class is behind by a *margin*: its score is lower than that of the background by so much. With one softmax the pull towards the truth is strongest where the network is most wrong.
# **Guess what the second softmax does to it there.**


# %%
def pull(margin, double, classes=5):
    """Gradient of the true class's score when the background leads by `margin`."""
    z = torch.zeros(1, classes, dtype=torch.float64)
    z[0, 0] = margin
    z.requires_grad_()
    F.cross_entropy(z.softmax(1) if double else z, torch.tensor([1])).backward()
    return abs(float(z.grad[0, 1]))


margins = np.linspace(0, 12, 61)
figure, axes = plt.subplots(figsize=(5.0, 2.8))
axes.plot(margins, [pull(m, False) for m in margins], label="one softmax")
axes.plot(margins, [pull(m, True) for m in margins], label="two, as R1")
axes.set(xlabel="lead of the background's score over the true class", ylabel="pull on the true class")
axes.legend(fontsize=8)
figures.show(figure, "Gradient of the true class's score against the background's lead: with one softmax it rises to 1, with two it begins "
             f"at {pull(0.0, True):.2f} and falls to 0 where the background leads by 6 or more.")  # fmt: skip

# %% [markdown]
# **Answer, second half.** Where the network is undecided (the left end), the second softmax divides the gradient by the number of classes. Where it is sure and wrong, it takes the gradient away altogether: a tumour voxel that the network has called background is given up. In R1's
# scans most voxels are background, so that "background everywhere" is learned first, and then the tumour has no pull any more. The same, layer by layer, in R1's network without skips: at the start, and
# when it has become sure of the background (its last bias raised by 8).


# %%
def r1_gradients(double, sure):
    """R1's network, five classes, cross-entropy: gradient over weights by layer."""
    network = fresh("unet3d_r1", width=12, softmax_inside=double)
    with torch.no_grad():
        network.up1.bias[0] += 8.0 if sure else 0.0
    numbers = truth.sum(1, keepdim=True)  # 0 outside, then SNFH, NETC, ET: any numbering will do
    return gradient_norms(network.train(), image, lambda out: F.cross_entropy(out, numbers[:, 0].long()))


r1 = {(double, sure): r1_gradients(double, sure) for double in (False, True) for sure in (False, True)}
figure, axes = plt.subplots(1, 2, figsize=(8.0, 2.9), sharey=True)
for axis, sure, title in zip(axes, (False, True), ("at the start", "sure of the background"), strict=True):
    draw_gradients(axis, {"one softmax": r1[False, sure], "two softmaxes": r1[True, sure]}, title,
                   {"one softmax": "o-", "two softmaxes": "s--"})  # fmt: skip
axes[0].set_ylabel("gradient over weights")
loss_of_pull = {sure: np.median([a / b for a, b in zip(r1[False, sure].values(), r1[True, sure].values(), strict=True)]) for sure in (False, True)}  # fmt: skip
figures.show(figure, f"R1's network, gradient over weights by layer: the second softmax divides it by {loss_of_pull[False]:.0f} at the start and by "
             f"{loss_of_pull[True]:.0f} once the network is sure of the background, in all layers alike.")  # fmt: skip

# %% [markdown]
# All layers lose alike, the last as much as the first. A gradient that vanishes with depth looks different (the chain above): that figure alone would have told which of the two it was.

# %%
print(f"divided by {loss_of_pull[False]:.1f} at the start, by {loss_of_pull[True]:.0f} when sure of the background")

# %% [markdown]
# A question about it; bug lab 1 trains with it.

# %%
quiz("residual-why")

# %% [markdown]
# ## 5 Regions or classes, and which loss
# **Question: a voxel is NETC, SNFH, ET or nothing. The challenge scores ET, TC and WT, which contain each other. What should a network answer?** Two ways are common:
#
# - **classes** (R1, R3): a softmax over background, NETC, SNFH and ET. They exclude each other. Trained on what the labels say.
# - **regions** (R0, R4, the course): three sigmoids, ET, TC and WT. They overlap. Trained on what is scored.
#
# From the first one can come to the second. **Your turn:** class probabilities to region probabilities.
#
# <details><summary>Hint</summary>
#
# TC is NETC or ET, and the classes exclude each other. `np.stack` makes one array of three.
# </details>


# %% tags=["exercise"]
def regions_of(p):
    """(4, ...) background, NETC, SNFH, ET to (3, ...) ET, TC, WT."""
    # BEGIN SOLUTION: the probability of each region
    # BLANK: return ...
    return np.stack([p[3], p[1] + p[3], p[1] + p[2] + p[3]])
    # END SOLUTION


check.regions(regions_of)

# %% [markdown]
# The loss has two parts in R3 and in the course. Both have the *Dice loss*, which looks at the overlap and does not care how much background there is. Beside it:
#
# - **cross-entropy** (Dice + CE, the course): every voxel must be right, and how sure the network is counts;
# - **Focal** (Dice + Focal, R3): the same, but a voxel with probability $p$ of its true class counts only $(1-p)^\gamma$, here with $\gamma=2$: what is nearly right is left alone. Notebook 03 draws it.
#
# By hand, for a voxel that is right with .9 and one that is right with .3:

# %% tags=["nbval-check-output"]
for p in (0.9, 0.3):
    print(f"p = {p}: cross-entropy {-math.log(p):.3f}, Focal {-((1 - p) ** 2) * math.log(p):.3f}")

# %% [markdown]
# Three short trainings of the course's network, alike but for output and loss. Predictions are brought back to the files' own grid and become labels: regions are nested (ET only inside TC, TC only inside WT), of classes the likeliest is taken.

# %%
TISSUES = ("NETC", "SNFH", "ET")
BRIEF = {"budget__steps": 40 if setup.profile.quick else 400, "data__size": (48,) * 3 if setup.profile.quick else (128,) * 3}  # fmt: skip
CLASSES = {"data__regions": TISSUES, "data__exclusive": True}
OUTPUTS = {
    "regions, Dice + CE": {},
    "classes, Dice + CE": {**CLASSES, "loss__softmax": True},
    "classes, Dice + Focal": {**CLASSES, "loss__name": "dice_focal", "loss__softmax": True},
}
for name, changes in OUTPUTS.items():
    runs[name] = train_live(name, "course_resunet3d", budget__epoch_steps=BRIEF["budget__steps"], **BRIEF, **changes)

# %% [markdown]
# The functions that predict and score, for the rest of the notebook. A region's Dice is the mean over the patients who have it, so that a patient without ET does not decide ET's Dice by a single voxel.


# %%
def predict(label, some=None):
    """Case to labels on the grid of its files."""
    predictor, made = VolumePredictor([runs[label].load()]), {}
    for case in some or held_out:
        said = predictor(case)
        planes = dict(zip(said.regions, said.data, strict=True))
        made[case.id] = said.box.paste(labels_of(planes, case.scheme, said.spacing, exclusive=predictor.exclusive))
    return made


def dice_table(predicted, names=REGIONS, some=None):
    """Mean Dice of each region over the cases that have it."""
    kept = {name: [] for name in names}
    for case in some or held_out:
        truth_of = case.label().data
        for name in names:
            wanted, found = (case.scheme.region(x, name) for x in (truth_of, predicted[case.id]))
            if wanted.any():
                kept[name].append(voxel.count(wanted, found).dice)
    return {name: np.mean(values) if values else np.nan for name, values in kept.items()}


predictions = {name: predict(name) for name in OUTPUTS}
pd.DataFrame({name: dice_table(p) for name, p in predictions.items()}).T.style.format("{:.2f}").set_uuid("outputs")

# %% [markdown]
# **Answer.** These rows are one seed and seconds of training: they cannot say which is better; another seed or more steps may turn their order round. What differs for certain: regions are what is scored, and may contradict each other; classes cannot, and are what a report on tissues needs
# (R1 after treatment). nnU-Net's entry that won BraTS 2020 was trained on regions.

# %%
quiz("region-or-class")

# %% [markdown]
# ## 6 Patches and windows
# **Question: trained on patches, asked about a whole scan. How does it get there?** If memory allows, in one pass: a network of convolutions takes any size. If not, the scan is cut into *windows* that overlap, and where several windows answer, their answers are averaged.
# A voxel at the border of a window has lost half of its surroundings, so its answer counts less: the weights are a *Gaussian*, high in the window's middle and low at its border.
#
# **Your turn.** Where do the windows begin along one axis? Neighbours share `overlap` of a window, the last window ends where the scan ends.
#
# <details><summary>Hint</summary>
#
# The step is `int(window * (1 - overlap))`. Go on in such steps as long as a window starts before the last possible place, `length - window`; then add that place.
# </details>


# %% tags=["exercise"]
def starts_of(length, window, overlap):
    """10 voxels, windows of 4, overlap 0.5: [0, 2, 4, 6]."""
    # BEGIN SOLUTION: the first voxel of each window
    # BLANK: return ...
    step = int(window * (1 - overlap))
    return [*range(0, length - window, step), length - window]
    # END SOLUTION


right_starts = check.starts(starts_of)
right_starts

# %% [markdown]
# Along one axis of a scan: the weight of each window, and below the weights as they are used, divided by their sum. (Your starts are drawn if the check passed.)


# %%
def gaussian(window):
    """Weights of a window along an axis; its standard deviation is an eighth of it, as in MONAI and nnU-Net."""
    place = np.arange(window) - (window - 1) / 2
    return np.exp(-(place**2) / (2 * (window / 8) ** 2)).clip(1e-3)


LENGTH, WINDOW = 72, 32
begins = starts_of(LENGTH, WINDOW, 0.5) if right_starts else [0, 16, 32, 40]
weights = np.zeros((len(begins), LENGTH))
for row, start in zip(weights, begins, strict=True):
    row[start : start + WINDOW] = gaussian(WINDOW)
figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 3.4), sharex=True)
for axes, drawn in ((above, weights), (below, weights / weights.sum(0))):
    axes.plot(drawn.T)
above.set_ylabel("Gaussian")
below.set(xlabel="voxel along the axis", ylabel="share of the answer")
figures.show(figure, f"Weights of {len(begins)} overlapping windows along an axis of {LENGTH} voxels: above, bells; below, the share that each "
             "window has in the answer, which passes smoothly from one to the next.")  # fmt: skip

# %% [markdown]
# Now the trained network on a held-out case: in one pass, and in windows three ways. The pictures show by how much the score (the logit) of WT differs from that of one pass. **Guess where the differences are.**

# %%
network = runs["course"].load().network
batch = next(iter(sources_of(runs["course"].recipe).validation))
WINDOW_SIDE = 32 if setup.profile.quick else 64  # voxels: small, so that there are many borders
WAYS = {"no overlap": (0.0, "constant"), "half overlap, plain mean": (0.5, "constant"), "half overlap, Gaussian": (0.5, "gaussian")}  # fmt: skip
with torch.inference_mode():
    whole = network(batch["image"])[0]
    windows = {name: sliding_window_inference(batch["image"], (WINDOW_SIDE,) * 3, 1, network, overlap, mode=mode)[0]
               for name, (overlap, mode) in WAYS.items()}  # fmt: skip
wt = REGIONS.index("WT")
level = int(batch["label"][0, wt].sum((0, 1)).argmax())
figure, row = plt.subplots(1, 3, figsize=(8.2, 3.0))
for axes, (name, z) in zip(row, windows.items(), strict=True):
    difference = slices.cut((z - whole)[wt].numpy(), "axial", level)
    shown = axes.imshow(difference, cmap=palette.MAPS["difference"], vmin=-5, vmax=5, interpolation="nearest")
    axes.set_title(name, fontsize=9)
    axes.set_axis_off()
figure.colorbar(shown, ax=row, label="score of WT, minus one pass", shrink=0.8)
figures.show(figure, "Difference of WT's score to that of one pass in one slice, for windows without overlap, with half overlap and a plain mean, and with half overlap and Gaussian weights.")  # fmt: skip

# %% [markdown]
# Long straight lines are the borders of windows: nothing in a head is that straight. (Fine dots and stripes, two voxels apart, are in all three pictures: this network answers in cells of 2x2x2 voxels.) How much of a line is there? Measure how far the score jumps from voxel to voxel where a window begins or ends, and how far that of one pass jumps at the same places.


# %%
def jump(z, overlap):
    """Mean step of the score across the planes where windows begin or end."""
    steps = []
    for axis, length in enumerate(z.shape):
        step = int(WINDOW_SIDE * (1 - overlap))
        begins = [*range(0, length - WINDOW_SIDE, step), length - WINDOW_SIDE] if length > WINDOW_SIDE else []
        planes = {k for first in begins for k in (first, first + WINDOW_SIDE) if 0 < k < length}
        steps.append(z.diff(dim=axis).abs().index_select(axis, torch.tensor([k - 1 for k in sorted(planes)], dtype=int)).flatten())  # fmt: skip
    return float(torch.cat(steps).mean())


wanted = batch["label"][0].numpy() > 0
rows, seams = {}, {name: jump(windows[name][wt], o) / jump(whole[wt], o) for name, (o, _) in WAYS.items()}
for name, z in ({"one pass": whole} | windows).items():
    dice = {f"Dice {region}": voxel.count(wanted[n], (z[n] > 0).numpy()).dice for n, region in enumerate(REGIONS)}
    rows[name] = {"jump at borders, times one pass": seams.get(name, 1.0), "mean difference of scores": float((z - whole)[wt].abs().mean()), **dice}  # fmt: skip
pd.DataFrame(rows).T.style.format("{:.2f}").set_uuid("windows")

# %% [markdown]
# **Answer.** There are two differences, and blending removes one. The *seams*: without overlap the score jumps where windows meet; a plain mean of overlapping windows still jumps wherever one begins or ends, by a fraction of it; Gaussian weights are nearly 0 there, so that the answer passes smoothly from one window to the next. What stays with any weights (the second
# column) is that a window has not seen the rest of the head, and that this network's instance norm takes its mean and spread from what it is given. Compare both with the columns of Dice. Half overlap along three axes costs up to eight times the work, so one pass is taken where memory allows
# (a network that is not being trained needs little: no maps are kept). `brainseg predict` does the same.
#
# ## 7 Region by region, before and after treatment
# **Question: is one Dice enough?** The held-out patients, predicted at the files' own voxel size, region by region. *HD95* is the distance in mm that 95% of the outline's points stay below, in both directions (notebook 07).

# %%
predictions["course"] = predict("course")
scores = []
for case in held_out:
    truth_volume = case.label()
    protocol = "brats2024" if "RC" in case.scheme.regions else "brats2023"
    for s in score_case(truth_volume.data, predictions["course"][case.id], truth_volume.spacing, protocol, case.scheme):
        if s.metric in ("dice", "hd95"):
            scores.append({"case": case.id, "region": s.region, "metric": s.metric, "value": s.value})
scores = pd.DataFrame(scores)
scores.to_csv(setup.output_dir / "scores.csv", index=False)
scores["metric"] = scores["metric"].map({"dice": "Dice", "hd95": "HD95, mm"})
by_region = scores.pivot_table(index="region", columns="metric", values="value", aggfunc=["mean", "min", "max"], sort=False)  # fmt: skip
by_region.style.format("{:.2f}").set_uuid("regions")

# %% [markdown]
# The patients one by one, in the slice with most tumour: truth above, network below.

# %%
tiles = []
for case in held_out[:4]:
    volume = case.images(("t1c",))
    scene = Scene(volume.data, ("t1c",), volume.spacing, case.label().data, predictions["course"][case.id], case.scheme.tissues)  # fmt: skip
    tiles.append(draw(scene, 190, shown=("t1c",)))
height = max(tile.shape[0] for tile in tiles)
row = np.concatenate([np.pad(tile, ((0, height - tile.shape[0]), (0, 6), (0, 0))) for tile in tiles], axis=1)
figures.show(row, f"T1 with contrast of {len(tiles)} held-out patients with labels: the truth in the upper row, the course's network in the lower one.")  # fmt: skip

# %% [markdown]
# Which region is worst, and in which patient? A mean over regions and patients hides both. HD95 is a matter of its own: where the truth has a region and the mask has none, or the other way round, the challenge sets it to 374 mm, about the diagonal of the whole image, and one such patient decides the mean.
#
# A score belongs to a network **and** its patients. The course's phantoms come in three degrees of difficulty; tumours of the normal one have two thirds of the volume and three quarters of the contrast of the easy ones, with more noise. **Guess what the same network scores there, before you look.** (With your own scans the row is left out.)

# %%
harder = {"held out": dice_table(predictions["course"])}
if setup.phantom:
    normal = [case for case in find_cases(setup.data_dir) if (case.label().data > 0).any()][:4]
    harder["phantoms of normal difficulty"] = dice_table(predict("course", normal), some=normal)
pd.DataFrame(harder).T.style.format("{:.2f}").set_uuid("normal")

# %% [markdown]
# Whichever way it fell: the network is the same in both rows, and the numbers are not. A Dice in a report says little without its patients, and two Dice values from different patients say nothing about two networks.
#
# ### The reports' recipes beside the course's
# A fair comparison of recipes gives all the same patients, the same computing time and the same scores. That takes longer than a notebook may; here are the recorded runs, as far as there are any. *real* are scans of real patients, which none of the networks was trained on.

# %%
RIVALS = {"course": "course_resunet3d", "R1 Residual U-Net": "r1_resunet", "R3 U-Net": "r3_unet"}
rivals = {}
for name, stem in RIVALS.items():
    summary = RECORDED[f"phantoms_{stem}"].summary if f"phantoms_{stem}" in RECORDED else {}
    for place in ("phantoms", "real"):
        told = summary.get(place, {})
        rivals[f"{name}, {place}"] = {r: f"{told[r]['mean']:.3f} ({told[r]['low']:.3f} to {told[r]['high']:.3f})" if r in told else NOT_YET for r in REGIONS}  # fmt: skip

# %% [markdown]
# And beside them what finding nothing in anyone would score, on the same patients:

# %%
if "phantoms_course_resunet3d" in RECORDED:
    patients = RECORDED["phantoms_course_resunet3d"].scores.query("metric == 'dice' and lost == 'none'")
    empty = (patients["truth_ml"] == 0).groupby([patients["cohort"], patients["region"]]).mean()
    for place in ("phantoms", "real"):
        rivals[f"nothing anywhere, {place}"] = {r: f"{empty[place, r]:.3f}" for r in REGIONS}
pd.DataFrame(rivals).T.style.set_uuid("rivals")

# %% [markdown]
# (In brackets: where the mean would lie in 95 of 100 draws of as many patients.) A patient without ET counts 1 if none was said: hold each ET against the last rows, what finding nothing in anyone scores.
#
# Two more things to know. The course's recipe has a small form for 2 mm and the reports' networks have their own size, so that equal time means several times as many steps for the course. And the reports' preprocessing is kept with its faults: R1 trains on crops around the truth, which a new patient does not have (notebook 02).
#
# ### After treatment
# R1's scans are from after surgery: there is a *resection cavity*, RC, a hole where tumour was, and the new tumour grows at its rim. R1 scores the four tissues. The course's network with class outputs, trained for seconds on phantoms after treatment
# (or on your own scans, if they have RC), stands beside recorded runs. Of those, the means over the patients who have a region:


# %%
def recorded_where_present(stem):
    """Region to mean Dice of a recorded run over those held-out phantoms that have the region."""
    if stem not in RECORDED or RECORDED[stem].scores is None:
        return {}
    rows = RECORDED[stem].scores.query("cohort == 'phantoms' and lost == 'none' and metric == 'dice' and truth_ml > 0")
    return rows.groupby("region")["value"].mean().to_dict()


# %% [markdown]
# The live training, and the table:

# %%
treated = "RC" in cases[0].scheme.regions
post_cases = cases if treated else phantoms("post", 10 if setup.profile.quick else 48, "brats2024")
post = (post_cases, division if treated else divide(post_cases))
post_held = [case for case in post_cases if case.id in post[1]["val"]]
FOUR = ("NETC", "SNFH", "ET", "RC")
SIX = (*FOUR, "TC", "WT")
AFTER = {**BRIEF, "budget__steps": 60 if setup.profile.quick else 800, "data__regions": FOUR, "data__exclusive": True, "loss__softmax": True}  # fmt: skip
runs["after treatment"] = train_live("after treatment", "course_resunet3d", of=post, budget__epoch_steps=AFTER["budget__steps"], **AFTER)  # fmt: skip
after = predict("after treatment", post_held)
tissues = {"course, live": dice_table(after, SIX, post_held),
           "course, recorded": recorded_where_present("after_course_resunet3d"),
           "R1 Residual U-Net, recorded": recorded_where_present("after_r1_resunet"),
           "R1 U-Net, stated": dict(zip(("ET", "NETC", "SNFH", "RC"), (0.095, 0.297, 0.693, 0.524), strict=True)),
           "R1 Residual U-Net, stated": dict(zip(("ET", "NETC", "SNFH", "RC"), (0.325, 0.422, 0.797, 0.61), strict=True))}  # fmt: skip
pd.DataFrame(tissues, index=SIX).T.style.format("{:.3f}", na_rep="-").set_uuid("after")

# %% [markdown]
# A dash: not stated, or not recorded (yet). The first three rows are means over the patients who have the region: one who has no cavity, and to whom a network gives none, would count 1. The first was measured here, on few phantoms; the recorded course has region outputs (ET, TC, WT, RC). The stated rows are from other patients, R1's 270, and from R1's own way of computing Dice, which is a bug lab of notebook 07; nothing follows from setting the rows side by side. Along each row one can look: how far the tissues of *one* network lie apart.
#
# ### R3's table, looked at
# R3 states Dice ET .80, ED .75, NCR .70, IoU .73, .68, .65, and, elsewhere, what its training printed after each of ten epochs:

# %%
R3 = pd.DataFrame(
    {
        "train accuracy": [0.7495, 0.9563, 0.9386, 0.9462, 0.9428, 0.9505, 0.9520, 0.9487, 0.9593, 0.9618],
        "validation accuracy": [0.9547, 0.8951, 0.9310, 0.8906, 0.7789, 0.9425, 0.8504, 0.9066, 0.9246, 0.9655],
        "train IoU": [0.1422, 0.2308, 0.2592, 0.3032, 0.3105, 0.3643, 0.4041, 0.4057, 0.4404, 0.4727],
        "validation IoU": [0.2061, 0.2307, 0.2886, 0.2842, 0.2572, 0.3755, 0.3327, 0.4002, 0.3983, 0.4270],
    },
    index=pd.RangeIndex(1, 11, name="epoch"),
)
figure, axes = plt.subplots(figsize=(6.0, 3.0))
for column, style in zip(R3, ("o-", "s--", "^:", "D-."), strict=True):
    axes.plot(R3.index, R3[column], style, markersize=3, label=column)
axes.axhspan(0.65, 0.73, color="grey", alpha=0.3)
axes.annotate("IoU that R3 states", (1.1, 0.675), fontsize=8)
axes.set(xlabel="epoch", ylabel="as R3 states it", ylim=(0, 1))
axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
figures.show(figure, "R3's own epochs: accuracies mostly between .85 and .97, validation IoU rising from .21 to .43, and a grey band from .65 "
             "to .73, the IoU that R3 states, which no curve of it reaches.")  # fmt: skip

# %% [markdown]
# Three questions to such a table, each answered by a line of arithmetic. Does the run reach the result? Do Dice and IoU fit each other? What does the IoU count? For one mask, IoU and Dice are the same information: $\text{IoU}=\text{Dice}/(2-\text{Dice})$. A mean over patients can only lie above that, never below, and reaches Dice itself only if each patient is perfect or missed.

# %% tags=["nbval-check-output"]
ends = R3["validation IoU"].iloc[-1]
print(f"the run ends at IoU {ends:.4f}, a Dice of about {2 * ends / (1 + ends):.2f}")
for name, dice, iou in (("ET", 0.80, 0.73), ("ED", 0.75, 0.68), ("NCR", 0.70, 0.65)):
    print(f"{name}: Dice {dice:.2f} belongs to IoU {dice / (2 - dice):.2f}, stated {iou:.2f}")
wrong_voxels, background = 1 - R3["validation accuracy"].iloc[0], 0.98  # its share of a scan
least = (background - wrong_voxels) / background / 4  # every wrong voxel a background one, no tumour voxel right
print(
    f"epoch 1, accuracy {1 - wrong_voxels:.4f}: IoU over four classes {least:.3f} or more, stated {R3['validation IoU'].iloc[0]:.3f}"
)

# %% [markdown]
# The results and the run do not belong together, whichever was measured on what. And accuracy hardly takes part in the learning: while the validation IoU doubles, accuracy is .9547 in the first epoch and .9655 in the last. The stated pairs of Dice and IoU do fit, if they are
# means over patients. What the IoU of the epochs counts, R3 does not say. Over four classes it cannot be: where 95.47% of the voxels are right, the background's IoU alone is .95, and a quarter of that is more than the first epoch states. So background is not among what it counts, or it is not of the masks whose accuracy stands beside it.
#
# ## Bug lab 1: two softmaxes (R1)
# **Watch it fail.** R1's network without skips, as in R1 but for its width, the patches and the preprocessing: a softmax inside, cross-entropy outside, Adam. Here is the whole training, since its mended twin is to differ in nothing else.


# %%
R1_STEPS = 80 if setup.profile.quick else 400
r1_source = sources_of(recipe_of("course_resunet3d", **CLASSES, data__size=(SIDE,) * 3))


def train_r1(softmax_inside, loss_of):
    """R1's network after `R1_STEPS` steps, and the loss of each; always the same first weights and the same patches."""
    network = fresh("unet3d_r1", width=12, out_channels=4, softmax_inside=softmax_inside).train()
    optimiser, curve = torch.optim.Adam(network.parameters(), 2e-3), []
    for step in range(R1_STEPS):
        some = r1_source.train.batch(range(2 * step, 2 * step + 2))
        loss = loss_of(network(some["image"].float()), some["label"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(float(loss.detach()))
    return network, curve


def entropy(z, truth):
    """R1's loss: PyTorch's cross-entropy, which begins with a softmax."""
    return F.cross_entropy(z, truth[:, 0].long())


networks, losses_of, STYLES = {}, {}, {"one softmax": "C0o-", "two softmaxes": "C1s--"}
networks["two softmaxes"], losses_of["two softmaxes"] = train_r1(True, entropy)

# %% [markdown]
# Two looks at a network: its loss, the mean over ten steps at a time, and, for the held-out patients, how probable it finds it that there is tumour, of whichever class, where there is tumour, and elsewhere. (Classes exclude each other: the probabilities of the three add up, as in section 5.)


# %%
def judge(network):
    """Over held-out patients: the probability of tumour where there is tumour, where there is none, and Dice of WT."""
    rows = []
    with torch.inference_mode():
        for held in r1_source.validation:
            said = network.eval()(held["image"])[0]
            p = said if network.softmax_inside else said.softmax(0)
            wanted, tumour = held["label"][0, 0] > 0, 1 - p[0]
            dice = voxel.count(wanted.numpy(), (tumour >= 0.5).numpy()).dice
            rows.append([float(tumour[wanted].mean()), float(tumour[~wanted].mean()), dice])
    return dict(zip(("tumour, in tumour", "tumour, elsewhere", "Dice WT"), np.mean(rows, axis=0), strict=True))


def mean_of_ten(curve):
    return np.mean(np.reshape(curve, (-1, 10)), axis=1)


def draw_losses():
    figure, axes = plt.subplots(figsize=(5.4, 2.8))
    for name, curve in losses_of.items():
        axes.plot(np.arange(10, R1_STEPS + 1, 10), mean_of_ten(curve), STYLES[name], markersize=4, label=name)
    axes.set(xlabel="step", ylabel="training loss, mean of ten steps", ylim=(0, None))
    axes.legend(fontsize=8)
    ends = ", ".join(f"{mean_of_ten(curve)[-1]:.2f} with {name}" for name, curve in losses_of.items())
    figures.show(figure, f"Training loss of R1's network against the step; the last ten steps have {ends}.")


# %% [markdown]
# Here they are.

# %%
draw_losses()
judged = {"two softmaxes": judge(networks["two softmaxes"])}
pd.DataFrame(judged).T.style.format("{:.3f}").set_uuid("judged")

# %% [markdown]
# Does the loss stand still since nothing was learned, or since it is as low as it can be? **Find it:** what is the lowest loss that a perfect network with two softmaxes can have? Here there are four classes, R1 has five.
#
# <details><summary>Hint</summary>
#
# The network says 1 for the right class and 0 for all others. The second softmax makes $e^1/(e^1+(K-1)e^0)$ of it. The loss is minus the logarithm of that.
# </details>


# %% tags=["exercise"]
def lowest_loss(classes):
    # BEGIN SOLUTION: the loss of a network that is right and sure, after two softmaxes
    # BLANK: return ...
    return math.log(math.e + classes - 1) - 1
    # END SOLUTION


found_floor = check.lowest(lowest_loss)
found_floor

# %% [markdown]
# Beside what was seen:

# %%
if found_floor:
    print(
        f"lowest with 4 classes {lowest_loss(4):.3f}; this run ended at {mean_of_ten(losses_of['two softmaxes'])[-1]:.3f}"
    )
    print(f"lowest with 5 classes {lowest_loss(5):.3f}; R1 states .0164 and .0104 at the end")

# %% [markdown]
# A voxel that is surely wrong costs exactly 1 more than one that is surely right, whatever it is: so the difference between the two numbers is, in a network that is sure of all voxels, the share of wrong ones. So the loss stands still although a part of the voxels is wrong: it is not at its floor, the pull is gone. The table above says whether tumour is any more probable in tumour than elsewhere; where it is not, the network answers without looking. A loss that stands still above its floor is worth such a line of arithmetic. And the stated losses?

# %%
quiz("stated-loss")

# %% [markdown]
# **Mend it.** Two things belong together: the softmax comes out of the network, and the loss takes the *scores* $z$ as they come:
#
# $$ -\log \text{softmax}(z)_t = \log \sum_k e^{z_k} - z_t $$
#
# On paper it is the same to take the softmax first and its logarithm afterwards. In 32-bit numbers it is not: a lead of 200 makes a probability of exactly 0, whose logarithm is infinite, and whoever guards against that by a smallest probability takes
# away the pull on just the voxels that are surely wrong. Write the loss for `z` of (N, K, X, Y, Z) and `truth` of (N, 1, X, Y, Z) with class numbers. It trains the twin in the next cell.
#
# <details><summary>Hint</summary>
#
# `z.logsumexp(1)` is the first part, for each voxel. `z.gather(1, truth.long())` picks the score of each voxel's true class. Then the mean over all voxels.
# </details>


# %% tags=["exercise"]
def loss_of_scores(z, truth):
    # BEGIN SOLUTION: the mean cross-entropy of scores
    # BLANK: return ...
    return (z.logsumexp(1) - z.gather(1, truth.long())[:, 0]).mean()
    # END SOLUTION


mended = check.scores(loss_of_scores)
mended

# %% [markdown]
# **See the gain.** The twin: the same first weights, patches, and steps, one softmax, and your loss if the check passed. **Guess what its loss will do, and where the probability of tumour will rise.**

# %%
networks["one softmax"], losses_of["one softmax"] = train_r1(False, loss_of_scores if mended else entropy)
draw_losses()
judged["one softmax"] = judge(networks["one softmax"])
pd.DataFrame(judged).T.style.format("{:.3f}").set_uuid("softmax")

# %% [markdown]
# Adam divides a gradient by its own size, so that the constant factor of the start costs little; that is one reason why such a bug can stay unseen. What Adam cannot bring back is the pull on voxels that are surely wrong: a network that has once become sure stays as it is, right or wrong. Mending the code need not wake
# such a network up, either, since its layers may have gone silent on the way: train anew. (Which of the three tissues it is, plain cross-entropy learns slowly where tissues are rare, as notebook 03 shows: the course adds Dice for that.)
#
# ## Bug lab 2: a U-Net without skips (R1)
# **Watch it fail.** The rungs "no skips" and "skips" differ in one word of their settings. What can pass through each? The plainest test takes the tumour out of it: let both learn *one* patch by heart, and let them say not where the tumour is, but what they see. What a network
# cannot hand through as a picture, it has to code in few numbers. **Guess how the picture of the network without skips will look.**


# %%
PAIR = ("no skips", "skips")
COPY_STEPS = 40 if setup.profile.quick else 200
original = sources_of(runs["skips"].recipe).train.batch([0])["image"].float()
T1C = 1  # the channel that is to be redrawn


def redraw(name):
    """A fresh rung learns to put out one channel of the patch; what it draws at last, and its error at each step."""
    key, options, _ = LADDER[name]
    network, curve = fresh(key, out_channels=1, **options).train(), []
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    for _ in range(COPY_STEPS):
        drawn = network(original)[0, 0]
        error = (drawn - original[0, T1C]).abs().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        curve.append(float(error.detach()))
    return drawn.detach().numpy(), curve


redrawn = {name: redraw(name) for name in PAIR}

# %% [markdown]
# One slice of the patch as it is, and as each of them hands it through:

# %%
pictures = {"the patch": original[0, T1C].numpy(), **{name: redrawn[name][0] for name in PAIR}}
figure, row = plt.subplots(1, 3, figsize=(7.8, 2.9))
for axes, (name, volume) in zip(row, pictures.items(), strict=True):
    cut = slices.cut(volume, "axial", SIDE // 2)
    low, high = np.percentile(pictures["the patch"], (1, 99.5))
    axes.imshow(cut, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(name, fontsize=9)
errors = {name: curve[-1] for name, (_, curve) in redrawn.items()}
figures.show(figure, "One slice of a patch, T1 with contrast, and as two networks redraw it; the mean error is "
             f"{errors['no skips']:.2f} of the brain's standard deviation without skips and {errors['skips']:.2f} with skips.")  # fmt: skip

# %% [markdown]
# **Find it.** Without skips everything has to pass the coarsest grid. How many numbers are there, and how many has the patch?


# %%
def narrowest(name):
    """The fewest numbers that any convolution of a rung puts out for the patch."""
    key, options, _ = LADDER[name]
    network, sizes = fresh(key, out_channels=1, **options), []
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(lambda module, given, out: sizes.append(out.numel()))
    network(original)
    return min(sizes)


print(f"the patch: {original.numel():,} numbers; at the bottom of the U: {narrowest('no skips'):,}")

# %% [markdown]
# **Mend it, see the gain.** `skip = "concatenation"`, and nothing else. After how many steps has the network with skips an error as low as the other has at its end?

# %%
sooner = next((step for step, error in enumerate(redrawn["skips"][1], 1) if error <= errors["no skips"]), None)
print(f"error after {COPY_STEPS} steps: {errors['no skips']:.3f} without skips, {errors['skips']:.3f} with skips")
print(f"with skips, that of the other is reached after {sooner or f'more than {COPY_STEPS}'} steps")

# %% [markdown]
# This shows what skips are for, and no more: what passes through the coarsest grid is learned slowly and comes out blurred, what crosses by a skip need not be learned. Whether a segmentation of so many steps gains by it is another question, which the ladder's recorded runs in section 3 ask, seed by seed. In a report's text "U-Net" is a claim about a
# drawing, and one line of code decides whether it is true; counting the parameters by hand would have shown it.
#
# ## Bug lab 3: accuracy as the headline (R3)
# **Watch it fail.** Four masks for each held-out patient: nothing anywhere, and three networks. All classes count, over all voxels of the scan, as in R3.

# %%
masks_of = {"nothing anywhere": {case.id: np.zeros_like(truths[case.id].data) for case in held_out}}
predictions["FCNN"] = predict("FCNN")
masks_of |= {name: predictions[name] for name in ("FCNN", "classes, Dice + CE", "course")}
accuracy = {name: np.mean([(truths[c.id].data == made[c.id]).mean() for c in held_out]) for name, made in masks_of.items()}  # fmt: skip
headline = pd.DataFrame({"accuracy": accuracy})
headline.loc["R3 states", "accuracy"] = 0.9655
headline.style.format("{:.2%}").set_uuid("accuracy")

# %% [markdown]
# **Find it.** What share of these scans is background? That is the accuracy of nothing anywhere.

# %%
background = np.mean([(truths[c.id].data == 0).mean() for c in held_out])
print(
    f"background: {background:.2%} of all voxels; R3's stated 96.55% is {'below' if background > 0.9655 else 'above'} that"
)
print(f"from the least to the greatest accuracy above: {max(accuracy.values()) - min(accuracy.values()):.2%}")

# %% [markdown]
# **Mend it.** Write the mean Dice over the tumour's classes. A class that neither mask has counts as 1.
#
# <details><summary>Hint</summary>
#
# For each number in `classes`: two boolean masks, twice what they share, over the sum of both. Mind the division when both are empty.
# </details>


# %% tags=["exercise"]
def class_dice(truth, prediction, classes):
    """Two arrays of labels and the classes that count, to one number."""
    # BEGIN SOLUTION: the mean over classes of each class's Dice
    # BLANK: return ...
    scores = []
    for number in classes:
        t, p = truth == number, prediction == number
        total = t.sum() + p.sum()
        scores.append(2 * (t & p).sum() / total if total else 1.0)
    return float(np.mean(scores))
    # END SOLUTION


honest = check.class_dice(class_dice)
honest

# %% [markdown]
# **See the gain.** The same masks, told apart:


# %%
def package_dice(truth, prediction, classes):
    return np.mean([voxel.count(truth == n, prediction == n).dice for n in classes])


measure = class_dice if honest else package_dice
for name, made in masks_of.items():
    values = [measure(truths[c.id].data, made[c.id], tuple(c.scheme.tissues)) for c in held_out]
    headline.loc[name, "mean Dice of the classes"] = np.mean(values)
headline.style.format({"accuracy": "{:.2%}", "mean Dice of the classes": "{:.3f}"}, na_rep="-").set_uuid("mended")

# %% [markdown]
# One more question about it.

# %%
quiz("accuracy-9655")

# %% [markdown]
# ## What this run showed
# Measured or computed above (field and memory are those of the network at its full size):

# %%
shown_rows = [
    ("course's network, Dice WT, TC, ET", ", ".join(f"{metrics[f'dice_{name}']:.2f}" for name in ("WT", "TC", "ET"))),
    ("receptive field, FCNN and course", f"{seen['R1 FCNN']:.0f} and {seen['course']:.0f} voxels"),
    ("memory of a 128³ patch, FCNN and course", f"{costs['R1 FCNN']['patch 128³']:.1f} and {costs['course']['patch 128³']:.1f} GiB"),
    ("first layer's gradient, chain of 24, plain and residual", f"{first['chain of 24, plain']:.0e} and {first['chain of 24, residual']:.0e}"),
    ("the same in a U-Net with norms", f"{first['U-Net with norms, plain']:.0e} and {first['U-Net with norms, residual']:.0e}"),
    ("second softmax divides the gradient by", f"{loss_of_pull[False]:.0f}, by {loss_of_pull[True]:.0f} when sure of the background"),
    ("one softmax instead of two, Dice WT", f"{judged['one softmax']['Dice WT']:.3f} instead of {judged['two softmaxes']['Dice WT']:.3f}"),
    ("mean error of a patch redrawn", f"{errors['skips']:.2f} SD with skips, {errors['no skips']:.2f} without"),
    ("jump at the borders of windows, times one pass", f"{seams['no overlap']:.1f} without overlap, {seams['half overlap, plain mean']:.1f} plain, {seams['half overlap, Gaussian']:.1f} Gaussian"),
    ("accuracy of nothing anywhere", f"{accuracy['nothing anywhere']:.2%}"),
]  # fmt: skip
pd.DataFrame(shown_rows, columns=["what", "measured"]).set_index("what").style.set_uuid("found").set_properties(
    **{"text-align": "left"}
)

# %% [markdown]
# ## When it goes wrong
# | you see | look at |
# |---|---|
# | out of memory before the first step | the forecast says which part: lower `data.size`, then the width at the finest scale; `engine.accumulate` cuts a batch into parts |
# | out of memory in validation | a whole scan in one pass: windows (section 6) |
# | the loss stands still above 0 | the lowest loss that your loss can have (bug lab 1); a softmax too many; a rate of 0 |
# | loss is NaN | a logarithm of 0, or an instance norm over a single voxel: patches too small for so many halvings |
# | gradients are small everywhere alike | the loss, not the depth: compare layer by layer (section 4) |
# | gradients are small in the first layers only | depth: norms, shortcuts, deep supervision |
# | Dice 0 for ET alone, for long | patches without ET: sample each tissue equally often (`data.foreground`) |
# | a grid of squares in the prediction | windows without overlap, or batch statistics of windows |
# | good in training, poor on whole scans | batch norm with batches of 1 or 2: use instance norm; or a field larger than the patch |
# | ET outside TC | region outputs that were not nested when labels were made |
# | accuracy above 95% | nothing, until you know what an empty mask has (bug lab 3) |
#
# ## Words of this notebook
# **ET, TC, WT, NETC, SNFH, RC**: enhancing tumour, core, whole tumour; non-enhancing core, oedema and infiltration, resection cavity. **patch**: a box of voxels that is trained on. **window**: a box that is predicted. **receptive field**: the part of the scan that can change an output voxel.
# **stride, pooling**: a step of several voxels; keeping the largest of each 2x2x2. **transposed convolution**: each voxel paints several new ones. **skip connection**: early, fine features handed to the way up. **residual block**: learns what to add to its input. **dense block**: keeps all it has found.
# **attention gate**: a number from 0 to 1 for each voxel of a skip. **deep supervision**: coarse scales answer too. **VAE branch**: redraws the scan from few numbers. **batch norm, instance norm**: rescaling by mean and spread of the batch, or of each image. **vanishing gradient**: factors below 1, multiplied through depth. **softmax, sigmoid**: scores to probabilities that exclude each other, or do not.
# **logit**: the score before either. **sliding window, Gaussian blending**: overlapping windows, their middles counting most. **HD95**: how far outlines are apart, but for the worst 5%.
#
# ## Read on
# - Çiçek Ö. et al., 3D U-Net, MICCAI 2016, arXiv 1606.06650.
# - Milletari F., Navab N., Ahmadi S., V-Net, 3DV 2016, arXiv 1606.04797: residual blocks in 3D, and the Dice loss.
# - He K. et al., Identity mappings in deep residual networks, ECCV 2016, arXiv 1603.05027.
# - Oktay O. et al., Attention U-Net, MIDL 2018, arXiv 1804.03999.
# - Huang G. et al., Densely connected convolutional networks, CVPR 2017, arXiv 1608.06993.
# - Myronenko A., 3D MRI brain tumor segmentation using autoencoder regularization, BrainLes 2018, arXiv 1810.11654: the VAE branch.
# - Isensee F. et al., nnU-Net, arXiv 1809.10486 and Nature Methods 2021, doi 10.1038/s41592-020-01008-z: how much comes from settings, not from the network.
# - Luo W. et al., Understanding the effective receptive field, NeurIPS 2016, arXiv 1701.04128.
#
# ## What to take along
# 1. What a network sees, and what it costs, is known before it trains.
# 2. One change at a time, several seeds, or no ranking.
# 3. Draw the gradient by layer before you treat it.
# 4. Compute the lowest loss that your loss can have.
# 5. Every score is read beside the one that an empty mask has.
#
# Next, notebook 05 looks at the whole scan with a transformer.
