"""From a GAN's recipe and cases to samples, and to a run: what a notebook or a script calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from brainseg_utils.datasets.cases import Case
from brainseg_utils.models.painter import TISSUES
from brainseg_utils.training import adversarial, data
from brainseg_utils.training.adversarial import AfterEpoch
from brainseg_utils.training.data import Samples
from brainseg_utils.training.gan_recipe import GanRecipe
from brainseg_utils.training.gan_run import GanRun


def samples(recipe: GanRecipe, cases: Sequence[Case] = ()) -> Samples:
    """Patches with class numbers of all tissues, as the recipe's `[data]` table says.

    Args:
        recipe: of the GAN.
        cases: to train on; none where the recipe makes phantoms.

    Raises:
        DataError: cases that cannot be used.
    """
    kind, part = data.KINDS[recipe.data.name], recipe.budget.batch // recipe.engine.accumulate
    return kind(cases, [], recipe.seed, part, regions=TISSUES, exclusive=True, **recipe.data.options).train


def train(
    recipe: GanRecipe,
    out: str | Path,
    cases: Sequence[Case] = (),
    resume: bool = False,
    after_epoch: AfterEpoch | None = None,
) -> GanRun:
    """Trains a generator; arguments as `samples` and `adversarial.fit`, errors too.

    Args:
        recipe: what to do.
        out: the run's folder.
        cases: to train on.
        resume: go on with the run in `out`, if there is one.
        after_epoch: as `adversarial.fit`.
    """
    run = GanRun.begin(out, recipe, resume)  # type: ignore[arg-type]
    assert isinstance(run, GanRun)
    adversarial.fit(recipe, samples(recipe, cases), run, after_epoch)
    return run
