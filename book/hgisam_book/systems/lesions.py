"""Scores of lesions: the published rule, whose Dice leaves out misses, beside Dice over all lesions."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hgisam.evaluation.metrics import dice

Bools = npt.NDArray[np.bool_]
SMALLEST_VOXELS = 10  # of a predicted component that counts in the published rule
TOUCHING = np.ones((3, 3, 3))  # voxels that share a corner belong to one lesion


def lesion_scores(scans: Iterable[tuple[Bools, Bools]]) -> dict[str, float | None]:
    """Dice, sensitivity and false positives of the lesions of some scans.

    Args:
        scans: Predicted mask and true mask of each, [slice, row, col].

    Returns:
        `dice_all`: of every true lesion and the predicted components that touch it, 0 for a miss, averaged over all
        lesions. By the published rule, a predicted component of `SMALLEST_VOXELS` or more is a hit if its centre of
        mass lies in a true lesion: `dice_hits` of hits and their lesions, averaged over hits; `sensitivity`, share of
        the lesions with a hit; `false_positives`, other such components per scan. None where there is nothing to
        average.

    Source: the evaluation of FocalSegNet (Rasoulian et al., arXiv 2308.03001) in its authors' code, where misses don't
        enter Dice. A crescent is a miss by that rule, however well it is segmented: its centre lies outside of it.
        `dice_all` is ours.
    """
    of_lesions: list[float] = []
    of_hits: list[float] = []
    detected: list[bool] = []
    false_positives = count = 0
    for predicted, truth in scans:
        count += 1
        lesions, n_lesions = ndimage.label(truth, TOUCHING)
        components, n_components = ndimage.label(predicted, TOUCHING)
        both = np.zeros((n_components + 1, n_lesions + 1), np.int64)  # voxels of each pair; 0 is background
        np.add.at(both, (components.ravel(), lesions.ravel()), 1)
        of_component, of_lesion = both.sum(axis=1), both.sum(axis=0)
        for lesion in range(1, n_lesions + 1):
            touching = np.flatnonzero(both[1:, lesion]) + 1
            of_lesions.append(dice(both[touching, lesion].sum(), of_component[touching].sum(), of_lesion[lesion]))
        hit: set[int] = set()
        for component in np.flatnonzero(of_component[1:] >= SMALLEST_VOXELS) + 1:
            centre = np.rint(ndimage.center_of_mass(components == component)).astype(int)
            if lesion := int(lesions[tuple(centre)]):
                of_hits.append(dice(both[component, lesion], of_component[component], of_lesion[lesion]))
                hit.add(lesion)
            else:
                false_positives += 1
        detected += [lesion in hit for lesion in range(1, n_lesions + 1)]
    return {
        "dice_all": _mean(of_lesions),
        "dice_hits": _mean(of_hits),
        "sensitivity": _mean(detected),
        "false_positives": false_positives / count if count else None,
    }


def _mean(values: list[float] | list[bool]) -> float | None:
    return float(np.mean(values)) if values else None
