"""The five subtypes of intracranial hemorrhage, with their sites, shapes and densities.

Source: radiology textbooks (e.g. Osborn's Brain, 2nd ed.); fresh clot 55-80 HU, clot of one to two weeks near grey
matter, unclotted or anaemic blood in between.
"""

import numpy as np

from data_prep.phantom.canvas import (
    INTRAPARENCHYMAL,
    INTRAVENTRICULAR,
    SUBARACHNOID,
    SUBDURAL,
    Canvas,
    fill_lowest,
)
from data_prep.phantom.painting_grid import Bools, Floats, Point

IPH_SITES: dict[str, Point] = {
    "putamen": (28, 0, 3),
    "thalamus": (13, -19, 8),
    "caudate": (13, 14, 9),
    "frontal": (32, 38, 24),
    "parietal": (36, -45, 40),
    "temporal": (50, -24, -14),
    "occipital": (26, -80, 10),
    "cerebellum": (20, -62, -36),
    "pons": (2, -27, -32),
}
IPH_WEIGHTS = (0.26, 0.17, 0.05, 0.13, 0.12, 0.10, 0.06, 0.09, 0.02)
CONTUSION_SITES: tuple[Point, ...] = ((22, 52, -14), (10, 58, -6), (44, 16, -32), (56, -12, -26), (40, 50, 4))
EPIDURAL_SITES: tuple[Point, ...] = (
    (70, -10, 2), (66, -30, 8), (58, -50, 50), (45, 58, 25), (40, -96, 15), (38, -92, -38),
)  # fmt: skip
SAH_SITES: dict[str, tuple[Point, float]] = {  # centre, spread in mm
    "basal": ((0, -4, -17), 40),
    "perimesencephalic": ((0, -28, -14), 20),
    "sylvian": ((42, 4, -2), 26),
    "anterior": ((0, 38, 12), 30),
    "cerebellar": ((18, -62, -10), 22),
}


def sample_age(rng: np.random.Generator) -> tuple[str, float]:
    """Samples the age of a clot and its mean density in HU."""
    age = str(rng.choice(["fresh", "hyperacute", "subacute"], p=[0.68, 0.14, 0.18]))
    low, high = {"fresh": (52, 78), "hyperacute": (46, 62), "subacute": (40, 52)}[age]
    return age, float(rng.uniform(low, high))


def clot_hu(canvas: Canvas, age: str, mean_hu: float, rng: np.random.Generator) -> Floats:
    """Density [N] inside a clot: mottled, with a swirl sign if hyperacute."""
    hu = mean_hu + rng.uniform(3, 7) * canvas.noise(rng, 7) + rng.uniform(2, 6) * canvas.noise(rng, 18)
    if age == "hyperacute":  # unclotted blood between the clots
        hu -= rng.uniform(8, 18) * np.clip(canvas.noise(rng, 11) - 0.2, 0, 1)
    return np.clip(hu, 30, 90).astype(np.float32)


def add_fluid_level(canvas: Canvas, hu: Floats, fraction: Floats, rng: np.random.Generator) -> Floats:
    """Adds a fluid-fluid level to a density [N]: cells sink posteriorly in a supine patient."""
    y = canvas.template.xyz_in[:, 1]
    inside = fraction > 0.5
    if not inside.any():
        return hu
    level = np.quantile(y[inside], rng.uniform(0.35, 0.65))
    return hu + np.float32(rng.uniform(6, 11)) * np.tanh((level - y) / 2.5).astype(np.float32) - 4


def _compartment(canvas: Canvas, centre: Point) -> Bools:
    """Voxels on the same side of the tentorium as `centre`."""
    below = below_tentorium(canvas)
    return np.asarray(below == below[int(np.argmin(canvas.distance_mm(centre)))])


