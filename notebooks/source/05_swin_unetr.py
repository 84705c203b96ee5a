# %% [markdown]
# # 05 Swin-UNETR: a transformer that looks through windows
#
# **You will be able to**
# - cut a scan into patches and windows, shift them, mask them and merge them, and say what each step is for,
# - read window attention line by line, and prove that a home-made one computes what MONAI's computes,
# - count a network's parameters stage by stage, and treat a stated count that does not fit as a finding,
# - say how far a voxel sees, and how much memory a training will take before it starts,
# - compare Swin-UNETR with a Residual U-Net at equal epochs and at equal time,
# - look at four doubtful numbers of a report, and find out which of them can be explained.
#
# **Time:** {{time quick}} (quick), {{time full}} (full) · **Needs:** notebooks 02 to 04, or their glossaries; nothing is downloaded ·
# **Rebuilds:** R0
#
# Report R0 is one of the five student reports that this course rebuilds. It trained MONAI's *Swin-UNETR* on BraTS scans and reached a mean Dice of
# .77 on its validation patients. Its code ran, and some of its numbers do not fit together: that happens to everyone, and this notebook shows how one notices. This is not a medical device.

# %% [markdown]
# ## Settings
# `data_dir` is a BraTS-like folder. Left empty, the course makes *phantoms*: a real average brain, deformed anew for each patient, in which a tumour was grown; here the easy kind, since
# a quick training has a minute.

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
import subprocess
import sys
import textwrap
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from brainseg_utils import course
from brainseg_utils.course.threads import set_threads

setup = course.begin(
    "05", profile=profile, data_dir=data_dir, output_dir=output_dir, seed=seed, cases=10, difficulty="easy"
)
check, quiz = setup.check, setup.quiz
set_threads()  # one or two, whichever trains faster on this machine now

# %% [markdown]
# What the notebook takes from the course's package, room by room: data, networks, training, scores, pictures. From MONAI comes one block, to compare with.

# %%
from monai.networks.nets import swin_unetr as monais

from brainseg_utils.course.checkout import find_root
from brainseg_utils.course.reference import reference_runs
from brainseg_utils.datasets import splits
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.evaluation import perturb, voxel
from brainseg_utils.models import window_attention as by_hand
from brainseg_utils.models.registry import build, count_by_part, count_parameters, on_paper
from brainseg_utils.pipeline.course import cut
from brainseg_utils.training import losses, memory, schedules, train
from brainseg_utils.training import recipe as recipes
from brainseg_utils.training.data import Sources
from brainseg_utils.training.device import return_memory
from brainseg_utils.training.loop import fit
from brainseg_utils.training.run import Run
from brainseg_utils.views import figures, palette

figures.use_style()

# %% [markdown]
# Networks are trained on some patients and judged on others (notebook 01 measured why), four fifths and one fifth as in R0. *Held out* are the patients that no network here sees in training. Real scans that the course keeps for its last test are left out.

# %%
MOST = 12 if setup.profile.quick else 1_000_000
kept_apart = json.loads((find_root() / "data" / "split.json").read_text(encoding="utf-8"))["brats"]["test"]
found_cases = [case for case in find_cases(setup.data_dir) if case.label_path and case.id not in kept_apart]
cases = found_cases[:MOST]
division = splits.split(cases, {"train": 0.8, "val": 0.2}, setup.seed)
train_cases = [case for case in cases if case.id in division["train"]]
held_out = [case for case in cases if case.id in division["val"]]
print(f"{len(cases)} patients: {len(train_cases)} to train on, {len(held_out)} held out")

# %% [markdown]
# ## Where this ends
# A *recipe* is a file that decides everything about a training (notebook 03). The next cells train the course's recipe for Swin-UNETR. In the quick profile the network is a quarter as
# wide as R0's, on cubes of 64 voxels of 2 mm, for two dozen *steps* (one change of all weights each). The full profile gives it minutes instead, and R0's width and cubes where there is a GPU.


# %%
LARGE = torch.cuda.is_available() and not setup.profile.quick  # the full size takes a GPU
MORE = {"budget.seconds": 600.0, "budget.epoch_steps": 100} if LARGE else {"budget.seconds": 300.0, "budget.epoch_steps": 15}  # fmt: skip
LENGTH = {} if setup.profile.quick else MORE


def recipe_of(name, **changes):
    """A recipe with changes written `data__spacing=2.0`."""
    dotted = {place.replace("__", "."): value for place, value in changes.items()}
    fixed = {"seed": setup.seed, "data.cache": str(setup.output_dir / "cache")}
    return recipes.load(name, "full" if LARGE else "quick", {**fixed, **LENGTH, **dotted})


# %% [markdown]
# One function reads what a recipe trains on, another trains. It counts *computing time*: the seconds that processors worked, on however many cores and whatever else the machine does.

# %%
kept_sources, runs, spent = {}, {}, {}
clock = time.perf_counter if torch.cuda.is_available() else time.process_time


def sources_of(chosen):
    """What a recipe trains and validates on; each is read once."""
    key = repr(chosen.data)
    if key not in kept_sources:
        kept_sources[key] = train.sources(chosen, train_cases, held_out)
    return kept_sources[key]


def train_live(label, chosen, sources=None):
    folder = setup.output_dir / "runs" / label
    shutil.rmtree(folder, ignore_errors=True)
    return_memory()  # what predictions left
    began, spent[label] = clock(), []
    look = lambda row, network, validation: spent[label].append(clock() - began)  # noqa: E731
    runs[label] = fit(chosen, sources or sources_of(chosen), Run.begin(folder, chosen), look)
    return_memory()  # a training keeps what it freed, for its next step
    return runs[label]


# %% [markdown]
# And off it goes:

# %%
course_recipe = recipe_of("course_swin")
source = sources_of(course_recipe)
metrics = train_live("Swin-UNETR, course", course_recipe).metrics
print(f"{metrics['parameters']:,} parameters, {metrics['steps']} steps in {spent['Swin-UNETR, course'][-1]:.0f} s of computing; "
      f"Dice of the held-out patients: WT {metrics['dice_WT']:.2f}, TC {metrics['dice_TC']:.2f}, ET {metrics['dice_ET']:.2f}")  # fmt: skip

# %% [markdown]
# WT, TC and ET are the three *regions* of BraTS: the whole tumour, its core, and the part that takes up contrast agent (notebook 01). Each is inside the one before. The picture
# shows the slice with the most tumour of each held-out patient, up to three of them: truth on the left, prediction on the right, on FLAIR.


# %%
REGIONS = ("ET", "TC", "WT")  # channels, in R0's order
GREYS = plt.get_cmap("gray", 40)
patients = list(source.validation)[:3]


def predict(network, image):
    """(1, 4, X, Y, Z) to (3, X, Y, Z) probabilities."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        return torch.sigmoid(source.predict(network.eval(), image.float().to(device)).float())[0].cpu().numpy()


# %% [markdown]
# How a slice is drawn, here and below:


# %%
def plain(axes, shape, caption=""):
    """No ticks; anterior up and the patient's right on the left, as radiologists look."""
    axes.set(xticks=[], yticks=[], xlim=(shape[0] - 0.5, -0.5), ylim=(-0.5, shape[1] - 0.5))
    axes.grid(False)
    axes.set_title(caption, fontsize=8)


def draw(axes, volume, masks, z, caption=""):
    """One axial slice of an (X, Y, Z) volume with the outlines of three masks."""
    low, high = np.percentile(volume, (1, 99.7))
    axes.imshow(volume[..., z].T, cmap=GREYS, vmin=low, vmax=high, interpolation="nearest")
    for mask, name in zip(masks, REGIONS, strict=False):
        if mask[..., z].any():
            style = palette.style(name)
            axes.contour(mask[..., z].T, [0.5], colors=style.colour, linestyles=style.dash, linewidths=1.4)
    plain(axes, volume.shape, caption)


# %% [markdown]
# Truth and prediction, patient by patient:

# %%
trained = runs["Swin-UNETR, course"].load().network
figure, grid = plt.subplots(1, 2 * len(patients), figsize=(2.1 * 2 * len(patients), 2.6), squeeze=False)
for pair, batch in zip(grid[0].reshape(-1, 2), patients, strict=True):
    truth, flair = batch["label"][0].numpy() > 0, batch["image"][0, 3].numpy()
    z = int(truth[2].sum((0, 1)).argmax())
    draw(pair[0], flair, truth, z, "truth")
    draw(pair[1], flair, predict(trained, batch["image"]) >= 0.5, z, "prediction")
