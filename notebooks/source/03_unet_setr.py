# %% [markdown]
# # 03 2D: a U-Net against a transformer on low-grade glioma
#
# **You will be able to**
# - follow a slice through a U-Net and through a transformer, shape by shape, and count their parameters by hand,
# - say what a patch, an embedding, a position and an attention map are, and draw them,
# - choose between Dice, cross-entropy, Combo and Focal loss, knowing what each does where there is no tumour,
# - train R2's four recipes and the course's, watch one slice being learned, and judge the probabilities and not only the masks,
# - say why accuracy, mean accuracy, IoU and Dice disagree, and what a network must beat before it has learned anything,
# - compare two architectures fairly, in three ways that need not agree,
# - find four mistakes that all ran without an error message.
#
# **Time:** {{time quick}} (quick), {{time full}} (full) · **Needs:** notebooks 01 and 02, or their glossaries; nothing is downloaded ·
# **Rebuilds:** R2
#
# Report R2 is one of the five student reports that this course rebuilds. It marked the FLAIR-bright part of low-grade gliomas slice by slice,
# with a small U-Net and with a *SETR*, a transformer for segmentation, and asked which one is better. Its code had mistakes, as all code has at first: they are kept here, named and
# measured. This is not a medical device.

# %% [markdown]
# ## Settings
# `lgg_dir` is a folder of slices in the layout of the Kaggle LGG data set (110 patients of the Cancer Genome Atlas). Left empty, the course makes phantoms in that
# layout: a real average brain, deformed anew for each patient, in which a tumour was grown.

# %% tags=["parameters"]
profile = "quick"
lgg_dir = ""
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

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from brainseg_utils import course
from brainseg_utils.course.threads import set_threads

setup = course.begin("03", profile=profile, data_dir=lgg_dir, layout="lgg", output_dir=output_dir, seed=seed)
check, quiz = setup.check, setup.quiz
threads = set_threads()  # one or two, whichever trains faster on this machine now

# %% [markdown]
# What the notebook takes from the course's package, room by room: data, networks, training, prediction, scores, pictures.

# %%
from brainseg_utils.course.checkout import find_root
from brainseg_utils.course.reference import reference_runs
from brainseg_utils.datasets import splits
from brainseg_utils.datasets.cases import read_tiff
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.errors import SettingError
from brainseg_utils.evaluation import calibration, statistics, voxel
from brainseg_utils.inference.postprocess import keep_heavy
from brainseg_utils.inference.slices import SlicePredictor
from brainseg_utils.models.registry import count_parameters
from brainseg_utils.models.setr import SETR, Attention, Layer
from brainseg_utils.models.unet2d import UNet2D
from brainseg_utils.pipeline.slices import Slices, SliceStream, Stack
from brainseg_utils.training import losses, train
from brainseg_utils.training import recipe as recipes
from brainseg_utils.training.data import Sources
from brainseg_utils.training.loop import fit
from brainseg_utils.training.run import Run
from brainseg_utils.views import draw, figures, palette, png
from brainseg_utils.views.frames import Frames
from brainseg_utils.views.widget import Picture

figures.use_style()

# %% [markdown]
# Networks are trained on some patients and judged on others (notebook 01 measured why). *Held out* are the patients that no network here has seen in
# training. Patients of the course's own list are divided as that list says, so that live and recorded runs mean the same people.

# %%
cases = [case for case in find_cases(setup.data_dir) if case.mask_paths and all(case.mask_paths)]
known = json.loads((find_root() / "data" / "split.json").read_text(encoding="utf-8"))["lgg"]
if {case.id for case in cases} <= set(known["fold_of"]):
    fold_of = {case.id: known["fold_of"][case.id] for case in cases}
    subsets = {f"fold{n}": tuple(i for i, fold in fold_of.items() if fold == n) for n in range(known["folds"])}
    division = splits.Split(subsets, setup.seed)
else:
    division = splits.k_fold(cases, 5 if len(cases) >= 20 else 3, setup.seed)
held_out = [case for case in cases if case.id in division["fold0"]]
truths = {c.id: np.stack([read_tiff(p, channels=1) for p in c.mask_paths]) > 0 for c in held_out}
print(f"{len(cases)} patients: {len(cases) - len(held_out)} to train on, {len(held_out)} held out")

# %% [markdown]
# ## Where this ends
# A *recipe* is a file that decides everything about a training: data, network, loss, rate, length. The next cells train the course's recipe for
# these slices, and draw what it says about patients that it has never seen. By the end of the notebook you know each line of that file, and four recipes of R2
# have been trained beside it.
#
# One function does it for every recipe of this notebook. Slices are read once for all recipes that want them alike.


# %%
kept_sources, watched, film, live = {}, {}, {}, Picture()


def sources_of(chosen):
    key = json.dumps(chosen.data.options, sort_keys=True, default=str)
    if key not in kept_sources:
        kept_sources[key] = train.sources(chosen, *train.members(chosen, division, cases))
    return kept_sources[key]


def train_live(label, name, sources=None, **changes):
    """Trains a recipe under a name of its own; changes are written `budget__steps=240`."""
    dotted = {place.replace("__", "."): value for place, value in changes.items()}
    chosen = recipes.load(name, setup.profile.name, {"seed": setup.seed, **dotted})
    folder = setup.output_dir / "runs" / label
    shutil.rmtree(folder, ignore_errors=True)
    film[label] = []
    source = sources or sources_of(chosen)
    return fit(chosen, source, Run.begin(folder, chosen), lambda row, net, _: watch(label, source, row, net))


# %% [markdown]
# After every epoch (here a fixed number of steps) the training calls `watch`. It asks the network of that moment about one slice of one held-out patient, the slice with the most tumour,
# and keeps the probabilities: those will be the film. If you run this yourself, the picture below changes while the network learns.


# %%
def largest_slice(source):
    """The batch that holds the largest tumour of the held-out patients, cut to that slice."""
    batches = [b for b in source.validation if b["label"].any()]
    best = max(batches, key=lambda b: int(b["label"].sum((1, 2, 3)).max()))
    k = int(best["label"].sum((1, 2, 3)).argmax())
    return {"image": best["image"][k : k + 1], "label": best["label"][k, 0].numpy(), "case": best["case"][k]}


