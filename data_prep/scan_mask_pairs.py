"""Pairs of scan and mask: two folders of NIfTI files with the same names."""

from collections import defaultdict
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


def nifti_files(folder: str | Path) -> list[Path]:
    """All NIfTI files of a folder, whatever their names, sorted, without hidden ones."""
    return sorted(path for path in Path(folder).iterdir() if path.name[0] != "." and path.is_file() and is_nifti(path))


def match_key(path: str | Path) -> str:
    """Key that matches a scan with its mask and labels: the stem; digits become a number, so `049` matches `49`."""
    stem = stem_of(path)
    return str(int(stem)) if stem.isdecimal() else stem


def stem_of(path: str | Path) -> str:
    """A file's name without suffixes of NIfTI and compression."""
    return stem_and_suffix(Path(path).name)[0]


def scan_and_mask_files(scans: str | Path, masks: str | Path, example: str) -> list[Path]:
    """Lists the files of two folders, scans first.

    Raises:
        InputError: If there is no scan.
    """
    if not (found := nifti_files(scans)):
        raise InputError(f"{scans}", "no .nii file", f"{example}.nii or {example}.nii.gz", "Unpack the scans into it.")
    return [*found, *nifti_files(masks)]


def files_by_key(folder: str | Path, skipped: list[tuple[str, str]]) -> dict[str, Path]:
    """Files of a folder by `match_key`; those that share a key are skipped.

    Args:
        folder: Of NIfTI files.
        skipped: Gets (file with its folder, reason) of skipped files.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in nifti_files(folder):
        found[match_key(path)].append(path)
    repeated = [path for paths in found.values() if len(paths) > 1 for path in paths]
    skipped += [(f"{Path(folder).name}/{path.name}", "another file has the same id") for path in repeated]
    return {key: paths[0] for key, paths in found.items() if len(paths) == 1}


def paired_files(
    raw: str | Path, scans: str, masks: str, skipped: list[tuple[str, str]]
) -> Iterator[tuple[str, tuple[str, str], tuple[int, int, int]]]:
    """Pairs scans and masks by name.

    Args:
        raw: The raw folder.
        scans, masks: Folders in it.
        skipped: Gets (file, reason) of unreadable files, scans without a mask and masks without a scan.

    Yields:
        Key, the two files relative to `raw`, shape along the file's axes.

    Raises:
        InputError: If no scan has a mask.
    """
    raw = Path(raw)
    scan_of, mask_of = files_by_key(raw / scans, skipped), files_by_key(raw / masks, skipped)
    check_matches(set(scan_of), set(mask_of), f"{masks}/", scans)
    skipped += [(f"{scans}/{scan_of[key].name}", f"no mask in {masks}/") for key in sorted(scan_of.keys() - mask_of)]
    skipped += [(f"{masks}/{mask_of[key].name}", f"no scan in {scans}/") for key in sorted(mask_of.keys() - scan_of)]
    for key in sorted(scan_of.keys() & mask_of, key=lambda key: (len(key), key)):
        files = (f"{scans}/{scan_of[key].name}", f"{masks}/{mask_of[key].name}")
        try:
            with open_image(raw / files[0]) as scan:
                yield key, files, shape_of(scan)
        except UnusableError as error:
            skipped.append((files[0], str(error)))


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
    for _, files, shape in paired_files(raw, scans, masks, listing.skipped):
        patient, study = map(public_id, ids(stem_of(raw / files[0])))
        listing.studies.append(Study(patient, study, files, np.full((shape[2], len(LABELS)), -1, np.int8)))
    return listing


def check_matches(scans: set[str], others: set[str], what: str, folder: str) -> None:
    """Checks that masks or labels belong to scans in `folder`.

    Raises:
        InputError: If none does.
    """
    if not scans & others:
        got = f"patient {first_names(sorted(others), 2) or 'none'}"
        raise InputError(what, got, f"patients of {folder}/: {first_names(sorted(scans), 2)}", REMEDY)
