"""Where weights are: a file, a run's folder, or one of the models that come with the project.

The project's models are `data/reference/models/<name>/weights.safetensors`, each with a card that says what it was
trained on and how well it does. An installation that is no checkout has them below `share/brainseg`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from brainseg_utils.datasets.download import manifest_path
from brainseg_utils.errors import DataError, SettingError, unknown

WEIGHTS = "weights.safetensors"
DEFAULTS: Mapping[str, str] = {  # layout to model
    "brats2020": "fewshot",
    "brats2021": "fewshot",
    "brats2023": "fewshot",
    "brats2024": "phantom",
    "msd": "fewshot",
    "lgg": "lgg",
}


def find(name: str | Path | None, layout: str) -> Path:
    """The weights file that a name, a run's folder or a file means.

    Args:
        name: None: the model for the layout.
        layout: of the cases to predict.

    Raises:
        DataError: a path without weights, or a model that is not there.
        SettingError: no such model, or none for the layout.
    """
    if name is None:
        if layout not in DEFAULTS:
            raise SettingError(
                f"no model for layout {layout}",
                expected="layouts " + ", ".join(DEFAULTS),
                remedy="train one and give its run with --weights",
            )
        return _model(DEFAULTS[layout])
    path = Path(name)
    if path.is_file():
        return path
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    model = folder() / path.name / WEIGHTS
    if path.name == str(name) and (model.is_file() or not path.exists()):  # a folder of scans may be called "lgg" too
        return _model(path.name)
    raise DataError("no weights", where=path, expected=f"a run's folder, its {WEIGHTS}, or a model's name")


def folder() -> Path:
    """Where the project's models are."""
    return manifest_path().parent / "reference" / "models"


def _model(name: str) -> Path:
    path = folder() / name / WEIGHTS
    if path.is_file():
        return path
    known = sorted(file.parent.name for file in folder().glob(f"*/{WEIGHTS}"))
    if known and name not in DEFAULTS.values():
        raise unknown("model", name, known)
    raise DataError(
        "no such file",
        where=path,
        expected=f"the model {name!r}, which comes with the project",
        remedy="install from a whole checkout, or train a model and give its run with --weights",
    )
