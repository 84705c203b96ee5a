"""`make notebooks`: the sources become executed student and solution notebooks.

    python -m brainseg_utils.course.build [--only 01,02]

Building twice without a change gives the same file, pictures and measured times apart: cell ids come from the text,
nothing records when or where a cell ran, and of a widget (whose ids are random) only the static twin is kept.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from brainseg_utils.course import source
from brainseg_utils.course.checkout import NOTEBOOKS, find_root, numbered, select, shown
from brainseg_utils.course.parameters import defaults, faults
from brainseg_utils.errors import BrainsegError, DataError, SettingError
from brainseg_utils.files import write_text

MAX_BYTES = 700_000  # a committed notebook, pictures included
CELL_SECONDS = 1800  # a cell that takes longer hangs
WIDGET = "application/vnd.jupyter.widget-view+json"
# As `progress.track` and a training run print where nobody watches.
PROGRESS_LINE = re.compile(r"^.+: \d+/\d+ \(\d+ s\)$|^\w+ step \d+/\d+, .+ left: .+$")
EMBEDDED = re.compile(r"base64,[A-Za-z0-9+/=\s]+")
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,16}\b")
MACHINE_PATH = re.compile(r"(?<![\w.~/-])(?:/(?:home|root|work|tmp|Users|private|mnt|opt)/[\w.-]+|[A-Z]:\\\\?\w+)")


def build(only: str | None = None, root: Path | None = None) -> list[Path]:
    """Writes the student and the solution notebook of each source, executed in the quick profile.

    Args:
        only: numbers or names of notebooks, joined by commas; default all.
        root: the checkout; default found from the working directory.

    Returns:
        The files written.

    Raises:
        SettingError: a source breaks a rule, or no source has such a name.
        DataError: a cell fails, warns, or prints a path of this machine; a notebook is larger than 700 KB.
    """
    root = find_root() if root is None else root
    folder = root / NOTEBOOKS
    written = []
    for path in select(numbered(folder / "source", ".py"), only):
        notebook = source.read_source(path)
        if wrong := faults(notebook) + _names(notebook, path):
            raise SettingError("; ".join(wrong), where=path.name)
        for made, target in (
            (source.student(notebook, path.name), folder / source.student_name(path)),
            (source.solution(notebook, path.name), folder / "solutions" / source.student_name(path)),
        ):
            written.append(_build_one(made, target, root))
    return written


def _names(notebook: Any, path: Path) -> list[str]:
    missing = [] if "profile" in defaults(notebook, path.name) else ["no parameter 'profile'"]
    return missing if path.stem.replace("_", "").isalnum() else [*missing, "name is not NN_words"]


def _build_one(made: Any, target: Path, root: Path) -> Path:
    start = time.monotonic()
    target.parent.mkdir(parents=True, exist_ok=True)
    executed = execute(made, target.parent, target.name)
    text = serialise(executed, target.name)
    write_text(target, text)
    seconds = time.monotonic() - start
    print(f"{shown(target, root)}: {len(text.encode()) / 1000:.0f} KB, {seconds:.0f} s", file=sys.stderr, flush=True)
    return target


def execute(notebook: Any, folder: Path, where: str) -> Any:
    """Runs a notebook from top to bottom in its own kernel, with `folder` as working directory.

    Raises:
        DataError: a cell raised an error or took longer than half an hour.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only: not a word on the transport
    )
    try:
        return client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise DataError(f"a cell failed:\n{error}", where=where, remedy="mend it in notebooks/source") from error


def serialise(notebook: Any, where: str) -> str:
    """The notebook as the text of its file, cleaned of what would differ from run to run or names this machine.

    Raises:
        DataError: it warns on stderr, prints a path of this machine, or is larger than 700 KB.
    """
    import nbformat

    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.outputs = list(cleaned(cell.outputs, f"{where}, cell {number}"))
        cell.metadata = type(cell.metadata)({"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {})
    notebook.metadata = type(notebook.metadata)(source.METADATA)
    text = nbformat.writes(notebook, version=4)
    if (size := len(text.encode())) > MAX_BYTES:
        raise DataError(
            f"{size / 1000:.0f} KB", where=where, expected=f"{MAX_BYTES // 1000} KB or less", remedy=_largest(notebook)
        )
    return text + "\n"


def cleaned(outputs: Iterable[Any], where: str) -> Iterator[Any]:
    """A cell's outputs without progress lines and memory addresses; of a widget, its static twin.

    Raises:
        DataError: a warning on stderr, or a path of this machine.
    """
    for output in outputs:
        if output.output_type == "stream":
            lines = output.text.splitlines(keepends=True)
            if output.name == "stderr":
                lines = [line for line in lines if line.strip() and not PROGRESS_LINE.match(line.rstrip())]
            if not lines:
                continue
            output.text = "".join(lines)
        elif output.get("data", {}).pop(WIDGET, None) and "image/png" not in output.data:
            continue  # no static twin in the same output
        elif "text/plain" in output.get("data", {}):
            output.data["text/plain"] = ADDRESS.sub("0x…", output.data["text/plain"])
        if wrong := output_faults(output):
            raise DataError("; ".join(wrong), where=where, remedy="mend the cell in notebooks/source")
        yield output


def output_faults(output: Any) -> list[str]:
    """What must not stand in a committed notebook: errors, warnings, widgets, paths of somebody's machine."""
    if output.output_type == "error":
        return [f"error {output.ename}: {output.evalue}"]
    data = output.get("data", {})
    texts = [output.text] if output.output_type == "stream" else [v for k, v in data.items() if k.startswith("text/")]
    found = [
        f"names the machine's path {path!r}, print checkout.shown(path)" for path in map(machine_path, texts) if path
    ]
    if output.output_type == "stream" and output.name == "stderr":
        found.append(f"text on stderr: {output.text[-800:]}")
    return found + (["a widget, whose ids are random"] if WIDGET in data else [])


def machine_path(text: str) -> str | None:
    """The first absolute path of a machine in a text, embedded pictures left out.

    Example:
        >>> machine_path("saved to /home/ada/x.nii"), machine_path("runs/notebooks/01"), machine_path("mm/s")
        ('/home/ada', None, None)
    """
    match = MACHINE_PATH.search(EMBEDDED.sub("", text))
    return match[0] if match else None


def _largest(notebook: Any) -> str:
    sizes = {number: len(str(cell.get("outputs", ""))) for number, cell in enumerate(notebook.cells)}
    top = sorted(sizes, key=lambda number: -sizes[number])[:3]
    return "largest outputs: " + ", ".join(f"cell {number} {sizes[number] / 1000:.0f} KB" for number in top)


def main() -> int:
    """The command line of `make notebooks`; exit code 2 where a source or its run is wrong."""
    parser = argparse.ArgumentParser(prog="python -m brainseg_utils.course.build", description="Write the notebooks.")
    parser.add_argument("--only", help="numbers of notebooks: 01,02; default all")
    try:
        written = build(parser.parse_args().only)
    except BrainsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(written)} notebooks written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
