"""`make lab`: the reader's own copy of the notebooks in `work/`, which no update overwrites.

python -m brainseg_utils.course.lab [--copy-only]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from brainseg_utils.course.checkout import NOTEBOOKS, find_root, numbered
from brainseg_utils.errors import BrainsegError
from brainseg_utils.files import atomic, sha256, write_json

RECORD = ".copied.json"  # SHA-256 of each notebook as it was when it was copied


def update(root: str | Path | None = None) -> list[str]:
    """Makes or updates `work/` and says what was done, one line a notebook that is new or changed.

    A copy that the reader has not changed follows the course; one that was changed is left alone, and where the
    course has a new version, that is laid beside it as NN_name.new.ipynb.
    """
    root = find_root(root)
    work = root / "work"
    work.mkdir(exist_ok=True)
    copied = _read(work / RECORD)
    said = []
    for original in numbered(root / NOTEBOOKS, ".ipynb"):
        line = _update_one(original, work / original.name, copied)
        write_json(work / RECORD, copied)
        said += [line] if line else []
    return said


def _read(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no record: every copy counts as changed by the reader
        return {}


def _update_one(original: Path, copy: Path, copied: dict[str, str]) -> str | None:
    """Updates one copy and its record; returns what to tell the reader, None where there is nothing to tell."""
    now, before = sha256(original), copied.get(original.name)
    if not copy.exists():
        _copy(original, copy)
        copied[original.name] = now
        return f"{copy.name}: copied"
    mine = sha256(copy)
    if mine == now:
        copied[original.name] = now
        return None
    if now == before:
        return None  # only the reader's copy changed
    if mine == before:
        _copy(original, copy)
        copied[original.name] = now
        return f"{copy.name}: updated"
    beside = _free_name(copy, copied)
    _copy(original, beside)
    copied[original.name] = copied[beside.name] = now
    return f"{copy.name}: yours is kept; the course's new version is {beside.name}"


def _free_name(copy: Path, copied: dict[str, str]) -> Path:
    """NN_name.new.ipynb, or .new2 and so on where the reader has changed an earlier one."""
    for number in itertools.count(1):
        beside = copy.with_name(f"{copy.stem}.new{number if number > 1 else ''}.ipynb")
        if not beside.exists() or sha256(beside) == copied.get(beside.name):
            return beside
    raise AssertionError("unreachable")


def _copy(original: Path, copy: Path) -> None:
    with atomic(copy) as temporary:
        shutil.copyfile(original, temporary)


def main() -> int:
    """The command line of `make lab`."""
    parser = argparse.ArgumentParser(
        prog="python -m brainseg_utils.course.lab", description="Open your copy of the notebooks."
    )
    parser.add_argument("--copy-only", action="store_true", help="make or update work/, do not start JupyterLab")
    arguments = parser.parse_args()
    try:
        said = update()
        work = find_root() / "work"
    except BrainsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join([*said, f"your notebooks are in {os.path.relpath(work)}"]), flush=True)
    if arguments.copy_only:
        return 0
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab"], cwd=work)
    while True:
        try:
            return server.wait()
        except KeyboardInterrupt:  # JupyterLab got it too, and asks whether it is meant
            continue


if __name__ == "__main__":
    sys.exit(main())
