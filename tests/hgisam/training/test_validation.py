"""Operating points of a validation."""

import numpy as np
import pandas as pd

from hgisam.data.labels import LABELS
from hgisam.training.validation import label_thresholds, youden_threshold


def test_youden_by_hand() -> None:
    assert youden_threshold(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8])) == 0.8
    assert youden_threshold(np.array([False, True]), np.array([0.2, 0.6])) == 0.6


def test_each_label_with_scores_and_both_classes_has_a_threshold() -> None:
    table = pd.DataFrame(0, index=range(3), columns=[*LABELS]).assign(
        score=[0.1, 0.5, 0.9], score_subdural=[0.3, 0.2, 0.7]
    )
    table["any"], table["subdural"] = [0, 1, 1], [0, 0, 1]
    assert label_thresholds(table) == {"any": 0.5, "subdural": 0.7}
    assert label_thresholds(table.drop(columns="score_subdural")) == {"any": 0.5}