figure.legend(
    handles=[plt.Line2D([], [], **figures.line_style(n)) for n in REGIONS],
    loc="outside lower center",
    ncols=3,
    fontsize=8,
)
figures.show(figure, "FLAIR slices of held-out patients in pairs: on the left the true outlines of whole tumour, core and enhancing part, on the "
             "right those that the briefly trained Swin-UNETR predicts.")  # fmt: skip

# %% [markdown]
# A minute of training finds much of the tumour; outlines are still rough. After every *epoch*, here as few as three steps in the quick profile, the held-out patients were scored (by *slow weights*, a moving average of the network's). The course demands one thing of its quick profile on phantoms, whatever the machine:

# %% tags=["nbval-check-output"]
history = runs["Swin-UNETR, course"].history()
first, last = history["dice_WT"].iloc[0], history["dice_WT"].iloc[-1]
print(
    f"whole tumour on held-out patients: Dice of .40 or more: {last >= 0.40}; .20 above the first epoch: {last >= first + 0.20}"
)

# %% [markdown]
# ## 1 Patches, windows, shifts
# **Question: attention compares everything with everything (notebook 03). How can a cube of 128³, two million voxels, afford that?** In three steps: not voxels but patches, not everything but windows, and windows that move.
#
# Our piece of scan is a cube around one held-out tumour, prepared as the network gets it.


# %%
SIDE = 64