def below_tentorium(canvas: Canvas) -> Bools:
    """Mask [N] of the posterior fossa: under the tentorium and behind the petrous ridges, or the brain stem."""
    x, y, z = canvas.template.xyz_in.T
    behind = y < -6 - 0.55 * np.abs(x)
    under: Bools = behind & (canvas.template.tentorium_mm_in < 0) & ((z < -16) | (y < -40)) | (z < -50) & (y < -10)
    return under


def intraparenchymal(canvas: Canvas, rng: np.random.Generator, volume_ml: float, centre: Point) -> None:
    """Paints an intraparenchymal clot with an irregular surface and a rim of oedema."""
    radius = (volume_ml * 1000 / canvas.volume_scale * 0.75 / np.pi) ** (1 / 3)
    offset = canvas.template.xyz_in - np.asarray(centre, np.float32)
    near = np.full(offset.shape[0], np.inf, np.float32)
    for _ in range(int(rng.integers(1, 4))):  # a few confluent lobes
        axes = np.linalg.qr(rng.standard_normal((3, 3)))[0].astype(np.float32)
        stretch = np.exp(rng.normal(0, 0.22, 3)).astype(np.float32)
        lobe = rng.normal(0, 0.35 * radius, 3).astype(np.float32)
        near = np.minimum(near, np.linalg.norm(((offset - lobe) @ axes) / stretch, axis=1))
    rough = rng.uniform(0.08, 0.3) * radius
    near = near + rough * canvas.noise(rng, max(8.0, radius * 0.7)) + 0.4 * rough * canvas.noise(rng, 5)
    allowed = (canvas.template.depth_in > 2.5) & (canvas.ventricles < 0.5) & _compartment(canvas, centre)
    fraction, level = fill_lowest(near, allowed, canvas.voxels(volume_ml))
    age, mean_hu = sample_age(rng)
    rim_mm = (2 + 0.25 * radius) * (2.2 if age == "subacute" else rng.uniform(0.4, 1.4))
    white = 1 - np.clip(canvas.template.grey_in, 0, 1)
    oedema = np.exp(-((np.clip(near - level, 0, None) / rim_mm) ** 2)) * (0.35 + 0.65 * white) * allowed
    canvas.hu -= rng.uniform(6, 13) * oedema * np.clip((canvas.hu - 12) / 15, 0, 1)
    hu = clot_hu(canvas, age, mean_hu, rng)
    if rng.random() < 0.08:
        hu = add_fluid_level(canvas, hu, fraction, rng)
    canvas.add_blood(INTRAPARENCHYMAL, fraction, hu, age)


def displace_around_clot(canvas: Canvas, volume_ml: float, centre: Point, share: float) -> None:
    """Mass effect of a clot: displacement of an incompressible medium, fading towards the skull.

    Args:
        canvas: Its `shift_mm` is changed; the clot is painted afterwards.
        volume_ml: Volume of the clot in the patient.
        centre: Centre of the clot.
        share: Fraction of the volume that displaces tissue.
    """
    cubed = share * volume_ml * 1000 / canvas.volume_scale * 0.75 / np.pi
    offset = canvas.template.xyz_in - np.asarray(centre, np.float32)
    distance = np.maximum(np.linalg.norm(offset, axis=1), 0.5)
    push = distance - np.cbrt(np.maximum(distance**3 - cubed, 0))
    fading = np.exp(-((np.clip(distance - np.cbrt(cubed), 0, None) / 50) ** 2))
    push *= fading * np.clip(canvas.template.depth_in / 8, 0, 1)
    canvas.shift_mm -= offset * (push / distance)[:, None]


def displace_under_collection(canvas: Canvas, thickness_mm: Floats, normal: Floats) -> None:
    """Mass effect of an extra-axial collection: displaces the brain inwards, less with distance."""
    template = canvas.template
    deep = np.clip(template.depth_in / 18, 0, 1)[:, None]
    direction = template.normal_in * (1 - deep) + normal * deep
    along_normal = template.xyz_in @ normal
    decay = np.clip((along_normal + 62) / 124, 0, 1) ** 1.3
    canvas.shift_mm += direction * (0.85 * thickness_mm * decay)[:, None]


