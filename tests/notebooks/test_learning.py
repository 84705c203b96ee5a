"""What the quick profile promises of its live trainings: the committed notebooks show it, nbval runs them again."""

from __future__ import annotations

import nbformat
import pytest

from brainseg_utils.course.checkout import find_root

PROMISES = {
    "04_unet_family": "mean Dice over WT and TC at least 0.70: True",
    "05_swin_unetr": "whole tumour on held-out patients: Dice of .40 or more: True; .20 above the first epoch: True",
}


@pytest.mark.parametrize("folder", ["notebooks", "notebooks/solutions"])
@pytest.mark.parametrize("stem", PROMISES)
def test_the_live_training_learns_what_is_promised(stem, folder):
    book = nbformat.read(find_root() / folder / f"{stem}.ipynb", as_version=4)
    marked = [cell for cell in book.cells if "nbval-check-output" in cell.metadata.get("tags", [])]
    printed = [output.get("text", "").strip() for cell in marked for output in cell.outputs]
    assert printed.count(PROMISES[stem]) == 1
