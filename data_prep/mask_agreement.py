"""How well the brain mask agrees with the truth, on phantoms, whose brain is known."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from data_prep.phantom.patient import PhantomPatient
from data_prep.study import Settings, prepare_volume
from data_prep.volume import Masks, Remarks, Volume


def brain_agreement(patients: Iterable[PhantomPatient], settings: Settings) -> pd.DataFrame:
    """Pixels of the prepared grid, a row a patient.

    Args:
        patients: From `make_patient`.
        settings: The grid.

    Returns:
        Columns dice (of brain mask and true brain, over all slices), missed (share of the true brain outside of the
        mask), added (what the mask holds besides, as a share of the true brain), lesion (true pixels of bleeds) and
        lesion_kept (those inside the mask).
    """
    rows = []
    for patient in patients:
        arrays, _, figures = prepare_volume(_volume(patient, patient.mask), settings)
        truth, _, _ = prepare_volume(_volume(patient, patient.brain.astype(np.uint8)), settings)
        found, true = arrays["brain"] > 0, truth["mask"] > 0
        both, whole = float((found & true).sum()), float(true.sum())
        rows.append(
            {
                "dice": 2 * both / (float(found.sum()) + whole),
                "missed": 1 - both / whole,
                "added": (float(found.sum()) - both) / whole,
                "lesion": figures["lesion_voxels"],
                "lesion_kept": figures["lesion_voxels"] - figures["lesion_voxels_outside_brain"],
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
