"""The report's gallery draws the errors of a case, and leaves out what it cannot read."""

import numpy as np
import pytest

from brainseg_utils.datasets import export, nifti
from brainseg_utils.datasets.layouts import MODALITIES
from brainseg_utils.errors import DataError
from brainseg_utils.views.gallery import case_pictures


@pytest.fixture
def cohort(tmp_path):
    rng = np.random.default_rng(1)
    for number in range(2):
        case_id = f"BraTS-GLI-{number:05d}-000"
        images = {m: rng.integers(1, 500, (24, 22, 20)).astype(np.int16) for m in MODALITIES}
        label = np.zeros((24, 22, 20), np.uint8)
        label[6:14, 6:14, 5:12] = 2
        export.write_case(tmp_path / "truth", "brats2023", case_id, images, label, np.diag([-1.0, -1, 1, 1]))
        path = tmp_path / "prediction" / case_id / f"{case_id}-seg.nii.gz"
        nifti.write(path, np.roll(label, 2, axis=0), np.diag([-1.0, -1, 1, 1]))
    return tmp_path


def test_a_picture_shows_and_says_where_the_mistakes_are(cohort):
    picture = case_pictures(cohort / "truth", cohort / "prediction", "brats2023")("BraTS-GLI-00000-000")
    assert picture.png.startswith(b"\x89PNG")
    assert "missed" in picture.alt and "extra" in picture.alt


def test_a_case_without_a_readable_prediction_has_no_picture(cohort):
    broken = cohort / "prediction" / "BraTS-GLI-00001-000" / "BraTS-GLI-00001-000-seg.nii.gz"
    broken.write_bytes(broken.read_bytes()[:60])
    pictures = case_pictures(cohort / "truth", cohort / "prediction", "brats2023")
    assert pictures("BraTS-GLI-00001-000") is None
    assert pictures("BraTS-GLI-99999-000") is None


def test_folders_without_cases_are_refused(cohort, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        case_pictures(tmp_path / "empty", cohort / "prediction", "brats2023")
