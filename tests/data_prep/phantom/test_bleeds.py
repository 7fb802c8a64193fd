"""Sites and shapes of each subtype in template space, before the scan."""

import numpy as np
import pytest

from data_prep.phantom import bleeds, confounders
from data_prep.phantom.anatomy import brain_hu, fit_cavity, sample_build
from data_prep.phantom.canvas import (
    EPIDURAL,
    INTRAPARENCHYMAL,
    INTRAVENTRICULAR,
    SUBARACHNOID,
    SUBDURAL,
    Canvas,
    fill_lowest,
)
from data_prep.phantom.painting_grid import STEP_MM
from data_prep.phantom.template import load_template


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def canvas(rng: np.random.Generator) -> Canvas:
    build = sample_build(rng)
    template = fit_cavity(load_template(), build, rng)
    hu, sulci, ventricles = brain_hu(template, build, rng)
    return Canvas(template, build, hu, ventricles, sulci, volume_scale=1.0)


def test_fill_lowest_takes_the_lowest_voxels() -> None:
    field = np.array([5.0, 1.0, 3.0, 9.0, 2.0], np.float32)
    allowed = np.array([True, True, True, True, False])
    fraction, level = fill_lowest(field, allowed, 2)
    assert level == 3.0
    np.testing.assert_allclose(fraction, [0, 1, 0.5, 0, 0])


def test_template_has_plausible_volumes() -> None:
    template = load_template()
    litre = STEP_MM**3 / 1e6
    assert 1.8 < template.inside.size * litre < 2.4  # the template is larger than most heads
    assert 0.012 < (template.ventricle_mm_in < 0).sum() * litre < 0.04
    assert np.isfinite(template.normal_in).all()


def test_tissue_densities(canvas: Canvas) -> None:
    tissue = (canvas.ventricles == 0) & (canvas.sulci == 0)
    grey, white = (tissue & mask for mask in (canvas.template.grey_in > 0.9, canvas.template.grey_in < 0.1))
    assert 34 < np.median(canvas.hu[grey]) < 43
    assert 24 < np.median(canvas.hu[white]) < np.median(canvas.hu[grey]) - 3
    assert 0 < np.median(canvas.hu[canvas.ventricles == 1]) < 14


def test_intraparenchymal_blood_is_in_the_tissue_with_its_volume(canvas: Canvas, rng: np.random.Generator) -> None:
    bleeds.intraparenchymal(canvas, rng, 20.0, (28.0, 0.0, 3.0))
    clot = canvas.blood > 0.5
    assert set(canvas.kind[clot]) == {INTRAPARENCHYMAL}
    assert canvas.bleeds[0]["volume_ml"] == pytest.approx(20, rel=0.15)
    assert canvas.template.depth_in[clot].min() > 2
    assert canvas.ventricles[clot].max() <= 0.5


def test_oedema_is_darker_than_before(canvas: Canvas, rng: np.random.Generator) -> None:
    before = canvas.hu.copy()
    bleeds.intraparenchymal(canvas, rng, 10.0, (35.0, 30.0, 25.0))
    rim = (canvas.blood == 0) & (canvas.distance_mm((35.0, 30.0, 25.0)) < 18) & (canvas.sulci == 0)
    assert (canvas.hu - before)[rim].min() < -2
    assert (canvas.hu - before)[rim].max() <= 1e-3


@pytest.mark.parametrize("mode", ["layer", "cast"])
def test_intraventricular_blood_is_in_the_ventricles(canvas: Canvas, rng: np.random.Generator, mode: str) -> None:
    bleeds.intraventricular(canvas, rng, mode)
    blood = canvas.blood > 0.3
    assert blood.sum() > 10
    assert canvas.ventricles[blood].min() > 0.2
    assert set(canvas.kind[blood]) == {INTRAVENTRICULAR}
    if mode == "layer":
        assert canvas.template.xyz_in[blood, 1].max() < -25


def test_subarachnoid_blood_is_in_sulci_and_mixed(canvas: Canvas, rng: np.random.Generator) -> None:
    bleeds.subarachnoid(canvas, rng, "basal")
    blood = canvas.blood > 0.35
    assert set(canvas.kind[blood]) == {SUBARACHNOID}
    assert canvas.template.csf_in[blood].min() > 0.1
    assert (canvas.ventricles[blood] < 0.7).all()
    assert 30 < canvas.hu[blood].mean() < 70


@pytest.mark.parametrize("kind", [EPIDURAL, SUBDURAL])
def test_extra_axial_collections_touch_the_inner_table(canvas: Canvas, rng: np.random.Generator, kind: int) -> None:
    shape = bleeds.epidural_shape if kind == EPIDURAL else bleeds.subdural_shape
    fraction, thickness_mm, normal = shape(canvas, rng, 30.0)
    assert fraction.sum() * STEP_MM**3 / 1000 == pytest.approx(30, rel=0.15)
    assert np.linalg.norm(normal) == pytest.approx(1, abs=0.05)
    solid = fraction > 0.5
    depth = canvas.template.depth_in[solid]
    assert (depth < 2).mean() > 0.08
    assert depth.max() < (40 if kind == EPIDURAL else 25)
    assert thickness_mm.max() > 2


def test_epidural_is_compact_and_subdural_is_wide(canvas: Canvas, rng: np.random.Generator) -> None:
    def spread_mm(fraction: np.ndarray) -> float:
        return float(canvas.template.xyz_in[fraction > 0.5].std(axis=0).max())

    lens, crescent = bleeds.epidural_shape(canvas, rng, 30.0)[0], bleeds.subdural_shape(canvas, rng, 30.0)[0]
    assert spread_mm(crescent) > 1.3 * spread_mm(lens)


def test_falx_and_tentorium_subdurals_keep_to_their_sheet(canvas: Canvas, rng: np.random.Generator) -> None:
    along_falx = bleeds.interhemispheric_shape(canvas, rng, 6.0) > 0.5
    assert np.abs(canvas.template.xyz_in[along_falx, 0]).max() < 12
    on_tent = bleeds.tentorial_shape(canvas, rng, 6.0) > 0.5
    assert np.abs(canvas.template.tentorium_mm_in[on_tent]).max() < 10


def test_mass_effect_moves_the_midline_away(canvas: Canvas, rng: np.random.Generator) -> None:
    bleeds.displace_around_clot(canvas, 60.0, (40.0, -10.0, 20.0), 0.7)
    midline = (np.abs(canvas.template.xyz_in[:, 0]) < 2) & (np.abs(canvas.template.xyz_in[:, 2] - 20) < 10)
    assert canvas.shift_mm[midline, 0].mean() > 0.5  # tissue there came from the side of the clot
    before = canvas.ventricles.sum()
    canvas.displace()
    assert np.isfinite(canvas.hu).all()
    assert canvas.ventricles.sum() == pytest.approx(before, rel=0.5)


def test_dura_is_dense_but_no_bleed(canvas: Canvas, rng: np.random.Generator) -> None:
    confounders.dura(canvas, rng)
    confounders.calcifications(canvas, rng)
    assert (canvas.hu > 50).sum() * STEP_MM**3 > 1000
    assert not canvas.blood.any()
