"""Patient-wise split into training, validation and test, stratified by subtype of the bleed.

The stratified splitters of scikit-learn refuse a stratum of one patient, and may leave a small one out of the
validation split altogether.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from hgisam.data.labels import SUBTYPES
from hgisam.data.prepared import SPLITS
from hgisam.errors import InputError

NO_BLEED = "none"


def split_patients(
    labels: pd.DataFrame, *, main_split: str, validation_fraction: float, folds: int, seed: int
) -> dict[str, tuple[str, int]]:
    """Assigns patients to splits and cross-validation folds, stratified by subtype.

    Args:
        labels: One row per patient (index), columns `LABELS`: 1 if any slice of the patient has the label.
        main_split: "train" or "test", the split of all patients who are not in the validation split.
        validation_fraction: Fraction of each stratum in the validation split; at least one patient of a stratum of two
            or more, and never a whole stratum.
        folds: Number of cross-validation folds.
        seed: Same seed, same split, whatever the order of `labels`.

    Returns:
        Patient → (split, fold).

    Raises:
        InputError: If a training set has fewer than two patients.
    """
    if len(labels) < 2:
        if main_split == "train":
            got, remedy = f"{len(labels)} patient", "Add studies of another patient, for validation."
            raise InputError("training set", got, "at least two patients", remedy)
        return {str(patient): (main_split, 0) for patient in labels.index}
    rng = np.random.default_rng(seed)
    strata = strata_of(labels.sort_index(), min_patients=int(np.ceil(1 / validation_fraction)))
    shuffled = [[str(patient) for patient in rng.permutation(group.index)] for _, group in strata.groupby(strata)]
    validation = {patient for group in shuffled for patient in group[: _count_of(len(group), validation_fraction)]}
    if not validation:  # each stratum has one patient; one without a bleed is the lesser loss
        validation = {str(strata.index[int(np.argmax(strata == NO_BLEED))])}
    return {
        patient: ("val" if patient in validation else main_split, position % folds)
        for position, patient in enumerate(patient for group in shuffled for patient in group)
    }


def read_splits(path: str | Path, patients: Collection[str]) -> tuple[dict[str, tuple[str, int]], int]:
    """Reads a given split, in place of `split_patients`.

    Args:
        path: CSV file with the columns patient, split ("train", "val" or "test") and fold (0, 1, …), among others; the
            rows of a patient agree.
        patients: Who must be in it.

    Returns:
        Patient → (split, fold), and the number of patients of the file that are not among `patients`.

    Raises:
        InputError: If the file cannot be read, lacks a column or one of the patients, or breaks these rules.
    """
    what, remedy = f"splits {path}", "Give a CSV file with the columns patient, split and fold."
    try:
        table = pd.read_csv(path, dtype={"patient": str, "split": str})[["patient", "split", "fold"]].drop_duplicates()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(what, f"unreadable ({str(error).strip()})", "a table of patients", remedy) from None
    if bad := sorted(set(table["split"].astype(str)) - set(SPLITS)):
        raise InputError(what, f"split {bad[0]}", " or ".join(SPLITS), remedy)
    if not pd.api.types.is_integer_dtype(table["fold"]) or (table["fold"] < 0).any():
        raise InputError(what, "folds that are no numbers of folds", "0, 1, …", remedy)
    if table["patient"].duplicated().any():
        twice = table["patient"][table["patient"].duplicated()].iloc[0]
        raise InputError(what, f"patient {twice} in two splits or folds", "one of each for a patient", remedy)
    given = {
        str(patient): (str(split), int(fold))
        for patient, split, fold in table.to_numpy(dtype=object, na_value="").tolist()
    }
    if missing := sorted(set(patients) - given.keys()):
        got = f"none of {len(missing)} patients, e.g. {missing[0]}"
        raise InputError(what, got, "every patient of the studies", "Add them, or leave the file out.")
    return given, len(given.keys() - set(patients))


def strata_of(labels: pd.DataFrame, *, min_patients: int) -> pd.Series:
    """Stratum of each patient: the rarest of its subtypes.

    Args:
        labels: One row per patient, columns `LABELS`.
        min_patients: A stratum of fewer patients joins "any", as do bleeds whose subtype is not annotated.

    Returns:
        One of `SUBTYPES`, "any" or "none" per patient.
    """
    present = labels[list(SUBTYPES)] == 1
    rarest = present.mul(1 / present.sum().clip(lower=1)).idxmax(axis=1)
    strata = rarest.where(present.any(axis=1), "any")
    strata = strata.where(strata.map(strata.value_counts()) >= min_patients, "any")
    return strata.where(labels["any"] == 1, NO_BLEED)


def _count_of(count: int, fraction: float) -> int:
    """Validation patients of a stratum of `count`: at least one and never all, but none of a single patient."""
    return min(max(round(count * fraction), 1), count - 1) if count > 1 else 0
