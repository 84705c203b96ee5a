"""The README's two parts that are not typed by hand: the course map with recorded times, and the picture.

`make notebooks` calls it after the notebooks were written; a test compares the map with the record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg_utils.course.checkout import find_root
from brainseg_utils.course.reference import time_text
from brainseg_utils.datasets.layouts import MODALITIES, MODALITY_TITLES
from brainseg_utils.files import atomic, write_text

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from brainseg_utils.datasets.cases import Case

PICTURE = Path("data", "reference", "first_look.png")
PICTURE_SEED, PICTURE_CASES, PICTURE_DPI = 2026, 4, 90
MAP = re.compile(r"(<!-- map -->\n).*?(<!-- /map -->)", re.DOTALL)


@dataclass(frozen=True)
class Lesson:
    """One notebook of the course: file stem, what it teaches in a line, the reports that it rebuilds."""

    name: str
    title: str
    teaches: str
    reports: str


LESSONS = (
    Lesson("00_first_look", "First look", "from a scan to a scored segmentation in a minute", ""),
    Lesson(
        "01_data_exploration", "Data exploration", "modalities, NIfTI, label schemes, faults, splits and leaks", "R2"
    ),
    Lesson("02_preprocessing", "Preprocessing and augmentation", "every report's pipeline, seen and measured", "R0-R4"),
    Lesson("03_unet_setr", "2D: U-Net against SETR", "two architectures, four losses, three fair comparisons", "R2"),
    Lesson("04_unet_family", "3D: the U-Net family", "from FCNN to Residual U-Net, one change at a time", "R1, R3"),
    Lesson("05_swin_unetr", "Swin-UNETR", "window attention read, counted and compared", "R0"),
    Lesson("06_gan_augmentation", "GAN augmentation", "painted tumours that fit in memory, judged honestly", "R1"),
    Lesson("07_metrics", "Metrics and error analysis", "Dice, HD95, lesion-wise scores, and when each lies", "R1, R3"),
    Lesson("08_cross_validation", "Modalities and cross-validation", "missing modalities, folds, ensembles", "R4"),
    Lesson("09_application", "From model to application", "batch prediction, the app, model card, limits", "R1, R3"),
)


def course_map(root: Path) -> str:
    """The table of all lessons in Markdown; those that are not there yet say so."""
    rows = ["| | notebook | what you will be able to explain and do | reports | time |", "|---|---|---|---|---|"]
    for lesson in LESSONS:
        file = Path("notebooks", f"{lesson.name}.ipynb")
        there = (root / file).is_file()
        title = f"[{lesson.title}]({file.as_posix()})" if there else lesson.title
        time = time_text(lesson.name, "quick", root) if there else "to come"
        rows.append(f"| {lesson.name[:2]} | {title} | {lesson.teaches} | {lesson.reports} | {time} |")
    return "\n".join(rows) + "\n"


def with_map(readme: str, root: Path) -> str:
    """The README's text with its course map written anew."""
    return MAP.sub(lambda found: found[1] + course_map(root) + found[2], readme)


def draw_picture(path: Path, cohort: Path) -> None:
    """Draws 1 mm phantoms, one a row: four modalities, then the tissues over FLAIR. Takes about a minute."""
    from brainseg_utils.phantom.cohort import make

    make(cohort, PICTURE_CASES, "brats2023", seed=PICTURE_SEED, spacing=1)
    figure = phantom_figure(cohort)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=PICTURE_DPI)


def phantom_figure(cohort: Path) -> Figure:
    """The cases of a folder, each in the axial slice with the most tumour, cropped to the brain."""
    from matplotlib.figure import Figure

    from brainseg_utils.datasets.find import find_cases
    from brainseg_utils.views.figures import legend_handles

    cases = find_cases(cohort)
    figure = Figure(figsize=(9, 2.2 * len(cases)), facecolor="black", layout="constrained")
    axes = figure.subplots(len(cases), len(MODALITIES) + 1)
    for number, (row, case) in enumerate(zip(axes, cases, strict=True)):
        titles = [*(MODALITY_TITLES[m] for m in MODALITIES), "what is to be found"] if number == 0 else [""] * 5
        for axis, picture, title in zip(row, _pictures(case), titles, strict=True):
            axis.imshow(picture)
            axis.set_title(title, color="white", fontsize=10)
            axis.axis("off")
    tissues = cases[0].scheme.tissues.values()
    figure.legend(
        handles=legend_handles(tissues), loc="outside lower right", ncols=3, labelcolor="white", frameon=False
    )
    return figure


def _pictures(case: Case) -> list[np.ndarray]:
    """(rows, columns, 3) in 0 to 1: the four modalities, and FLAIR with the tissues in colour."""
    import numpy as np

    from brainseg_utils.views import palette

    volume, label = case.images().data, case.label().data
    k = int((label > 0).sum((0, 1)).argmax())
    inside = np.argwhere((volume[0] > 0).any(axis=2))
    x, y = (slice(low, high + 1) for low, high in zip(inside.min(0), inside.max(0), strict=True))
    greys = []
    for image in volume:
        plane = (image[x, y, k] / np.percentile(image[image > 0], 99.7)).clip(0, 1)
        greys.append(np.repeat(plane.T[::-1, :, None], 3, axis=2))
    coloured = greys[-1].copy()
    for value, tissue in case.scheme.tissues.items():
        coloured[label[x, y, k].T[::-1] == value] = np.array(palette.style(tissue).rgb) / 255
    return [*greys, coloured]


def write(root: Path | None = None) -> Path:
    """Writes the README's course map from the records."""
    root = find_root(root)
    path = root / "README.md"
    return write_text(path, with_map(path.read_text(encoding="utf-8"), root))


if __name__ == "__main__":
    checkout = find_root()
    draw_picture(checkout / PICTURE, checkout / "runs" / "readme")
    print(f"picture in {PICTURE}, map in {write(checkout).name}")
