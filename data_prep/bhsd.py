"""The BHSD layout: `images/` and `ground truths/` with `ID_<patient>_ID_<study>.nii.gz`, a value of the mask a type.

Source: Wu et al. 2023, BHSD: A 3D multi-class brain hemorrhage segmentation dataset, MLMI. Its scans are of RSNA 2019:
leave its patients out of a training on that set before you evaluate here (`python -m data_prep rsna --leave-out`).
"""

import re
from pathlib import Path

from data_prep.inputs import Listing, require
from data_prep.nifti import read_masked
from data_prep.pairs import list_masked, scans_and_masks
from data_prep.parallel import Workers
from data_prep.privacy import PublicId
from data_prep.volume import Study, Volume
from hgisam.data.prepared import MASK_VALUES, SUBTYPES

NAME = "bhsd"
LICENCE = "MIT as published; made from RSNA 2019, whose terms hold too: non-commercial, cite, no re-identification"
TRUTH, REST, PUBLIC = "masks", "test", True
SCANS, MASKS = "images", "ground truths"
IDS = re.compile(r"(ID_[0-9a-zA-Z]+)_(ID_[0-9a-zA-Z]+)")
MEANING = {MASK_VALUES[name]: name for name in SUBTYPES}  # the same numbers as in a prepared set


def tables(raw: Path) -> list[Path]:
    """None: all labels are in the masks.

    Raises:
        InputError: If `raw` has not this layout.
    """
    require(raw, [f"{SCANS}/", f"{MASKS}/"], "BHSD")
    return []


def images(raw: Path) -> list[Path]:
    """All scans and masks.

    Raises:
        InputError: If there is no scan.
    """
    return scans_and_masks(raw / SCANS, raw / MASKS, "ID_0a1b2c3d_ID_1a2b3c4d5e")


def list_studies(raw: Path, workers: Workers, public_id: PublicId) -> Listing:
    """Joins scans and masks; the labels of slices are what is drawn in them.

    Raises:
        InputError: If a scan or a mask is alone, or a mask does not fit its scan.
    """
    del workers  # headers of 192 files are read at once
    return list_masked(raw, SCANS, MASKS, _ids, public_id)


def _ids(name: str) -> tuple[str, str]:
    found = IDS.fullmatch(name)
    return (found[1], found[2]) if found else (name, name)


def read_study(raw: Path, study: Study) -> Volume:
    """Reads a scan and its mask; see `read_masked`."""
    return read_masked(raw, study, MEANING)
