"""A cache of preprocessed cases, so that an epoch never decompresses a NIfTI file again.

What is computed once are a pipeline's steps up to the first random one. An entry is found by what decides its content:
the pipeline and its settings name a folder; the case's files (path, size, time of change) are kept in the entry and
compared each time. Entries are written under a temporary name and renamed, so two processes may build one cache at
once (at worst a case is computed twice), and an interrupted build leaves whole entries that the next one keeps.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainseg_utils.datasets.cases import Case, SliceCase
from brainseg_utils.errors import BrainsegError, DataError
from brainseg_utils.files import write_json
from brainseg_utils.parallel import imap
from brainseg_utils.pipeline import entry as entries
from brainseg_utils.pipeline.entry import Entry
from brainseg_utils.progress import track

VERSION = 1  # raise it when a pipeline or the format changes what an entry holds; a test notices
ABANDONED_S = 3600  # a temporary file older than this belongs to a process that was killed
FEW = 12  # so few cases are computed in this process: starting others takes longer


@dataclass(frozen=True)
class Summary:
    """What a build did.

    Attributes:
        cases: entries there are now for the cases given.
        built: of these, how many were computed; the others were there and sound.
        bytes: size of all of them.
        seconds: what the build took.
        error: largest rounding error of any entry, in the unit of the preprocessed image.
    """

    cases: int
    built: int
    bytes: int
    seconds: float
    error: float

    def __str__(self) -> str:
        reused = f"{self.built} built, {self.cases - self.built} reused"
        return f"{self.cases} cases ({reused}), {self.bytes / 1e6:.0f} MB, {self.seconds:.0f} s"


class Cache:
    """A folder of cached cases of one pipeline and its settings.

    Args:
        folder: where caches are kept; each pipeline and setting has its own folder inside.
        report: key of `registry.PIPELINES`.
        modalities: channel order; None: all that the layout has.
        **settings: of the pipeline (`registry.steps`).

    Raises:
        SettingError: no such pipeline or setting.

    Example:
        >>> Cache("runs/cache").settings["report"]
        'course'
    """

    def __init__(
        self, folder: str | Path, report: str = "course", modalities: Sequence[str] | None = None, **settings: Any
    ) -> None:
        from brainseg_utils.pipeline.registry import cached_names

        names = cached_names(report, **settings)
        self.report, self.modalities, self.arguments = report, modalities and tuple(modalities), settings
        self.settings = {"version": VERSION, "report": report, "modalities": self.modalities, "steps": names}
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()
        self.folder = Path(folder) / f"{report}-{digest[:12]}"

    def path(self, case: Case) -> Path:
        """The file of a case's entry; cases of one id in two folders have two."""
        place = hashlib.sha256(str(case.folder.resolve()).encode()).hexdigest()[:8]
        return self.folder / f"{case.id}-{place}.safetensors"

    def key(self, case: Case) -> str:
        """What a case's entry is made from: every file's path, size and time of change, its channels and its scheme.

        Raises:
            DataError: a file of the case is absent.
        """
        wanted = self.modalities or case.modalities
        files: list[Path | None] = [case.paths[m] for m in wanted if m in case.paths]
        files += [case.label_path]
        if isinstance(case, SliceCase):
            files += [*case.slice_paths, *case.mask_paths]
        what = [_stamp(path) for path in files if path is not None]
        scheme = [case.scheme.name, sorted(case.scheme.tissues.items())]
        return hashlib.sha256(json.dumps([what, sorted(case.channels.items()), scheme]).encode()).hexdigest()

    def find(self, case: Case) -> Entry | None:
        """The case's entry if it is there and made from the files as they are now; its voxels are not checked."""
        entry = entries.read(self.path(case))
        return entry if entry is not None and entry.key == self.key(case) else None

    def entries(self, cases: Iterable[Case]) -> list[Entry]:
        """The entries of cases, in their order.

        Raises:
            DataError: a case has none, or its files have changed since.
        """
        found = []
        for case in cases:
            entry = self.find(case)
            if entry is None:
                raise DataError(f"no entry for case {case.id}", where=self.folder, remedy="run Cache.build first")
            found.append(entry)
        return found

    def build(self, cases: Sequence[Case], workers: int | None = None) -> Summary:
        """Computes the entries that are missing, made from other files, or damaged (every byte is checked).

        Args:
            cases: what to cache.
            workers: processes; default: one a CPU, or this one alone for a dozen cases or fewer.

        Raises:
            DataError: cases that cannot be read, named after all others are done.
        """
        start = time.monotonic()
        self._prepare()
        if workers is None and len(cases) <= FEW:
            workers = 1
        jobs = [(self, case) for case in cases]
        built, size, error = 0, 0, 0.0
        faults: list[BrainsegError] = []
        for fault, new, entry in track(imap(_ensure, jobs, workers), "cache", len(jobs)):
            if fault is not None or entry is None:
                faults.append(fault or DataError("entry could not be read back", where=self.folder))
                continue
            built, size, error = built + new, size + entry.bytes, max(error, entry.error)
        if faults:
            raise DataError(
                f"{len(faults)} of {len(jobs)} cases could not be cached: " + " | ".join(map(str, faults[:5])),
                remedy="run `brainseg data verify` on the folder; the other cases are cached",
            )
        return Summary(len(jobs), built, size, time.monotonic() - start, error)

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "settings.json", self.settings)
        for left in self.folder.glob(".tmp-*"):
            try:
                if time.time() - left.stat().st_mtime > ABANDONED_S:
                    left.unlink()
            except FileNotFoundError:  # another process removed it
                continue


def _stamp(path: Path) -> list:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataError("no such file", where=path, remedy="search the folder again (find_cases)") from None
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _ensure(job: tuple[Cache, Case]) -> tuple[BrainsegError | None, bool, Entry | None]:
    cache, case = job
    try:
        entry = cache.find(case)
        if entry is not None and entry.sound():
            return None, False, entry
        _compute(cache, case)
        return None, True, cache.find(case)
    except BrainsegError as error:
        return error, False, None


def _compute(cache: Cache, case: Case) -> None:
    from brainseg_utils.pipeline.registry import cached_part
    from brainseg_utils.pipeline.transforms import load_case

    key = cache.key(case)  # before reading: a file that changes meanwhile makes the entry stale, not wrong
    item = cached_part(cache.report, **cache.arguments)(load_case(case, cache.modalities))
    modalities = cache.modalities or case.modalities
    entries.write(cache.path(case), item, key, case.patient, modalities)