def epidural_shape(canvas: Canvas, rng: np.random.Generator, volume_ml: float) -> tuple[Floats, Floats, Floats]:
    """An epidural lens at a sampled site: fraction [N], thickness map [N] in mm, and normal of the site."""
    site = EPIDURAL_SITES[int(rng.choice(len(EPIDURAL_SITES), p=(0.28, 0.2, 0.2, 0.16, 0.08, 0.08)))]
    return lens_shape(canvas, rng, volume_ml, (site[0] * rng.choice((-1, 1)), site[1], site[2]), rng.uniform(0.4, 0.75))


def lens_shape(
    canvas: Canvas, rng: np.random.Generator, volume_ml: float, site: Point, bulge: float
) -> tuple[Floats, Floats, Floats]:
    """A lens on the inner table near `site`, which a suture may limit; returns as `epidural_shape`.

    Args:
        canvas: The patient's intracranial voxels.
        rng: Random generator.
        volume_ml: Volume in the patient.
        site: Point near its centre.
        bulge: Thickness divided by radius.
    """
    point, normal = canvas.surface_point(site)
    radius = (2 * volume_ml * 1000 / canvas.volume_scale / (np.pi * bulge)) ** (1 / 3)
    offset = canvas.template.xyz_in - point
    tangent = offset - np.outer(offset @ normal, normal)
    distance = np.linalg.norm(tangent, axis=1) / (radius * (1 + 0.12 * canvas.noise(rng, 25)))
    window = np.clip(1 - distance**2, 0, 1)
    if rng.random() < 0.7:  # the suture where the dura is fixed
        bearing = rng.standard_normal(3)
        bearing -= normal * (bearing @ normal)
        bearing /= np.linalg.norm(bearing)
        beyond = rng.uniform(0.35, 0.8) * radius - offset @ bearing
        window = window * np.clip(beyond / 5, 0, 1)
    allowed = (canvas.template.normal_in @ normal > 0.1) & (offset @ normal > -60) & (window > 0.03)
    allowed &= _compartment(canvas, tuple((point - 6 * normal).tolist()))
    field_mm = canvas.template.depth_in / np.maximum(window, 0.03)
    fraction, level = fill_lowest(field_mm.astype(np.float32), allowed, canvas.voxels(volume_ml))
    spread = np.exp(-((distance / 1.25) ** 2)) * np.clip(offset @ normal / 40 + 2, 0, 1)
    return fraction, thickness_map(canvas, level, window * allowed, spread), normal


def thickness_map(canvas: Canvas, level_mm: float, window: Floats, spread: Floats) -> Floats:
    """Thickness [N] of a collection over each voxel in mm: its shape at the skull, smoother with depth."""
    deep = np.clip((canvas.template.depth_in - 0.6 * level_mm) / 25, 0, 1)
    return (level_mm * (window * (1 - deep) + spread * deep)).astype(np.float32)


def subdural_shape(canvas: Canvas, rng: np.random.Generator, volume_ml: float) -> tuple[Floats, Floats, Floats]:
    """A subdural crescent over one hemisphere; returns as `epidural_shape`."""
    side = float(rng.choice((-1, 1)))
    x, y, z = canvas.template.xyz_in.T
    centre_y, centre_z = rng.uniform(-35, 20), rng.uniform(8, 40)
    size = float(np.clip((volume_ml / 70) ** 0.3, 0.45, 1.1))
    reach_y, reach_z = rng.uniform(50, 80) * size, rng.uniform(36, 54) * size
    reach = ((y - centre_y) / reach_y) ** 2 + ((z - centre_z) / reach_z) ** 2 + 0.12 * canvas.noise(rng, 30)
    window = np.sqrt(np.clip(1 - reach, 0, 1)) * np.clip((canvas.template.normal_in[:, 2] + 0.45) / 0.3, 0, 1)
    window = window * np.clip((x * side - 3) / 10, 0, 1)
    allowed = (window > 0.05) & ~below_tentorium(canvas)
    field_mm = canvas.template.depth_in / np.maximum(window, 0.05) + 0.5 * canvas.noise(rng, 9)
    fraction, level = fill_lowest(field_mm.astype(np.float32), allowed, canvas.voxels(volume_ml))
    spread = np.clip(1 - 0.6 * np.clip(reach, 0, 1.6), 0, 1)
    return fraction, thickness_map(canvas, level, window * allowed, spread), np.array([side, 0, 0.15], np.float32)


