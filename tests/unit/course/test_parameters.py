"""The cell tagged parameters: flat literals, each read, none bound again, values in the default's type."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from brainseg_utils.course.parameters import coerce, defaults, faults
from brainseg_utils.errors import SettingError


def notebook(parameters, *cells):
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    return new_notebook(cells=[tagged, *map(new_code_cell, cells)])


def test_literals_are_read():
    text = 'profile = "quick"  # or full\nseed = 0\nalpha = -0.5\nsizes = [1, 2]\nnothing = None'
    assert defaults(notebook(text)) == {"profile": "quick", "seed": 0, "alpha": -0.5, "sizes": [1, 2], "nothing": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: int = 0", "'seed: int = 0' in the parameters cell"),
        ("seed = int(0)", "parameter 'seed' is no literal"),
        ("a = b = 0", "'a = b = 0' in the parameters cell"),
        ("import os", "'import os' in the parameters cell"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(SettingError, match=message):
        defaults(notebook(text))


def test_exactly_one_cell_is_tagged():
    with pytest.raises(SettingError, match="0 cells tagged parameters"):
        defaults(new_notebook(cells=[new_code_cell("seed = 0")]))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["print(seed)"], []),
        (["def f():\n    return seed"], []),
        (["print(1)"], ["parameter 'seed' is never read"]),
        (["print(seed)", "seed = 1"], ["parameter 'seed' is bound again"]),
        (["print(seed)", "for seed in range(3):\n    pass"], ["parameter 'seed' is bound again"]),
        (["print(seed)", "from x import y as seed"], ["parameter 'seed' is bound again"]),
        (["print(seed)", "def seed():\n    pass"], ["parameter 'seed' is bound again"]),
        (["print(seed)", "seed += 1"], ["parameter 'seed' is bound again"]),
    ],
)
def test_ignored_parameters_are_found(cells, expected):
    assert faults(notebook("seed = 0", *cells)) == expected


@pytest.mark.parametrize(
    ("value", "default", "expected"),
    [
        ("3", 0, 3),
        (3, 0, 3),
        ("3", 0.5, 3.0),
        ("true", False, True),
        ("[1]", [], [1]),
        ("07", "", "07"),
        ("x", None, "x"),
    ],
)
def test_values_take_the_type_of_the_default(value, default, expected):
    made = coerce("name", value, default)
    assert made == expected and type(made) is type(expected)


@pytest.mark.parametrize(("value", "default"), [("x", 0), ("0.5", 0), ("1", False), ("x", 0.5), ("3", [])])
def test_values_of_another_type_are_refused(value, default):
    with pytest.raises(SettingError, match="for parameter 'name'; expected a value of type"):
        coerce("name", value, default)
