"""The pathology of a patient: bleeds of a clinical scenario and confounders, painted in the right order."""

from collections.abc import Callable

import numpy as np

from data_prep.phantom import bleeds, confounders
from data_prep.phantom.anatomy import Build, brain_hu
from data_prep.phantom.bleeds import CONTUSION_SITES, IPH_SITES, IPH_WEIGHTS
from data_prep.phantom.canvas import EPIDURAL, SUBDURAL, Canvas
from data_prep.phantom.painting_grid import Point
from data_prep.phantom.template import Template

BLEEDING_FRACTION = 0.5
SCENARIOS = ("stroke", "subdural", "aneurysm", "epidural", "trauma", "ventricular")
SCENARIO_WEIGHTS = (0.33, 0.22, 0.15, 0.14, 0.11, 0.05)
Painter = Callable[[], None]


def _lognormal(rng: np.random.Generator, median: float, spread: float, low: float, high: float) -> float:
    """Samples a log-normal number, clipped to [low, high]."""
    return float(np.clip(median * np.exp(rng.normal(0, spread)), low, high))


def _clot(canvas: Canvas, rng: np.random.Generator, deferred: list[Painter], volume_ml: float, site: Point) -> None:
    """Adds the mass effect of an intraparenchymal clot; appends the painter that runs after the tissue has moved."""
    spread_mm = 9 if abs(site[0]) > 28 else 3.5  # lobes are large, nuclei are small
    x, y, z = rng.normal(0, spread_mm, 3) + site
    centre = (float(rng.choice((-1, 1)) * x), float(y), float(z))
    bleeds.displace_around_clot(canvas, volume_ml, centre, float(rng.uniform(0.35, 0.75)))
    deferred.append(lambda: bleeds.intraparenchymal(canvas, rng, volume_ml, centre))


def _collection(canvas: Canvas, rng: np.random.Generator, deferred: list[Painter], kind: int) -> None:
    """As `_clot`, for an epidural or subdural collection."""
    if kind == EPIDURAL:
        fraction, thickness_mm, normal = bleeds.epidural_shape(canvas, rng, _lognormal(rng, 12, 1.0, 0.8, 110))
    else:
        fraction, thickness_mm, normal = bleeds.subdural_shape(canvas, rng, _lognormal(rng, 20, 1.0, 1.0, 130))
    bleeds.displace_under_collection(canvas, thickness_mm, normal)
    deferred.append(lambda: bleeds.extra_axial(canvas, rng, kind, fraction))


def _thin_subdural(canvas: Canvas, rng: np.random.Generator, deferred: list[Painter]) -> None:
    """Appends the painter of a thin subdural at falx or tentorium, without mass effect."""
    shape = bleeds.interhemispheric_shape if rng.random() < 0.6 else bleeds.tentorial_shape
    fraction = shape(canvas, rng, _lognormal(rng, 6, 0.7, 0.8, 30))
    deferred.append(lambda: bleeds.extra_axial(canvas, rng, SUBDURAL, fraction))


def _contusions(canvas: Canvas, rng: np.random.Generator, deferred: list[Painter], max_count: int) -> None:
    """As `_clot`, for one to `max_count` contusions."""
    for _ in range(int(rng.integers(1, max_count + 1))):
        site = CONTUSION_SITES[int(rng.integers(len(CONTUSION_SITES)))]
        _clot(canvas, rng, deferred, _lognormal(rng, 3, 1.0, 0.2, 30), site)


def _sample_bleeds(canvas: Canvas, rng: np.random.Generator) -> list[Painter]:
    """Samples a scenario; paints blood in fluid at once, and returns painters of the rest for after the shift."""
    deferred: list[Painter] = []
    scenario = str(rng.choice(SCENARIOS, p=SCENARIO_WEIGHTS))
    if scenario == "stroke":
        name = str(rng.choice(list(IPH_SITES), p=IPH_WEIGHTS))
        volume_ml = _lognormal(rng, 10, 1.1, 0.3, 90) * (0.3 if name in {"pons", "caudate"} else 1)
        if rng.random() < (0.5 if name in {"thalamus", "caudate", "putamen"} else 0.2):
            bleeds.intraventricular(canvas, rng)
        if rng.random() < 0.15:
            bleeds.subarachnoid(canvas, rng, "convexity")
        _clot(canvas, rng, deferred, volume_ml, IPH_SITES[name])
    elif scenario == "aneurysm":
        bleeds.subarachnoid(canvas, rng)
        if rng.random() < 0.4:
            bleeds.subarachnoid(canvas, rng)
        if rng.random() < 0.4:
            bleeds.intraventricular(canvas, rng, "layer")
        if rng.random() < 0.15:
            _clot(canvas, rng, deferred, _lognormal(rng, 12, 0.7, 0.5, 40), (30, 30, -8))
    elif scenario == "ventricular":
        bleeds.intraventricular(canvas, rng)
    else:
        if rng.random() < (0.85 if scenario == "trauma" else 0.3):
            bleeds.subarachnoid(canvas, rng, "convexity" if rng.random() < 0.7 else None)
        if rng.random() < (0.25 if scenario == "trauma" else 0.05):
            bleeds.intraventricular(canvas, rng, "layer")
        if scenario == "epidural":
            _collection(canvas, rng, deferred, EPIDURAL)
        elif scenario == "subdural" or rng.random() < 0.5:
            for _ in range(2 if rng.random() < 0.12 else 1):
                _collection(canvas, rng, deferred, SUBDURAL)
        if rng.random() < (0.45 if scenario in {"trauma", "subdural"} else 0.1):
            _thin_subdural(canvas, rng, deferred)
        if rng.random() < (0.8 if scenario == "trauma" else 0.15):
            _contusions(canvas, rng, deferred, 4 if scenario == "trauma" else 2)
    return deferred


def paint_brain(template: Template, build: Build, volume_scale: float, rng: np.random.Generator) -> Canvas:
    """Paints the intracranial cavity of one patient, with bleeds and confounders.

    Args:
        template: With the patient's inner table.
        build: Anatomical parameters of the patient.
        volume_scale: Ratio of the patient's volume to the template's.
        rng: Random generator of all choices.
    """
    hu, sulci, ventricles = brain_hu(template, build, rng)
    canvas = Canvas(template, build, hu, ventricles, sulci, volume_scale)
    confounders.infarcts(canvas, rng)
    confounders.vessels(canvas, rng)
    confounders.calcifications(canvas, rng)
    deferred = _sample_bleeds(canvas, rng) if rng.random() < BLEEDING_FRACTION else []
    mass = confounders.meningioma(canvas, rng) if rng.random() < 0.05 else None
    canvas.displace()
    if mass is not None:
        confounders.paint_meningioma(canvas, mass, rng)
    for paint in deferred:
        paint()
    confounders.dura(canvas, rng)
    if rng.random() < (0.06 if canvas.bleeds else 0.02):
        confounders.ventricular_catheter(canvas, rng)
    return canvas
