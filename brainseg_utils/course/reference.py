"""Recorded runs: what prose and tables quote instead of numbers typed by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from brainseg_utils.course.checkout import find_root
from brainseg_utils.files import write_json

TIMES = Path("data", "reference", "course_times.json")
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
