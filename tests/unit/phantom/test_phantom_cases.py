"""Whole cases: what every scan has in common, what tumours look like, and that a case is always the same."""

from __future__ import annotations

import hashlib

import cc3d
import numpy as np
import pytest
from scipy import ndimage

from brainseg_utils.errors import DataError, SettingError
from brainseg_utils.phantom import geometry as room
from brainseg_utils.phantom.geometry import geometry
from brainseg_utils.phantom.scanner import render, thick_slices

T1N, T1C, T2W, T2F = range(4)
ENOUGH = 30  # voxels from which a tissue's mean says something
VOXEL = 8 / 1000  # cm3


def digest(case, images) -> str:
    return hashlib.sha256(images.tobytes() + case.label.tobytes()).hexdigest()


def medians(members, tissue: int, modality: int, kinds=None) -> np.ndarray:
    """Per case: median z of a tissue less that of the healthy brain."""
    found = []
    for member in members:
        label, mask = member.case.label, member.case.mask
        if (label == tissue).sum() >= ENOUGH and (kinds is None or member.case.facts["kind"] in kinds):
            z = member.z[modality]
            found.append(np.median(z[label == tissue]) - np.median(z[mask & (label == 0)]))
    return np.array(found)


def test_the_same_case_twice_in_any_order(pre):
    again = geometry(7, 3, healthy=0.0)
    assert digest(again, render(again, 7)) == digest(pre[3].case, pre[3].images)


def test_scans_share_a_mask_and_are_whole_numbers(pre, post):
    for member, known in [(m, {0, 1, 2, 3}) for m in pre] + [(m, {0, 1, 2, 3, 4}) for m in post]:
        mask, images, label = member.case.mask, member.images, member.case.label
        assert images.dtype == np.int16 and label.dtype == np.uint8
        assert (images[:, mask] >= 1).all() and (images[:, ~mask] == 0).all()
        assert (label[~mask] == 0).all()
        assert set(np.unique(label)) <= known
        whole = member.case.paste(images)
        assert whole.shape == (4, *member.case.whole)
        assert (whole != 0).sum() == (images != 0).sum()


def test_volumes(pre):
    for member in pre:
        facts, label = member.case.facts, member.case.label
        assert 1100 <= facts["brain_volume"] <= 2200
        core, whole = (np.isin(label, (1, 3)).sum() * VOXEL, (label > 0).sum() * VOXEL)
        assert 0 < core <= whole <= 380
        assert facts["volumes"]["ET"] == pytest.approx((label == 3).sum() * VOXEL, abs=0.01)
        if facts["foci"] == 1:
            assert core == pytest.approx(facts["core_volume"], rel=0.15, abs=10 * VOXEL)
        assert not facts["enhancing"] or facts["volumes"]["ET"] > 0 or facts["kind"] == "lgg"
        assert facts["enhancing"] or facts["volumes"]["ET"] == 0


def test_no_oedema_is_cut_flat(pre):
    for member in pre:
        oedema = member.case.label == 2
        for axis in range(3):
            counts = oedema.sum(axis=tuple(a for a in range(3) if a != axis))
            for here, there in ((counts[:-1], counts[1:]), (counts[1:], counts[:-1])):
                assert not ((here > 100) & (there < 0.1 * here)).any(), (member.case.facts["index"], axis)


def test_enhancement_lies_in_the_tumour(pre):
    for member in pre:
        label = member.case.label
        parts = cc3d.connected_components(label == 3, connectivity=26)
        near = ndimage.grey_dilation(parts, footprint=np.ones((3, 3, 3)))
        touching = set(np.unique(near[np.isin(label, (1, 2))]))
        assert len(set(range(1, int(parts.max()) + 1)) - touching) <= member.case.facts["satellites"]


def test_orders_of_brightness_over_the_cohort(pre):
    assert 0.8 < np.median(medians(pre, 2, T2F)) < 2.2
    assert 0.5 < np.median(medians(pre, 2, T2W)) < 1.6
    assert -0.6 < np.median(medians(pre, 2, T1N)) < 0.6
    enhancing = medians(pre, 3, T1C)
    assert 0.5 < np.median(enhancing) < 2.5
    assert (enhancing > 0).mean() >= 0.95
    assert np.median(medians(pre, 1, T2W)) > 1


def test_rims_are_brighter_than_what_they_enclose(pre):
    rings = [m for m in pre if m.case.facts["kind"] in ("ring", "solid")]
    both = [m for m in rings if min((m.case.label == 1).sum(), (m.case.label == 3).sum()) >= ENOUGH]
    higher = [np.median(m.z[T1C][m.case.label == 3]) > np.median(m.z[T1C][m.case.label == 1]) for m in both]
    assert len(higher) > 5 and np.mean(higher) >= 0.95


