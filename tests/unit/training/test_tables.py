"""Tables of recipes: changed by place, checked one by one, and the same again after they were written."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainseg_utils.errors import BrainsegError, DataError, SettingError
from brainseg_utils.training import gan_recipe, recipe
from brainseg_utils.training.tables import PROFILES, Choice, Form


@dataclass(frozen=True)
class Oven:
    """Settings of which one has no default."""

    heat: float
    minutes: int = 0
    seconds: int = 0
    racks: tuple[int, ...] = (2,)


@dataclass(frozen=True)
class Cake:
    """A recipe with a choice and a record."""

    name: str
    title: str
    filling: Choice
    oven: Oven
    about: str = ""
    seed: int = 0
    profile: str = "full"
    unstated: tuple[str, ...] = field(default=())


LEAST = {"name": "plain", "title": "a cake", "filling": {"name": "jam", "spoons": 3}, "oven": {"heat": 180.0}}


@pytest.fixture
def form(tmp_path):
    return Form(tmp_path, ("filling",), {"oven": Oven}, one_of=("oven.minutes", "oven.seconds"))


@pytest.fixture
def bake(form):
    def make(changes=None, asked="full", **tables):
        return Cake(**form.fill({**LEAST, **tables}, asked, changes, "cake.toml"))

    return make


def test_a_changed_setting_takes_the_place_of_its_rivals_and_a_name_of_the_options(bake):
    oven = {"heat": 180.0, "minutes": 30, "racks": [1, 2]}
    changed = bake({"oven.seconds": 9, "filling.tins": 1, "filling.name": "cream"}, oven=oven)
    assert changed.oven == Oven(180.0, seconds=9, racks=(1, 2))
    assert changed.filling == Choice("cream", {"tins": 1})
    assert bake({"filling.name": "jam"}).filling.options == {"spoons": 3}  # the name that was there


def test_a_profile_comes_before_the_changes_and_not_upon_a_written_recipe(bake):
    quick = {"title": "a muffin", "oven": {"minutes": 5, "heat": 200.0}}
    little = bake({"oven.heat": 220}, "quick", quick=quick, full={"oven": {"minutes": 50}})
    assert (little.title, little.oven, little.profile) == ("a muffin", Oven(220, minutes=5), "quick")
    assert bake({}, "full", profile="quick", full={"oven": {"minutes": 50}}).oven.minutes == 0


def test_marks_are_taken_off_and_written_again(form, bake):
    oven = {"heat": {"value": 160.0, "unstated": True}, "racks": {"value": [1, 3], "unstated": False}}
    marked = bake(oven=oven)
    assert (marked.oven.heat, marked.oven.racks, marked.unstated) == (160.0, (1, 3), ("oven.heat",))
    assert "heat = { value = 160.0, unstated = true }\nminutes = 0" in form.write(marked)


@given(
    settings=st.dictionaries(st.sampled_from(["heat", "minutes", "seconds", "racks"]), st.booleans()),
    number=st.integers(1, 500),
    options=st.dictionaries(
        st.text("abcdef_", min_size=1), st.one_of(st.integers(-9, 9), st.booleans(), st.text(max_size=5))
    ),
    profile=st.sampled_from(PROFILES),
)
def test_what_is_written_fills_the_same_recipe(tmp_path_factory, settings, number, options, profile):
    form = Form(tmp_path_factory.getbasetemp(), ("filling",), {"oven": Oven})
    values = {"heat": 1.5 * number, "minutes": number, "seconds": 60, "racks": [number, 1]}
    marked = {name: {"value": values[name], "unstated": mark} for name, mark in settings.items()}
    tables = {**LEAST, "filling": {**options, "name": "jam"}, "oven": {"heat": 180.0, **marked}}
    cake = Cake(**form.fill(tables, profile, None, "cake.toml"))
    assert set(cake.unstated) == {f"oven.{name}" for name, mark in settings.items() if mark}
    assert Cake(**form.fill(tomllib.loads(form.write(cake)), "full", None, "again")) == cake


@pytest.mark.parametrize(
    ("tables", "changes", "message"),
    [
        ({"ovn": {}}, {}, "cake.toml: unknown table 'ovn'.*did you mean 'oven'"),
        ({"oven": 180}, {"oven.heat": 3}, r"cake.toml: oven = 180; expected a table, \[oven\]"),
        ({"oven": [{"heat": 180}]}, {}, r"expected a table, \[oven\]"),
        ({"oven": {}}, {}, r"cake.toml \[oven\]: no heat; expected heat = a number"),
        ({"oven": {"heat": "hot"}}, {}, r"cake.toml \[oven\]: heat = 'hot'; expected a number"),
        ({"oven": {"heat": 1, "racks": 2}}, {}, "racks = 2; expected a list"),
        ({"oven": {"heat": 1, "racks": [2.5]}}, {}, "racks = 2.5; expected a whole number"),
        ({"filling": {"spoons": 3}}, {}, r"cake.toml: no \[filling\] with a name; expected \[filling\] name"),
        ({"title": 7}, {}, "cake.toml: title = 7; expected str"),
        ({"seed": {"value": 1, "unstated": True}}, {}, "seed = .*expected a whole number"),
        ({"profile": "tiny"}, {}, r"cake.toml: unknown profile 'tiny'"),
        ({"full": 3}, {}, "cake.toml: full = 3; expected tables"),
        ({"full": {"oven": {"haet": 3}}}, {}, r"cake.toml \[oven\]: unknown setting 'haet'.*'heat'"),
        ({"full": {"owen": {"heat": 3}}}, {}, "cake.toml, profile full: unknown table 'owen'.*'oven'"),
        ({}, {"sed": 3}, "cake.toml: unknown setting 'sed'.*did you mean 'seed'"),
        ({}, {"ofen.heat": 3}, "cake.toml: unknown table 'ofen'.*did you mean 'oven'"),
    ],
)
def test_ill_tables_are_refused_with_their_place(bake, tables, changes, message):
    with pytest.raises(SettingError, match=message):
        bake(changes, **tables)


@pytest.mark.parametrize(
    "mark", [{"value": 1.0}, {"unstated": True}, {"valu": 1.0, "unstated": True}, {"value": 1.0, "unstated": "yes"}, {}]
)
@pytest.mark.parametrize(("kind", "name"), [(recipe, "course_lgg"), (gan_recipe, "course_painter")])
def test_an_ill_mark_is_refused_in_both_kinds_of_recipe(kind, name, mark):
    with pytest.raises(SettingError, match=r"course_.*toml: loss.alpha = .*unstated = true"):
        kind.load(name, "quick", {"loss.alpha": mark})


@pytest.mark.parametrize("kind", [recipe, gan_recipe])
def test_a_file_that_is_not_there_or_no_recipe_is_said_to_be_so(kind, tmp_path):
    with pytest.raises(DataError, match=f"x.toml: no such file; expected a recipe; or name one of .*{kind.names()[0]}"):
        kind.load(tmp_path / "x.toml")
    (tmp_path / "y.toml").write_bytes(b'title = "\xff"')
    with pytest.raises(DataError, match=r"y.toml: not TOML \(.*expected a recipe"):
        kind.load(tmp_path / "y.toml")
    with pytest.raises(BrainsegError, match=f"unknown recipe 'nothing'.*{kind.names()[0]}"):
        kind.load("nothing")
    with pytest.raises(SettingError, match="unknown profile 'tiny'"):
        kind.load(kind.names()[0], "tiny")


def test_a_generators_other_name_drops_the_options_of_the_one_that_was_there():
    changes = {"generator.name": "generator_r1", "discriminator.name": "discriminator_r1"}
    other = gan_recipe.load("course_painter", "quick", {**changes, "generator.width": 8})
    assert other.generator == Choice("generator_r1", {"width": 8})
    assert other.discriminator == Choice("discriminator_r1")
