"""The acquisition of a phantom: projections, what water correction leaves of bone, noise of the rays."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.transform import radon

from data_prep.phantom.beam import GRID_PX, VIEWS, add_noise, beam_errors, beam_tables, water_and_bone
from data_prep.phantom.projection import projector
from data_prep.phantom.scanner import KERNELS, Scanner, kernel_named, sample_scanner
from hgisam.errors import InputError

MIDDLE = GRID_PX // 2


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    found = sample_scanner("evaluation", np.random.default_rng(0))
    return replace(found, field_mm=240.0, noise_hu=5.0, bone_residue=1.0, water_residue=0.0)


def radius_mm(field_mm: float) -> np.ndarray:
    """Distance of each pixel to the centre of the coarse grid."""
    at = (np.arange(GRID_PX) - (GRID_PX - 1) / 2) * field_mm / GRID_PX
    return np.hypot(at[:, None], at)


def head(field_mm: float, bone_hu: float = 1300) -> np.ndarray:
    """A round head: brain of 70 mm, 7 mm of bone, 5 mm of scalp. [1, row, col]"""
    radius = radius_mm(field_mm)
    shells = [(82, 40), (77, bone_hu), (70, 35)]
    hu = np.full(radius.shape, -1000.0)
    for outer, value in shells:
        hu = np.where(radius < outer, value, hu)
    return hu[None].astype(np.float32)


def test_line_integrals_of_a_disc_are_its_chords() -> None:
    disc = (radius_mm(GRID_PX) < 30).astype(np.float32)[None]  # pixels of 1 mm
    sinogram = projector(GRID_PX, VIEWS).project(disc)[..., 0]
    at = np.arange(GRID_PX) - (GRID_PX - 1) / 2
    chord = 2 * np.sqrt(np.maximum(30**2 - at**2, 0))
    assert sinogram.shape == (VIEWS, GRID_PX)
    inner = np.abs(at) < 27
    assert np.abs(sinogram - chord)[:, inner].max() < 2.0
    np.testing.assert_allclose(sinogram.sum(axis=1), disc.sum(), rtol=1e-4)


def test_filtered_back_projection_gives_the_slice_back() -> None:
    disc = (radius_mm(GRID_PX) < 30).astype(np.float32)[None]
    rays = projector(GRID_PX, VIEWS)
    image = rays.reconstruct(rays.project(disc))[0]
    assert image[radius_mm(GRID_PX) < 26] == pytest.approx(1, abs=0.02)
    assert np.abs(image[(radius_mm(GRID_PX) > 34) & (radius_mm(GRID_PX) < 46)]).max() < 0.03


def test_projections_are_those_of_scikit_image() -> None:
    size, views = 65, 60  # its axis of rotation is the middle of an odd number of pixels
    at = np.arange(size) - (size - 1) / 2
    smooth = gaussian_filter(np.random.default_rng(0).random((size, size)), 2) * (np.hypot(at[:, None], at) < 26)
    expected = radon(smooth, np.arange(views) * 180 / views)[:, 1:]  # [detector, view]
    mine = projector(size, views).project(smooth[None].astype(np.float32))[..., 0].T
    turned = mine[::-1, :0:-1]  # it turns the other way
    assert np.abs(turned - expected).mean() < 0.01 * expected.mean()


def test_water_is_corrected_and_bone_is_not() -> None:
    of_bone, of_water, seen = beam_tables()
    assert np.abs(of_bone[:, 0]).max() < 1e-3  # cm of water
    assert of_bone[36, 4:].min() < -0.01 or of_bone[36, 4:].max() > 0.01
    assert (np.diff(seen, axis=0) > 0).all()
    assert (np.diff(seen, axis=1) > 0).all()
    assert of_water[36, 0] == pytest.approx(0, abs=1e-4)  # the scanner is calibrated for the path through a head


def test_materials_add_up_to_their_density() -> None:
    water, bone = water_and_bone(np.array([-1000.0, 0.0, 100.0, 1900.0]))
    np.testing.assert_allclose(water, [0, 1, 1.1, 0], atol=1e-6)
    np.testing.assert_allclose(bone, [0, 0, 0, 1.92], atol=1e-6)


def test_bone_leaves_a_bright_rim_that_fades_inwards(scanner: Scanner) -> None:
    error = beam_errors(head(scanner.field_mm), scanner)[0][0]
    radius = radius_mm(scanner.field_mm)
    rings = [error[(radius > low) & (radius <= low + 4)].mean() for low in (62, 56, 50, 40)]
    centre = error[radius < 15].mean()
    assert rings[0] - centre > 4
    assert sorted(rings, reverse=True) == rings
    assert rings[-1] - centre < 3


def test_the_rim_grows_with_bone_and_residue(scanner: Scanner) -> None:
    radius = radius_mm(scanner.field_mm)

    def rim(bone_hu: float, residue: float) -> float:
        error = beam_errors(head(scanner.field_mm, bone_hu), replace(scanner, bone_residue=residue))[0][0]
        return float(error[(radius > 60) & (radius < 66)].mean() - error[radius < 15].mean())

    assert rim(1600, 1.0) > rim(900, 1.0) > 0
    assert rim(1300, 0.5) == pytest.approx(0.5 * rim(1300, 1.0), rel=1e-3)
    assert rim(40, 1.0) == pytest.approx(0, abs=0.1)  # no bone, no rim


def test_a_dark_band_joins_two_dense_bones(scanner: Scanner) -> None:
    hu = head(scanner.field_mm, bone_hu=40)[0]
    for col in (MIDDLE - 12, MIDDLE + 12):
        hu[MIDDLE - 3 : MIDDLE + 3, col - 3 : col + 3] = 1800
    error = beam_errors(hu[None], scanner)[0][0]
    between = error[MIDDLE - 2 : MIDDLE + 2, MIDDLE - 4 : MIDDLE + 4].mean()
    above = error[MIDDLE - 16 : MIDDLE - 12, MIDDLE - 4 : MIDDLE + 4].mean()
    assert between < above - 3


def test_noise_has_the_scanners_strength_in_the_middle(scanner: Scanner) -> None:
    _, spread = beam_errors(head(scanner.field_mm), scanner)
    hu = np.zeros((1, GRID_PX, GRID_PX), np.float32)
    add_noise(hu, spread, scanner, np.random.default_rng(0))
    middle = hu[0][radius_mm(scanner.field_mm) < 50]
    assert middle.std() == pytest.approx(scanner.noise_hu, rel=0.35)
    assert abs(middle.mean()) < 0.5


def test_noise_runs_along_the_rays_that_saw_most(scanner: Scanner) -> None:
    hu = head(scanner.field_mm, bone_hu=40)[0]
    for col in (MIDDLE - 20, MIDDLE + 20):
        hu[MIDDLE - 4 : MIDDLE + 4, col - 4 : col + 4] = 3000  # rays along the row cross both
    _, spread = beam_errors(hu[None], scanner)
    at_middle = spread[:, 0, MIDDLE, MIDDLE]
    assert at_middle.argmax() in (2, 3)  # views near a quarter turn look along the row
    assert at_middle.max() > 1.5 * at_middle.min()


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_keeps_the_mean_and_its_grain_is_its_own(name: str, scanner: Scanner) -> None:
    kernel = kernel_named(name)
    assert kernel.transfer(np.zeros(1)) == pytest.approx(1)
    hu = np.zeros((1, 128, 128), np.float32)
    add_noise(hu, np.ones((6, 1, 128, 128), np.float32), replace(scanner, kernel=name), np.random.default_rng(1))
    assert hu.std() == pytest.approx(scanner.noise_hu, rel=0.1)


def test_sharp_kernels_have_finer_grain(scanner: Scanner) -> None:
    grain = {}
    for name in ("smooth", "sharp"):
        hu = np.zeros((1, 128, 128), np.float32)
        few = replace(scanner, kernel=name, field_mm=128.0)
        add_noise(hu, np.ones((6, 1, 128, 128), np.float32), few, np.random.default_rng(1))
        grain[name] = float(np.corrcoef(hu[0, :, 1:].ravel(), hu[0, :, :-1].ravel())[0, 1])
    assert grain["smooth"] > grain["sharp"] + 0.2


def test_an_unknown_kernel_is_named() -> None:
    with pytest.raises(InputError, match="phantom kernel: got H30s"):
        kernel_named("H30s")
