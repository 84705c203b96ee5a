"""Recorded runs: what prose and tables quote instead of numbers typed by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainseg_utils.course.checkout import find_root
from brainseg_utils.errors import DataError
from brainseg_utils.files import write_json

if TYPE_CHECKING:
    import pandas as pd

TIMES = Path("data", "reference", "course_times.json")
RUNS = Path("data", "reference", "runs")
FACTS = ("command", "seed", "device")  # that every record names, beside the time
TIME_FACTS = ("time", "training_seconds")  # under which it stands: of one run, of several together
UNKNOWN_TIME = "not recorded yet"
TIME_TEXT = re.compile(rf"(\d+ (?:s|min) on \d+ cores?|{UNKNOWN_TIME})")


def course_times(root: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Recorded runs of the notebooks: {"01_data_exploration": {"quick": {seconds, peak_mib, cores, date}}}."""
    path = find_root(root) / TIMES
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def record_times(measured: dict[str, dict[str, Any]], profile: str, root: str | Path | None = None) -> Path:
    """Adds one run's figures by notebook to the record and returns its path."""
    times = course_times(root)
    for notebook, figures in measured.items():
        times.setdefault(notebook, {})[profile] = figures
    return write_json(find_root(root) / TIMES, dict(sorted(times.items())))


def time_text(notebook: str, profile: str, root: str | Path | None = None) -> str:
    """A recorded time in words: "40 s on 2 cores", "3 min on 2 cores", or that there is none yet."""
    figures = course_times(root).get(notebook, {}).get(profile)
    if figures is None:
        return UNKNOWN_TIME
    seconds = figures["seconds"]
    text = f"{max(5, 5 * round(seconds / 5))} s" if seconds < 90 else f"{round(seconds / 60)} min"
    return f"{text} on {figures['cores']} core{'s' if figures['cores'] != 1 else ''}"


@dataclass(frozen=True)
class Reference:
    """One recorded run: a folder of `data/reference/runs`.

    Attributes:
        name: of the folder.
        history: one row an epoch (`training.run.Run.history`); None for a record of scores alone.
        metrics: the outcome; empty where the record has none.
        environment: where and how it was made; names command, seed and device.
        scores: one row a patient, where the record has them.
        summary: means and intervals of those scores, where the record has them.
    """

    name: str
    history: pd.DataFrame | None
    metrics: Mapping[str, Any]
    environment: Mapping[str, Any]
    scores: pd.DataFrame | None
    summary: Mapping[str, Any]

    @property
    def made(self) -> str:
        """How it was made, in a line."""
        facts = self.environment
        return f"`{facts['command']}`, seed {facts['seed']}, {facts['device']}, {_time(facts)}"


def reference_runs(root: str | Path | None = None) -> dict[str, Reference]:
    """The recorded runs that there are, by name; longer ones than a notebook can make.

    Args:
        root: of the checkout; default: the one that this package lies in.

    Raises:
        DataError: a record that does not name its command, seed, device and time, or is damaged.

    Example:
        >>> isinstance(reference_runs(), dict)
        True
    """
    folder = find_root(root) / RUNS
    found = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return {path.name: _reference(path) for path in found}


def _reference(path: Path) -> Reference:
    from brainseg_utils.training.run import Run

    run = Run(path)
    try:
        environment, metrics = run.environment, run.metrics
        summary = path / "summary.json"
        summarised = json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {}
        history = run.history() if (path / "history.csv").is_file() else None
        scores = _table(path / "scores.csv")
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"damaged record ({error})", where=path, remedy="record the run anew") from None
    missing = [fact for fact in FACTS if fact not in environment] + ([] if _time(environment) else ["time"])
    if missing:
        raise DataError(
            f"a record without {', '.join(missing)}",
            where=path / "environment.json",
            expected=f"{', '.join(FACTS)} and time",
            remedy="record the run anew",
        )
    return Reference(path.name, history, metrics, environment, scores, summarised)


def _time(facts: Mapping[str, Any]) -> str:
    """How long it took, in words; "" where the record does not say."""
    value = next((facts[name] for name in TIME_FACTS if name in facts), "")
    if isinstance(value, int | float):
        return f"{value:.0f} s" if value < 90 else f"{value / 60:.0f} min"
    return str(value)


def _table(path: Path) -> pd.DataFrame | None:
    import pandas as pd

    return pd.read_csv(path) if path.is_file() else None
