"""Agreement of the computed brain mask with the true brain, on phantoms."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from data_prep.phantom.patient import PhantomPatient
from data_prep.study import Settings, prepare_volume
from data_prep.volume import Masks, Remarks, Volume


def brain_agreement(patients: Iterable[PhantomPatient], settings: Settings) -> pd.DataFrame:
    """Dice and errors of the brain mask on the prepared grid, one row per patient.

    Args:
        patients: From `make_patient`.
        settings: The prepared grid.

    Returns:
        Columns dice (of brain mask and true brain, over all slices), missed (false negatives as a fraction of the true
        brain), added (false positives as a fraction of the true brain), lesion (pixels of bleeds) and lesion_kept
        (those inside the mask).
    """
    rows = []
    for patient in patients:
        arrays, _, statistics = prepare_volume(_volume(patient, patient.mask), settings)
        truth, _, _ = prepare_volume(_volume(patient, patient.brain.astype(np.uint8)), settings)
        predicted, true = arrays["brain"] > 0, truth["mask"] > 0
        both, total = float((predicted & true).sum()), float(true.sum())
        rows.append(
            {
                "dice": 2 * both / (float(predicted.sum()) + total),
                "missed": 1 - both / total,
                "added": (float(predicted.sum()) - both) / total,
                "lesion": statistics["lesion_voxels"],
                "lesion_kept": statistics["lesion_voxels"] - statistics["lesion_voxels_outside_brain"],
            }
        )
    return pd.DataFrame(rows)


def _volume(patient: PhantomPatient, mask: Masks) -> Volume:
    slice_mm, row_mm, col_mm = patient.spacing_mm
    count = len(patient.hu)
    return Volume(
        hu=patient.hu.astype(np.float32), mask=mask, labels=patient.labels.astype(np.int8), row_mm=row_mm,
        col_mm=col_mm, positions_mm=np.arange(count, dtype=np.float64) * float(slice_mm), drift_px=np.zeros((count, 2)),
        source_index=np.arange(count), slice_mm=slice_mm, remarks=Remarks(),
    )  # fmt: skip
