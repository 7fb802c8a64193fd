"""Brain masks computed by other tools, such as those released with HGI-SAM; matched to scans by file name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.nifti import open_image, to_canonical, voxels_of
from data_prep.nifti_mask import at_places_of
from data_prep.raw_folder import contents, first_names
from data_prep.scan_mask_pairs import files_by_key, match_key, nifti_files
from data_prep.volume import Bools, Remarks, Study, UnusableError, Volume, naming
from hgisam.data.labels import LABELS
from hgisam.errors import InputError


def list_brain_masks(folder: str | Path | None) -> list[tuple[str, int, int]]:
    """Name, size in bytes and modification time in ns of each imported brain mask.

    Raises:
        InputError: If `folder` is no folder.
    """
    if folder is None:
        return []
    folder = Path(folder)
    if not folder.is_dir():
        remedy = "Give the folder of the masks."
        raise InputError(f"brain masks {folder}", contents(folder), "a folder with NIfTI files", remedy)
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in nifti_files(folder)]


def add_brain_masks(studies: Sequence[Study], folder: str | Path) -> list[Study]:
    """Adds to each study the file of its brain mask, NAME_mask.nii(.gz) or NAME.nii(.gz), by the name of its scan.

    Args:
        studies: Studies of NIfTI files.
        folder: Folder of the masks, such as `brainmask_ero` of the released HGI-SAM code.

    Raises:
        InputError: If a scan has no mask in the folder, or several.
    """
    found = {match_key(Path(name.removesuffix("_mask"))): path for name, path in files_by_key(Path(folder), []).items()}
    keys = [match_key(Path(study.files[0])) for study in studies]
    if missing := [study.files[0] for study, key in zip(studies, keys, strict=True) if key not in found]:
        expected = "one mask NAME_mask.nii.gz for each scan NAME"
        remedy = "Give all of them, or none; then brain masks are computed."
        raise InputError(f"brain masks in {folder}", f"none for {first_names(missing)}", expected, remedy)
    return [replace(study, brain=found[key]) for study, key in zip(studies, keys, strict=True)]


def read_brain_mask(path: str | Path, scan_file: str | Path, volume: Volume) -> Bools:
    """Reads an imported brain mask in the orientation of its scan, [slice, row, col].

    Args:
        path: File of the mask.
        scan_file: File of the scan.
        volume: The scan; its remarks get what was done with the mask.

    Raises:
        UnusableError: If the mask can't be read, or has other places than the scan.
    """
    try:
        with open_image(scan_file) as scan, naming("its brain mask"), open_image(path) as image:
            mask = at_places_of(scan, image, (voxels_of(image) > 0).astype(np.uint8), volume.remarks)
            labels = np.zeros((len(mask), len(LABELS)), np.int8)
            return to_canonical(mask.astype(np.float32), None, labels, scan.affine, Remarks()).hu > 0
    except UnusableError as error:
        raise UnusableError(str(error), volume.remarks) from None
