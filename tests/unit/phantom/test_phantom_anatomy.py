"""Heads: symmetry, mass effect, and maps that do not fold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from brainseg_utils.errors import SettingError
from brainseg_utils.phantom import anatomy, grids, template
from brainseg_utils.phantom.anatomy import Push
from brainseg_utils.phantom.geometry import geometry
from brainseg_utils.phantom.parameters import default

SYMMETRIC = tuple(np.arange(-80, 81, 4, dtype=np.float32) for _ in range(3))


def test_the_template_is_symmetric():
    maps = template.load()
    for name in ("gm", "wm", "ventricle", "surface", "ventricle_distance"):
        values = getattr(maps, name)
        np.testing.assert_array_equal(values, values[::-1], err_msg=name)
    assert maps.gm.shape == (197, 233, 189)
    brain = (maps.surface > 0).sum() / 1e6
    assert 1.6 < brain < 2.1  # litres
    assert 20 < (maps.ventricle > 127).sum() / 1000 < 80  # cm3


def test_a_damaged_cache_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINSEG_CACHE", str(tmp_path))
    small = template.Template(*(np.zeros(1, np.uint8) for _ in range(7)))
    made = []
    monkeypatch.setattr(template, "prepare", lambda *maps: made.append(1) or small)
    template.load.__wrapped__()
    template.load.__wrapped__()
    assert len(made) == 1
    (cached,) = tmp_path.iterdir()
    cached.write_bytes(cached.read_bytes()[:50])
    template.load.__wrapped__()
    assert len(made) == 2 and [p.name for p in tmp_path.iterdir()] == [cached.name]


def test_without_random_amplitudes_a_head_is_symmetric():
    p = default()
    neutral = anatomy.neutral_subject(p, p.frame["sri24"])
    found = anatomy.tissues(neutral, template.load(), p, SYMMETRIC, SYMMETRIC)
    for name in ("gm", "wm", "csf", "surface"):
        values = getattr(found, name)
        np.testing.assert_allclose(values, values[::-1], atol=2e-3, err_msg=name)
    assert found.mask.sum() * 64 / 1e6 == pytest.approx(1.45, abs=0.25)
    np.testing.assert_allclose(found.gm + found.wm + found.csf, 1, atol=1e-4)


def test_a_flipped_head_is_the_mirror_image():
    p = default()
    heads = []
    for probability in (0.0, 1.0):
        subject = dataclasses.replace(p.subject, flip_probability=probability)
        case = geometry(3, 1, kind="healthy", parameters=dataclasses.replace(p, subject=subject))
        heads.append(case.paste(case.fraction("gm") * case.mask)[:119])  # 119 voxels lie symmetric about the middle
    apart, own = np.abs(heads[0] - heads[1][::-1]), np.abs(heads[0] - heads[0][::-1])
    assert apart.mean() < 0.05 * own.mean()  # the ventricles' flow is sampled on a 4 mm grid that is not symmetric
    assert np.percentile(apart, 99.5) < 0.05 < np.percentile(own, 99.5)


def test_mass_effect_pushes_the_midline_away():
    p = default()
    axes = tuple(np.arange(-60, 61, 3, dtype=np.float32) for _ in range(3))
    points = anatomy.mass_effect(p, axes, [Push((30.0, 0.0, 0.0), 20.0, 0.5)])
    middle = len(axes[0]) // 2
    source = points[0, middle, middle, middle]
    assert source > 1  # what lies at x = 0 now came from the tumour's side
    pulled = anatomy.mass_effect(p, axes, [Push((30.0, 0.0, 0.0), 20.0, -0.25)])
    assert pulled[0, middle, middle, middle] <= 0


def test_a_push_keeps_the_volume_between_shells():
    p = default()
    axes = tuple(np.arange(-50, 51, 1, dtype=np.float32) for _ in range(3))
    push = Push((0.0, 0.0, 0.0), 18.0, 0.5)
    determinant = jacobian(anatomy.mass_effect(p, axes, [push]), 1.0)
    r = np.sqrt(sum(g**2 for g in np.meshgrid(*axes, indexing="ij")))
    shell = (r > 19) & (r < 24)  # close to the tumour the push has hardly faded
    assert determinant[shell].mean() == pytest.approx(1, abs=0.06)


def jacobian(points: np.ndarray, step: float) -> np.ndarray:
    """Determinant of the derivative of a map (3, X, Y, Z)."""
    rows = [np.stack(np.gradient(component, step)) for component in points]
    return np.linalg.det(np.moveaxis(np.stack(rows), (0, 1), (-2, -1)))


@pytest.mark.parametrize("index", range(4))
def test_no_head_folds(index):
    p = default()
    frame = p.frame["sri24"]
    subject = anatomy.draw_subject(p, frame, 21, index)
    axes = grids.grid(frame, 4).axes
    centre, radius = (28.0, 10.0, 12.0), 22.0
    pushes = [Push(centre, radius, 0.65)]
    points = anatomy.place(subject, p, axes, pushes)
    points = points + anatomy.widen_ventricles(subject, template.load(), points)
    determinant = jacobian(points, 4.0) * np.sign(np.linalg.det(subject.matrix)) * np.prod(frame.signs)
    squared = sum(
        (a - c).reshape([-1 if i == n else 1 for n in range(3)]) ** 2
        for i, (a, c) in enumerate(zip(axes, centre, strict=True))
    )
    assert determinant[np.broadcast_to(squared > (0.5 * radius) ** 2, determinant.shape)].min() > 0.05


def test_grids_of_one_and_two_millimetres_share_their_blocks():
    for frame in default().frame.values():
        fine, coarse = grids.grid(frame, 1), grids.grid(frame, 2)
        even = fine.affine @ [0.5, 0.5, 0.5, 1]
        np.testing.assert_allclose(coarse.affine[:3, 3], even[:3])
        for a, b in zip(fine.axes, coarse.axes, strict=True):
            pairs = a[: len(a) // 2 * 2].reshape(-1, 2).mean(1)
            np.testing.assert_allclose(pairs, b[: len(pairs)], atol=1e-4)
    brats = grids.grid(default().frame["sri24"], 1)
    np.testing.assert_array_equal(brats.affine, np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]))
    mni = grids.grid(default().frame["mni"], 1)
    assert mni.shape == (182, 218, 182)
    np.testing.assert_array_equal(mni.affine[:3, 3], [90, -126, -72])
    with pytest.raises(SettingError, match="1 or 2"):
        geometry(0, 0, spacing=3)
