# %% [markdown]
# # 90 Example
#
# The smallest notebook with everything that a notebook of the course has; only the tests build it.
#
# **You will be able to**
# - count the voxels of a mask and turn them into millilitres
#
# **Time:** {{time quick}} (quick), {{time full}} (full) · **Needs:** nothing · **Rebuilds:** no report

# %% tags=["parameters"]
profile = "quick"
data_dir = "."
output_dir = ""
seed = 0
edge = 4

# %% [markdown]
# Every notebook begins so: seeds are fixed and the network is blocked.

# %%
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, display

from brainseg_utils import course
from brainseg_utils.progress import track
from nb90 import CHECK, QUIZ

setup = course.begin("90", profile=profile, data_dir=data_dir, output_dir=output_dir, seed=seed)
check, quiz = CHECK, QUIZ

# %% [markdown]
# A mask: a cube inside a larger one.

# %% tags=["nbval-check-output"]
mask = np.zeros((10, 10, 10), bool)
mask[:edge, :edge, :edge] = True
print(f"shape {mask.shape}, {mask.sum()} voxels inside")

# %% [markdown]
# Looked at, slice by slice.

# %%
for _ in track(range(5), "looking"):
    pass
plt.imsave(setup.output_dir / "slice.png", mask[:, :, 0])
display(Image(filename=setup.output_dir / "slice.png", alt="A square in the corner of a slice."))

# %% [markdown]
# A slider, which only a live notebook shows.

# %%
ipywidgets.IntSlider(0, 0, 9, description="slice")

# %% [markdown]
# **Your turn.** What share of the voxels lies inside?

# %% tags=["exercise"]
# BEGIN SOLUTION: the mean of a truth value is a share
share = float(mask.mean())
# END SOLUTION
check.share(share, mask)

# %% [markdown]
# **Your turn.** Write the volume in mL as a function of the mask and the voxel's volume in mm³.


# %% tags=["exercise"]
def millilitres(mask, voxel_mm3):
    # BEGIN SOLUTION: one mL is 1000 mm³
    # BLANK: count = ...
    # BLANK: return ...
    count = mask.sum()
    return float(count * voxel_mm3 / 1000)
    # END SOLUTION


check.millilitres(millilitres)

# %% [markdown]
# And a question.

# %%
quiz("spacing")
