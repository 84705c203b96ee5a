"""A run that is killed from outside, for `test_resume`: python killed_run.py FOLDER STEP."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

from brainseg_utils.training.data import Sources
from brainseg_utils.training.loop import fit
from brainseg_utils.training.recipe import parse
from brainseg_utils.training.run import Run


def main() -> None:
    """Trains the little recipe and dies at a step, without a chance to tidy up."""
    folder, step = Path(sys.argv[1]), int(sys.argv[2])
    spec = importlib.util.spec_from_file_location("little", Path(__file__).with_name("conftest.py"))
    assert spec is not None and spec.loader is not None
    shared = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shared)
    recipe = parse(shared.CONTENT)

    def die(number: int) -> None:
        if number == step * recipe.budget.batch + 1:
            os.kill(os.getpid(), signal.SIGKILL)

    samples = shared.Blobs(fault=die)
    fit(recipe, Sources(samples, shared.held_out(samples), 3, ("object",)), Run.begin(folder, recipe))


if __name__ == "__main__":
    main()
