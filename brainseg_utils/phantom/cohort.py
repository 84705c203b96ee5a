"""A folder of phantoms in any data set's layout, made in parallel, with a record of what was drawn.

A case depends on the seed and its number alone: 12 cases are the first 12 of 24, and any number of workers writes the
same bytes. A cohort that was interrupted is completed; a case whose files are there and unchanged is left alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainseg_utils.datasets.export import write_case, write_decathlon_index
from brainseg_utils.datasets.layouts import MODALITIES, get_layout
from brainseg_utils.errors import DataError, SettingError, unknown
from brainseg_utils.files import sha256, write_json
from brainseg_utils.parallel import imap
from brainseg_utils.phantom import lgg, template
from brainseg_utils.phantom.geometry import geometry
from brainseg_utils.phantom.parameters import Parameters, default
from brainseg_utils.phantom.scanner import render
from brainseg_utils.phantom.streams import Step, stream
from brainseg_utils.progress import track

RECORD = "phantom.json"
DESCRIPTION = "phantom"
RECORD_EVERY = 2.0
"""Seconds between two writings of the record while cases are made."""
FRAMES = {"brats2024": "mni"}
"""Layouts whose grid is not that of SRI24."""
FIRST = {"brats2020": 1, "msd": 1}
"""Layouts whose cases are counted from 1."""
TREATMENTS = ("pre", "post")


@dataclass(frozen=True)
class Job:
    """One case to make: everything that a worker needs.

    Attributes:
        out: the cohort's folder.
        case_id: folder and file stem.
        index, visit: which subject and which of its scans.
        settings: of the cohort (see `make`), as written to the record.
        parameters: all numbers.
        before: the case's entry in the record of an earlier run, if there is one.
    """

    out: Path
    case_id: str
    index: int
    visit: int
    settings: Mapping[str, Any]
    parameters: Parameters
    before: Mapping[str, Any] | None


def make(
    out: str | Path,
    cases: int,
    layout: str,
    seed: int = 0,
    spacing: int = 2,
    difficulty: str = "normal",
    treatment: str | None = None,
    workers: int | None = None,
    healthy: float | None = None,
    parameters: Parameters | None = None,
) -> list[dict[str, Any]]:
    """Makes a cohort and returns one record a case.

    Args:
        out: the folder to fill; `phantom.json` is put beside the cases.
        cases: how many scans (lgg: patients).
        layout: a name of `datasets.layouts.LAYOUTS`: names, labels and headers are that data set's.
        seed: of everything.
        spacing: 1 or 2 (mm); lgg: of the anatomy that the slices are cut from.
        difficulty: `easy`, `normal` or `hard`.
        treatment: `pre` or `post`; default `post` for brats2024, else `pre`.
        workers: processes; default one a CPU.
        healthy: share of subjects without a lesion; default by treatment, none for lgg.
        parameters: all numbers; default the package's own.

    Raises:
        SettingError: an unknown layout, difficulty or treatment, a resection cavity in a layout that has no label for
            it, or a folder that holds a cohort of other settings.
    """
    p, out = parameters or default(), Path(out)
    settings = _settings(p, layout, seed, spacing, difficulty, treatment, healthy)
    known = _known(out / RECORD, settings)
    work = [
        Job(out, case_id, index, visit, settings, p, known.get(case_id))
        for case_id, index, visit in case_list(cases, layout, seed, p)
    ]
    template.load()  # once, before several workers ask for it
    made: list[dict[str, Any]] = []
    written = time.monotonic()
    try:
        for record in track(imap(make_case, work, workers), "phantoms", len(work)):
            made.append(record)
            if time.monotonic() - written > RECORD_EVERY:
                _write_record(out, settings, known, made)
                written = time.monotonic()
    finally:
        _write_record(out, settings, known, made)
    return made


def case_list(cases: int, layout: str, seed: int, parameters: Parameters | None = None) -> list[tuple[str, int, int]]:
    """(case id, subject, visit) of the first `cases` scans of a cohort.

    In the brats2024 layout some subjects are seen twice (`-100` and `-101`), as in the data set.

    Example:
        >>> case_list(2, "brats2020", seed=0)
        [('BraTS20_Training_001', 0, 0), ('BraTS20_Training_002', 1, 0)]
    """
    p, pattern = parameters or default(), get_layout(layout).example_id
    listed: list[tuple[str, int, int]] = []
    index = 0
    while len(listed) < cases:
        number = index + FIRST.get(layout, 0)
        if layout == "lgg":
            listed.append((f"{pattern.format(number)}_{lgg.scan_date(seed, index)}", index, 0))
        else:
            case_id = pattern.format(number)
            listed.append((case_id, index, 0))
            again = stream(seed, index, Step.VISIT).random() < p.tumour.second_scan
            if layout == "brats2024" and again:
                listed.append((f"{case_id[:-3]}{int(case_id[-3:]) + 1:03d}", index, 1))
        index += 1
    return listed[:cases]


def make_case(job: Job) -> dict[str, Any]:
    """Makes one case's files and returns its record; files that match an earlier record are left alone."""
    if job.before and _unchanged(job.out, job.before):
        return dict(job.before)
    s = job.settings
    is_lgg = s["layout"] == "lgg"
    case = geometry(
        s["seed"],
        job.index,
        treatment=s["treatment"],
        spacing=s["spacing"],
        frame=FRAMES.get(s["layout"], "sri24"),
        difficulty=s["difficulty"],
        healthy=s["healthy"],
        visit=job.visit,
        weights=job.parameters.tumour.lgg_layout if is_lgg else None,
        parameters=job.parameters,
    )
    images = render(case, s["seed"], parameters=job.parameters)
    extra: dict[str, Any] = {}
    if is_lgg:
        files, extra = lgg.write(job.out, job.case_id, case, images, s["seed"], job.parameters)
    else:
        whole = dict(zip(MODALITIES, case.paste(images), strict=True))
        place = write_case(
            job.out,
            s["layout"],
            job.case_id,
            whole,
            case.paste(case.label),
            case.affine,
            scheme="brats2024",
            description=DESCRIPTION,
        )
        files = sorted(place.iterdir()) if place.is_dir() else [place, job.out / "labelsTr" / place.name]
    return {
        "id": job.case_id,
        **case.facts,
        **extra,
        "files": {path.relative_to(job.out).as_posix(): sha256(path) for path in files},
    }


