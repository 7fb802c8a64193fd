"""Figures of training: learning curves of this run and of recorded trainings, per epoch and in minutes."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from hgisam.errors import InputError
from hgisam_book import figures


def history(**columns: list[float]) -> pd.DataFrame:
    base: dict[str, Any] = {"epoch": [1, 2, 3], "train_loss": [3, 2, 1], "val_loss": [3, 2, 2]}
    base |= {"val_auroc": [0.6, 0.9, 0.8], "learning_rate": [1e-3, 5e-4, 1e-5], "images_per_s": [90, 100, 110]}
    return pd.DataFrame(base | {"seconds": [60, 30, 30]} | columns)


def alt_of(figure: go.Figure) -> str:
    return str(figure.layout.meta["alt"])


def test_training_curves_mark_the_selected_epoch() -> None:
    figure = figures.training_curves(history())
    selected = next(trace for trace in figure.data if trace.name == "selected epoch")
    assert (selected.x[0], selected.y[0]) == (2, 0.9)
    assert "0.900 in epoch 2" in alt_of(figure)
    chosen_by_loss = figures.training_curves(history(), selected=3)
    ring = next(trace for trace in chosen_by_loss.data if trace.name == "selected epoch")
    assert (ring.x[0], ring.y[0]) == (3, 0.8)
    assert "0.800 in epoch 3" in alt_of(chosen_by_loss)


def test_training_curves_show_any_column_each_in_its_own_panel() -> None:
    figure = figures.training_curves(
        history(val_dice=[0.1, 0.2, 0.3]), metric="val_dice", also=("learning_rate", "images_per_s")
    )
    axes = {trace.name: trace.yaxis for trace in figure.data}
    assert axes == {
        "training loss": "y",
        "validation loss": "y",
        "validation Dice": "y2",
        "learning rate": "y3",
        "slices/s": "y4",
        "selected epoch": "y2",
    }
    assert next(trace for trace in figure.data if trace.name == "selected epoch").x[0] == 3
    assert "learning rate, slices/s" in alt_of(figure)


def test_recorded_trainings_are_dashed_and_named_apart() -> None:
    other = history(val_auroc=[0.7, 0.7, 0.95])
    figure = figures.training_curves(history(), recorded={"Swin-B": other, "half": other})
    dashed = [trace for trace in figure.data if trace.name and trace.name.startswith("recorded: ")]
    assert [trace.name for trace in dashed if trace.showlegend] == ["recorded: Swin-B", "recorded: half"]
    assert {trace.line.dash for trace in dashed} == {"dash"}
    own = [trace for trace in figure.data if trace not in dashed and trace.mode != "markers"]
    assert {trace.line.dash for trace in own} == {"solid", "dot"}
    assert dashed[0].line.color != dashed[-1].line.color
    rings = {(trace.x[0], trace.y[0]) for trace in figure.data if trace.mode == "markers"}
    assert rings == {(2, 0.9), (3, 0.95)}
    assert "recorded trainings, best values Swin-B 0.950, half 0.950" in alt_of(figure)


def test_many_recorded_trainings_can_be_told_apart() -> None:
    figure = figures.training_curves(history(), recorded={str(i): history() for i in range(4)})
    lines = {(t.line.color, t.line.dash) for t in figure.data if t.name and t.name.startswith("recorded: ")}
    assert len(lines) == 4


def test_metric_over_time_accumulates_minutes_and_states_the_time_to_target() -> None:
    late = history(val_auroc=[0.5, 0.6, 0.7])
    figure = figures.metric_over_time({"own": history()}, metric="val_auroc", target=0.9, recorded={"late": late})
    own, recorded = figure.data
    assert (own.name, list(own.x), own.line.dash) == ("own", [1.0, 1.5, 2.0], "solid")
    assert (recorded.name, recorded.line.dash) == ("recorded: late", "dash")
    assert alt_of(figure).endswith("Target 0.9 reached: own after 1.5 minutes, recorded: late never.")


def test_a_history_without_the_column_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="history of the training: got no column val_dice"):
        figures.training_curves(history(), metric="val_dice")
    with pytest.raises(InputError, match="history of Swin-B: got no column seconds_per_step"):
        figures.training_curves(
            history(seconds_per_step=[1, 1, 1]), also=("seconds_per_step",), recorded={"Swin-B": history()}
        )
    with pytest.raises(InputError, match="no epoch"):
        figures.metric_over_time({"own": history()[:0]}, metric="val_auroc", target=0.9)
