"""The way back: masks lie on the voxels of the file, whatever its orientation, tilt, steps, padding and compression."""

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import gdcm
import nibabel as nib
import numpy as np
import pydicom
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation
from scipy import ndimage

from hgisam_scans.candidates import find_scans
from hgisam_scans.segmentation import segment_series
from hgisam_scans.segmented_scan import SegmentedScan
from hgisam_scans.series_choice import by_study, choose_series

AXES = [
    "".join(codes)
    for axes in permutations(("LR", "PA", "IS"))
    for codes in product(*axes)
]  # fmt: skip
Segment = Callable[..., SegmentedScan]


def segmented(path: Path, network: Any, **options: Any) -> SegmentedScan:
    choice = choose_series(by_study(find_scans(path).candidates)[0])[0]
    return segment_series(choice, [network], **options)


def nifti_head(hu: Any, pixel_mm: float = 4.0) -> Any:
    """The head in RAS order; pixels of 2 mm if `pixel_mm` says so."""
    factor = round(4.0 / pixel_mm)
    fine = hu.repeat(factor, axis=1).repeat(factor, axis=2)
    affine = np.diag([-pixel_mm, -pixel_mm, 15.0, 1.0])
    affine[:3, 3] = 124, 124, 50
    return nib.as_closest_canonical(nib.Nifti1Image(fine.transpose(2, 1, 0).astype(np.int16), affine))


def in_orientation(image: Any, codes: str) -> Any:
    """An image with its axes permuted and flipped; the voxels stay where they are in the world."""
    turn = nib.orientations.ornt_transform(io_orientation(image.affine), axcodes2ornt(codes))
    data = apply_orientation(np.asanyarray(image.dataobj), turn)
    return nib.Nifti1Image(data, image.affine @ inv_ornt_aff(turn, image.shape))


def near_the_edge(mask: Any, truth: Any) -> bool:
    """True if they differ by no more than the voxels on both sides of the contour in a slice, half a voxel each."""
    plane = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]
    inner, outer = ndimage.binary_erosion(truth, plane), ndimage.binary_dilation(truth, plane)
    return bool((mask >= inner).all() and (mask <= outer).all())


@pytest.mark.parametrize("codes", AXES)
def test_a_nifti_mask_has_the_grid_of_its_file_in_every_orientation(
    codes: str, head: Any, network: Any, tmp_path: Path
) -> None:
    straight = nifti_head(head[0], 2.0)
    nib.save(in_orientation(straight, codes), tmp_path / "scan.nii.gz")
    scan = nib.load(tmp_path / "scan.nii.gz")
    segmented(tmp_path / "scan.nii.gz", network).save_nifti(tmp_path / "out")
    for name in ("mask", "map"):
        found = nib.load(tmp_path / "out" / f"{name}.nii.gz")
        assert found.shape == scan.shape
        np.testing.assert_array_equal(found.affine, scan.affine)
        assert found.header["sform_code"] == scan.header["sform_code"]
    mask = np.asanyarray(nib.load(tmp_path / "out" / "mask.nii.gz").dataobj)
    voxels = np.asanyarray(scan.dataobj)
    back = in_orientation(nib.Nifti1Image(mask, scan.affine), "RAS").dataobj
    truth = in_orientation(
        nib.Nifti1Image(((voxels > 60) & (voxels < 100)).astype(np.uint8), scan.affine), "RAS"
    ).dataobj
    assert np.asarray(back).sum() > 300
    assert near_the_edge(np.asarray(back).T > 0, np.asarray(truth).T > 0)


