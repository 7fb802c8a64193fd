"""The result of a segmentation, on the grid of the scan's files, and the files that it can be saved to."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd

from data_prep.nifti import open_image, slice_axes
from hgisam.data.labels import MASK_VALUES, SUBTYPES
from hgisam.errors import InputError
from hgisam.runs.folders import whole_file
from hgisam_scans.networks import Network, interval_of
from hgisam_scans.series_choice import Choice
from hgisam_scans.volume_interval import Interval

MAP_STEPS = 2**16 - 1  # a map is stored as whole numbers, and scaled to [0, 1] by the header

KEPT_FIELDS = (  # geometry of a NIfTI header; all else may hold text
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
    "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip

Masks = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.float16]


class Prepared(NamedTuple):
    """The scan on the grid of the network, canonical orientation, for pictures: arrays [slice, px, px].

    Attributes:
        hu: HU, int16.
        brain: 0 outside.
        map: Score map, float32.
        mask: 1 in the mask.
        rows: One row per slice, see `data_prep.study.prepare_volume`.
    """

    hu: npt.NDArray[np.int16]
    brain: Masks
    map: npt.NDArray[np.float32]
    mask: Masks
    rows: pd.DataFrame


@dataclass(frozen=True)
class SegmentedScan:
    """A scan with its mask, on the grid of its files. For research and teaching only, never for diagnosis.

    Attributes:
        mask: [slice, row, col] 1 in the bleed; pixels as stored; slices in the order of a NIfTI file, by ascending
            position for DICOM.
        map: [slice, row, col] score map in [0, 1], float16; not restricted to slices that are predicted to bleed.
        subtypes: [slice, row, col] values of `hgisam.data.labels.MASK_VALUES` in the mask; None if the network knows no
            subtypes.
        scores: [slice] probability of bleeding.
        bleeds: [slice] True if the slice is predicted to bleed.
        ml: Volume of the mask.
        ml_by_subtype: Subtype → volume; empty if the network knows none.
        interval_ml: Calibrated interval of the true volume; None if there is no calibration.
        spread_ml: Standard deviation of the volume over the members of an ensemble; None for one network.
        spacing: (slice, row, col) in mm; the median of the slices.
        positions_mm: [slice] along the normal of the slices.
        affine: [4, 4] voxel (col, row, slice) to RAS mm; the header's for a NIfTI file.
        doubts: Why the result cannot be trusted; empty if the scan is like the training data.
        measured: Measurement of the scan → value, see `hgisam_scans.trust`.
        remarks: What was assumed, skipped or uneven, one sentence each.
        skipped: (file, reason) of unusable images and other files; names of files are private.
        choice: The series, and why it was chosen.
        networks: What segmented it.
        gated: False if slices that are not predicted to bleed may have a mask too.
        sources: File and frame of each slice; private.
        prepared: The scan on the grid of the network.
    """

    mask: Masks
    map: Maps
    subtypes: Masks | None
    scores: npt.NDArray[np.float64]
    bleeds: npt.NDArray[np.bool_]
    ml: float
    ml_by_subtype: dict[str, float]
    interval_ml: tuple[float, float] | None
    spread_ml: float | None
    spacing: tuple[float, float, float]
    positions_mm: npt.NDArray[np.float64]
    affine: npt.NDArray[np.float64]
    doubts: tuple[str, ...]
    measured: dict[str, float]
    remarks: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    choice: Choice
    networks: tuple[Network, ...]
    gated: bool
    sources: tuple[tuple[str, int], ...]
    prepared: Prepared

    @property
    def trusted(self) -> bool:
        """True if nothing speaks against the result."""
        return not self.doubts

    @property
    def calibrated(self) -> bool:
        """False if nothing tells which scans are like those of the training: the result is then not doubted either."""
        return self.networks[0].calibration is not None

    @property
    def algorithm(self) -> str:
        """Network and method, for readers."""
        return f"{' + '.join(network.name for network in self.networks)}, {self.method}"

    @property
    def method(self) -> str:
        """Of the network, or those of an ensemble's members."""
        return " + ".join(dict.fromkeys(network.method for network in self.networks))

    @property
    def interval(self) -> Interval | None:
        """The calibration behind `interval_ml`; None if there is none for this network and method."""
        return interval_of(self.networks)

    def save_nifti(self, folder: str | Path) -> list[Path]:
        """Write `mask.nii.gz`, `map.nii.gz` and, with subtypes, `subtypes.nii.gz`, on the grid of the scan.

        They have the shape and the affine of a NIfTI scan; of a DICOM scan its slices by position, sheared by a tilted
        gantry. A NIfTI affine has one distance of slices: where these are uneven, it is their mean.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, npt.NDArray[Any]] = {
            "mask": self.mask,
            "map": np.rint(self.map.astype(np.float32) * MAP_STEPS).astype(np.uint16),
        }
        if self.subtypes is not None:
            arrays["subtypes"] = self.subtypes
        written = []
        for name, array in arrays.items():
            image = self._image(array)
            if name == "map":
                image.header.set_slope_inter(1 / MAP_STEPS, 0)
            written.append(folder / f"{name}.nii.gz")
            with whole_file(written[-1]) as scratch:
                scratch.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))
        return written

    def _image(self, array: npt.NDArray[Any]) -> Any:
        """A NIfTI image of an array [slice, row, col]."""
        chosen = self.choice.chosen
        if chosen.kind != "NIfTI":
            return nib.Nifti1Image(array.transpose(2, 1, 0), self.affine)  # type: ignore[no-untyped-call]
        with open_image(chosen.raw / chosen.study.files[0]) as scan:
            own, shape, affine = scan.header, scan.shape, np.asarray(scan.affine)
        kind: Any = nib.Nifti2Image if isinstance(own, nib.Nifti2Header) else nib.Nifti1Image
        stored = array.transpose(np.argsort(slice_axes(affine))).reshape(shape)
        image = kind(stored, None)
        for name in KEPT_FIELDS:
            image.header[name] = own[name]
        if not int(own["qform_code"]) and not int(own["sform_code"]):
            image._affine = affine  # as nibabel reads a header without an orientation
        return image

    def save_dicom_seg(self, path: str | Path) -> Path:
        """Write a DICOM SEG on the original images; it carries the patient's name and id where these do.

        Raises:
            InputError: If the scan is no DICOM series, or its images lack what a SEG refers to.
        """
        self._write_dicom(path, None)
        return Path(path)

    def save_dicom_sr(self, path: str | Path, seg: str | Path) -> Path:
        """Write a DICOM SEG and an SR of the volumes (TID 1500) that refers to it; both carry the patient's name.

        Raises:
            InputError: If the scan is no DICOM series, its volume is not trusted, or its images lack what these refer
                to.
        """
        if not self.trusted:
            expected = "a scan like the training data"
            raise InputError("volume for an SR", f"not trusted: {self.doubts[0]}", expected, "Leave out --sr.")
        self._write_dicom(seg, path)
        return Path(path)

    def _write_dicom(self, seg: str | Path, sr: str | Path | None) -> None:
        from hgisam_scans.dicom_seg import INTRACRANIAL, source_headers, write_seg
        from hgisam_scans.dicom_sr import write_sr

        chosen = self.choice.chosen
        if chosen.kind != "DICOM":
            raise no_images(chosen.kind)
        masks, volumes = {INTRACRANIAL: self.mask}, {INTRACRANIAL: self.ml}
        if self.subtypes is not None:
            masks |= {name: (self.subtypes == MASK_VALUES[name]).astype(np.uint8) for name in SUBTYPES}
            volumes |= self.ml_by_subtype
        files, frames = [file for file, _ in self.sources], [frame for _, frame in self.sources]
        headers = source_headers(chosen.raw, files, self.spacing[0])
        about = {"algorithm": f"HGI-SAM {self.algorithm}", "version": self.networks[0].sha256}
        segmentation = write_seg(seg, headers, frames, masks, **about)
        if sr is not None:
            write_sr(sr, headers, segmentation, volumes, **about)


def no_images(kind: str) -> InputError:
    """The error for a SEG or SR of a scan that is no DICOM series."""
    return InputError("--seg", f"a {kind} scan", "a DICOM series to refer to", "Leave out --seg and --sr.")