def read_record(out: str | Path) -> dict[str, Any]:
    """The cohort's record: layout, seed, settings, and per case what was drawn.

    Raises:
        DataError: the folder holds no phantom cohort, or its record is damaged.
    """
    path = Path(out) / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {**record, "cases": list(record["cases"])}
    except FileNotFoundError:
        raise DataError("no phantom cohort", where=out, expected=RECORD, remedy="make one first") from None
    except (ValueError, KeyError, TypeError):
        raise DataError("damaged record", where=path, remedy="remove the folder and make the cohort anew") from None


def _settings(
    p: Parameters,
    layout: str,
    seed: int,
    spacing: int,
    difficulty: str,
    treatment: str | None,
    healthy: float | None,
) -> dict[str, Any]:
    """The cohort's settings, checked, with defaults filled in."""
    scheme = get_layout(layout).scheme
    treatment = treatment or ("post" if layout == "brats2024" else "pre")
    if treatment not in TREATMENTS:
        raise unknown("treatment", treatment, TREATMENTS)
    if treatment == "post" and "RC" not in scheme.tissues.values():
        raise SettingError(
            f"treatment post in layout {layout}",
            where="phantom",
            expected="a layout with a label for resection cavities (brats2024)",
            remedy="choose brats2024 or treatment pre",
        )
    p.setting(difficulty)
    if spacing not in (1, 2):
        raise SettingError(
            f"spacing {spacing!r}", where="phantom", expected="1 or 2 (mm)", remedy="choose one of these"
        )
    if healthy is None:
        healthy = 0.0 if layout == "lgg" else p.tumour.healthy[treatment]
    if not 0 <= healthy <= 1:
        raise SettingError(f"healthy share {healthy!r}", where="phantom", expected="0 to 1", remedy="give a share")
    return {
        "layout": layout,
        "seed": seed,
        "spacing": spacing,
        "difficulty": difficulty,
        "treatment": treatment,
        "healthy": healthy,
        "parameters": p.fingerprint(),
    }


def _known(path: Path, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The cases of an earlier run with the same settings, by id."""
    if not path.exists():
        return {}
    record = read_record(path.parent)
    for name, value in settings.items():
        if record.get(name) != value:
            raise SettingError(
                f"a phantom cohort with {name} {record.get(name)!r}, not {value!r}",
                where=path.parent,
                expected="a new or empty folder, or the same settings",
                remedy="choose another folder or remove this one",
            )
    return {case["id"]: case for case in record["cases"]}


def _unchanged(out: Path, record: Mapping[str, Any]) -> bool:
    return all((out / name).is_file() and sha256(out / name) == digest for name, digest in record["files"].items())


def _write_record(
    out: Path, settings: Mapping[str, Any], known: Mapping[str, dict[str, Any]], made: list[dict[str, Any]]
) -> None:
    cases = {**known, **{record["id"]: record for record in made}}
    if settings["layout"] == "msd":
        write_decathlon_index(out, sorted(cases), DESCRIPTION)
    write_json(out / RECORD, {"phantom": True, **settings, "cases": [cases[name] for name in sorted(cases)]})
