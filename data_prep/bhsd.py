"""The BHSD layout: `images/` and `ground truths/` with `ID_<patient>_ID_<study>.nii.gz`, one mask value per subtype.

Source: Wu et al. 2023, BHSD: A 3D multi-class brain hemorrhage segmentation dataset, MLMI. Its scans come from RSNA
2019: before you evaluate on BHSD, exclude its patients from the training set (`python -m data_prep rsna --leave-out`).
"""

import re
from pathlib import Path

from data_prep.nifti import read_scan_with_mask
from data_prep.parallel import Workers
from data_prep.privacy import PublicId
from data_prep.raw_folder import Listing, require
from data_prep.scan_mask_pairs import list_masked_studies, scan_and_mask_files
from data_prep.volume import Study, Volume
from hgisam.data.labels import MASK_VALUES, SUBTYPES

NAME = "bhsd"
LICENCE = "MIT as published; made from RSNA 2019, whose terms hold too: non-commercial, cite, no re-identification"
ANNOTATIONS, MAIN_SPLIT, PUBLIC = "masks", "test", True
SCANS, MASKS = "images", "ground truths"
IDS = re.compile(r"(ID_[0-9a-zA-Z]+)_(ID_[0-9a-zA-Z]+)")
MASK_MEANING = {MASK_VALUES[name]: name for name in SUBTYPES}  # the same values as in a prepared data set


def tables(raw: str | Path) -> list[Path]:
    """No tables: the labels follow from the masks.

    Raises:
        InputError: If `raw` has another layout.
    """
    require(raw, [f"{SCANS}/", f"{MASKS}/"], "BHSD")
    return []


def images(raw: str | Path) -> list[Path]:
    """All scans and masks.

    Raises:
        InputError: If there is no scan.
    """
    return scan_and_mask_files(Path(raw, SCANS), Path(raw, MASKS), "ID_0a1b2c3d_ID_1a2b3c4d5e")


def list_studies(raw: str | Path, workers: Workers, public_id: PublicId) -> Listing:
    """Pairs scans and masks; the labels of a slice are the subtypes in its mask.

    Raises:
        InputError: If no scan has a mask, or the geometry of a pair differs.
    """
    del workers  # the headers of 192 files are read quickly
    return list_masked_studies(raw, SCANS, MASKS, _ids, public_id)


def _ids(name: str) -> tuple[str, str]:
    found = IDS.fullmatch(name)
    return (found[1], found[2]) if found else (name, name)


def read_study(raw: str | Path, study: Study) -> Volume:
    """Reads a scan and its mask; see `read_scan_with_mask`."""
    return read_scan_with_mask(raw, study, MASK_MEANING)
