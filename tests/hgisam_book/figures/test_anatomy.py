"""Anatomy plates: every structure is named, labels keep apart, and bleeds lie in their own spaces."""

import re

import numpy as np
import pytest

from hgisam.data.labels import SUBTYPES
from hgisam_book import figures
from hgisam_book.figures import anatomy, plate

WORDS = {
    "ventricles": ("dura", "falx", "coronal suture", "lambdoid suture", "frontal horn", *SUBTYPES),
    "cisterns": ("suprasellar cistern", "ambient cistern", "Sylvian cistern", "tentorium", "midbrain"),
    "coronal": ("dura", "arachnoid", "falx", "tentorium", "sagittal suture", "epidural", "subdural"),
}


def words_of(text: str) -> str:
    """Text of a label as a reader reads it."""
    return re.sub(r"-<br>", "", re.sub(r"<span.*?</span> ", "", text)).replace("<br>", " ")


@pytest.mark.parametrize("name", anatomy.PLATES)
def test_a_plate_names_its_structures_in_words_that_keep_apart(name: anatomy.Plate) -> None:
    figure = figures.anatomy_plate(name)
    labels = figure.layout.annotations
    named = " | ".join(words_of(label.text) for label in labels)
    assert not [word for word in WORDS[name] if word not in named]
    assert len(figure.layout.meta["alt"]) > 200
    for anchor in ("left", "right"):
        heights = sorted(label.ay for label in labels if label.xanchor == anchor)
        assert np.diff(heights).min() >= plate.ROW_CM - 1e-9
        assert max(map(abs, heights)) + plate.ROW_CM / 2 <= plate.HALF_HEIGHT_CM


@pytest.mark.parametrize("name", anatomy.PLATES)
def test_a_plate_is_the_same_each_time_and_small(name: anatomy.Plate) -> None:
    html = [figures.page.BookRenderer().to_mimebundle(figures.anatomy_plate(name).to_dict()) for _ in range(2)]
    assert html[0] == html[1]
    assert len(html[0]["text/html"]) < 120_000


def test_an_epidural_bleed_ends_before_the_sutures_and_a_subdural_one_crosses_one() -> None:
    angles = anatomy.RIGHT
    epidural, subdural = (plate.bulge(angles, *at, 1, 1) > 0.01 for at in (anatomy.EPIDURAL, anatomy.SUBDURAL))
    coronal, lambdoid = anatomy.SUTURES
    assert coronal < angles[epidural].min() < angles[epidural].max() < lambdoid
    assert angles[subdural].min() < coronal < angles[subdural].max()


def test_a_curve_keeps_its_inset() -> None:
    around = np.linspace(0, 360, 5)
    assert np.allclose(plate.curve(around, 1.0, (7, 9))[[0, 2], 1], (8, -8))
    assert np.allclose(plate.curve(around, 1.0, (7, 9))[[1, 3], 0], (6, -6))
    assert np.allclose(plate.mirrored(np.array([[1.0, 2.0]])), [[-1, 2]])
