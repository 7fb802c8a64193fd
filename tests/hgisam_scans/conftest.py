"""Scans written by the tests, and a network that takes density for blood: its masks are known beforehand."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from hgisam.data.labels import SUBTYPES
from tests.data_prep.conftest import PX_MM, SLICE_MM, SLICES, make_dicom, make_head

BLOOD_HU = 60
SUBTYPE_AT = SUBTYPES.index("subdural")


class DenseNetwork(SimpleNamespace):
    """Takes the place of a `hgisam_scans.networks.Network`: blood is what is denser than `BLOOD_HU` in the brain.

    Not at its rim, where bone shines into the pixels of the prepared grid.
    """

    name, folder, method, threshold, detection_threshold = "dense", Path("dense"), "density", 0.5, 0.5
    calibration, sha256, knows_subtypes, grid = None, "0" * 64, False, (128, 256.0)
    predictor = SimpleNamespace(checkpoint=SimpleNamespace(profile=SimpleNamespace(name="test")))

    def predict(self, hu: Any, brain: Any, rows: Any) -> tuple[Any, Any]:
        inside = ndimage.binary_erosion(brain > 0, np.ones((1, 3, 3)), iterations=2)
        maps = ((hu > BLOOD_HU) & (hu < 100) & inside).astype(np.float32)
        return maps, (maps.sum(axis=(1, 2)) > 8).astype(float)

    def subtypes(self, hu: Any, brain: Any) -> Any:
        evidence = np.zeros((len(SUBTYPES), *hu.shape), np.float32)
        evidence[SUBTYPE_AT] = 1
        return evidence


@pytest.fixture
def network() -> DenseNetwork:
    return DenseNetwork()


@pytest.fixture
def head() -> tuple[Any, Any, Any]:
    return make_head()


def write_series(
    folder: Path, *, uid: str = "1.2.3", study: str = "1.2", number: int = 1, tilt_deg: float = 0.0,
    positions: Sequence[float] | None = None, turn: Callable[[Any], Any] = lambda image: image,
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0), flip: tuple[int, int] = (1, 1), padding: int | None = None,
    **tags: Any,
) -> list[Path]:  # fmt: skip
    """Writes the head as a DICOM series with valid UIDs.

    Args:
        folder: Made if missing.
        uid, study, number: Ids.
        tilt_deg: Of the gantry.
        positions: Of the slices along z in mm.
        turn: Applied to each image [row, col].
        orientation: Directions of the stored rows and columns.
        flip: Signs: -1 if stored rows, columns run against the canonical ones; `turn` and `orientation` must fit.
        padding: Stored value outside of the scanned field, a circle around the head.
        tags: Of the header; None removes one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hu, paths = make_head()[0], []
    tilt = np.deg2rad(tilt_deg)
    col, row = np.array([1.0, 0, 0]), np.array([0, np.cos(tilt), -np.sin(tilt)])
    last = (hu.shape[1] - 1) * PX_MM
    directions = np.array(orientation, float).reshape(2, 3)[:, :2] @ [col, row]
    y, x = np.indices(hu.shape[1:]) - (hu.shape[1] - 1) / 2
    outside = (np.hypot(x, y) > hu.shape[1] / 2) & (padding is not None)
    for s in range(SLICES):
        z = s * SLICE_MM if positions is None else positions[s]
        origin = np.array([-124.0, -124.0 * np.cos(tilt), z + 124.0 * np.sin(tilt)])
        origin = origin + col * last * (flip[1] < 0) + row * last * (flip[0] < 0)
        path = folder / f"{s * 7 % SLICES:02d}"  # not in the order of positions
        make_dicom(
            path, turn(np.where(outside, padding or 0, hu[s] + 1024)), origin.tolist(), **{
                "PatientID": "7", "StudyInstanceUID": study, "SeriesInstanceUID": uid, "SeriesNumber": number,
                "SOPInstanceUID": f"{uid}.{s + 1}", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
                "ImageOrientationPatient": directions.ravel().tolist(), "PixelPaddingValue": padding, **tags,
            },
        )  # fmt: skip
        paths.append(path)
    return paths


@pytest.fixture
def series() -> Callable[..., list[Path]]:
    return write_series


@pytest.fixture
def write_dicom() -> Callable[..., None]:
    return make_dicom
