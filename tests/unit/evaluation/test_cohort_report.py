"""The HTML report says what the table says, carries everything in itself, and lets no file name into its markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from brainseg_utils.errors import DataError
from brainseg_utils.evaluation.cohort import Evaluation
from brainseg_utils.evaluation.report import Picture, write_report

COLUMNS = ["case", "region", "metric", "value", "unit"]


def scores(offset=0.0):
    rows = []
    for k in range(9):
        for region in ("WT", "ET"):
            rows += [
                (f"case{k}", region, "dice", 0.9 - k / 10 + offset, "1"),
                (f"case{k}", region, "hd95", 374.0 if k == 8 else k + 1.0, "mm"),
                (f"case{k}", region, "volume_truth", 1000.0, "mm3"),
            ]
    return pd.DataFrame(rows, columns=COLUMNS)


class Checker(HTMLParser):
    """Notes every tag with its attributes, and tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.faults = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


def parsed(path):
    checker = Checker()
    checker.feed(path.read_text())
    assert not checker.faults and not checker.open
    return checker


def test_report_stands_alone_and_every_drawing_has_words(tmp_path):
    evaluation = Evaluation("brats2023", scores(), ("x.nii.gz: damaged",), ("case8: no prediction",), ("case8",))
    asked = []

    def picture(case):
        asked.append(case)
        return Picture(b"\x89PNG", f"Case {case} in one slice.") if case != "case7" else None

    path = write_report(evaluation, tmp_path / "report.html", "Title <1>", Evaluation("x", scores(0.05)), picture)
    page = parsed(path)
    text = path.read_text()
    assert "Title &lt;1&gt;" in text
    assert not re.search(r'(src|href)="(?!data:)', text) and "http" not in text
    assert asked == ["case8", "case7", "case6", "case5", "case4", "case3"]
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 5 and all(attrs["alt"].startswith("Case case") for attrs in images)
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(drawings) == 2 and "WT: mean 0.5, median 0.5" in drawings[0]["aria-label"]
    assert "0.500" in text and "374" in text and "x.nii.gz: damaged" in text
    assert "Compared with the other model" in text and "0.050" in text


def test_names_are_text_and_never_markup(tmp_path):
    rows = scores()
    rows["case"] = rows["case"] + '<script>alert("x")</script>'
    path = write_report(Evaluation("brats2023", rows, ("<b>fault</b>",)), tmp_path / "report.html")
    assert not any(tag in ("script", "b") for tag, _ in parsed(path).tags)


def test_every_dot_is_inside_its_drawing_and_one_case_is_enough(tmp_path):
    one = scores()[lambda t: t["case"] == "case8"]
    page = parsed(write_report(Evaluation("brats2023", one), tmp_path / "report.html"))
    dots = [attrs for tag, attrs in page.tags if tag == "circle"]
    assert len(dots) == 4
    assert all(0 <= float(dot["cx"]) <= 640 for dot in dots)
    with pytest.raises(DataError, match="no scores"):
        write_report(Evaluation("brats2023", one.iloc[:0]), tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()
