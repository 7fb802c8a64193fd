"""Figures of detection: operating points, score bins, tables as heat maps, sensitivity by size."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hgisam.data.labels import SUBTYPES
from hgisam_book import figures
from hgisam_book.studies.error_analysis import NO_BLEEDING, PREDICTED_BLEEDING, PREDICTED_NEGATIVE


def alt_of(figure: go.Figure) -> str:
    return str(figure.layout.meta["alt"])


def cells(figure: go.Figure) -> dict[tuple[str, str], tuple[float, str]]:
    """(row, column) → shade and text of a heat map."""
    (trace,) = figure.data
    return {
        (row, column): (trace.z[i][j], trace.text[i][j])
        for i, row in enumerate(trace.y)
        for j, column in enumerate(trace.x)
    }


def test_roc_marks_the_operating_point() -> None:
    labels, scores = [0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9]
    figure = figures.roc({"x": (labels, scores)}, thresholds={"x": 0.5})
    point = next(trace for trace in figure.data if trace.name == "operating point")
    assert (point.x[0], point.y[0]) == (0.5, 0.5)
    assert "0.750" in alt_of(figure)


def test_slices_of_one_class_have_scores_and_no_roc_curve() -> None:
    for label in (0, 1):
        figure = figures.roc({"x": ([label, label], [0.1, 0.6])}, thresholds={"x": 0.5})
        assert [trace.name for trace in figure.data] == ["chance"]
        assert "x none, since all slices are of one class" in alt_of(figure)
    figure = figures.score_histogram([0, 0], [0.1, 0.6], 0.5)
    assert "none of the bleeding slices and 50% of the others" in alt_of(figure)
    assert "bins. Expected calibration error: 0.35" in alt_of(figures.calibration([0, 0], [0.1, 0.6]))


def test_score_histogram_states_shares_above_the_threshold() -> None:
    figure = figures.score_histogram([0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.4, 0.9], 0.5)
    assert "50% of the bleeding slices and 25% of the others" in alt_of(figure)


def test_calibration_states_the_expected_calibration_error() -> None:
    figure = figures.calibration([0, 1, 1, 1], [0.5, 0.5, 1.0, 1.0], groups=2)
    line = next(trace for trace in figure.data if trace.name == "classifier")
    assert (list(line.x), list(line.y)) == ([0.5, 1.0], [0.5, 1.0])
    assert "2 bins. Expected calibration error: 0.00" in alt_of(figure)


def test_confusion_by_type_shows_counts_and_shares_of_the_row() -> None:
    counts = {PREDICTED_BLEEDING: [1, 6, 0], PREDICTED_NEGATIVE: [3, 0, 0]}
    table = pd.DataFrame(counts, index=[NO_BLEEDING, "subdural", "epidural"])
    figure = figures.confusion_by_type(table)
    shown = cells(figure)
    assert shown["no bleeding<br>n = 4", PREDICTED_BLEEDING] == (0.25, "1 · 25%")
    assert shown["subdural<br>n = 6", PREDICTED_NEGATIVE] == (0, "0 · 0%")
    shade, text = shown["epidural<br>n = 0", PREDICTED_BLEEDING]
    assert np.isnan(shade)
    assert text == ""
    assert alt_of(figure).endswith(f"Share {PREDICTED_BLEEDING}: no bleeding 25% of 4, subdural 100% of 6.")


def test_predicted_types_shows_the_share_of_each_type_and_how_many_slices() -> None:
    shares = pd.DataFrame(np.eye(6, 5) / 2, index=[*SUBTYPES, NO_BLEEDING], columns=list(SUBTYPES))
    shares.loc["epidural"] = np.nan
    shares.insert(0, "slices", [0, 2, 2, 2, 2, 9])
    figure = figures.predicted_types(shares)
    shown = cells(figure)
    assert shown["subdural<br>n = 2", "subdural"] == (0.5, "50%")
    assert shown["no bleeding<br>n = 9", "epidural"] == (0, "0%")
    assert shown["epidural<br>n = 0", "subdural"][1] == ""
    assert "Correctly predicted: intraparenchymal 50%" in alt_of(figure)


def test_sensitivity_by_size_keeps_the_line_of_an_empty_group() -> None:
    nothing: dict[str, Any] = {"n": 0, "patients": 0, "mean": np.nan, "low": np.nan, "high": np.nan}
    some = {"n": 4, "patients": 2, "mean": 0.75, "low": 0.25, "high": 1.0}
    table = pd.DataFrame.from_dict({"< 1 ml": nothing, "≥ 1 ml": some}, orient="index")
    figure = figures.sensitivity_by_size(table, what="scans")
    (points,) = figure.data
    assert (list(points.x), list(points.y)) == ([0.75], [1])
    assert (points.error_x.array[0], points.error_x.arrayminus[0]) == (0.25, 0.5)
    assert list(figure.layout.yaxis.ticktext) == ["< 1 ml (n = 0)", "≥ 1 ml (n = 4)"]
    assert "bleeding scans" in alt_of(figure)
    assert alt_of(figure).endswith(": ≥ 1 ml (n = 4): 75%.")
