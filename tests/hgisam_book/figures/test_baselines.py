"""Figures of the supervised baselines."""

import pandas as pd
import pytest

from hgisam.errors import InputError
from hgisam_book import figures


def test_fold_curves_ring_the_selected_epoch_of_each_fold() -> None:
    first, second = (pd.DataFrame({"epoch": [1, 2], "val_dice": dice}) for dice in ([0.1, 0.3], [0.4, 0.2]))
    figure = figures.fold_curves({"unet": {0: first, 1: second}, "swin_unetr": {0: second}})
    rings = [trace for trace in figure.data if trace.mode == "markers"]
    assert [(ring.x[0], ring.y[0], ring.xaxis) for ring in rings] == [(2, 0.3, "x"), (1, 0.4, "x"), (1, 0.4, "x2")]
    assert [trace.name for trace in figure.data if trace.showlegend] == ["fold 0 held out", "fold 1 held out"]
    assert [title.text for title in figure.layout.annotations] == ["U-Net", "Swin-UNETR"]
    assert "0.30 in epoch 2, 0.40 in epoch 1" in figure.layout.meta["alt"]
    with pytest.raises(InputError, match="fold 3"):
        figures.fold_curves({"unet": {3: first.drop(columns="val_dice")}})


def test_label_budget_marks_where_the_weakly_supervised_method_is_reached() -> None:
    curve = pd.DataFrame({"scans": [2.0, 8.0], "mean": [0.2, 0.6], "low": [0.1, 0.5], "high": [0.3, 0.7]})
    folds, weak = pd.DataFrame({"scans": [2, 2, 8], "dice": [0.1, 0.3, 0.6]}), {"mean": 0.4, "ci95": [0.35, 0.45]}
    figure = figures.label_budget(curve, folds, weak, 4.0)
    band, line = figure.layout.shapes
    assert (band.y0, band.y1) == (0.35, 0.45)
    assert line.x0 == line.x1 == 4
    assert figure.layout.xaxis.type == "log"
    assert "0.20 from 2, 0.60 from 8. HGI-SAM's 0.40 is reached at 4.0" in figure.layout.meta["alt"]
    never = figures.label_budget(curve, folds, weak, None)
    assert len(never.layout.shapes) == 1
    assert "is not reached" in never.layout.meta["alt"]
