"""X-rays of many energies through a head: what the scanner's corrections leave in an image, and its noise.

The errors are smooth, so they are computed on a coarse grid: line integrals of water and bone, the energy that reaches
the detector, the inverse of its curve for water alone, and filtered back projection of what then is still wrong. The
rim under the vault, the dark bands between the petrous bones and streaks of metal follow from it. The noise of a ray
grows with what the ray has crossed; every pixel gets that of its rays, direction by direction.

Source: mass attenuation of water and of cortical bone (ICRU-44) from the NIST tables of Hubbell and Seltzer; the
spectrum is that of a tungsten tube at 120 kV behind several mm of aluminium, in steps of 10 keV.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from data_prep.phantom.painting_grid import Floats
from data_prep.phantom.projection import projector
from data_prep.phantom.scanner import Kernel, Scanner, kernel_named

ENERGIES_KEV = np.array([40, 50, 60, 70, 80, 90, 100, 110])
PHOTONS = np.array([0.10, 0.19, 0.26, 0.17, 0.12, 0.08, 0.05, 0.03])
KNOWN_KEV = np.array([30, 40, 50, 60, 80, 100, 150])
WATER_CM2_PER_G = np.array([0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505])
BONE_CM2_PER_G = np.array([1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480])
COMPACT_HU, COMPACT_G_PER_CM3 = 1900.0, 1.92  # compact bone
SOFT_HU = 120.0  # denser pixels are a mixture of soft tissue and compact bone
WATER_CM, BONE_G_PER_CM2 = np.linspace(0, 36, 73), np.linspace(0, 16, 65)  # axes of the tables
WATER_PER_CM = 0.2  # attenuation of the beam behind a head
HEAD_CM = 18.0  # path through the water-like part of a head, for which scanners are calibrated

GRID_PX, VIEWS = 96, 144
DIRECTIONS = 6  # of the noise, over half a turn


def water_and_bone(hu: Floats) -> tuple[Floats, Floats]:
    """Water and compact bone, both in g/cm³, of voxels with the given HU."""
    share = np.maximum((hu - SOFT_HU) / (COMPACT_HU - SOFT_HU), 0)
    water = (1 + np.minimum(hu, SOFT_HU) / 1000) * np.maximum(1 - share, 0)
    return water.astype(np.float32), (share * COMPACT_G_PER_CM3).astype(np.float32)


@lru_cache(maxsize=1)
def beam_tables() -> tuple[Floats, Floats, Floats]:
    """Tables [water, bone] on the axes `WATER_CM` and `BONE_G_PER_CM2`.

    Returns:
        Error of the line integral after the scanner's correction for water, in cm of water; error of the uncorrected
        line integral of the water alone, in cm of water; and -ln of the energy that reaches the detector.
    """
    water, bone = (
        np.exp(np.interp(np.log(ENERGIES_KEV), np.log(KNOWN_KEV), np.log(known)))
        for known in (WATER_CM2_PER_G, BONE_CM2_PER_G)
    )
    weight = PHOTONS * ENERGIES_KEV / (PHOTONS * ENERGIES_KEV).sum()  # the detector adds up energy

    def seen(water_cm: npt.NDArray[np.float64], bone_g_per_cm2: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        through = np.exp(-water_cm[..., None] * water - bone_g_per_cm2[..., None] * bone)
        return np.asarray(-np.log((through * weight).sum(axis=-1)))

    paths = np.meshgrid(WATER_CM, BONE_G_PER_CM2, indexing="ij")
    far_cm = np.linspace(0, 90, 901)
    as_water = np.interp(seen(*paths), seen(far_cm, np.zeros_like(far_cm)), far_cm)
    at_head = int(np.searchsorted(WATER_CM, HEAD_CM))
    per_bone = (as_water[at_head, 1] - as_water[at_head, 0]) / BONE_G_PER_CM2[1]  # the first bone counts in full
    bone_error = as_water - WATER_CM[:, None] - per_bone * BONE_G_PER_CM2
    per_water = seen(np.array(HEAD_CM), np.array(0.0)) / HEAD_CM
    water_error = (
        np.broadcast_to(seen(WATER_CM, np.zeros_like(WATER_CM))[:, None] / per_water, paths[0].shape) - paths[0]
    )
    return bone_error.astype(np.float32), water_error.astype(np.float32), seen(*paths).astype(np.float32)


def beam_errors(hu: Floats, scanner: Scanner) -> tuple[Floats, Floats]:
    """Smooth errors of images, and the spread of their noise.

    Args:
        hu: [slice, row, col] HU on the coarse grid, `GRID_PX` on a side of the scanner's field.
        scanner: Its residues.

    Returns:
        HU to add [slice, row, col]; standard deviation of the noise of each direction [direction, slice, row, col],
        relative to that of the whole in the middle of a head.
    """
    rays, pixel_cm = projector(GRID_PX, VIEWS), scanner.field_mm / GRID_PX / 10
    water_cm, bone_g = (rays.project(part) * np.float32(pixel_cm) for part in water_and_bone(hu))
    at = [water_cm / np.float32(WATER_CM[1]), bone_g / np.float32(BONE_G_PER_CM2[1])]
    of_bone, of_water, seen = (
        ndimage.map_coordinates(table, at, order=1, mode="nearest", output=np.float32) for table in beam_tables()
    )
    left = scanner.bone_residue * of_bone + scanner.water_residue * of_water
    error = rays.reconstruct(left) * np.float32(1000 / pixel_cm)
    edge_cm = (np.arange(GRID_PX, dtype=np.float32) - (GRID_PX - 1) / 2) * pixel_cm
    bowtie_cm = 2 * np.sqrt(np.maximum((HEAD_CM / 2) ** 2 - edge_cm**2, 0))  # makes up for a round head of water
    variance = np.exp(np.minimum(seen + WATER_PER_CM * (HEAD_CM - bowtie_cm)[:, None], 9.0))
    step = VIEWS // DIRECTIONS
    spread = np.stack([rays.back_project(variance, slice(k * step, (k + 1) * step)) for k in range(DIRECTIONS)])
    typical = step * np.exp(WATER_PER_CM * (HEAD_CM + 1))  # water, and two walls of the skull
    return error, np.sqrt(spread / np.float32(typical))


@lru_cache(maxsize=8)
def _noise_spectra(matrix: int, pixel_mm: float, kernel: Kernel) -> Floats:
    """Amplitude [direction, row, col] of the noise of each direction in the plane of frequencies, of unit sum."""
    rows, cols = fft.fftfreq(matrix, pixel_mm)[:, None], fft.rfftfreq(matrix, pixel_mm)[None]
    frequency = np.hypot(rows, cols)
    amplitude = np.sqrt(frequency) * kernel.transfer(frequency)  # the ramp of filtered back projection
    direction = np.floor(np.arctan2(rows, cols) % np.pi / np.pi * DIRECTIONS).astype(int) % DIRECTIONS
    twice = np.where((cols == 0) | (cols == cols.max()), 1, 2)  # the other half of the plane
    amplitude *= matrix / np.sqrt((twice * amplitude**2).sum())
    return np.stack([np.where(direction == k, amplitude, 0) for k in range(DIRECTIONS)]).astype(np.float32)


def add_noise(hu: Floats, spread: Floats, scanner: Scanner, rng: np.random.Generator) -> None:
    """Adds noise to images.

    Args:
        hu: [slice, row, col] HU, changed in place.
        spread: From `beam_errors`, on the grid of `hu`. [direction, slice, row, col]
        scanner: Its kernel and noise.
        rng: Random generator.
    """
    matrix = hu.shape[1]
    spectra = _noise_spectra(matrix, scanner.field_mm / matrix, kernel_named(scanner.kernel))
    for index, image in enumerate(hu):
        white = fft.rfft2(rng.standard_normal((matrix, matrix), dtype=np.float32))
        grain = fft.irfft2(white * spectra, s=(matrix, matrix), axes=(1, 2))
        image += scanner.noise_hu * (grain * spread[:, index]).sum(axis=0)
