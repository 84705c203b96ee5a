"""Records of runs: what the project keeps of a training that was too long to be repeated by every reader.

A record is a run's folder without weights, checkpoints and events; its `environment.json` names the command that makes
the run again, the seed, the device and the time in seconds. `course.reference` reads them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from brainseg_utils.datasets.download import manifest_path
from brainseg_utils.errors import DataError
from brainseg_utils.files import write_json
from brainseg_utils.training.run import Run

KEPT = ("recipe.toml", "split.json", "history.csv", "metrics.json")  # beside environment.json


def record(
    run: str | Path, name: str, command: str, device: str | None = None, folder: str | Path | None = None
) -> Path:
    """Keeps a finished run as the record `name`; one that is there is replaced when the new one is whole.

    Args:
        run: its folder.
        name: of the record.
        command: the one that makes the run again.
        device: in words; default: as the run noted it.
        folder: of the records; default: the project's, `data/reference/runs`.

    Returns:
        The record's folder.

    Raises:
        DataError: the run is not finished.
    """
    made = Run(run)
    target = (Path(folder) if folder else manifest_path().parent / "reference" / "runs") / name
    if not made.finished:
        raise DataError("a run that is not finished", where=made.path, remedy="resume it first")
    facts = made.environment
    if facts["device"] == "cpu":
        facts["device"] = f"CPU, {facts['threads']} thread{'s' if facts['threads'] != 1 else ''}"
    told = {"command": command, "seed": made.recipe.seed, "device": device or facts["device"]}
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=target.parent.parent) as temporary:
        whole = Path(temporary, "new")
        whole.mkdir()
        for file in KEPT:
            shutil.copyfile(made.path / file, whole / file)
        write_json(whole / "environment.json", {**facts, **told, "time": made.metrics["seconds"]})
        if target.exists():
            target.rename(Path(temporary, "old"))
        whole.rename(target)
    return target