def probability_of(network, image):
    """(N, C, S, S) to (N, S, S) probabilities, without changing the network."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        return torch.sigmoid(network.eval()(image.to(device))[:, 0].float()).cpu().numpy()


def watch(label, source, row, network):
    slice_ = watched.setdefault(id(source), largest_slice(source))
    film[label].append((row, probability_of(network, slice_["image"])[0]))
    with live.hold_sync():
        live.alt = f"{label}, epoch {row['epoch']}"
        live.png = png.encode(panel(slice_, film[label][-1][1], live.alt))


# %% [markdown]
# One panel of the film: the slice in grey (FLAIR), the predicted probability in orange, in steps of a quarter, the truth as a white outline. Few shades keep the film small.

# %%
SIDE, SHADES = 192, 24  # pixels of a panel, greys
ORANGE = np.array(palette.style("tumour").rgb)


def flair_of(image):
    """The FLAIR channel of the middle slice in 0-255, rows by columns."""
    flair = image[0, (image.shape[1] // 3 // 2) * 3 + 1].float().numpy()
    low, high = np.percentile(flair, (1, 99.7))
    return np.round(((flair - low) / max(high - low, 1e-6)).clip(0, 1) * (SHADES - 1)) * 255 / (SHADES - 1)


def panel(slice_, probability, caption):
    """(H, W, 3) uint8 of one slice, probability and truth."""
    factor = max(1, SIDE // probability.shape[-1])
    shades = flair_of(slice_["image"]), np.round(4 * probability) / 4
    big = [np.repeat(np.repeat(x, factor, 0), factor, 1) for x in shades]
    picture = (big[0][..., None] * (1 - 0.6 * big[1][..., None]) + 0.6 * big[1][..., None] * ORANGE).astype(np.uint8)
    truth = np.pad(np.repeat(np.repeat(slice_["label"] > 0, factor, 0), factor, 1), 1)
    inner = truth[:-2, 1:-1] & truth[2:, 1:-1] & truth[1:-1, :-2] & truth[1:-1, 2:]
    picture[truth[1:-1, 1:-1] & ~inner] = 255
    canvas = np.zeros((picture.shape[0] + 22, picture.shape[1], 3), np.uint8)
    canvas[22:] = picture
    draw.write(canvas, caption, 11, 4, 12, "ml")
    return canvas


# %% [markdown]
# Now the course's recipe. In the quick profile it runs for a fixed number of steps at half the resolution; with real slices it gets almost three
# minutes, more pixels and its full width. (The picture below belongs to a running notebook, and is empty until the first epoch is done.)

# %%
REAL_QUICK = {"budget__seconds": 170.0, "budget__epoch_steps": 60, "data__size": 96,
              "network__widths": (24, 48, 96, 160, 224)}  # fmt: skip
longer = {} if setup.phantom or not setup.profile.quick else REAL_QUICK
live

# %% [markdown]
# The training itself, and how it ended:

# %%
runs = {"course U-Net": train_live("course U-Net", "course_lgg", **longer)}
metrics = runs["course U-Net"].metrics
print(f"{metrics['parameters']:,} parameters, {metrics['steps']} steps in {metrics['seconds']:.0f} s; "
      f"mean Dice on the held-out patients {metrics['dice']:.2f}")  # fmt: skip

# %% [markdown]
# Predictions are brought back to the files' own 256 pixels before anybody looks at them or scores them. Each picture shows the slice
# with the most tumour of one held-out patient.


# %%
def predict(label, flips=False):
    """Patient to (K, rows, columns) probabilities on the grid of the files."""
    predictor = SlicePredictor([runs[label].load()], flips)
    return {case.id: predictor(case).astype(np.float16) for case in held_out}


probabilities = {"course U-Net": predict("course U-Net")}

# %% [markdown]
# White is the truth, dashed orange the network's outline.


# %%
def show_outlines(axes, case, probability, name):
    k = int(truths[case.id].sum((1, 2)).argmax())
    flair = read_tiff(case.slice_paths[k], channels=3)[..., 1]
    axes.imshow(flair[::2, ::2], cmap=plt.get_cmap("gray", 32), interpolation="nearest")
    for mask, colour, dash in (
        (truths[case.id][k], "white", "-"),
        (probability[k] >= 0.5, palette.style("tumour").colour, "--"),
    ):
        if mask.any():
            axes.contour(mask[::2, ::2], [0.5], colors=colour, linestyles=dash, linewidths=1.4)
    axes.set_axis_off()
    axes.set_title(name, fontsize=8)


some = held_out[:4]
figure, row = plt.subplots(1, len(some), figsize=(2.0 * len(some), 2.2), squeeze=False)
for axes, case in zip(row[0], some, strict=True):
    show_outlines(axes, case, probabilities["course U-Net"][case.id], case.id[:12])
figures.show(figure, "FLAIR slices of held-out patients with the true outline of the tumour in white and the outline that the course's "
             "network predicts in dashed orange.")  # fmt: skip

# %% [markdown]
# Which patients did it get wrong, and how could one know without the white line? Both questions come back.
#
# ## 1 What is there to find?
# **Question: how much of a slice is tumour?** Guess a percentage before you run the cell. A slice has three *channels*, as a colour picture has red, green and blue: T1,
# FLAIR, and T1 with contrast agent (notebook 01).

# %%
masks = {c.id: np.stack([read_tiff(p, channels=1) for p in c.mask_paths]) > 0 for c in cases}
with_tumour = {name: mask.any((1, 2)) for name, mask in masks.items()}
SHARE = float(np.concatenate([m.ravel() for m in masks.values()]).mean())
INSIDE = float(np.concatenate([masks[n][with_tumour[n]].ravel() for n in masks]).mean())
slices = sum(map(len, masks.values()))
print(f"{slices} slices, {sum(w.sum() for w in with_tumour.values())} of them with tumour")
print(f"tumour: {SHARE:.2%} of all pixels, {INSIDE:.1%} of the pixels of slices with tumour")

# %% [markdown]
# The slice of the film, channel by channel, with its mask.

# %%
star = next(case for case in held_out if case.id == next(iter(watched.values()))["case"])
star_slice = int(truths[star.id].sum((1, 2)).argmax())
pixels = read_tiff(star.slice_paths[star_slice], channels=3)[::2, ::2]
figure, row = plt.subplots(1, 4, figsize=(7.6, 2.1))
for axes, picture, name in zip(row, [*np.moveaxis(pixels, 2, 0), truths[star.id][star_slice][::2, ::2]],
                               ["T1", "FLAIR", "T1 with contrast", "mask: tumour"], strict=True):  # fmt: skip
    axes.imshow(picture, cmap=plt.get_cmap("gray", 32), interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(name, fontsize=9)
figures.show(
    figure,
    "One slice in three channels, T1, FLAIR and T1 with contrast, and beside them its mask, white where tumour is.",
)

# %% [markdown]
# **Answer.** About a hundredth of all pixels. A network that learns nothing but "no tumour anywhere" is right in the other ninety-nine. Everything difficult in this notebook
# comes from that number.
#
# ## 2 The U-Net, line by line
# **Question: a mask needs to know *what* is there and *where* exactly. How can one network know both?** Here is what R2's U-Net does with a slice.

# %%
print(inspect.getsource(UNet2D.forward))

# %% [markdown]
# - `down1`: two *convolutions*. Each output pixel is a weighted sum of the 3x3 pixels around it, in all channels; the weights are the same everywhere. 64 such sums make 64 channels.
# - `pool` keeps the largest of each 2x2 pixels: half the size, so that the next 3x3 looks twice as far.
# - `bottom` sees most and knows least about where: its grid is four times coarser than the slice.
# - `up2`, `up1` double the size again (*transposed convolutions*: each pixel paints 2x2 new ones).
# - `torch.cat` lays the fine channels from the way down beside the coarse ones from below. That is the *skip connection*, and the answer to the question: what from below, where from the side.
# - `head` makes one number a pixel of 64, the *logit*. A *sigmoid* turns it into a probability: $p = 1/(1+e^{-x})$.
#
# A slice goes through, at R2's stated size. (`meta` is a device that computes shapes and nothing else, so that even large networks cost no time.)


# %% tags=["nbval-check-output"]
def walk(network, image):
    """Name, output shape and own parameters of each named part, in the order in which they are called."""
    rows, names = [], {part: name for name, part in network.named_children()}

    def note(part, inputs, output):
        rows.append((names[part], tuple(output.shape[1:]), count_parameters(part)))

    for part in names:
        part.register_forward_hook(note)
    network(image)
    return rows


with torch.device("meta"):
    stated_unet = UNet2D()
    for name, shape, count in walk(stated_unet, torch.empty(1, 3, 128, 128)):
        print(f"{name:7} {shape!s:15} {count:9,}")
print(f"{count_parameters(stated_unet):,} parameters in all")

# %% [markdown]
# **Your turn.** Where do these counts come from? A convolution has one weight for each input channel, each output channel and each pixel of its window,
# and one *bias* (a constant) for each output channel. Write it as a function.
#
# <details><summary>Hint</summary>
#
# A 3x3 window has 9 pixels. `down1` is a convolution from 3 to 64 channels followed by one from 64 to 64; the sum of both must be the number in the table.
# </details>


# %% tags=["exercise"]
def convolution_parameters(inputs, outputs, window):
    # BEGIN SOLUTION: weights and biases of a convolution with a window of `window` by `window` pixels
    # BLANK: return ...
    return inputs * outputs * window**2 + outputs
    # END SOLUTION


check.convolution_parameters(convolution_parameters)

# %% [markdown]
# **What does one output pixel see?** Its *receptive field*: the input pixels that can change it. It need not be calculated, it can be measured: the gradient
# of the middle output pixel is 0 wherever the input does not matter. Guess its width before you run the cell, for the U-Net and for the transformer of the next section.


# %%
def field(network, size=128):
    """How strongly each input pixel moves the middle output pixel, (size, size)."""
    torch.manual_seed(setup.seed)
    image = torch.rand(1, 3, size, size, requires_grad=True)
    network.eval()(image)[0, 0, size // 2, size // 2].backward()
    return image.grad[0].abs().sum(0).numpy()


torch.manual_seed(setup.seed)
seen = {"U-Net": field(UNet2D(width=8)), "SETR": field(SETR(dim=32, depth=2, heads=4, mlp=64, decoder=8, cuts=8))}
figure, row = plt.subplots(1, 2, figsize=(5.4, 2.6))
for axes, (name, gradient) in zip(row, seen.items(), strict=True):
    reach = np.flatnonzero(gradient.any(0))
    strength = np.log10(np.maximum(gradient / gradient.max(), 1e-6))
    axes.imshow(strength, cmap=plt.get_cmap("viridis", 32), vmin=-6, vmax=0, interpolation="nearest")
    axes.set(xticks=[], yticks=[], xlabel=f"{reach[-1] - reach[0] + 1} of 128 pixels wide")
    axes.grid(False)
    axes.set_title(name, fontsize=9)
figures.show(figure, "Which input pixels move the output pixel in the middle: in the U-Net a small bright square around it, in SETR "
             "all pixels, patch by patch.")  # fmt: skip

# %% [markdown]
# The U-Net of R2 decides about a pixel from a window of a third of the slice's width, brightest in the middle. It cannot compare left with right, or know at which height of the head it is.
# A transformer sees all from its first layer on. Does seeing more help? That is what R2 asked.
#
# ## 3 SETR, line by line
# **Question: a transformer reads a sentence of words. What are the words of a slice?** They are *patches*: the slice is cut into `cuts` by `cuts` squares.

# %%
figure, row = plt.subplots(1, 2, figsize=(5.4, 2.7))
for axes, cuts in zip(row, (4, 8), strict=True):
    patch = pixels.shape[0] // cuts
    axes.imshow(pixels[..., 1], cmap=plt.get_cmap("gray", 32), interpolation="nearest")
    axes.set_xticks(np.arange(0, 129, patch) - 0.5, [])
    axes.set_yticks(np.arange(0, 129, patch) - 0.5, [])
    axes.tick_params(length=0)
    axes.grid(color=palette.OKABE_ITO["sky blue"], alpha=1, linewidth=1)
    axes.set_axisbelow(False)
    axes.set_title(f"{cuts} cuts: {cuts**2} patches of {patch}x{patch} pixels", fontsize=8)
figures.show(
    figure,
    "The same slice with a grid over it: cut into 4 by 4 large patches on the left, into 8 by 8 small ones on the right.",
)

# %% [markdown]
# The first lines of the network make vectors of them:

# %%
print(inspect.getsource(SETR.tokens))

# %% [markdown]
# - The slice is cut and each patch's numbers (3 channels of 16x16 pixels: 768) are written one after the other.
# - `embed`, one matrix for all patches, turns them into 1,024 numbers: the patch's *embedding*, also called a *token*.
# - `positions` is added. Why? The next layers treat the tokens as a heap, without order. Each place has its own learned vector, so that a patch carries where it comes from.
#
# **Your turn.** The cutting is the line in which most home-made transformers go wrong: the numbers of a patch get mixed with those of its neighbours, and the network still trains, badly. Write
# it for one channel. Patches come row by row, and so do the pixels in each.
#
# <details><summary>Hint</summary>
#
# With `p = size // cuts`: reshape to `(cuts, p, cuts, p)`: which row of patches, which row in the patch, which column of patches, which column in the patch. Then bring
# the two numbers that name the patch to the front, with `transpose`, and only then flatten.
# </details>


# %% tags=["exercise"]
def to_patches(image, cuts):
    """(S, S) to (cuts * cuts, p * p) with p = S / cuts."""
    p = image.shape[0] // cuts
    # BEGIN SOLUTION: cut, bring the patch's row and column to the front, flatten
    # BLANK: return ...
    return image.reshape(cuts, p, cuts, p).transpose(0, 2, 1, 3).reshape(cuts * cuts, p * p)
    # END SOLUTION


check.to_patches(to_patches)

# %% [markdown]
# Now the heart of it. In *attention*, each token asks a question (its *query*) and every token has a label (its *key*) and a content (its *value*). Where query and
# key agree, content flows:
#
# $$ \text{out}_i = \sum_j a_{ij}\, v_j \qquad a_{ij} = \frac{e^{q_i\cdot k_j/\sqrt{d}}}{\sum_m e^{q_i\cdot k_m/\sqrt{d}}} $$
#
# $q_i, k_j, v_j$ are vectors of $d$ numbers, made from token $i$ or $j$ by learned matrices; $a_{ij}$ is how much token $i$ takes from token $j$, and each row of $a$ adds up to 1. By hand, with three
# tokens and $d = 2$:

# %% tags=["nbval-check-output"]
query, key = np.array([2.0, 0.0]), np.array([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0]])
agreement = key @ query / math.sqrt(2)
weights = np.exp(agreement) / np.exp(agreement).sum()
print("agreement", agreement.round(2).tolist(), " attention", weights.round(3).tolist())

# %% [markdown]
# The package's version does the same for all tokens of all slices at once, in eight *heads* (eight independent attentions side by side, each on an eighth of the
# numbers). A *layer* is attention and a small network for each token (an *MLP*), each around a shortcut.

# %%
for part in (Attention.split, Attention.weights, Layer.forward):
    print(inspect.getsource(part))

# %% [markdown]
# `permute` and `transpose` decide along which axis attention runs. R2 noticed that without its `permute` the tokens of *different slices of the batch* attended to each other. Such a network trains and
# validates; its answer for one patient depends on who else is in the batch. One test tells, for any network: does a slice's output change with its neighbours?

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
small = SETR(size=64, cuts=8, dim=32, depth=2, heads=4, mlp=64, decoder=8).eval()
batch = torch.rand(2, 3, 64, 64)
changed = torch.stack([batch[0], torch.rand(3, 64, 64)])
with torch.no_grad():
    same = torch.allclose(small(batch)[0], small(changed)[0], atol=1e-5)
    tokens = small.tokens(batch[:1]) - small.positions  # without positions
    order = torch.randperm(64)
    heap = torch.allclose(small.layers[0](tokens)[:, order], small.layers[0](tokens[:, order]), atol=1e-5)
print(f"the first slice does not depend on the second: {same}")
print(f"without positions a layer treats tokens as a heap: {heap}")

# %% [markdown]
# Then the tokens are laid out as a small picture again and enlarged by transposed convolutions, each of which doubles it. A slice goes through, at R2's stated size with 8 cuts;
# `layers` (eight times 16 attention and MLP matrices) and positions are listed by hand.

# %% tags=["nbval-check-output"]
with torch.device("meta"):
    stated = {cuts: SETR(cuts=cuts, stages=4) for cuts in (4, 8)}
    image = torch.empty(1, 3, 128, 128)
    setr = stated[8]
    print(f"embed     {tuple(setr.tokens(image).shape[1:])}  {count_parameters(setr.embed):11,}")
    print(f"positions {tuple(setr.positions.shape[1:])}  {setr.positions.numel():11,}")
    print(f"8 layers  {tuple(setr.layers[0](setr.tokens(image)).shape[1:])}  {count_parameters(setr.layers):11,}")
    for name, shape, count in walk(setr, image)[-2:]:
        print(f"{name:9} {shape}  {count:11,}")
for cuts, network in stated.items():
    print(f"{cuts} cuts: {count_parameters(network):,} parameters")

# %% [markdown]
# Nearly forty times the U-Net's. **Guess why the network with fewer patches has more parameters**, then answer.

# %%
quiz("cuts-parameters")

# %% [markdown]
# ## 4 What a network is trained to make small
# **Question: with one tumour pixel in a hundred, what should a mistake cost?** The network says a probability $p$ for each pixel, the truth $t$ is 0 or 1. R2 used the first three of these, the fourth is used where
# one kind of pixel is rare:
#
# - **BCE**, binary cross-entropy: $-t\log p-(1-t)\log(1-p)$ for each pixel, then the mean. Pixels are judged one by one.
# - **Dice loss**: $1-\dfrac{2\sum pt}{\sum p+\sum t}$, one number for a whole slice. R2 calls it a pixel-level loss; it is not: what a pixel costs depends on all others.
# - **Combo**: $\alpha\cdot$BCE $+\,(1-\alpha)\cdot$Dice; R2 tried $\alpha=0.7$ and $\alpha=0.5$.
# - **Focal** loss: BCE in which a pixel that is nearly right counts little: $-(1-p)^\gamma\log p$ for $t=1$, and likewise for $t=0$.
#
# By hand, on four pixels of which one is tumour:

# %% tags=["nbval-check-output"]
p, t = np.array([0.6, 0.2, 0.1, 0.1]), np.array([1.0, 0.0, 0.0, 0.0])
bce_by_hand = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
dice_by_hand = 1 - 2 * (p * t).sum() / (p.sum() + t.sum())
logits, truth = (torch.tensor(x).reshape(1, 1, 4).float() for x in (np.log(p / (1 - p)), t))
for name, value, loss in (("BCE", bce_by_hand, losses.BCE()), ("Dice", dice_by_hand, losses.Dice())):
    print(f"{name}: by hand {value:.4f}, the package's {float(loss(logits, truth)):.4f}")
print(f"Combo 0.7: {0.7 * bce_by_hand + 0.3 * dice_by_hand:.4f}, {float(losses.combo(0.7)(logits, truth)):.4f}")

# %% [markdown]
# First one tumour pixel alone: how does its cost fall while its probability rises?

# %%
p_axis = np.linspace(0.005, 0.995, 199)
figure, axes = plt.subplots(figsize=(4.6, 2.7))
axes.plot(p_axis, -np.log(p_axis), label="BCE (Focal with $\\gamma=0$)")
for gamma in (1, 2, 5):
    axes.plot(p_axis, -((1 - p_axis) ** gamma) * np.log(p_axis), label=f"Focal, $\\gamma={gamma}$")
axes.set(xlabel="probability that the network gives a tumour pixel", ylabel="loss of the pixel", ylim=(0, 4))
axes.legend(fontsize=8)
figures.show(figure, "Loss of a single tumour pixel against its predicted probability: BCE falls from 4 to 0, Focal loss lies below it, "
             "the more so the larger gamma, and is almost 0 above one half.")  # fmt: skip

# %% [markdown]
# Now a whole slice with one per cent of tumour. Suppose the network gives all tumour pixels one probability and all others another one. Then the loss is a landscape over two numbers. Training starts in its middle
# (both one half) and walks downhill; the goal is the upper left corner (0 outside, 1 in the tumour). **Guess which landscape leads to the lower left corner first: nothing anywhere.**


# %%
GRID = np.linspace(-6, 6, 41)  # logits
PIXELS, RARE = 400, 4  # of a slice, and those of them that are tumour
rare = torch.zeros(1, 1, PIXELS)
rare[..., -RARE:] = 1


def landscape(loss):
    """Loss over (outside logit, tumour logit), and the way downhill of each kind of pixel."""
    pairs = torch.tensor(np.stack(np.meshgrid(GRID, GRID, indexing="ij"), -1).reshape(-1, 2), dtype=torch.float32)
    slices = torch.cat([pairs[:, :1].expand(-1, PIXELS - RARE), pairs[:, 1:].expand(-1, RARE)], 1)
    slices = slices.clone().requires_grad_()
    values = torch.vmap(lambda x: loss(x[None, None], rare))(slices)
    values.sum().backward()
    steps = torch.stack([-slices.grad[:, :-RARE].sum(1), -slices.grad[:, -RARE:].sum(1)], 1)
    return values.detach().reshape(41, 41).numpy(), steps.reshape(41, 41, 2).numpy()


# %% [markdown]
# Dark is low. Arrows show which way a step goes, all drawn equally long; the dot is the start, the star the goal. Both kinds of pixels count as often as they occur.


# %%
def draw_landscape(axes, loss, name):
    values, steps = landscape(loss)
    x, some = 1 / (1 + np.exp(-GRID)), slice(2, 41, 4)
    axes.contourf(x, x, values.T, levels=10, cmap="cividis")
    way = steps / np.maximum(np.linalg.norm(steps, axis=2, keepdims=True), 1e-12)
    places = np.meshgrid(x[some], x[some], indexing="ij")
    axes.quiver(*places, *np.moveaxis(way[some, some], 2, 0), color="white", scale=14, width=0.009)
    axes.plot(0.5, 0.5, "o", color=palette.OKABE_ITO["vermilion"], markersize=6)
    axes.plot(0.01, 0.99, "*", color=palette.OKABE_ITO["orange"], markersize=13, clip_on=False)
    axes.set(xlabel="p outside", xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.grid(False)
    axes.set_title(name, fontsize=9)


PARTS = {"BCE": losses.BCE(), "Combo 0.7": losses.combo(0.7), "Combo 0.5": losses.combo(0.5),
         "Dice": losses.Dice(), "Focal, gamma 2": losses.Focal(2.0)}  # fmt: skip
figure, row = plt.subplots(1, len(PARTS), figsize=(8.6, 2.2), sharey=True)
for axes, (name, loss) in zip(row, PARTS.items(), strict=True):
    draw_landscape(axes, loss, name)
row[0].set_ylabel("p in the tumour")
figures.show(figure, "Five landscapes over the probability outside and in the tumour, with arrows downhill: with BCE and Focal loss they "
             "point to the left, to nothing outside, with Dice loss also up, to full probability in the tumour.")  # fmt: skip

# %% [markdown]
# BCE and Focal loss walk left: as 99 of 100 pixels ask for a low probability, everything falls, and only then do the tumour's pixels get a hearing. Dice looks at the tumour from the first step. Combo lies between; move its weight:

# %%
ALPHAS = [round(alpha, 1) for alpha in np.linspace(0, 1, 11)]
drawn = []
for alpha in ALPHAS:
    figure, axes = plt.subplots(figsize=(3.2, 2.7))
    draw_landscape(axes, losses.combo(alpha), f"Combo, alpha {alpha}")
    axes.set_ylabel("p in the tumour")
    drawn.append(figures.pixels(figure))
about = [
    f"Loss landscape of Combo with alpha {alpha}: the larger alpha, the more the arrows point left." for alpha in ALPHAS
]
Frames(drawn, about, ALPHAS, "alpha", start=7)

# %% [markdown]
# ### Where there is no tumour
# More than half of all slices have an empty mask. **Guess: a slice without tumour, and the network claims a little of it everywhere. Which of the losses tells it to stop?** What tells it is the *gradient*: by how much each
# logit should fall. Here are loss and gradient, summed over a slice of 64x64 pixels without tumour, while the claimed probability gets smaller.


# %%
def at_empty(loss, p, size=64):
    """Loss, and the summed gradient of the logits, of an empty slice on which p is claimed everywhere."""
    logits = torch.full((1, 1, size, size), math.log(p / (1 - p)), requires_grad=True)
    value = loss(logits, torch.zeros(1, 1, size, size))
    value.backward()
    return float(value.detach()), float(logits.grad.sum())


claims = (0.5, 0.1, 0.01, 0.001)
rows = {
    name: {f"p = {p}": "{:.3f} | {:.0e}".format(*at_empty(loss, p)) for p in claims} for name, loss in PARTS.items()
}
pd.DataFrame(rows).T.rename_axis("loss | gradient")

# %% [markdown]
# **Answer.** BCE's gradient is the claimed probability itself: it tells the network to stop as long as it claims anything. Dice calls every claim, large or small, a total failure (loss 1), and has almost no gradient: all claims
# cost the same, so none is worth changing.
#
# R2's first recipe trains with Dice alone, slice by slice, on a set in which most slices are empty. **Guess which of two networks has the lower loss there**: one that outlines every tumour perfectly but leaves a thousandth of
# probability on all other pixels, or one that never finds anything and is quite sure of it?

# %%
empty = 1 - sum(w.sum() for w in with_tumour.values()) / slices
disc = ((torch.arange(64)[:, None] - 32) ** 2 + (torch.arange(64)[None] - 32) ** 2 < 60).float()[None, None]
found_it = float(losses.Dice()(torch.where(disc > 0, 12.0, math.log(0.001 / 0.999)), disc))
blank = torch.zeros_like(disc)
speck, silent = (float(losses.Dice()(torch.full_like(blank, x), blank)) for x in (math.log(0.001 / 0.999), -30.0))
print(f"perfect outlines, a thousandth elsewhere: {(1 - empty) * found_it + empty * speck:.2f}")
print(f"nothing anywhere, quite sure:             {(1 - empty) * 1 + empty * silent:.2f}")

# %% [markdown]
# The network that has learned nothing wins, by as much as there are more empty slices than others. A long training with this loss may fall into that hole at any time: a Dice of 0 from one epoch to the next, for good. The course's loss takes
# the Dice of a whole *batch* (which is hardly ever empty) together with BCE.

# %%
quiz("dice-empty")

# %% [markdown]
# ## 5 Four recipes of R2, and the course's
# **Question: same data, same U-Net, three losses, and a transformer. Which one wins, and how much of that is the loss?** What the recipe files say:

# %%
R2 = {
    "U-Net, Dice": "r2_unet_dice",
    "U-Net, Combo 0.7": "r2_unet_combo07",
    "U-Net, Combo 0.5": "r2_unet_combo05",
    "SETR, Dice": "r2_setr",
}
COURSE = {"course U-Net": "course_lgg", "course SETR": "course_setr"}


def stated_row(name, profile_name):
    r = recipes.load(name, profile_name)
    alpha = f" {r.loss.options['alpha']}" if "alpha" in r.loss.options else ""
    length = f"{r.budget.epochs:g} epochs" if r.budget.epochs else f"{r.budget.steps} steps"
    return {"network": r.network.name, "loss": r.loss.name + alpha, "pixels": r.data.options["size"], "batch": r.budget.batch,
            "optimiser": r.optimiser.name, "rate": r.optimiser.options["rate"], "length": length,
            "not in the report": ", ".join(r.unstated)}  # fmt: skip


both = {(kind, name): stated_row(recipe, kind) for kind in ("full", "quick") for name, recipe in (R2 | COURSE).items()}
pd.DataFrame(both).T.style.format({"rate": "{:g}"}).set_uuid("recipes").set_properties(**{"text-align": "left"})

# %% [markdown]
# The quick rows are what two cores can do in a minute or two: narrow networks, a quarter of the pixels, few steps, and rates that fit so short a run. Loss and network of R2's recipes differ as they do in the report. "not in the report" are the course's choices: R2 does not
# state its batch size, and held out slices, not patients (bug lab 3).
#
# **Guess an order of the four, by Dice on held-out patients, before you run the next cell.** Each training reports ten times on its way, and shows its slice here:

# %%
live

# %% [markdown]
# R2's four, then the course's transformer:

# %%
for name, recipe in (R2 | COURSE).items():
    if name not in runs:
        runs[name] = train_live(name, recipe)
histories = {name: run.history() for name, run in runs.items()}
facts = {name: {"parameters": run.metrics["parameters"], "steps": run.metrics["steps"], "seconds": round(run.metrics["seconds"]),
                "best epoch's Dice": histories[name]["dice"].max(), "last epoch's Dice": run.metrics["dice"]}
         for name, run in runs.items()}  # fmt: skip
pd.DataFrame(facts).T.style.format(
    {"parameters": "{:,.0f}", "steps": "{:.0f}", "seconds": "{:.0f}"}, precision=2
).set_uuid("live")

# %% [markdown]
# The Dice here is that of a patient's slices taken together, averaged over held-out patients. Choosing the best epoch on the patients one reports is cheating, if a small one: from here on the
# last epoch counts, as in R2.
#
# **Reference runs** are longer than a notebook can be: the same recipes at R2's stated width on the real slices, made once and kept with their command, machine and time. Where there is none yet, the picture says so.

# %%
RECORDED = reference_runs()
RECORDS = {name: "lgg_" + recipe for name, recipe in (R2 | COURSE).items()}
DASHES = dict(zip(RECORDS, ("-", "--", ":", "-.", "-", "--"), strict=True))
INKS = dict(zip(RECORDS, ("blue", "bluish green", "sky blue", "vermilion", "black", "reddish purple"), strict=True))


def draw_curve(axes, name, history, against):
    axes.plot(
        history[against], history["dice"], DASHES[name], color=palette.OKABE_ITO[INKS[name]], label=name, linewidth=1.6
    )


figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.3), sharey=True)
for name, history in histories.items():
    draw_curve(left, name, history, "step")
there = [name for name in RECORDS if RECORDS[name] in RECORDED and RECORDED[RECORDS[name]].history is not None]
for name in there:
    draw_curve(right, name, RECORDED[RECORDS[name]].history.assign(minutes=lambda h: h["seconds"] / 60), "minutes")
left.set(xlabel="training step", ylabel="Dice, held-out patients", title="live", ylim=(0, 1))
right.set(xlabel="minutes of training", title="recorded, real slices")
if not there:
    right.text(0.5, 0.5, "not recorded yet", transform=right.transAxes, ha="center")
figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
figures.show(figure, "Dice on held-out patients against training: left the live runs, " + ", ".join(
    f"{name} ends at {h['dice'].iloc[-1]:.2f}" for name, h in histories.items()) + f"; right {len(there)} recorded runs.")  # fmt: skip

# %% [markdown]
# How the recorded ones were made, or that they were not:

# %%
for name, record in RECORDS.items():
    print(
        textwrap.fill(
            f"{name}: {RECORDED[record].made if record in RECORDED else 'not recorded yet'}",
            110,
            subsequent_indent="  ",
        )
    )

# %% [markdown]
# What to look at in the live curves: the Combo runs stay at 0 for a long time before they rise. That is the walk to the left in the landscapes above: first nothing anywhere, then the tumour. A run that is stopped in
# that phase has an excellent accuracy, a falling loss, and has learned nothing.
#
# The course demands one thing of its quick profile, whatever the machine: the U-Net learns faster than the transformer, and both beat the baselines (section 8).

# %% tags=["nbval-check-output"]
CLEARLY = 0.05  # Dice
zero_dice = np.mean([voxel.count(t, np.zeros_like(t)).dice for t in truths.values()])
coin = setup.rng("coin")
random_dice = np.mean([voxel.count(t, coin.random(t.shape) < 0.5).dice for t in truths.values()])
ends = {name: history["dice"].iloc[-3:].mean() for name, history in histories.items()}
print(f"U-Net clearly ahead of SETR, same loss, same steps: {ends['U-Net, Dice'] > ends['SETR, Dice'] + CLEARLY}")
print(
    f"SETR clearly ahead of predicting nothing and of a coin: {ends['SETR, Dice'] > max(zero_dice, random_dice) + CLEARLY}"
)

# %% [markdown]
# ## 6 One slice, epoch by epoch
# **Question: in what order does a network learn?** R2 saved the prediction of one slice after every epoch and made a film of it. Here are four of the networks side by side. The same slice, the same number of epochs: where does each begin, what
# does each get right first, and does any of them still flicker at the end?

# %%
SHOWN = ("U-Net, Dice", "U-Net, Combo 0.5", "SETR, Dice", "course U-Net")
MOST = 24  # pictures of the film
length = max(len(film[name]) for name in SHOWN)
moments = sorted({int(moment) for moment in np.linspace(0, length - 1, min(length, MOST))})
pictures, about = [], []
for moment in moments:
    panels, words = [], []
    for name in SHOWN:
        row, p = film[name][min(moment, len(film[name]) - 1)]
        slice_ = watched[id(sources_of(runs[name].recipe))]
        panels.append(panel(slice_, p, f"{name}, epoch {row['epoch']}"))
        words.append(f"{name} gives the tumour a probability of {p[slice_['label'] > 0].mean():.2f} on average")
    height = max(x.shape[0] for x in panels)
    panels = [np.pad(x, ((0, height - x.shape[0]), (0, 4), (0, 0))) for x in panels]
    pictures.append(np.concatenate(panels, axis=1)[:, :-4])
    about.append("; ".join(words) + ".")
Frames(pictures, about, [moment + 1 for moment in moments], "epoch", film=True, start=len(moments) - 1)

# %% [markdown]
# The same as a strip, for paper: the first, an early, a middle and the last picture, one below the other.

# %%
few = sorted({0, len(moments) // 5, len(moments) // 2, len(moments) - 1})
strip = np.concatenate([pictures[number] for number in few])
listed = ", ".join(str(moments[number] + 1) for number in few)
figures.show(strip, f"Epochs {listed} of the film, one a row; in the columns {'; '.join(SHOWN)}.")

# %% [markdown]
# ## 7 Probabilities
# **Question: a network says 0.9. Is it right in nine of ten such pixels?** First look, then count. All networks predict the held-out patients, on the files' own grid.

# %%
for name in runs:
    if name not in probabilities:
        probabilities[name] = predict(name)
k = star_slice
figure, row = plt.subplots(1, len(runs), figsize=(8.6, 2.0))
for axes, name in zip(row, runs, strict=True):
    axes.imshow(pixels[..., 1], cmap=plt.get_cmap("gray", 32), interpolation="nearest")
    p = probabilities[name][star.id][k][::2, ::2].astype(float)
    shown = axes.imshow(
        np.ma.masked_less(p, 0.05),
        cmap=plt.get_cmap("viridis", 10),
        vmin=0,
        vmax=1,
        alpha=0.75,
        interpolation="nearest",
    )
    axes.contour(truths[star.id][k][::2, ::2], [0.5], colors="white", linewidths=1)
    axes.set_axis_off()
    axes.grid(False)
    axes.set_title(name, fontsize=7)
figure.colorbar(shown, ax=row, label="probability", shrink=0.7, aspect=12)
figures.show(
    figure,
    f"The probabilities of {len(runs)} networks over one slice, from dark blue for none to yellow for 1, with the true outline in white.",
)

# %% [markdown]
# Look at the edges: a network trained with Dice alone tends to jump from almost 0 to almost 1 within a pixel or two, one trained with cross-entropy fades. The transformer's edges follow its patches.
#
# Now count. A *reliability diagram* sorts pixels by the probability they were given and shows, for each class, how many of them are really tumour. On the diagonal, the network is *calibrated*. Nearly all pixels of a scan
# are far from any tumour and trivially right, so only those count here that some network gives 5 per cent or more, or that are tumour.


# %%
def flat(name):
    return np.concatenate([probabilities[name][c.id].ravel() for c in held_out]).astype(np.float32)


truth_flat = np.concatenate([truths[c.id].ravel() for c in held_out])
in_question = truth_flat | np.any([flat(name) >= 0.05 for name in runs], axis=0)
figure, axes = plt.subplots(figsize=(5.6, 3.4))
axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="-")
rows = {}
for name in runs:
    table = calibration.reliability(flat(name)[in_question], truth_flat[in_question])
    ink = palette.OKABE_ITO[INKS[name]]
    axes.plot(table["confidence"], table["frequency"], DASHES[name], marker="o", markersize=3, color=ink, label=name)
    everywhere = calibration.reliability(flat(name), truth_flat)
    unsure = ((flat(name) > 0.1) & (flat(name) < 0.9))[in_question].mean()
    rows[name] = calibration.calibration_error(table), calibration.calibration_error(everywhere), unsure
axes.set(xlabel="predicted probability", ylabel="share that is tumour", xlim=(0, 1), ylim=(0, 1))
axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
figures.show(figure, "Reliability: share of true tumour pixels against the predicted probability for each network, with the diagonal of a "
             "calibrated one.")  # fmt: skip

# %% [markdown]
# The *expected calibration error* is the mean distance from the diagonal. The last column is the share of these pixels between 0.1 and 0.9: how often the network admits doubt.

# %%
columns = ["calibration error, pixels in question", "all pixels", "between 0.1 and 0.9"]
pd.DataFrame(rows, index=columns).T.style.format(
    {columns[0]: "{:.3f}", columns[1]: "{:.4f}", columns[2]: "{:.0%}"}
).set_uuid("ece")

# %% [markdown]
# **Answer.** Not by itself. Cross-entropy is smallest when the probabilities are true ones, so it pulls towards the diagonal; Dice is served best by 0 and 1, even where nobody can know. These are pulls, and a network that was stopped early, or met
# other patients than in training, need not have followed them. And the error over *all* pixels flatters every network: the easy ones drown the rest.

# %%
quiz("dice-certainty")

# %% [markdown]
# ## 8 Before anything is learned: the baselines
# **Question: what does a coin score? And a network that always says "no tumour"?** R2 gives both, as marks that a network must pass: the coin an accuracy of 50% and an IoU of about 10%, the empty mask an accuracy of about 96% and an IoU
# of 0. Four scores come from the four counts of notebook 07, true and false positives and negatives:
#
# $$\text{accuracy}=\frac{TP+TN}{\text{all}}\quad\text{mean accuracy}=\frac12\Big(\frac{TP}{TP+FN}+\frac{TN}{TN+FP}\Big)\quad
# \text{IoU}=\frac{TP}{TP+FP+FN}\quad\text{Dice}=\frac{2\,TP}{2\,TP+FP+FN}$$

# %%
SCORES = {"accuracy": "accuracy", "mean accuracy": "mean_accuracy", "IoU": "iou", "Dice": "dice"}


def scores_of(masks_of):
    """One row a held-out patient: the four scores of a function from patient to mask."""
    counted = {c.id: voxel.count(truths[c.id], masks_of(c.id)) for c in held_out}
    return pd.DataFrame({n: {title: getattr(c, key) for title, key in SCORES.items()} for n, c in counted.items()}).T


coin = setup.rng("coin")
patients = {
    "nothing anywhere": scores_of(lambda n: np.zeros_like(truths[n])),
    "a coin for each pixel": scores_of(lambda n: coin.random(truths[n].shape) < 0.5),
    "tumour everywhere": scores_of(lambda n: np.ones_like(truths[n])),
}
baseline = pd.DataFrame({name: table.mean() for name, table in patients.items()}).T
baseline.loc["R2 states for nothing"] = [0.96, np.nan, 0.0, np.nan]
baseline.loc["R2 states for a coin"] = [0.50, np.nan, 0.10, np.nan]
baseline.style.format("{:.3f}", na_rep="-").set_uuid("baselines")

# %% [markdown]
# Look closer: R2's figures and the measured ones do not agree. Where tumour is a share $s$ of the pixels, the empty mask has an accuracy of $1-s$. A fair coin hits half of the tumour and half of the rest: $TP=s/2$, $FN=s/2$, $FP=(1-s)/2$.
#
# **Your turn.** How large would the share of tumour have to be for a coin's IoU of 10%?
#
# <details><summary>Hint</summary>
#
# Put the three counts into the formula of the IoU and simplify; it becomes s / (1 + s). Then solve for s. Give a share, not a percentage.
# </details>

# %% tags=["exercise"]
# BEGIN SOLUTION: the share of tumour pixels at which a fair coin has an IoU of 0.1
share_of_tumour = 0.1 / (1 - 0.1)
# END SOLUTION
check.coin_share(share_of_tumour)

# %% [markdown]
# Set beside what is measured here:

# %%
print(
    f"tumour is {SHARE:.2%} of all pixels: nothing anywhere scores {1 - SHARE:.1%}, a coin's IoU is {SHARE / (1 + SHARE):.1%}"
)
print(
    f"on slices with tumour only, {INSIDE:.1%}: nothing anywhere {1 - INSIDE:.1%}, a coin's IoU {INSIDE / (1 + INSIDE):.1%}"
)
print(f"an accuracy of 96% for nothing means a share of {1 - 0.96:.0%}")

# %% [markdown]
# The two stated baselines do not even fit each other, and neither fits all slices of the data set (tumour is about 1% of them on the 36 patients that the course's authors counted, and 2.8% of the pixels of slices with tumour). R2 does not say on what
# it counted. Whatever it was, an accuracy of "96%" in a results table is worth nothing before one knows this line.

# %%
quiz("accuracy-96")

# %% [markdown]
# ### The table
# Every network, every held-out patient, at a threshold of 0.5. The last row is the course's network as it is used: mirrored slices averaged, the package's threshold, and small unsure pieces dropped (notebook 07 tunes such rules; here they
# were fixed before, on real slices).

# %%
probability_flipped = predict("course U-Net", flips=True)
for name in runs:
    patients[name] = scores_of(lambda n, name=name: probabilities[name][n] >= 0.5)
patients["course U-Net, post-processed"] = scores_of(lambda n: keep_heavy(probability_flipped[n].astype(np.float32)))


def with_interval(name, score):
    """Mean over patients with its 95% interval, from drawing the patients again."""
    values = patients[name][score].to_numpy()
    low, high = statistics.bootstrap_interval(values, setup.rng("interval", name, score))
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


results = pd.DataFrame({name: {score: with_interval(name, score) for score in SCORES} for name in patients}).T
results.to_csv(setup.output_dir / "results.csv")
results

# %% [markdown]
# The patients one by one, sorted by the share of their pixels that is tumour:

# %%
by_size = sorted(held_out, key=lambda case: truths[case.id].mean())
figure, axes = plt.subplots(figsize=(6.4, 3.0))
for number, name in enumerate(runs):
    axes.plot(
        [patients[name].loc[c.id, "Dice"] for c in by_size],
        "os^Dv*"[number],
        color=palette.OKABE_ITO[INKS[name]],
        label=name,
        linestyle="none",
        alpha=0.85,
    )
areas = [f"{c.id[:12]}\n{truths[c.id].mean():.2%}" for c in by_size]
axes.set_xticks(range(len(by_size)), areas, fontsize=7, rotation=0 if len(by_size) < 6 else 30)
axes.set(ylabel="Dice", ylim=(-0.03, 1), xlabel="held-out patient, share of tumour")
axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
best = max(runs, key=lambda name: patients[name]["Dice"].mean())
figures.show(
    figure,
    f"Dice of each network in each held-out patient, small tumours left, large ones right. The best mean has {best}.",
)

# %% [markdown]
# ### Why do they disagree?
# **Guess**: of these networks, which score separates the best from the worst most clearly, and which hardly at all?

# %%
means = pd.DataFrame({name: patients[name].mean() for name in ("nothing anywhere", *runs)}).T
spread = (means.max() - means.min()).sort_values()
ranks = means.rank(ascending=False).astype(int)
print(
    "from the worst to the best row, the four scores differ by: "
    + ", ".join(f"{name} {value:.3f}" for name, value in spread.items())
)
ranks.style.set_caption("rank of each by each score, 1 is best").set_uuid("ranks")

# %% [markdown]
# - **Accuracy** counts the background: all rows look excellent. A network that finds half of the tumour and invents as much again can lose against nothing anywhere.
# - **Mean accuracy** weighs tumour and background equally: finding more is rewarded, inventing costs almost nothing, since it is divided by all the background.
# - **IoU** and **Dice** do not know the true negatives at all. For one mask they are the same information ($\text{IoU}=\text{Dice}/(2-\text{Dice})$), so they rank single masks alike; their means over patients need not.
#
# And the recorded runs, on real held-out patients, with the five folds of the course's own recipe in the last row:


# %%
def recorded_row(name):
    if name not in RECORDED:
        return {"Dice": "not recorded yet"}
    record = RECORDED[name]
    if record.scores is None:
        return {"Dice": f"{record.metrics['dice']:.3f}", "how": record.made}
    values = record.scores["dice"].to_numpy()
    low, high = statistics.bootstrap_interval(values, setup.rng("interval", name))
    return {"Dice": f"{values.mean():.3f} ({low:.3f} to {high:.3f})", "median": f"{np.median(values):.3f}",
            "patients": len(values), "how": record.made}  # fmt: skip


recorded = {
    name: recorded_row(record) for name, record in (RECORDS | {"course, 5 folds": "lgg_cross_validation"}).items()
}
pd.DataFrame(recorded).T.style.format(na_rep="").set_uuid("recorded").set_properties(
    **{"text-align": "left", "white-space": "normal"}
)

# %% [markdown]
# The five folds in all four scores. Choices (recipe, threshold, post-processing) were made by looking at some of the folds, and whoever chooses on a fold scores a little too well there: so the others stand apart.

# %%
if "lgg_cross_validation" in RECORDED:
    record = RECORDED["lgg_cross_validation"]
    chosen_on = record.scores["fold"].isin(record.environment["chosen_on_folds"])
    groups = {"all five folds": chosen_on | True, "folds chosen on": chosen_on, "the other folds": ~chosen_on}
    for name, group in groups.items():
        values = record.scores[group]
        told = ", ".join(
            f"{score} {values[score].mean():.3f}" for score in ("dice", "iou", "pixel_accuracy", "mean_accuracy")
        )
        print(f"{name} ({len(values)} patients): {told}; median Dice {values['dice'].median():.3f}")
else:
    print("not recorded yet")

# %% [markdown]
# For scale: Buda and others report a mean Dice of .82 on all 110 patients, each predicted by a network that had not seen it; with the weights that they published it is .836, the median .873. Two human readers agree at about .84.
#
# ## 9 What does the transformer look at?
# **Question: attention says which patch takes from which. Is that an explanation?** We ask the trained SETR about the patch with the most tumour (the square), layer by layer, all heads averaged.

# %%
setr_run = runs["SETR, Dice"].load().network.cpu().eval()
slice_ = watched[id(sources_of(runs["SETR, Dice"].recipe))]
maps = setr_run.attention_maps(slice_["image"].float())[:, 0]  # (layers, heads, patches, patches)
side = setr_run.patch
tumour_in_patch = F.avg_pool2d(torch.tensor(slice_["label"][None, None] > 0).float(), side).flatten()
asked = int(tumour_in_patch.argmax())
figure, row = plt.subplots(1, len(maps), figsize=(2.1 * min(len(maps), 8), 2.4))
for number, (axes, map_) in enumerate(zip(row, maps.mean(1)[:, asked], strict=True), 1):
    axes.imshow(flair_of(slice_["image"]), cmap=plt.get_cmap("gray", 32), interpolation="nearest")
    heat = np.kron(map_.reshape(setr_run.cuts, -1).numpy(), np.ones((side, side)))
    axes.imshow(heat, cmap=plt.get_cmap("viridis", 16), alpha=0.6, interpolation="nearest", vmin=0)
    corner = np.array(divmod(asked, setr_run.cuts))[::-1] * side - 0.5
    axes.add_patch(plt.Rectangle(corner, side, side, fill=False, edgecolor="white", linewidth=1.6))
    axes.set_axis_off()
    axes.grid(False)
    axes.set_title(f"layer {number}, most {map_.max():.0%}", fontsize=8)
figures.show(
    figure,
    "Where a tumour patch attends, one picture a layer, over the slice: from an almost even spread to single patches.",
)

# %% [markdown]
# How far does each head look? The mean distance, in patches, between a patch and those it takes from; even attention over all patches would give the last number.

# %%
grid = (
    torch.stack(torch.meshgrid(torch.arange(setr_run.cuts), torch.arange(setr_run.cuts), indexing="ij"), -1)
    .reshape(-1, 2)
    .float()
)
apart = torch.cdist(grid, grid)
reach = (maps * apart).sum(-1).mean(-1)  # (layers, heads)
table = pd.DataFrame(
    reach.numpy(),
    index=[f"layer {n + 1}" for n in range(len(maps))],
    columns=[f"head {n + 1}" for n in range(maps.shape[1])],
)
print(f"even attention: {apart.mean():.2f} patches")
table.round(2)

# %% [markdown]
# **Answer.** It is a fact about the network: from where content flows. It is not a reason. The values that flow may say nothing, the shortcut carries most of a token past the attention, and a network with other maps may predict the same.
# Where the distances stay near the even one, the heads have not specialised: a short training leaves them so.

# %%
quiz("attention-reason")

# %% [markdown]
# ## 10 Three fair comparisons
# **Question: U-Net against SETR: what must be equal for the comparison to be fair?** R2 trained its U-Net for 20 epochs and its SETR for 350, and writes that 300 epochs of SETR took six hours. Three answers are common:
#
# - **equal epochs**: both saw the same slices equally often,
# - **equal time**: both cost the same on this machine,
# - **equal parameters**: both are equally large. For that a second SETR is needed, about as small as our U-Net.
#
# **Guess the winner of each before you run the cell.**

# %%
target = runs["U-Net, Dice"].metrics["parameters"]
if setup.profile.quick:
    smaller = {"network__dim": 48, "network__mlp": 128, "network__heads": 4, "network__decoder": 24}
else:
    smaller = {"network__dim": 128, "network__mlp": 512, "network__heads": 8, "network__decoder": 64}
runs["small SETR"] = train_live("small SETR", "r2_setr", **smaller)
histories["small SETR"] = runs["small SETR"].history()
print(
    f"U-Net {target:,} parameters, SETR {runs['SETR, Dice'].metrics['parameters']:,}, small SETR {runs['small SETR'].metrics['parameters']:,}"
)

# %% [markdown]
# One epoch's Dice jumps, so each network is judged by the mean of the last three epochs up to the point of comparison.


# %%
def dice_at(name, column, limit):
    """Mean Dice of the last three epochs that ended by `limit`."""
    history = histories[name]
    return history["dice"][history[column] <= limit].iloc[-3:].mean()


def both_at(other, column, what):
    limit = min(histories[n][column].max() for n in ("U-Net, Dice", other))
    unet, setr = (dice_at(n, column, limit) for n in ("U-Net, Dice", other))
    ahead = "neither" if abs(unet - setr) < CLEARLY else "U-Net" if unet > setr else "SETR"
    return {
        "equal": what,
        "up to": f"{limit:.0f} {'steps' if column == 'step' else 's'}",
        "U-Net": unet,
        "SETR": setr,
        "U-Net minus SETR": unet - setr,
        "clearly ahead": ahead,
    }


fair = [both_at("SETR, Dice", "step", "epochs"), both_at("SETR, Dice", "seconds", "time"), both_at("small SETR", "step", "parameters, and epochs"),
        both_at("small SETR", "seconds", "parameters, and time")]  # fmt: skip
pd.DataFrame(fair).set_index("equal").style.format(
    {"U-Net": "{:.3f}", "SETR": "{:.3f}", "U-Net minus SETR": "{:+.3f}"}
).set_uuid("fair")

# %% [markdown]
# The same as curves over time: where a curve ends is how long that network took for the same number of steps. On the right the gap, over the share of the budget; the recorded pair of R2's stated size beside it, if there is one.


# %%
def draw_gap(axes, unet, setr, label, **style):
    """U-Net minus SETR at equal time, over the share of the time that both had."""
    end = min(unet["seconds"].max(), setr["seconds"].max())
    at = np.linspace(max(unet["seconds"].min(), setr["seconds"].min()), end, 60)
    gap = np.interp(at, unet["seconds"], unet["dice"]) - np.interp(at, setr["seconds"], setr["dice"])
    axes.plot(at / end, gap, label=f"{label} (all: {end / 60:.1f} min)", **style)


# %% [markdown]
# Both pictures:

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.0))
for name, dash, ink in (("U-Net, Dice", "-", "blue"), ("SETR, Dice", "-.", "vermilion"), ("small SETR", ":", "orange")):
    left.plot(
        histories[name]["seconds"], histories[name]["dice"], linestyle=dash, color=palette.OKABE_ITO[ink], label=name
    )
left.set(xlabel="seconds of training, validation included", ylabel="Dice, held-out patients", ylim=(0, 1))
left.legend(fontsize=8)
draw_gap(right, histories["U-Net, Dice"], histories["SETR, Dice"], "live", color=palette.OKABE_ITO["blue"])
pair = [RECORDED.get(f"lgg_{name}") for name in ("r2_unet_dice", "r2_setr")]
if all(pair):
    draw_gap(right, *(record.history for record in pair), "recorded, stated size", color="black", linestyle="--")
right.axhline(0, color="grey", linewidth=1, linestyle="-")
right.set(xlabel="share of the time", ylabel="U-Net minus SETR, Dice")
right.legend(fontsize=8, title=None if all(pair) else "recorded: not recorded yet", title_fontsize=8)
figures.show(
    figure,
    f"Left Dice against seconds for the U-Net and two SETRs. Right the U-Net's lead at equal time, {fair[1]['U-Net minus SETR']:+.2f} at the end.",
)

# %% [markdown]
# **Answer.** The three questions are different questions: *which learns more from the same slices*, *which should I train tonight*, and *which idea is better for the same size*. A report must say which one it asks. Transformers bring no built-in
# knowledge that neighbouring pixels belong together; they must learn it, which needs slices or time, more of both than R2's data set and a laptop have. SETR's authors began with an encoder trained on millions of photographs, and R2 did not.

# %%
quiz("fair")

# %% [markdown]
# ## Bug lab 1: a mask of half the size (R2)
# R2's SETR always doubles four times, which enlarges 16 times. Its text says 4 cuts.
#
# **Watch it fail.** The stated network, on the `meta` device, and what the course's training says to it:

# %% tags=["nbval-check-output"]
with torch.device("meta"):
    for cuts, network in stated.items():
        print(f"{cuts} cuts, 4 doublings: a slice of 128 pixels comes back with {network(image).shape[-1]}")
try:
    train_live("refused", "r2_setr", network__cuts=4)
except SettingError as error:
    print(textwrap.fill(str(error), 100))

# %% [markdown]
# The course refuses. A program that does not look may resize the mask to fit, and then everything runs. What has been lost is shown by the best mask that any network of that kind could draw: the truth itself, at half the resolution and back.
#
# **Find it.** Where in the network is the image's size lost, and where should it come back? Patches of 32 pixels make a grid of 4; 4 times 16 is 64.
#
# **Mend it.** Write how often to double for a slice of `size` pixels cut into `cuts` a side.
#
# <details><summary>Hint</summary>
#
# The grid has `cuts` pixels a side, and must become `size`. How many times 2 is that? `math.log2`, or a loop.
# </details>


# %% tags=["exercise"]
def doublings(size, cuts):
    # BEGIN SOLUTION: the power of two by which a grid of cuts must grow to size
    # BLANK: return ...
    return int(math.log2(size // cuts))
    # END SOLUTION


check.doublings(doublings)

# %% [markdown]
# **See the gain.** The mended network (`stages` left out) returns the slice's size with any number of cuts, for a few more parameters. And the ceiling: the Dice of the truth itself, drawn at some resolution and brought back to the files'.


# %%
def through(mask, size):
    """A (K, rows, columns) mask drawn at `size` pixels and brought back."""
    planes = torch.tensor(mask[:, None], dtype=torch.float32)
    small = (F.interpolate(planes, size=(size, size), mode="area") >= 0.5).float()
    return (F.interpolate(small, size=mask.shape[1:], mode="bilinear") >= 0.5)[:, 0].numpy()


with torch.device("meta"):
    mended = {cuts: SETR(cuts=cuts) for cuts in (4, 8, 16)}
    for cuts, network in mended.items():
        print(f"{cuts} cuts, mended: {network(image).shape[-1]} pixels, {count_parameters(network):,} parameters")
ceiling = {size: np.mean([voxel.count(t, through(t, size)).dice for t in truths.values()]) for size in (32, 64, 128)}
print("best possible mean Dice: " + ", ".join(f"{value:.3f} at {size} pixels" for size, value in ceiling.items()))

# %% [markdown]
# ## Bug lab 2: a sign (R2)
# R2's cross-entropy, written by hand, has the sign of its second term wrong: $-\big(t\log p-(1-t)\log(1-p)\big)$.
#
# **Watch it fail.** The trained U-Net goes on training for a few steps with Combo 0.5, in a plain loop, and with that cross-entropy in it. The Dice half is right.


# %%
def wrong_bce(p, t):
    return -(t * torch.log(p) - (1 - t) * torch.log(1 - p)).mean()


def train_on(cross_entropy, steps=24):
    """The U-Net after some more steps with Combo 0.5, and the last loss; the Dice is the batch's."""
    trained = runs["U-Net, Dice"].load()
    network, source = trained.network.cpu().train(), sources_of(trained.recipe)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for step in range(steps):
        batch = source.train.batch(range(16 * step, 16 * step + 16))
        t = batch["label"].float()
        p = torch.sigmoid(network(batch["image"])).clamp(1e-6, 1 - 1e-6)
        dice = 1 - 2 * (p * t).sum() / (p.sum() + t.sum())
        loss = 0.5 * cross_entropy(p, t) + 0.5 * dice
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network, float(loss.detach())