def interhemispheric_shape(canvas: Canvas, rng: np.random.Generator, volume_ml: float) -> Floats:
    """Fraction [N] of a thin subdural collection along one side of the falx."""
    side = float(rng.choice((-1, 1)))
    x, y, z = canvas.template.xyz_in.T
    window = np.exp(-(((y - rng.uniform(-70, 50)) / rng.uniform(25, 50)) ** 2) - ((z - 40) / 40) ** 2)
    allowed = on_falx(canvas) & (x * side > 0.5) & (window > 0.15)
    field_mm = x * side / np.maximum(window, 0.15) + 0.5 * canvas.noise(rng, 10)
    return fill_lowest(field_mm, allowed & (x * side < 11), canvas.voxels(volume_ml))[0]


def tentorial_shape(canvas: Canvas, rng: np.random.Generator, volume_ml: float) -> Floats:
    """Fraction [N] of a thin subdural collection on one leaf of the tentorium."""
    side = float(rng.choice((-1, 1)))
    x, y, _ = canvas.template.xyz_in.T
    height = canvas.template.tentorium_mm_in
    window = np.exp(-(((x * side - 25) / 18) ** 2) - ((y + rng.uniform(50, 80)) / 22) ** 2)
    allowed = on_tentorium(canvas) & (x * side > 2) & (height > 0) & (height < 9) & (window > 0.15)
    return fill_lowest(height / np.maximum(window, 0.15), allowed, canvas.voxels(volume_ml))[0]


def on_falx(canvas: Canvas) -> Bools:
    """Mask [N] of the falx: near the midline, outside the corpus callosum, above the tentorium."""
    x, y, z = canvas.template.xyz_in.T
    beyond = ((y + 10) / 56) ** 2 + ((z - 2) / 40) ** 2 > 1
    falx: Bools = (np.abs(x) < 14) & beyond & (z > -18) & ((canvas.template.tentorium_mm_in > 0) | (y > -30))
    return falx


def on_tentorium(canvas: Canvas) -> Bools:
    """Mask [N] of the tentorium's extent: behind the petrous ridges, outside the notch for the brain stem."""
    x, y, _ = canvas.template.xyz_in.T
    notch = (x / 22) ** 2 + ((y + 24) / 24) ** 2 < 1
    leaf: Bools = (y < -14 - 0.35 * np.abs(x)) & ~notch
    return leaf


