"""The scores of a cohort as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brainseg_utils.evaluation.cohort import Evaluation
from brainseg_utils.evaluation.statistics import summarise

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = ("dice", "mean_accuracy", "hd95", "nsd_voxel_1mm", "lesion_dice", "lesion_hd95", "lesion_nsd_1mm")
DECIMALS = {"1": 3, "mm": 2, "px": 2, "mm3": 0}


def render(evaluation: Evaluation, seed: int = 0) -> Table:
    """Mean with its 95 % bootstrap interval, median and standard deviation of the main metrics, in 80 columns.

    Args:
        evaluation: with one row or more.
        seed: of the bootstrap.
    """
    from rich.table import Table

    shown = evaluation.rows[evaluation.rows["metric"].isin(SHOWN)]
    cases = evaluation.rows["case"].nunique()
    title = f"{evaluation.protocol or 'scores'}: {cases} case{'s' * (cases != 1)}"
    table = Table(title=title, title_justify="left")
    for name in ("region", "metric", "mean", "95 % interval", "median", "sd"):
        table.add_column(name, justify="left" if name in ("region", "metric") else "right", no_wrap=True)
    previous = None
    for row in summarise(shown, seed).to_dict("records"):
        region, metric, unit = str(row["region"]), str(row["metric"]), str(row["unit"])
        digits = DECIMALS.get(unit, 3)
        numbers = [f"{row[key]:.{digits}f}" for key in ("mean", "median", "sd")]
        interval = f"{row['low']:.{digits}f} to {row['high']:.{digits}f}"
        if previous not in (None, region):
            table.add_section()
        name = metric if unit == "1" else f"{metric} ({unit})"
        table.add_row("" if region == previous else region, name, numbers[0], interval, *numbers[1:])
        previous = region
    return table
