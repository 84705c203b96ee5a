"""Predicting 3D cases: geometry, labels and names of the input, missing files, what is refused, going on."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.find import find_cases
from brainseg_utils.errors import DataError, GeometryError, SettingError
from brainseg_utils.inference import predict as module
from brainseg_utils.inference.predict import predict
from brainseg_utils.inference.regions import Rules, label
from brainseg_utils.inference.volumes import VolumePredictor
from brainseg_utils.training.checkpoints import build_network, save_weights

NAMES = {
    "brats2020": "BraTS20_Training_003_seg.nii.gz",
    "brats2021": "BraTS2021_00003_seg.nii.gz",
    "brats2023": "BraTS-GLI-00003-000-seg.nii.gz",
    "brats2024": "BraTS-GLI-00003-100-seg.nii.gz",
    "msd": "BRATS_003.nii.gz",
}


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("layout", NAMES)
def test_masks_have_the_layouts_name_labels_type_and_grid(layout, write_scan, reader, make_trained, tmp_path):
    case = write_scan(tmp_path / "in", layout)
    predictor = VolumePredictor([make_trained(reader())])
    assert predictor.write(case, tmp_path / "out", False) == ()
    path = tmp_path / "out" / case.id / NAMES[layout]
    made, truth = nifti.read(path), nifti.read(case.label_path)
    assert made.data.dtype == np.uint8
    assert np.array_equal(made.affine, truth.affine)
    assert np.array_equal(made.data, truth.data)
    assert set(np.unique(made.data)) == {0, *case.scheme.tissues}


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIL"])
def test_a_turned_file_gives_the_same_prediction_turned(axes, write_scan, made_up, odd_network, make_trained, tmp_path):
    case = write_scan(tmp_path / "in")
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("LPS"), nib.orientations.axcodes2ornt(tuple(axes))
    )
    for path in case.paths.values():
        nib.save(nib.load(path).as_reoriented(turn), tmp_path / path.name)
        (tmp_path / path.name).rename(path)
    predictor = VolumePredictor([make_trained(odd_network())], Rules({"WT": 0.4, "TC": 0.4, "RC": 0.6}))
    predictor.write(case, tmp_path / "out", True)
    straight = write_scan(tmp_path / "straight")
    predictor.write(straight, tmp_path / "straight_out", True)
    for path in predictor.targets(case, tmp_path / "out", True):
        made, other = nifti.read(path), nifti.read(tmp_path / "straight_out" / case.id / path.name)
        assert nib.aff2axcodes(made.affine) == tuple(axes)
        assert made.data.shape == nifti.read(case.paths["t1c"]).data.shape
        a, b = nifti.to_ras(made.data, made.affine), nifti.to_ras(other.data, other.affine)
        assert np.array_equal(a[0], b[0])
        assert len(np.unique(a[0])) > 2
        assert np.allclose(a[1], b[1])


def test_probabilities_are_written_beside_the_mask(write_scan, reader, make_trained, tmp_path):
    case = write_scan(tmp_path / "in", "brats2021")
    VolumePredictor([make_trained(reader())]).write(case, tmp_path / "out", True)
    folder = tmp_path / "out" / case.id
    names = {f"{case.id}_probability_{region}.nii.gz" for region in ("ET", "TC", "WT")}  # this scheme has no RC
    assert {path.name for path in folder.iterdir()} == {*names, NAMES["brats2021"]}
    truth = case.label().data
    for region in ("ET", "TC", "WT"):
        file = nifti.read(folder / f"{case.id}_probability_{region}.nii.gz")
        values, _ = nifti.to_ras(file.data, file.affine)
        assert values.dtype == np.float32
        assert np.array_equal(values >= 0.5, case.scheme.region(truth, region))


def test_a_network_of_2_mm_predicts_on_the_scans_own_grid(write_scan, reader, make_trained, tmp_path):
    case = write_scan(tmp_path / "in")
    seen = []

    class Watched(reader):
        def forward(self, image):
            seen.append(tuple(image.shape[2:]))
            return super().forward(image)

    coarse = VolumePredictor([make_trained(Watched(level=0.8), spacing=2.0)])(case)
    assert seen == [(34, 34, 34)]  # 20 x 18 x 16 of 2 mm, widened
    assert coarse.data.shape[1:] == coarse.box.shape
    truth = case.label().data
    found = label(dict(zip(coarse.regions, coarse.data, strict=True)), case.scheme, coarse.spacing)
    for region in ("ET", "TC", "WT", "RC"):
        whole = coarse.box.paste(found)
        assert dice(case.scheme.region(whole, region), case.scheme.region(truth, region)) > 0.85
    fine = VolumePredictor([make_trained(reader())])(case)
    both = VolumePredictor([make_trained(reader()), make_trained(reader(level=0.8), spacing=2.0)])(case)
    mean = (fine.box.paste(fine.data) + coarse.box.paste(coarse.data)) / 2
    assert np.allclose(both.box.paste(both.data), mean, atol=1e-6)


def test_a_region_is_looked_at_in_its_own_voxel_sizes(write_scan, odd_network, make_trained, tmp_path):
    case, trained = write_scan(tmp_path / "in"), make_trained(odd_network(), spacing=1.0)

    def whole(case, *sizes, **others):
        every = dict.fromkeys(("RC", "ET", "TC", "WT"), sizes) if sizes else {}
        made = VolumePredictor([trained], Rules(spacings={**every, **others}))(case)
        assert made.data.shape[1:] == made.box.shape and made.box.shape < made.box.full
        return dict(zip(made.regions, made.box.paste(made.data), strict=True))

    fine, coarse = whole(case, 1.0), whole(case, 2.0)
    assert not np.allclose(fine["TC"], coarse["TC"], atol=1e-2)
    both = whole(case, WT=(2.0,), TC=(1.0, 2.0))
    expected = {**fine, "WT": coarse["WT"], "TC": (fine["TC"] + coarse["TC"]) / 2}  # the recipe's own size is 1 mm
    for region, data in both.items():
        assert np.allclose(data, expected[region], atol=1e-6), region
    thick = write_scan(tmp_path / "thick", affine=np.diag([2.0, 2.0, 2.0, 1.0]))
    own, seen, finest = whole(thick, 2.0), whole(thick, 1.0, 2.0), whole(thick, 0.5, 1.0)
    assert all(np.array_equal(seen[region], own[region]) for region in own), "much finer than the scan: left out"
    assert all(np.array_equal(finest[region], data) for region, data in whole(thick, 1.0).items()), "or the coarsest"
    resized = make_trained(odd_network(), pipeline="r3", size=[32, 32, 32])
    with pytest.raises(SettingError, match="resizes every scan"):
        VolumePredictor([resized], Rules(spacings={"WT": (1.0,)}))


def test_mirror_images_are_predicted_and_turned_back(write_scan, odd_network, make_trained, tmp_path):
    case = write_scan(tmp_path / "in")
    trained = make_trained(odd_network())
    plain, turned = VolumePredictor([trained])(case), VolumePredictor([trained], Rules(flips=(0, 2)))(case)
    assert not np.allclose(plain.data, turned.data, atol=1e-3)
    mirrored = write_scan(tmp_path / "mirrored", affine=np.diag([1.0, -1.0, 1.0, 1.0]))  # the patient's other side
    other = VolumePredictor([trained], Rules(flips=(0, 2)))(mirrored)
    assert np.allclose(turned.box.paste(turned.data), other.box.paste(other.data)[:, ::-1], atol=1e-5)


def test_exclusive_tissues_give_the_likeliest_one(write_scan, odd_network, make_trained, tmp_path):
    case = write_scan(tmp_path / "in")
    network, classes = odd_network(out_channels=5), ("NETC", "SNFH", "ET", "RC")
    trained = make_trained(network, classes, exclusive=True)
    made = VolumePredictor([trained])(case)
    assert made.regions == ("ET", "TC", "WT", "RC")
    found = label(dict(zip(made.regions, made.data, strict=True)), case.scheme, made.spacing, exclusive=True)
    from brainseg_utils.pipeline.prepare import View, prepare

    image = prepare(case.images().data, (1, 1, 1), View()).image
    with torch.no_grad():
        best = network(image[None])[0].argmax(0).numpy()
    brain = (case.images().data != 0).any(0)
    assert np.array_equal(found, np.where(made.box.crop(brain), best, 0))
    assert len(np.unique(best)) == 5


def test_a_missing_modality_is_a_notice_or_an_error(write_scan, reader, make_trained, tmp_path):
    case = write_scan(tmp_path / "in")
    case.paths["t1n"].unlink()
    case = find_cases(tmp_path / "in")[0]
    with pytest.raises(DataError, match=r"no file for modality t1n.*trained to do without"):
        VolumePredictor([make_trained(reader())]).write(case, tmp_path / "out", False)
    robust = VolumePredictor([make_trained(reader(), dropout=0.2)])
    (notice,) = robust.write(case, tmp_path / "out", False)
    assert "t1n is missing" in notice
    made = nifti.read(tmp_path / "out" / case.id / NAMES["brats2024"]).data
    truth = nifti.read(case.label_path).data
    assert np.array_equal(made == 3, truth == 3)
    assert not (made == 4).any()  # RC is what T1n shows
    three = reader(("ET", "TC", "WT"), channels=("t1c", "t2w", "t2f"))
    fewer = make_trained(three, ("ET", "TC", "WT"), channels=3, modalities=("t1c", "t2w", "t2f"))
    assert VolumePredictor([fewer]).write(case, tmp_path / "fewer", False) == ()


@pytest.mark.parametrize(("lost", "found"), [("t1n", False), ("t1c", True)])
def test_there_is_no_rim_without_the_picture_that_shows_it(lost, found, write_scan, reader, make_trained, tmp_path):
    how = Rules(rim=2.0, without_rim={"WT": 1.1})  # no core has so much enhancement, and without it nothing is found
    write_scan(tmp_path / "in").paths[lost].unlink()
    case = find_cases(tmp_path / "in")[0]
    labels, _ = VolumePredictor([make_trained(reader(), dropout=0.2)], how).segment(case)
    assert labels.any() == found


def test_networks_of_other_channels_are_refused(reader, make_trained, odd_network):
    with pytest.raises(SettingError, match=r"weights for 3 images.*t1n, t1c, t2w, t2f"):
        VolumePredictor([make_trained(reader(), channels=3)])
    with pytest.raises(SettingError, match="networks of ET/TC/WT and ET/TC/WT/RC"):
        VolumePredictor([make_trained(reader()), make_trained(odd_network(), ("ET", "TC", "WT"))])
    with pytest.raises(SettingError, match="a network with classes tumour"):
        VolumePredictor([make_trained(odd_network(), ("tumour",))])
    with pytest.raises(SettingError, match="no weights"):
        VolumePredictor([])


def test_empty_and_ill_matched_files_are_refused(write_scan, reader, make_trained, tmp_path):
    predictor = VolumePredictor([make_trained(reader())])
    empty = write_scan(tmp_path / "empty")
    for path in empty.paths.values():
        file = nifti.read(path)
        nifti.write(path, np.zeros_like(file.data), file.affine)
    with pytest.raises(DataError, match="case BraTS-GLI-00003-100: nothing but 0"):
        predictor.write(empty, tmp_path / "out", False)
    other = write_scan(tmp_path / "other")
    file = nifti.read(other.paths["t2w"])
    nifti.write(other.paths["t2w"], file.data[:-1], file.affine)
    with pytest.raises(GeometryError, match="one grid for all files"):
        predictor.write(other, tmp_path / "out", False)
    infinite = write_scan(tmp_path / "infinite")
    nifti.write(infinite.paths["t2w"], np.where(file.data > 0, np.float32(np.nan), 0), file.affine)
    with pytest.raises(DataError, match="not finite"):
        predictor.write(infinite, tmp_path / "out", False)
    assert not (tmp_path / "out").exists()


def test_a_scan_with_its_skull_is_a_notice(write_scan, reader, make_trained, tmp_path):
    case = write_scan(tmp_path / "in", affine=np.diag([-5.0, -5.0, 5.0, 1.0]))  # a brain of 3 litres
    (notice,) = VolumePredictor([make_trained(reader())]).write(case, tmp_path / "out", False)
    assert "skull-strip" in notice


@pytest.fixture(scope="module")
def weights(tmp_path_factory, make_recipe):
    """Weights of a small 3D network, as a run writes them."""
    recipe = make_recipe({"spacing": 2.0}, {"name": "resunet3d", "widths": [4, 4, 4]})
    torch.manual_seed(0)
    network = build_network(recipe, 4, 3)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    return save_weights(path, network.state_dict(), recipe, 4, ("ET", "TC", "WT"))


def test_a_cohort_goes_on_where_it_was(write_scan, weights, tmp_path):
    for number in range(3):
        write_scan(tmp_path / "in", number=number)
    out = tmp_path / "out"
    done = predict(tmp_path / "in", out, weights)
    assert (done.made, done.there, done.faults) == (3, 0, ())
    files = sorted(out.rglob("*.nii.gz"))
    whole = {path: path.read_bytes() for path in files}
    times = {path: path.stat().st_mtime_ns for path in files}
    files[1].unlink()
    done = predict(tmp_path / "in", out, weights.parent)
    assert (done.made, done.there) == (1, 2)
    assert {path: path.read_bytes() for path in files} == whole
    assert files[0].stat().st_mtime_ns == times[files[0]]
    case_folder = next(path for path in (tmp_path / "in").iterdir() if path.is_dir())
    assert predict(case_folder, tmp_path / "one", weights).made == 1


def test_one_bad_case_does_not_stop_the_others(write_scan, weights, tmp_path):
    for number in range(2):
        bad = write_scan(tmp_path / "in", number=number)
    bad.paths["t2w"].write_bytes(bad.paths["t2w"].read_bytes()[:2000])
    done = predict(tmp_path / "in", tmp_path / "out", weights)
    assert (done.made, len(done.faults)) == (1, 1)
    assert "damaged gzip" in done.faults[0]
    assert str(done) == "1 cases predicted, 0 were there, 1 could not be"
    with pytest.raises(DataError, match="damaged gzip"):
        predict(bad.folder, tmp_path / "alone", weights)


def test_one_case_is_in_memory_at_a_time(write_scan, weights, tmp_path, monkeypatch):
    for number in range(3):
        write_scan(tmp_path / "in", number=number)
    read = []
    from brainseg_utils.datasets.cases import Case

    images = Case.images
    monkeypatch.setattr(Case, "images", lambda case, m=None: read.append((case.id, written())) or images(case, m))

    def written():
        return len(list((tmp_path / "out").rglob("*-seg.nii.gz")))

    predict(tmp_path / "in", tmp_path / "out", weights)
    assert [count for _, count in read] == [0, 1, 2]


def test_weights_of_slices_are_refused_for_volumes(write_scan, weights, lgg_root, tmp_path):
    from brainseg_utils.inference.ensemble import Settings

    write_scan(tmp_path / "in")
    with pytest.raises(SettingError, match=r"weights of slices for layout brats2024.*trained on volumes"):
        predict(tmp_path / "in", tmp_path / "out", weights, settings=Settings())
    with pytest.raises(SettingError, match=r"weights of volumes for layout lgg.*trained on slices"):
        predict(lgg_root, tmp_path / "out", weights)
    with pytest.raises(SettingError, match="place of the truth"):
        predict(tmp_path / "in", tmp_path / "in", weights)


def test_a_model_is_loaded_with_its_rules_and_segments_what_it_writes(write_scan, weights, tmp_path):
    from brainseg_utils.inference.ensemble import join

    case = write_scan(tmp_path / "in")
    file = join([weights], tmp_path / "joined.safetensors", Rules(thresholds={"WT": 0.7}))
    predictor = VolumePredictor.load(file)
    assert predictor.rules == Rules(thresholds={"WT": 0.7})
    labels, made = predictor.segment(case)
    predictor.write(case, tmp_path / "out", probabilities=False)
    written = nifti.read(predictor.targets(case, tmp_path / "out", False)[-1])
    assert np.array_equal(labels, written.data)
    assert labels.shape == made.box.full
    with pytest.raises(SettingError, match="weights of slices"):
        VolumePredictor.load(None, "lgg")


def test_rules_travel_with_the_weights(write_scan, weights, tmp_path):
    from brainseg_utils.inference.ensemble import join, read_settings

    rules = Rules({"WT": 0.6}, shares={"WT": 0.3}, small_et=50.0, flips=(0,), spacings={"ET": (1.0, 2.0)})
    path = join([weights], tmp_path / "joined.safetensors", rules)
    assert read_settings(path) == rules
    assert read_settings(weights) == Rules()
    write_scan(tmp_path / "in")
    predict(tmp_path / "in", tmp_path / "out", path)
    assert predict(tmp_path / "in", tmp_path / "out", path).there == 1
    with pytest.raises(SettingError, match="other weights or settings"):
        predict(tmp_path / "in", tmp_path / "out", path, settings=Rules())
    assert module.RECORD in {p.name for p in (tmp_path / "out").iterdir()}
