"""A source becomes a student and a solution notebook with stable ids."""

from __future__ import annotations

import pytest

from brainseg_utils.course import source
from brainseg_utils.errors import SettingError


def cells(tmp_path, *code, prose="# Title"):
    path = tmp_path / "77_x.py"
    text = f"# %% [markdown]\n# {prose}\n\n" + "\n\n".join(f"# %%\n{body}" for body in code) + "\n"
    path.write_text(text, encoding="utf-8")
    return source.read_source(path)


def block(body, hint=""):
    return f"before = 1\n# BEGIN SOLUTION{hint}\n{body}\n# END SOLUTION\nafter = 2"


@pytest.mark.parametrize(
    ("body", "blank"),
    [
        ("answer = 6 * 7", "answer = ..."),
        ("part = 6\nanswer = part * 7\nanswer = answer + 0", "part = ...\nanswer = ..."),
        ("a, b = 1, 2", "a, b = ..., ..."),
        ("# BLANK: answer = ... > 3\nanswer = 4 > 3", "answer = ... > 3"),
        ("total = 0\nfor i in range(3):\n    total += i", "total = ..."),
    ],
)
def test_student_gets_a_blank_for_each_solution(tmp_path, body, blank):
    made = source.student(cells(tmp_path, block(body, ": think")))
    assert made.cells[1].source == f"before = 1\n# your turn: think\n{blank}\nafter = 2"


def test_solution_keeps_the_block_without_markers(tmp_path):
    made = source.solution(cells(tmp_path, block("# BLANK: answer = ... > 3\nanswer = 4 > 3")))
    assert made.cells[1].source == "before = 1\n# solution\nanswer = 4 > 3\nafter = 2"


def test_function_bodies_keep_their_indent(tmp_path):
    body = "def double(x):\n    # BEGIN SOLUTION: twice\n    y = 2 * x\n    return y\n    # END SOLUTION"
    notebook = cells(tmp_path, body)
    student = source.student(notebook).cells[1].source
    assert student == "def double(x):\n    # your turn: twice\n    y = ...\n    return ..."
    assert "    y = 2 * x\n    return y" in source.solution(notebook).cells[1].source


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("# BEGIN SOLUTION\nx = 1", "BEGIN SOLUTION is never closed"),
        ("x = 1\n# END SOLUTION", "END SOLUTION without BEGIN SOLUTION"),
        ("# BEGIN SOLUTION\n# BEGIN SOLUTION\nx = 1\n# END SOLUTION", "BEGIN SOLUTION inside a solution"),
        ("# BEGIN SOLUTION\nprint(1)\n# END SOLUTION", "assigns and returns nothing"),
    ],
)
def test_faulty_markers_are_named_with_their_cell(tmp_path, code, message):
    with pytest.raises(SettingError, match=f"here.py, cell 1: .*{message}"):
        source.student(cells(tmp_path, code), "here.py")


def test_ids_follow_the_text_and_not_the_place(tmp_path):
    before = cells(tmp_path, "a = 1", "b = 2", "a = 1")
    after = cells(tmp_path, "new = 0", "a = 1", "b = 2", "a = 1")
    ids = [cell.id for cell in before.cells]
    assert len(set(ids)) == 4
    assert [cell.id for cell in after.cells if cell.source != "new = 0"] == ids


def test_differences_name_the_cell_and_forgive_recorded_times(tmp_path):
    made = cells(tmp_path, "a = 1", prose="Time: {{time quick}}")
    assert made.cells[0].source == "Time: not recorded yet"
    kept = cells(tmp_path, "a = 1", prose="Time: {{time quick}}")
    kept.cells[0].source = "Time: 40 s on 2 cores"
    assert source.differences(made, kept) == []
    kept.cells[1].source = "a = 2"
    assert source.differences(made, kept) == ["cell 1: source differs"]
    assert source.differences(made, cells(tmp_path, "a = 1", "b = 1")) == ["3 cells, the source makes 2"]
