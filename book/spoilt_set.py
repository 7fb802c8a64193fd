"""A prepared set with known faults, for students to debug; the faults are told to the teacher alone.

Each fault is in a scan of its own, which the seed chooses, so that two classes get two sets.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_prep.prepared_set import write_prepared
from hgisam.data import LABELS, SUBTYPES, open_prepared
from hgisam.errors import InputError
from hgisam_book.studies.coarse_labels import rows_by_study

SHIFT_MM = 12.0  # more than most thin bleeds are thick
OFFSET_HU = 1024  # what is missing where the intercept of a DICOM file is not applied


@dataclass
class Scan:
    """A scan of a prepared set, which a fault changes in place.

    Attributes:
        slices: Its rows of `slices.parquet`.
        hu: [slice, row, col] HU.
        brain: [slice, row, col] brain mask.
        mask: [slice, row, col] mask of the bleed.
    """

    slices: pd.DataFrame
    hu: npt.NDArray[np.int16]
    brain: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]

    @property
    def bleeds(self) -> bool:
        """True if a slice of it has a mask."""
        return bool(self.mask.any())


def shift_mask(scan: Scan) -> str:
    """Shift the mask towards the patient's left."""
    pixels = max(1, round(SHIFT_MM / float(scan.slices["pixel_mm"].iloc[0])))
    scan.mask[:, :, pixels:] = scan.mask[:, :, :-pixels].copy()
    scan.mask[:, :, :pixels] = 0
    return (
        f"The mask is {pixels} pixels too far to the right of the image. To find it: show each mask as a contour on "
        "its slice; or compare the median HU inside the mask with that of other scans."
    )


def swap_labels(scan: Scan) -> str:
    """Swap the labels of the scan's most frequent subtype and of one that it does not have."""
    counts = (scan.slices[list(SUBTYPES)] == 1).sum()
    one, other = str(counts.idxmax()), str(counts.idxmin())
    scan.slices[[one, other]] = scan.slices[[other, one]].to_numpy()
    return (
        f"The labels {one} and {other} are swapped. To find it: look at the shape and the place of each bleed, and "
        "name its subtype before you read the label."
    )


def forget_intercept(scan: Scan) -> str:
    """Add the offset of stored values to HU."""
    scan.hu += np.int16(OFFSET_HU)
    return (
        f"All HU are {OFFSET_HU} too high: the intercept was not applied. To find it: median HU of the brain per scan."
    )


def turn_upside_down(scan: Scan) -> str:
    """Mirror the images from front to back, without their masks."""
    scan.hu[:] = scan.hu[:, ::-1].copy()
    scan.brain[:] = scan.brain[:, ::-1].copy()
    return (
        "The images are upside down, and the masks are not. To find it: look at the middle slice of each scan; the "
        "front of the head is at the top."
    )


def forget_labels(scan: Scan) -> str:
    """Set all labels of a bleeding scan to 0."""
    scan.slices[list(LABELS)] = 0
    return "Every label is 0, though there are masks. To find it: slices with a mask whose label *any* is 0."


FAULTS: tuple[Callable[[Scan], str], ...] = (shift_mask, swap_labels, turn_upside_down, forget_labels, forget_intercept)
LEAK = (
    "The same scan is in the set twice, under another patient and in another split. To find it: compare the middle "
    "slices of all scans; the data report does."
)


def write_spoilt(good: str | Path, out: str | Path, seed: int) -> list[tuple[str, str]]:
    """Write a copy of a prepared set with a fault of each kind.

    Args:
        good: A prepared set with masks.
        out: New folder.
        seed: Chooses the scans.

    Returns:
        (study, what is wrong with it and how to find it) of each fault.

    Raises:
        InputError: If the set has no masks, or fewer bleeding scans than faults that need one.
    """
    data = open_prepared(good)
    if data.mask is None:
        raise InputError(f"prepared set {good}", "no masks", "a set with masks", "Prepare the layout ct-ich.")
    scans = {
        str(data.slices["study"].iloc[rows[0]]): Scan(
            data.slices.iloc[rows].copy(), data.hu[rows], data.brain[rows], data.mask[rows]
        )
        for rows in rows_by_study(data)
    }
    bleeding = [study for study, scan in scans.items() if scan.bleeds]
    if len(bleeding) < len(FAULTS) + 1:
        got = f"{len(bleeding)} bleeding scans"
        raise InputError(f"prepared set {good}", got, f"at least {len(FAULTS) + 1}", "Give it more patients.")
    chosen = [str(study) for study in np.random.default_rng(seed).permutation(bleeding)[: len(FAULTS) + 1]]
    found = [(study, fault(scans[study])) for study, fault in zip(chosen, FAULTS, strict=False)]
    copied = chosen[-1]
    copy = _free_name(scans)
    scans[copy] = _leaked(scans[copied], copy)
    found.append((f"{copied} and {copy}", LEAK))
    write_prepared(
        out,
        slices=pd.concat([scan.slices for scan in scans.values()], ignore_index=True),
        blocks=((scan.hu, scan.brain, scan.mask) for scan in scans.values()),
        size_px=data.meta["size_px"],
        with_mask=True,
        info=data.meta,
    )
    return found


def _free_name(names: Iterable[str]) -> str:
    """A name that looks like the others: the number after the largest one."""
    numbers = [name for name in names if name.isdigit()]
    width = max(map(len, numbers), default=3)
    return str(max(map(int, numbers), default=0) + 1).zfill(width)


def _leaked(scan: Scan, name: str) -> Scan:
    """The same scan under another patient and study, in another split."""
    slices = scan.slices.assign(patient=name, study=name)
    slices["split"] = "val" if slices["split"].iloc[0] != "val" else "test"
    return Scan(slices, scan.hu, scan.brain, scan.mask)
