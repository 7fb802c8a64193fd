"""Confounders of a density threshold: calcifications, dense dura and vessels, infarcts, masses."""

import numpy as np

from data_prep.phantom.bleeds import displace_under_collection, lens_shape, on_falx, on_tentorium
from data_prep.phantom.canvas import Canvas
from data_prep.phantom.painting_grid import Floats, Point, soft_step

INFARCT_SITES: tuple[tuple[Point, float], ...] = (  # centre, typical radius in mm
    ((48, -15, 18), 24), ((40, 30, 14), 18), ((24, -84, 6), 18), ((24, -64, -36), 14),
    ((24, 4, 6), 5), ((12, -16, 8), 4), ((22, 12, 20), 5), ((20, -24, 24), 6),
)  # fmt: skip


def _blob(canvas: Canvas, centre: Point, radius_mm: float, rng: np.random.Generator) -> Floats:
    """Fraction [N] of a small irregular blob around a point."""
    near = canvas.distance_mm(centre) + 0.25 * radius_mm * canvas.noise(rng, 6)
    return soft_step(near - radius_mm, 1.5)


def calcifications(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paints common calcifications: choroid plexus, pineal gland, habenula, pallidum, dentate nuclei, vessel walls."""
    atrophy = canvas.build.atrophy
    for side in (-1, 1):
        if rng.random() < 0.55 + 0.3 * atrophy:
            centre = (side * rng.normal(23, 1.5), rng.normal(-41, 3), rng.normal(8, 3))
            fraction = _blob(canvas, centre, rng.uniform(2.0, 5.5), rng)
            canvas.blend(fraction * rng.uniform(0.5, 1), rng.uniform(60, 320))
        if rng.random() < 0.15 + 0.3 * atrophy:
            fraction = _blob(canvas, (side * 12.0, -3.0, -30.0), rng.uniform(1.5, 3), rng)
            canvas.blend(fraction, rng.uniform(150, 500))
    if rng.random() < 0.65:
        canvas.blend(_blob(canvas, (0, rng.normal(-29, 1.5), 2), rng.uniform(1.8, 4), rng), rng.uniform(90, 380))
    paired: tuple[tuple[Point, float, float], ...] = (((19, -4, -1), 0.22, 5), ((15, -58, -36), 0.06, 5))
    for (x, y, z), chance, radius in paired:
        if rng.random() < chance:
            hu, size = rng.uniform(50, 160), radius * rng.uniform(0.4, 1.15)
            for side in (-1, 1):
                fraction = _blob(canvas, (side * x, y, z), size * rng.uniform(0.7, 1.2), rng)
                canvas.blend(fraction * rng.uniform(0.3, 1), hu)
    if rng.random() < 0.05:  # calcified granuloma or cavernoma somewhere in the brain
        voxel = int(rng.choice(np.flatnonzero(canvas.template.depth_in > 12)))
        centre = tuple(canvas.template.xyz_in[voxel].tolist())
        canvas.blend(_blob(canvas, centre, rng.uniform(2, 6), rng), rng.uniform(60, 400))


def infarcts(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paints infarcts: old ones near fluid density, recent ones slightly hypodense, lacunes."""
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.62, 0.22, 0.11, 0.05]))):
        (x, y, z), size = INFARCT_SITES[int(rng.integers(len(INFARCT_SITES)))]
        centre = (x * float(rng.choice((-1, 1))), y + rng.normal(0, 5), z + rng.normal(0, 5))
        radius = size * rng.uniform(0.6, 1.3)
        near = canvas.distance_mm(centre) + 0.3 * radius * canvas.noise(rng, max(8.0, radius))
        fraction = soft_step(near - radius, 3.0)
        if rng.random() < 0.6:
            canvas.blend(fraction * rng.uniform(0.5, 0.95), rng.uniform(10, 20))
        else:
            canvas.hu -= fraction * rng.uniform(4, 9) * np.clip((canvas.hu - 12) / 15, 0, 1)