def cube_of(batch, side=SIDE):
    """A cube around the tumour: (4, side, side, side) image and (3, ...) regions."""
    image, label = batch["image"][0].float().numpy(), batch["label"][0].numpy()
    places = np.argwhere(label[2] > 0) if label[2].any() else np.array([[n / 2 for n in image.shape[1:]]])
    start = [int(middle) - side // 2 for middle in places.mean(0)]
    return cut(image, start, (side,) * 3), cut(label, start, (side,) * 3)


cube, cube_label = cube_of(max(patients, key=lambda batch: int(batch["label"][0, 2].sum())))
z = int(cube_label[2].sum((0, 1)).argmax())
flair = cube[3]
print(f"cube {cube.shape}, {cube[0].size:,} voxels; slice {z} of it")

# %% [markdown]
# **Patches.** The cube is cut into patches of 2x2x2 voxels; each is one *token*, a vector made of its 4 x 8 numbers by one matrix, as in notebook 03. R0 makes 48 numbers of each. Left the slice, right the same slice as tokens (the mean of each
# patch stands for its vector).

# %%
coarse = F.avg_pool3d(torch.tensor(flair)[None, None], 2)[0, 0].numpy()  # (32, 32, 32): one value a token
row = coarse[..., z // 2]
figure, (left, right) = plt.subplots(1, 2, figsize=(5.6, 2.9))
draw(left, flair, cube_label > 0, z, f"{SIDE}x{SIDE} voxels")
right.imshow(row.T, cmap=GREYS, interpolation="nearest", vmin=np.percentile(row, 1), vmax=np.percentile(row, 99.7))
plain(right, row.shape, f"{SIDE // 2}x{SIDE // 2} tokens")
right.set_xticks(np.arange(33) - 0.5, [])
right.set_yticks(np.arange(33) - 0.5, [])
right.tick_params(length=0)
right.grid(color=palette.OKABE_ITO["sky blue"], alpha=0.5, linewidth=0.5)
right.set_axisbelow(False)
figures.show(
    figure,
    "Left a FLAIR slice of 64 by 64 voxels with outlined tumour; right the same slice as a grid of 32 by 32 tokens.",
)

# %% [markdown]
# **Windows.** R0's patch of 128³ voxels has 64³ = 262,144 tokens. Attention among all of them would need a number for each pair. Swin cuts the grid of tokens into windows of 7x7x7 and lets tokens attend inside their window only. **Guess
# by which factor that is cheaper**, then work it out.
#
# **Your turn.** How many attention weights does one head need on a grid of `side`³ tokens, in windows of `window`³? (`side` is a multiple of `window`.)
#
# <details><summary>Hint</summary>
#
# How many windows are there? How many tokens has one? Every token of a window has one weight for each token of that window.
# </details>


# %% tags=["exercise"]
def weights_a_head(side, window):
    # BEGIN SOLUTION: windows, times the pairs in each
    # BLANK: return ...
    return (side // window) ** 3 * (window**3) ** 2
    # END SOLUTION


counted_weights = check.weights_a_head(weights_a_head)
counted_weights

# %% [markdown]
# With your function, for R0's grid (64 tokens a side, filled up with zeros to 70, the next multiple of 7):

# %%
if counted_weights:
    everything, windows = weights_a_head(64, 64), weights_a_head(70, 7)
    print(f"all pairs: {everything:,} weights a head, {everything * 4 / 1e9:,.0f} GB")
    print(f"windows:   {windows:,} weights a head, {windows * 4 / 1e9:.2f} GB; {everything / windows:,.0f} times fewer")

# %% [markdown]
# The price: windows do not see each other. A tumour that lies across a border is two tumours. So every second block moves its windows by half a window, 3 tokens, and what lay at a border lies inside.
#
# Moved windows would stick out at the ends. Instead the *volume* is rolled: what leaves at one end comes in at the other, and all windows are whole again. Then the last window of each axis holds tokens from both ends of the scan, which have
# nothing to do with each other; a *mask* keeps them apart.


# %%
def lines(axes, at, colour="sky blue"):
    for place in at:
        axes.axvline(place - 0.5, color=palette.OKABE_ITO[colour], linewidth=1, linestyle="-")
        axes.axhline(place - 0.5, color=palette.OKABE_ITO[colour], linewidth=1, linestyle="-")


def show_tokens(axes, picture, caption):
    axes.imshow(picture.T, cmap=GREYS, interpolation="nearest", vmin=low, vmax=high)
    plain(axes, picture.shape, caption)


WINDOW, SHIFT = 7, 3
full = len(row) + -len(row) % WINDOW  # 35
low, high = np.percentile(row, (1, 99.7))
padded = np.zeros((full, full)) + row.min()
padded[: len(row), : len(row)] = row
rolled = np.roll(padded, (-SHIFT, -SHIFT), axis=(0, 1))
apart = by_hand.shift_mask((full, 1, 1), (WINDOW, 1, 1), (SHIFT, 0, 0))[:, 0].flatten().numpy() < 0
part = 1 * (np.arange(full) >= full - WINDOW) + apart  # which end of the scan, along an axis
parts = 3 * part[:, None] + part

# %% [markdown]
# Four pictures: windows; the same moved; the volume rolled so that the moved windows are whole; and the *parts* that the mask keeps apart, numbered. Find a window with four parts.

# %%
figure, grid = plt.subplots(1, 4, figsize=(9.2, 2.5))
show_tokens(grid[0], padded, "block 1: windows of 7 tokens")
lines(grid[0], range(0, full + 1, WINDOW))
show_tokens(grid[1], padded, "block 2: moved by 3")
lines(grid[1], range(SHIFT, full, WINDOW), "orange")
show_tokens(grid[2], rolled, "block 2, rolled")
lines(grid[2], range(0, full + 1, WINDOW), "orange")
grid[3].imshow(parts.T, cmap="cividis", interpolation="nearest")
for number in np.unique(parts):
    x, y = np.argwhere(parts == number).mean(0)
    grid[3].text(x, y, str(number), color="white" if number < 5 else "black", ha="center", va="center", fontsize=8)
lines(grid[3], range(0, full + 1, WINDOW), "orange")
plain(grid[3], parts.shape, "who may see whom: equal numbers")
figures.show(figure, "The slice as tokens four times: cut into windows of 7, the windows moved by 3 tokens, the slice rolled by 3 so that the moved windows "
             "are whole, and the nine parts that the mask keeps apart, the corner window holding four of them.")  # fmt: skip

# %% [markdown]
# The window with four parts is the one in the corner where both axes end. The dark border at the left and above is padding: 32 tokens are no multiple of 7, and both axes of the scan end there. Tokens attend to it like to anything else; the mask is for the roll alone.
#
# **Your turn.** Write the parts of one axis: for each place of a rolled axis of `size` tokens, 0 where its window is whole, 1 and 2 for the two ends that the last window brings together.
#
# <details><summary>Hint</summary>
#
# Only the last window is mixed: the last `window` places. After rolling by `shift`, which of them came from the beginning of the scan? The last `shift` ones.
# </details>


# %% tags=["exercise"]
def parts_of_axis(size, window, shift):
    """(size,) whole numbers: equal where two tokens of the same window may see each other."""
    number = np.zeros(size, int)
    # BEGIN SOLUTION: 1 for the last window's first part, 2 for what came from the other end
    # BLANK: number = ...
    number[size - window : size - shift] = 1
    number[size - shift :] = 2
    # END SOLUTION
    return number


right_parts = check.parts_of_axis(parts_of_axis)
right_parts

# %% [markdown]
# **Merging.** After every two blocks (one with plain, one with moved windows) the tokens of 2x2x2 neighbours are written one after the other and turned by a matrix into one token of twice the numbers. In stages 1 to 4 a token stands for 2, 4, 8, 16 voxels a side, and
# a window of 7 tokens for 14, 28, 56, 112.

# %%
figure, grid = plt.subplots(1, 4, figsize=(9.2, 2.5))
for axes, stage in zip(grid, range(1, 5), strict=True):
    size = 2**stage
    tokens = F.avg_pool3d(torch.tensor(flair)[None, None], size)[0, 0].numpy()
    show_tokens(
        axes,
        tokens[..., min(z // size, tokens.shape[2] - 1)],
        f"stage {stage}: {len(tokens)}³ tokens of {size}³ voxels",
    )
    if len(tokens) > WINDOW:
        lines(axes, range(0, len(tokens) + 1, WINDOW))
figures.show(
    figure,
    "The slice as tokens of 2, 4, 8 and 16 voxels a side, with windows of 7 tokens drawn over them until the grid is smaller than a window.",
)

# %% [markdown]
# **Answer.** Patches divide the number of things to compare by 8, windows cap what each is compared with at 343, and moving and merging carry information across borders. Only where the last stage's grid fits into one window, in cubes of up to 112 voxels, does everything meet everything; R0's 128 leaves 8 tokens a side, one too many.

# %%
quiz("why-shift")

# %% [markdown]
# One more, about the roll:

# %%
quiz("mask-what")

# %% [markdown]
# ## 2 Window attention, line by line
# **Question: what does the network compute inside a window?** The course has it written out to be read, in `brainseg_utils/models/window_attention.py`. Cutting is one reshape and one permute:

# %%
text = inspect.getsource(by_hand.cut).split('"""')  # definition, description, body
print(text[0].rstrip() + text[2])

# %% [markdown]
# Inside a window every token asks all 343, itself among them:
#
# $$ a_{ij} = \mathrm{softmax}_j\Big(\frac{q_i\cdot k_j}{\sqrt d} + b_{j-i} + m_{ij}\Big) \qquad \text{out}_i = \sum_j a_{ij} v_j $$
#
# $q_i, k_j, v_j$: query, key and value, vectors of $d$ numbers made from tokens $i$ and $j$ by learned matrices (notebook 03). $b_{j-i}$: a learned number for how $j$ lies to $i$, the *relative position bias*. $m_{ij}$: the mask, 0 or -100.

# %%
for part_of_code in (by_hand.WindowAttention.weights, by_hand.WindowAttention.forward):
    text = inspect.getsource(part_of_code).split('"""')
    print(text[0].rstrip() + text[2])

# %% [markdown]
# By hand: a token with three neighbours in its window, $d = 4$, no bias. Then the same when the mask forbids the third. -100 is no special value: $e^{-100}$ is $10^{-44}$ of a weight.

# %% tags=["nbval-check-output"]
agreement = np.array([2.0, 0.0, 4.0]) / math.sqrt(4)
for mask_row in ([0, 0, 0], [0, 0, -100]):
    share = np.exp(agreement + np.array(mask_row))
    print("mask", mask_row, " attention", (share / share.sum()).round(3).tolist())

# %% [markdown]
# Where does a token know its place from? SETR adds a vector for each place of the slice. Swin adds $b$: two tokens of a window lie -6 to 6 apart along each axis, which makes 13 x 13 x 13 = 2,197 ways, one learned number each for every head. Here is the index in one dimension, for
# a window of 4: row $i$, column $j$.

# %% tags=["nbval-check-output"]
print(by_hand.position_index((4, 1, 1)).numpy())
print("numbers a head for 7x7x7:", int(by_hand.position_index((7, 7, 7)).max()) + 1)

# %% [markdown]
# A block then is: roll, cut, attend, put together, roll back.

# %%
print(inspect.getsource(by_hand.SwinBlock._attend))

# %% [markdown]
# Anybody can write 60 lines that look right. **The check**: MONAI's block and this one get the same weights and the same tokens; the sizes are chosen so that padding, shift and mask all matter.

# %% tags=["nbval-check-output"]
worst = 0.0
for size, shift in itertools.product(((8, 8, 8), (5, 9, 6)), ((0, 0, 0), (2, 2, 2))):
    torch.manual_seed(0)
    theirs = monais.SwinTransformerBlock(12, num_heads=3, window_size=(4, 4, 4), shift_size=shift)
    ours = by_hand.SwinBlock(12, heads=3, window=(4, 4, 4), shift=shift)
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randn(2, *size, 12)
    window, moved = by_hand.fit(size, (4, 4, 4), shift)
    mask = by_hand.shift_mask([s + -s % w for s, w in zip(size, window, strict=True)], window, moved)
    with torch.no_grad():
        worst = max(worst, float((ours(tokens) - theirs(tokens, mask)).abs().max()))
print(f"the same as MONAI's to within 0.00001: {worst < 1e-5}")

# %% [markdown]
# **Look closer.** Where a whole axis is shorter than a window, the window shrinks to it, and MONAI takes the first rows and columns of the index made for 7x7x7. Those belong to other neighbours: the fifth token of a window of 4³ is the first of its second row,
# the fifth of a window of 7³ is still in the first row.

# %% tags=["nbval-check-output"]
used = by_hand.position_index((7, 7, 7))[:64, :64]
own = by_hand.position_index((4, 4, 4))
relations = {int(n): set(used[own == n].tolist()) for n in own.unique()}
print(
    f"{len(relations)} ways to lie in a window of 4x4x4; {sum(len(s) > 1 for s in relations.values())} of them get several biases"
)

# %% [markdown]
# The last stage of a cube of 64 voxels is such a window, R0's 128 is not. The network learns whatever these numbers are good for; but weights that were trained at one size are not quite the same network at another.

# %%
quiz("bias-table")

# %% [markdown]
# ## 3 Bug lab 1: a count that does not fit (R0)
# **Watch it fail.** R0 states its settings (feature size 48, depths 2-2-2-2, heads 3-6-12-24) and 84,842,997 parameters. The registry builds the same network *on paper* (PyTorch's `meta` device: shapes, no numbers). **Guess first: will it be off by a little or a lot?**

# %% tags=["nbval-check-output"]
STATED = 84_842_997
paper = on_paper("swin_unetr")
counted = count_parameters(paper)
print(f"counted {counted:,}, stated {STATED:,}: {STATED - counted:,} missing, {STATED / counted - 1:.0%}")

# %% [markdown]
# **Find it.** Swin-UNETR is a U. Downwards goes the transformer (`swinViT`, four stages). What enters it, and what each stage gives, passes two convolutions: `encoder1` the scan itself, `encoder2` the tokens, `encoder3`, `encoder4` and `encoder10` later stages; one stage's output is passed on as it is. Upwards `decoder5` to `decoder1` double the grid, join what comes from the side, and convolve; `out` makes three regions. Stage by stage:

# %%
stages = {}
for name, count in count_by_part(paper.network, 2).items():
    head, *rest = name.split(".")
    key = f"{head} {rest[0]}" if head == "swinViT" and rest else head
    stages[key] = stages.get(key, 0) + count
table = pd.DataFrame({"parameters": stages})
table["share"] = table["parameters"] / counted
table.style.format({"parameters": "{:,.0f}", "share": "{:.1%}"}).set_uuid("stages")

# %% [markdown]
# The transformer is an eighth of it. The convolutions at the coarse end hold the rest: a 3x3x3 convolution from 768 to 768 channels has 16 million weights, and there are two.
#
# **Your turn.** Count one block: two norms (a weight and a bias for each of `dim` channels), `qkv` (a matrix from `dim` to 3 `dim`, with biases), `proj` (`dim` to `dim`, with biases), the table of biases (13³ numbers a head for windows of 7), and an MLP (`dim` to 4 `dim` and back, with biases).
#
# <details><summary>Hint</summary>
#
# A matrix from a to b with biases has a·b + b numbers. A window of w has (2w - 1)³ ways for two tokens to lie to each other.
# </details>


# %% tags=["exercise"]
def block_parameters(dim, heads, window=7):
    # BEGIN SOLUTION: norms, qkv, proj, table, MLP
    # BLANK: return ...
    norms, qkv, proj = 4 * dim, 3 * dim * dim + 3 * dim, dim * dim + dim
    table, mlp = (2 * window - 1) ** 3 * heads, 8 * dim * dim + 5 * dim
    return norms + qkv + proj + table + mlp
    # END SOLUTION


right_count = check.block_parameters(block_parameters)
right_count

# %% [markdown]
# The whole network is such sums. With a formula instead of a network, a million settings can be tried. First the formula itself is tried, on networks that were really built.


# %%
def convolutions(inputs, outputs):
    """A residual block of MONAI's: two 3x3x3 convolutions, and a 1x1x1 one where the channels change; no biases."""
    return 27 * inputs * outputs + 27 * outputs**2 + inputs * outputs * (inputs != outputs)


def one_block(dim, heads, window=7):
    return 12 * dim**2 + 13 * dim + (2 * window - 1) ** 3 * heads


def without_blocks(f, v2=False, inputs=4, outputs=3):
    """All parameters of a Swin-UNETR of feature size f that has no transformer block at all."""
    count = 8 * inputs * f + f + outputs * f + outputs  # patches to tokens; the last convolution
    for dim in (f, 2 * f, 4 * f, 8 * f):
        count += 16 * dim**2 + 16 * dim + v2 * convolutions(dim, dim)  # merging; a block before each stage in version 2
    count += convolutions(inputs, f) + sum(convolutions(n * f, n * f) for n in (1, 2, 4, 16))
    for below, here in ((16, 8), (8, 4), (4, 2), (2, 1), (1, 1)):
        count += 8 * below * f * here * f + convolutions(2 * here * f, here * f)
    return count


# %% [markdown]
# The formula against built networks:

# %% tags=["nbval-check-output"]
HEADS = (3, 6, 12, 24)


def formula(f, depths=(2, 2, 2, 2), **options):
    return without_blocks(f, **options) + sum(d * one_block(f * 2**s, HEADS[s]) for s, d in enumerate(depths))


for f, v2 in ((12, False), (24, False), (36, False), (48, False), (48, True)):
    built = count_parameters(on_paper("swin_unetr", feature_size=f, v2=v2))
    print(
        f"feature size {f}{', version 2' if v2 else '':11}: {built:,}, formula the same: {built == formula(f, v2=v2)}"
    )

# %% [markdown]
# Now the search: feature sizes 12, 24 and so on, four kinds of input and of output, both versions (version 2 of MONAI's network has a block of convolutions before each stage), and any depths from a list, stage by stage.

# %%
DEPTHS = np.array(list(itertools.product((1, 2, 3, 4, 6, 8, 12, 18, 24), repeat=4)))


def search(sizes, inputs, outputs):
    """Settings tried, and the closest ones: [(difference, settings), ...]."""
    tried, closest = 0, []
    for f, v2, i, o in itertools.product(sizes, (False, True), inputs, outputs):
        blocks = DEPTHS @ [one_block(f * 2**s, HEADS[s]) for s in range(4)]
        off = blocks + without_blocks(f, v2, i, o) - STATED
        tried += len(off)
        k = int(np.abs(off).argmin())
        closest.append(
            (int(off[k]), f"feature size {f}, v2 {v2}, {i} channels in, {o} out, depths {DEPTHS[k].tolist()}")
        )
    return tried, sorted(closest, key=lambda pair: abs(pair[0]))


tried, closest = search(range(12, 97, 12), (1, 3, 4, 5), (1, 3, 4, 14))
print(f"{tried:,} settings, {sum(off == 0 for off, _ in closest)} of them with {STATED:,} parameters; the closest:")
for off, settings in closest[:3]:
    print(f"  {off:+d}: {settings}")

# %% [markdown]
# And with everything that R0 states kept, and only the depths or the version changed:

# %%
near_r0, options = search((48,), (4,), (3,))
print(f"{near_r0:,} settings, the closest {options[0][0]:+,d}: {options[0][1]}")
for name, value in (("as stated", formula(48)), ("version 2", formula(48, v2=True)), ("feature size 60", formula(60)),
                    ("depths 2-2-6-2, as Swin-T", formula(48, (2, 2, 6, 2))), ("depths 2-2-18-2, as Swin-S", formula(48, (2, 2, 18, 2)))):  # fmt: skip
    print(f"  {name:27} {value:12,}  {value - STATED:+,d}")

# %% [markdown]
# **The honest outcome: not explained.** No setting of the list has the stated count. And look at the best near miss: it is off by very little and means nothing. Who tries a million settings on numbers of this size must expect some to come close by chance; a hit would have
# proved something only if it had been a plausible setting, named before the search. What remains possible: another version of the library, layers added by hand, a count that adds something else (buffers, a second network), or a number from another experiment.
#
# **Mend it, see the gain.** One line in a training script prevents it: print the count of the network that is trained, and keep it with the result. The course's runs do (`metrics.json`), and a test in the package holds 62,191,941.

# %%
quiz("count-search")

# %% [markdown]
# ## 4 How far does a voxel see?
# **Question: after how many blocks does the token in the middle of the patch know about all of it?** Its *receptive field* is what can change it. Windows make it easy to follow: in a block a token gets all that its window's tokens had. Along one axis:


# %%
def reach_of(voxels, window=7):
    """After each block: (block, voxels that the middle token sees along an axis), patches of 2 to start with."""
    sees = np.repeat(np.eye(voxels // 2, dtype=bool), 2, axis=1)  # (tokens, voxels)
    found = [("tokens", int(sees[len(sees) // 2].sum()))]
    for stage in range(1, 5):
        count = len(sees)
        for block in (1, 2):
            moved = window // 2 if block == 2 and count > window else 0
            which = (np.arange(count) - moved) // min(window, count)
            sees = np.array([sees[which == which[i]].any(0) for i in range(count)])
            found.append((f"stage {stage}, block {block}", int(sees[count // 2].sum())))
        sees = sees[0::2] | sees[1::2]  # merging
        found.append((f"merged {stage}", int(sees[len(sees) // 2].sum())))
    return found


field = {side: reach_of(side) for side in (64, 128)}

# %% [markdown]
# **Guess, for R0's 128 voxels, the first block that sees all of them**, then look.

# %%
figure, axes = plt.subplots(figsize=(6.6, 2.9))
for side, marker in ((128, "o"), (64, "s")):
    names, seen = zip(*field[side], strict=True)
    axes.plot(range(len(names)), seen, marker=marker, label=f"patch of {side} voxels")
axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
axes.set(ylabel="voxels seen along an axis", ylim=(0, 135))
axes.legend(fontsize=8)
figures.show(
    figure,
    "How many voxels along an axis the middle token sees after each block: it grows in steps, to 64 of 64 voxels in the second stage and to 128 of 128 in the third.",
)

# %% [markdown]
# That was arithmetic. A network tells the same through its gradients: a voxel that cannot change a token has a gradient of 0 there.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
encoder = build("swin_unetr", feature_size=12).eval().network.swinViT
image = torch.rand(1, 4, SIDE, SIDE, SIDE, requires_grad=True)
merged = [seen for name, seen in field[SIDE] if name.startswith("merged")]
for stage, tokens in list(enumerate(encoder(image)))[1:3]:
    middle = tokens.shape[-1] // 2
    answer = (tokens[0, :, middle, middle, middle] * torch.randn(tokens.shape[1])).sum()
    (gradient,) = torch.autograd.grad(answer, image, retain_graph=True)
    reached = int((gradient[0].abs().sum((0, 2, 3)) > 0).sum())
    print(f"after stage {stage}: {reached} voxels by gradient, as by arithmetic: {reached == merged[stage - 1]}")

# %% [markdown]
# **Answer.** For the token in the middle: in the third stage, in its second block; in a patch of 64 voxels in the second stage. A token at one end has twice as far to go and meets the other end a stage or two later. (How far one sees also depends on where in its window the token lies; that is why the two curves differ from the start.) A U-Net of notebook 04 gets as far with convolutions; what attention adds is that *what* is taken from afar depends on the content. And one more thing that both have: *instance norm* subtracts a channel's mean and divides by its spread, both taken
# over the whole patch, so that strictly every voxel sees a little of all others.
#
# ## 5 Memory, before and after
# **Question: how much memory does a training step need, and what grows fastest?** The forecast runs the network on paper and adds up every tensor that the way back will need, and half as much again for the gradients that live beside them for a moment. **Guess the factor between a patch of 64 and one of 128 voxels.**

# %%
forecasts = {}
for side, size, checkpoint in ((64, 12, False), (64, 48, False), (96, 48, False), (128, 48, False), (128, 48, True)):
    expected = memory.forecast(
        on_paper("swin_unetr", feature_size=size, checkpoint=checkpoint), (1, 4, side, side, side), "adamw"
    )
    key = f"{side}³, feature size {size}{', checkpointed' if checkpoint else ''}"
    forecasts[key] = {
        "weights and optimiser": expected.total - expected.activations,
        "activations": expected.activations,
    }
needed = pd.DataFrame(forecasts).T / 2**30
needed["GiB in all"] = needed.sum(axis=1)
needed.style.format("{:.2f}").set_uuid("forecast")

# %% [markdown]
# For one cube; R0's batch of 2 needs the activations twice. *Checkpointed* keeps less on the way forward and computes it again on the way back: memory is paid for with time (MONAI checkpoints the transformer only, which is why it does not help more).
#
# Is the forecast right? One real step, for sizes that fit here, in a process of its own: memory that was used once stays with a process, and would hide the next.

# %%
STEP = """
import sys, torch
from brainseg_utils.models.registry import build
from brainseg_utils.training import memory
torch.set_num_threads(1)
here, network = torch.device("cpu"), build("swin_unetr", feature_size=12)
optimiser = torch.optim.AdamW(network.parameters())
before = memory.used(here)
for depth in map(int, sys.argv[1:]):
    network(torch.rand(1, 4, 64, 64, depth)).mean().backward()
    optimiser.step()
    optimiser.zero_grad()
    print(memory.peak(here) - before)
"""
depths = (64, 96) if setup.profile.quick else (64, 96, 128)
said = subprocess.run(
    [sys.executable, "-c", STEP, *map(str, depths)], capture_output=True, text=True, check=True
).stdout
rows = {}
for depth, grown in zip(depths, map(int, said.split()), strict=True):
    expected = memory.forecast(on_paper("swin_unetr", feature_size=12), (1, 4, 64, 64, depth), "adamw").total
    weights = 4 * count_parameters(on_paper("swin_unetr", feature_size=12))  # there before the step
    rows[f"64x64x{depth}"] = {"forecast, MiB": (expected - weights) / 2**20, "measured, MiB": grown / 2**20}
pd.DataFrame(rows).T.style.format("{:.0f}").set_uuid("measured")

# %% [markdown]
# **Answer.** Compare the two columns: near enough to plan with. Eight times the voxels, nearly eight times the activations; the weights do not change. That is why R0's 62 million parameters, a quarter of a gigabyte, need tens of gigabytes to train, and why halving the patch helps more than halving the network.

# %%
quiz("memory-patch")

# %% [markdown]
# ## 6 R0's recipe, the course's, and a U-Net
# **Question: what did R0 do, what would the course do, and would a U-Net have done better?** What the files say, at their full size:


# %%
def row_of(name, **changes):
    r = recipes.load(name, "full", changes)
    length = f"{r.budget.epochs:g} epochs" if r.budget.epochs else f"{r.budget.steps:,} steps"
    return {"network": r.network.name, "pipeline": r.data.options["pipeline"], "loss": r.loss.name, "rate": f"{r.optimiser.options['rate']:g}",
            "warm-up": f"{r.schedule.options.get('warmup', 0.0):g}", "clip": f"{r.engine.clip:g}", "slow weights": f"{r.engine.ema:g}", "length": length,
            "the course's choice": ", ".join(r.unstated) or "all"}  # fmt: skip


NAMES = {"Swin-UNETR, R0": "r0_swin", "Swin-UNETR, course": "course_swin", "Residual U-Net": "course_resunet3d"}
pd.DataFrame({name: row_of(file) for name, file in NAMES.items()}).style.set_uuid("files").set_properties(
    **{"text-align": "left"}
)

# %% [markdown]
# *Warm-up*: the share of the steps in which the rate rises from nearly 0. *Clip*: the gradient is shortened to this length when it is longer. *Slow weights*: how much of the moving average stays at each step. These rates are for thousands of steps. With two dozen of them and a small network, as in the quick profile, the course's Swin-UNETR trains at .008, after warm-up, and in the recorded runs below at .002: **more** than R0's .001. A short training needs larger steps. One thing that helps Swin-UNETR
# elsewhere is not in either recipe: pre-training by filling in masked parts of scans (Tang and others, below). Both begin from random weights; a recorded run at the end of this section begins otherwise.
#
# Live, all three train on cubes of the same size and for each the same held-out patients are scored. R0's recipe has no resampling of its own: in the quick profile it is run where the scans' voxels are about 2 mm wide, as the phantoms' are. **Guess the order of the three at the same number of steps, and at the same time.**

# %%
if LARGE or min(cases[0].images().spacing) > 1.5:
    r0_recipe = recipe_of("r0_swin")
    from_r0 = sources_of(r0_recipe)
    judged_alike = Sources(from_r0.train, source.validation, 4, REGIONS, False, source.predict)
    train_live("Swin-UNETR, R0", r0_recipe, judged_alike)
alike = {"data__size": course_recipe.data.options["size"], "data__foreground": course_recipe.data.options["foreground"],
         "budget__batch": course_recipe.budget.batch, "budget__epoch_steps": course_recipe.budget.epoch_steps}  # fmt: skip
times_three = {"budget__steps": 3 * metrics["steps"]} if setup.profile.quick else {}
train_live("Residual U-Net", recipe_of("course_resunet3d", **alike, **times_three))
facts = {name: {"parameters": run.metrics["parameters"], "steps": run.metrics["steps"], "seconds": spent[name][-1],
                **{f"Dice {region}": run.metrics[f"dice_{region}"] for region in REGIONS}} for name, run in runs.items()}  # fmt: skip
pd.DataFrame(facts).T.style.format(
    {"parameters": "{:,.0f}", "steps": "{:.0f}", "seconds": "{:.0f}"}, precision=2
).set_uuid("live")

# %% [markdown]
# R0's network is judged on the same prepared volumes as the others; its own preparation differs from the course's only by what clipping the brightest and darkest half per cent changes.
#
# Now the two comparisons, as in notebook 03: up to the number of steps that both had, and up to the computing time that both had. With one cube a step from the same patients, equal steps are equal epochs.


# %%
def looks(name):
    """One row for each look at the held-out patients."""
    return runs[name].history().assign(seconds=spent[name])


def dice_at(name, column, limit):
    """Mean Dice of the last two looks by the limit."""
    h = looks(name)
    return float(h["dice"][h[column] <= limit].iloc[-2:].mean())


def compare(one, other, column, what):
    limit = min(looks(name)[column].max() for name in (one, other))
    a, b = dice_at(one, column, limit), dice_at(other, column, limit)
    upto = f"{limit:.0f} {'steps' if column == 'step' else 's'}"
    return {"equal": what, "up to": upto, one: a, other: b, "difference": b - a}


SIDES, FORM = ("Swin-UNETR, course", "Residual U-Net"), {"difference": "{:+.3f}"}
fair = [compare(*SIDES, column, what) for column, what in (("step", "steps"), ("seconds", "time"))]
pd.DataFrame(fair).set_index("equal").style.format(dict.fromkeys(SIDES, "{:.3f}") | FORM).set_uuid("fair")

# %% [markdown]
# Read it with care. At equal time Swin-UNETR has had a look or two, its rate has hardly finished rising, and much of its time went into looking; at equal steps the U-Net is a third through its schedule. In the recorded runs below each schedule ends with its budget, and looks are not counted.
#
# As curves, look by look:


# %%
def curve(axes, name, x, y):
    dash, ink = {"R0": (":", "orange"), "course": ("-.", "vermilion")}.get(name.split(", ")[-1], ("-", "blue"))
    axes.plot(x, y, linestyle=dash, color=palette.OKABE_ITO[ink], label=name)


figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.0), sharey=True)
for name in runs:
    h = looks(name)
    curve(left, name, h["step"], h["dice"])
    curve(right, name, h["seconds"], h["dice"])
left.set(xlabel="steps", ylabel="mean Dice, held out", ylim=(0, 1))
right.set(xlabel="seconds of computing, looks included")
figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
figures.show(figure, "Mean Dice of the held-out patients against steps and against seconds in this notebook: " + "; ".join(
             f"{name} ends at {run.metrics['dice']:.2f}" for name, run in runs.items()) + ".")  # fmt: skip

# %% [markdown]
# A minute is short, and two held-out patients are few. **Recorded reference runs** are longer: each of the three trained once for a quarter of an hour of computing on one core (steps alone; the minutes printed below are by the clock, looks included), with small networks as in this notebook, two cubes of 64³ a step (64x64x48 for the U-Net), on phantoms of normal difficulty at 2 mm (32 to
# train on, 8 held out). Then each was tried *zero-shot* on real scans: it had never seen one. **Guess: does the order of the live runs hold, and does it hold on real scans?**

# %%
RECORDED, NOT_YET = reference_runs(), "not recorded yet"
RECORDS = {name: RECORDED[f"swin_{file}"] for name, file in NAMES.items() if f"swin_{file}" in RECORDED}


def in_words(values):
    return "{mean:.2f} ({low:.2f} to {high:.2f})".format(**values) if values else NOT_YET


longer = {}
for place, word in (("phantoms", "held-out phantoms"), ("real", "real scans")):
    for name in NAMES:
        means = RECORDS[name].summary.get(place, {}) if name in RECORDS else {}
        longer[f"{name}: {word}"] = {region: in_words(means.get(region)) for region in ("WT", "TC", "ET")}
pd.DataFrame(longer).T.style.set_uuid("longer")

# %% [markdown]
# In brackets stands a 95 % bootstrap interval of the mean: how much it moves when the patients are drawn anew (notebook 07). The table is of all eight held-out patients; the curves are of two of them, at which the runs looked while they trained. Here are the two sides of the question again, at equal time and step by step, and how the runs were made:

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.0), sharey=True)
for name, record in RECORDS.items():
    h = record.history
    curve(left, name, h["step"] * record.environment["budget"]["step_seconds"] / 60, h["dice"])
    curve(right, name, h["step"], h["dice"])
left.set(xlabel="minutes of computing, one core", ylabel="mean Dice, held out", ylim=(0, 1))
right.set(xlabel="steps", xscale="log")
right.set_xticks([30, 100, 300, 1000, 3000], ["30", "100", "300", "1,000", "3,000"])
right.minorticks_off()
ends = [f"{name} ends at {record.metrics['dice']:.2f} after {record.metrics['steps']:,} steps" for name, record in RECORDS.items()]  # fmt: skip
if ends:
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
figures.show(
    figure,
    f"Mean Dice of the recorded runs against computing time and against steps: {'; '.join(ends) or NOT_YET}.",
)
for name, record in RECORDS.items():
    print(textwrap.fill(f"{name}: {record.made}", 110, subsequent_indent="  "))

# %% [markdown]
# Patient by patient, as notebook 07 does it: by how much is the U-Net ahead of each Swin-UNETR at equal time, and could that be chance? $p$ is the chance of so large a difference if the two were equally good (Wilcoxon), corrected for asking about five regions, of which three are shown (Holm). With eight patients it cannot fall below .04. The interval is not corrected, and one patient can pull it: where nothing enhances, finding nothing scores 1 and a single false voxel 0. Where interval and $p$ disagree, say that eight patients do not decide.

# %%
ahead = RECORDS["Residual U-Net"].summary.get("ahead of", {}) if "Residual U-Net" in RECORDS else {}
gaps = {}
for name, stem in (("Swin-UNETR, course", "swin_course_swin"), ("Swin-UNETR, R0", "swin_r0_swin")):
    for place, word in (("phantoms", "phantoms"), ("real", "real scans")):
        found = ahead.get(stem, {}).get(place, {})
        gaps[f"ahead of {name}: {word}"] = {
            r: "{difference:+.2f} ({low:+.2f} to {high:+.2f}), p {p_holm:.2f}".format(**found[r])
            if r in found
            else NOT_YET
            for r in ("WT", "TC", "ET")
        }
pd.DataFrame(gaps).T.style.set_uuid("gaps")

# %% [markdown]
# What of it is the network, and what the recipe? Two of the three share a network, and two nearly share a recipe:

# %%
if len(RECORDS) == len(NAMES):
    score = {n: np.mean([r.summary["phantoms"][region]["mean"] for region in REGIONS]) for n, r in RECORDS.items()}
    made = {name: record.metrics["steps"] for name, record in RECORDS.items()}
    other, swin, r0 = "Residual U-Net", "Swin-UNETR, course", "Swin-UNETR, R0"
    print("mean Dice over WT, TC and ET, held-out phantoms:")
    print(f"the course's recipe instead of R0's, same network: {score[swin] - score[r0]:+.2f}")
    print(f"the U-Net instead of Swin-UNETR, nearly the same recipe: {score[other] - score[swin]:+.2f}")
    print(f"in the same time the U-Net made {made[other]:,} steps, Swin-UNETR {made[swin]:,}")

# %% [markdown]
# **Answer.** A step of the U-Net costs a fraction of a step of the transformer, and that weighs heavily at equal time. At equal steps the live two are closer (the recorded U-Net was first looked at after more steps than Swin-UNETR made in all). And a recipe is worth about as much as a network: whoever compares a new network under a good recipe with an old one under a poor recipe measures the recipe. R0's begins slowly, with soft Dice
# alone on sigmoids that start at one half everywhere, and here at a lower rate (which of these costs most was not measured). R0's own training took eleven hours, looks not counted, on cubes eight times as large, and reached .77: its recipe works, given time; in minutes it is slow.
#
# R0's curve lies lower than its row of the table, and would for the same patients. It looks at whole scans with all the empty space around the head, and scores each region by itself; for the table a prediction is made in the brain's box, and TC is kept inside WT, ET inside TC, which takes most of its false alarms away.
#
# On real scans the order is the same and all three lose: they were trained on phantoms only, and eight patients leave the intervals wide. Nothing here says which network is better after a week on a GPU with a thousand patients: there, comparisons with the same care for both sides find them close to each other on brain tumours (Isensee and others, below).

# %% [markdown]
# **And pre-training?** Transformers are often taught first on images without labels: cubes are hidden, and the network fills them in. A fourth recorded run spent half of the same time so, on phantoms that nobody had labelled, and only the other half on segmentation, with half as many steps. **Guess: did the half that saw no label pay?**

# %%
filled = RECORDED.get("swin_course_swin_masked")
gains = filled.summary.get("ahead of", {}).get("swin_course_swin", {}) if filled else {}
pretrained = {}
for place, word in (("phantoms", "held-out phantoms"), ("real", "real scans")):
    means, gain = filled.summary.get(place, {}) if filled else {}, gains.get(place, {})
    for r in ("WT", "TC", "ET"):
        change = "{difference:+.2f} ({low:+.2f} to {high:+.2f})".format(**gain[r]) if r in gain else NOT_YET
        pretrained[f"{word}: {r}"] = {"filled in first": in_words(means.get(r)), "against no pre-training": change}
pd.DataFrame(pretrained).T.style.set_uuid("pretrained")

# %% [markdown]
# **Answer.** Read the second column: an interval that lies below 0 suggests that the time was better spent with labels, one above 0 that filling in paid, one around 0 that eight patients cannot tell. In a quarter of an hour on a core, with every training case labelled, the steps that were given up teach more than the hidden cubes. That is no verdict on the idea: Tang and others had thousands of scans without labels, and few with.

# %%
quiz("fair-swin")

# %% [markdown]
# ## 7 Attention, drawn back on the brain
# **Question: where does a token in the tumour take its content from?** MONAI computes the attention and drops it; the course's wrapper keeps it. We ask the trained network about the token in the middle of the tumour (the white square), one picture for each of the first blocks, mean over heads: yellow where it takes most, dark where least; each picture has its own scale.

# %%
maps = trained.cpu().attention_maps(torch.tensor(cube)[None])
asked_voxel = (
    np.array([int(v) for v in np.argwhere(cube_label[2] > 0).mean(0)])
    if cube_label[2].any()
    else np.array([SIDE // 2] * 3)
)
figure, grid = plt.subplots(1, 4, figsize=(9.2, 2.7))
for axes, one in zip(grid, maps[:4], strict=True):
    size = SIDE // one.size[0]
    token = [min(int(v) // size, n - 1) for v, n in zip(asked_voxel, one.size, strict=True)]
    heat = one.seen_from(token).mean(0).numpy()
    big = heat[..., token[2]].repeat(size, 0).repeat(size, 1)
    draw(axes, flair, [], int(asked_voxel[2]), f"stage {one.stage}, block {one.block + 1}: at most {heat.max():.1%}")
    axes.imshow(
        np.ma.masked_equal(big, 0).T, cmap=plt.get_cmap("viridis", 16), alpha=0.6, interpolation="nearest", vmin=0
    )
    corner = (token[0] * size - 0.5, token[1] * size - 0.5)
    axes.add_patch(plt.Rectangle(corner, size, size, fill=False, edgecolor="white", linewidth=1.4))
figures.show(figure, "A FLAIR slice four times with the attention of one tumour token over it: a window of 14 voxels, the same moved, and two windows of "
             "28 voxels a stage later, a white square on the token that asks.")  # fmt: skip

# %% [markdown]
# Which tokens are asked for most? The share that each token receives in the second stage; 1 is an equal share.

# %%
received = maps[2].received().numpy()
size = SIDE // maps[2].size[0]
inside = F.avg_pool3d(torch.tensor(cube_label[2:3]).float()[None], size)[0, 0].numpy() > 0.5
brain = F.avg_pool3d(torch.tensor((cube != 0).any(0)[None]).float()[None], size)[0, 0].numpy() > 0.5
for name, where in (("tumour", inside), ("other brain", brain & ~inside), ("outside", ~brain)):
    if where.any():
        print(f"{name:12} {where.sum():5d} tokens, receive {received[where].mean():.2f} of an equal share")

# %% [markdown]
# **Answer.** From its window, and there mostly an even mixture: the largest weight is close to 1 in 343 where nothing has specialised. No tissue is asked for much more than another, either: compare the shares with 1. A minute of training is short for that. A picture of attention is a fact about the network, not a reason for its answer (notebook 03).

# %%
quiz("attention-window")

# %% [markdown]
# ## Bug lab 2: full rate from the first step (R0)
# R0 trains with AdamW at a rate of 0.001 from the first step on. Transformers are usually warmed up. **Guess: by how much of its size does a weight change in the first step?**
#
# **Watch it.** The first steps from the same weights on the same cubes, with R0's loss, without and with warm-up. *How far* is the mean change of a table of position biases, relative to its size at the start.


# %%
def first_steps(warmup, steps=4 if setup.profile.quick else 40):
    """Losses and how far the first table has moved, step by step, at R0's rate."""
    torch.manual_seed(setup.seed)
    network, loss_of = build("swin_unetr", feature_size=12), losses.build("dice")
    schedule = schedules.build("constant", warmup=warmup)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    table = network.network.swinViT.layers1[0].blocks[0].attn.relative_position_bias_table
    start, found, began = table.detach().clone(), [], time.process_time()
    for step in range(steps):
        batch = source.train.batch([step])
        optimiser.param_groups[0]["lr"] = 1e-3 * schedule.factor(step, steps, steps)
        loss = loss_of(network(batch["image"].float()), batch["label"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append((float(loss.detach()), float((table.detach() - start).abs().mean() / start.abs().mean())))
    return np.array(found), (time.process_time() - began) / steps


early, step_seconds = {}, {}
for name, warmup in (("from the first step (R0)", 0.0), ("with warm-up", 0.9)):
    early[name], step_seconds[name] = first_steps(warmup)

# %% [markdown]
# Both, step by step:

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.7))
for name, values in early.items():
    left.plot(range(1, len(values) + 1), values[:, 0], marker="o", markersize=3, label=name)
    right.plot(range(1, len(values) + 1), 100 * values[:, 1], marker="o", markersize=3, label=name)
left.set(xlabel="step", ylabel="Dice loss of the step's cube")
right.set(xlabel="step", ylabel="table's change, % of its size")
for axes in (left, right):
    axes.xaxis.get_major_locator().set_params(integer=True)
right.legend(fontsize=8)
figures.show(figure, "Left the loss of the first steps without and with warm-up; right how far a table of biases has moved: " + ", ".join(
             f"{values[0, 1]:.1%} of its size after one step {name}" for name, values in early.items()) + ".")  # fmt: skip

# %% [markdown]
# **Find it.** Adam divides the gradient's mean by the root of its mean square. At the first step both come from one gradient $g$: $g/\sqrt{g^2}=\pm1$. A weight moves by the whole rate, however little its gradient says, unless that is smaller than the $10^{-8}$ which Adam adds
# below the line. Many biases of a table belong to pairs that hardly matter yet and stay; the others move at full length, in a direction that comes from a single cube.
#
# **Mend it, see the gain.** The warmed-up network goes the same way in smaller steps while Adam collects its averages. What the loss shows after so few steps is noise: whether the full rate *costs* anything is a question for long runs. At the small
# size of this notebook a network usually survives it; larger and deeper ones diverge more easily, which is why warm-up is a habit. R0 went well enough to reach .77; we do not know what it would have reached.
#
# ## Bug lab 3: an enhancing part better than its core (R0)
# R0 states, for its last epoch, validation Dice of WT .8166, ET .7787 and TC .7353. ET lies inside TC, is smaller, thinner and harder; in most tables of the field TC is above ET. **That may be right, or it may be the sign of a mistake. How would you find out?**
#
# **Watch it.** We make predictions with known mistakes from the truth and score them by patient: all outlines shifted by a voxel or two; dead tissue in the core not recognised; the names of two channels exchanged.


# %%
labels = {case.id: case.label() for case in cases}
schemes = {case.id: case.scheme for case in cases}


def regions_of(name, mask):
    return {region: schemes[name].region(mask, region) for region in REGIONS}


def core_missed(mask, scheme):
    """Dead tissue taken for oedema."""
    number = {tissue: value for value, tissue in scheme.tissues.items()}
    return perturb.relabel(mask, number["NETC"], number["SNFH"])


truths = {name: regions_of(name, volume.data) for name, volume in labels.items()}
shifted = {name: regions_of(name, perturb.shift(volume.data, (2, 1, 0))) for name, volume in labels.items()}
missed = {name: regions_of(name, core_missed(labels[name].data, schemes[name])) for name in labels}
swapped = {name: {"ET": found["TC"], "TC": found["ET"], "WT": found["WT"]} for name, found in shifted.items()}

# %% [markdown]
# A fourth suspect is the way of averaging. Who validates on random cubes and takes the mean over *cubes*, with 1 where truth and prediction are both empty ("empty truths handled"), gives points for cubes that hold nothing to find. ET is empty most often.


# %%
def counts_of(names, predicted, side=None, cubes=20):
    """{region: [(patient, counts), ...]} of whole patients, or of random cubes."""
    rows = {region: [] for region in REGIONS}
    for name in names:
        shape, rng = truths[name]["WT"].shape, setup.rng("cubes", name)
        for _ in range(cubes if side else 1):
            at = [
                slice(a, a + side) if side else slice(None)
                for a in (int(rng.integers(max(n - (side or n), 0) + 1)) for n in shape)
            ]
            for region in REGIONS:
                rows[region].append(
                    (name, voxel.count(truths[name][region][tuple(at)], predicted[name][region][tuple(at)]))
                )
    return rows


# %% [markdown]
# The suspects, and R0's line below them:


# %%
def mean_dice(rows):
    return {region: float(np.mean([c.dice for _, c in found])) for region, found in rows.items()}


CUBE = 32 if min(cases[0].images().spacing) > 1.5 else 64
suspects = {"shifted outlines": mean_dice(counts_of(labels, shifted)), "the same, mean over cubes": mean_dice(counts_of(labels, shifted, CUBE)),
            "core not recognised": mean_dice(counts_of(labels, missed)), "ET and TC exchanged": mean_dice(counts_of(labels, swapped)),
            "R0 states": {"ET": 0.7787, "TC": 0.7353, "WT": 0.8166}}  # fmt: skip
lab = pd.DataFrame(suspects).T
lab["ET minus TC"] = lab["ET"] - lab["TC"]
lab.style.format("{:.3f}").format("{:+.3f}", subset=["ET minus TC"]).set_uuid("suspects")

# %% [markdown]
# Plainly shifted outlines leave TC above ET, as expected. Averaging over cubes lifts ET against TC without a single voxel being better. A core that is not recognised leaves ET untouched and ruins TC. Exchanged names ruin both, and about equally: an ET that is far too large, a TC far too small.
#
# **Find it.** Exchanged names give, with perfect outlines, 2 ET / (ET + TC) for both regions: little where much of the core does not enhance, as in these phantoms, and much where nearly all of it does. So R0's two numbers do not rule them out. Between this, the other suspects, and a network that is simply better at rims than at what lies inside them, one table cannot tell. Three looks could: the Dice of each patient, pooled; the predicted volumes of ET and TC (an ET larger than its TC gives exchanged names away at once); and one picture.
#
# **Mend it.** Write the mean over *patients*: for each patient, add up the counts of its cubes first, then take the Dice. It is 1 only where there was nothing to find **and** nothing was found; with false alarms alone it is 0.
#
# <details><summary>Hint</summary>
#
# Collect `tp`, `fp` and `fn` for each patient in a dictionary. The Dice is 2 tp / (2 tp + fp + fn), and 1 if that denominator is 0.
# </details>


# %% tags=["exercise"]
def patient_dice(rows):
    """Rows of (patient, tp, fp, fn), one a cube, to the mean over patients of their pooled Dice."""
    # BEGIN SOLUTION: sums by patient, a Dice each, the mean
    # BLANK: return ...
    totals = {}
    for name, *found in rows:
        totals[name] = [a + b for a, b in zip(totals.get(name, (0, 0, 0)), found, strict=True)]
    scores = [2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0 for tp, fp, fn in totals.values()]
    return sum(scores) / len(scores)
    # END SOLUTION


pooled = check.patient_dice(patient_dice)
pooled

# %% [markdown]
# **See the gain.** The same cubes, averaged both ways:

# %%
cubes = counts_of(labels, shifted, CUBE)
both = {"mean over cubes": mean_dice(cubes)}
if pooled:
    both["pooled by patient"] = {
        r: patient_dice([(n, c.tp, c.fp, c.fn) for n, c in found]) for r, found in cubes.items()
    }
both["whole patients"] = suspects["shifted outlines"]
pd.DataFrame(both).T.style.format("{:.3f}").set_uuid("pooled")

# %% [markdown]
# And a question about R0's table:

# %%
quiz("et-above-tc")

# %% [markdown]
# ## Bug lab 4: validation takes a quarter of the time (R0)
# **Watch it.** R0 states 3,922.85 s to train an epoch and 1,106.12 s to validate. Validation has a quarter as many patients as training (.2 against .8), and needs no way back, which is about two thirds of a step. **Guess what share of the training time it should take.**

# %%
TRAIN_S, VALIDATE_S = 3922.85, 1106.12
voxels = 240 * 240 * 155 / 128**3
expected = 0.2 / 0.8 / 3
print(
    f"stated:   validation takes {VALIDATE_S / TRAIN_S:.0%} of the training's time, {VALIDATE_S / (TRAIN_S + VALIDATE_S):.0%} of the whole epoch"
)
print(
    f"expected: {expected:.0%} for cubes of 128³; {expected * voxels:.0%} for whole scans of 240x240x155, which are {voxels:.1f} cubes"
)

# %% [markdown]
# **Find it.** The stated time lies between: cubes alone would be far quicker, whole scans slower. Whole scans cut to the brain, or windows over them, would fit; R0 does not say. So it is no mistake in itself, but more than a fifth of the GPU's time went into looking. And here, with this notebook's network?

# %%
began = time.process_time()
for batch in source.validation:
    predict(trained, batch["image"])
looked = (time.process_time() - began) / len(held_out)
one_step = step_seconds["with warm-up"]
share = len(held_out) * looked / (len(held_out) * looked + len(train_cases) * one_step)
print(f"computing time: {looked:.1f} s to look at a whole patient, {one_step:.1f} s for a step on one cube")
print(f"one cube of each training patient, then a look at all held-out ones: looking takes {share:.0%} of it")

# %% [markdown]
# **Mend it, see the gain.** Validate whole patients, but not after every epoch. R0's ten epochs bear a look after every second one; hundreds of epochs bear one in five or ten. The price: the best epoch may lie between two looks, which costs little where the curve has flattened. What it saves:

# %%
every = pd.DataFrame(
    {
        f"every {k} epochs": {
            "this notebook's network": share / (share + k * (1 - share)),
            "R0": VALIDATE_S / (VALIDATE_S + k * TRAIN_S),
        }
        for k in (1, 2, 5, 10)
    }
)
every.T.style.format("{:.0%}").set_uuid("every")

# %% [markdown]
# ## What this run showed
# All of it measured above, in this run:

# %%
found = [
    ("whole tumour, course's recipe, first and last epoch", f"{first:.2f}, {last:.2f}"),
    ("parameters, counted and stated", f"{counted:,} and {STATED:,}"),
    ("settings tried, exact hits", f"{tried:,}, {sum(off == 0 for off, _ in closest)}"),
    ("activations, 128³ against 64³", f"{forecasts['128³, feature size 48']['activations'] / forecasts['64³, feature size 48']['activations']:.1f} times"),
    *((f"Residual U-Net minus Swin-UNETR at equal {row['equal']}", f"{row['difference']:+.3f}") for row in fair),
    ("first step without warm-up moves the bias table by", f"{early['from the first step (R0)'][0, 1]:.1%} of its size"),
    ("mean over cubes instead of patients lifts ET against TC by", f"{lab.loc['the same, mean over cubes', 'ET minus TC'] - lab.loc['shifted outlines', 'ET minus TC']:+.3f}"),
]  # fmt: skip
pd.DataFrame(found, columns=["what", "measured"]).set_index("what").style.set_uuid("found").set_properties(
    **{"text-align": "left"}
)

# %% [markdown]
# ## When it goes wrong
# | you see | look at |
# |---|---|
# | `Expected more than 1 spatial element when training` | a patch of 32 voxels: MONAI's coarsest grid is one voxel, and instance norm of one voxel is no number. The course's wrapper fills up to 64 |
# | out of memory in the first step | the patch before the network: half the side is an eighth of the activations; then `network.checkpoint = true`, then `engine.accumulate` |
# | the gradient is inf in bf16 on a CPU, and not always | a 3x3x3 convolution on a grid 2 deep (patches of 64): PyTorch 2.13 returns what happened to lie in memory. The course's engine notices such a grid and computes in 32 bits |
# | the loss stays where it began | the rate or the warm-up: print the rate of each step; sigmoid outputs begin at one half everywhere, and Dice alone moves them slowly |
# | the loss jumps up and never returns | full rate from the first step: warm up, clip, lower the rate |
# | a grid of squares in the prediction | windows that were never moved (`shift` 0 in all blocks), or patches cut and joined in different orders |
# | the two ends of the scan influence each other | the mask is missing: rolled windows without it |
# | good at 128, worse at 96 | the last stage's window shrinks and uses other biases (section 2) |
# | TC below ET | the table of bug lab 3: channels, averaging, or a core that is not found |
# | a parameter count that differs from the paper's | settings, library version, outputs; print the count of the network that is trained |
# | an epoch takes longer than its steps | validation (bug lab 4), or reading: see notebook 02's cache |
#
# ## Words of this notebook
# **token**: a vector that stands for a patch of the scan. **window**: the tokens that may attend to each other. **shifted window**: the same, moved by half a window. **roll**: moving a volume around its ends. **mask**: what is added to a score so that two tokens do not see each
# other. **relative position bias**: a learned number for how two tokens lie to each other. **merging**: eight neighbouring tokens become one. **stage**: two blocks and a merging. **block**: attention and an MLP, each around a shortcut. **receptive field**: the voxels that can change
# a token. **feature size**: numbers of a token in the first stage. **activations**: what is kept on the way forward for the way back. **checkpointing**: keeping less and computing it again. **warm-up**: a rate that rises in the first steps. **on paper, meta device**: shapes
# without numbers. **recipe**: the file that decides a training. **step**: one change of all weights. **slow weights**: a moving average of the weights, which is what is scored. **clip**: shortening a gradient that is too long. **zero-shot**: tried on a kind of scans that the training had none of. **pre-training**: learning something else first. **held out**: never seen in training. **WT, TC, ET**: whole tumour, tumour core, enhancing tumour.
#
# ## Read on
# - Liu Z. et al., Swin Transformer: hierarchical vision transformer using shifted windows, ICCV 2021, arXiv 2103.14030.
# - Hatamizadeh A. et al., Swin UNETR: Swin transformers for semantic segmentation of brain tumors in MRI images, BrainLes 2021, arXiv 2201.01266: R0's network, trained by its authors for 800 epochs with warm-up.
# - Tang Y. et al., Self-supervised pre-training of Swin transformers for 3D medical image analysis, CVPR 2022, arXiv 2111.14791.
# - Dosovitskiy A. et al., An image is worth 16x16 words, ICLR 2021, arXiv 2010.11929: attention over all patches.
# - Isensee F. et al., nnU-Net revisited: a call for rigorous validation in 3D medical image segmentation, MICCAI 2024, arXiv 2404.09556: what remains of such comparisons when both sides are given the same care.
#
# ## What to take along
# 1. Windows make attention affordable, moving them makes it connected, the mask keeps it honest, merging lets it see far.
# 2. Sixty lines can be checked against a library to the fifth decimal; then one may believe both.
# 3. A number that does not fit is a finding. Search for its cause, and say so when none is found.
# 4. Know the memory before the first step; the patch decides it.
# 5. "Better than a U-Net" needs the other half of the sentence: at what cost, and with whose recipe.
#
# Next, notebook 06 tries to make training data: a network that paints tumours, and an honest test of whether that helps.
