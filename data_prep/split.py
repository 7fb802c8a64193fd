"""Who trains, who validates, who tests: patients, never slices."""

import numpy as np
import numpy.typing as npt

from hgisam.errors import InputError


def split_patients(
    bleeds: dict[str, bool], *, rest: str, validation_fraction: float, folds: int, seed: int
) -> dict[str, tuple[str, int]]:
    """Deals patients into splits and folds, each class evenly.

    Args:
        bleeds: Patient → whether any slice of the patient bleeds.
        rest: "train" or "test", the split of those who don't validate.
        validation_fraction: Share of the patients of each class that validate; never all of a class, and one of a class
            that has at least two.
        folds: Number of cross-validation folds.
        seed: Same seed, same split, whatever the order of `bleeds`.

    Returns:
        Patient → (split, fold).

    Raises:
        InputError: If fewer than two patients are left to train and validate on.
    """
    rng = np.random.default_rng(seed)
    classes = [
        rng.permutation(np.array(sorted(p for p in bleeds if bleeds[p] is value), dtype=object))
        for value in (True, False)
    ]
    if len(bleeds) < 2:
        if rest == "train":
            raise InputError(
                "training set",
                f"{len(bleeds)} patient",
                "at least two patients",
                "Add studies, so that one can validate.",
            )
        return dict.fromkeys(bleeds, (rest, 0))
    validating = {str(p) for group in classes for p in group[: _share(len(group), validation_fraction)]}
    if not validating:  # one of each class
        validating = {str(classes[1][0])}
    dealt: npt.NDArray[np.object_] = np.concatenate(classes)
    return {
        str(patient): ("val" if patient in validating else rest, position % folds)
        for position, patient in enumerate(dealt)
    }


def _share(count: int, fraction: float) -> int:
    return min(max(round(count * fraction), 1), count - 1) if count > 1 else 0