def subarachnoid(canvas: Canvas, rng: np.random.Generator, pattern: str | None = None) -> None:
    """Paints subarachnoid blood, mixed with fluid, in the sulci, fissures and cisterns around a site.

    Args:
        canvas: The patient's intracranial voxels.
        rng: Random generator.
        pattern: One of `SAH_SITES` or "convexity"; sampled if None.
    """
    names = [*SAH_SITES, "convexity"]
    chosen = pattern or str(rng.choice(names, p=(0.3, 0.08, 0.2, 0.1, 0.07, 0.25)))
    side = float(rng.choice((-1, 1)))
    if chosen == "convexity":
        direction = rng.standard_normal(3) * (1, 1.2, 0.8) + (0, 0, 0.7)
        direction /= np.linalg.norm(direction)
        point, _ = canvas.surface_point(tuple((direction * (70, 85, 75) + (0, -18, 8)).tolist()))
        centre, spread = point, rng.uniform(14, 30)
    else:
        site, spread = SAH_SITES[chosen]
        centre = np.asarray((site[0] * side, site[1], site[2]), np.float32)
        spread *= rng.uniform(0.65, 1.3)
    distance = canvas.distance_mm(tuple(np.asarray(centre).tolist()))
    reach = np.exp(-((distance / spread) ** 2)) * (1 + 0.45 * canvas.noise(rng, 14))
    extent = np.clip((reach - 0.36) / 0.2 + 0.5, 0, 1) * np.clip((canvas.template.depth_in - 0.8) / 2, 0, 1)
    filled = np.clip((canvas.template.csf_in - rng.uniform(0.28, 0.42)) / 0.25 + 0.5, 0, 1)  # blood distends the sulci
    sulci = np.maximum(canvas.sulci, filled * np.clip((canvas.template.ventricle_mm_in - 4) / 2, 0, 1))
    sulci = sulci * (1 - canvas.ventricles)
    age, mean_hu = sample_age(rng)
    share = np.clip(rng.uniform(0.75, 1.0) + 0.12 * canvas.noise(rng, 9), 0.45, 1)  # blood in the fluid
    hu = canvas.build.csf_hu + share * (clot_hu(canvas, age, max(mean_hu, 56), rng) - canvas.build.csf_hu)
    canvas.add_blood(SUBARACHNOID, (sulci * extent).astype(np.float32), hu, age)


def intraventricular(canvas: Canvas, rng: np.random.Generator, mode: str | None = None) -> None:
    """Paints blood in the ventricles.

    Args:
        canvas: The patient's intracranial voxels.
        rng: Random generator.
        mode: "layer", a fluid level in the occipital horns, or "cast", a clot that fills a part; sampled if None.
    """
    x, y, _ = canvas.template.xyz_in.T
    inside = canvas.ventricles > 0.4
    chosen = mode or str(rng.choice(["layer", "cast"], p=(0.5, 0.5)))
    side = float(rng.choice((-1, 1)))
    if chosen == "layer":
        field_mm = y + 1.2 * canvas.noise(rng, 10)
        allowed = inside & (np.abs(x) > 6) & ((x * side > 0) | (rng.random() < 0.65)) & (y < -30)
        share = rng.uniform(0.15, 0.7)
    else:
        sites = ((8 * side, 5, 16), (22 * side, -42, 8), (0, -12, 0), (0, -46, -30))
        field_mm = canvas.distance_mm(sites[int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))]) + 5 * canvas.noise(rng, 12)
        allowed, share = inside, rng.uniform(0.15, 0.85)
    edge, _ = fill_lowest(field_mm.astype(np.float32), allowed, max(1, round(share * float(allowed.sum()))))
    age, mean_hu = sample_age(rng)
    hu = clot_hu(canvas, age, mean_hu - (3 if chosen == "layer" else 0), rng)
    canvas.add_blood(INTRAVENTRICULAR, edge * canvas.ventricles, hu, age)


def extra_axial(canvas: Canvas, rng: np.random.Generator, kind: int, fraction: Floats) -> None:
    """Paints an epidural or subdural collection with the given fraction [N]."""
    age, mean_hu = sample_age(rng)
    hu = clot_hu(canvas, age, mean_hu, rng)
    if kind == SUBDURAL and rng.random() < 0.15:  # acute on chronic
        hu = np.clip(hu - rng.uniform(8, 22) * (canvas.noise(rng, 22) > 0.1), 24, None).astype(np.float32)
    if kind == SUBDURAL and rng.random() < 0.15:
        hu = add_fluid_level(canvas, hu, fraction, rng)
    canvas.add_blood(kind, fraction, hu, age)
