"""Scans and the masks that were drawn on them: two folders of NIfTI files with the same names."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.inputs import Listing, some
from data_prep.nifti import ENDINGS, SAME_MM, has_geometry, open_image, open_mask, shape_of
from data_prep.privacy import PublicId
from data_prep.volume import Study, UnusableError
from hgisam.data.prepared import LABELS
from hgisam.errors import InputError

REMEDY = "Give the data set as it was published."


def files_in(folder: Path) -> list[Path]:
    """All .nii and .nii.gz files of a folder, sorted; hidden ones are not listed."""
    return sorted(
        path for path in folder.iterdir() if path.name.endswith(ENDINGS) and path.name[0] != "." and path.is_file()
    )


def name_of(path: Path) -> str:
    """A file's name without .nii or .nii.gz."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def key_of(path: Path) -> str:
    """What a file is known by: its name; one of digits alone is a number, so that `049` and `49` are one."""
    name = name_of(path)
    return str(int(name)) if name.isdigit() else name


def scans_and_masks(scans: Path, masks: Path, example: str) -> list[Path]:
    """The files of two folders, scans first.

    Raises:
        InputError: If there is no scan.
    """
    if not (found := files_in(scans)):
        raise InputError(f"{scans}", "no .nii file", f"{example}.nii or {example}.nii.gz", "Unpack the scans into it.")
    return [*found, *files_in(masks)]


def by_name(folder: Path) -> dict[str, Path]:
    """Key → file.

    Raises:
        InputError: If two files have one name.
    """
    found: dict[str, Path] = {}
    for path in files_in(folder):
        key = key_of(path)
        if key in found:
            got = f"{found[key].name} and {path.name}"
            raise InputError(f"{folder.name} of patient {key}", got, "one file", "Remove one of them.")
        found[key] = path
    return found


def pairs(
    raw: Path, scans: str, masks: str, skipped: list[tuple[str, str]]
) -> Iterator[tuple[str, tuple[str, str], tuple[int, int, int]]]:
    """Scans and their masks, which have one name in two folders of `raw`, held to each other.

    Args:
        raw: The raw folder.
        scans, masks: Folders in it.
        skipped: Gets (file, reason) of what can't be opened.

    Yields:
        Name, the two files relative to `raw`, shape along the file's axes.

    Raises:
        InputError: If a scan or a mask is alone, or a mask does not fit its scan.
    """
    found, drawn = by_name(raw / scans), by_name(raw / masks)
    check_same(set(found), set(drawn), f"{masks}/", "a mask file for each scan, also for one without bleeding", scans)
    for name in sorted(found, key=lambda key: (len(key), key)):
        files = (f"{scans}/{found[name].name}", f"{masks}/{drawn[name].name}")
        try:
            scan = open_image(raw / files[0])
            shape = shape_of(scan)
            mask = open_mask(raw / files[1])
        except UnusableError as error:
            skipped.append((files[0], str(error)))
            continue
        check_mask(files[1], scan, mask)
        yield name, files, shape


def list_masked(
    raw: Path, scans: str, masks: str, ids: Callable[[str], tuple[str, str]], public_id: PublicId
) -> Listing:
    """The studies of a set that has no labels but its masks.

    Args:
        raw, scans, masks: As for `pairs`.
        ids: Name of a file → patient and study, as the publisher calls them.
        public_id: What we call them.

    Raises:
        InputError: As `pairs` does.
    """
    listing = Listing([])
    for _, files, shape in pairs(raw, scans, masks, listing.skipped):
        patient, study = map(public_id, ids(name_of(raw / files[0])))
        listing.studies.append(Study(patient, study, files, np.full((shape[2], len(LABELS)), -1, np.int8)))
    return listing


def check_same(scans: set[str], others: set[str], what: str, expected: str, folder: str) -> None:
    """Holds the names of masks or labels to those of the scans in `folder`.

    Raises:
        InputError: If some are missing or left over.
    """
    if missing := sorted(scans - others):
        raise InputError(what, f"nothing for patient {some(missing)}", expected, REMEDY)
    if extra := sorted(others - scans):
        raise InputError(what, f"patient {some(extra)}, who has no file in {folder}/", expected, REMEDY)


def check_mask(name: str, scan: Any, mask: Any) -> None:
    """Holds a mask to its scan; one whose header has no orientation at all is taken to be stored as its scan is.

    Args:
        name: Of the mask, for the message.
        scan, mask: From `open_image`.

    Raises:
        InputError: If shape or geometry differ.
    """
    remedy = "Give the mask that was drawn on this scan."
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
        raise InputError(f"{name} geometry", got, "orientation, spacing and place of its scan", remedy)
