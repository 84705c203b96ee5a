"""`brainseg course run`: every notebook through papermill, each in its own process.

A notebook that fails does not stop the others. `index.html` in the run's folder says how each went, what it cost in
time and memory, and shows the error; it is written anew after every notebook, so an interrupted run has one too.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from brainseg_utils.course import index, measure, reference
from brainseg_utils.course.checkout import NOTEBOOKS, find_root, numbered, select
from brainseg_utils.course.parameters import coerce, defaults, read_notebook
from brainseg_utils.course.profiles import processor, resolve
from brainseg_utils.course.report import Reporter
from brainseg_utils.errors import DataError, SettingError, unknown
from brainseg_utils.files import write_text
from brainseg_utils.parallel import default_workers

LIMIT_S = {"quick": 30 * 60.0, "full": None}  # the whole course takes 30 minutes in the quick profile
MAY_BE_MISSING = "output_dir"  # the one folder that a notebook makes itself


@dataclass(frozen=True)
class NotebookRun:
    """One notebook of a run.

    Args:
        path: the student notebook.
        parameters: what it was given.
        status: waiting, running, passed, failed, timed out or interrupted.
        seconds: wall time, the kernel's start included.
        peak_bytes: peak memory of its kernel and the kernel's children.
        error: the error's last line, or "".
        cell: the execution count ("In [3]") of the cell that failed, where one did.
    """

    path: Path
    parameters: dict[str, Any]
    status: str = "waiting"
    seconds: float = 0.0
    peak_bytes: int = 0
    error: str = ""
    cell: int | None = None

    @property
    def name(self) -> str:
        """The notebook's name without suffix."""
        return self.path.stem


@dataclass(frozen=True)
class CourseRun:
    """A finished or interrupted run of the course."""

    folder: Path
    profile: str
    notebooks: list[NotebookRun]

    @property
    def index(self) -> Path:
        """The page that describes the run."""
        return self.folder / "index.html"

    @property
    def exit_code(self) -> int:
        """0 where every notebook passed, else 1."""
        return int(any(notebook.status != "passed" for notebook in self.notebooks))

    @property
    def summary(self) -> str:
        """How many passed, in what time, with what peak memory."""
        passed = sum(notebook.status == "passed" for notebook in self.notebooks)
        seconds = sum(notebook.seconds for notebook in self.notebooks)
        peak = max(notebook.peak_bytes for notebook in self.notebooks) / 2**20
        return f"{passed} of {len(self.notebooks)} notebooks passed ({seconds:.0f} s, peak {peak:.0f} MiB)"


def run(
    only: str | None = None,
    profile: str = "quick",
    parameters: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    *,
    record: bool = False,
    limit_s: float | None = None,
    root: Path | None = None,
) -> CourseRun:
    """Runs the student notebooks one after the other.

    Args:
        only: numbers or names joined by commas; default all.
        profile: quick or full.
        parameters: values by name; each goes to the notebooks that have the parameter.
        out: the run's folder; default runs/course/<time> in the checkout.
        record: whether to keep time and memory of those that pass in data/reference.
        limit_s: seconds that one notebook may take; default 30 minutes in quick, none in full.
        root: the checkout; default found from the working directory.

    Raises:
        SettingError: no such notebook, profile or parameter; nothing has run then.
        DataError: a folder given as a parameter does not exist.
        KeyboardInterrupt: after the index was written.
    """
    root = find_root() if root is None else root
    resolve(profile)
    paths = select(numbered(root / NOTEBOOKS, ".ipynb"), only)
    if not paths:
        raise SettingError(
            "no notebooks", where=root / NOTEBOOKS, expected="NN_name.ipynb", remedy="run `make notebooks`"
        )
    notebooks = plan(paths, profile, dict(parameters or {}))
    folder = Path(out) if out else root / "runs" / "course" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder.mkdir(parents=True, exist_ok=True)
    finished = _run_all(CourseRun(folder.resolve(), profile, notebooks), limit_s or LIMIT_S[profile])
    if record:
        reference.record_times({n.name: _figures(n) for n in finished.notebooks if n.status == "passed"}, profile, root)
    return finished


