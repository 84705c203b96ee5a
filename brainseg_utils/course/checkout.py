"""Where the course's files are: the checkout that holds `notebooks/` and the package."""

from __future__ import annotations

from pathlib import Path

from brainseg_utils.errors import SettingError

NOTEBOOKS = "notebooks"


def find_root(start: str | Path | None = None) -> Path:
    """The nearest folder at or above `start` (default: the working directory) that is a checkout of the course.

    Falls back to the folder the package was installed from (an editable install), so that a command also works
    when it is called from elsewhere.

    Raises:
        SettingError: neither is a checkout.
    """
    start = Path.cwd() if start is None else Path(start).resolve()
    for folder in (start, *start.parents, Path(__file__).resolve().parents[2]):
        if (folder / NOTEBOOKS).is_dir() and (folder / "brainseg_utils").is_dir():
            return folder
    raise SettingError(
        "not inside the course's checkout",
        where=start,
        expected="a folder with notebooks/ and brainseg_utils/ at or above it",
        remedy="change into the cloned project first",
    )


def numbered(folder: Path, suffix: str) -> list[Path]:
    """Files of a folder that are called NN_name with this suffix, in order.

    Copies that `make lab` lays beside a changed notebook (`NN_name.new.ipynb`) do not count.
    """
    return sorted(p for p in folder.glob(f"[0-9][0-9]_*{suffix}") if "." not in p.name.removesuffix(suffix))


def select(files: list[Path], only: str | list[str] | None) -> list[Path]:
    """The files that `only` names by number or by name ("01,02", ["1"], "01_data_exploration").

    Raises:
        SettingError: a name that no file has.
    """
    if not only:
        return files
    asked = only.split(",") if isinstance(only, str) else [str(part) for part in only]
    names = {part.strip(): _match(part.strip(), files) for part in asked if part.strip()}
    return [path for path in files if path in names.values()]


def _match(name: str, files: list[Path]) -> Path:
    from brainseg_utils.errors import unknown

    wanted = name.removesuffix(".ipynb").removesuffix(".py")
    number = wanted.zfill(2)
    for path in files:
        if wanted == path.stem or number == path.stem[:2]:
            return path
    raise unknown("notebook", name, [path.stem for path in files])


def shown(path: Path, root: Path | None = None) -> str:
    """A path as the reader should see it: relative to the checkout or to home where it lies inside, never longer."""
    path = path.resolve()
    for base, mark in ((root, ""), (Path.cwd(), ""), (Path.home(), "~/")):
        if base is not None and path.is_relative_to(base):
            return mark + path.relative_to(base).as_posix()
    return path.as_posix()
