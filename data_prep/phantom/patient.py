"""One phantom patient: anatomy, pathology, pose and scanner combined."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from data_prep.phantom.acquisition import SAMPLE_MM, average_slabs, simulate_images
from data_prep.phantom.anatomy import fit_cavity, paint_head, sample_build
from data_prep.phantom.pathology import paint_brain
from data_prep.phantom.pose import sample_pose
from data_prep.phantom.scanner import Cohort, Scanner, sample_scanner
from data_prep.phantom.template import load_template
from hgisam.data.labels import SUBTYPES
from hgisam.errors import InputError

COHORTS: tuple[Cohort, ...] = ("training", "evaluation")


@dataclass(frozen=True)
class PhantomPatient:
    """A scanned phantom.

    Attributes:
        hu: [slice, row, col] HU; slice 0 is the lowest, row 0 anterior, col 0 the patient's right.
        mask: [slice, row, col] 0 none, 1 epidural, 2 intraparenchymal, 3 intraventricular, 4 subarachnoid, 5 subdural.
        brain: [slice, row, col] mask of the intracranial space.
        labels: [slice, 6] in the order of `LABELS`; a subtype is positive if its mask has at least
            `acquisition.VISIBLE_MM2` in the slice, and the mask has no smaller areas.
        spacing_mm: (slice, row, col).
        thickness_mm: Slice thickness.
        tilt_deg: Gantry tilt.
        scanner: The scanner and its protocol.
        bleeds: type, volume_ml, mean_hu and age of each bleed, before the scan.
    """

    hu: npt.NDArray[np.int16]
    mask: npt.NDArray[np.uint8]
    brain: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    thickness_mm: float
    tilt_deg: float
    scanner: Scanner
    bleeds: list[dict[str, object]]


def labels_of(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Labels [slice, 6] of a mask [slice, row, col], any first."""
    types = np.stack([(mask == value).any(axis=(1, 2)) for value in range(1, len(SUBTYPES) + 1)], axis=1)
    return np.concatenate([types.any(axis=1, keepdims=True), types], axis=1)


def make_patient(seed: int, index: int, cohort: Cohort, *, matrix: int = 256) -> PhantomPatient:
    """Simulates one patient; the same arguments give the same patient.

    Args:
        seed: Seed of the cohort.
        index: Index of the patient in the cohort.
        cohort: "training" samples one of many scanners, "evaluation" has a single other one.
        matrix: Rows and columns of a slice.

    Raises:
        InputError: If the cohort is unknown, the matrix too small or too large, or a number negative.
    """
    if cohort not in COHORTS:
        raise InputError("phantom cohort", cohort, " or ".join(COHORTS), "Choose one of them.")
    if not 32 <= matrix <= 1024:
        raise InputError("phantom matrix", matrix, "32 to 1024", "Use 256, or 512 as real scanners do.")
    if seed < 0 or index < 0:
        raise InputError("phantom seed and index", (seed, index), "numbers from 0", "Use another seed.")
    sequence = np.random.SeedSequence([seed, COHORTS.index(cohort), index])
    body, pathology, device = (np.random.default_rng(child) for child in sequence.spawn(3))
    with threadpool_limits(limits=1):  # one thread, so that sums are the same on every machine
        build, pose, scanner = sample_build(body), sample_pose(body), sample_scanner(cohort, device)
        template = fit_cavity(load_template(), build, body)
        canvas = paint_brain(template, build, pose.volume_scale, pathology)
        head = paint_head(template, build, canvas.hu, body)
        samples = min(round(scanner.field_mm / SAMPLE_MM), 2 * matrix)
        hu, mask, brain = simulate_images(average_slabs(head, canvas, pose, scanner, samples), scanner, matrix, device)
    pixel_mm = scanner.field_mm / matrix
    return PhantomPatient(
        hu=hu,
        mask=mask,
        brain=brain,
        labels=labels_of(mask),
        spacing_mm=(scanner.thickness_mm, pixel_mm, pixel_mm),
        thickness_mm=scanner.thickness_mm,
        tilt_deg=scanner.tilt_deg,
        scanner=scanner,
        bleeds=[bleed | {"type": SUBTYPES[int(str(bleed["type"])) - 1]} for bleed in canvas.bleeds],
    )
