"""The ground under the rooms: errors, atomic files, named streams, progress, the process pool."""

from __future__ import annotations

import math
import os
import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainseg_utils import errors, files, parallel, progress, seeds
from brainseg_utils.training import report


def test_an_error_says_what_where_expected_and_what_to_do():
    error = errors.DataError("no file", where="a/b", expected="a file", remedy="look again")
    assert str(error) == "a/b: no file; expected a file; look again"


def test_an_error_crosses_a_process_with_its_fields():
    error = pickle.loads(pickle.dumps(errors.LabelError("x", where="y", remedy="z")))
    assert (type(error), error.found, error.where, error.remedy) == (errors.LabelError, "x", "y", "z")


def test_an_unknown_name_is_answered_with_the_nearest():
    assert "did you mean 'brats2023'?" in str(errors.unknown("layout", "brats2032", ["brats2023", "msd"]))
    assert "did you mean" not in str(errors.unknown("layout", "zzz", ["brats2023", "msd"]))


def test_atomic_keeps_the_old_file_when_writing_fails(tmp_path):
    path = files.write_text(tmp_path / "a" / "x.txt", "old")
    with pytest.raises(ZeroDivisionError), files.atomic(path) as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]


def test_atomic_names_end_like_the_target(tmp_path):
    with files.atomic(tmp_path / "scan.nii.gz") as temporary:
        assert temporary.name.endswith(".scan.nii.gz")
        temporary.write_bytes(b"1")
    assert files.sha256(tmp_path / "scan.nii.gz") == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"


names = st.one_of(st.text(max_size=8), st.integers(0, 10_000))


@given(st.integers(0, 2**32), names, names)
def test_streams_repeat_and_differ_by_name(seed, one, other):
    first = seeds.stream(seed, "a", one).integers(0, 2**62)
    assert first == seeds.stream(seed, "a", one).integers(0, 2**62)
    if one != other and type(one) is type(other):
        assert first != seeds.stream(seed, "a", other).integers(0, 2**62)


def test_progress_in_a_log_is_a_few_lines(capsys):
    assert list(progress.track(range(100), "read")) == list(range(100))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == progress.LINES
    assert lines[-1].startswith("read: 100/100")


@pytest.mark.parametrize("workers", [1, 2])
def test_imap_keeps_the_order_with_any_number_of_workers(workers):
    assert list(parallel.imap(math.sqrt, range(12), workers)) == [math.sqrt(x) for x in range(12)]


def test_imap_raises_what_the_function_raised():
    with pytest.raises(ValueError):
        list(parallel.imap(math.sqrt, range(9, -9, -1), 2))


def test_a_worker_that_dies_is_an_error_that_says_what_to_do():
    with pytest.raises(errors.BrainsegError, match="fewer workers"):
        list(parallel.imap(os._exit, [1, 1], 2))


def test_imap_takes_from_its_input_only_what_it_can_work_on():
    taken = []

    def items():
        for x in range(100):
            taken.append(x)
            yield x

    results = parallel.imap(math.sqrt, items(), 2)
    next(results)
    assert len(taken) <= 3 * 2 + 1
    results.close()


def test_a_line_of_progress_is_one_write(monkeypatch):
    """Several processes share one standard error: a line and its end must not come apart."""
    written = []

    class Stream:
        def write(self, text):
            written.append(text)

        def flush(self):
            pass

        def isatty(self):
            return False

    monkeypatch.setattr(sys, "stderr", Stream())
    assert list(progress.track(range(10), "verify")) == list(range(10))
    training = report.Progress("course", 0, 20)
    for step in (10, 20):
        training.epoch(step, {"train_loss": 0.5})
    assert len(written) == progress.LINES + 2
    assert all(text.endswith("\n") and text.count("\n") == 1 for text in written)
