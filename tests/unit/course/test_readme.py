"""The README's course map comes from the record and names only notebooks that are there."""

from pathlib import Path

from brainseg_utils.course import readme

ROOT = Path(__file__).resolve().parents[3]


def test_the_readme_shows_the_map_of_the_record():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.with_map(text, ROOT) == text


def test_a_lesson_is_linked_only_when_its_notebook_is_there(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_data_exploration.ipynb").write_text("{}")
    (tmp_path / "brainseg_utils").mkdir()
    rows = readme.course_map(tmp_path).splitlines()[2:]
    assert len(rows) == 10
    assert "[Data exploration](notebooks/01_data_exploration.ipynb)" in rows[1]
    assert all("to come" in row and "](" not in row for row in rows[:1] + rows[2:])


def test_every_notebook_is_on_the_map():
    names = {lesson.name for lesson in readme.LESSONS}
    assert {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")} <= names


def test_the_picture_of_the_readme_is_there():
    assert (ROOT / readme.PICTURE).stat().st_size > 50_000
