# %% [markdown]
# # 06 GAN augmentation: tumours painted into healthy tissue
#
# **You will be able to**
# - say before a training how much memory a GAN will take, and choose patch size, parts and checkpointing from a budget,
# - explain what a generator and a critic give each other, and write the critic's loss,
# - watch a training for its three ways to fail: one side wins, everything looks alike, the label is ignored,
# - judge painted tumours by brightness, texture, distributions and copies, and not by one picture that convinces,
# - paint tumours into training patches on the fly, with nothing stored on disk, and keep held-out patients out of it,
# - read an experiment that asks what such extras are worth, whichever way it fell.
#
# **Time:** {{time quick}} (quick), {{time full}} (full) · **Needs:** notebooks 02 and 04, or their glossaries; nothing is downloaded ·
# **Rebuilds:** R1
#
# The student report R1 wanted a *GAN* (generative adversarial network) to enlarge its training set. The GAN ran out of memory and was abandoned. The idea is a good one: the entry that came first in BraTS 2023
# painted tumours into healthy tissue. This notebook finds out what went wrong, builds one that fits, and then asks the question that is left out most often: does it help? This is not a medical device.

# %% [markdown]
# ## Settings
# `data_dir` is a folder of scans with masks (BraTS of any year, or a Decathlon folder). Left empty, the course makes phantoms: a real average brain, deformed anew for each
# patient, in which a tumour was grown. Either way, the painter learns from phantoms that are made while it trains; your scans are what it paints into.
#
# *Real* means below: as it came with the data, not painted. In a phantom that is the tumour that was grown in it. Where scans of people are meant, it says *real scans*.

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
import shutil
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display

from brainseg_utils import course
from brainseg_utils.course.threads import set_threads

setup = course.begin("06", profile=profile, data_dir=data_dir, output_dir=output_dir, seed=seed)
check, quiz = setup.check, setup.quiz
threads = set_threads()  # one or two, whichever trains faster on this machine now

# %% [markdown]
# What the notebook takes from the course's package, room by room: data, networks, training, judging, pictures.

# %%
from brainseg_utils.course.checkout import find_root
from brainseg_utils.course.reference import reference_runs
from brainseg_utils.datasets import splits
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.evaluation import realism, statistics
from brainseg_utils.models.painter import TISSUES, contrast_code, hole_of, one_hot
from brainseg_utils.training import adversarial, checkpoints, games, gan_memory, gan_recipe, gan_samples, shapes
from brainseg_utils.training import recipe as recipes
from brainseg_utils.training.gan_run import GanRun
from brainseg_utils.training.loop import fit
from brainseg_utils.training.painting import PaintTumourd, TumourPainter
from brainseg_utils.training.run import Run
from brainseg_utils.training.train import sources
from brainseg_utils.training.volumes import volumes
from brainseg_utils.views import figures, palette, png
from brainseg_utils.views.frames import Frames
from brainseg_utils.views.real_or_fake import RealOrFake, Round, sheet, verdict
from brainseg_utils.views.widget import Picture

figures.use_style()

# %% [markdown]
# The cases. Real scans that the course keeps for its last test are left out. Patients are dealt out before anything else happens: some are *held out*, and neither shapes nor contrasts nor brains of theirs go into any training here.

# %%
kept_apart = json.loads((find_root() / "data" / "split.json").read_text(encoding="utf-8"))["brats"]["test"]
cases = [case for case in find_cases(setup.data_dir) if case.label_path and case.id not in kept_apart]
ill = [case for case in cases if case.label().data.any()]
apart = splits.split(ill, {"train": 0.6, "val": 0.4}, setup.seed)
training, held_out = ([case for case in ill if case.id in apart[name]] for name in ("train", "val"))
print(f"{len(cases)} cases, {len(cases) - len(ill)} of them without a tumour: {len(training)} to train on, {len(held_out)} held out")  # fmt: skip

# %% [markdown]
# The course's pipeline brings them to 2 mm, crops them to the brain and z-scores each modality (notebook 02), once, into a cache. Out of it come whole scans, and *patches* around the tumours with their labels as class numbers: NETC 1, SNFH 2, ET 3, RC 4, whatever the files' own numbers are.

# %%
quick = setup.profile.quick
SIDE = 32 if quick else 64  # voxels of a patch, 2 mm each
CACHE = str(setup.output_dir / "cache")


def patches_of(some, each):
    """Patches around the tumours of some cases, `each` of every case: images (N, 4, X, Y, Z), labels (N, 1, X, Y, Z)."""
    drawn = volumes(some, [], setup.seed, 1, size=(SIDE,) * 3, spacing=2.0, regions=TISSUES, exclusive=True,
                    foreground=1.0, augment="none", cache=CACHE).train  # fmt: skip
    return drawn.patches.entries, drawn.batch(range(each * len(some)))


EACH = 6
train_entries, train_patches = patches_of(training, EACH)
held_entries, held_patches = patches_of(held_out, EACH)
print(f"patches {tuple(train_patches['image'].shape)} and {tuple(held_patches['image'].shape)}")

# %% [markdown]
# ## Where this ends
# A painter that was trained before, on phantoms, is a part of the course. Here it paints a tumour into a patient it has never seen: the shape is that of a training patient's tumour, turned, scaled and bent; the contrast is mixed from two patches of its training. **Guess before you look at the last picture: how far does the painted tumour reach?**

# %%
TIMES_OF_ALL = 1e9  # extras for every real patch: as good as always
known_file = find_root() / "data" / "reference" / "models" / "painter"
known = TumourPainter.load(known_file)
train_shapes = shapes.stored_shapes(train_entries)


def paint_scan(entry, painter, number=0, some=train_shapes):
    """A cached scan and its label, before and after a tumour was painted into it."""
    before = {"image": torch.from_numpy(entry.image()), "label": torch.from_numpy(entry.label())}
    change = PaintTumourd(painter, some, TIMES_OF_ALL)
    change.set_random_state(seed=int(setup.rng("paint", entry.case_id, number).integers(2**31)))
    return before, change(before)


# %% [markdown]
# And one function draws slices, of patches and of whole scans:


# %%
def draw(axes, image, modality, level, label=None, title=""):
    """One slice, with outlines of the tissues if there is a label."""
    plane, air = image[MODALITIES.index(modality), :, :, level], (image[..., level] == 0).all(0)
    axes.imshow(np.where(air, -9, plane).T, origin="lower", cmap="gray", vmin=-2.5, vmax=3.5, interpolation="nearest")
    numbers = np.zeros((2, 2)) if label is None else np.asarray(label)[..., level].T
    for number, tissue in enumerate(TISSUES, 1):
        inside = numbers == number
        if inside.any():
            style = palette.style(tissue)
            axes.contour(inside, [0.5], colors=style.colour, linestyles=style.dash, linewidths=1.3)
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)


# %% [markdown]
# The slice with most of the painted tumour, before and after, and the label that comes with it:

# %%
before, after = paint_scan(held_entries[0], known)
painted = np.asarray((after["label"] != before["label"])[0])
level = int(painted.sum((0, 1)).argmax())
figure, row = plt.subplots(1, 4, figsize=(9.4, 2.9))
draw(row[0], before["image"], "t1c", level, title="T1 contrast, as scanned")
draw(row[1], after["image"], "t1c", level, title="painted")
draw(row[2], after["image"], "t2f", level, title="FLAIR, painted")
draw(row[3], after["image"], "t2f", level, after["label"][0], "with its label")
present = [tissue for number, tissue in enumerate(TISSUES, 1) if (after["label"][..., level] == number).any()]
handles = [plt.Line2D([], [], **figures.line_style(tissue)) for tissue in present]
figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
share = painted[..., level].sum() * 0.04
figures.show(figure, f"One slice four times: T1 with contrast before and after painting, FLAIR after, and with outlines of the tissues; the painted tumour covers {share:.0f} square centimetres.")  # fmt: skip

# %% [markdown]
# The mask is known to the voxel, because it was there first. Whether the paint keeps to it, and whether it is good for anything, are two further questions.
#
# ## 1 Why R1's GAN ran out of memory
# **Question: its two networks together have fewer parameters than the same report's U-Net (901,477), which did train. What did not fit?**

# %% tags=["nbval-check-output"]
for name in ("generator_r1", "discriminator_r1"):
    network = gan_recipe.build(recipes.Choice(name, {}))
    count = sum(parameter.numel() for parameter in network.parameters())
    print(f"{name:16} {count:,} parameters, {4 * count / 1e6:.1f} MB")

# %% [markdown]
# Not the weights. A training keeps what each layer has put out, for the backward pass. The first layer of R1's generator has 64 channels. R1 does not state what size of scan went in; its files have 182 x 218 x 182 voxels, which is what is taken here. **Guess: how many bytes is that one map?**
#
# **Your turn:** return the bytes of one map, for its `channels` and the three sides in `size`.
#
# <details><summary>Hint</summary>
#
# Every voxel of every channel is a number in float32, of 32 bits.
# </details>


# %% tags=["exercise"]
def map_bytes(channels, size):
    # BEGIN SOLUTION: bytes of one map of activations
    # BLANK: return ...
    return channels * size[0] * size[1] * size[2] * 4
    # END SOLUTION


counted = check.map_bytes(map_bytes)
counted

# %% [markdown]
# For R1's first layer, and for the same layer on a patch of 64 voxels a side:

# %%
if counted:
    for size in ((182, 218, 182), (64, 64, 64)):
        print(f"64 channels at {size}: {map_bytes(64, size) / 1e9:.3f} GB")