def plan(paths: list[Path], profile: str, given: dict[str, Any]) -> list[NotebookRun]:
    """Which notebook gets which parameters; everything that is wrong with the request comes out here.

    Raises:
        SettingError, DataError: as `run`.
    """
    known = {path: defaults(read_notebook(path), path.name) for path in paths}
    names = {name for parameters in known.values() for name in parameters} - {"profile"}
    if "profile" in given:
        raise SettingError("profile given as a parameter", remedy=f"use --profile {given['profile']}")
    for name in given:
        if name not in names:
            raise unknown("parameter", name, names)
    values = {name: _absolute(name, value) for name, value in given.items()}
    runs = []
    for path, parameters in known.items():
        own = {name: coerce(name, value, parameters[name]) for name, value in values.items() if name in parameters}
        if "profile" in parameters:
            own["profile"] = profile
        runs.append(NotebookRun(path, own))
    return runs


def _absolute(name: str, value: Any) -> Any:
    """A folder as the caller means it: notebooks run in another working directory."""
    if not name.endswith("_dir") or not str(value):
        return value
    path = Path(value).expanduser().resolve()
    if name != MAY_BE_MISSING and not path.is_dir():
        raise DataError(
            f"no such folder for {name}", where=path, expected="a data set's folder", remedy="check the path"
        )
    return str(path)


def _figures(notebook: NotebookRun) -> dict[str, Any]:
    given = " ".join(f"-p {name} {value}" for name, value in notebook.parameters.items() if name != "profile")
    profile = notebook.parameters.get("profile", "quick")
    return {
        "seconds": round(notebook.seconds, 1),
        "peak_mib": round(notebook.peak_bytes / 2**20),
        "cores": default_workers(),
        "device": processor(),
        "seed": notebook.parameters.get("seed", defaults(read_notebook(notebook.path)).get("seed")),
        "date": datetime.now().date().isoformat(),
        "command": f"brainseg course run --only {notebook.name[:2]} --profile {profile} {given}".rstrip(),
    }


def _run_all(course: CourseRun, limit_s: float | None) -> CourseRun:
    with Reporter(len(course.notebooks)) as reporter:
        for number, notebook in enumerate(course.notebooks):
            _set(course, number, replace(notebook, status="running"))
            reporter.begin(notebook.name)
            start = time.monotonic()
            try:
                done = _run_one(notebook, course.folder, limit_s, reporter)
            except BaseException:  # Ctrl-C above all: leave an index that says so
                seconds = time.monotonic() - start
                _set(course, number, replace(notebook, status="interrupted", seconds=seconds))
                reporter.end(notebook.name, "interrupted", seconds, 0, f"see {course.index}")
                raise
            _set(course, number, done)
            reporter.end(done.name, done.status, done.seconds, done.peak_bytes, done.error)
    return course


def _set(course: CourseRun, number: int, notebook: NotebookRun) -> None:
    course.notebooks[number] = notebook
    write_text(course.index, index.page(course.notebooks, course.profile, course.folder))


def _run_one(notebook: NotebookRun, folder: Path, limit_s: float | None, reporter: Reporter) -> NotebookRun:
    target, log = folder / notebook.path.name, folder / f"{notebook.name}.log"
    encoded = base64.b64encode(json.dumps(notebook.parameters).encode()).decode()  # JSON is YAML
    command = [sys.executable, "-m", "papermill", str(notebook.path), str(target), "--parameters_base64", encoded]
    command += ["--cwd", str(notebook.path.parent), "--kernel", "python3", "--no-progress-bar", "--no-log-output"]
    cost = measure.watch(command, log, limit_s, lambda seconds, peak: reporter.tick(cells_done(target), seconds, peak))
    done = replace(notebook, seconds=cost.seconds, peak_bytes=cost.peak_bytes)
    if cost.timed_out:
        done = replace(done, status="timed out", error=f"ended after {limit_s:.0f} s")
    elif cost.code == 0:
        done = replace(done, status="passed")
    else:
        cell, error = failure(target, log)
        done = replace(done, status="failed", error=error, cell=cell)
    with contextlib.suppress(SettingError):  # no notebook, or half a one, where papermill itself was ended
        write_text(target.with_suffix(".html"), index.notebook_page(target, done.name))
    if done.status == "passed":
        log.unlink()
    return done


def cells_done(target: Path) -> tuple[int, int]:
    """Code cells executed and in all, as papermill has written them so far; (0, 0) before it has."""
    try:
        cells = json.loads(target.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        return 0, 0
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    return sum(cell["execution_count"] is not None for cell in code), len(code)


def failure(target: Path, log: Path) -> tuple[int | None, str]:
    """The execution count of the cell that failed and its error, else the last line of papermill's own output."""
    try:
        cells = read_notebook(target).cells
    except SettingError:  # papermill failed before it wrote one
        cells = []
    for cell in cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return cell.execution_count, f"{output.ename}: {output.evalue}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return None, lines[-1] if lines else "papermill ended without a word"
