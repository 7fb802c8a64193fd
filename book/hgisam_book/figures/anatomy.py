"""Anatomy plates: schematic sections of the head with the coverings of the brain, its fluid and the five bleeds.

Curves are computed, in centimeters, from round heads of our own making; no plate is traced from a scan or a book. Axial
sections are seen from below and coronal ones from the front, as on CT: the patient's left is on the right. The five
bleeds have the colours of their subtypes.

Source: textbook anatomy; the proportions are ours, and fluid spaces are wider than in a head.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from hgisam_book.figures.page import SUBTYPE_COLOURS, VIOLET
from hgisam_book.figures.plate import (
    LINE,
    Label,
    Points,
    Sheet,
    bulge,
    curve,
    ellipse,
    folds,
    mirrored,
    open_curve,
    shrunk,
    smooth,
)

Plate = Literal["ventricles", "cisterns", "coronal"]

BONE, FLUID, CORTEX, WHITE, OEDEMA = "#f4f1e8", "#39434f", "#d0cdc9", "#b0adaa", "#767472"  # in the order of CT
FLUID_EDGE = "#8ea0b3"
ROUND = np.linspace(0, 360, 361)
RIGHT = np.linspace(1.5, 178.5, 355)  # from the front midline of an axial plate to the back, on the right of the plate
SULCI = (14, 27, 41, 54, 66, 92, 104, 117, 131, 144, 157, 168)  # degrees
SYLVIAN = 79.0
SUTURES = (43.0, 141.0)  # coronal and lambdoid
EPIDURAL, SUBDURAL = (58.0, 132.0), (22.0, 146.0)  # from, to, at the level of the ventricles
BLEEDS = ("epidural", "intra-<br>parenchymal", "intra-<br>ventricular", "sub-<br>arachnoid", "subdural")


def _hemisphere(
    inset: Points, half: tuple[float, float], medial: float, fold_width: float, sylvian: float = SYLVIAN
) -> Points:
    """Contour of a cerebral hemisphere on the right of an axial plate: folded outside, straight at the midline.

    Args:
        inset: [len(RIGHT)] depth of the surface below that of the head, without folds, cm.
        half: As for `curve`.
        medial: Distance of the inner side from the midline, cm.
        fold_width: Width of a sulcus in degrees; 1 for the cortex, more for the white matter around it.
        sylvian: Angle of the Sylvian fissure, degrees.
    """
    inset = inset + folds(RIGHT, SULCI, 0.75, fold_width) + folds(RIGHT, [sylvian], 1.7, fold_width + 0.4)
    points = curve(RIGHT, inset, half)
    return np.column_stack([points[:, 0].clip(medial), points[:, 1]])


def _skull(sheet: Sheet, outer: Points, inner: Points) -> None:
    sheet.fill(outer, BONE, LINE, 1.5)
    sheet.fill(inner, FLUID, LINE)


def _ventricles() -> go.Figure:
    half, bone, dura, arachnoid, brain = (7.4, 9.3), 0.75, 0.85, 1.05, 1.4
    epidural = bulge(RIGHT, *EPIDURAL, 2.0, 0.8)
    subdural = bulge(RIGHT, *SUBDURAL, 0.85, 0.5)
    colour, sheet = SUBTYPE_COLOURS, Sheet()
    _skull(sheet, curve(ROUND, 0, half), curve(ROUND, bone, half))
    for angle in (*SUTURES, *(360 - angle for angle in SUTURES)):
        sheet.suture(curve(np.full(2, angle), np.array([0, bone]), half))
    for pushed, flip in ((subdural, False), (epidural, True)):
        place: Callable[[Points], Points] = mirrored if flip else np.asarray
        sheet.fill(place(_hemisphere(brain + pushed * 0.97, half, 0.32, 1.1)), CORTEX, FLUID_EDGE)
        sheet.fill(place(_hemisphere(brain + 0.65 + pushed * 0.9, half, 0.85, 3.0)), WHITE)
    sheet.fill(ellipse(0, 0.3, 1.6, 4.0), WHITE)  # corpus callosum, which joins both hemispheres
    _deep_structures(sheet)

    left = curve(RIGHT, dura + epidural, half)  # the dura is peeled off the bone
    sheet.fill(mirrored(np.vstack([curve(RIGHT, bone, half), left[::-1]])[_within(*EPIDURAL)]), colour["epidural"])
    sheet.line(mirrored(left), VIOLET, 3)
    outer, inner = curve(RIGHT, dura, half), curve(RIGHT, arachnoid + subdural, half)
    sheet.fill(np.vstack([outer, inner[::-1]])[_within(*SUBDURAL)], colour["subdural"])
    sheet.line(outer, VIOLET, 3)
    front = np.array([[0, half[1] - dura], [0, 4.5]])
    sheet.line(front, VIOLET, 3)
    sheet.line(front * np.array([1, -1]), VIOLET, 3)
    for end in (1, -1):  # the sinus, before and behind
        sheet.fill(np.array([[-0.5, 8.5], [0.5, 8.5], [0, 7.4]]) * np.array([1, end]), VIOLET)

    blood = (RIGHT > 151) & (RIGHT < 176)
    depth = brain + folds(RIGHT, SULCI, 0.75, 1.1)
    for place in (mirrored, np.asarray):
        sulci = np.vstack([curve(RIGHT, arachnoid, half)[blood], curve(RIGHT, depth, half)[blood][::-1]])
        sheet.fill(place(sulci), colour["subarachnoid"])
    sheet.fill(ellipse(2.9, 0.6, 1.35, 1.85, 12), OEDEMA)
    sheet.fill(ellipse(2.9, 0.6, 0.95, 1.4, 12), colour["intraparenchymal"])

    def on(angle: float, inset: float) -> tuple[float, float]:
        x, y = curve(np.array([angle]), inset, half)[0]
        return float(x), float(y)

    squares = {text: colour[text.replace("<br>", "").replace("-", "")] for text in BLEEDS}
    left_labels: list[Label] = [
        ("frontal<br>bone", on(338, 0.35)),
        ("coronal<br>suture", on(317, 0.4)),
        ("dura, peeled<br>off the bone", on(290, 0.85 + float(epidural[np.searchsorted(RIGHT, 70)]))),
        ("caudate<br>nucleus", (-1.8, 2.5)),
        ("lentiform<br>nucleus", (-3.1, 0.4)),
        ("epidural", on(254, 1.5)),
        ("lambdoid<br>suture", on(219, 0.4)),
        ("sub-<br>arachnoid", on(203, 1.25)),
    ]
    right_labels: list[Label] = [
        ("sagittal<br>sinus", (0.1, 8.1)),
        ("falx", (0, 6.0)),
        ("frontal horn", (1.3, 3.7)),
        ("subdural", on(80, 1.4)),
        ("intra-<br>parenchymal", (3.1, 0.8)),
        ("dark rim<br>of oedema", (3.3, -0.85)),
        ("thalamus", (1.4, -1.4)),
        ("intra-<br>ventricular", (2.7, -5.3)),
    ]
    sheet.label(left_labels, -1, squares)
    sheet.label(right_labels, 1, squares)
    return sheet.finish(
        "Schematic axial section of a head at the level of the lateral ventricles, front at the top. An epidural bleed "
        "is a lens between bone and dura that ends before the coronal and the lambdoid suture. A subdural bleed on the "
        "other side is a long crescent under the dura that crosses the coronal suture. A subarachnoid bleed fills the "
        "sulci at the back, an intraparenchymal one with a dark rim lies in the deep grey matter, an intraventricular "
        "one with a level in the occipital horns. The falx runs in the midline from the sinus inwards."
    )


def _within(first: float, last: float) -> npt.NDArray[np.bool_]:
    """Which points of a collection, there along its outer side and back along its inner one, lie between two angles."""
    there = (first <= RIGHT) & (last >= RIGHT)
    return np.concatenate([there, there[::-1]])


def _deep_structures(sheet: Sheet) -> None:
    """Ventricles and deep grey matter of an axial section; blood lies in the dependent parts of the occipital horns."""
    frontal = smooth([(0.1, 3.2), (0.9, 4.2), (2.3, 5.3), (2.7, 4.5), (1.7, 3.4), (1.1, 2.2), (0.6, 0.9), (0.1, 0.7)])
    occipital = smooth(
        [(1.2, -2.4), (2.5, -2.1), (3.6, -3.6), (3.6, -5.4), (2.6, -7.0), (2.2, -6.0), (2.3, -4.8), (1.9, -3.7)]
    )
    for deep in (
        ellipse(1.75, 2.6, 0.5, 1.0, -28),
        ellipse(3.25, 0.8, 0.85, 1.75, 12),
        ellipse(1.25, -1.0, 0.95, 1.5, 20),
    ):
        sheet.both(deep, CORTEX)
    sheet.both(frontal, FLUID, FLUID_EDGE)
    sheet.both(occipital, FLUID, FLUID_EDGE)
    sheet.both(occipital[occipital[:, 1] < -4.7], SUBTYPE_COLOURS["intraventricular"])
    sheet.both(ellipse(2.5, -3.4, 0.3, 0.6, 35), CORTEX)  # choroid plexus
    sheet.fill(ellipse(0, -0.6, 0.16, 1.5), FLUID, FLUID_EDGE)  # third ventricle


TENTORIUM = open_curve(
    np.array([[1.55, 0.5], [2.5, -0.3], [2.65, -2.2], [2.0, -3.1], [3.6, -4.6], [2.4, -6.9], [0.2, -8.2]])
)  # its cut edge on the right, at the level of the midbrain


def _cisterns() -> go.Figure:
    half, bone, dura = (7.0, 9.0), 0.7, 0.8
    sheet, blood = Sheet(), SUBTYPE_COLOURS["subarachnoid"]
    _skull(sheet, curve(ROUND, 0, half), curve(ROUND, bone, half))
    _lobes_and_cerebellum(sheet, half)
    _basal_cisterns(sheet, blood)
    sheet.line(np.array([[0, half[1] - dura], [0, 3.6]]), VIOLET, 3)  # falx
    midbrain = smooth([(0, -0.55), (0.5, 0.25), (1.35, 0.1), (1.75, -0.9), (1.4, -2.1), (0.65, -2.75), (0, -2.5)])
    sheet.both(midbrain, WHITE, FLUID_EDGE)
    sheet.fill(ellipse(0, -1.5, 0.35, 1.1), WHITE)
    sheet.fill(ellipse(0, -2.05, 0.13, 0.16), FLUID)  # aqueduct
    for place in (np.asarray, mirrored):
        sheet.line(place(TENTORIUM), FLUID, 7)
    sheet.line(TENTORIUM, VIOLET, 3)
    sheet.line(mirrored(TENTORIUM), VIOLET, 3)
    sheet.line(curve(ROUND, dura, half), VIOLET, 3)
    sheet.fill(np.array([[-0.6, -8.2], [0.6, -8.2], [0, -7.5]]), VIOLET)
    squares = {"blood in the<br>same cisterns": blood}
    sheet.label(
        [
            ("frontal lobe", (-2.2, 5.4)),
            ("Sylvian<br>cistern", (-4.4, 2.95)),
            ("temporal<br>lobe", (-4.6, 0.3)),
            ("temporal<br>horn", (-3.4, -0.2)),
            ("ambient<br>cistern", (-2.0, -1.6)),
            ("quadrigem-<br>inal cistern", (-0.8, -3.0)),
            ("tentorium,<br>cut edge", (-3.1, -4.7)),
            ("occipital<br>lobe", (-3.4, -6.3)),
        ],
        -1,
        squares,
    )
    sheet.label(
        [
            ("falx", (0, 6.2)),
            ("suprasellar<br>cistern", (-0.6, 1.6)),
            ("blood in the<br>same cisterns", (1.0, 1.5)),
            ("interpedun-<br>cular cistern", (0, -0.3)),
            ("midbrain", (1.0, -1.3)),
            ("aqueduct", (0, -2.05)),
            ("cerebellum", (0.9, -5.6)),
            ("confluence<br>of sinuses", (0.1, -7.9)),
        ],
        1,
        squares,
    )
    return sheet.finish(
        "Schematic axial section at the level of the midbrain, front at the top. Dark fluid fills the basal cisterns "
        "on the left of the plate: the star-shaped suprasellar cistern in the middle, the Sylvian cistern between "
        "frontal and temporal lobe, the ambient cistern around the midbrain, the quadrigeminal cistern behind it. On "
        "the right a subarachnoid bleed fills the same cisterns. The cut edges of the tentorium run from beside the "
        "midbrain backwards around the cerebellum."
    )


def _lobes_and_cerebellum(sheet: Sheet, half: tuple[float, float]) -> None:
    inset = np.full(len(RIGHT), 1.2)
    sheet.both(_hemisphere(inset, half, 0.35, 1.1, 62.0), CORTEX, FLUID_EDGE)
    frontal = [(1.1, 6.6), (2.4, 6.0), (4.0, 4.3), (3.4, 3.5), (1.6, 3.5), (0.9, 4.2)]
    temporal = [(2.3, 1.7), (4.4, 2.0), (5.0, 0.0), (4.8, -3.2), (3.6, -5.2), (2.9, -6.0), (3.6, -3.6), (3.0, -1.4)]
    for lobe in (frontal, temporal):
        sheet.both(smooth(lobe), WHITE)
    sheet.both(smooth([(2.9, 0.9), (3.5, 1.2), (3.7, -0.9), (3.4, -1.6)]), FLUID, FLUID_EDGE)  # temporal horn
    behind = np.vstack([TENTORIUM[TENTORIUM[:, 1] < -2.7], mirrored(TENTORIUM[TENTORIUM[:, 1] < -2.7])[::-1]])
    sheet.fill(behind, FLUID)
    cerebellum = smooth([(-1.7, -3.3), (1.7, -3.3), (3.2, -4.6), (1.9, -6.9), (0, -7.9), (-1.9, -6.9), (-3.2, -4.6)])
    sheet.fill(cerebellum, CORTEX, FLUID_EDGE)
    for depth in (-4.3, -5.0, -5.7, -6.4):
        sheet.line(np.array([[-1.4, depth], [0, depth + 0.25], [1.4, depth]]), WHITE, 2)


def _basal_cisterns(sheet: Sheet, blood: str) -> None:
    """Cisterns with fluid on the left of the plate, and with blood on the right."""
    star = np.array([[0, 3.3], [0.3, 2.75], [2.0, 2.7], [1.1, 1.6], [1.6, 0.5], [1.9, -0.3], [0.8, 0.2], [0, -0.75]])
    sylvian = smooth([(1.2, 2.7), (3.2, 2.8), (4.6, 3.2), (5.7, 3.35), (4.8, 2.7), (3.2, 2.3), (1.3, 2.3)])
    around = np.deg2rad(np.linspace(40, 160, 31))  # of the midbrain
    ambient = np.vstack(
        [
            np.column_stack([2.3 * np.sin(around), -1.4 + 2.0 * np.cos(around)]),
            np.column_stack([1.7 * np.sin(around), -1.4 + 1.5 * np.cos(around)])[::-1],
        ]
    )
    plate = smooth([(0, -2.55), (0.6, -2.7), (1.4, -2.5), (1.6, -2.9), (0.8, -3.4), (0, -3.5)])
    fissure = np.array([[0, 7.9], [0.3, 7.9], [0.3, 2.8], [0, 2.5]])
    for cistern in (fissure, star, sylvian, ambient, plate):
        sheet.fill(mirrored(cistern), FLUID)
        sheet.fill(cistern, blood)


CORONAL = (7.2, 8.2)  # half the width and half the height of the head, cm
DURA, ARACHNOID, PIA = 0.88, 1.35, 1.75  # insets in the coronal section, cm
CORONAL_EPIDURAL, CORONAL_SUBDURAL = (28.0, 84.0), (10.0, 96.0)  # degrees from the vertex
CORONAL_SULCI = folds(RIGHT, (12, 25, 38, 52, 64), 0.7, 1.3) + folds(RIGHT, [77], 2.4, 1.6)
TENT = open_curve(np.array([[5.85, -1.85], [4.2, -1.0], [2.6, 0.2], [1.7, 1.2]]))
VAULT = RIGHT < 111  # from the vertex to where the tentorium is attached


def _coronal_curve(angles: Points, inset: Points | float) -> Points:
    """As `curve`, for the head from the front, which is lower below its middle than above."""
    across, up = curve(angles, inset, CORONAL).T
    return np.column_stack([across, up * np.where(up < 0, 7.0 / CORONAL[1], 1) + 0.9])


def _coronal() -> go.Figure:
    sheet, colour = Sheet(), SUBTYPE_COLOURS
    _skull(sheet, _coronal_curve(ROUND, 0), _coronal_curve(ROUND, 0.75))
    sheet.fill(np.array([[-1.2, -5.0], [1.2, -5.0], [1.2, -6.3], [-1.2, -6.3]]), FLUID)  # foramen magnum
    sheet.both(smooth([(6.3, -1.5), (5.6, -1.5), (4.7, -2.2), (4.5, -3.1), (4.6, -3.9), (5.6, -3.6)]), BONE)  # petrous
    epidural, subdural = bulge(RIGHT, *CORONAL_EPIDURAL, 1.5, 0.8), bulge(RIGHT, *CORONAL_SUBDURAL, 0.75, 0.5)
    for pushed, place in ((subdural, np.asarray), (epidural, mirrored)):
        for contour, shade in _coronal_hemisphere(pushed):
            sheet.fill(place(contour), shade, FLUID_EDGE if shade == CORTEX else None)
    _coronal_midline(sheet)
    _coronal_coverings(sheet, epidural, subdural)

    def on(angle: float, inset: float) -> tuple[float, float]:
        x, y = _coronal_curve(np.array([angle]), inset)[0]
        return float(x), float(y)

    squares = {text: colour[text.replace("<br>", "").replace("-", "")] for text in BLEEDS}
    sheet.label(
        [
            ("sagittal<br>suture", (0, 8.7)),
            ("dura", on(348, DURA)),
            ("epidural", on(304, 1.5)),
            ("sub-<br>arachnoid", on(283, 3.2)),
            ("tentorium", (-3.3, -0.3)),
            ("petrous<br>bone", (-5.3, -2.6)),
            ("cerebellum", (-2.7, -2.8)),
        ],
        -1,
        squares,
    )
    sheet.label(
        [
            ("sagittal<br>sinus", (0.1, 7.9)),
            ("falx", (0, 6.2)),
            ("subdural", on(58, 1.5)),
            ("arachnoid", on(60, ARACHNOID + 0.75)),
            ("lateral<br>ventricle", (1.4, 3.5)),
            ("on the<br>tentorium", (3.3, 0.0)),
            ("ambient<br>cistern", (1.42, 0.6)),
            ("brain stem", (0.3, -1.8)),
        ],
        1,
        squares | {"on the<br>tentorium": colour["subdural"]},
    )
    return sheet.finish(
        "Schematic coronal section of a head through the brain stem. From outside inwards: bone, dura, arachnoid, the "
        "subarachnoid space with its fluid, brain. The falx hangs from the sagittal sinus between the hemispheres, the "
        "tentorium rises from both petrous bones between cerebrum and cerebellum and leaves an opening for the brain "
        "stem. An epidural bleed lies between bone and dura, a subdural one between dura and arachnoid along the "
        "convexity and on the tentorium, a subarachnoid one in the Sylvian fissure."
    )


def _coronal_hemisphere(pushed: Points) -> list[tuple[Points, str]]:
    """Cortex and white matter of a hemisphere above the tentorium, `pushed` [len(RIGHT)] cm inwards by blood."""
    found = []
    for inset, medial, inner, rise, shade in (
        (PIA + CORONAL_SULCI, 0.4, 0.0, 0.25, CORTEX),
        (PIA + 0.65 + 0.8 * CORONAL_SULCI, 0.95, 0.3, 0.75, WHITE),
    ):
        outside = _coronal_curve(RIGHT, inset + pushed)[VAULT]
        outside[:, 0] = outside[:, 0].clip(medial)
        inside = np.array([[1.9, 1.3], [medial, 1.9]]) + np.array([inner, rise])
        found.append((np.vstack([outside, (TENT + np.array([-0.1, rise]))[:-1], inside]), shade))
    return found


def _coronal_midline(sheet: Sheet) -> None:
    """Corpus callosum, ventricles, thalamus, brain stem and cerebellum."""
    sheet.fill(ellipse(0, 2.9, 1.7, 1.6), WHITE)
    sheet.fill(smooth([(-1.7, 4.3), (0, 3.95), (1.7, 4.3), (1.7, 3.75), (0, 3.45), (-1.7, 3.75)]), WHITE, CORTEX)
    sheet.both(smooth([(0.1, 3.5), (1.5, 4.0), (2.2, 3.6), (1.6, 3.1), (0.6, 2.7), (0.1, 2.8)]), FLUID, FLUID_EDGE)
    sheet.both(ellipse(1.0, 2.0, 0.8, 0.75), CORTEX)  # thalamus
    sheet.fill(ellipse(0, 1.95, 0.15, 0.75), FLUID, FLUID_EDGE)  # third ventricle
    sheet.both(ellipse(3.6, 0.55, 0.5, 0.22, 30), FLUID, FLUID_EDGE)  # temporal horn
    side = [(1.0, 1.4), (1.1, 0.2), (1.7, -0.8), (1.6, -2.2), (0.9, -3.2), (0.65, -4.6), (0.6, -6.3)]
    sheet.fill(smooth(side + [(-x, y) for x, y in reversed(side)]), WHITE, FLUID_EDGE)  # midbrain, pons, medulla
    lobe = smooth(
        [
            (1.5, 0.0),
            (2.6, -0.4),
            (4.4, -1.7),
            (4.4, -3.3),
            (3.4, -4.6),
            (1.8, -4.9),
            (1.0, -4.0),
            (1.9, -2.6),
            (2.0, -1.2),
        ]
    )
    sheet.both(lobe, CORTEX, FLUID_EDGE)
    sheet.both(shrunk(lobe, 0.5), WHITE)


def _coronal_coverings(sheet: Sheet, epidural: Points, subdural: Points) -> None:
    """Arachnoid, dura with its folds, the sagittal sinus, and the bleeds between them.

    Args:
        sheet: The plate.
        epidural: [len(RIGHT)] thickness of the bleed on the left of the plate, cm.
        subdural: The same on the right.
    """
    colour = SUBTYPE_COLOURS
    dura, peeled = _coronal_curve(RIGHT, DURA), mirrored(_coronal_curve(RIGHT, DURA + epidural))
    sheet.line(_coronal_curve(RIGHT, ARACHNOID + subdural)[VAULT], FLUID_EDGE, 2)
    sheet.line(mirrored(_coronal_curve(RIGHT, ARACHNOID + epidural))[VAULT], FLUID_EDGE, 2)
    lens = np.vstack([mirrored(_coronal_curve(RIGHT, 0.75)), peeled[::-1]])[_within(*CORONAL_EPIDURAL)]
    sheet.fill(lens, colour["epidural"])
    inner = _coronal_curve(RIGHT, DURA + subdural * (1 + (ARACHNOID - DURA) / subdural.max()))
    sheet.fill(np.vstack([dura, inner[::-1]])[_within(*CORONAL_SUBDURAL)], colour["subdural"])
    sheet.fill(np.vstack([TENT, (TENT + np.array([0.05, 0.55]))[::-1]])[2:-2], colour["subdural"])
    fissure = (RIGHT > 71) & (RIGHT < 83)
    outside, inside = (_coronal_curve(RIGHT, inset + epidural)[fissure] for inset in (ARACHNOID, PIA + CORONAL_SULCI))
    sheet.fill(mirrored(np.vstack([outside, inside[::-1]])), colour["subarachnoid"])
    for covering in (dura[VAULT], peeled[VAULT], TENT, mirrored(TENT), np.array([[0, 8.0], [0, 4.7]])):
        sheet.line(covering, VIOLET, 3)
    sheet.fill(np.array([[-0.6, 8.2], [0.6, 8.2], [0, 7.1]]), VIOLET)
    sheet.suture(np.array([[0, 9.05], [0, 8.35]]))


PLATES: Mapping[Plate, Callable[[], go.Figure]] = {
    "ventricles": _ventricles,
    "cisterns": _cisterns,
    "coronal": _coronal,
}


def anatomy_plate(plate: Plate) -> go.Figure:
    """A schematic section of the head with labels.

    Args:
        plate: "ventricles", an axial section with sutures, falx and the five bleeds; "cisterns", an axial section
            further down with the basal cisterns, empty on one side and filled with blood on the other; "coronal", the
            section with falx, tentorium, and the spaces between bone and brain.
    """
    return PLATES[plate]()
