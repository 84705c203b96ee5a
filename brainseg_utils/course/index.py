"""The pages of a course run: one that says how each notebook went, and each executed notebook to read.

Both are single files without scripts or links to other hosts, so they open anywhere.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainseg_utils.course.parameters import read_notebook

MARKS = {"passed": "✓", "failed": "✗", "timed out": "✗", "interrupted": "■", "running": "…", "waiting": "·"}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1a1a1a }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid #ccc }
.number { text-align: right; white-space: nowrap } .passed { color: #00664b } .failed, .timed { color: #a03a00 }
pre { overflow-x: auto; background: #f5f5f5; padding: .6rem; white-space: pre-wrap } img { max-width: 100% }
.jp-InputPrompt, .jp-OutputPrompt, .jp-Collapser, .anchor-link { display: none }
"""


def page(notebooks: Sequence[Any], profile: str, folder: Path) -> str:
    """The run's index: status, time, peak memory and error of each notebook, with links to what is in its folder."""
    counts = {status: sum(n.status == status for n in notebooks) for status in MARKS}
    line = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    rows = "".join(_row(notebook, folder) for notebook in notebooks)
    seconds = sum(notebook.seconds for notebook in notebooks)
    peak = max((notebook.peak_bytes for notebook in notebooks), default=0)
    total = f'<tr><th>all</th><td></td><td class="number">{seconds:.0f} s</td><td class="number">{_mib(peak)}</td></tr>'
    head = '<tr><th>notebook</th><th>status</th><th class="number">time</th><th class="number">peak memory</th></tr>'
    note = "<p>The run was interrupted: those marked waiting have not run.</p>" if counts["interrupted"] else ""
    body = f"<h1>Course run, {html.escape(profile)} profile</h1><p>{line}</p>{note}<table>{head}{rows}{total}</table>"
    return _document("Course run", body + "<p>Memory: the kernel and its children together, sampled.</p>")


def _row(notebook: Any, folder: Path) -> str:
    name = html.escape(notebook.name)
    written = [kind for kind in ("html", "ipynb", "log") if (folder / f"{notebook.name}.{kind}").is_file()]
    label = " ".join([name, *(f'<a href="{name}.{kind}">{kind}</a>' for kind in written)])
    status = f'<span class="{notebook.status}">{MARKS[notebook.status]} {notebook.status}</span>'
    cost = (
        (f"{notebook.seconds:.0f} s", _mib(notebook.peak_bytes) if notebook.peak_bytes else "")
        if notebook.seconds
        else ("", "")
    )
    numbers = "".join(f'<td class="number">{value}</td>' for value in cost)
    row = f"<tr><td>{label}</td><td>{status}</td>{numbers}</tr>"
    if notebook.error:
        where = "" if notebook.cell is None else f"In [{notebook.cell}]: "
        row += f'<tr><td colspan="4"><pre>{html.escape(where + notebook.error)}</pre></td></tr>'
    return row


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def notebook_page(path: Path, title: str) -> str:
    """An executed notebook as one HTML page; formulas stay as they are written."""
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter(template_name="basic").from_notebook_node(read_notebook(path))
    return _document(title, body)


def _document(title: str, body: str) -> str:
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{html.escape(title)}</title>"
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body>{body}</body></html>\n'
