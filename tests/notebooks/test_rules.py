"""The rules every notebook keeps: generated from its source, small cells, prose, alt text, nothing of a machine."""

from __future__ import annotations

import ast
import re

import pytest

from brainseg_utils.course import source
from brainseg_utils.course.build import MAX_BYTES, output_faults
from brainseg_utils.course.checkout import numbered
from brainseg_utils.course.parameters import code, defaults, faults, tags

MAX_LINES = 25
MAX_MARKED_LINES = 12
STATEMENTS = ("**You will be able to**", "**Time:**", "**Needs:**", "**Rebuilds:**")
PARAMETERS = {"profile", "data_dir", "lgg_dir", "output_dir", "seed"}


def code_cells(notebook):
    return [(number, cell) for number, cell in enumerate(notebook.cells) if cell.cell_type == "code"]


def outputs(notebook):
    return [(number, output) for number, cell in code_cells(notebook) for output in cell.outputs]


def called(notebook, name):
    """Names `x` in `check.x(...)`, or the first argument of `quiz("x")`."""
    found = []
    for text in code(notebook):
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=base), attr=attribute)) if base == name:
                    found.append(attribute)
                case ast.Call(func=ast.Name(id=base), args=[ast.Constant(value=value)]) if base == name:
                    found.append(value)
    return found


def test_student_notebook_equals_its_source(lesson):
    assert source.differences(source.student(lesson.source), lesson.student) == []


def test_solution_notebook_equals_its_source(lesson):
    assert source.differences(source.solution(lesson.source), lesson.solution) == []


def test_every_notebook_has_a_source(lesson):
    notebooks = numbered(lesson.root / "notebooks", ".ipynb") + numbered(lesson.root / "notebooks/solutions", ".ipynb")
    sources = {path.stem for path in numbered(lesson.root / "notebooks" / "source", ".py")}
    assert {path.stem for path in notebooks} == sources


def test_student_notebook_holds_no_solution(lesson):
    pairs = zip(lesson.source.cells, lesson.student.cells, lesson.solution.cells, strict=True)
    changed = [(student.source, solution.source) for kept, student, solution in pairs if "SOLUTION" in kept.source]
    assert changed, "no exercise in the notebook"
    for student, solution in changed:
        secret = set(map(str.strip, solution.splitlines())) - set(map(str.strip, student.splitlines()))
        assert secret and "SOLUTION" not in student and "BLANK:" not in student
        assert "..." in student, "the student's cell leaves nothing blank"


def test_parameters_are_read_and_never_bound_again(lesson):
    first = code_cells(lesson.student)[0][1]
    assert "parameters" in tags(first), "the first code cell is the one tagged parameters"
    assert faults(lesson.student) == []
    assert "profile" in defaults(lesson.student)


def test_common_parameters_keep_their_type(lesson):
    for name, value in defaults(lesson.student).items():
        if name in PARAMETERS:
            assert isinstance(value, int if name == "seed" else str), name


def test_top_states_what_for_how_long_and_what_is_needed(lesson):
    top = lesson.student.cells[0]
    assert top.cell_type == "markdown" and top.source.startswith("# ")
    assert [statement for statement in STATEMENTS if statement not in top.source] == []
    raw = (lesson.root / "notebooks" / "source" / f"{lesson.name}.py").read_text(encoding="utf-8")
    assert "{{time quick}}" in raw and "{{time full}}" in raw, "times come from the record, not typed by hand"


def test_code_cells_are_short(lesson):
    long = [(n, len(cell.source.splitlines())) for n, cell in code_cells(lesson.solution)]
    assert [(n, lines) for n, lines in long if lines > MAX_LINES] == []


def test_prose_stands_before_each_code_cell(lesson):
    cells = lesson.student.cells
    bare = [n for n, _ in code_cells(lesson.student) if n == 0 or cells[n - 1].cell_type != "markdown"]
    assert bare == []


@pytest.mark.parametrize("form", ["student", "solution"])
def test_figures_have_alt_text(lesson, form):
    pictures = [(n, out) for n, out in outputs(getattr(lesson, form)) if "image/png" in out.get("data", {})]
    without = [
        n for n, out in pictures if not (out.metadata.get("alt") or out.metadata.get("image/png", {}).get("alt"))
    ]
    assert without == [], f"{len(without)} of {len(pictures)} pictures have no alt text"
    html = [
        (n, out.data["text/html"]) for n, out in outputs(getattr(lesson, form)) if "text/html" in out.get("data", {})
    ]
    tags_ = [(n, tag) for n, text in html for tag in re.findall(r"<img\b[^>]*>", text)]
    assert [n for n, tag in tags_ if not re.search(r'\balt="[^"]{3,}', tag)] == []


@pytest.mark.parametrize("form", ["student", "solution"])
def test_outputs_are_clean(lesson, form):
    assert [(n, fault) for n, out in outputs(getattr(lesson, form)) for fault in output_faults(out)] == []
    counts = [cell.execution_count for _, cell in code_cells(getattr(lesson, form))]
    assert counts == list(range(1, len(counts) + 1)), "executed once, from top to bottom"


def test_committed_files_are_small(lesson):
    sizes = {path.name: path.stat().st_size for path in (lesson.student_path, lesson.solution_path)}
    assert {name: size for name, size in sizes.items() if size > MAX_BYTES} == {}


def test_metadata_names_no_time_and_no_machine(lesson):
    for notebook in (lesson.student, lesson.solution):
        assert notebook.metadata.kernelspec.name == "python3" and set(notebook.metadata) == {
            "kernelspec",
            "language_info",
        }
        assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
        assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_marked_cells_print_one_short_fact(lesson):
    marked = [(n, cell) for n, cell in code_cells(lesson.student) if "nbval-check-output" in tags(cell)]
    assert marked, "no cell is tagged nbval-check-output"
    for n, cell in marked:
        assert [out.get("name") for out in cell.outputs] == ["stdout"], f"cell {n} prints, and shows nothing else"
        assert len(cell.outputs[0].text.splitlines()) <= MAX_MARKED_LINES, f"cell {n}"


def test_exercises_and_checks_belong_together(lesson):
    assert set(called(lesson.student, "check")) == set(lesson.exercises)
    assert len(lesson.exercises) >= lesson.minimum[0]


def test_each_question_is_asked_once(lesson):
    assert sorted(called(lesson.student, "quiz")) == sorted(lesson.questions)
    assert len(lesson.questions) >= lesson.minimum[1]


def results(notebook):
    texts = [out.data["text/plain"] for _, out in outputs(notebook) if "text/plain" in out.get("data", {})]
    return [text[0] for text in texts if re.match(r"[○✗✓] \w+: ", text)]


def test_solutions_are_all_right(lesson):
    found = results(lesson.solution)
    assert len(found) >= len(lesson.exercises) and set(found) == {"✓"}


def test_blanks_are_not_answered_yet(lesson):
    assert results(lesson.student) == ["○"] * len(results(lesson.solution))
