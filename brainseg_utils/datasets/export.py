"""Arrays, written as a case of any layout: the names, labels and file structure of the data set itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brainseg_utils.datasets import nifti
from brainseg_utils.datasets.cases import Case, slices_from_ras
from brainseg_utils.datasets.labels import get_scheme
from brainseg_utils.datasets.layouts import LGG_CHANNELS, MODALITIES, get_layout
from brainseg_utils.errors import SettingError
from brainseg_utils.files import atomic, write_json

MSD_CHANNELS = {"t2f": "FLAIR", "t1n": "T1w", "t1c": "t1gd", "t2w": "T2w"}  # in the data set's order, 0 to 3


def write_case(
    root: str | Path,
    layout: str,
    case_id: str,
    images: Mapping[str, np.ndarray],
    label: np.ndarray | None,
    affine: np.ndarray,
    *,
    scheme: str = "brats2024",
    description: str = "",
) -> Path:
    """Writes one case below `root` as the layout's data set would.

    Args:
        root: the data set's folder; for msd, the folder that holds `imagesTr` (see `write_decathlon_index`).
        layout: a volumetric layout (`brats2020` to `brats2024`, `msd`).
        case_id: folder and file stem.
        images: canonical modality to (X, Y, Z) array, all on one grid; written in their own type.
        label: (X, Y, Z) in the integers of `scheme`; None for an unlabelled case.
        affine: (4, 4) of the arrays.
        scheme: key of `labels.SCHEMES` that `label` is in; converted to the layout's own.
        description: for the NIfTI headers.

    Returns:
        The case's folder (msd: the image file).

    Raises:
        LabelError: a tissue that the layout's scheme cannot write.
        SettingError: the layout is not volumetric.
    """
    spec = get_layout(layout)
    if layout == "lgg":
        raise SettingError("lgg is not volumetric", expected="a brats layout or msd", remedy="use write_slices")
    root = Path(root)
    converted = None if label is None else get_scheme(scheme).convert(label, spec.scheme)
    if layout == "msd":
        image = np.stack([images[m] for m in MSD_CHANNELS], axis=-1)
        path = nifti.write(root / "imagesTr" / f"{case_id}.nii.gz", image, affine, description)
        if converted is not None:
            nifti.write(root / "labelsTr" / f"{case_id}.nii.gz", converted, affine, description)
        return path
    folder = root / case_id
    for modality, word in spec.suffixes.items():
        nifti.write(folder / spec.file_name(case_id, word), images[modality], affine, description)
    if converted is not None:
        nifti.write(folder / spec.file_name(case_id, "seg"), converted, affine, description)
    return folder


def write_decathlon_index(root: str | Path, case_ids: Sequence[str], description: str = "") -> Path:
    """Writes the `dataset.json` of a Decathlon folder whose cases were written by `write_case`."""
    scheme = get_scheme("msd")
    return write_json(
        Path(root) / "dataset.json",
        {
            "name": "BRATS",
            "description": description,
            "tensorImageSize": "4D",
            "modality": {str(i): name for i, name in enumerate(MSD_CHANNELS.values())},
            "labels": {"0": "background", **{str(value): tissue for value, tissue in scheme.tissues.items()}},
            "numTraining": len(case_ids),
            "numTest": 0,
            "training": [
                {"image": f"./imagesTr/{case_id}.nii.gz", "label": f"./labelsTr/{case_id}.nii.gz"}
                for case_id in case_ids
            ],
            "test": [],
        },
    )


def write_slices(root: str | Path, case_id: str, images: Mapping[str, np.ndarray], mask: np.ndarray) -> Path:
    """Writes one patient in the LGG layout.

    Args:
        root: the folder that holds the patients (`kaggle_3m`).
        case_id: folder and file stem, patient and date.
        images: t1n, t2f and t1c as uint8 (X, Y, Z) in RAS.
        mask: boolean (X, Y, Z).

    Returns:
        The patient's folder.
    """
    import tifffile

    folder = Path(root) / case_id
    colour = np.stack([slices_from_ras(images[m]) for m in LGG_CHANNELS], axis=-1)
    planes = slices_from_ras(mask)
    for k in range(colour.shape[2]):
        for name, plane in (
            (f"{case_id}_{k + 1}.tif", colour[:, :, k]),
            (f"{case_id}_{k + 1}_mask.tif", planes[:, :, k].astype(np.uint8) * 255),
        ):
            with atomic(folder / name) as temporary:
                tifffile.imwrite(temporary, np.ascontiguousarray(plane))
    return folder


def convert_case(case: Case, root: str | Path, layout: str, case_id: str) -> Path:
    """Writes an existing case in another layout: names and labels change, the grid stays.

    Intensities that are whole numbers are written as int16, as the data sets store them.

    Raises:
        LabelError: a tissue of the case has no value in the target's scheme.
    """
    volume = case.images(MODALITIES)
    images = {modality: _compact(volume.data[i]) for i, modality in enumerate(MODALITIES)}
    label = case.label().data if case.label_path else None
    return write_case(root, layout, case_id, images, label, volume.affine, scheme=case.scheme.name)


def _compact(data: np.ndarray) -> np.ndarray:
    """The same values as int16 where it can hold them, else as they are."""
    limits = np.iinfo(np.int16)
    if not (limits.min <= data.min() and data.max() <= limits.max):  # also where there are NaNs
        return data
    whole = data.astype(np.int16)
    return whole if np.array_equal(whole, data) else data
