"""One HTML file about a cohort's scores: what was scored, how well, the spread over the cases, and the worst ones.

The file carries everything in itself (styles, drawings, pictures), so that it can be mailed, printed or archived.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from brainseg_utils import files
from brainseg_utils.errors import DataError
from brainseg_utils.evaluation.cohort import Evaluation
from brainseg_utils.evaluation.errors import worst_cases
from brainseg_utils.evaluation.statistics import compare, summarise
from brainseg_utils.evaluation.tables import DECIMALS, SHOWN

if TYPE_CHECKING:
    import pandas as pd

WORST = 6
WIDTH, LABEL_WIDTH, ROW_HEIGHT, MARGIN = 640, 64, 44, 14
JITTER = 11  # pixels that equal values are spread over, from the row's middle


class Picture(NamedTuple):
    """A picture of one case: PNG bytes and a sentence that says what is to be seen."""

    png: bytes
    alt: str


PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 60rem; margin: 0 auto;
  padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:nth-child(-n+$words), td:nth-child(-n+$words) { text-align: left; }
caption { text-align: left; color: #555; padding-bottom: .3rem; }
figure { margin: 1rem 0; break-inside: avoid; } figcaption { color: #555; font-size: .9rem; }
svg, img { max-width: 100%; height: auto; }
.flag { border-left: 4px solid #D55E00; padding-left: .8rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 1rem; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


def write_report(
    evaluation: Evaluation,
    path: str | Path,
    title: str = "Segmentation scores",
    other: Evaluation | None = None,
    picture: Callable[[str], Picture | None] | None = None,
    seed: int = 0,
) -> Path:
    """Writes the report atomically.

    Args:
        evaluation: the scores.
        path: the HTML file.
        title: its heading.
        other: scores of a second model on the same cases, to compare with.
        picture: gives the picture of a case by its id, or None; asked for the worst cases only.
        seed: of the bootstrap.

    Raises:
        DataError: the table has no row.
    """
    if evaluation.rows.empty:
        raise DataError(
            "no scores", where=path, expected="one case or more", remedy="evaluate cases that can be read first"
        )
    shown = evaluation.rows[evaluation.rows["metric"].isin(SHOWN)]
    summary = summarise(shown, seed)
    parts = [_overview(evaluation), _summary(summary), *_spreads(shown, summary)]
    if other is not None:
        parts.append(_comparison(evaluation, other, seed))
    parts.append(_worst(evaluation.rows, picture))
    parts.append(_messages("Not scored", evaluation.faults) + _messages("Warnings", evaluation.warnings))
    return files.write_text(path, PAGE.substitute(title=escape(title), body="\n".join(parts), words=2))


def _overview(evaluation: Evaluation) -> str:
    cases = evaluation.rows["case"].nunique()
    protocol = f"Protocol {escape(evaluation.protocol)}. " if evaluation.protocol else ""
    flags = []
    if evaluation.missing:
        flags.append(f"{len(evaluation.missing)} without a prediction, scored with the worst values")
    if evaluation.faults:
        flags.append(f"{len(evaluation.faults)} could not be scored and are not in the tables")
    flagged = f'<p class="flag">{escape("; ".join(flags))}.</p>' if flags else ""
    return f"<p>{protocol}{cases} cases scored. Not a medical device.</p>{flagged}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], caption: str) -> str:
    header = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _named(metric: str, unit: str) -> str:
    return metric if unit == "1" else f"{metric} ({unit})"


def _summary(summary: pd.DataFrame) -> str:
    rows = []
    for row in summary.to_dict("records"):
        digits = DECIMALS.get(row["unit"], 3)
        numbers = [f"{row[key]:.{digits}f}" for key in ("mean", "low", "high", "sd", "q25", "median", "q75")]
        rows.append((row["region"], _named(row["metric"], row["unit"]), *numbers))
    head = ("region", "metric", "mean", "from", "to", "sd", "25 %", "median", "75 %")
    caption = "Mean over the cases with its 95 % bootstrap interval, standard deviation, quartiles and median."
    return f"<h2>Summary</h2>{_table(head, rows, caption)}"


def _spreads(shown: pd.DataFrame, summary: pd.DataFrame) -> list[str]:
    """One drawing a metric."""
    drawings = ["<h2>Spread over the cases</h2>"]
    for (metric, unit), group in shown.groupby(["metric", "unit"], sort=False):
        means = summary[summary["metric"] == metric]  # in the regions' order of the scores, as the groups below
        values = {str(region): part["value"].to_numpy(float) for region, part in group.groupby("region", sort=False)}
        drawings.append(_strip(_named(str(metric), str(unit)), str(unit), values, means))
    return drawings


def _strip(name: str, unit: str, values: dict[str, np.ndarray], means: pd.DataFrame) -> str:
    """Dots for the cases, a tall tick for the median, a diamond on a bar for the mean and its interval."""
    top = 1.0 if unit == "1" else max(float(v.max()) for v in values.values()) or 1.0
    power = 1.0 if unit == "1" else 0.5  # a penalty of 374 mm would press all other distances together
    span = WIDTH - LABEL_WIDTH - 2 * MARGIN
    height = ROW_HEIGHT * len(values) + 34

    def x(value: float) -> str:
        return f"{LABEL_WIDTH + MARGIN + span * (value / top) ** power:.1f}"

    marks, words = [], []
    for index, (region, numbers) in enumerate(values.items()):
        middle = ROW_HEIGHT * index + ROW_HEIGHT // 2
        median = float(np.median(numbers))
        marks.append(f'<text x="4" y="{middle + 5}" font-size="14">{escape(region)}</text>')
        # Spread without chance; dots that would lie on each other are drawn once.
        places = {(x(value), middle + k * 7 % (2 * JITTER + 1) - JITTER) for k, value in enumerate(np.sort(numbers))}
        for left, y in sorted(places):
            marks.append(f'<circle cx="{left}" cy="{y}" r="2.5" fill="#0072B2" fill-opacity=".45"/>')
        low, mean, high = (float(means[key].to_numpy()[index]) for key in ("low", "mean", "high"))
        marks.append(
            f'<path d="M{x(median)} {middle - 15}V{middle + 15}" stroke="#000" stroke-width="2"/>'
            f'<path d="M{x(low)} {middle}H{x(high)}" stroke="#D55E00" stroke-width="3"/>'
            f'<path d="M{x(mean)} {middle - 6}l6 6l-6 6l-6 -6z" fill="#D55E00"/>'
        )
        words.append(f"{region}: mean {mean:.3g}, median {median:.3g}")
    axis = ROW_HEIGHT * len(values) + 8
    marks.append(f'<path d="M{x(0)} {axis}H{x(top)}" stroke="#555"/>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        value, anchor = share ** (1 / power) * top, "end" if share == 1 else "middle"
        marks.append(f'<path d="M{x(value)} {axis}v5" stroke="#555"/>')
        marks.append(f'<text x="{x(value)}" y="{axis + 20}" font-size="12" text-anchor="{anchor}">{value:.3g}</text>')
    alt = f"{name} of {max(map(len, values.values()))} cases by region. " + "; ".join(words) + "."
    scale = "" if power == 1 else " Square-root axis."
    return (
        f'<figure><h3>{escape(name)}</h3><svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" '
        f'aria-label="{escape(alt, quote=True)}">{"".join(marks)}</svg>'
        f"<figcaption>Dot: a case. Tall tick: median. Diamond: mean, with its 95 % interval.{scale}</figcaption>"
        "</figure>"
    )


def _comparison(evaluation: Evaluation, other: Evaluation, seed: int) -> str:
    shared = [m for m in SHOWN if m in set(evaluation.rows["metric"]) & set(other.rows["metric"])]
    rows = []
    for row in compare(evaluation.rows, other.rows, shared, seed).to_dict("records"):
        digits = DECIMALS.get(row["unit"], 3)
        numbers = [f"{row[key]:.{digits}f}" for key in ("first", "second", "difference", "low", "high")]
        name = _named(row["metric"], row["unit"])
        rows.append((row["region"], name, *numbers, f"{row['p']:.3g}", f"{row['p_holm']:.3g}", str(row["cases"])))
    head = ("region", "metric", "this", "other", "difference", "from", "to", "p", "p (Holm)", "cases")
    caption = (
        "Paired over the cases that both have: mean of other minus this with its 95 % bootstrap interval, Wilcoxon "
        "signed-rank test, adjusted over the regions of a metric."
    )
    return f"<h2>Compared with the other model</h2>{_table(head, rows, caption)}"


def _worst(rows: pd.DataFrame, picture: Callable[[str], Picture | None] | None) -> str:
    region = str(rows["region"].iloc[0])
    worst = worst_cases(rows, "dice", region, WORST)
    table = [(str(row["case"]), region, f"{row['value']:.3f}") for row in worst.to_dict("records")]
    html = f"<h2>Worst cases</h2>{_table(('case', 'region', 'dice'), table, f'Lowest Dice of {region}, worst first.')}"
    figures = []
    for case in worst["case"] if picture else ():
        if found := picture(str(case)):  # type: ignore[misc]
            source = base64.b64encode(found.png).decode("ascii")
            figures.append(
                f'<figure><img src="data:image/png;base64,{source}" alt="{escape(found.alt, quote=True)}">'
                f"<figcaption>{escape(str(case))}</figcaption></figure>"
            )
    return html + (f'<div class="gallery">{"".join(figures)}</div>' if figures else "")


def _messages(heading: str, messages: tuple[str, ...]) -> str:
    if not messages:
        return ""
    items = "".join(f"<li>{escape(message)}</li>" for message in messages)
    return f"<h2>{heading}</h2><ul>{items}</ul>"
