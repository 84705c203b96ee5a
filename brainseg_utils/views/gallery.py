"""Pictures of cases with the mistakes of their predictions: what a cohort's report shows of the worst."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from brainseg_utils.datasets.find import find_cases
from brainseg_utils.datasets.nifti import to_ras
from brainseg_utils.errors import BrainsegError
from brainseg_utils.evaluation.matching import match
from brainseg_utils.evaluation.protocols import get_protocol
from brainseg_utils.evaluation.reading import read_mask
from brainseg_utils.evaluation.report import Picture
from brainseg_utils.views import png, slices, words
from brainseg_utils.views.state import ViewState, largest_lesion_point, scene_of

PANEL = 240


def case_pictures(truth: Path, prediction: Path, protocol: str) -> Callable[[str], Picture | None]:
    """A function from case id to a picture of the case's errors, for `evaluation.report.write_report`.

    Args:
        truth: the folder of cases, with their images.
        prediction: the folder of predictions, matched as `brainseg evaluate` matches them.
        protocol: the protocol's name.

    Raises:
        DataError: the folders hold no cases, or no prediction belongs to any.
    """
    cases = {case.id: case for case in find_cases(truth)}
    jobs = {job.case: job for job in match(truth, prediction, get_protocol(protocol)).jobs if job.prediction}

    def picture(case_id: str) -> Picture | None:
        if case_id not in cases or case_id not in jobs:
            return None
        case = cases[case_id]
        try:
            mask = read_mask(jobs[case_id].prediction, case.scheme)
            labels = to_ras(mask.labels, mask.affine)[0].astype(np.uint8)
            scene = scene_of(case, labels, modalities=case.modalities[-1:])
        except BrainsegError:
            return None  # a case that cannot be read is named among the report's faults
        state = ViewState(
            scene, point=largest_lesion_point(scene), plane="three planes", labels="errors", crosshair=False, size=PANEL
        )
        return Picture(png.compact(slices.render(state)), words.describe(state))

    return picture
