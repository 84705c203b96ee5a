"""Dividing a cohort by patient: seeded, saved, reused, never with one person on two sides.

Two sessions of one patient always stay together. A split is a mapping from subset name ("train", "val", "test" or
"fold0" ...) to case ids, saved as JSON beside what it was made from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainseg_utils.datasets.cases import Case
from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.files import write_json
from brainseg_utils.seeds import stream

EIGHTY_TWENTY: Mapping[str, float] = {"train": 0.8, "val": 0.2}  # R0, R1
THREE_WAY: Mapping[str, float] = {"train": 0.75, "val": 0.15, "test": 0.10}  # R4
STRATA = 4  # size groups: smallest quarter of the tumours to largest quarter


@dataclass(frozen=True)
class Split:
    """Case ids by subset, and the seed that decided.

    Attributes:
        subsets: subset name to case ids, sorted.
        seed: of the shuffle.
    """

    subsets: Mapping[str, tuple[str, ...]]
    seed: int

    def __getitem__(self, subset: str) -> tuple[str, ...]:
        if subset not in self.subsets:
            raise SettingError(f"no subset {subset!r}", expected=", ".join(self.subsets))
        return self.subsets[subset]

    def rest(self, subset: str) -> tuple[str, ...]:
        """All ids that are not in a subset: the training cases of a fold."""
        self[subset]
        return tuple(sorted(i for name, ids in self.subsets.items() if name != subset for i in ids))


def split(
    cases: Sequence[Case],
    fractions: Mapping[str, float] = EIGHTY_TWENTY,
    seed: int = 0,
    sizes: Mapping[str, float] | None = None,
) -> Split:
    """Divides cases by patient into named fractions.

    Args:
        cases: the cohort.
        fractions: subset name to share; they add up to 1.
        seed: of the shuffle.
        sizes: case id to tumour volume, to stratify by; default: no strata.

    Raises:
        SettingError: fractions that do not add up to 1, or fewer patients than subsets.
    """
    if abs(sum(fractions.values()) - 1) > 1e-9 or min(fractions.values()) <= 0:
        raise SettingError(f"fractions {dict(fractions)} add up to {sum(fractions.values()):g}", expected="1")
    return _deal(cases, fractions, seed, sizes, "split")


def k_fold(cases: Sequence[Case], folds: int = 5, seed: int = 0, sizes: Mapping[str, float] | None = None) -> Split:
    """Divides cases by patient into `fold0` ... of equal size, as `split` does.

    Raises:
        SettingError: fewer than two folds, or fewer patients than folds.
    """
    if folds < 2:
        raise SettingError(f"{folds} folds", expected="2 or more")
    return _deal(cases, {f"fold{i}": 1 / folds for i in range(folds)}, seed, sizes, "k-fold")


def _deal(
    cases: Sequence[Case], fractions: Mapping[str, float], seed: int, sizes: Mapping[str, float] | None, name: str
) -> Split:
    sessions: dict[str, list[str]] = {}
    for case in cases:
        sessions.setdefault(case.patient, []).append(case.id)
    if len(sessions) < len(fractions):
        raise SettingError(f"{len(sessions)} patients", expected=f"{len(fractions)} or more, one a subset")
    order = _ordered(sessions, stream(seed, name), sizes)
    # Each patient goes to the subset furthest behind its share: exact totals, and strata as even as can be.
    dealt: dict[str, list[str]] = {subset: [] for subset in fractions}
    for number, patient in enumerate(order, 1):
        behind = {subset: share * number - len(dealt[subset]) for subset, share in fractions.items()}
        dealt[max(behind, key=lambda subset: (round(behind[subset], 9), fractions[subset]))].append(patient)
    for subset in fractions:  # a small share of a small cohort may have come out empty
        if not dealt[subset]:
            dealt[subset].append(dealt[max(dealt, key=lambda other: len(dealt[other]))].pop())
    ids = {subset: tuple(sorted(i for p in patients for i in sessions[p])) for subset, patients in dealt.items()}
    return Split(ids, seed)


def _ordered(
    sessions: Mapping[str, Sequence[str]], generator: np.random.Generator, sizes: Mapping[str, float] | None
) -> list[str]:
    patients = sorted(sessions)
    shuffled = [patients[i] for i in generator.permutation(len(patients))]
    if sizes is None:
        return shuffled
    missing = sorted(i for ids in sessions.values() for i in ids if i not in sizes)
    if missing:
        raise SettingError(f"no tumour size for {missing[0]}", expected="a size for every case")
    largest = {p: max(sizes[i] for i in sessions[p]) for p in shuffled}
    ranked = sorted(shuffled, key=lambda p: largest[p])
    stratum = {p: rank * STRATA // len(ranked) for rank, p in enumerate(ranked)}
    return sorted(shuffled, key=lambda p: stratum[p])  # stable: shuffled within a stratum


def check(split: Split, cases: Sequence[Case] | None = None) -> None:
    """Refuses a split in which a case or a patient is in two subsets, or that does not fit the cohort.

    Args:
        split: what to check.
        cases: the cohort; with it, patients are compared and ids that do not exist are refused.

    Raises:
        DataError: overlap, or unknown case ids.
    """
    patient = {case.id: case.patient for case in cases} if cases is not None else {}
    owner: dict[str, str] = {}
    for subset, ids in split.subsets.items():
        for case_id in ids:
            if cases is not None and case_id not in patient:
                raise DataError(
                    f"case {case_id} of subset {subset} is not in the cohort", remedy="split this cohort anew"
                )
            person = patient.get(case_id, case_id)
            if owner.setdefault(person, subset) != subset:
                raise DataError(
                    f"patient {person} is in {owner[person]} and in {subset}",
                    expected="each patient in one subset",
                    remedy="split by patient, with `brainseg data split`",
                )


def save(split: Split, path: str | Path) -> Path:
    """Writes a split as JSON, atomically, after checking it for overlap."""
    check(split)
    return write_json(path, {"seed": split.seed, "subsets": {name: list(ids) for name, ids in split.subsets.items()}})


def load(path: str | Path, cases: Sequence[Case] | None = None) -> Split:
    """Reads a saved split and checks it.

    Raises:
        DataError: not a split file, overlap, or ids that the cohort does not have.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        loaded = Split({str(k): tuple(map(str, v)) for k, v in content["subsets"].items()}, int(content["seed"]))
    except FileNotFoundError:
        raise DataError("no such file", where=path, expected="a saved split") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"not a split file ({error!r})", where=path, expected='{"seed": …, "subsets": {…}}') from None
    check(loaded, cases)
    return loaded