def test_a_mask_is_the_same_in_all_orientations(head: Any, network: Any, tmp_path: Path) -> None:
    straight, masks = nifti_head(head[0], 2.0), []
    for codes in ("RAS", "LPS", "SAR", "PIL", "IPR"):
        nib.save(in_orientation(straight, codes), tmp_path / f"{codes}.nii")
        found = segmented(tmp_path / f"{codes}.nii", network)
        found.save_nifti(tmp_path / codes)
        masks.append(np.asarray(in_orientation(nib.load(tmp_path / codes / "mask.nii.gz"), "RAS").dataobj))
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_an_oblique_affine_and_both_codes_stay_to_the_bit(head: Any, network: Any, tmp_path: Path) -> None:
    straight = nifti_head(head[0])
    angle = np.deg2rad(12.3)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = nib.Nifti1Image(np.asanyarray(straight.dataobj), turn @ straight.affine)
    image.set_qform(turn @ straight.affine, code=1)
    image.set_sform(turn @ straight.affine, code=4)
    image.header["descrip"] = b"Doe^Jane"
    nib.save(image, tmp_path / "scan.nii")
    segmented(tmp_path / "scan.nii", network).save_nifti(tmp_path)
    before, after = (nib.load(tmp_path / name).header for name in ("scan.nii", "mask.nii.gz"))
    for name in ("srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "qform_code", "sform_code", "pixdim"):
        np.testing.assert_array_equal(after[name], before[name])
    assert b"Doe" not in nib.load(tmp_path / "mask.nii.gz").header.binaryblock


# how the pixels of an image are stored → the directions of its rows and columns, and the signs of rows and columns
TURNS: list[tuple[Any, tuple[float, ...], tuple[int, int]]] = [
    (lambda image: image, (1, 0, 0, 0, 1, 0), (1, 1)),
    (lambda image: image[:, ::-1], (-1, 0, 0, 0, 1, 0), (1, -1)),
    (lambda image: image[::-1], (1, 0, 0, 0, -1, 0), (-1, 1)),
    (lambda image: image[::-1, ::-1], (-1, 0, 0, 0, -1, 0), (-1, -1)),
    (lambda image: image.T, (0, 1, 0, 1, 0, 0), (1, 1)),
    (lambda image: image[:, ::-1].T, (0, 1, 0, -1, 0, 0), (1, -1)),
    (lambda image: image[::-1].T, (0, -1, 0, 1, 0, 0), (-1, 1)),
    (lambda image: image[::-1, ::-1].T, (0, -1, 0, -1, 0, 0), (-1, -1)),
]
UNEVEN = [0, 15, 30, 41, 52, 67, 82, 100]


@pytest.mark.parametrize("turn", range(len(TURNS)))
@pytest.mark.parametrize("positions", [None, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("tilt_deg", [0.0, -12.0, 18.5])
@pytest.mark.parametrize("padding", [None, -2000], ids=["whole", "padded"])
def test_a_dicom_mask_lies_on_the_stored_pixels(
    turn: int, positions: Any, tilt_deg: float, padding: int | None, network: Any, series: Callable[..., list[Path]],
    tmp_path: Path,
) -> None:  # fmt: skip
    turned, orientation, flip = TURNS[turn]
    files = series(
        tmp_path / "raw", turn=turned, orientation=orientation, flip=flip, positions=positions, tilt_deg=tilt_deg,
        padding=padding,
    )  # fmt: skip
    found = segmented(tmp_path / "raw", network)
    assert [Path(file).name for file, _ in found.sources] == [path.name for path in files]  # by ascending position
    headers = [pydicom.dcmread(path) for path in files]
    for mask, header in zip(found.mask, headers, strict=True):
        pixels = header.pixel_array - 1024
        truth = (pixels > 60) & (pixels < 100)
        assert near_the_edge(mask[None] > 0, truth[None])
    assert found.mask.sum() > 80
    normal = np.array([0, np.sin(np.deg2rad(tilt_deg)), np.cos(np.deg2rad(tilt_deg))])
    along = np.array([np.array(header.ImagePositionPatient, float) @ normal for header in headers])
    gaps = np.diff(along, append=2 * along[-1] - along[-2])
    expected = (found.mask.sum(axis=(1, 2)) * gaps).sum() * 16 / 1000
    assert found.ml == pytest.approx(expected, rel=1e-5)
    if positions is None:  # one affine for all voxels
        for index, header in enumerate(headers):
            across, down = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
            place = np.array(header.ImagePositionPatient, float) + 4 * 10 * across + 4 * 20 * down
            np.testing.assert_allclose(found.affine @ [10, 20, index, 1], [*(place * [-1, -1, 1]), 1], atol=1e-3)
    assert any("tilted" in remark for remark in found.remarks) == bool(tilt_deg)


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEGLosslessProcess14_1", "JPEG2000Lossless", "JPEGLSLossless"])
def test_compressed_images_give_the_same_mask(
    syntax: str, network: Any, series: Callable[..., list[Path]], tmp_path: Path
) -> None:
    plain = series(tmp_path / "plain", padding=-2000, tilt_deg=18.5, positions=UNEVEN)
    (tmp_path / "packed").mkdir()
    for path in plain:
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(tmp_path / "packed" / path.name))
        assert writer.Write()
    first, second = (segmented(tmp_path / name, network) for name in ("plain", "packed"))
    np.testing.assert_array_equal(first.mask, second.mask)
    assert first.mask.any()


def test_a_copied_slice_and_a_broken_one_leave_the_others_in_place(
    network: Any, series: Callable[..., list[Path]], tmp_path: Path
) -> None:
    files = series(tmp_path / "raw")
    whole = segmented(tmp_path / "raw", network)
    files[6].write_bytes(files[6].read_bytes()[:-500])
    (tmp_path / "raw" / "zz").write_bytes(files[3].read_bytes())
    found = segmented(tmp_path / "raw", network)
    kept = [index for index in range(8) if index != 6]
    assert [file for file, _ in found.sources] == [files[index].name for index in kept]
    np.testing.assert_array_equal(found.mask, whole.mask[kept])
    assert found.skipped == ((files[6].name, "short pixel data"),)
