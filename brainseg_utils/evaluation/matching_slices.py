"""Which predicted slices belong to which patient, for data sets of 2D slices (LGG)."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from brainseg_utils.errors import DataError
from brainseg_utils.evaluation.jobs import Job, Matched, no_masks, walk
from brainseg_utils.evaluation.protocols import Protocol

SLICE_MASK = re.compile(r"^(?P<patient>.+)_(?P<number>\d+)_mask\.tif$")


def match_slices(truth: Path, prediction: Path, protocol: Protocol) -> Matched:
    """Pairs the patients of two folders of slices named `<patient>_<number>_mask.tif`.

    Raises:
        DataError: a folder has no such slice, or the two have no patient in common.
    """
    truths, predictions = _slice_masks(truth), _slice_masks(prediction)
    for folder, masks in ((truth, truths), (prediction, predictions)):
        if not masks:
            raise no_masks(folder, "slices named <patient>_<number>_mask.tif")
    if not set(truths) & set(predictions):
        raise DataError(f"no patient of {truth}", where=prediction, remedy="check that the two folders belong together")
    jobs, faults = [], []
    for patient, slices in sorted(truths.items()):
        found = predictions.get(patient, {})
        missing = sorted(set(slices) - set(found))
        if found and missing:
            faults.append(
                f"case {patient}: no prediction for slice {missing[0]} ({len(missing)} of {len(slices)} are missing); "
                "predict all slices of the patient or none"
            )
            continue
        numbers = sorted(slices)
        predicted = tuple(found[n] for n in numbers) if found else ()
        jobs.append(Job(patient, tuple(slices[n] for n in numbers), predicted, protocol.scheme_name))
    extra = [f"{prediction}: no truth for patient {p}, not scored" for p in sorted(set(predictions) - set(truths))]
    return Matched(tuple(jobs), tuple(faults), tuple(extra))


def _slice_masks(root: Path) -> dict[str, dict[int, Path]]:
    """Patient to slice number to mask file."""
    masks: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in walk(root):
        if m := SLICE_MASK.match(path.name):
            masks[m["patient"]][int(m["number"])] = path
    return dict(masks)
