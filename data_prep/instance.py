"""The INSTANCE 2022 layout: `data/<id>.nii.gz` and `label/<id>.nii.gz`, mask value 1 for any bleed, no subtypes.

Source: Li et al. 2023, The state-of-the-art 3D anisotropic intracranial hemorrhage segmentation on non-contrast head
CT: the INSTANCE challenge, arXiv 2301.03281.
"""

from pathlib import Path

from data_prep.nifti import read_scan_with_mask
from data_prep.parallel import Workers
from data_prep.privacy import PublicId
from data_prep.raw_folder import Listing, require
from data_prep.scan_mask_pairs import list_masked_studies, scan_and_mask_files
from data_prep.volume import Study, Volume

NAME = "instance"
LICENCE = "INSTANCE 2022: signed agreement with the organisers, no sharing"
ANNOTATIONS, MAIN_SPLIT, PUBLIC = "masks", "test", True
SCANS, MASKS = "data", "label"
MASK_MEANING = {1: "unspecified"}


def tables(raw: str | Path) -> list[Path]:
    """No tables: the labels follow from the masks.

    Raises:
        InputError: If `raw` has another layout.
    """
    require(raw, [f"{SCANS}/", f"{MASKS}/"], "INSTANCE")
    return []


def images(raw: str | Path) -> list[Path]:
    """All scans and masks.

    Raises:
        InputError: If there is no scan.
    """
    return scan_and_mask_files(Path(raw, SCANS), Path(raw, MASKS), "001")


def list_studies(raw: str | Path, workers: Workers, public_id: PublicId) -> Listing:
    """Pairs scans and masks; a slice bleeds if its mask is not empty, its subtype is not annotated (-1).

    Raises:
        InputError: If no scan has a mask, or the geometry of a pair differs.
    """
    del workers  # the headers of 100 files are read quickly
    return list_masked_studies(raw, SCANS, MASKS, lambda name: (name, name), public_id)


def read_study(raw: str | Path, study: Study) -> Volume:
    """Reads a scan and its mask; see `read_scan_with_mask`."""
    return read_scan_with_mask(raw, study, MASK_MEANING)
