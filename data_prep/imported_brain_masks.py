"""Brain masks that somebody else made, such as those released with HGI-SAM: found by the names of their scans."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.inputs import contents, some
from data_prep.nifti import SAME_MM, open_image, oriented, shape_of, voxels_of
from data_prep.pairs import by_name, files_in, key_of
from data_prep.volume import Bools, Remarks, Study, UnusableError, Volume
from hgisam.data.prepared import LABELS
from hgisam.errors import InputError


def brain_files(folder: Path | None) -> list[tuple[str, int, int]]:
    """Name, size and time of each file of imported brain masks."""
    if folder is None:
        return []
    if not folder.is_dir():
        remedy = "Give the folder of the masks."
        raise InputError(f"brain masks {folder}", contents(folder), "a folder with NIfTI files", remedy)
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files_in(folder)]


def with_brains(studies: Sequence[Study], folder: Path) -> list[Study]:
    """Gives each study the file of its brain mask: NAME_mask.nii(.gz) or NAME.nii(.gz), by the name of its scan.

    Args:
        studies: Of NIfTI files.
        folder: Holds the masks, such as `brainmask_ero` of the released HGI-SAM code.

    Raises:
        InputError: If a scan has no mask there.
    """
    found = {key_of(Path(name.removesuffix("_mask"))): path for name, path in by_name(folder).items()}
    keys = [key_of(Path(study.files[0])) for study in studies]
    if missing := [study.files[0] for study, key in zip(studies, keys, strict=True) if key not in found]:
        expected = "a mask NAME_mask.nii.gz for each scan NAME"
        remedy = "Give them all, or none: then brains are found."
        raise InputError(f"brain masks in {folder}", f"none for {some(missing)}", expected, remedy)
    return [replace(study, brain=found[key]) for study, key in zip(studies, keys, strict=True)]


def read_brain(path: Path, volume: Volume) -> Bools:
    """An imported brain mask in the orientation of its scan, [slice, row, col].

    Args:
        path: Of the mask.
        volume: The scan.

    Raises:
        UnusableError: If it can't be read, or lies elsewhere than the scan.
    """
    try:
        image = open_image(path)
        shape_of(image)
        labels = np.zeros((image.shape[2], len(LABELS)), np.int8)
        mask = oriented(voxels_of(path, image).astype(np.float32), None, labels, image.affine, Remarks())
    except UnusableError as error:
        raise UnusableError(f"its brain mask: {error}", volume.remarks) from None
    apart = np.abs([mask.row_mm - volume.row_mm, mask.col_mm - volume.col_mm]).max()
    if mask.hu.shape != volume.hu.shape or max(apart, np.abs(mask.positions_mm - volume.positions_mm).max()) > SAME_MM:
        raise UnusableError("its brain mask: another shape or spacing than the scan", volume.remarks)
    return np.asarray(mask.hu > 0)
