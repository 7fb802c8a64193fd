"""Pairs of scan and mask: two folders of NIfTI files with the same names."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.nifti import ENDINGS, SAME_MM, has_geometry, open_image, open_mask, shape_of
from data_prep.privacy import PublicId
from data_prep.raw_folder import Listing, first_names
from data_prep.volume import Study, UnusableError
from hgisam.data.labels import LABELS
from hgisam.errors import InputError

REMEDY = "Give the data set as it was published."


def nifti_files(folder: str | Path) -> list[Path]:
    """All .nii and .nii.gz files of a folder, sorted, without hidden ones."""
    entries = Path(folder).iterdir()
    return sorted(path for path in entries if path.name.endswith(ENDINGS) and path.name[0] != "." and path.is_file())


def stem_of(path: str | Path) -> str:
    """A file's name without .nii or .nii.gz."""
    return Path(path).name.removesuffix(".gz").removesuffix(".nii")


def match_key(path: str | Path) -> str:
    """Key that matches a scan with its mask and labels: the stem; digits become a number, so `049` matches `49`."""
    stem = stem_of(path)
    return str(int(stem)) if stem.isdigit() else stem


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
    """Pairs scans and masks by name and checks that their geometry agrees.

    Args:
        raw: The raw folder.
        scans, masks: Folders in it.
        skipped: Gets (file, reason) of unreadable files, scans without a mask and masks without a scan.

    Yields:
        Key, the two files relative to `raw`, shape along the file's axes.

    Raises:
        InputError: If no scan has a mask, or the geometry of a pair differs.
    """
    raw = Path(raw)
    scan_of, mask_of = files_by_key(raw / scans, skipped), files_by_key(raw / masks, skipped)
    check_matches(set(scan_of), set(mask_of), f"{masks}/", scans)
    skipped += [(f"{scans}/{scan_of[key].name}", f"no mask in {masks}/") for key in sorted(scan_of.keys() - mask_of)]
    skipped += [(f"{masks}/{mask_of[key].name}", f"no scan in {scans}/") for key in sorted(mask_of.keys() - scan_of)]
    for key in sorted(scan_of.keys() & mask_of, key=lambda key: (len(key), key)):
        files = (f"{scans}/{scan_of[key].name}", f"{masks}/{mask_of[key].name}")
        try:
            scan = open_image(raw / files[0])
            shape = shape_of(scan)
            mask = open_mask(raw / files[1])
        except UnusableError as error:
            skipped.append((files[0], str(error)))
            continue
        check_mask_geometry(files[1], scan, mask)
        yield key, files, shape


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


def check_mask_geometry(name: str, scan: Any, mask: Any) -> None:
    """Checks that a mask has the geometry of its scan; without any orientation in its header, only shape and spacing.

    Args:
        name: File name of the mask, for the message.
        scan, mask: From `open_image`.

    Raises:
        InputError: If shape or geometry differ.
    """
    remedy = "Give the mask of this scan."
    got = " × ".join(map(str, mask.shape))
    try:
        fits = shape_of(mask) == shape_of(scan)
    except UnusableError:
        fits = False
    if not fits:
        raise InputError(name, f"shape {got}", f"{' × '.join(map(str, scan.shape))} as its scan", remedy)
    ends = [*(np.array(shape_of(scan)) - 1), 1]
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * ends
    if has_geometry(mask):
        off = np.abs(corners @ (scan.affine - mask.affine).T).max()
    else:
        off = np.abs(np.subtract(scan.header.get_zooms()[:3], mask.header.get_zooms()[:3])).max()
    if not off <= SAME_MM:
        got = f"voxels up to {off:.1f} mm away from those of its scan"
        raise InputError(f"{name} geometry", got, "orientation, spacing and position of its scan", remedy)
