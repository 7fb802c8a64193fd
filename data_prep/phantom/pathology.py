"""What happened to a patient: which bleeds, how large, with which confounders, painted in the right order."""

from collections.abc import Callable

import numpy as np

from data_prep.phantom import bleeds, confounders
from data_prep.phantom.anatomy import Build, brain_hu
from data_prep.phantom.bleeds import CONTUSION_SITES, IPH_SITES, IPH_WEIGHTS
from data_prep.phantom.canvas import EPIDURAL, SUBDURAL, Canvas
from data_prep.phantom.space import Point
from data_prep.phantom.template import load_template

BLEEDING_SHARE = 0.5
STORIES = ("stroke", "subdural", "aneurysm", "epidural", "trauma", "ventricular")
STORY_WEIGHTS = (0.33, 0.22, 0.15, 0.14, 0.11, 0.05)
Painter = Callable[[], None]


def _lognormal(rng: np.random.Generator, median: float, spread: float, low: float, high: float) -> float:
    return float(np.clip(median * np.exp(rng.normal(0, spread)), low, high))


def _clot(canvas: Canvas, rng: np.random.Generator, late: list[Painter], volume_ml: float, site: Point) -> None:
    """Plans an intraparenchymal clot: pushes now, paints once the tissue has moved."""
    spread_mm = 9 if abs(site[0]) > 28 else 3.5  # lobes are large, nuclei are not
    x, y, z = rng.normal(0, spread_mm, 3) + site
    centre = (float(rng.choice((-1, 1)) * x), float(y), float(z))
    bleeds.push_from_clot(canvas, volume_ml, centre, float(rng.uniform(0.35, 0.75)))
    late.append(lambda: bleeds.intraparenchymal(canvas, rng, volume_ml, centre))


def _collection(canvas: Canvas, rng: np.random.Generator, late: list[Painter], kind: int) -> None:
    """Plans an epidural or subdural collection in the same way."""
    if kind == EPIDURAL:
        fraction, thickness_mm, normal = bleeds.epidural_shape(canvas, rng, _lognormal(rng, 30, 0.75, 2.0, 110))
    else:
        fraction, thickness_mm, normal = bleeds.subdural_shape(canvas, rng, _lognormal(rng, 45, 0.75, 3.0, 130))
    bleeds.push_from_side(canvas, thickness_mm, normal)
    late.append(lambda: bleeds.extra_axial(canvas, rng, kind, fraction))


def _thin_subdural(canvas: Canvas, rng: np.random.Generator, late: list[Painter]) -> None:
    shape = bleeds.interhemispheric_shape if rng.random() < 0.6 else bleeds.tentorial_shape
    fraction = shape(canvas, rng, _lognormal(rng, 9, 0.6, 1.5, 30))
    late.append(lambda: bleeds.extra_axial(canvas, rng, SUBDURAL, fraction))


def _contusions(canvas: Canvas, rng: np.random.Generator, late: list[Painter], most: int) -> None:
    for _ in range(int(rng.integers(1, most + 1))):
        site = CONTUSION_SITES[int(rng.integers(len(CONTUSION_SITES)))]
        _clot(canvas, rng, late, _lognormal(rng, 4, 0.9, 0.2, 30), site)


def _bleed(canvas: Canvas, rng: np.random.Generator) -> list[Painter]:
    """Draws one story; fluid-borne blood is painted at once, the rest comes back as painters for after the shift."""
    late: list[Painter] = []
    story = str(rng.choice(STORIES, p=STORY_WEIGHTS))
    if story == "stroke":
        name = str(rng.choice(list(IPH_SITES), p=IPH_WEIGHTS))
        volume_ml = _lognormal(rng, 20, 0.9, 0.4, 90) * (0.3 if name in {"pons", "caudate"} else 1)
        if rng.random() < (0.5 if name in {"thalamus", "caudate", "putamen"} else 0.2):
            bleeds.intraventricular(canvas, rng)
        if rng.random() < 0.15:
            bleeds.subarachnoid(canvas, rng, "convexity")
        _clot(canvas, rng, late, volume_ml, IPH_SITES[name])
    elif story == "aneurysm":
        bleeds.subarachnoid(canvas, rng)
        if rng.random() < 0.4:
            bleeds.subarachnoid(canvas, rng)
        if rng.random() < 0.4:
            bleeds.intraventricular(canvas, rng, "layer")
        if rng.random() < 0.15:
            _clot(canvas, rng, late, _lognormal(rng, 12, 0.7, 0.5, 40), (30, 30, -8))
    elif story == "ventricular":
        bleeds.intraventricular(canvas, rng)
    else:
        if rng.random() < (0.85 if story == "trauma" else 0.3):
            bleeds.subarachnoid(canvas, rng, "convexity" if rng.random() < 0.7 else None)
        if rng.random() < (0.25 if story == "trauma" else 0.05):
            bleeds.intraventricular(canvas, rng, "layer")
        if story == "epidural":
            _collection(canvas, rng, late, EPIDURAL)
        elif story == "subdural" or rng.random() < 0.5:
            for _ in range(2 if rng.random() < 0.12 else 1):
                _collection(canvas, rng, late, SUBDURAL)
        if rng.random() < (0.45 if story in {"trauma", "subdural"} else 0.1):
            _thin_subdural(canvas, rng, late)
        if rng.random() < (0.8 if story == "trauma" else 0.15):
            _contusions(canvas, rng, late, 4 if story == "trauma" else 2)
    return late


def paint_brain(build: Build, volume_scale: float, rng: np.random.Generator) -> Canvas:
    """The contents of one patient's cavity with everything that befell them.

    Args:
        build: How the patient is built.
        volume_scale: A template millilitre in the patient's millilitres.
        rng: Where every choice comes from.
    """
    template = load_template()
    hu, sulci, ventricles = brain_hu(template, build, rng)
    canvas = Canvas(template, build, hu, ventricles, sulci, volume_scale)
    confounders.scars_and_infarcts(canvas, rng)
    confounders.vessels(canvas, rng)
    confounders.calcifications(canvas, rng)
    late = _bleed(canvas, rng) if rng.random() < BLEEDING_SHARE else []
    mass = confounders.meningioma(canvas, rng) if rng.random() < 0.05 else None
    canvas.displace()
    if mass is not None:
        confounders.paint_meningioma(canvas, mass, rng)
    for paint in late:
        paint()
    confounders.dura(canvas, rng)
    if rng.random() < (0.06 if canvas.bleeds else 0.02):
        confounders.drain(canvas, rng)
    confounders.beam_hardening(canvas, rng)
    return canvas
