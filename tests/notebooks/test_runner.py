"""The papermill runner on tiny notebooks: one that fails stops no other, and the index says what happened."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from brainseg_utils.course import measure, reference, runner
from brainseg_utils.course.source import METADATA
from brainseg_utils.errors import DataError, SettingError

BLOCK = 300 * 2**20


def write(root, name, body, parameters="profile = 'quick'\nsize = 1"):
    cells = [new_markdown_cell("# Tiny"), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    notebook = new_notebook(cells=[*cells, new_code_cell(body)], metadata=METADATA)
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "brainseg_utils").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """One run of three notebooks: the first holds a known amount of memory, the second fails, the third passes."""
    root = tmp_path_factory.mktemp("run")
    (root / "notebooks").mkdir()
    (root / "brainseg_utils").mkdir()
    hold = f"import time\nblock = bytearray({BLOCK})\nend = time.monotonic() + {10 * measure.INTERVAL_S}\n"
    hold += "while time.monotonic() < end:\n    total = sum(block[:: 2**10])\n"  # several looks see it whole
    write(root, "01_memory", hold + "print(profile, size, total)")
    write(root, "02_failing", "print('before')\nraise ValueError('nothing <here>')")
    write(root, "03_last", "pass")
    return runner.run(parameters={"size": "7"}, root=root, out=root / "out", record=True), root


def test_failing_notebook_stops_no_other(course):
    finished, _ = course
    assert [n.status for n in finished.notebooks] == ["passed", "failed", "passed"]
    assert finished.exit_code == 1
    assert finished.summary.startswith("2 of 3 notebooks passed (")


def test_failure_names_cell_and_error(course):
    failed = course[0].notebooks[1]
    assert (failed.cell, failed.error) == (3, "ValueError: nothing <here>")


def test_time_and_peak_memory_are_measured(course):
    memory, failing, last = course[0].notebooks
    assert BLOCK < memory.peak_bytes < BLOCK + 200 * 2**20
    assert 0 < failing.peak_bytes < BLOCK and 0 < last.peak_bytes < BLOCK
    assert min(n.seconds for n in course[0].notebooks) > 0


def test_index_has_status_time_memory_error_and_links(course):
    finished, _ = course
    page = finished.index.read_text(encoding="utf-8")
    for status in ("2 passed, 1 failed", "✓ passed", "✗ failed"):
        assert status in page
    assert "In [3]: ValueError: nothing &lt;here&gt;" in page
    assert len(re.findall(r"\d+ s</td><td class=\"number\">\d+ MiB", page)) == 4, "three notebooks and their sum"
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) == 7 and all((finished.folder / link).is_file() for link in links)
    assert "http" not in page, "self-contained"


def test_parameters_arrive_with_their_type(course):
    notebook = nbformat.read(course[0].folder / "01_memory.ipynb", as_version=4)
    printed = [out.text for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "stream"]
    assert printed[0].splitlines()[0] == "quick 7 0"


def test_passed_notebooks_are_recorded_on_request(course):
    times = reference.course_times(course[1])
    assert set(times) == {"01_memory", "03_last"}
    record = times["01_memory"]["quick"]
    assert {"seconds", "peak_mib", "cores", "device", "seed", "date", "command"} == set(record)
    assert record["command"] == "brainseg course run --only 01 --profile quick -p size 7" and record["device"]
    assert re.fullmatch(r"\d+ s on \d+ cores?", reference.time_text("01_memory", "quick", course[1]))
    assert reference.time_text("02_failing", "quick", course[1]) == "not recorded yet"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"parameters": {"size_": 3}}, "unknown parameter 'size_'; expected one of size; did you mean 'size'?"),
        ({"parameters": {"profile": "full"}}, "profile given as a parameter; use --profile full"),
        ({"parameters": {"size": "many"}}, "'many' for parameter 'size'; expected a value of type int, as 1"),
        ({"profile": "fast"}, "unknown profile 'fast'; expected one of full, quick"),
        ({"only": "04"}, "unknown notebook '04'; expected one of 01_a, 02_b"),
    ],
)
def test_wrong_request_is_refused_before_anything_runs(root, request_, message):
    write(root, "01_a", "print(size)")
    write(root, "02_b", "print(profile)", "profile = 'quick'")
    with pytest.raises(SettingError, match=re.escape(message)):
        runner.run(**request_, root=root)
    assert not (root / "runs").exists()


def test_parameter_goes_only_to_notebooks_that_have_it(root):
    write(root, "01_a", "print(size)")
    write(root, "02_b", "print(profile)", "profile = 'quick'")
    paths = sorted((root / "notebooks").glob("*.ipynb"))
    assert [run.parameters for run in runner.plan(paths, "full", {"size": "2"})] == [
        {"size": 2, "profile": "full"},
        {"profile": "full"},
    ]


def test_folders_are_made_absolute_and_must_exist(root, monkeypatch):
    write(root, "01_a", "pass", "data_dir = ''\noutput_dir = ''")
    monkeypatch.chdir(root)
    paths = [root / "notebooks" / "01_a.ipynb"]
    planned = runner.plan(paths, "quick", {"data_dir": "notebooks", "output_dir": "results"})
    assert planned[0].parameters == {"data_dir": str(root / "notebooks"), "output_dir": str(root / "results")}
    with pytest.raises(DataError, match="no such folder for data_dir"):
        runner.plan(paths, "quick", {"data_dir": "missing"})


def test_notebook_over_its_time_is_ended(root):
    write(root, "01_a", "while True: pass")
    finished = runner.run(root=root, limit_s=1, out=root / "out")
    assert [(n.status, n.error) for n in finished.notebooks] == [("timed out", "ended after 1 s")]
    assert finished.exit_code == 1 and "✗ timed out" in finished.index.read_text(encoding="utf-8")


def test_interruption_leaves_an_index_that_says_so(root, monkeypatch, capsys):
    write(root, "01_a", "pass")
    write(root, "02_b", "pass")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "watch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.run(root=root, out=root / "out")
    page = (root / "out" / "index.html").read_text(encoding="utf-8")
    assert "1 interrupted, 1 waiting" in page and "The run was interrupted" in page
    assert f"01_a: interrupted, 0 s: see {root / 'out' / 'index.html'}" in capsys.readouterr().err


def test_no_notebooks_is_an_error_with_a_remedy(root):
    with pytest.raises(SettingError, match="run `make notebooks`"):
        runner.run(root=root)
