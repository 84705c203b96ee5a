"""Intervals, tests and comparisons on numbers with a known answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainseg_utils.errors import DataError
from brainseg_utils.evaluation.statistics import bootstrap_interval, compare, holm, summarise, wilcoxon_p


def table(values, region="WT", metric="dice"):
    return pd.DataFrame(
        [(f"case{i:02d}", region, metric, float(v), "1") for i, v in enumerate(values)],
        columns=["case", "region", "metric", "value", "unit"],
    )


def test_summary_has_the_servers_statistics():
    row = summarise(table([0.2, 0.4, 0.6, 1.0])).iloc[0]
    assert (row["cases"], row["mean"], row["median"]) == (4, pytest.approx(0.55), pytest.approx(0.5))
    assert row["sd"] == pytest.approx(np.std([0.2, 0.4, 0.6, 1.0], ddof=1))
    assert (row["q25"], row["q75"]) == (pytest.approx(0.35), pytest.approx(0.7))
    assert row["low"] < 0.55 < row["high"]
    single = summarise(table([0.7])).iloc[0]
    assert (single["sd"], single["low"], single["high"]) == (0, 0.7, 0.7)


def test_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        low, high = bootstrap_interval(rng.normal(0, 1, 40), rng, resamples=400)
        covered += low <= 0 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_interval_does_not_depend_on_other_regions_or_on_the_block_size(monkeypatch):
    rows = pd.concat([table([0.1, 0.5, 0.9], "ET"), table([0.2, 0.4, 0.6])])
    alone = summarise(table([0.2, 0.4, 0.6]))
    assert summarise(rows).set_index("region").loc["WT", "low"] == alone.loc[0, "low"]
    monkeypatch.setattr("brainseg_utils.evaluation.statistics.MAX_DRAWS", 30)
    assert summarise(table([0.2, 0.4, 0.6])).equals(alone)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_monotone_at_least_as_large_and_at_most_bonferroni(p_values):
    adjusted = holm(p_values)
    assert np.all(adjusted >= np.array(p_values)) and np.all(
        adjusted <= np.minimum(1, np.array(p_values) * len(p_values))
    )
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(adjusted[order]) >= 0)


def test_wilcoxon_sees_a_constant_shift_and_not_nothing():
    assert wilcoxon_p(np.zeros(10)) == 1
    assert wilcoxon_p(np.linspace(0.1, 0.2, 10)) == pytest.approx(2 / 2**10)


def test_comparison_is_paired_and_adjusted_over_regions():
    rng = np.random.default_rng(1)
    base = rng.uniform(0.2, 0.9, 20)  # cases differ by far more than the models do
    first = pd.concat([table(base), table(base, "ET")])
    second = pd.concat([table(base + rng.normal(0.02, 0.005, 20)), table(base + rng.normal(0, 0.005, 20), "ET")])
    result = compare(first, second, ["dice"]).set_index("region")
    assert result.loc["WT", "low"] > 0.01 and result.loc["WT", "p_holm"] < 0.001
    assert result.loc["ET", "low"] < 0 < result.loc["ET", "high"]
    assert (result["p_holm"] >= result["p"]).all() and (result["cases"] == 20).all()
    assert result.loc["WT", "difference"] == pytest.approx(result.loc["WT", "second"] - result.loc["WT", "first"])


def test_comparison_uses_common_cases_only_and_needs_one():
    first, second = table([0.1, 0.2, 0.3]), table([0.2, 0.3, 0.4])
    second = second[second["case"] != "case01"]
    assert compare(first, second, ["dice"])["cases"].tolist() == [2]
    with pytest.raises(DataError, match="no case, region and metric in common"):
        compare(first, table([0.1], region="RC"), ["dice"])
