"""The RSNA 2019 layout: `stage_2_train.csv` with six rows per image, and `stage_2_train/ID_*.dcm`.

Source: Flanders et al. 2020, Radiology: Artificial Intelligence 2(3):e190211.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.dicom import find_series, read_series, volumes_in_series
from data_prep.parallel import Workers
from data_prep.privacy import PublicId
from data_prep.raw_folder import FIX_CSV, Listing, contents, count_and_first, first_names, read_csv, require
from data_prep.volume import Study, Volume
from hgisam.data.labels import LABELS
from hgisam.errors import InputError

NAME = "rsna"
LICENCE = "RSNA 2019 terms: non-commercial research and education, cite, no re-identification"
ANNOTATIONS, MAIN_SPLIT, PUBLIC = None, "train", True
TABLE, FOLDER = "stage_2_train.csv", "stage_2_train"


def tables(raw: str | Path) -> list[Path]:
    """The CSV file of labels.

    Raises:
        InputError: If `raw` has another layout.
    """
    require(raw, [TABLE, f"{FOLDER}/"], "RSNA")
    return [Path(raw) / TABLE]


def images(raw: str | Path) -> list[Path]:
    """All files of the folder of images, sorted, without hidden ones.

    Raises:
        InputError: If there is none.
    """
    folder = Path(raw, FOLDER)
    files = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_file())
    if not files:
        raise InputError(f"{folder}", contents(folder), "ID_*.dcm", "Unpack the images into it.")
    return files


def list_studies(raw: str | Path, workers: Workers, public_id: PublicId) -> Listing:
    """Groups the images into series and adds their labels.

    Raises:
        InputError: If labels contradict each other, or none belongs to an image.
    """
    raw = Path(raw)
    labels, repeated = read_labels(raw / TABLE)
    files = [f"{FOLDER}/{path.name}" for path in images(raw)]
    present = {Path(file).stem for file in files}
    if not any(name in labels.index for name in present):
        raise InputError(
            TABLE, f"labels of {first_names(list(labels.index), 2)}", f"labels of {first_names(sorted(present), 2)}",
            "Give the CSV file of these images.",
        )  # fmt: skip
    found, skipped = find_series(raw, files, workers, public_id)
    unlabelled = [-1] * len(LABELS)
    known = dict(zip(labels.index, labels.to_numpy().tolist(), strict=True))
    studies = [
        Study(
            series.patient,
            series.study,
            series.files,
            np.array([known.get(Path(file).stem, unlabelled) for file in series.files], np.int8),
            fix_intercept=True,
            frames=series.frames,
            patient_known=series.patient_known,
        )
        for series in found
    ]
    missing = [name for name in labels.index if name not in present]
    counts = {"duplicate_label_rows": repeated, "labels_without_image": count_and_first(missing)}
    return Listing(studies, skipped, volumes_in_series(found) | counts, missing)


def read_labels(path: str | Path) -> tuple[pd.DataFrame, int]:
    """Reads the labels of images from the CSV file.

    Returns:
        One row per image (index: image id), columns `LABELS`: 0 or 1, or -1 in all of them if some are missing; and the
        number of duplicate rows.

    Raises:
        InputError: For ids or labels of another form, or labels of one image that contradict each other.
    """
    path = Path(path)
    table = read_csv(path, ["ID", "Label"])
    parts = table["ID"].str.rpartition("_")
    image, kind = parts[0].str.strip(), parts[2].str.strip()
    value = table["Label"].str.strip().replace({"0.0": "0", "1.0": "1"})
    if not (known := kind.isin(LABELS) & (image != "")).all():
        got = repr(table["ID"][~known].iloc[0])
        raise InputError(f"{path.name} column ID", got, f"<image>_<{'|'.join(LABELS)}>", FIX_CSV)
    if not (valid := value.isin(["0", "1"])).all():
        got = f"{value[~valid].iloc[0]!r} for {table['ID'][~valid].iloc[0]}"
        raise InputError(f"{path.name} column Label", got, "0 or 1", FIX_CSV)
    rows = pd.DataFrame({"image": image, "kind": kind, "value": value.astype("int8")})
    unique = rows.drop_duplicates()
    repeated = len(rows) - len(unique)
    if (contradictory := unique.duplicated(["image", "kind"])).any():
        names = sorted(set(unique["image"][contradictory]))
        got = f"0 and 1 for the same label of {first_names(names)}"
        raise InputError(path.name, got, "one value", FIX_CSV)
    wide = unique.pivot(index="image", columns="kind", values="value").reindex(columns=list(LABELS))
    subtypes = wide[list(LABELS[1:])].max(axis=1)
    if (contradictory := (wide["any"] == 0) & (subtypes == 1)).any():
        got = f"any = 0 with a subtype = 1 for {first_names(sorted(wide.index[contradictory]))}"
        raise InputError(path.name, got, "any = 1 where a subtype is 1", FIX_CSV)
    wide[wide.isna().any(axis=1)] = -1
    return wide.astype("int8"), repeated


def read_study(raw: str | Path, study: Study) -> Volume:
    """Reads the images of one series; see `read_series`."""
    return read_series(raw, study)