def reuse_or_make(
    path: str | Path,
    cases: Sequence[Case],
    *,
    folds: int | None = None,
    fractions: Mapping[str, float] = EIGHTY_TWENTY,
    seed: int = 0,
    stratify: bool = False,
) -> Split:
    """The split saved at `path` if there is one, else a new one, saved there.

    A file that was made of other cases or with other settings is refused, never overwritten: results that were
    computed with it would no longer be comparable.

    Args:
        path: JSON file.
        cases: the cohort.
        folds: k folds; default: `fractions`.
        fractions: as for `split`.
        seed: of the shuffle.
        stratify: by whole-tumour volume, which reads every mask.

    Raises:
        DataError: the saved split does not fit this cohort.
        SettingError: it was made with other settings.
    """
    if Path(path).exists():
        saved = load(path, cases)
        wanted = {f"fold{i}" for i in range(folds)} if folds else set(fractions)
        present = {i for ids in saved.subsets.values() for i in ids}
        if set(saved.subsets) != wanted or saved.seed != seed or present != {case.id for case in cases}:
            raise SettingError(
                f"a saved split of {len(present)} cases into {', '.join(saved.subsets)} with seed {saved.seed}",
                where=path,
                expected=f"{len(cases)} cases into {', '.join(sorted(wanted))} with seed {seed}",
                remedy="use the saved settings, or another file for the new split",
            )
        return saved
    sizes = {case.id: tumour_size(case) for case in cases} if stratify else None
    made = k_fold(cases, folds, seed, sizes) if folds else split(cases, fractions, seed, sizes)
    save(made, path)
    return made


def tumour_size(case: Case) -> float:
    """Whole-tumour voxels of a case (lgg: pixels), background and resection cavity apart."""
    region = "WT" if "WT" in case.scheme.regions else "tumour"
    return float(case.scheme.region(case.label().data, region).sum())
