"""Who trains, who validates, who tests: patients, never slices, each kind of bleed alike in every part.

Patients are dealt like cards, kind by kind. The stratified splitters of scikit-learn refuse a kind that has one
patient, and may leave one that has a few out of the validation altogether.
"""

import numpy as np
import pandas as pd

from hgisam.data.prepared import SUBTYPES
from hgisam.errors import InputError

CLEAR = "none"


def split_patients(
    labels: pd.DataFrame, *, rest: str, validation_fraction: float, folds: int, seed: int
) -> dict[str, tuple[str, int]]:
    """Deals patients into splits and folds, each kind evenly.

    Args:
        labels: One row a patient (index), columns `LABELS`: 1 where any slice of the patient has it.
        rest: "train" or "test", the split of those who don't validate.
        validation_fraction: Share of the patients of each kind that validate; never all of a kind, and one of a kind
            that has at least two.
        folds: Number of cross-validation folds.
        seed: Same seed, same split, whatever the order of `labels`.

    Returns:
        Patient → (split, fold).

    Raises:
        InputError: If fewer than two patients are left to train and validate on.
    """
    if len(labels) < 2:
        if rest == "train":
            got, remedy = f"{len(labels)} patient", "Add studies, so that one can validate."
            raise InputError("training set", got, "at least two patients", remedy)
        return {str(patient): (rest, 0) for patient in labels.index}
    rng = np.random.default_rng(seed)
    kinds = kinds_of(labels.sort_index(), fewest=int(np.ceil(1 / validation_fraction)))
    dealt = [[str(patient) for patient in rng.permutation(group.index)] for _, group in kinds.groupby(kinds)]
    validating = {patient for group in dealt for patient in group[: _share(len(group), validation_fraction)]}
    if not validating:  # one of each kind; one that does not bleed is the lesser loss
        validating = {str(kinds.index[int(np.argmax(kinds == CLEAR))])}
    return {
        patient: ("val" if patient in validating else rest, position % folds)
        for position, patient in enumerate(patient for group in dealt for patient in group)
    }


def kinds_of(labels: pd.DataFrame, *, fewest: int) -> pd.Series:
    """The kind of each patient: the rarest type of bleed that it has.

    Args:
        labels: One row a patient, columns `LABELS`.
        fewest: A kind with fewer patients than this becomes "any", which also holds bleeds of no said type.

    Returns:
        One of `SUBTYPES`, "any" or "none" a patient.
    """
    typed = labels[list(SUBTYPES)] == 1
    rarest = typed.mul(1 / typed.sum().clip(lower=1)).idxmax(axis=1)
    kinds = rarest.where(typed.any(axis=1), "any")
    kinds = kinds.where(kinds.map(kinds.value_counts()) >= fewest, "any")
    return kinds.where(labels["any"] == 1, CLEAR)


def _share(count: int, fraction: float) -> int:
    return min(max(round(count * fraction), 1), count - 1) if count > 1 else 0