# %% [markdown]
# A step of a GAN keeps more than that of one network: the generator's pass waits while the critic goes forward three times (on the real, on the made, and on the made again for the generator's own loss) and backward twice. The package *rehearses* the step with tensors that have a shape and no content, and counts the bytes that live at each moment.
# In what it prints, *copies* is what the largest convolution needs for itself.
#
# **Predict, then measure:** the lines are the rehearsal, the crosses are real steps of real networks, each in a process of its own.


# %%
FP32 = {"engine.precision": "fp32"}  # as measured below, on any machine
plans = {"R1's GAN": gan_recipe.load("r1_gan", "full", FP32), "the course's painter": gan_recipe.load("course_painter", "quick", FP32)}  # fmt: skip
WHOLE = (182, 218, 182)  # R1's scans
SIDES = (16, 24, 32, 48, 64, 128)
expected = {}
for name, plan in plans.items():
    expected[name] = [gan_memory.forecast(plan, (side,) * 3).total / 2**20 for side in SIDES]
whole_scan = gan_memory.forecast(plans["R1's GAN"], WHOLE)
MEASURED = {"R1's GAN": (48, 56), "the course's painter": (24, 40)}
found = {name: [gan_memory.measure(plans[name], (side,) * 3) / 2**20 for side in sides] for name, sides in MEASURED.items()}  # fmt: skip
print(f"R1, one whole scan: {whole_scan}")

# %% [markdown]
# Drawn on logarithmic axes, on which the cube of the side is a straight line. The dotted lines are memories of graphics cards, in GiB.

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.4))
for name, marker in zip(plans, ("x", "+"), strict=True):
    (line,) = axes.plot(SIDES, expected[name], label=f"{name}, batch of {plans[name].budget.batch}: forecast")
    axes.plot(MEASURED[name], found[name], marker, color=line.get_color(), markersize=9, markeredgewidth=2, label="measured")  # fmt: skip
r1_side = float(np.prod(WHOLE)) ** (1 / 3)
axes.plot([r1_side] * 3, [(whole_scan.networks + k * (whole_scan.step + whole_scan.copies)) / 2**20 for k in (1, 2, 4)], "ko", markersize=4, label="R1's whole scan, batches of 1, 2, 4")  # fmt: skip
for gib in (8, 16, 24):
    axes.axhline(1024 * gib, color="0.5", linewidth=0.8, linestyle=":")
    axes.annotate(f"{gib} GiB", (16, 1024 * gib), (0, 1), textcoords="offset points", fontsize=7, color="0.3")
axes.set(xscale="log", yscale="log", xlabel="side of the patch (voxels)", ylabel="memory (MiB)")
axes.set_xticks(SIDES, SIDES)
axes.minorticks_off()
axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
off = {name: [100 * (f / gan_memory.forecast(plans[name], (s,) * 3).total * 2**20 - 1) for s, f in zip(MEASURED[name], found[name], strict=True)] for name in plans}  # fmt: skip
figures.show(figure, f"Memory of a GAN's step against the side of the patch, on logarithmic axes: straight lines. R1's whole scan needs {whole_scan.total / 2**30:.0f} GiB with a batch of one.")  # fmt: skip

# %% [markdown]
# How far the measured values lie from the rehearsed ones:

# %%
for name, values in off.items():
    print(f"{name}: " + ", ".join(f"side {side}: {value:+.0f} %" for side, value in zip(MEASURED[name], values, strict=True)))  # fmt: skip

# %% [markdown]
# (Where the whole is some tens of MiB, the few that the libraries take at their first call weigh much.)
#
# **Answer.** A few megabytes of weights, gigabytes of maps. The dots show where batches of one, two and four whole scans lie: one at a time is about what a card of 8 GiB has, two take one of 16 GiB, four more than one of 24. R1 states neither the size that went in nor its batch nor its card, so which of these it was cannot be told. Computing in bf16 halves the maps, no more.
#
# And had there been memory enough? Look at what the generator returns before you answer.

# %%
quiz("what-r1-draws")

# %% [markdown]
# ### From a budget to a plan
# The painter's memory is bounded by design. Given a budget, one looks for the largest patch that fits, and for the cheapest way to make it fit: the whole batch at once; else in *parts* (gradient accumulation: the gradients of the parts are added, which costs no time); else with *checkpointing* (a block's maps are thrown away and computed again in the backward pass, which costs about a quarter more time).

# %%
rows = {}
for mib in (256, 1024, 4096):
    plan = gan_memory.choose(plans["the course's painter"], mib * 2**20, (32, 48, 64, 96))
    rows[f"{mib} MiB"] = {"patch": f"{plan.size[0]} a side", "parts": plan.accumulate,
                          "checkpointing": "yes" if plan.checkpointing else "no", "expected MiB": f"{plan.expected.total / 2**20:.0f}"}  # fmt: skip
pd.DataFrame(rows).T.style.set_uuid("plans")

# %% [markdown]
# ## 2 The painter and its critic
# **Question: what must a network be told to paint a tumour, and what must it not see?** It gets a scan with a *hole* where the tumour is to be, the *label* (one channel a tissue), the *contrast code* (how bright each tissue is to be in each modality), and *noise* for the texture. It must not see what was in the hole: in training that is the answer.

# %%
enhancing, tumour = ((held_patches["label"].flatten(1) == n).float().mean(1) for n in (3, 2))
star = int((enhancing.clamp(max=0.05) - (tumour + enhancing - 0.25).abs()).argmax())  # enhances, and leaves room around
image, label = held_patches["image"][star], held_patches["label"][star]
layers, hole = one_hot(label[None]), hole_of(label[None], (image != 0).any(0)[None, None])
code = contrast_code(image[None], layers)
torch.manual_seed(setup.seed)
with torch.no_grad():
    fresh = gan_recipe.build(known.recipe.generator).eval()(image[None], hole, layers, code)[0]
    made = known.network(image[None], hole, layers, code)[0]
level = int(((label[0] == 1) | (label[0] == 3)).sum((0, 1)).argmax())
wanted = torch.einsum("tc,txyz->cxyz", code[0], layers[0])
row = {"real": image, "what it is shown": image.masked_fill(hole[0], 0), "wanted contrast": wanted, "before training": fresh, "after": made}  # fmt: skip
figure, axes = plt.subplots(2, 5, figsize=(9.4, 4.3))
for column, (title, picture) in enumerate(row.items()):
    for line, modality in enumerate(("t1c", "t2f")):
        draw(axes[line, column], picture, modality, level, label[0] if title == "what it is shown" else None, title if line == 0 else "")  # fmt: skip
figures.show(figure, "A patch on T1 with contrast above and FLAIR below, five times: real, with a hole and the label's outlines, the wanted contrast as flat areas, the paint of a network with random weights, and that of the trained one.")  # fmt: skip

# %% [markdown]
# Upper row T1 with contrast, lower row FLAIR; outlines as in the first figure. The code of this patch, in z-scores (rows of zeros: a tissue that is not here):

# %%
pd.DataFrame(code[0].numpy(), list(TISSUES), [palette.modality_name(m) for m in MODALITIES]).style.format("{:+.1f}").set_uuid("code")  # fmt: skip

# %% [markdown]
# Why tell it the contrast? Whether a tumour takes up contrast agent, and how bright its oedema is, cannot be guessed from the tissue around it. A network that has to guess paints the mean of all tumours. In use, the code is mixed from two patches of the painter's training or, when extras are made for a segmentation (section 6), from two of its training cases.
#
# ### A game of two
# Beside the painter there is a *critic* (discriminator). It sees a scan with its label, real or painted, and answers with one number, a *logit*, for every 4x4x4 voxels: above 0 "real", below 0 "painted". Only places that see the hole count. Its hinge loss over logits $r$ at real and $m$ at painted places is
#
# $$L = \tfrac12 \, \overline{\max(0,\, 1-r)} + \tfrac12 \, \overline{\max(0,\, 1+m)}$$
#
# where the bar is a mean over places. The painter's own adversarial loss is $-\bar m$: it wants the critic to say "real". By hand, for one real place with logit 0.5 and one painted with -2:

# %% tags=["nbval-check-output"]
r, m = 0.5, -2.0
print(f"critic {0.5 * max(0, 1 - r) + 0.5 * max(0, 1 + m):.2f}, painter {-m:.2f}")

# %% [markdown]
# **Your turn**, for arrays of any length.
#
# <details><summary>Hint</summary>
#
# `np.maximum(0, x)` cuts off element by element; the two arrays may differ in length, so that each has its own mean.
# </details>


# %% tags=["exercise"]
def hinge(real, made):
    # BEGIN SOLUTION: the critic's hinge loss
    # BLANK: return ...
    return 0.5 * np.maximum(0, 1 - real).mean() + 0.5 * np.maximum(0, 1 + made).mean()
    # END SOLUTION


check.hinge(hinge)

# %% [markdown]
# The critic alone would let the painter fill the hole with any tissue that looks real. Three more things hold it to *this* tumour:
#
# - *reconstruction*: local mean and local spread, coarse and fine, and with less weight every voxel, are to be those of the real tissue that was in the hole,
# - *feature matching*: what the critic's layers see in paint and in tissue is to be alike,
# - the critic sees the label: a perfect oedema where necrosis is asked for is wrong.
#
# And four things keep the two in balance: *spectral norm* (no layer of the critic can enlarge a difference), a *rest* for the critic while it is right too often, gradients that are cut to a largest norm, and slow weights (EMA) of the painter, which are the ones that are kept. Here is the whole of one turn:

# %%
print(inspect.getsource(adversarial.play).split('"""')[2])

# %% [markdown]
# Read it for one thing: each loss may move only its own player. `requires_grad_(False)` keeps the painter's loss from the critic; without it the critic would also be pulled towards saying "real" to paint. `made.detach()` keeps the critic's loss from the painter; without it PyTorch stops here with an error (the painter's pass would be gone before its own turn), and a graph that is kept would teach the painter to be found out.