# %% [markdown]
# How much of the film's slice is called tumour, before and after:


# %%
def share_claimed(network):
    watched_slice = watched[id(sources_of(runs["U-Net, Dice"].recipe))]
    return float((probability_of(network, watched_slice["image"]) >= 0.5).mean())


spoiled, spoiled_loss = train_on(wrong_bce)
print(f"before: {share_claimed(runs['U-Net, Dice'].load().network):.1%} of the slice is called tumour")
print(f"after:  {share_claimed(spoiled):.1%}; the loss went down to {spoiled_loss:.1f}")

# %% [markdown]
# The loss is wonderful, and look at the mask. A loss below 0 should have been the warning: neither cross-entropy nor Dice loss can be negative.
#
# **Find it.** What does a background pixel ($t=0$) pay for a probability of 0.9, and what for 0.1? The curve of a single pixel says it at once.

# %%
figure, axes = plt.subplots(figsize=(4.4, 2.5))
axes.plot(p_axis, -np.log(1 - p_axis), label="a background pixel, right sign")
axes.plot(p_axis, np.log(1 - p_axis), label="the same, R2's sign")
axes.axhline(0, color="grey", linewidth=1, linestyle="-")
axes.set(xlabel="probability given to a background pixel", ylabel="loss of the pixel", ylim=(-4, 4))
axes.legend(fontsize=8)
figures.show(figure, "Loss of a background pixel against its predicted probability: with the right sign it rises from 0, with R2's "
             "sign it falls below 0 without end, so that calling background tumour is rewarded.")  # fmt: skip

