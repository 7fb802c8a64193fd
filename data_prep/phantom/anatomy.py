"""The healthy head of a patient: tissue densities in template space, before pose and scanner."""

from dataclasses import dataclass, fields, replace

import numpy as np

from data_prep.phantom.face import Part, face_parts
from data_prep.phantom.painting_grid import SHAPE, STEP_MM, Floats, axes_mm, ellipsoid, smooth_noise, soft_step
from data_prep.phantom.template import INSIDE_MM, WIDEST_GAP_MM, Template
from data_prep.phantom.vault import openings, scalp_thickness_mm, skull_thickness_mm

AIR_HU = -1000.0
SKIN_MM = 1.8
SCAR_HU = 30.0  # soft tissue in sutures and holes
TEMPLATE_FIELDS = [item.name for item in fields(Template) if item.name.endswith("_in") and item.name != "depth_in"]


@dataclass(frozen=True)
class Build:
    """Anatomical parameters of one patient, apart from size and pose.

    Attributes:
        atrophy: 0 (young, tight sulci) to 1 (wide sulci and ventricles).
        gap_mm: Width of the fluid space between the brain and the inner table.
        ventricle_growth_mm: Distance of the ventricles' walls to those of the template, positive outwards.
        grey_hu: Mean density of grey matter.
        white_hu: Mean density of white matter.
        csf_hu: Density of fluid.
        dura_mm: Thickness of the dura and the vessels under it.
        skull_scale: Factor of the skull's thickness.
        bone_hu: Density of compact bone.
        diploe_hu: Density between the tables.
        scalp_mm: Thickness of the scalp.
        sinus_opacity: Probability that a sinus or air cell is filled.
    """

    atrophy: float
    gap_mm: float
    ventricle_growth_mm: float
    grey_hu: float
    white_hu: float
    csf_hu: float
    dura_mm: float
    skull_scale: float
    bone_hu: float
    diploe_hu: float
    scalp_mm: float
    sinus_opacity: float


def sample_build(rng: np.random.Generator) -> Build:
    """Samples the anatomical parameters of a patient; the ranges cover adults from 18 to 95."""
    atrophy = float(rng.beta(1.4, 1.6))
    grey_hu = float(rng.normal(38, 1.5))
    hydrocephalus_mm = float(rng.uniform(2, 4)) if rng.random() < 0.06 else 0.0
    return Build(
        atrophy=atrophy,
        gap_mm=float(np.clip(WIDEST_GAP_MM * (1.1 * atrophy - 0.75) + rng.normal(0, 0.4), 0, WIDEST_GAP_MM)),
        ventricle_growth_mm=float(-0.8 + 3.2 * atrophy + rng.normal(0, 0.8)) + hydrocephalus_mm,
        grey_hu=grey_hu,
        white_hu=grey_hu - float(rng.uniform(4.5, 9)),
        csf_hu=float(rng.uniform(3, 11)),
        dura_mm=float(rng.uniform(0.5, 3.2)),
        skull_scale=float(np.clip(rng.normal(0.95, 0.2), 0.55, 1.5)),
        bone_hu=float(rng.uniform(950, 1500)),
        diploe_hu=float(rng.uniform(350, 800)),
        scalp_mm=float(rng.uniform(3.0, 10.0)),
        sinus_opacity=float(rng.choice([0.0, 0.05, 0.4], p=[0.6, 0.25, 0.15])),
    )


def fit_cavity(template: Template, build: Build, rng: np.random.Generator) -> Template:
    """The template with the patient's inner table: the vault as far from the brain as the gap, unevenly."""
    closer_mm = WIDEST_GAP_MM - build.gap_mm * (1 + 0.6 * smooth_noise(rng, 60))
    vault = np.clip((axes_mm()[2] + 20) / 25, 0, 1)  # not the base, with its cisterns
    outside_mm = template.outside_mm + np.clip(closer_mm, 0, WIDEST_GAP_MM) * vault
    still = outside_mm.ravel()[template.inside] < INSIDE_MM
    kept = {name: getattr(template, name)[still] for name in TEMPLATE_FIELDS}
    inside = template.inside[still]
    return replace(template, **kept, outside_mm=outside_mm, inside=inside, depth_in=-outside_mm.ravel()[inside])


