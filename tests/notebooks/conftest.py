"""The notebooks under test: the tests' own example, built once, and every notebook of the course."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from brainseg_utils.course import source
from brainseg_utils.course.build import build
from brainseg_utils.course.checkout import numbered
from brainseg_utils.course.checks import Exercise, exercises_of
from brainseg_utils.course.parameters import read_notebook
from brainseg_utils.course.quiz import FOLDER, read

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = Path(__file__).parent / "example"
NAMES = ["90_example", *(path.stem for path in numbered(ROOT / "notebooks" / "source", ".py"))]


@dataclass(frozen=True)
class Lesson:
    """One notebook in its three forms, with its exercises and questions."""

    name: str
    root: Path
    folder: Path  # of its exercises and questions
    minimum: tuple[int, int]  # exercises, questions

    @property
    def source(self) -> Any:
        return source.read_source(self.root / "notebooks" / "source" / f"{self.name}.py")

    @property
    def student_path(self) -> Path:
        return self.root / "notebooks" / f"{self.name}.ipynb"

    @property
    def solution_path(self) -> Path:
        return self.root / "notebooks" / "solutions" / f"{self.name}.ipynb"

    @property
    def student(self) -> Any:
        return self._built(self.student_path)

    @property
    def solution(self) -> Any:
        return self._built(self.solution_path)

    def _built(self, path: Path) -> Any:
        assert path.is_file(), f"{path.name} was never built: run `make notebooks`"
        return read_notebook(path)

    @property
    def exercises(self) -> dict[str, Exercise]:
        path = self.folder / "exercises" / f"nb{self.name[:2]}.py" if self.root == ROOT else self.folder / "nb90.py"
        return exercises_of(load(path)) if path.is_file() else {}

    @property
    def questions(self) -> dict[str, Any]:
        path = FOLDER / f"nb{self.name[:2]}.json" if self.root == ROOT else self.folder / "nb90.json"
        return read(path) if path.is_file() else {}


def load(path: Path) -> Any:
    """A module from its file."""
    spec = importlib.util.spec_from_file_location(f"exercises_under_test_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def example_root(tmp_path_factory) -> Iterator[Path]:
    """A checkout that holds the example alone, built as `make notebooks` builds."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(EXAMPLE, root, dirs_exist_ok=True)
    (root / "brainseg_utils").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLE), *filter(None, [os.environ.get("PYTHONPATH")])]))
        build(root=root)
        yield root


@pytest.fixture(scope="session", params=NAMES)
def lesson(request) -> Lesson:
    """Each notebook in turn."""
    if request.param == "90_example":
        return Lesson(request.param, request.getfixturevalue("example_root"), EXAMPLE, (2, 1))
    return Lesson(request.param, ROOT, ROOT / "brainseg_utils" / "course", (3, 4))