# %% [markdown]
# **Mend it.** Write the cross-entropy of probabilities and truth, both torch tensors of one shape. Your function trains the U-Net in the next cell, so it must not return NaN where $p$ is exactly 0 or 1.
#
# <details><summary>Hint</summary>
#
# `p.clamp(1e-6, 1 - 1e-6)` keeps the logarithm finite. Then one term for the tumour, one for the rest, both with the same sign; and the mean.
# </details>


# %% tags=["exercise"]
def bce(p, t):
    # BEGIN SOLUTION: the mean cross-entropy, finite also where p is 0 or 1
    # BLANK: return ...
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(t * torch.log(p) + (1 - t) * torch.log(1 - p)).mean()
    # END SOLUTION


sign_mended = check.bce(bce)
sign_mended

# %% [markdown]
# **See the gain.** The same steps with the mended cross-entropy (yours, if the check passed), and the Dice over all held-out slices.


# %%
def held_out_dice(network, source):
    shared = total = 0
    for batch in source.validation:
        found, wanted = probability_of(network, batch["image"]) >= 0.5, batch["label"][:, 0].numpy() > 0
        shared, total = shared + (found & wanted).sum(), total + found.sum() + wanted.sum()
    return 2 * shared / max(total, 1)


mended_network, mended_loss = train_on(bce if sign_mended else F.binary_cross_entropy)
source = sources_of(runs["U-Net, Dice"].recipe)
lab = {name: (held_out_dice(network, source), share_claimed(network)) for name, network in
       (("R2's sign", spoiled), ("mended", mended_network))}  # fmt: skip
