"""Pairs of scan and mask: two folders of NIfTI files with the same names; what has no counterpart is skipped."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data_prep.file_kind import is_nifti, stem_and_suffix
from data_prep.nifti import open_image, shape_of
from data_prep.privacy import PublicId
from data_prep.raw_folder import Listing, first_names
from data_prep.volume import Study, UnusableError
from hgisam.data.labels import LABELS
from hgisam.errors import InputError

REMEDY = "Give the data set as it was published."


def nifti_files(folder: Path) -> list[Path]:
    """All NIfTI files of a folder, whatever their names, sorted, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_file() and is_nifti(path))


def match_key(path: Path) -> str:
    """Key that matches a scan with its mask and labels: the stem; digits become a number, so `049` matches `49`."""
    stem = stem_of(path)
    return str(int(stem)) if stem.isdecimal() else stem


def stem_of(path: Path) -> str:
    """A file's name without suffixes of NIfTI and compression."""
    return stem_and_suffix(path.name)[0]


def scan_and_mask_files(scans: Path, masks: Path, example: str) -> list[Path]:
    """Lists the files of two folders, scans first.

    Raises:
        InputError: If there is no scan.
    """
    if not (found := nifti_files(scans)):
        raise InputError(f"{scans}", "no .nii file", f"{example}.nii or {example}.nii.gz", "Unpack the scans into it.")
    return [*found, *nifti_files(masks)]


def files_by_key(folder: Path) -> dict[str, list[Path]]:
    """Files of a folder by `match_key`: one each, if nothing is wrong."""
    found: dict[str, list[Path]] = {}
    for path in nifti_files(folder):
        found.setdefault(match_key(path), []).append(path)
    return found


def paired_files(
    raw: Path, scans: str, masks: str, skipped: list[tuple[str, str]]
) -> Iterator[tuple[str, tuple[str, str], int]]:
    """Pairs scans and masks by name.

    Args:
        raw: The raw folder.
        scans, masks: Folders in it.
        skipped: Gets (file, reason) of unreadable files, and of those that have no or several counterparts.

    Yields:
        Key, the two files relative to `raw`, number of slices.

    Raises:
        InputError: If no scan has a mask.
    """
    scan_of, mask_of = files_by_key(raw / scans), files_by_key(raw / masks)
    if not scan_of.keys() & mask_of.keys():
        got = f"{first_names(sorted(mask_of)) or 'none'} for scans {first_names(sorted(scan_of))}"
        raise InputError(f"masks in {masks}/", got, "a mask with the name of each scan", REMEDY)
    for key in sorted(scan_of.keys() | mask_of.keys(), key=lambda key: (len(key), key)):
        scan_paths, mask_paths = scan_of.get(key, []), mask_of.get(key, [])
        names = [*(f"{scans}/{path.name}" for path in scan_paths), *(f"{masks}/{path.name}" for path in mask_paths)]
        if not len(scan_paths) == len(mask_paths) == 1:
            reason = f"{len(scan_paths)} scans and {len(mask_paths)} masks of this name, not one of each"
            skipped += [(name, reason) for name in names]
            continue
        try:
            with open_image(raw / names[0]) as scan:
                yield key, (names[0], names[1]), shape_of(scan)[2]
        except UnusableError as error:
            skipped.append((names[0], str(error)))


def list_masked_studies(
    raw: str | Path, scans: str, masks: str, ids: Callable[[str], tuple[str, str]], public_id: PublicId
) -> Listing:
    """Lists the studies of a data set whose only annotations are masks.

    Args:
        raw, scans, masks: See `paired_files`.
        ids: Function from a file's stem to the published ids of patient and study.
        public_id: Function from an id to its public id, see `public_ids`.

    Raises:
        InputError: See `paired_files`.
    """
    raw = Path(raw)
    listing = Listing([])
    for _, files, slices in paired_files(raw, scans, masks, listing.skipped):
        patient, study = map(public_id, ids(stem_of(raw / files[0])))
        listing.studies.append(Study(patient, study, files, np.full((slices, len(LABELS)), -1, np.int8)))
    return listing


def check_same_patients(scans: set[str], others: set[str], what: str, expected: str, folder: str) -> None:
    """Checks that masks or labels have the same keys as the scans in `folder`.

    Raises:
        InputError: If keys are missing or left over.
    """
    if missing := sorted(scans - others):
        raise InputError(what, f"nothing for patient {first_names(missing)}", expected, REMEDY)
    if extra := sorted(others - scans):
        raise InputError(what, f"patient {first_names(extra)}, who has no file in {folder}/", expected, REMEDY)
