"""Recorded runs: what is there is read, and a record that does not say how it was made is refused."""

import json

import pytest

from brainseg_utils.course.reference import reference_runs
from brainseg_utils.errors import DataError

FACTS = {"command": "brainseg train r2_unet_dice", "seed": 0, "device": "cpu", "time": 754.0}


def write(root, name, environment=FACTS, **files):
    folder = root / "data" / "reference" / "runs" / name
    folder.mkdir(parents=True)
    (folder / "environment.json").write_text(json.dumps(environment))
    for file, text in files.items():
        (folder / file.replace("_", ".")).write_text(text)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "brainseg_utils").mkdir()
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def test_nothing_recorded_is_an_empty_answer(root):
    assert reference_runs(root) == {}


def test_a_run_is_read_with_its_history_and_how_it_was_made(root):
    history = "epoch,step,train_loss,dice,seconds\n1,20,0.9,0.25,3.5\n2,40,0.7,0.5,7.0\n"
    write(root, "lgg_r2_unet_dice", history_csv=history, metrics_json='{"dice": 0.5}')
    found = reference_runs(root)["lgg_r2_unet_dice"]
    assert found.history["dice"].tolist() == [0.25, 0.5] and found.metrics["dice"] == 0.5
    assert found.made == "`brainseg train r2_unet_dice`, seed 0, cpu, 13 min"
    assert found.scores is None and found.summary == {}


def test_a_cross_validation_has_scores_and_no_history(root):
    scores = "patient,fold,dice,iou,pixel_accuracy,mean_accuracy\na,0,0.8,0.7,0.99,0.9\nb,1,0.6,0.5,0.98,0.8\n"
    facts = {**FACTS, "seed": [10, 11], "training_seconds": 7238}
    del facts["time"]
    write(root, "lgg_cross_validation", facts, scores_csv=scores, summary_json='{"mean": 0.7}')
    found = reference_runs(root)["lgg_cross_validation"]
    assert found.history is None and found.metrics == {}
    assert found.made.endswith("seed [10, 11], cpu, 121 min")
    assert found.scores["dice"].mean() == pytest.approx(0.7) and found.summary == {"mean": 0.7}


@pytest.mark.parametrize("missing", ["command", "seed", "device", "time"])
def test_a_record_that_does_not_say_how_it_was_made_is_refused(root, missing):
    write(root, "run", {key: value for key, value in FACTS.items() if key != missing})
    with pytest.raises(DataError, match=f"a record without {missing}"):
        reference_runs(root)


def test_a_damaged_record_is_refused(root):
    write(root, "run", metrics_json="{")
    with pytest.raises(DataError, match="damaged record"):
        reference_runs(root)


def test_the_projects_own_records_are_whole():
    assert all(record.made for record in reference_runs().values())