pd.DataFrame(lab, index=["Dice, all held-out slices together", "share of the slice called tumour"]).T.style.format(
    "{:.3f}"
).set_uuid("sign")

# %% [markdown]
# ## Bug lab 3: the same patient on both sides (R2)
# R2 dealt *slices* into training and test. Neighbouring slices of one tumour are almost copies, so the test asked about slices whose neighbours had been learned.
#
# **Watch it.** The same recipe, the same steps, judged on the same slices: every second slice of the held-out patients. The honest network has never seen these patients; the other one was given the slices *between*. No slice is in both
# training and test: a check for equal file names would find nothing. Beside them stands the *copier* of notebook 01, which learns nothing at all: it looks up the training slice most like the one asked about, and copies its mask.

# %%
source = sources_of(runs["U-Net, Dice"].recipe)


def part(stack, start):
    return Stack(stack.case_id, stack.patient, stack.image[start::2], stack.mask[start::2], stack.shape)


test = SliceStream([part(stack, 1) for stack in source.validation.stacks])
honest = source.train.stacks
between = (*honest, *(part(stack, 0) for stack in source.validation.stacks))
leaky = Sources(Slices(between, seed=setup.seed, balanced=False), test, 3, ("tumour",))
leaky_run = train_live("leak", "r2_unet_dice", leaky)

