"""From a folder of scans to a folder of segmentations: what `brainseg predict` calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg_utils.datasets.cases import Case, SliceCase
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.errors import BrainsegError, SettingError
from brainseg_utils.files import sha256, write_json
from brainseg_utils.inference.weights import find
from brainseg_utils.progress import track

if TYPE_CHECKING:
    from brainseg_utils.inference.ensemble import Settings
    from brainseg_utils.inference.regions import Rules
    from brainseg_utils.inference.slices import SliceWriter
    from brainseg_utils.inference.volumes import VolumePredictor

RECORD = "prediction.json"


@dataclass(frozen=True)
class Predicted:
    """What was done.

    Attributes:
        out: the folder.
        made: cases that were predicted now.
        there: cases that were there already.
        faults: cases that could not be predicted, one message each.
        notices: what else the reader should know, one message each.
    """

    out: Path
    made: int
    there: int
    faults: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    def __str__(self) -> str:
        failed = f", {len(self.faults)} could not be" if self.faults else ""
        return f"{self.made} cases predicted, {self.there} were there{failed}"


def predict(
    source: str | Path,
    out: str | Path,
    weights: str | Path | Sequence[str | Path] | None = None,
    *,
    probabilities: bool = False,
    settings: Settings | Rules | None = None,
    layout: str | None = None,
    scheme: str | None = None,
) -> Predicted:
    """Predicts every case below a folder, one at a time, as the data set names its own segmentations.

    `out/<case>/<case>_seg.nii.gz` (or `-seg`; msd: `<case>.nii.gz`) on the grid of the case's own files and in its
    label values; LGG: `out/<patient>/<slice>_mask.tif`, 0 and 255. A case whose files are all there is left alone, so
    that an interrupted prediction goes on where it was. One that cannot be predicted does not stop the others.

    Args:
        source: a case folder, or a data set's root.
        out: where the masks go.
        weights: a model's name, a run's folder or a weights file; several are averaged; none: the layout's own.
        probabilities: also write probabilities, float32, before thresholding: one file a region, or a slice.
        settings: how masks are made; default: what the (first) weights file says.
        layout, scheme: as `find_cases`.

    Raises:
        BrainsegError: no case could be predicted: the first one's error.
        DataError: no weights, or no cases.
        SettingError: weights of another kind of scans, or `out` holds predictions of other weights.
    """
    from brainseg_utils.inference import ensemble

    out, cases = Path(out), find_cases(source, layout, scheme)
    if out.resolve() in (Path(source).resolve(), *(case.folder.parent.resolve() for case in cases)):
        raise SettingError("the masks would take the place of the truth", where=out, expected="another folder")
    names = [weights] if weights is None or isinstance(weights, str | Path) else weights
    files = [find(name, cases[0].layout) for name in names or [None]]
    settings = settings or ensemble.read_settings(files[0])
    writer = _writer(cases[0], files, settings)
    _claim(out, files, settings)
    todo = [case for case in cases if not all(path.is_file() for path in writer.targets(case, out, probabilities))]
    errors: list[BrainsegError] = []
    notices: list[str] = []
    for case in track(todo, "predict"):
        try:
            notices += writer.write(case, out, probabilities)
        except BrainsegError as error:
            errors.append(error)
    if errors and len(errors) == len(cases):
        raise errors[0]
    made = len(todo) - len(errors)
    return Predicted(out, made, len(cases) - len(todo), tuple(map(str, errors)), tuple(notices))


def _writer(case: Case, files: Sequence[Path], settings: Settings | Rules) -> SliceWriter | VolumePredictor:
    """What predicts cases of this kind."""
    from brainseg_utils.inference import ensemble

    trained = [one for file in files for one in ensemble.read(file)]
    if isinstance(case, SliceCase) == isinstance(settings, ensemble.Settings):
        if isinstance(settings, ensemble.Settings):
            from brainseg_utils.inference.slices import SliceWriter

            return SliceWriter(trained, settings)
        from brainseg_utils.inference.volumes import VolumePredictor

        return VolumePredictor(trained, settings)
    found, wanted = ("volumes", "slices") if isinstance(case, SliceCase) else ("slices", "volumes")
    raise SettingError(
        f"weights of {found} for layout {case.layout}", where=files[0], expected=f"a network trained on {wanted}"
    )


def _claim(out: Path, files: Sequence[Path], settings: Settings | Rules) -> None:
    """Notes whose predictions a folder holds, and refuses to mix two."""
    import json

    wanted = json.loads(json.dumps({"sha256": [sha256(file) for file in files], "settings": asdict(settings)}))
    record = out / RECORD
    if record.is_file():
        noted = json.loads(record.read_text(encoding="utf-8"))
        if {key: noted.get(key) for key in wanted} != wanted:
            raise SettingError("predictions of other weights or settings", where=out, expected="a new folder")
    write_json(record, {"weights": [f"{file.parent.name}/{file.name}" for file in files], **wanted})
