"""NIfTI files: opened with care, a mask held to its scan, voxels brought into the one orientation.

Every reader of scans with masks is made of these: it pairs files, says what the values of a mask mean, and leaves the
rest to this module.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from data_prep.inputs import Listing, quiet_readers, some
from data_prep.privacy import PublicId
from data_prep.volume import AIR_HU, Bools, Floats, Labels, Masks, Remarks, Study, UnusableError, Volume, canonical
from hgisam.errors import InputError
from hgisam.prepared import LABELS, MASK_VALUES, SUBTYPES

ENDINGS = (".nii", ".nii.gz")
RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
SAME_MM = 0.05  # how far corners of a mask may lie from those of its scan
MOST_VOXELS = 2**29  # 2,000 slices of 512 x 512; a header that claims more would fill the memory
REMEDY = "Give the data set as it was published."
UNREADABLE = (  # what broken bytes make nibabel raise
    nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError, TypeError, KeyError, OverflowError,
    zlib.error, MemoryError,
)  # fmt: skip


def files_in(folder: Path) -> list[Path]:
    """All .nii and .nii.gz files of a folder, sorted; hidden ones are not listed."""
    return sorted(
        path for path in folder.iterdir() if path.name.endswith(ENDINGS) and path.name[0] != "." and path.is_file()
    )


def name_of(path: Path) -> str:
    """A file's name without .nii or .nii.gz."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def scans_and_masks(scans: Path, masks: Path, example: str) -> list[Path]:
    """The files of two folders, scans first.

    Raises:
        InputError: If there is no scan.
    """
    if not (found := files_in(scans)):
        raise InputError(f"{scans}", "no .nii file", f"{example}.nii or {example}.nii.gz", "Unpack the scans into it.")
    return [*found, *files_in(masks)]


def by_name(folder: Path) -> dict[str, Path]:
    """Name → file; a name of digits alone is a number, so that `049` and `49` are one.

    Raises:
        InputError: If two files have one name.
    """
    found: dict[str, Path] = {}
    for path in files_in(folder):
        name = name_of(path)
        key = str(int(name)) if name.isdigit() else name
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
            mask = _open_mask(raw / files[1])
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


def open_image(path: Path) -> Any:
    """The header of a NIfTI file.

    Raises:
        UnusableError: If it has none.
    """
    try:
        with quiet_readers():
            image: Any = nib.load(path, mmap=False)  # a mapped file that shrinks would end the process
            _ = image.affine, image.shape
    except UNREADABLE as error:
        raise UnusableError(_why(error)) from None
    if not isinstance(image, nib.Nifti1Pair):
        raise UnusableError("not a NIfTI file")
    return image


def _open_mask(path: Path) -> Any:
    try:
        return open_image(path)
    except UnusableError as error:
        raise UnusableError(f"its mask: {error}") from None


def _why(error: BaseException) -> str:
    return f"{'no NIfTI' if isinstance(error, nib.filebasedimages.ImageFileError) else 'a truncated or broken'} file"


def shape_of(image: Any) -> tuple[int, int, int]:
    """Shape without trailing axes of length 1.

    Raises:
        UnusableError: If it is not one volume of single values.
    """
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise UnusableError(f"shape {' × '.join(map(str, shape))} is not one volume")
    if np.prod(shape, dtype=float) > MOST_VOXELS:
        raise UnusableError(f"{np.prod(shape, dtype=float):.0f} voxels, more than {MOST_VOXELS}")
    if image.get_data_dtype().fields is not None or np.issubdtype(image.get_data_dtype(), np.complexfloating):
        raise UnusableError("colour or complex values")
    return shape[0], shape[1], shape[2]


def _has_geometry(image: Any) -> bool:
    return bool(int(image.header["qform_code"]) or int(image.header["sform_code"]))


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
    if _has_geometry(mask):
        off = np.abs(corners @ (scan.affine - mask.affine).T).max()
    else:
        off = np.abs(np.subtract(scan.header.get_zooms()[:3], mask.header.get_zooms()[:3])).max()
    if not off <= SAME_MM:
        got = f"voxels up to {off:.1f} mm away from those of its scan"
        raise InputError(f"{name} geometry", got, "orientation, spacing and place of its scan", remedy)


def read_masked(raw: Path, study: Study, meaning: Mapping[int, str] | None) -> Volume:
    """Reads a scan and its mask, the two files of a study.

    Args:
        raw: The raw folder.
        study: Where it says that no labels are known (-1), they are those of the mask.
        meaning: Value of the mask → name in `MASK_VALUES`; None where whatever is above 0 bleeds, of no said type.

    Raises:
        UnusableError: If one of the files is broken, the mask has other values, or the slices are not axial.
    """
    scan, mask, remarks = open_image(raw / study.files[0]), _open_mask(raw / study.files[1]), Remarks()
    hu = _read_hu(raw / study.files[0], scan, remarks)
    try:
        drawn = _meant(_voxels(raw / study.files[1], mask), meaning)
    except UnusableError as error:
        raise UnusableError(f"its mask: {error}", remarks) from None
    labels = study.labels
    if (labels[:, 0] < 0).all():
        labels = labels_of_mask(drawn, told=meaning is not None and "unspecified" not in meaning.values())
    found, said = drawn.any(axis=(1, 2)), labels[:, 0] == 1
    remarks.disagreements = {
        "label_without_mask": int((said & ~found).sum()), "mask_without_label": int((found & ~said).sum()),
    }  # fmt: skip
    return _oriented(hu, drawn, labels, scan.affine, remarks)