# %% [markdown]
# The copier compares FLAIR slices by their correlation.


# %%
def thumbnails(image):
    """(N, 3, S, S) to (N, pixels) FLAIR at half the size, mean 0 and length 1."""
    small = F.avg_pool2d(image[:, 1:2].float(), 2).flatten(1)
    small = small - small.mean(1, keepdim=True)
    return small / small.norm(dim=1, keepdim=True).clamp(min=1e-6)


def copier(stacks):
    """A function from a batch to masks copied from these stacks."""
    known, answers = thumbnails(torch.cat([s.image for s in stacks])), torch.cat([s.mask[:, 0] for s in stacks])
    return lambda batch: answers[(thumbnails(batch["image"]) @ known.T).argmax(1)].numpy() > 0


def unet(run):
    network = run.load().network
    return lambda batch: probability_of(network, batch["image"]) >= 0.5


# %% [markdown]
# All four, patient by patient, on the test slices:


# %%
def by_patient(masks_of):
    """Dice of each held-out patient on the test slices."""
    counts = {}
    for batch in test:
        found, wanted = masks_of(batch), batch["label"][:, 0].numpy() > 0
        pair = np.array([(found & wanted).sum(), found.sum() + wanted.sum()])
        counts[batch["case"][0]] = counts.get(batch["case"][0], 0) + pair
    return pd.Series({name: 2 * both / max(total, 1) for name, (both, total) in counts.items()})


