"""The healthy head of a patient: tissue densities in template space, before pose and scanner."""

from dataclasses import dataclass

import numpy as np

from data_prep.phantom.face import Part, face_parts
from data_prep.phantom.painting_grid import SHAPE, STEP_MM, Floats, axes_mm, ellipsoid, smooth_noise, soft_step
from data_prep.phantom.template import Template

AIR_HU = -1000.0


@dataclass(frozen=True)
class Build:
    """Anatomical parameters of one patient, apart from size and pose.

    Attributes:
        atrophy: 0 (young, tight sulci) to 1 (wide sulci and ventricles).
        ventricle_growth_mm: Distance of the ventricles' walls to those of the template, positive outwards.
        grey_hu, white_hu, csf_hu: Mean densities.
        skull_scale: Factor of the skull's thickness.
        bone_hu: Density of compact bone.
        diploe_hu: Density between the tables.
        scalp_mm: Thickness of the scalp.
        sinus_opacity: Probability that a sinus or air cell is filled.
    """

    atrophy: float
    ventricle_growth_mm: float
    grey_hu: float
    white_hu: float
    csf_hu: float
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
        ventricle_growth_mm=float(-0.8 + 3.2 * atrophy + rng.normal(0, 0.8)) + hydrocephalus_mm,
        grey_hu=grey_hu,
        white_hu=grey_hu - float(rng.uniform(4.5, 9)),
        csf_hu=float(rng.uniform(3, 11)),
        skull_scale=float(np.clip(rng.normal(1.0, 0.17), 0.65, 1.5)),
        bone_hu=float(rng.uniform(950, 1500)),
        diploe_hu=float(rng.uniform(350, 800)),
        scalp_mm=float(rng.uniform(3.0, 8.0)),
        sinus_opacity=float(rng.choice([0.0, 0.05, 0.4], p=[0.6, 0.25, 0.15])),
    )


def brain_hu(template: Template, build: Build, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Densities and fluid fractions of the intracranial cavity.

    Returns:
        HU, fluid fraction in sulci and cisterns, fluid fraction in the ventricles; each [N], the voxels
        `template.inside`.
    """
    local = smooth_noise(rng, 45).ravel()[template.inside]
    threshold = 0.56 - 0.24 * build.atrophy - 0.05 * local
    sulci = np.clip((template.csf_in - threshold) / 0.22 + 0.5, 0, 1)
    lateral = np.clip((np.abs(template.xyz_in[:, 0]) - 4) / 6, 0, 1) * np.clip((template.xyz_in[:, 2] + 24) / 12, 0, 1)
    growth = build.ventricle_growth_mm * (0.3 + 0.7 * lateral)
    growth = growth + 0.9 * smooth_noise(rng, 50).ravel()[template.inside]
    ventricles = soft_step(template.ventricle_mm_in - growth, STEP_MM)
    outside = np.clip((template.ventricle_mm_in - growth) / 3, 0, 1)
    sulci = (sulci * outside).astype(np.float32)
    grey = np.clip((template.grey_in - 0.5) * 1.5 + 0.5, 0, 1)
    tissue = build.white_hu + (build.grey_hu - build.white_hu) * grey
    tissue += 1.2 * smooth_noise(rng, 10).ravel()[template.inside] + 1.0 * local
    if build.atrophy > 0.45:  # leukoaraiosis: dark white matter around the ventricles of old patients
        near = np.exp(-np.clip(template.ventricle_mm_in - growth, 0, None) / 6)
        tissue -= (build.atrophy - 0.45) * rng.uniform(4, 22) * near * (1 - grey)
    fluid = np.maximum(sulci, ventricles)
    return (tissue + (build.csf_hu - tissue) * fluid).astype(np.float32), sulci, ventricles


def _skull_thickness_mm(build: Build, rng: np.random.Generator) -> Floats:
    """Thickness of the vault at every voxel [Z, Y, X]: thin at temples and orbits, thick at the brow."""
    x, y, z = axes_mm()
    thin = 2.6 * np.exp(-((((np.abs(x) - 66) / 16) ** 2) + ((y - 5) / 38) ** 2 + ((z + 8) / 28) ** 2))
    thick = 3.0 * np.exp(-(((x / 22) ** 2) + ((y + 104) / 16) ** 2 + ((z + 5) / 22) ** 2))
    brow = 2.0 * np.exp(-((((y - 74) / 14) ** 2) + ((z + 5) / 22) ** 2 + (x / 45) ** 2))
    orbits = 4.6 * np.exp(-((((np.abs(x) - 30) / 22) ** 4) + ((y - 42) / 28) ** 4 + ((z + 23) / 13) ** 4))
    thickness = (5.8 - thin - orbits + thick + brow) * build.skull_scale
    return np.clip(thickness * (1 + 0.08 * smooth_noise(rng, 35)), 1.3, 14).astype(np.float32)


def paint_head(template: Template, build: Build, brain: Floats, rng: np.random.Generator) -> Floats:
    """HU [Z, Y, X] of the whole head in template space: vault, scalp, face and the given brain [N]."""
    out = template.outside_mm
    parts, skin_mm = face_parts()
    skull_mm = _skull_thickness_mm(build, rng)
    x, y, z = axes_mm()
    temple = 9 * np.exp(-((((np.abs(x) - 70) / 16) ** 2) + ((y - 18) / 24) ** 2 + ((z + 22) / 30) ** 2))
    nape = 14 * np.exp(-((((y + 95) / 22) ** 2) + ((z + 58) / 24) ** 2 + (x / 50) ** 2))
    scalp_mm = build.scalp_mm + (temple + nape) * rng.uniform(0.6, 1.2)
    skin = np.minimum(out - skull_mm - scalp_mm, skin_mm)  # signed distance to the air, positive outside
    hu = np.full(SHAPE, AIR_HU, np.float32)
    body = skin < 0
    muscle = (temple + nape > 2.5) & (out - skull_mm < (temple + nape) * 0.9)
    rim = skin > -1.8
    hu[body] = np.where(muscle | rim, 48, -80)[body]
    soft = parts > 0
    hu[soft & body] = _part_hu(build, rng)[parts[soft & body]]
    vault = (out < skull_mm) & ((parts == Part.NONE) | (parts == Part.SOFT) | (parts == Part.FAT))
    relative = out[vault] / skull_mm[vault]
    spongy = np.clip((0.36 - np.abs(relative - 0.52)) * 6, 0, 1) * np.clip((skull_mm[vault] - 3.5) / 2, 0, 1)
    texture = smooth_noise(rng, 6)
    hu[vault] = build.bone_hu + (build.diploe_hu - build.bone_hu + 90 * texture[vault]) * spongy
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