def read_scan(raw: Path, study: Study) -> Volume:
    """Reads a scan without a mask, the only file of a study.

    Raises:
        UnusableError: If it is broken, or the slices are not axial.
    """
    scan, remarks = open_image(raw / study.files[0]), Remarks()
    return _oriented(_read_hu(raw / study.files[0], scan, remarks), None, study.labels, scan.affine, remarks)


def with_brains(studies: Sequence[Study], folder: Path) -> list[Study]:
    """Gives each study the file of its brain mask: NAME_mask.nii(.gz) or NAME.nii(.gz), by the name of its scan.

    Args:
        studies: Of NIfTI files.
        folder: Holds the masks, such as `brainmask_ero` of the released HGI-SAM code.

    Raises:
        InputError: If a scan has no mask there.
    """
    found = {name.removesuffix("_mask"): path for name, path in by_name(folder).items()}

    def name(study: Study) -> str:
        own = name_of(Path(study.files[0]))
        return str(int(own)) if own.isdigit() else own

    found |= {str(int(key)): path for key, path in found.items() if key.isdigit()}
    if missing := [study.files[0] for study in studies if name(study) not in found]:
        expected, remedy = (
            "a mask NAME_mask.nii.gz for each scan NAME",
            "Give them all, or none: then brains are found.",
        )
        raise InputError(f"brain masks in {folder}", f"none for {some(missing)}", expected, remedy)
    return [replace(study, brain=found[name(study)]) for study in studies]


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
        mask = _oriented(_voxels(path, image).astype(np.float32), None, labels, image.affine, Remarks())
    except UnusableError as error:
        raise UnusableError(f"its brain mask: {error}", volume.remarks) from None
    apart = np.abs([mask.row_mm - volume.row_mm, mask.col_mm - volume.col_mm]).max()
    if mask.hu.shape != volume.hu.shape or max(apart, np.abs(mask.positions_mm - volume.positions_mm).max()) > SAME_MM:
        raise UnusableError("its brain mask: another shape or spacing than the scan", volume.remarks)
    return np.asarray(mask.hu > 0)


def _read_hu(path: Path, scan: Any, remarks: Remarks) -> Floats:
    """HU [slice, row, col] as stored, nothing below `AIR_HU`."""
    hu = _voxels(path, scan).astype(np.float32)
    if (holes := ~np.isfinite(hu)).any():
        hu[holes] = AIR_HU
        remarks.mended["not_finite"] = 1
    if looks_offset(hu):
        raise UnusableError("values are not HU: nothing below 0 and tissue near 1040; subtract the offset")
    if not _has_geometry(scan):
        remarks.mended["orientation_assumed"] = 1
    return np.maximum(hu, np.float32(AIR_HU))


def _voxels(path: Path, image: Any) -> npt.NDArray[Any]:
    """[slice, row, col] = the file's axes 3, 2, 1, scaled as its header says."""
    try:
        with quiet_readers():
            voxels: npt.NDArray[Any] = np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        raise UnusableError(_why(error)) from None
    return voxels.reshape(image.shape[:3]).transpose(2, 1, 0)


def _meant(values: npt.NDArray[Any], meaning: Mapping[int, str] | None) -> Masks:
    """Values of a file → `MASK_VALUES`."""
    if meaning is None:
        return np.where(values > 0, np.uint8(MASK_VALUES["unspecified"]), np.uint8(0))
    mask = np.zeros(values.shape, np.uint8)
    for value, name in meaning.items():
        mask[values == value] = MASK_VALUES[name]
    unknown = (values != 0) & (mask == 0)
    if unknown.any():
        first = float(np.extract(unknown, values)[0])
        raise UnusableError(f"value {first:g} where only 0, {', '.join(map(str, meaning))} are known")
    return mask


def labels_of_mask(mask: Masks, *, told: bool) -> Labels:
    """[slice, 6] what is drawn in each slice; subtypes are -1 where the mask doesn't tell them and something bleeds."""
    bleeds = np.asarray(mask.any(axis=(1, 2)))
    types = np.stack([(mask == MASK_VALUES[name]).any(axis=(1, 2)) for name in SUBTYPES], axis=1).astype(np.int8)
    if not told:
        types[bleeds] = -1
    return np.concatenate([bleeds[:, None].astype(np.int8), types], axis=1)


def _oriented(hu: Floats, mask: Masks | None, labels: Labels, affine: npt.NDArray[Any], remarks: Remarks) -> Volume:
    steps = affine[:3, :3] * RAS_TO_LPS[:, None]  # columns: steps along the file's axes 1, 2, 3 in mm
    if not np.isfinite(affine).all() or (np.linalg.norm(steps, axis=0) <= 0).any():
        raise UnusableError("no usable voxel spacing in the header")
    origins = affine[:3, 3] * RAS_TO_LPS + np.arange(len(hu))[:, None] * steps[:, 2]
    return canonical(
        hu, mask, labels, origins_mm=origins, col_step_mm=steps[:, 0], row_step_mm=steps[:, 1],
        slice_mm=float(np.linalg.norm(steps[:, 2])), remarks=remarks,
    )  # fmt: skip


def looks_offset(hu: Floats) -> bool:
    """Whether a scan holds HU + 1024 or so: nothing below 0, and far more around 1040 than below it.

    In true HU the range 200 to 900 holds bone, in offset values almost nothing but the edges of the head.
    """
    if hu.min() < 0:
        return False
    tissue = np.count_nonzero((hu > 960) & (hu < 1160))
    return bool(tissue > 0.05 * hu.size and tissue > 2 * np.count_nonzero((hu > 200) & (hu < 900)))