def brain_hu(template: Template, build: Build, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Densities and fluid fractions of the intracranial cavity.

    Returns:
        HU, fluid fraction in sulci and cisterns, fluid fraction in the ventricles; each [N], the voxels
        `template.inside`.
    """
    local = smooth_noise(rng, 45).ravel()[template.inside]
    threshold = 0.86 - 0.42 * build.atrophy - 0.05 * local
    folds = _folds(template, build, rng)
    sulci = np.maximum(np.clip((template.csf_in - threshold) / 0.22 + 0.5, 0, 1), np.clip(1.2 - folds / 0.16, 0, 1))
    lateral = np.clip((np.abs(template.xyz_in[:, 0]) - 4) / 6, 0, 1) * np.clip((template.xyz_in[:, 2] + 24) / 12, 0, 1)
    growth = build.ventricle_growth_mm * (0.3 + 0.7 * lateral)
    growth = growth + 0.9 * smooth_noise(rng, 50).ravel()[template.inside]
    ventricles = soft_step(template.ventricle_mm_in - growth, STEP_MM)
    outside = np.clip((template.ventricle_mm_in - growth) / 3, 0, 1)
    sulci = (sulci * outside).astype(np.float32)
    grey = np.clip((np.maximum(template.grey_in, np.clip(1.15 - folds, 0, 1)) - 0.5) * 1.5 + 0.5, 0, 1)
    tissue = build.white_hu + (build.grey_hu - build.white_hu) * grey
    tissue += 1.2 * smooth_noise(rng, 10).ravel()[template.inside] + 1.0 * local
    if build.atrophy > 0.45:  # leukoaraiosis: dark white matter around the ventricles of old patients
        near = np.exp(-np.clip(template.ventricle_mm_in - growth, 0, None) / 6)
        tissue -= (build.atrophy - 0.45) * rng.uniform(4, 22) * near * (1 - grey)
    fluid = np.maximum(sulci, ventricles)
    return (tissue + (build.csf_hu - tissue) * fluid).astype(np.float32), sulci, ventricles


def _folds(template: Template, build: Build, rng: np.random.Generator) -> Floats:
    """The patient's own folds of the cortex: distance [N] to the middle of a sulcus, in widths of a cortical ribbon.

    Sulci are the sheets on which a random field is zero; they reach some way below the inner table, not the cerebellum.
    """
    field = smooth_noise(rng, float(rng.uniform(11, 16))).ravel()[template.inside]
    reach_mm = float(rng.uniform(9, 16)) * (1 + 0.4 * smooth_noise(rng, 30).ravel()[template.inside])
    deep = np.clip((template.depth_in - reach_mm) / 4, 0, 5)
    below = template.tentorium_mm_in < 0
    return (np.abs(field) / (0.35 + 0.2 * build.atrophy) + deep + 5 * below).astype(np.float32)


def paint_head(template: Template, build: Build, brain: Floats, rng: np.random.Generator) -> Floats:
    """HU [Z, Y, X] of the whole head in template space: vault, scalp, face and the given brain [N]."""
    out = template.outside_mm
    parts, skin_mm = face_parts()
    skull_mm = skull_thickness_mm(build.skull_scale, rng)
    scalp_mm, dense_mm = scalp_thickness_mm(build.scalp_mm, rng)
    skin = np.minimum(out - skull_mm - scalp_mm, skin_mm)  # signed distance to the air, positive outside
    hu = np.full(SHAPE, AIR_HU, np.float32)
    body = skin < 0
    layered = (out - skull_mm < dense_mm) | (skin > -SKIN_MM)
    hu[body] = np.where(layered, rng.uniform(36, 58), rng.uniform(-95, -60))[body]
    soft = parts > 0
    hu[soft & body] = _part_hu(build, rng)[parts[soft & body]]
    vault = (out > -STEP_MM) & (out < skull_mm) & ((parts == Part.NONE) | (parts == Part.SOFT) | (parts == Part.FAT))
    relative = out[vault] / skull_mm[vault]
    spongy = np.clip((0.36 - np.abs(relative - 0.52)) * 6, 0, 1) * np.clip((skull_mm[vault] - 3.5) / 2, 0, 1)
    texture = smooth_noise(rng, 6)
    bone = build.bone_hu + (build.diploe_hu - build.bone_hu + 90 * texture[vault]) * spongy
    xyz = np.stack([np.broadcast_to(line, SHAPE)[vault] for line in axes_mm()], axis=1)
    hu[vault] = bone + (SCAR_HU - bone) * openings(xyz, rng)
    cells = parts == Part.AIR_CELL
    hu[cells] = np.where(texture[cells] > 0.55, build.bone_hu * 0.6, hu[cells])
    _fill_sinuses(hu, build, rng)
    inner = soft_step(out, STEP_MM).ravel()[template.inside]
    flat = hu.ravel()
    flat[template.inside] = brain * inner + np.maximum(flat[template.inside], -85) * (1 - inner)
    return hu


def _part_hu(build: Build, rng: np.random.Generator) -> Floats:
    """Density of each `Part`."""
    hu = np.zeros(len(Part), np.float32)
    muscle = rng.uniform(40, 60)
    hu[[Part.FAT, Part.MUSCLE, Part.SOFT, Part.NERVE]] = -95, muscle, muscle, 35
    hu[[Part.SPONGY, Part.CORTICAL]] = build.diploe_hu * 0.8, build.bone_hu * rng.uniform(0.95, 1.25)
    hu[[Part.AIR_CELL, Part.SINUS]] = -850, AIR_HU
    hu[[Part.GLOBE, Part.LENS]] = rng.uniform(5, 14), rng.uniform(60, 110)
    return hu


def _fill_sinuses(hu: Floats, build: Build, rng: np.random.Generator) -> None:
    """Fluid or swollen mucosa in some air spaces of the face and the mastoids."""
    for centre in ((30, 45, -67), (-30, 45, -67), (0, 10, -37), (54, -44, -50), (-54, -44, -50), (0, 76, -12)):
        if rng.random() < build.sinus_opacity:
            where, norm = ellipsoid(centre, (18, 20, 18))
            block = hu[where]
            level = axes_mm()[1][:, where[1]] < centre[1] + rng.uniform(-12, 20)  # supine: fluid collects posteriorly
            block[(norm < 1.2) & (block < -300) & level] = rng.uniform(5, 40)