leak = pd.DataFrame({
    "U-Net, by patient": by_patient(unet(runs["U-Net, Dice"])), "U-Net, by slice": by_patient(unet(leaky_run)),
    "copier, by patient": by_patient(copier(honest)), "copier, by slice": by_patient(copier(between)),
})  # fmt: skip
leak.loc["mean"] = leak.mean()
gained = {
    name: leak.loc["mean", f"{name}, by slice"] - leak.loc["mean", f"{name}, by patient"]
    for name in ("U-Net", "copier")
}
print(", ".join(f"the leak adds {gain:+.3f} for the {name}" for name, gain in gained.items()))
leak.style.format("{:.3f}").set_uuid("leak")

# %% [markdown]
# Split by slice, a program that has learned nothing passes for a good network. How much a leak pays depends on how much a model remembers. The copier is all memory. A U-Net after so short a training remembers little, and what the leak adds to it, or takes from it, lies
# within chance; R2's SETR went over the same slices 350 times.
#
# **Find it and mend it.** Write the test that finds it, for any split: given the owner of each slice and which slices are held out, the patients on both sides.
#
# <details><summary>Hint</summary>
#
# Two sets: the owners of the held-out slices, and the owners of the others. What do they share?
# </details>


# %% tags=["exercise"]
def leaks(owner, held_out_slices):
    """Array of patient names and array of booleans, one entry a slice, to the set of patients on both sides."""
    # BEGIN SOLUTION: the owners that are in both parts
    # BLANK: return ...
    return set(owner[held_out_slices]) & set(owner[~held_out_slices])
    # END SOLUTION


