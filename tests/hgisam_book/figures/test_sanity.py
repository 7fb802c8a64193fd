"""Figures of the sanity checks state their values in the alternative text."""

import pandas as pd

from hgisam_book.figures import deletion_insertion_curves, explanation_quality, randomization_steps


def test_steps_of_randomization() -> None:
    rows = [
        {"test": "randomization", "method": method, "at": at, "metric": metric, "mean": mean, "low": mean - 0.1,
         "high": mean + 0.2}
        for method, means in {"hgi_sam": (1.0, 0.25), "swin_sam": (1.0, 0.5)}.items()
        for at, mean in zip(("trained", "head"), means, strict=True)
        for metric in ("spearman", "ssim", "dice")
    ]  # fmt: skip
    figure = randomization_steps(pd.DataFrame(rows))
    assert len(figure.data) == 2 * 3
    assert list(figure.data[0].x) == ["trained", "head"]
    assert list(figure.data[0].y) == [1.0, 0.25]
    assert [round(v, 6) for v in figure.data[0].error_y.array] == [0.2, 0.2]
    assert "“head”, correlation and Dice: HGI-SAM 0.25 and 0.25; Swin-SAM 0.50 and 0.50" in figure.layout.meta["alt"]
    assert [trace.showlegend for trace in figure.data] == [True, False, False] * 2


def test_curves_of_deletion_and_insertion() -> None:
    rows = [
        {"test": test, "method": method, "at": at, "metric": metric, "mean": mean}
        for test in ("deletion", "insertion")
        for method in ("random order", "grad_cam")
        for at, metric, mean in (("0.0000", "score", 0.9), ("1.0000", "score", 0.1), ("all", "auc", 0.4))
    ]
    figure = deletion_insertion_curves(pd.DataFrame(rows))
    assert len(figure.data) == 4
    assert list(figure.data[0].x) == [0.0, 1.0]
    assert list(figure.data[0].y) == [0.9, 0.1]
    assert "random order 0.40 and 0.40; GradCAM 0.40 and 0.40" in figure.layout.meta["alt"]
    assert figure.data[0].line.color != figure.data[2].line.color


def test_dice_against_each_criterion() -> None:
    rows = [
        {"method": method, "metric": metric, "mean": mean}
        for method, mean in (("hgi_sam", 0.4), ("rollout", 0.2))
        for metric in ("Gini index", "sensitivity", "dice")
    ]
    agreement = pd.DataFrame({"spearman": [1.0, -1.0]}, index=["Gini index", "sensitivity"])
    figure = explanation_quality(pd.DataFrame(rows), agreement)
    assert {title.font.size for title in figure.layout.annotations} == {13}  # larger ones are cut off at 390 px
    assert len(figure.data) == 2 * 2
    assert [(trace.x[0], trace.y[0]) for trace in figure.data] == [(0.4, 0.4)] * 2 + [(0.2, 0.2)] * 2
    assert [trace.showlegend for trace in figure.data] == [True, False] * 2
    assert "of 2 methods" in figure.layout.meta["alt"]
    assert "Gini index 1.00; sensitivity -1.00" in figure.layout.meta["alt"]
    assert [each.text for each in figure.layout.annotations] == ["Gini index<br>ρ = 1.00", "sensitivity<br>ρ = -1.00"]
