"""What the first cells of every notebook call: `setup = course.begin("01", profile=profile, ...)`."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainseg_utils import seeds
from brainseg_utils.course import offline, profiles
from brainseg_utils.course.checkout import find_root, shown
from brainseg_utils.course.checks import Checks, checks
from brainseg_utils.course.quiz import Quiz
from brainseg_utils.errors import DataError

OUTPUT = Path("runs", "notebooks")  # inside the checkout, ignored by git
CASES = 12  # of the phantom cohort: enough for a table with a spread, seconds to make


@dataclass(frozen=True)
class Setup:
    """What a notebook works with.

    Args:
        number: the notebook, "01".
        profile: quick or full, as an object.
        data_dir: the reader's folder, or the phantom cohort's.
        lgg_dir: likewise for LGG slices; None in a notebook that does not ask for them.
        output_dir: this notebook's own folder for what it writes.
        seed: the seed that every random stream is derived from.
        workers: processes to use.
        phantom: whether `data_dir` is a phantom cohort.
        check: the notebook's exercise checks.
        quiz: the notebook's questions.
    """

    number: str
    profile: profiles.Profile
    data_dir: Path
    lgg_dir: Path | None
    output_dir: Path
    seed: int
    workers: int
    phantom: bool
    check: Checks | None
    quiz: Quiz

    def rng(self, *names: str | int) -> np.random.Generator:
        """A random stream named after what it decides, the same on every run with the same seed."""
        return seeds.stream(self.seed, self.number, *names)


def begin(
    number: str,
    *,
    profile: str = "quick",
    data_dir: str | Path = "",
    lgg_dir: str | Path | None = None,
    output_dir: str | Path = "",
    seed: int = 0,
    cases: int = CASES,
    layout: str = "brats2023",
    difficulty: str = "normal",
) -> Setup:
    """Fixes the seeds, blocks the network, finds or makes the data, and prints one line about it.

    Args:
        number: the notebook's number, "01".
        profile: quick or full.
        data_dir: a data set's root or its parent; "" makes a phantom cohort.
        lgg_dir: the same for LGG slices; None in a notebook that does not use them.
        output_dir: where results and phantoms go; "" means runs/notebooks in the checkout.
        seed: seeds Python's, NumPy's and, where it is imported already, torch's generator.
        cases: size of the phantom cohort.
        layout: layout of the phantom cohort.
        difficulty: of the phantoms, "easy", "normal" or "hard": what a training of minutes can learn.

    Raises:
        SettingError: no such profile or difficulty.
        DataError: a folder that does not exist.
    """
    chosen = profiles.resolve(profile)
    offline.block()
    seed_everything(seed)
    root = find_root()
    output = Path(output_dir).expanduser().resolve() if str(output_dir) else root / OUTPUT
    processes = profiles.workers()

    def cohort(given: str | Path, of: str, count: int) -> Path:
        if str(given):
            return existing(given)
        return phantoms(output / "phantoms", count, of, chosen.spacing_mm, seed, processes, difficulty)

    setup = Setup(
        number=number,
        profile=chosen,
        data_dir=cohort(data_dir, layout, cases),
        lgg_dir=None if lgg_dir is None else cohort(lgg_dir, "lgg", cases),
        output_dir=output / number,
        seed=seed,
        workers=processes,
        phantom=not str(data_dir),
        check=checks(number),
        quiz=Quiz(number),
    )
    setup.output_dir.mkdir(parents=True, exist_ok=True)
    kind = layout if difficulty == "normal" else f"{layout}, {difficulty}"
    data = f"{cases} phantoms ({kind})" if setup.phantom else f"scans in {shown(setup.data_dir, root)}"
    print(f"Notebook {number}, {profile} profile, seed {seed}: {data}; results go to {shown(setup.output_dir, root)}")
    return setup


def seed_everything(seed: int) -> None:
    """Seeds the generators that code outside the course may draw from; the course's own are named streams."""
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def existing(folder: str | Path) -> Path:
    """The folder as an absolute path.

    Raises:
        DataError: it does not exist or is no folder.
    """
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise DataError(
            "no such folder",
            where=path,
            expected="a data set's folder",
            remedy='check the path, or give "" for phantoms',
        )
    return path


def phantoms(
    folder: Path, cases: int, layout: str, spacing_mm: int, seed: int, workers: int, difficulty: str = "normal"
) -> Path:
    """A phantom cohort in `folder`, made unless one with the same settings is there.

    It is made beside its final name and renamed, so that an interrupted run leaves none and two notebooks that
    start together do not meet.
    """
    from brainseg_utils.phantom.cohort import make

    settings = {"cases": cases, "layout": layout, "spacing": spacing_mm, "seed": seed, "version": package_digest()}
    settings |= {} if difficulty == "normal" else {"difficulty": difficulty}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    target = folder / f"{layout}-{cases}-{key}"
    if target.is_dir():
        return target
    making = folder / f".making-{target.name}-{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    try:
        make(making, cases, layout, seed=seed, spacing=spacing_mm, difficulty=difficulty, workers=workers)
        try:
            making.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first with the same cohort
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return target


def package_digest() -> str:
    """Changes with the phantom's code or tables, so that no older cohort is taken for a new one."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parents[1] / "phantom").glob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
