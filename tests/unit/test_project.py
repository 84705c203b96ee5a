"""What holds for the whole project: the road's direction, the pins, the length of modules, style and spelling."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from brainseg_utils.course.doctor import direct_requirements, normal_name, read_pins

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "brainseg_utils"
ROAD = ["datasets", "phantom", "pipeline", "models", "training", "inference", "evaluation", "views", "course", "cli"]
GROUND = {"errors", "files", "seeds", "progress", "parallel"}
LONGEST_MODULE = 300


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(module: Path) -> str:
    first = module.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_rooms(module: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("brainseg_utils.")}
    return rooms


def test_imports_point_down_the_road():
    against = []
    for module in modules():
        room = room_of(module)
        for other in imported_rooms(module) - GROUND - {"__version__"}:
            if room in GROUND or (room in ROAD and ROAD.index(other) > ROAD.index(room)):
                against.append(f"{module.relative_to(ROOT)} imports {other}")
    assert against == []


def test_every_room_is_on_the_road():
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert rooms <= set(ROAD)


def test_modules_are_short():
    long = {str(m.relative_to(ROOT)): n for m in modules() if (n := m.read_text().count("\n")) > LONGEST_MODULE}
    assert long == {}


def test_importing_the_package_is_quick_to_start_with():
    heavy = {"torch", "monai", "pandas", "matplotlib", "scipy", "nibabel", "numpy"}
    code = "import sys, brainseg_utils.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert heavy & set(loaded) == set()


def test_constraints_pin_every_requirement():
    pins = read_pins((ROOT / "constraints.txt").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {normal_name(name) for name in project["dependencies"] + project["optional-dependencies"]["dev"]}
    assert wanted - set(pins) == set()


def test_environment_yml_has_the_same_pins():
    pins = read_pins((ROOT / "constraints.txt").read_text())
    lines = [line.strip().removeprefix("- ") for line in (ROOT / "environment.yml").read_text().splitlines()]
    listed = read_pins("\n".join(lines))
    assert set(listed) == set(direct_requirements())
    assert {name: pins[name] for name in listed} == listed


def test_the_road_is_the_same_in_code_and_readme():
    readme = (ROOT / "README.md").read_text()
    assert all(f"make {word}" in readme for word in ("course", "test"))
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "brainseg_utils", "tests", "benchmarks", "notebooks/source"],
        ["ruff", "format", "--check", "brainseg_utils", "tests", "benchmarks", "notebooks/source"],
        ["mypy"],
        [
            "codespell",
            "brainseg_utils",
            "tests",
            "benchmarks",
            "notebooks/source",
            "data",
            "README.md",
            "CONTRIBUTING.md",
        ],
    ],
    ids=["lint", "format", "types", "spelling"],
)
def test_style(command):
    done = subprocess.run([sys.executable, "-m", *_as_module(command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _as_module(command: list[str]) -> list[str]:
    return ["codespell_lib", *command[1:]] if command[0] == "codespell" else command