# %%
quiz("loss-of-a-gan")

# %% [markdown]
# ## 3 Training it, watched
# **Question: neither loss says how good the paint is. What does one watch?** Beside the *reconstruction*, which has a fixed target, three things: the critic's *accuracy* (.5 is guessing, 1 means that the painter is told nothing; between .5 and .9 they teach each other), the *variety* (how far two paintings of one hole lie apart, in units of the real tissue's spread), and the pictures. In the quick profile a live run of a minute or two shows how it begins; the kept painter had more steps. In the full profile it is the live one that had more.
#
# The patches that the run sees are remembered (400 of them at most), to look for copies later. The first function draws a held-out patch after each epoch.

# %%
LIVE = {"budget.steps": 120, "budget.epoch_steps": 20, "data.pool": 4, "data.uses": 12} if quick else {}


class Remembering:
    """Samples that keep what they have given."""

    def __init__(self, samples, most=400):
        self.samples, self.most, self.images, self.labels = samples, most, [], []

    def __len__(self):
        return len(self.samples)

    def batch(self, numbers, channels_last=False):
        given = self.samples.batch(numbers, channels_last)
        if len(self.images) < self.most:
            self.images += list(given["image"].half())
            self.labels += list(given["label"])
        return given


def tile(image, modality, level, scale=5):
    """A slice of a patch as pixels (rows, columns, 3), enlarged."""
    plane = torch.where((image[..., level] == 0).all(0), -9, image[MODALITIES.index(modality), :, :, level])
    grey = ((plane.T.flip(0).numpy() + 2.5) / 6 * 255).clip(0, 255).astype(np.uint8)
    return np.repeat(np.kron(grey, np.ones((scale, scale), np.uint8))[..., None], 3, axis=2)


# %% [markdown]
# The picture below belongs to a running notebook: real and painted, on T1 with contrast and on FLAIR.


# %%
def watch(row, network, turn):
    torch.manual_seed(setup.seed)
    with torch.no_grad():
        now = network(image[None], hole, layers, code)[0]
    film[row["step"]] = np.concatenate(
        [tile(one, name, level) for name in ("t1c", "t2f") for one in (image, now)], axis=1
    )
    with live.hold_sync():
        live.alt = f"A patch real and painted after {row['step']} steps, on T1 with contrast and on FLAIR."
        live.png = png.encode(film[row["step"]])


film, live = {}, Picture()
live

# %% [markdown]
# The training:

# %%
folder = setup.output_dir / "runs" / "painter"
shutil.rmtree(folder, ignore_errors=True)
live_recipe = gan_recipe.load("course_painter", setup.profile.name, {"seed": setup.seed, **LIVE})
seen = Remembering(gan_samples.samples(live_recipe))
live_run = adversarial.fit(live_recipe, seen, GanRun.begin(folder, live_recipe), watch)
history = live_run.history()
end = history.iloc[-1]
print(f"{live_run.metrics['steps']} steps of {live_recipe.budget.batch} patches in {live_run.metrics['seconds']:.0f} s")

# %% [markdown]
# The same as a film, from left to right: T1 with contrast real and painted, FLAIR real and painted.

# %%
moments = sorted(film)
Frames([film[k] for k in moments], [f"A patch real and painted after {k} steps, on T1 with contrast and FLAIR." for k in moments],
       moments, "step", film=True, start=len(moments) - 1)  # fmt: skip

# %% [markdown]
# The curves. Runs recorded with the quick recipe and three seeds are drawn thin behind the live one. **Which panel would you show someone who asks whether it works?**

# %%
RECORDED = reference_runs()
NOT_YET = "not recorded yet"
RUNS_FOLDER = find_root() / "data" / "reference" / "runs"


def record_table(name, file):
    """A table of a record, or None where there is none yet."""
    path = RUNS_FOLDER / name / file
    return pd.read_csv(path, na_values=[""], keep_default_na=False) if path.is_file() else None


recorded_painters = record_table("gan_painters", "history.csv")
PANELS = {"reconstruction": "reconstruction (sd)", "accuracy": "critic's accuracy", "variety": "variety (sd)"}
figure, row = plt.subplots(1, 3, figsize=(9.2, 2.7))
for axes, (column, title) in zip(row, PANELS.items(), strict=True):
    for _, one in recorded_painters.groupby("seed") if recorded_painters is not None else ():
        axes.plot(one["step"], one[column], color="0.6", linewidth=0.9, linestyle="-")
    axes.plot(history["step"], history[column], color=palette.OKABE_ITO["blue"], marker="o", markersize=3)
    axes.set(xlabel="step", title=title, ylim=(0, None))
row[1].axhspan(0.5, 0.9, color=palette.OKABE_ITO["bluish green"], alpha=0.15)
row[1].set_ylim(0, 1)
where = "inside" if 0.5 <= end["accuracy"] <= 0.9 else "outside"
figures.show(figure, f"Three curves over the steps. Live: reconstruction from {history['reconstruction'].iloc[0]:.2f} to {end['reconstruction']:.2f}, the critic's accuracy ends at "
             f"{end['accuracy']:.2f}, {where} a shaded band from .5 to .9, variety ends at {end['variety']:.2f} sd.")  # fmt: skip

# %% [markdown]
# What the recorded runs said over their later half, when the painter is no longer a beginner:

# %%
if recorded_painters is None:
    print(NOT_YET)