def vessels(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paints the basal arteries; dense at a high hematocrit, or thrombosed (hyperdense artery sign)."""
    blood_hu = rng.uniform(36, 52)
    dense = int(rng.integers(12))
    lines: tuple[tuple[Point, Point], ...] = (
        ((8, 2, -17), (34, 2, -14)), ((-8, 2, -17), (-34, 2, -14)), ((0, -19, -44), (0, -13, -20)),
        ((10, 4, -24), (8, 3, -16)), ((-10, 4, -24), (-8, 3, -16)), ((4, 14, -14), (2, 34, 2)),
    )  # fmt: skip
    for number, (start, end) in enumerate(lines):
        fraction = soft_step(canvas.distance_to_line_mm(start, end) - rng.uniform(0.9, 1.9), 1.5)
        canvas.blend(fraction, blood_hu + (rng.uniform(14, 24) if number == dense else 0))


def dura(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paints falx, tentorium and venous sinuses; dense and partly calcified in some patients."""
    template = canvas.template
    x, y, z = template.xyz_in.T
    falx_hu, sinus_hu = rng.uniform(40, 62), rng.uniform(46, 70)
    bend = 0.6 * canvas.noise(rng, 50)
    falx = soft_step(np.abs(x - bend) - rng.uniform(0.4, 1.2), 1.5) * on_falx(canvas)
    tentorium = soft_step(np.abs(template.tentorium_mm_in) - rng.uniform(0.3, 1.0), 1.5) * on_tentorium(canvas)
    bloodless = 1 - canvas.blood
    lining = soft_step(template.depth_in - canvas.build.dura_mm * (1 + 0.5 * canvas.noise(rng, 30)), 1.5)
    canvas.blend(lining * bloodless, falx_hu)
    canvas.blend(falx * bloodless, falx_hu)
    canvas.blend(tentorium * bloodless, falx_hu + rng.uniform(-4, 6))
    width_mm = rng.uniform(4.5, 8.5) * np.clip((75 - y) / 90, 0.3, 1)  # it widens posteriorly
    sagittal = soft_step(np.abs(x) * 1.2 + template.depth_in - width_mm, 1.5)
    sagittal *= (z > -8) & (y < 70) & ((z > 30) | (y < -40))
    straight = soft_step(np.hypot(x, template.tentorium_mm_in - 1) - rng.uniform(1.8, 3), 1.5) * ((y < -46) & (z < 12))
    across = np.hypot(template.tentorium_mm_in * 0.8, template.depth_in - 2)
    sinus = np.maximum(sagittal, straight)
    for side in (-1, 1):  # one transverse sinus is often dominant
        radius = rng.uniform(2.0, 5.5)
        transverse = soft_step(across - radius, 1.5) * ((x * side > 0) & (y < -48) & (z < 8))
        sigmoid = soft_step(
            canvas.distance_to_line_mm((side * 56.0, -50.0, -28.0), (side * 46.0, -48.0, -52.0)) - radius, 1.5
        )
        sinus = np.maximum(sinus, np.maximum(transverse, sigmoid))
    canvas.blend(sinus * bloodless, sinus_hu + 2 * canvas.noise(rng, 12))
    for _ in range(int(rng.choice([0, 1, 2, 4], p=[0.5, 0.25, 0.15, 0.1]))):  # calcified plaques on the falx
        near = np.hypot(y - rng.uniform(-60, 60), z - rng.uniform(20, 70)) + 2 * canvas.noise(rng, 8)
        canvas.blend(falx * bloodless * soft_step(near - rng.uniform(3, 11), 2.0), rng.uniform(90, 480))


def meningioma(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """Fraction [N] of a meningioma on the dura, with its mass effect; `paint_meningioma` paints it after the shift."""
    site = (float(rng.choice((-1, 1))) * rng.uniform(5, 65), rng.uniform(-70, 55), rng.uniform(-5, 75))
    fraction, thickness_mm, normal = lens_shape(canvas, rng, float(rng.uniform(0.6, 14)), site, 1.1)
    displace_under_collection(canvas, 0.8 * thickness_mm, normal)
    return fraction


def paint_meningioma(canvas: Canvas, fraction: Floats, rng: np.random.Generator) -> None:
    """Paints a meningioma with the given fraction [N]; a third of them are calcified."""
    hu = rng.uniform(44, 58) + 2 * canvas.noise(rng, 8)
    if rng.random() < 0.35:
        hu = hu + rng.uniform(40, 150) * np.clip(canvas.noise(rng, 7), 0, 1.5)
    canvas.blend(fraction * (1 - canvas.blood), hu.astype(np.float32))


def ventricular_catheter(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paints a ventricular catheter from the forehead into a frontal horn."""
    side = float(rng.choice((-1, 1)))
    line = canvas.distance_to_line_mm((side * 32, 42, 62), (side * 7, 8, 12))
    canvas.blend(soft_step(line - 1.4, 1.5), rng.uniform(110, 260))
