"""From scores of cases to statements about a cohort: means with intervals, and whether two models differ.

Cases are the unit: every case counts once, penalties included, and intervals come from drawing cases again. Two models
are compared on the same cases, case by case, because cases differ more than models do.

Sources: Efron & Tibshirani 1993 (percentile bootstrap), Wilcoxon 1945 (doi 10.2307/3001968), Holm 1979 (Scandinavian
Journal of Statistics 6, 65).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from brainseg_utils.errors import DataError
from brainseg_utils.seeds import stream

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000
CONFIDENCE = 0.95
MAX_DRAWS = 5_000_000  # numbers drawn at a time, so that large cohorts do not fill the memory


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: (N,) one number a case, N > 0.
        rng: decides which cases are drawn.
        resamples: how often N cases are drawn with replacement.
        confidence: 0 to 1.

    Returns:
        Lower and upper end, in the values' unit; both are the value itself for one case.

    Example:
        >>> import numpy as np
        >>> bootstrap_interval([0.5, 0.5, 0.5], np.random.default_rng(0))
        (0.5, 0.5)
    """
    values = np.asarray(values, float)
    block = max(1, MAX_DRAWS // len(values))
    means = []
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        means.append(values[rng.integers(0, len(values), (rows, len(values)))].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def summarise(rows: pd.DataFrame, seed: int = 0, resamples: int = RESAMPLES) -> pd.DataFrame:
    """Mean, spread and interval of every region and metric over the cases.

    Args:
        rows: tidy scores (`case, region, metric, value, unit`).
        seed: of the bootstrap; each region and metric has its own stream.
        resamples: of the bootstrap.

    Returns:
        One row a region and metric, in the order of the scores: `region, metric, unit, cases, mean, low, high, sd, q25,
        median, q75`; `sd` divides by N - 1 and is 0 for one case, `low` and `high` are the 95 % interval of the mean.
    """
    import pandas as pd

    summary = []
    for (region, metric, unit), group in rows.groupby(["region", "metric", "unit"], sort=False):
        values = group["value"].to_numpy(float)
        low, high = bootstrap_interval(values, stream(seed, "bootstrap", str(region), str(metric)), resamples)
        q25, median, q75 = np.quantile(values, [0.25, 0.5, 0.75])
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        summary.append((region, metric, unit, len(values), values.mean(), low, high, spread, q25, median, q75))
    columns = ["region", "metric", "unit", "cases", "mean", "low", "high", "sd", "q25", "median", "q75"]
    return pd.DataFrame(summary, columns=columns)


def wilcoxon_p(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p-value of the Wilcoxon signed-rank test; 1 if no case differs.

    Cases without a difference are left out, as Wilcoxon did.
    """
    from scipy.stats import wilcoxon

    differences = np.asarray(differences, float)
    if not np.any(differences):
        return 1.0
    return float(wilcoxon(differences).pvalue)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment for testing several hypotheses.

    Args:
        p_values: (N,).

    Returns:
        (N,) adjusted p-values in the same order; compare them with the level as they are.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    metrics: Sequence[str] = ("dice", "hd95"),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Compares two models on the cases that both have scores for.

    Args:
        first: tidy scores of one model.
        second: tidy scores of the other.
        metrics: which to compare; p-values are adjusted over the regions of one metric.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        One row a metric and region: `metric, region, unit, cases, first, second, difference, low, high, p, p_holm`,
        where `difference` is the mean of second minus first over the cases and `low`, `high` its 95 % interval.

    Raises:
        DataError: no case, region and metric in common.
    """
    import pandas as pd

    keys = ["case", "region", "metric"]
    both = first.merge(second[[*keys, "value"]], on=keys, suffixes=("_first", "_second"))
    both = both[both["metric"].isin(list(metrics))]
    if both.empty:
        raise DataError(
            "no case, region and metric in common",
            where="comparison of two models",
            expected=f"scores of the same cases with {', '.join(metrics)}",
            remedy="evaluate both models on the same folder with the same protocol",
        )
    found = []
    for (metric, region, unit), group in both.groupby(["metric", "region", "unit"], sort=False):
        difference = (group["value_second"] - group["value_first"]).to_numpy(float)
        low, high = bootstrap_interval(difference, stream(seed, "compare", str(region), str(metric)), resamples)
        means = group["value_first"].mean(), group["value_second"].mean()
        found.append((metric, region, unit, len(group), *means, difference.mean(), low, high, wilcoxon_p(difference)))
    columns = ["metric", "region", "unit", "cases", "first", "second", "difference", "low", "high", "p"]
    table = pd.DataFrame(found, columns=columns)
    table["p_holm"] = table.groupby("metric", sort=False)["p"].transform(lambda p: holm(p.to_numpy()))
    return table.sort_values("metric", key=lambda m: m.map(list(metrics).index), kind="stable", ignore_index=True)