else:
    late = {number: one.iloc[len(one) // 2 :] for number, one in recorded_painters.groupby("seed")}
    told = pd.DataFrame({f"seed {number}": {"steps": one["step"].iloc[-1], "accuracy, least": one["accuracy"].min(), "accuracy, greatest": one["accuracy"].max(),
                         "variety at the end": one["variety"].iloc[-1], "reconstruction at the end": one["reconstruction"].iloc[-1]} for number, one in late.items()}).T  # fmt: skip
    display(told.style.format("{:.2f}").format("{:.0f}", subset="steps").set_uuid("painters"))

# %% [markdown]
# **Answer.** None alone. The reconstruction is the one yardstick here that stands still, but a blurred painting can score well on it; accuracy says whether the game goes on, variety whether there is more than one painting. One shows the pictures, and the measures of section 5.

# %% [markdown]
# ## 4 Looking
# **Question: does the paint take on the label's shape, and the contrast that is asked for?** From here on two painters are compared: the *live* one, just trained, and the *kept* one that comes with the course. How the kept one was made is in its card:

# %%
card = known_file / "card.md"
print(card.read_text(encoding="utf-8").strip() if card.is_file() else NOT_YET)

# %% [markdown]
# One function paints the tumours of some patches anew. It draws a contrast from the painter's own training, or takes the patch's `own` one, where paint and tissue are to be compared tissue by tissue. `order` will exchange the tissues of the label, for a test.


# %%
live_painter = TumourPainter.load(live_run.path)
PAINTERS = {"live": live_painter, "kept": known}


@torch.no_grad()
def paint(painter, batch, own=False, order=None, layers_of=one_hot, code_of=contrast_code):
    """The patches (N, 4, X, Y, Z) with their tumours painted anew."""
    rng, done = setup.rng("paint patches"), []
    torch.manual_seed(setup.seed)
    for image, label in zip(batch["image"], batch["label"], strict=True):
        hole = hole_of(label[None], (image != 0).any(0)[None, None])
        drawn = painter.draw_code([int(n) for n in label.unique() if n], rng)[None]
        code = code_of(image[None], one_hot(label[None])) if own else drawn
        layers = layers_of(label[None])
        done.append(painter.network(image[None], hole, layers if order is None else layers[:, order], code)[0])
    return torch.stack(done)


def best_level(label):
    """The axial slice with most tumour core, or most tumour where there is no core."""
    core = (label == 1) | (label == 3)
    return int((core if core.any() else label > 0).sum((0, 1)).argmax())


# %% [markdown]
# Three held-out patches. Left what was there, with the label's outlines; then the hole; then both painters, with a contrast of *their* training, so that the brightness is not meant to be the same.

# %%
chosen = [k * EACH for k in range(min(3, len(held_out)))]
few = {"image": held_patches["image"][chosen], "label": held_patches["label"][chosen]}
works = {name: paint(painter, few) for name, painter in PAINTERS.items()}
figure, axes = plt.subplots(len(chosen), 6, figsize=(9.4, 1.75 * len(chosen)), squeeze=False)
for k, line in enumerate(axes):
    picture, mask = few["image"][k], few["label"][k, 0]
    at = best_level(mask)
    empty = picture.masked_fill(hole_of(mask[None, None])[0], 0)
    columns = [("T1 contrast, real", picture, "t1c"), ("hole", empty, "t1c"), ("live", works["live"][k], "t1c"), ("kept", works["kept"][k], "t1c"),
               ("FLAIR, real", picture, "t2f"), ("FLAIR, kept", works["kept"][k], "t2f")]  # fmt: skip
    for place, (title, one, modality) in zip(line, columns, strict=True):
        draw(place, one, modality, at, mask if place is line[0] else None, title if k == 0 else "")
figures.show(figure, f"{len(chosen)} patches in rows, each on T1 with contrast real, with its hole, painted by the live and by the kept painter, then FLAIR real and painted.")  # fmt: skip

# %% [markdown]
# Two further questions to the kept painter, on one patch. Upper row: the same label with four contrasts. Lower row: the same hole and contrast with other labels: as it was, all oedema (SNFH), all enhancing (ET), and NETC and ET exchanged.

# %%
others = {
    "as it was": [0, 1, 2, 3, 4],
    "all SNFH": [0, 2, 2, 2, 2],
    "all ET": [0, 3, 3, 3, 3],
    "NETC and ET exchanged": [0, 3, 2, 1, 4],
}
rng = setup.rng("contrasts")
figure, axes = plt.subplots(2, 4, figsize=(7.6, 4.1))
with torch.no_grad():
    for place in axes[0]:
        drawn = known.draw_code([int(n) for n in label.unique() if n], rng)[None]
        draw(place, known.network(image[None], hole, layers, drawn)[0], "t1c", level)
    for place, (title, table) in zip(axes[1], others.items(), strict=True):
        other = torch.tensor(table, dtype=torch.uint8)[label.long()]
        full = torch.where(code == 0, torch.nan_to_num(known.codes.nanmean(0)), code)  # tissues that the patch had not
        draw(place, known.network(image[None], hole, one_hot(other[None]), full)[0], "t1c", level, other[0], title)
axes[0, 0].set_title("one label, four contrasts", fontsize=9, loc="left")
figures.show(figure, "A hole on T1 with contrast, painted eight times: above with four contrasts, below with four labels whose outlines are drawn.")  # fmt: skip

# %% [markdown]
# **Answer.** Both, and both blurred. In the upper row one shape takes four brightnesses. In the lower row look along the outlines: on the course's phantoms the core is dark under NETC, grey under SNFH and bright under ET, so that the paint follows the label, though a rim of one or two voxels comes out wider and softer than its outline. What a single picture never shows, whether texture, borders and the variety of many are right, comes as numbers in the next section. First your own eye.
#
# ### Real or painted?
# Twelve patches of held-out patients: T1 with contrast, FLAIR, and the label in colours (NETC light blue, SNFH green, ET vermilion, RC purple), which the critic is shown as well. About half of the tumours are real, the others painted by the kept painter. In a running notebook two buttons count your answers; on paper, note them down. **How many of twelve will you get?** A coin gets six.

# %%
ROUNDS = 12
rng = setup.rng("game")
picked = rng.permutation(len(held_patches["image"]))[:ROUNDS]
is_real = rng.random(len(picked)) < 0.5
shown_label = held_patches["label"][picked]
fakes = paint(known, {"image": held_patches["image"][picked], "label": shown_label})
shown_image = torch.where(torch.from_numpy(is_real)[:, None, None, None, None], held_patches["image"][picked], fakes)


def round_picture(image, label):
    """T1 with contrast, FLAIR and the label in colours, side by side."""
    at, colours = best_level(label), np.zeros((5, 3), np.uint8)
    colours[1:] = [palette.style(tissue).rgb for tissue in TISSUES]
    in_colour = colours[np.kron(label[..., at].T.numpy()[::-1], np.ones((4, 4), np.uint8))]
    return np.concatenate([*(tile(image, name, at, 4) for name in ("t1c", "t2f")), in_colour], axis=1)


rounds = [Round(round_picture(one, mask[0]), bool(real)) for one, mask, real in zip(shown_image, shown_label, is_real, strict=True)]  # fmt: skip
game = RealOrFake(rounds)
game

# %% [markdown]
# Someone else plays too: the live run's critic, which has only ever seen the live painter's work. Where its mean logit over the hole is above 0, it says "real".

# %%
tensors, _ = checkpoints.load(checkpoints.last(live_run.checkpoints))
critic = gan_recipe.build(live_recipe.discriminator).eval()
critic.load_state_dict(tensors["discriminator"])
with torch.no_grad():
    logits, _ = critic(shown_image, one_hot(shown_label))
    weights = games.focus(hole_of(shown_label), logits.shape[2:])
    says = [float((w * x).sum() / w.sum()) > 0 for w, x in zip(weights, logits, strict=True)]
print(f"the critic: {verdict(rounds, says)}")
print(f"you: {game.score}")

# %% [markdown]
# Which were which (look only when you have answered):

# %%
figures.show(sheet(rounds, reveal=True), "The same patches with what they are: " + ", ".join(f"{n} {'real' if one.real else 'painted'}" for n, one in enumerate(rounds, 1)))  # fmt: skip

# %% [markdown]
# Twelve rounds are few. Someone who is right nine times or more may have tossed a coin (it does so in 7 of 100 games), and to be wrong often is no praise for the painter if the tumours themselves look painted, as phantoms may. A game is a beginning. What did you look at, in those that gave themselves away?

# %%
quiz("critic-accuracy")

# %% [markdown]
# ## 5 Judging
# **Question: in what respects is the paint like the tissue?** Four, from the simple to the whole: brightness, texture, the two distributions, and copies.
#
# ### Brightness
# Painted with each patch's own contrast code, tissue by tissue, how far has the paint gone from healthy brightness to that of the real tissue?
#
# **Your turn.** For three means: real tissue, painted tissue, healthy tissue. 1 is all of the way, 0 is none of it. Paint that overshoots is off as well, and paint on the wrong side of healthy gets less than 0.
#
# <details><summary>Hint</summary>
#
# How far is the paint still from the real tissue, as a share of the whole way?
# </details>


# %% tags=["exercise"]
def closed(real, made, healthy):
    # BEGIN SOLUTION: the part of the way that is done
    # BLANK: return ...
    return 1 - abs(made - real) / abs(healthy - real)
    # END SOLUTION


check.closed(closed)

# %% [markdown]
# On the held-out patches. Only what differs from healthy tissue by .3 sd or more is counted: where there is no way to go, no share of it can be told.


# %%
def gaps(batch, made):
    """A row a tissue and modality: mean of the healthy, the real and the painted, and the gap that is closed."""
    layers, image = one_hot(batch["label"]), batch["image"]
    there = layers.flatten(2).any(2)[..., None]
    outside = (~hole_of(batch["label"]) & (image != 0).any(1, keepdim=True))[:, 0]
    means = [contrast_code(one, layers).masked_fill(~there, torch.nan).nanmean(0) for one in (image, made)]
    rows = []
    for m, modality in enumerate(MODALITIES):
        healthy = float(image[:, m][outside].mean())
        for t, tissue in enumerate(TISSUES):
            real, done = (float(mean[t, m]) for mean in means)
            if abs(real - healthy) > 0.3:
                share = realism.closed_gap(real, done, healthy)
                rows.append((tissue, palette.modality_name(modality), healthy, real, done, share))
    return pd.DataFrame(rows, columns=["tissue", "modality", "healthy", "real", "painted", "closed"])


# %% [markdown]
# The share of the gap that is closed, for both painters; empty where there is none to close:

# %%
own_work = {name: paint(painter, held_patches, own=True) for name, painter in PAINTERS.items()}
tables = {name: gaps(held_patches, made) for name, made in own_work.items()}
NAMES = [palette.modality_name(m) for m in MODALITIES]


def wide(table, values):
    """A row a tissue, a column a modality, in the course's order."""
    rows = [tissue for tissue in TISSUES if (table["tissue"] == tissue).any()]
    return table.pivot(index="tissue", columns="modality", values=values).reindex(index=rows, columns=NAMES)


shown_table = pd.concat({name: wide(table, "closed") for name, table in tables.items()})
shown_table.style.format("{:.2f}", na_rep="").set_uuid("gaps")

# %% [markdown]
# A rule of thumb: half of the gap or more. (A test of the package holds a small painter to it; under Results you see where a recorded painter misses it.)

# %%
for name, table in tables.items():
    print(f"{name}: {(table['closed'] >= 0.5).sum()} of {len(table)} gaps closed by half or more, the median by {table['closed'].median():.0%}")  # fmt: skip

# %% [markdown]
# RC, the cavity after surgery, is not among what these painters were trained on; if your scans have it, its row shows what becomes of a tissue that a painter has never seen. Means can be right where the rest is wrong, so here are whole histograms: filled the real tissue, the line the kept painter's.

# %%
numbers = [number for number in range(1, 5) if (held_patches["label"] == number).any()]
figure, axes = plt.subplots(len(numbers), 4, figsize=(9.2, 1.5 * len(numbers)), squeeze=False, sharex=True)
edges = np.linspace(-4, 5, 46)
for line, number in zip(axes, numbers, strict=True):
    inside = (held_patches["label"] == number)[:, 0]
    for place, m in zip(line, range(4), strict=True):
        values = [one[:, m][inside].numpy().clip(-4, 5) for one in (held_patches["image"], own_work["kept"])]
        place.hist(values[0], edges, density=True, **figures.bar_style(TISSUES[number - 1]))
        place.hist(values[1], edges, density=True, histtype="step", color="black", linewidth=1.3)
        place.set_yticks([])
        place.set_title(palette.modality_name(MODALITIES[m]) if number == numbers[0] else "", fontsize=9)
    line[0].set_ylabel(TISSUES[number - 1])
figure.supxlabel("brightness (sd of the brain)", fontsize=9)
distances = realism.tissue_table(*([(i.numpy(), mask[0].numpy()) for i, mask in zip(images, held_patches["label"], strict=True)] for images in (held_patches["image"], own_work["kept"])),
                                 {number: TISSUES[number - 1] for number in numbers}, NAMES)  # fmt: skip
figures.show(figure, f"Histograms of brightness, a row a tissue and a column a modality, real filled and painted as a line; they lie {distances['distance'].min():.2f} to {distances['distance'].max():.2f} sd apart.")  # fmt: skip

# %% [markdown]
# The mean distance between the two histograms (Wasserstein's), in sd of the brain, and how wide the painted one is as a share of the real one:

# %%
distances["width, painted / real"] = distances["made_sd"] / distances["real_sd"]
parts = {what: wide(distances, what) for what in ("distance", "width, painted / real")}
pd.concat(parts, axis=1).style.format("{:.2f}").set_uuid("distances")

# %% [markdown]
# ### Texture
# **Question: a mean absolute error is least for a smooth painting. Has the paint grain?** Two numbers for each tissue: the spread of its voxels, and how much neighbouring voxels agree (1 is smooth, 0 is noise). Medians over the patches, of oedema on FLAIR and of enhancing tumour on T1 with contrast.


# %%
def grain(images, labels, number, channel):
    """Median spread and correlation of neighbours of a tissue in a modality."""
    found = [
        realism.texture(i[channel].numpy(), (mask[0] == number).numpy()) for i, mask in zip(images, labels, strict=True)
    ]
    values = np.array([(one.sd, one.correlation[0]) for one in found])
    return np.nanmedian(values, axis=0) if np.isfinite(values).any() else (np.nan, np.nan)


texture_rows = {}
for what, images in {"real": held_patches["image"], **own_work}.items():
    for name, number, channel in (("SNFH on FLAIR", 2, 3), ("ET on T1 contrast", 3, 1)):
        spread, neighbours = grain(images, held_patches["label"], number, channel)
        texture_rows.setdefault(what, {}).update({f"{name}: spread": spread, f"{name}: neighbours": neighbours})
texture_table = pd.DataFrame(texture_rows).T
texture_table.style.format("{:.2f}").set_uuid("texture")

# %% [markdown]
# A spread below the real one, with neighbours that agree more, is the blur of a painter that averages what it cannot know.
#
# ### Distributions
# **Question: are many painted patches like many real ones, as a whole?** For that a patch becomes a list of *features*: what some network sees in it. Which network decides what counts. Often one that was trained on photographs is taken; here it is a segmentation network that this notebook trains now, on the training patients, without any painted patch. (It is also the first arm of a small experiment, below.)


# %%
def segmentation(name, **changes):
    """A short training of the course's recipe on the training patients, scored on the held-out ones."""
    folder = setup.output_dir / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    steps = 90 if quick else 1500
    small = (
        {"network.widths": [16, 32, 48], "budget.batch": 4, "engine.ema": 0.0, "optimiser.rate": 4e-3} if quick else {}
    )
    settings = {"data.size": [SIDE] * 3, "data.spacing": 2.0, "data.augment": "none", "data.cache": CACHE, "seed": setup.seed,
                "engine.keep": ["last"], "budget.steps": steps, "budget.epoch_steps": steps}  # fmt: skip
    recipe = recipes.load("course_resunet3d", setup.profile.name, {**small, **settings, **changes})
    return fit(recipe, sources(recipe, training, held_out), Run.begin(folder, recipe))


plain = segmentation("plain")
judge = plain.load().network.eval()
print("held-out Dice without extras: " + ", ".join(f"{r} {plain.metrics[f'dice_{r}']:.2f}" for r in ("ET", "TC", "WT")))

# %% [markdown]
# Features: the mean over space of what its coarsest scale but one puts out. Real patches of the training patients are the yardstick; beside them stand real patches of the *held-out* patients, which nobody painted, and the same patches painted. The **Fréchet distance** is that of the two clouds' means and spreads.
# *Precision* is the share of the painted that lie among real ones, *recall* the share of the real that lie among painted ones.


# %%
@torch.no_grad()
def features(images):
    """(N, F): what the segmentation network trained here sees in patches."""
    kept = []
    hook = judge.down[-2].register_forward_hook(lambda module, given, found: kept.append(found.mean((2, 3, 4))))
    for one in images:
        judge(one[None].float())
    hook.remove()
    return torch.cat(kept).float().numpy()


# %% [markdown]
# Three clouds against the yardstick:

# %%
in_use = {name: paint(painter, held_patches) for name, painter in PAINTERS.items()}
clouds = {
    "held out, real": features(held_patches["image"]),
    **{f"held out, {name}": features(one) for name, one in in_use.items()},
}
yardstick = features(train_patches["image"])
rows = {}
for name, cloud in clouds.items():
    precision, recall = realism.precision_recall(yardstick, cloud)
    rows[name] = {
        "Fréchet distance": realism.frechet_distance(yardstick, cloud),
        "precision": precision,
        "recall": recall,
    }
distribution_table = pd.DataFrame(rows).T
distribution_table.style.format("{:.2f}").set_uuid("distribution")

# %% [markdown]
# The first row is what other *patients* cost, without any paint. A painted row with a greater distance has lost something; one with a smaller is not better than real: the patches come from a handful of patients, and painted ones borrow their contrasts from many others. The unit is that of this network's features, squared, so that numbers from another network, as in the record under Results, cannot be set beside these. The features know nothing of what a radiologist would see: read all this as a smoke detector.

# %%
quiz("frechet-alone")

# %% [markdown]
# ### Copies
# **Question: has the painter learned patches by heart?** A generator that returns its training patches has perfect texture, and adds nothing. For each painted patch, the nearest of those remembered from the live run's training, by the same features; and for comparison the same for real held-out patches.

# %%
remembered = features(seen.images)
near = realism.nearest(clouds["held out, live"], remembered, clouds["held out, real"])
print(
    f"{len(remembered)} training patches; distance of painted patches to the nearest: median {np.median(near.distance):.2f}"
)
print(
    f"of real held-out patches: median {np.median(near.usual):.2f}, least {near.usual.min():.2f}; painted ones nearer than that: {near.copied:.0%}"
)
order = np.argsort(near.distance)[:3]
figure, axes = plt.subplots(2, 3, figsize=(5.4, 3.7))
for column, k in enumerate(order):
    twin, at = int(near.index[k]), best_level(held_patches["label"][k, 0])
    draw(axes[0, column], in_use["live"][k], "t1c", at, title=f"painted, distance {near.distance[k]:.2f}")
    draw(
        axes[1, column], seen.images[twin].float(), "t1c", best_level(seen.labels[twin][0]), title="nearest trained on"
    )
figures.show(figure, "The three painted patches that lie nearest to a training patch, above, and those training patches, below, on T1 with contrast.")  # fmt: skip

# %% [markdown]
# Nearer than the nearest real patch is a reason to look, not a verdict: are the pairs above the same tumour in the same place? A painter by label has less reason to copy than a generator that starts from noise: hole, label and surroundings are new each time. What it can learn by heart is texture.
#
# ### On real scans
# The kept painter learned from phantoms alone. While this notebook was written it was also looked at on real scans, those with which the course is developed (their pictures are not kept here). The paint takes its shape from the label and its contrast from the code, and seen at the size of a patch in this notebook it joins the tissue around it.
# What gives it away: a thin enhancing rim comes out soft and too dark, the border of the hole is a sharper step than in the scan, the grain is clumps of one size, the folds of the cortex end at the border, and nothing is pushed aside. With `data_dir` you see it on your own scans: all of this section is then about them. The recorded numbers:

# %%
real_gaps, real_borders = (record_table("gan_develop", f"{table}.csv") for table in ("gaps", "borders"))
if real_gaps is None or real_borders is None:
    print(NOT_YET)
else:
    enough, steps = int((real_gaps["closed"] >= 0.5).sum()), real_borders[["real", "made"]].mean()
    print(f"{real_gaps['case'].nunique()} real scans: {enough} of {len(real_gaps)} gaps closed by half or more, the median by {real_gaps['closed'].median():.0%}")  # fmt: skip
    rim = real_gaps[(real_gaps["tissue"] == "ET") & (real_gaps["modality"] == "t1c")]["closed"]
    print(f"of them ET on T1 with contrast: {int((rim >= 0.5).sum())} of {len(rim)} by half or more, the median by {rim.median():.0%}")  # fmt: skip
    print(f"step across the border of the hole: {steps['real']:.2f} sd in the scans, {steps['made']:.2f} sd painted")

# %% [markdown]
# ## Bug lab 1: the label that never arrived
# **Watch it fail.** R1's generator had no label among its inputs. In a label-conditioned GAN the label can also get lost on the way, and nothing breaks. A common way: a transform that brings "all channels" to the range 0 to 1 does so with the mask too, and class 3 becomes 0.75. Two little painters, the same steps on the same patches; one is given its labels like that.


# %%
def one_hot_of_scaled(label):
    """What arrives when the mask was divided by its largest class."""
    return one_hot(label.float() / 4)


class Told(games.Painting):
    """The painter's game with other ways to tell it the label and the contrast."""

    def __init__(self, layers_of=one_hot, code_of=contrast_code):
        self.layers_of, self.code_of = layers_of, code_of

    def turn(self, batch, device):
        turn = super().turn(batch, device)
        image, hole, layers, _ = turn.given
        told = self.layers_of(batch["label"].to(device))
        return games.Turn((image, hole, told, self.code_of(image, layers)), told, image, hole, turn.code)


# %% [markdown]
# Both learn from the patches that the live run has seen:


# %%
class Stored:
    """The live run's patches again, in the same order for everyone."""

    def __len__(self):
        return len(seen.images)

    def batch(self, numbers, channels_last=False):
        picks = [n % len(self) for n in numbers]
        return {"image": torch.stack([seen.images[n] for n in picks]).float(), "label": torch.stack([seen.labels[n] for n in picks]), "case": [f"patch {n}" for n in picks]}  # fmt: skip


# %% [markdown]
# The two trainings:

# %%
LITTLE = {"generator.widths": [8, 16, 32], "discriminator.widths": [8, 16, 16], "budget.steps": 60 if quick else 600,
          "budget.epoch_steps": 60 if quick else 600, "rates.generator": 2e-3, "seed": setup.seed}  # fmt: skip


def little(name, game):
    """A little painter of some game, and its run."""
    folder = setup.output_dir / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    recipe = gan_recipe.load("course_painter", setup.profile.name, LITTLE)
    loop = adversarial.GanLoop(recipe, Stored(), GanRun.begin(folder, recipe))
    loop.game = game
    loop.train()
    return TumourPainter.load(folder), loop.standing.rows[-1]


lab = {"labels scaled": little("scaled", Told(one_hot_of_scaled)), "mended": little("mended", Told())}
pd.DataFrame({name: {key: row[key] for key in ("reconstruction", "accuracy", "variety")} for name, (_, row) in lab.items()}).T.style.format("{:.2f}").set_uuid("lost")  # fmt: skip

# %% [markdown]
# **Find it.** Nothing in that table says "bug": losses of a GAN are only compared with each other, and who has a single run has nothing to compare with. A test that needs no second run: *shuffle the labels*. A painter that listens must get worse when NETC is called SNFH, SNFH ET and ET NETC.

# %%
SHUFFLED = [2, 0, 1, 3]


def error_of(table):
    """Mean distance of the painted tissues' means from the real ones', in sd of the brain."""
    return float((table["real"] - table["painted"]).abs().mean())


ways = {"labels scaled": one_hot_of_scaled, "mended": one_hot}
test = {}
for name, (painter, _) in lab.items():
    works = {what: paint(painter, held_patches, own=True, order=order, layers_of=ways[name]) for what, order in (("right label", None), ("shuffled", SHUFFLED))}  # fmt: skip
    test[name] = {what: error_of(gaps(held_patches, made)) for what, made in works.items()}
shuffled_kept = error_of(gaps(held_patches, paint(known, held_patches, own=True, order=SHUFFLED)))
test["kept"] = {"right label": error_of(tables["kept"]), "shuffled": shuffled_kept}
shuffle_table = pd.DataFrame(test).T
shuffle_table["worse by"] = shuffle_table["shuffled"] - shuffle_table["right label"]
shuffle_table.style.format("{:.2f}").set_uuid("shuffle")

# %% [markdown]
# How far the tissues' means are off, in sd of the brain. **Mend it, see the gain:**

# %%
for name, line in shuffle_table.iterrows():
    print(
        f"{name}: {'does not notice that the labels are shuffled' if line['worse by'] < 0.01 else 'listens to its label'}"
    )
off_by = shuffle_table["right label"]
print(
    f"with the right label, means are off by {off_by['labels scaled']:.2f} sd before and {off_by['mended']:.2f} sd after mending"
)

# %% [markdown]
# The package has this as a test of the painter, so that it cannot go unnoticed. In a loader, the cheaper guard is a look at `label.unique()` before the first step.
#
# ## Bug lab 2: one tumour for all
# **Watch it fail.** *Mode collapse*: the critic is content with one kind of painting, so that is what it gets. For networks like this one the authors of pix2pix describe a quiet form: given noise as the only source of variety, the generator learns to ignore it. Here is the little painter again, told the label but not the contrast. How far apart are five paintings of one hole?


# %%
def no_contrast(image, layers):
    return torch.zeros(len(image), layers.shape[1], image.shape[1])


@torch.no_grad()
def variety(painter, told_contrast, paintings=5, patches=6):
    """Mean distance of paintings of one hole, in sd of the real tissue there; and the paintings of the first."""
    rng, values, kept = setup.rng("variety"), [], []
    for image, label in list(zip(held_patches["image"], held_patches["label"], strict=True))[:: EACH // 2 + 1][
        :patches
    ]:
        hole, layers = hole_of(label[None], (image != 0).any(0)[None, None]), one_hot(label[None])
        codes = [painter.draw_code([int(n) for n in label.unique() if n], rng)[None] for _ in range(paintings)]
        made = [painter.network(image[None], hole, layers, c if told_contrast else 0 * c)[0] for c in codes]
        inside = hole[0].expand_as(image)
        pairs = [(made[a] - made[b])[inside].abs().mean() for a in range(paintings) for b in range(a)]
        values.append(float(torch.stack(pairs).mean() / image[inside].std()))
        kept = kept or [made, label[0]]
    return float(np.mean(values)), kept


# %% [markdown]
# The same hole for all of them:

# %%
lab["noise alone"] = little("noise", Told(code_of=no_contrast))
various = {"noise alone": variety(lab["noise alone"][0], False), "told the contrast": variety(lab["mended"][0], True), "kept painter": variety(known, True)}  # fmt: skip
figure, axes = plt.subplots(2, 5, figsize=(7.6, 3.3))
for line, name in zip(axes, ("noise alone", "told the contrast"), strict=True):
    for place, one in zip(line, various[name][1][0], strict=True):
        draw(place, one, "t1c", best_level(various[name][1][1]), title=name if place is line[0] else "")
figures.show(figure, f"One hole painted five times. Above by a painter with noise alone, paintings {various['noise alone'][0]:.2f} sd apart; below by one that is told the contrast, {various['told the contrast'][0]:.2f} sd apart.")  # fmt: skip

# %% [markdown]
# **Find it**: in no loss, and in no single picture. Paint one hole several times, and measure. **Mend it, see the gain:**

# %%
for name, (value, _) in various.items():
    print(f"{name}: paintings of one hole lie {value:.2f} sd apart")
print(f"gained: {various['told the contrast'][0] / max(various['noise alone'][0], 1e-6):.1f} times as far apart")

# %% [markdown]
# The same symptom has a second cause that is no fault of the network: augmentation whose random numbers are seeded alike in every worker process. All extras of an epoch are then copies of a few. The remedy is a stream of its own for each sample, as everywhere in this course.
#
# ## 6 On the fly
# **Question: R1 wrote its augmented scans to disk, and 250 GB became 470. Where should painted tumours be stored?** Nowhere. A transform paints while the patch is on its way to the network; the next epoch sees other ones. It does four things:
#
# 1. *shape*: the label of another training patient, mirrored, turned, scaled, bent (or one that the phantom's growth model makes),
# 2. *place*: healthy brain in this patch, not in a ventricle and not in the tumour that is there,
# 3. *contrast*: two codes, of the painter's training or, with other patients' shapes, of the training patients, mixed,
# 4. *paint*, and write the label.

# %%
print(inspect.getsource(PaintTumourd.__call__))

# %% [markdown]
# The label follows. Nothing outside the hole is touched, nothing that was labelled before is overwritten, and every new voxel is painted. For all of the scans here, each painted once:

# %%
report = []
for entry in (*train_entries, *held_entries):
    old, new = paint_scan(entry, known, number=1)
    changed = (new["image"] != old["image"]).any(0)
    added = (new["label"] != old["label"])[0]
    around = hole_of(added[None, None])[0, 0]
    kept_label = bool((new["label"][old["label"] > 0] == old["label"][old["label"] > 0]).all())
    report.append({"added": int(added.sum()), "unpainted": int((added & ~changed).sum()), "outside": int((changed & ~around).sum()), "old kept": kept_label})  # fmt: skip
follows = pd.DataFrame(report)
print(
    f"{len(follows)} scans: {(follows['added'] > 0).sum()} painted, {follows['added'].sum() * 0.008:.0f} mL of tumour added"
)
print(f"new voxels without paint: {follows['unpainted'].sum()}; voxels changed outside the holes: {follows['outside'].sum()}; old labels kept: {follows['old kept'].all()}")  # fmt: skip

# %% [markdown]
# A scan without a tumour can be painted as well; that is how one gets a pair of "before" and "after" that no hospital has. Where the folder has no such scan, a phantom without a tumour stands in.

# %%
from brainseg_utils.phantom import cohort

healthy_cases = [case for case in cases if case not in ill]
if not healthy_cases:
    empty_folder = setup.output_dir / "phantoms" / f"healthy-{setup.seed}"
    cohort.make(empty_folder, 1, "brats2023", seed=setup.seed, spacing=2, healthy=1.0, workers=1)
    healthy_cases = find_cases(empty_folder)
healthy_entry = volumes(healthy_cases[:1], [], setup.seed, 1, spacing=2.0, cache=CACHE).train.patches.entries[0]

# %% [markdown]
# On the left as it was, beside it the same slice painted; then two other paintings, each at its own slice:

# %%
figure, axes = plt.subplots(2, 4, figsize=(9.2, 4.9))
for column, number in enumerate(range(4)):
    old, new = paint_scan(healthy_entry, known, max(number, 1))
    at = best_level(new["label"][0])
    image_now, label_now = (new["image"], new["label"][0]) if number else (old["image"], None)
    draw(axes[0, column], image_now, "t1c", at, title="painted" if number else "T1 contrast, as it was")
    draw(axes[1, column], image_now, "t2f", at, label_now, "with its label" if number else "FLAIR, as it was")
figures.show(figure, "A scan without a tumour on T1 with contrast above and FLAIR below: as it was, and three times with a painted tumour and its outlines.")  # fmt: skip

# %% [markdown]
# What it costs: time for each patch, and no byte of disk. The loader of the course reads patches from its cache; every other one is now painted.


# %%
def milliseconds(**options):
    drawn = volumes(
        training, [], setup.seed, 1, size=(SIDE,) * 3, spacing=2.0, augment="none", cache=CACHE, **options
    ).train
    drawn.batch(range(4))
    begun = time.process_time()
    drawn.batch(range(4, 36))
    return 1000 * (time.process_time() - begun) / 32


EXTRAS = {"painted": 1.0, "painter": str(known_file), "shapes": "warped"}
stored = sum(entry.bytes for entry in train_entries)
print(f"a patch: {milliseconds():.1f} ms of CPU, with every other one painted {milliseconds(**EXTRAS):.0f} ms")
print(f"on disk, one painted copy of each of these {len(train_entries)} scans would take {stored / 2**20:.0f} MiB; "
      f"of R1's 1,080, even as small as in this cache, {1080 * stored / len(train_entries) / 2**30:.1f} GiB")  # fmt: skip

# %% [markdown]
# What this painter does not do: a tumour that grows pushes. Around a painted one, ventricles and midline stay where they were; a network may learn that tumours do not displace anything.
#
# ## Bug lab 3: augmentation that leaks
# **Watch it fail.** R1 augmented its data set on disk. If the files are divided into training and validation after that, one by one, a painted copy of a training brain is validated on, or validation patients lend their contrast to the training. Here is a network that was trained with one painted patch for every real one (no leak yet: shapes and contrasts are those of the training patients):

# %%
extra = segmentation("extras", **{f"data.{key}": value for key, value in EXTRAS.items()})
print("held-out Dice with extras: " + ", ".join(f"{r} {extra.metrics[f'dice_{r}']:.2f}" for r in ("ET", "TC", "WT")))

# %% [markdown]
# Now it is validated in four ways, on patches: as the wrong order would (painted copies of *training* brains, which the training has not seen as such), the same with as many real patches of held-out patients among them, with painted tumours in held-out brains, and as it should be, on held-out patients and their own tumours. **Guess the order before you run the cell.**


# %%
@torch.no_grad()
def pooled_dice(images, labels):
    """Dice of WT and TC over all voxels of some patches."""
    network, hits = extra.load().network.eval(), {"WT": [0, 0], "TC": [0, 0]}
    for one, label in zip(images, labels, strict=True):
        said = network(one[None])[0] > 0  # ET, TC, WT
        for region, plane, truth in (("WT", 2, label[0] > 0), ("TC", 1, (label[0] == 1) | (label[0] == 3))):
            hits[region][0] += 2 * int((said[plane] & truth).sum())
            hits[region][1] += int(said[plane].sum() + truth.sum())
    return {region: both / max(all_of, 1) for region, (both, all_of) in hits.items()}


# %% [markdown]
# And where the painted patches come from:


# %%
def painted_patches(entries, some):
    """A patch around a newly painted tumour for each scan, cut out of the whole, twice."""
    images, labels = [], []
    for number, entry in [(n, e) for n in (11, 12) for e in entries]:
        old, new = paint_scan(entry, some, number)
        spots = (new["label"] != old["label"])[0].nonzero()
        if len(spots):
            room = [max(side - SIDE, 0) for side in old["image"].shape[1:]]
            start = [min(max(int(c) - SIDE // 2, 0), most) for c, most in zip(spots.float().mean(0), room, strict=True)]
            box = (slice(None), *(slice(s, s + SIDE) for s in start))
            images.append(new["image"][box])
            labels.append(new["label"][box])
    return images, labels


# %% [markdown]
# The scores:

# %%
from_training = known.with_codes_of(train_entries)
copies, in_held_out = (painted_patches(entries, from_training) for entries in (train_entries, held_entries))
step = max(1, len(held_patches["image"]) // max(len(copies[0]), 1))
own = tuple(list(held_patches[key][::step]) for key in ("image", "label"))
mixed = tuple(a + b for a, b in zip(copies, own, strict=True))
validation = {"painted copies of training brains": copies, "the same, half of them real and held out": mixed,
              "painted into held-out brains": in_held_out, "held-out patients, their own tumours": own}  # fmt: skip
leak_table = pd.DataFrame({name: pooled_dice(*patches) for name, patches in validation.items()}).T
leak_table.style.format("{:.3f}").set_uuid("leak")

# %% [markdown]
# Only the last row answers the question that a validation is for. The third row helps to say why the first differs: from last to third the brains stay held out and only the tumours are painted; from third to first the brains become known, too. One training and few patients: take the sizes as an example.

# %%
wrong, painted_alone, right = (leak_table.iloc[k] for k in (0, 2, -1))
for region in leak_table:
    print(
        f"{region}: {wrong[region] - right[region]:+.3f} beyond the truth, {painted_alone[region] - right[region]:+.3f} of it with painted tumours in held-out brains"
    )

# %% [markdown]
# **Find it.** Extras have several parents. Here is how each of six was made; P4 and P5 are held out. Which of them may not be trained on? **Your turn**, for any such list.

# %%
MADE_OF = [
    {"brain": "P1", "shape": "P2", "contrasts": ["P1", "P3"], "painter": ["P1", "P2", "P3"]},
    {"brain": "P4", "shape": "P2", "contrasts": ["P1", "P3"], "painter": ["P1", "P2", "P3"]},
    {"brain": "P2", "shape": "P5", "contrasts": ["P1", "P3"], "painter": ["P1", "P2", "P3"]},
    {"brain": "P3", "shape": "P3", "contrasts": ["P3", "P3"], "painter": ["P1", "P2", "P3"]},
    {"brain": "P2", "shape": "P1", "contrasts": ["P2", "P4"], "painter": ["P1", "P2", "P3"]},
    {"brain": "P1", "shape": "P2", "contrasts": ["P3", "P1"], "painter": ["P1", "P2", "P3", "P5"]},
]
HELD_OUT = ["P4", "P5"]

# %% [markdown]
# Return the numbers of the extras that leak, counted from 0.
#
# <details><summary>Hint</summary>
#
# Make a set of all patients who had a part in an extra, and see whether it meets the held-out ones: `a & b`.
# </details>


# %% tags=["exercise"]
def leaks(extras, held_out):
    # BEGIN SOLUTION: numbers of the extras in which a held-out patient has a part
    # BLANK: return ...
    parents = [{one["brain"], one["shape"], *one["contrasts"], *one["painter"]} for one in extras]
    return [number for number, people in enumerate(parents) if people & set(held_out)]
    # END SOLUTION


check.leaks(leaks, MADE_OF, HELD_OUT)

# %% [markdown]
# **Mend it**: deal out the patients first, as the beginning of this notebook does; let the painter learn from phantoms or from training patients alone; paint in the training loader and nowhere else. In the package, `PaintTumourd` sits in the training samples, and a test holds that validation is untouched.

# %%
quiz("augment-then-split")

# %% [markdown]
# ## 7 The experiment
# **Question: are painted extras worth anything?** The honest form has five conditions. Equal optimisation steps in every arm, or the extras get more training. Classical augmentation as an arm, since flips and rotations cost nothing. Several seeds. The same patients scored in all arms, so that differences are *paired*. And the answer is reported whichever way it falls.

# %%
quiz("what-extras-know")

# %% [markdown]
# The recorded runs: few phantoms to train on, others to be scored; and, as *few-shot*, a handful of real scans as the whole training set with other real scans to be scored, where augmentation should matter most. Extras are 0, 50 or 100 for every 100 patches as they came, without and with classical augmentation, three seeds each. **Write down what you expect for 100 % extras: better, worse, or not told apart?**

# %%
EXPERIMENTS = {"phantoms": "gan_experiment", "real scans, few-shot": "gan_fewshot"}
for title, name in EXPERIMENTS.items():
    print(f"{title}: {RECORDED[name].made if name in RECORDED else NOT_YET}")
differences = {title: record_table(name, "differences.csv") for title, name in EXPERIMENTS.items()}
differences = {title: table for title, table in differences.items() if table is not None}

# %% [markdown]
# Mean Dice of each arm, over patients and seeds:

# %%
for title, name in EXPERIMENTS.items():
    scores = record_table(name, "scores.csv")
    if scores is not None:
        arms = scores.groupby(["augment", "extras", "region"])["value"].mean().unstack("region")
        arms.index = [f"{augment}, {extras:.0%} extras" for augment, extras in arms.index]
        display(
            arms.style.format("{:.3f}")
            .set_caption(f"{title}: {scores['case'].nunique()} patients scored")
            .set_uuid(name)
        )

# %% [markdown]
# The differences, patient by patient: each arm with extras minus the arm without extras and with the same augmentation; in the last row, classical augmentation minus none. With 95 % bootstrap intervals over patients. Right of 0 the first-named is better. An interval that crosses 0 means that these patients cannot tell the two arms apart.


# %%
def arm(line):
    """What a row compares."""
    if pd.isna(line["extras"]):
        return "classical against none"
    return f"{line['extras']:.0%} extras, {'with' if line['augment'] == 'classical' else 'without'} classical"


def verdict_of(line):
    return "better" if line["low"] > 0 else "worse" if line["high"] < 0 else "not told apart"


# %% [markdown]
# A row a comparison, a panel a region, points with their intervals:

# %%
if differences:
    figure, panels = plt.subplots(1, 3, figsize=(9.4, 3.0), sharey=True)
    for shift, (title, table) in enumerate(differences.items()):
        for axes, region in zip(panels, ("ET", "TC", "WT"), strict=True):
            lines = table[table["region"] == region].reset_index(drop=True)
            spans = [lines["difference"] - lines["low"], lines["high"] - lines["difference"]]
            axes.errorbar(lines["difference"], lines.index + 0.25 * shift, xerr=spans, fmt="os"[shift], markersize=4, linestyle="none", capsize=2, label=title)  # fmt: skip
            axes.set_yticks(lines.index, [arm(line) for _, line in lines.iterrows()], fontsize=8)
            axes.axvline(0, color="black", linewidth=0.8)
            axes.set(title=region, xlabel="Dice, with minus without")
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    every = pd.concat(differences.values())
    clear = int(((every["low"] > 0) | (every["high"] < 0)).sum())
    figures.show(figure, f"Differences of Dice with intervals, a panel a region and a row a comparison, on phantoms and on real scans: {clear} of {len(every)} intervals do not hold 0.")  # fmt: skip
else:
    print(NOT_YET)

# %% [markdown]
# In words, computed from the intervals:


# %%
def told(words):
    """Verdicts of several comparisons in a sentence."""
    better, worse = (int((words == word).sum()) for word in ("better", "worse"))
    if not better + worse:
        return f"no difference that these patients could show, in any of {len(words)} comparisons"
    return f"{better} of {len(words)} comparisons better, {worse} worse, {len(words) - better - worse} not told apart"


for title, table in differences.items():
    about = table.assign(
        arm=[arm(line) for _, line in table.iterrows()], verdict=[verdict_of(line) for _, line in table.iterrows()]
    )
    print(f"{title}, {int(table['cases'].max())} patients")
    for augment, words in (("none", "extras, no classical augmentation"), ("classical", "extras on top of classical")):
        print(f"  {words}: {told(about[(about['extras'] > 0) & (about['augment'] == augment)]['verdict'])}")
    print(f"  classical augmentation alone: {told(about[about['extras'].isna()]['verdict'])}")
    for _, line in about[about["verdict"] != "not told apart"].iterrows():
        print(f"    {line['arm']}, {line['region']}: {line['verdict']} by {abs(line['difference']):.3f} ({line['low']:+.3f} to {line['high']:+.3f})")  # fmt: skip

# %% [markdown]
# Two things to keep in mind. Equal steps mean that an arm with extras has seen fewer patches as they came: with 100 % up to half of its patches are painted (where one has room for a tumour), and in trainings as short as the recorded ones (their commands name the steps) what extras teach may not pay that back. And the intervals are over patients alone; each patient's Dice is the mean over three seeds, each with a painter of its own. One that is clear of 0 says that these three trainings differ from those three, on these patients, not that three others would.
#
# Then, many comparisons were made, and each interval misses the truth once in twenty times, more often with so few patients. So the next cell counts what is left after *Holm's correction* for all of them (notebook 07): the smallest p-value is multiplied by their number, the next by one less, and so on. What would convince? The same sign in all regions and in both experiments, and differences that outlive the correction. Hold what you wrote down against that.

# %%
if len(differences) == len(EXPERIMENTS):
    every["arm"] = [arm(line) for _, line in every.iterrows()]
    with_extras = every[every["extras"] > 0].groupby("arm")
    better = [name for name, lines in with_extras if (lines["low"] > 0).all()]
    worse = [name for name, lines in with_extras if (lines["high"] < 0).all()]
    left = int((statistics.holm(every["p"]) < 0.05).sum())
    print(f"{clear} of {len(every)} intervals are clear of 0 ({0.05 * len(every):.1f} would be by chance)")
    print(f"{left} differences are left after Holm's correction for all {len(every)}")
    print(f"arms with extras that are better throughout: {', '.join(better) or 'none'}; worse throughout: {', '.join(worse) or 'none'}")  # fmt: skip
    if not better + worse:
        print("So what extras are worth here is not settled: it depends on region, share and patients.")
else:
    print(NOT_YET)

# %% [markdown]
# The live pair of this notebook: one seed, one short training each, a handful of patients. Compare its differences with the widths of the intervals above; it cannot decide anything.

# %%
pair = (
    pd.DataFrame({"no extras": plain.metrics, "100 % extras": extra.metrics})
    .T[["dice_ET", "dice_TC", "dice_WT"]]
    .astype(float)
)
pair.loc["difference"] = pair.iloc[1] - pair.iloc[0]
pair.style.format("{:.2f}").format("{:+.2f}", subset=("difference", slice(None))).set_uuid("pair")

# %% [markdown]
# ## Results
# One table from the runs of this notebook; the last column is what real held-out patches have.


# %%
def of(table, row, column):
    return f"{table.loc[row, column]:.2f}"


JUDGED = [f"{which}: {what}" for which in ("SNFH on FLAIR", "ET on T1 contrast") for what in ("spread", "neighbours")]
summary = pd.DataFrame({name: {
    "gap closed, median (1 is all)": f"{tables[name]['closed'].median():.2f}",
    "gap closed, least": f"{tables[name]['closed'].min():.2f}",
    **{what: of(texture_table, name, what) for what in JUDGED},
    **{what: of(distribution_table, f"held out, {name}", what) for what in distribution_table},
} for name in PAINTERS})  # fmt: skip
summary["real"] = ["1", "1", *(of(texture_table, "real", what) for what in JUDGED),
                   *(of(distribution_table, "held out, real", what) for what in distribution_table)]  # fmt: skip
summary.style.set_uuid("results")

# %% [markdown]
# The recorded painters of three seeds (the first is the kept one), judged on phantoms that none of them has seen. Fréchet distance, precision and recall are on another network's features than above.

# %%
WORDS = {"least_gap_closed": "gap closed, least", "median_gap_closed": "gap closed, median",
         "median_gap_closed_shuffled": "the same, labels shuffled", "accuracy": "critic's accuracy, later half",
         "accuracy_low": "its least", "accuracy_high": "its greatest", "variety": "variety (sd)",
         "frechet": "Fréchet distance, painted", "frechet_real_real": "Fréchet distance, real against real",
         "precision": "precision", "recall": "recall", "copied": "nearer than any real patch",
         "sd_real": "SNFH on FLAIR, real: spread", "neighbours_real": "SNFH on FLAIR, real: neighbours",
         "sd_made": "SNFH on FLAIR, painted: spread", "neighbours_made": "SNFH on FLAIR, painted: neighbours"}  # fmt: skip
judged = record_table("gan_judge", "judge.csv")
if judged is None:
    print(NOT_YET)
else:
    worded = judged.set_index("seed")[list(WORDS)].rename(columns=WORDS).rename(index="seed {}".format).T
    display(worded.style.format("{:.2f}").set_uuid("judged"))

# %% [markdown]
# ## When it goes wrong
# - **The critic's accuracy goes to 1 and stays.** It is too far ahead: a lower rate for it, a rest (`engine.ceiling`), fewer channels. Is the painter's output in the range of the scans at all?
# - **The accuracy stays at .5 from the first step.** The critic learns nothing: do its places see the hole? Is its rate 0, or does it rest all the time (`rested` in the history)?
# - **Variety falls to 0 between two rows of the history, and the accuracy is 1 from there.** The painter has leapt to where its last layer is flat. While this course's painter was made, that happened at step 150 of a run: the paint was bounded by a tanh, and at its end there is no gradient to come back by. Now it grows with a logarithm there, and the rate is lower.
# - **All paintings look alike.** Paint one hole five times and measure. Is the contrast told? Is the random stream the same in each worker?
# - **The shape is right, the tissues are not.** `label.unique()`; shuffle the labels and look for the loss.
# - **A visible seam around the hole.** The hole must be wider than the label (its border voxels tell what was there), and the scan outside must be copied, not redrawn.
# - **A checkerboard or stripes in the paint.** Transposed convolutions overlap unevenly: enlarge by repeating voxels, then convolve.
# - **Out of memory.** `gan_memory.choose` with what is free: parts first, then checkpointing, then a smaller patch. On a CPU leave twice the forecast free; freed blocks are kept for the next step.
# - **A loss is not a number.** The loop stops and keeps the batch. Most often: an empty brain, or rates that are too high for a critic without spectral norm.
# - **Good on validation, bad on new patients.** Who are the parents of what was validated?
#
# ## Words
# **GAN**: generative adversarial network, two networks that train each other. **generator** (here *painter*): makes images. **discriminator** (here *critic*): tells real from made. **label-conditioned**: the generator is told what to make where. **hole**: voxels that are to be painted. **contrast code**: mean brightness of each tissue in each modality. **logit**: a score before a sigmoid; above 0 means "real".
# **hinge loss**: nothing to gain beyond a margin of 1. **feature matching**: layers of the critic are to see the same in made and in real. **spectral norm**: a layer divided by its largest gain. **EMA**: a slow average of the weights. **gradient accumulation**: gradients of the parts of a batch, added. **checkpointing**: maps computed again instead of kept.
# **mode collapse**: many inputs, one output. **Fréchet distance**: between two clouds of features, by their means and covariances. **precision and recall** of a generator: how much of the made is like the real, how much of the real is made. **few-shot**: a handful of cases to train on. **paired**: the same patients in both arms. **bootstrap interval**: where 95 % of the means lie when patients are drawn again.
# **ET, TC, WT, NETC, SNFH, RC**: enhancing tumour, core, whole tumour; non-enhancing core, oedema and infiltration, resection cavity.
#
# ## Read on
# - Goodfellow I. et al., Generative adversarial networks, NeurIPS 2014, arXiv 1406.2661.
# - Isola P. et al., Image-to-image translation with conditional adversarial networks (pix2pix), CVPR 2017, arXiv 1611.07004: painting by label, and the noise that is ignored.
# - Lim J. H., Ye J. C., Geometric GAN, arXiv 1705.02894: the hinge loss. Miyato T. et al., Spectral normalization, ICLR 2018, arXiv 1802.05957.
# - Wang T.-C. et al., High-resolution image synthesis with conditional GANs (pix2pixHD), CVPR 2018, arXiv 1711.11585: feature matching.
# - Ferreira A. et al., How we won BraTS 2023 adult glioma challenge? Just faking it!, arXiv 2402.17317: tumours painted by GliGAN.
# - Heusel M. et al., GANs trained by a two time-scale update rule, NeurIPS 2017, arXiv 1706.08500: the Fréchet distance on features.
# - Kynkäänniemi T. et al., Improved precision and recall metric, NeurIPS 2019, arXiv 1904.06991.
# - Akbar M. U. et al., Brain tumor segmentation using synthetic MR images, arXiv 2306.02986: synthetic images alone reach 80 to 90 % of the Dice of real ones.
# - Chen T. et al., Training deep nets with sublinear memory cost, arXiv 1604.06174: checkpointing.
#
# ## What to take along
# 1. Memory is in the maps, not in the weights; it can be computed before the job is sent off.
# 2. Look at what a network returns: R1's GAN made masks, and masks of known scans are no new data.
# 3. A GAN's losses say little. Watch the critic's accuracy, the variety, and a fixed yardstick.
# 4. Shuffle the labels. Paint one hole five times. Look for the nearest training patch. Each takes a minute.
# 5. Paint on the fly, into training patches, from training patients: an extra has several parents.
# 6. Whether it helps is an experiment with arms, seeds, equal steps and paired intervals, and it may come out either way.
#
# Next, notebook 07 looks at scores and errors, 08 at modalities and folds, and 09 makes an application.
