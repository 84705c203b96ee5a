"""Scores of a whole cohort: files in, one tidy table out, a constant number of cases in memory.

A case that cannot be read is named and left out, the others are scored; a case without a prediction gets the worst
scores and is flagged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainseg_utils import files
from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.errors import BrainsegError, DataError
from brainseg_utils.evaluation.jobs import Job
from brainseg_utils.evaluation.matching import match
from brainseg_utils.evaluation.protocols import Protocol, Score, get_protocol, score_case, score_missing
from brainseg_utils.evaluation.reading import check_grid, read_mask
from brainseg_utils.parallel import default_workers, imap
from brainseg_utils.progress import track

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("case", "region", "metric", "value", "unit")
CASES_PER_WORKER = 2  # a process takes as long to start as so many cases take to score


@dataclass(frozen=True)
class Evaluation:
    """The scores of a cohort.

    Attributes:
        protocol: name of the protocol.
        rows: one row a case, region and metric: `case, region, metric, value, unit`.
        faults: cases that could not be scored, one message each.
        warnings: what else the reader should know, one message each.
        missing: ids of the cases without a prediction; they are in the table with the worst scores.
    """

    protocol: str
    rows: pd.DataFrame
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """2 if a case could not be scored, else 1 if a prediction is missing, else 0."""
        return 2 if self.faults else 1 if self.missing else 0

    def print(self) -> None:
        """Prints the table, and on standard error what was wrong."""
        from rich.console import Console

        from brainseg_utils.evaluation.tables import render

        if len(self.rows):
            Console().print(render(self))
        errors = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
        for kind, messages in (("warning", self.warnings), ("not scored", self.faults)):
            for message in messages:
                errors.print(f"{kind}: {message}")

    def write_json(self, path: str | Path) -> Path:
        """Writes `{"protocol", "rows", "missing", "faults", "warnings"}` atomically."""
        content = {
            "protocol": self.protocol,
            "rows": self.rows.to_dict(orient="records"),
            "missing": list(self.missing),
            "faults": list(self.faults),
            "warnings": list(self.warnings),
        }
        return files.write_json(path, content)

    def write_csv(self, path: str | Path) -> Path:
        """Writes the table atomically, one line a score."""
        return files.write_text(path, self.rows.to_csv(index=False, lineterminator="\n"))


def read_evaluation(path: str | Path) -> Evaluation:
    """Reads what `write_json` or `write_csv` wrote; a CSV file knows neither protocol nor faults.

    Raises:
        DataError: absent, damaged, or not such a file.
    """
    import json

    import pandas as pd

    path = Path(path)
    try:
        if path.suffix == ".csv":
            content: dict[str, Any] = {
                "protocol": "",
                "rows": pd.read_csv(path, dtype={"case": str, "unit": str}, float_precision="round_trip"),
            }
        else:
            content = json.loads(path.read_text(encoding="utf-8"))
        rows = pd.DataFrame(content["rows"], columns=list(COLUMNS)).astype({"value": float, "case": str, "unit": str})
        messages = {key: tuple(content.get(key, ())) for key in ("faults", "warnings", "missing")}
        return Evaluation(str(content["protocol"]), rows, **messages)
    except FileNotFoundError:
        raise DataError("no such file", where=path, expected="scores", remedy="check the path") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"not a table of scores ({error})",
            where=path,
            expected="a file that `brainseg evaluate` wrote, with " + ", ".join(COLUMNS),
            remedy="run `brainseg evaluate` again",
        ) from None


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        case: its id.
        scores: empty if it could not be scored.
        fault: why it could not.
        warnings: labels that count as background.
        missing: whether there was no prediction.
    """

    case: str
    scores: tuple[Score, ...] = ()
    fault: str | None = None
    warnings: tuple[str, ...] = ()
    missing: bool = False


def evaluate(truth: str | Path, prediction: str | Path, protocol: str, workers: int | None = None) -> Evaluation:
    """Scores predictions against the truth.

    Args:
        truth: a mask's file, or a folder: a data set in any layout, or masks alone.
        prediction: a mask's file, or a folder; matched by case id (`matching.py`).
        protocol: key of `PROTOCOLS`.
        workers: processes; default: one a CPU, fewer for a handful of cases.

    Returns:
        The table of all scores, with the cases that could not be scored or had no prediction.

    Raises:
        DataError: a path is absent or holds no mask, or the two do not belong together.
        SettingError: unknown protocol.
    """
    import pandas as pd

    rules = get_protocol(protocol)
    matched = match(Path(truth), Path(prediction), rules)
    wanted = default_workers() if workers is None else workers
    useful = max(1, min(wanted, len(matched.jobs) // CASES_PER_WORKER))
    tasks = ((job, rules.name) for job in matched.jobs)
    table = _Table(faults=list(matched.faults), warnings=list(matched.warnings))
    for outcome in track(imap(_score_task, tasks, useful), "evaluate", len(matched.jobs)):
        table.add(outcome)
    rows = pd.DataFrame(table.columns, columns=list(COLUMNS))
    return Evaluation(rules.name, rows, tuple(table.faults), tuple(table.warnings), tuple(table.missing))


@dataclass
class _Table:
    """The growing columns of the result; names are shared, so a case costs a few kB."""

    faults: list[str]
    warnings: list[str]
    missing: list[str] = field(default_factory=list)
    columns: dict[str, list] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def add(self, outcome: Outcome) -> None:
        if outcome.fault:
            self.faults.append(outcome.fault)
        if outcome.missing:
            self.missing.append(outcome.case)
            self.warnings.append(
                f"case {outcome.case}: no prediction; scored with Dice 0 and the penalty in every region"
            )
        self.warnings += outcome.warnings
        for score in outcome.scores:
            for name, value in zip(COLUMNS, (outcome.case, *score), strict=True):
                self.columns[name].append(value)


def _score_task(task: tuple[Job, str]) -> Outcome:
    return score_job(*task)


def score_job(job: Job, protocol: str | Protocol) -> Outcome:
    """Reads and scores one case; what is wrong with its files comes back as the outcome's fault."""
    rules = get_protocol(protocol) if isinstance(protocol, str) else protocol
    scheme = get_scheme(job.scheme)
    try:
        truth = read_mask(job.truth, scheme)
        if not job.prediction:
            scores = score_missing(truth.labels, truth.spacing, rules, scheme)
            return Outcome(job.case, tuple(scores), warnings=truth.warnings, missing=True)
        prediction = read_mask(job.prediction, scheme)
        check_grid(truth, prediction)
        spacing = (1.0, 1.0, 1.0) if rules.in_pixels else prediction.spacing
        scores = score_case(truth.labels, prediction.labels, spacing, rules, scheme)
    except BrainsegError as error:
        return Outcome(job.case, fault=f"case {job.case}: {error}")
    return Outcome(job.case, tuple(scores), warnings=truth.warnings + prediction.warnings)
