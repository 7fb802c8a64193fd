"""The INSTANCE 2022 layout: `data/<id>.nii.gz` and `label/<id>.nii.gz`, 1 where it bleeds, of no said type.

Source: Li et al. 2023, The state-of-the-art 3D anisotropic intracranial hemorrhage segmentation on non-contrast head
CT: the INSTANCE challenge, arXiv 2301.03281.
"""

from pathlib import Path

from data_prep.inputs import Listing, require
from data_prep.nifti import read_masked
from data_prep.pairs import list_masked, scans_and_masks
from data_prep.parallel import Workers
from data_prep.privacy import PublicId
from data_prep.volume import Study, Volume

NAME = "instance"
LICENCE = "INSTANCE 2022: signed agreement with the organisers, no sharing"
TRUTH, REST, PUBLIC = "masks", "test", True
SCANS, MASKS = "data", "label"
MEANING = {1: "unspecified"}


def tables(raw: Path) -> list[Path]:
    """None: all labels are in the masks.

    Raises:
        InputError: If `raw` has not this layout.
    """
    require(raw, [f"{SCANS}/", f"{MASKS}/"], "INSTANCE")
    return []


def images(raw: Path) -> list[Path]:
    """All scans and masks.

    Raises:
        InputError: If there is no scan.
    """
    return scans_and_masks(raw / SCANS, raw / MASKS, "001")


def list_studies(raw: Path, workers: Workers, public_id: PublicId) -> Listing:
    """Joins scans and masks; a slice bleeds where something is drawn, and of which type is not known.

    Raises:
        InputError: If a scan or a mask is alone, or a mask does not fit its scan.
    """
    del workers  # headers of 100 files are read at once
    return list_masked(raw, SCANS, MASKS, lambda name: (name, name), public_id)


def read_study(raw: Path, study: Study) -> Volume:
    """Reads a scan and its mask; see `read_masked`."""
    return read_masked(raw, study, MEANING)
