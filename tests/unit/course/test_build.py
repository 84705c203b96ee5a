"""Built notebooks hold nothing that differs from run to run or names a machine."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from brainseg_utils.course import build
from brainseg_utils.course.source import METADATA
from brainseg_utils.errors import DataError, SettingError


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def shown(**data):
    return new_output("display_data", data=data)


def test_progress_lines_widgets_and_addresses_are_taken_out():
    outputs = [
        stream("verify: 3/5 (2 s)\nverify: 5/5 (4 s)\n", "stderr"),
        stream("r2_setr step 40/400, 1 min 8 s left: loss 0.8140, Dice 0.2100\n", "stderr"),
        shown(**{build.WIDGET: {"model_id": "a1"}, "text/plain": "IntSlider()"}),
        shown(**{"text/plain": "<Thing at 0x7f33aa00bb11>"}),
        stream("kept\n"),
    ]
    kept = list(build.cleaned(outputs, "here"))
    assert [out.get("text", out.get("data")) for out in kept] == [{"text/plain": "<Thing at 0x…>"}, "kept\n"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (stream("FutureWarning: mend me", "stderr"), "text on stderr: FutureWarning"),
        (stream("saved to /home/ada/runs/x.png"), "names the machine's path '/home/ada'"),
        (stream(r"saved to C:\\Users\\ada"), "names the machine's path 'C:"),
        (shown(**{"text/html": "<p>/tmp/x</p>"}), "names the machine's path '/tmp/x'"),
    ],
)
def test_warnings_and_machine_paths_are_refused(output, message):
    with pytest.raises(DataError) as error:
        list(build.cleaned([output], "01.ipynb, cell 3"))
    assert str(error.value).startswith("01.ipynb, cell 3: ") and message in str(error.value)


@pytest.mark.parametrize(
    "text", ["runs/notebooks/01", "~/scans", "voxels/tmp", "and/or", "https://x.org/home/a", "2:1"]
)
def test_relative_paths_and_prose_are_no_machine_paths(text):
    assert build.machine_path(text) is None


def test_large_notebook_is_refused_and_the_largest_cells_are_named():
    cells = [new_code_cell("a"), new_code_cell("b", outputs=[stream("x" * build.MAX_BYTES)])]
    with pytest.raises(DataError, match="700 KB or less; largest outputs: cell 1 700 KB"):
        build.serialise(new_notebook(cells=cells, metadata=METADATA), "01.ipynb")


def test_failing_cell_is_reported_and_leaves_the_old_file(tmp_path):
    folder = tmp_path / "notebooks"
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "77_x.py").write_text(
        '# %% tags=["parameters"]\nprofile = "quick"\n\n# %%\n1 / len(profile[9:])\n'
    )
    (folder / "77_x.ipynb").write_text("old")
    with pytest.raises(DataError, match=r"77_x.ipynb: a cell failed:[\s\S]*ZeroDivisionError"):
        build.build(root=tmp_path)
    assert (folder / "77_x.ipynb").read_text() == "old"


@pytest.mark.parametrize(
    ("parameters", "rest", "message"),
    [
        ('profile = "quick"\nseed = 0', "profile", "parameter 'seed' is never read"),
        ('profile = "quick"', "profile = profile + ''", "parameter 'profile' is bound again"),
        ("seed = 0", "seed", "no parameter 'profile'"),
    ],
)
def test_source_whose_parameters_papermill_would_ignore_is_refused(tmp_path, parameters, rest, message):
    (tmp_path / "notebooks" / "source").mkdir(parents=True)
    source = tmp_path / "notebooks" / "source" / "77_x.py"
    source.write_text(f'# %% tags=["parameters"]\n{parameters}\n\n# %%\n{rest}\n')
    with pytest.raises(SettingError, match=message):
        build.build(root=tmp_path)
