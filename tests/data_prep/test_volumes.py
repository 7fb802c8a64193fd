"""Several volumes in one DICOM series are told apart, or refused; one volume stays one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import folder
from data_prep.dicom_volumes import TELLING, Header, volumes_of
from data_prep.preparation import prepare
from data_prep.volume import UnusableError

Z = [5.0 * z for z in range(24)]


def images(positions: list[float], *, plane: str = "axial", **tags: Any) -> list[Header]:
    """Headers of one series; a tag is one value, or a function from the number of an image to its value."""
    return [
        Header(
            f"{number}", 0, 1, "p", "t", "s", plane, z,
            tuple(str(tags[tag](number) if callable(tags.get(tag)) else tags.get(tag, "")) for tag in TELLING), (),
        )
        for number, z in enumerate(positions)
    ]  # fmt: skip


def found(series: list[Header]) -> list[list[Header]]:
    order = np.random.default_rng(0).permutation(len(series))
    return volumes_of([series[index] for index in order])[0]


def same(volume: list[Header], expected: list[Header]) -> bool:
    return sorted(volume) == sorted(expected)


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("ConvolutionKernel", ("H31s", "H70h")),
        ("ImageType", ("ORIGINAL\\PRIMARY\\AXIAL", "DERIVED\\SECONDARY\\AXIAL")),
        ("SliceThickness", ("5", "1")),
        ("ContrastBolusAgent", ("", "Iomeprol")),
        ("SeriesDescription", ("native", "late")),
        ("KVP", ("80", "140")),
        ("AcquisitionNumber", ("1", "2")),
        ("AcquisitionTime", ("101500.1", "101530.2")),
        ("TemporalPositionIndex", ("1", "2")),
        ("PixelSpacing", ("0.45\\0.45", "0.6\\0.6")),
    ],
)
@pytest.mark.parametrize("shift_mm", [0.0, 0.05])
def test_images_at_one_place_that_differ_are_different_volumes(
    tag: str, values: tuple[str, str], shift_mm: float
) -> None:
    first = images(Z, **{tag: values[0]})
    second = images([z + shift_mm for z in Z[:20]], **{tag: values[1]})
    larger, smaller = found([*first, *second])
    assert same(larger, first)
    assert same(smaller, second)
    assert volumes_of([*first, *second])[1] == [tag]


def test_volumes_that_lie_between_each_other_are_two() -> None:
    soft, hard = images(Z, ConvolutionKernel="A"), images([z + 2.5 for z in Z], ConvolutionKernel="B")
    assert sorted(map(sorted, found([*soft, *hard]))) == sorted(map(sorted, (soft, hard)))


def test_the_time_points_of_a_perfusion_scan_are_volumes() -> None:
    series = [image for time in range(10) for image in images(Z[:8], AcquisitionTime=f"10{time:02d}00.0")]
    assert [len(volume) for volume in found(series)] == [8] * 10
    assert all(len({image.telling for image in volume}) == 1 for volume in found(series))


def test_a_scan_repeated_image_by_image_is_told_apart_by_its_order() -> None:
    first = images(Z, AcquisitionNumber=lambda number: 1 + number)
    second = images(Z, AcquisitionNumber=lambda number: 25 + number)
    assert sorted(map(sorted, found([*first, *second]))) == sorted(map(sorted, (first, second)))


@pytest.mark.parametrize(
    "series",
    [
        images(Z, AcquisitionNumber=lambda number: number, AcquisitionTime=lambda number: 101500 + number),
        images(Z, SliceThickness=lambda number: 5 + 0.01 * (number % 2)),
        images(Z, ConvolutionKernel=lambda number: "" if number == 7 else "H31s"),  # one header has lost it
        [*images(Z[:10], SliceThickness=2.5), *images(Z[10:], SliceThickness=5)],  # thin at the skull base
        [*images(Z), *images([float("nan")] * 3, plane="")],
        [*images(Z), *images(Z[:1], plane="coronal")],
        images(Z, AcquisitionNumber=lambda number: number % 2),  # odd images first, then even ones
    ],
)
def test_one_volume_stays_one(series: list[Header]) -> None:
    assert [len(volume) for volume in found(series)] == [len(series)]
    assert volumes_of(series)[1] == []


def test_planes_are_volumes() -> None:
    axial, coronal = images(Z), images(Z, plane="coronal")
    assert sorted(map(sorted, found([*axial, *coronal]))) == sorted(map(sorted, (axial, coronal)))


@pytest.fixture
def two(tmp_path: Path, head: Any, write_dicom: Callable[..., None]) -> Callable[..., Path]:
    """A folder with a series of two volumes, the second with more noise."""

    def write(*tags: dict[str, Any]) -> Path:
        raw = tmp_path / "raw"
        raw.mkdir()
        for s in range(8):
            for number, own in enumerate(tags):
                image = head[0][s] + 1024 + number * ((np.indices(head[0][s].shape).sum(axis=0) % 2) * 40 - 20)
                write_dicom(raw / f"{(s * 3 + number * 5) % 8}{number}", image, [-124, -124, s * 15.0], **own)
        return raw

    return write


def test_two_kernels_of_one_series_are_two_studies_and_told(
    two: Callable[..., Path], tmp_path: Path, head: Any, report_of: Callable[[Path], dict[str, Any]]
) -> None:
    raw = two({"ConvolutionKernel": "H31s"}, {"ConvolutionKernel": ["H70h", "3"]})
    report = report_of(prepare("folder", raw, tmp_path / "out", image_px=32, folds=2))
    assert report["volumes_in_one_series"]["count"] == report["studies"] == 2
    assert report["volumes_in_one_series"]["told_apart_by"] == ["ConvolutionKernel"]
    first, second = (folder.read_study(raw, study).hu for study in folder.list_studies(raw, 1, str).studies)
    assert np.array_equal(first, head[0])
    assert np.abs(second - head[0]).max() == np.abs(second - head[0]).min() == 20


def test_different_images_at_one_place_that_nothing_tells_apart_are_refused(two: Callable[..., Path]) -> None:
    raw = two({}, {})
    [study] = folder.list_studies(raw, 1, str).studies
    with pytest.raises(UnusableError, match="different images at one place, and nothing in their headers"):
        folder.read_study(raw, study)