def test_fluid_is_dark_on_t1_and_flair_and_bright_on_t2(pre):
    for member in pre:
        case, z = member.case, member.z
        healthy = case.mask & (case.label == 0) & (case.layers["vessel"] < 25) & (case.layers["choroid"] < 25)
        fluid = healthy & (case.layers["ventricle"] > 230)
        solid = healthy & (case.layers["wm"].astype(int) + case.layers["gm"] > 250)
        if fluid.sum() < ENOUGH:
            continue
        for modality, sign in ((T1N, -1), (T2F, -1), (T2W, 1)):
            assert sign * (np.median(z[modality][fluid]) - np.median(z[modality][solid])) > 0.5


def test_cavities_hold_fluid_and_enhance_in_their_wall_only(post):
    for member in post:
        label = member.case.label
        assert (label == 4).sum() * VOXEL == pytest.approx(member.case.facts["core_volume"], rel=0.2, abs=0.2)
        assert (label == 3).any() == (member.case.facts["kind"] == "cavity_et")
    assert np.median(medians(post, 4, T2W)) > 1.5 and np.median(medians(post, 4, T1C)) < -1


def test_one_and_two_millimetres_are_the_same_case(pre):
    member = pre[0]
    fine = geometry(7, 0, healthy=0.0, spacing=1)
    assert render(fine, 7).shape[1:] == fine.mask.shape
    whole = fine.paste(fine.label)
    even = tuple(n // 2 * 2 for n in whole.shape)
    blocks = [v for n in even for v in (n // 2, 2)]
    coarse = member.case.paste(member.case.label)[tuple(slice(n // 2) for n in even)]
    for labels in ((1, 2, 3), (1, 3), (3,)):
        halved = np.isin(whole, labels)[tuple(slice(n) for n in even)].reshape(blocks).mean((1, 3, 5)) > 0.5
        two = np.isin(coarse, labels)
        assert 2 * (halved & two).sum() / (halved.sum() + two.sum()) > 0.93, labels


def test_a_second_visit_is_the_same_head_with_another_lesion():
    first, second = (geometry(5, 2, kind="ring", visit=visit) for visit in (0, 1))
    assert first.facts["core_volume"] != second.facts["core_volume"]
    assert first.facts["age"] == second.facts["age"] and first.box == second.box
    union = ((first.label > 0) | (second.label > 0)).sum()
    assert ((first.label > 0) & (second.label > 0)).sum() > 0.3 * union
    assert not np.array_equal(render(first, 5), render(second, 5))


def test_a_fresh_draw_changes_the_picture_and_not_the_anatomy(pre, tmp_path):
    case = pre[1].case
    fresh = render(case, 7, draw=1)
    assert not np.array_equal(fresh, pre[1].images)
    np.testing.assert_array_equal(fresh != 0, pre[1].images != 0)
    kept = room.load(case.save(tmp_path / "case.npz"))
    np.testing.assert_array_equal(render(kept, 7, draw=1), fresh)
    np.testing.assert_array_equal(kept.label, case.label)
    assert dict(kept.facts) == dict(case.facts) and (tmp_path / "case.npz").stat().st_size < 4e6


def test_a_crop_can_be_rendered_alone(pre):
    case = pre[2].case
    box = (slice(10, 50), slice(12, 52), slice(8, 40))
    part = case.crop(box)
    images = render(part, 7)
    assert images.shape == (4, 40, 40, 32)
    np.testing.assert_array_equal(part.label, case.label[box])
    inside = part.mask & (part.label == 0)
    agree = [np.corrcoef(images[m][inside], pre[2].images[m][box][inside])[0, 1] for m in range(4)]
    assert min(agree) > 0.6  # same tissues and contrast; texture and noise have other positions


def test_healthy_subjects_have_no_lesion_and_no_lesion_layers():
    case = geometry(7, 0, healthy=1.0)
    assert case.facts["kind"] == "healthy" and not case.label.any()
    assert not set(room.FIELDS) & set(case.layers)
    assert (render(case, 7)[:, case.mask] > 0).all()


def test_thick_slices_keep_the_mean_and_blur_across_only():
    image = np.zeros((4, 4, 60), np.float32)
    image[:, :, 30] = 1
    seen = thick_slices(image, 2, 5.0, 0.42, 0.3)
    np.testing.assert_allclose(seen, np.broadcast_to(seen[:1, :1], seen.shape), atol=1e-6)
    assert seen.max() < 0.3 and seen[0, 0, :20].max() < 1e-3
    assert seen[0, 0].sum() == pytest.approx(1, abs=0.3)


def test_what_is_unknown_is_named():
    with pytest.raises(SettingError, match=r"unknown kind 'rings'.*did you mean 'ring'"):
        geometry(0, 0, kind="rings")
    with pytest.raises(SettingError, match="frame"):
        geometry(0, 0, frame="sri")
    with pytest.raises(SettingError, match="treatment"):
        geometry(0, 0, treatment="before")


def test_a_file_that_is_no_geometry_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x\.npz: no geometry"):
        room.load(tmp_path / "x.npz")