found_leak = check.leaks(leaks)
found_leak

# %% [markdown]
# **See the gain.** On this cohort: a split by slice and the split of this notebook.

# %%
owner = np.repeat([case.id for case in cases], [len(masks[case.id]) for case in cases])
by_slice = setup.rng("by slice").random(len(owner)) < 0.2
by_patient_mask = np.isin(owner, [case.id for case in held_out])
if found_leak:
    print(
        f"by slice: {len(leaks(owner, by_slice))} of {len(cases)} patients on both sides; by patient: {len(leaks(owner, by_patient_mask))}"
    )

# %% [markdown]
# And a question about it.

# %%
quiz("slice-leak")

# %% [markdown]
# ## Bug lab 4: a mean that cannot reach 1 (R2)
# R2's "mean accuracy" divides the right pixels of each class by *all* pixels and takes the mean of both classes.
#
# **Watch it fail.**


# %%
def r2_mean_accuracy(tp, fp, fn, tn):
    everything = tp + fp + fn + tn
    return (tp / everything + tn / everything) / 2


some_patient = held_out[0].id
looked_at = {"perfect": truths[some_patient], "nothing anywhere": np.zeros_like(truths[some_patient]),
             "tumour everywhere": np.ones_like(truths[some_patient]), best: probabilities[best][some_patient] >= 0.5}  # fmt: skip
four = {name: voxel.count(truths[some_patient], mask) for name, mask in looked_at.items()}
watched_scores = pd.DataFrame(
    {
        name: {"accuracy": c.accuracy, "R2's mean accuracy": r2_mean_accuracy(c.tp, c.fp, c.fn, c.tn)}
        for name, c in four.items()
    }
).T
watched_scores.style.format("{:.4f}").set_uuid("watched")

# %% [markdown]
# A perfect mask scores one half. **Find it**: compare the two columns. What is R2's number, written shorter?
#
# **Mend it.** Each class by its own pixels.
#
# <details><summary>Hint</summary>
#
# The tumour has TP + FN pixels, the background TN + FP. If a slice has no tumour, there is nothing to be right about: count that class as 1 if nothing was claimed and as 0 otherwise.
# </details>


# %% tags=["exercise"]
def mean_accuracy(tp, fp, fn, tn):
    # BEGIN SOLUTION: the right share of each class's own pixels, and the mean of both
    # BLANK: return ...
    tumour = tp / (tp + fn) if tp + fn else float(fp == 0)
    background = tn / (tn + fp) if tn + fp else 0.0
    return (tumour + background) / 2
    # END SOLUTION


mean_mended = check.mean_accuracy(mean_accuracy)
mean_mended

# %% [markdown]
# **See the gain.** Now a perfect mask is worth 1, and nothing and everything are worth the same: one half.

# %%
if mean_mended:
    watched_scores["mended"] = [mean_accuracy(c.tp, c.fp, c.fn, c.tn) for c in four.values()]
watched_scores["the package's"] = [c.mean_accuracy for c in four.values()]
watched_scores.style.format("{:.4f}").set_uuid("mended")

# %% [markdown]
# ## What this run showed
# All of it measured above, in this run:

# %%
sign, half = "R2's sign", "R2's mean accuracy"
found = [
    ("best mean Dice of a network here", f"{patients[best]['Dice'].mean():.3f} ({best})"),
    (
        "nothing anywhere: accuracy, Dice",
        f"{means.loc['nothing anywhere', 'accuracy']:.3f}, {means.loc['nothing anywhere', 'Dice']:.3f}",
    ),
    *((f"U-Net minus SETR at equal {row['equal']}", f"{row['U-Net minus SETR']:+.3f}") for row in fair),
    (
        "post-processing adds, Dice",
        f"{(patients['course U-Net, post-processed']['Dice'] - patients['course U-Net']['Dice']).mean():+.3f}",
    ),
    ("half the resolution: best possible Dice", f"{ceiling[64]:.3f} instead of {ceiling[128]:.3f}"),
    ("one wrong sign, Dice", f"{lab[sign][0]:.3f} instead of {lab['mended'][0]:.3f}"),
    ("split by slice adds, Dice", f"{gained['U-Net']:+.3f} to the U-Net, {gained['copier']:+.3f} to the copier"),
    ("R2's mean accuracy of a perfect mask", f"{watched_scores.loc['perfect', half]:.3f}"),
]
pd.DataFrame(found, columns=["what", "measured"]).set_index("what").style.set_uuid("found").set_properties(
    **{"text-align": "left"}
)

# %% [markdown]
# ## When it goes wrong
# | you see | look at |
# |---|---|
# | Dice stays at 0, the loss falls | the "nothing anywhere" phase of section 4: wait, sample more tumour slices, or add a Dice term |
# | Dice rises and then drops to 0 for good, and the loss drops too | Dice loss slice by slice: the network has found that silence is cheaper (section 4). Lower the rate, add BCE, or take the Dice of the batch |
# | loss below 0 | a sign (bug lab 2); cross-entropy and Dice loss cannot be negative |
# | loss is NaN | log of 0: take the loss from logits, not from probabilities. The course's training stops there and keeps the batch |
# | everything is tumour | the sign again, or mask and image read in different order |
# | masks look like a chessboard | the transformer's patches: too few cuts, or patches mixed while cutting (section 3) |
# | validation far above what others report | patients on both sides (bug lab 3); the threshold or the epoch chosen on the same patients |
# | `returns 64x64 for a mask of 128x128` | doublings and cuts (bug lab 1) |
# | results change with the batch size at test time | attention along the wrong axis, or batch norm in training mode: call `eval()` |
# | out of memory | attention over n patches holds n times n numbers a head: halve the cuts before the batch; `engine.accumulate` cuts a batch into parts |
# | one score says better, another worse | print all four counts; the one with the true negatives is the one that misleads |
#
# ## Words of this notebook
# **convolution**: a weighted sum over a small window, the same weights everywhere. **skip connection**: early, fine features laid beside late, coarse ones. **receptive field**: the input that can change an output. **logit**: the number before the
# sigmoid. **patch, token, embedding**: a square of the slice, and the vector made of it. **position**: a learned vector for a place. **attention**: a weighted sum over tokens, with weights from how well query and key agree. **head**: one of several attentions side by side.
# **transposed convolution**: each pixel paints several new ones. **BCE**: cross-entropy of a yes-or-no answer. **Combo, Focal**: BCE mixed with Dice; BCE with easy pixels turned down. **gradient**: how much the loss changes with each number.
# **epoch**: a pass over the data, here a fixed number of steps. **recipe**: the file that decides a training. **baseline**: what no learning at all scores. **calibrated**: 0.9 is right in nine of ten. **held out**: never seen in training. **leak**: information from the test that reached the training.
#
# ## Read on
# - Ronneberger O., Fischer P., Brox T., U-Net, MICCAI 2015, arXiv 1505.04597: four scales where R2 has two, and convolutions without padding.
# - Dosovitskiy A. et al., An image is worth 16x16 words, ICLR 2021, arXiv 2010.11929: the encoder; how much data it takes is in its figures.
# - Zheng S. et al., Rethinking semantic segmentation with transformers (SETR), CVPR 2021, arXiv 2012.15840.
# - Buda M., Saha A., Mazurowski M. A., Association of genomic subtypes of lower-grade gliomas with shape features, Computers in Biology and Medicine 2019, doi 10.1016/j.compbiomed.2019.05.002: the data set and its first network.
# - Milletari F., Navab N., Ahmadi S., V-Net, 3DV 2016, arXiv 1606.04797: the Dice loss.
# - Lin T. et al., Focal loss for dense object detection, ICCV 2017, arXiv 1708.02002.
# - Taghanaki S. A. et al., Combo loss, Computerized Medical Imaging and Graphics 2019, arXiv 1805.02798.
# - Jain S., Wallace B. C., Attention is not explanation, NAACL 2019, arXiv 1902.10186.
#
# ## What to take along
# 1. Know what nothing scores before you read any score.
# 2. A loss is judged where there is no tumour as well as where there is.
# 3. Shapes are facts: print them, count the parameters, and measure what a pixel sees.
# 4. "Fair" needs a noun: equal epochs, time or parameters. Say which.
# 5. Patients, not slices; all four counts, not one score.
#
# Next, notebook 04 goes to 3D, and climbs from the simplest network to a residual U-Net, one change at a time.
