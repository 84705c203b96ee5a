"""From a folder of scans to a folder of segmentations: what `brainseg predict` calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainseg_utils.datasets.cases import SliceCase
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.errors import SettingError
from brainseg_utils.files import atomic, sha256, write_json
from brainseg_utils.inference.postprocess import keep_heavy
from brainseg_utils.inference.weights import find
from brainseg_utils.progress import track

if TYPE_CHECKING:
    from brainseg_utils.inference.ensemble import Settings

RECORD = "prediction.json"


@dataclass(frozen=True)
class Predicted:
    """What was done.

    Attributes:
        out: the folder.
        made: cases that were predicted now.
        there: cases that were there already.
    """

    out: Path
    made: int
    there: int

    def __str__(self) -> str:
        return f"{self.made} cases predicted, {self.there} were there"


def predict(
    source: str | Path,
    out: str | Path,
    weights: str | Path | Sequence[str | Path] | None = None,
    *,
    probabilities: bool = False,
    settings: Settings | None = None,
) -> Predicted:
    """Predicts every LGG patient below a folder into `out/<patient>/<slice>_mask.tif`, 0 and 255.

    A patient whose files are all there is left alone, so that an interrupted prediction goes on where it was.

    Args:
        source: a folder of LGG slices.
        out: where the masks go.
        weights: a model's name, a run's folder or a weights file; several are averaged; none: the layout's own.
        probabilities: also write `<slice>_probability.tif`, float32, before thresholding.
        settings: how masks are made; default: what the (first) weights file says.

    Raises:
        DataError: no weights, no cases, or a damaged slice.
        SettingError: not the LGG layout, or `out` holds predictions of other weights.
    """
    from brainseg_utils.inference import ensemble
    from brainseg_utils.inference.slices import SlicePredictor

    cases = find_cases(source)
    slice_cases = [case for case in cases if isinstance(case, SliceCase)]
    if len(slice_cases) < len(cases):
        raise SettingError(f"layout {cases[0].layout}", where=source, expected="slices of the lgg layout")
    out = Path(out)
    if out.resolve() in (Path(source).resolve(), *(case.folder.parent.resolve() for case in slice_cases)):
        raise SettingError("the masks would take the place of the truth", where=out, expected="another folder")
    names = [weights] if weights is None or isinstance(weights, str | Path) else weights
    files = [find(name, cases[0].layout) for name in names or [None]]
    settings = settings or ensemble.read_settings(files[0])
    _claim(out, files, settings)
    todo = [case for case in slice_cases if not all(path.is_file() for path in _targets(case, out, probabilities))]
    if todo:
        predictor = SlicePredictor([one for file in files for one in ensemble.read(file)], settings.flips)
        for case in track(todo, "predict"):
            _write(case, out, predictor(case), settings, probabilities)
    return Predicted(out, len(todo), len(cases) - len(todo))


def _targets(case: SliceCase, out: Path, probabilities: bool) -> list[Path]:
    kinds = ("mask", "probability") if probabilities else ("mask",)
    return [out / case.id / f"{path.stem}_{kind}.tif" for path in case.slice_paths for kind in kinds]


def _write(case: SliceCase, out: Path, probability: np.ndarray, settings: Settings, probabilities: bool) -> None:
    import tifffile

    mask = keep_heavy(probability, settings.threshold, settings.share).astype(np.uint8) * 255
    for path, plane, values in zip(case.slice_paths, mask, probability, strict=True):
        wanted = {"mask": plane, "probability": values} if probabilities else {"mask": plane}
        for kind, array in wanted.items():
            with atomic(out / case.id / f"{path.stem}_{kind}.tif") as temporary:
                tifffile.imwrite(temporary, array)


def _claim(out: Path, files: Sequence[Path], settings: Settings) -> None:
    """Notes whose predictions a folder holds, and refuses to mix two."""
    import json

    wanted = {"sha256": [sha256(file) for file in files], "settings": asdict(settings)}
    record = out / RECORD
    if record.is_file():
        noted = json.loads(record.read_text(encoding="utf-8"))
        if {key: noted.get(key) for key in wanted} != wanted:
            raise SettingError("predictions of other weights or settings", where=out, expected="a new folder")
    write_json(record, {"weights": [f"{file.parent.name}/{file.name}" for file in files], **wanted})
