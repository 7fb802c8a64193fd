"""The RSNA 2019 layout: `stage_2_train.csv` with six rows an image, and `stage_2_train/ID_*.dcm`.

Source: Flanders et al. 2020, Radiology: Artificial Intelligence 2(3):e190211.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.dicom import find_series, read_series
from data_prep.inputs import Listing, counted, read_csv, require, some
from data_prep.parallel import Workers
from data_prep.privacy import PublicId
from data_prep.volume import Study, Volume
from hgisam.data.prepared import LABELS
from hgisam.errors import InputError

NAME = "rsna"
LICENCE = "RSNA 2019 terms: non-commercial research and education, cite, no re-identification"
TRUTH, REST, PUBLIC = None, "train", True
TABLE, FOLDER = "stage_2_train.csv", "stage_2_train"


def tables(raw: Path) -> list[Path]:
    """The csv.

    Raises:
        InputError: If `raw` has not this layout.
    """
    require(raw, [TABLE, f"{FOLDER}/"], "RSNA")
    return [raw / TABLE]


def images(raw: Path) -> list[Path]:
    """All DICOM files, sorted.

    Raises:
        InputError: If there is none.
    """
    files = sorted(path for path in (raw / FOLDER).glob("*.dcm") if path.is_file())
    if not files:
        raise InputError(f"{raw / FOLDER}", "no .dcm file", "ID_*.dcm", "Unpack the images into it.")
    return files


def list_studies(raw: Path, workers: Workers, public_id: PublicId) -> Listing:
    """Groups the images into series and gives each its labels.

    Raises:
        InputError: If the csv contradicts itself or no label belongs to any image.
    """
    labels, twice = read_labels(raw / TABLE)
    files = [f"{FOLDER}/{path.name}" for path in images(raw)]
    seen = {Path(file).stem for file in files}
    if not any(name in labels.index for name in seen):
        raise InputError(
            TABLE, f"labels of {some(list(labels.index), 2)}", f"labels of {some(sorted(seen), 2)}",
            "Give the csv that belongs to these images.",
        )  # fmt: skip
    found, skipped = find_series(raw, files, workers, public_id)
    unlabelled = [-1] * len(LABELS)
    known = dict(zip(labels.index, labels.to_numpy().tolist(), strict=True))
    studies = [
        Study(
            patient,
            study,
            members,
            np.array([known.get(Path(m).stem, unlabelled) for m in members], np.int8),
            mend_intercept=True,
        )
        for patient, study, members, _ in found
    ]
    counts = {
        "duplicate_label_rows": twice,
        "labels_without_image": counted([name for name in labels.index if name not in seen]),
    }
    return Listing(studies, skipped, counts)


def read_labels(path: Path) -> tuple[pd.DataFrame, int]:
    """Reads the csv.

    Returns:
        One row an image (index: image id), columns `LABELS`, 0 or 1, -1 in all of them where some are missing; and the
        number of rows that repeat another.

    Raises:
        InputError: For ids or labels of another form, or labels of one image that contradict each other.
    """
    table = read_csv(path, ["ID", "Label"])
    parts = table["ID"].str.rpartition("_")
    image, kind = parts[0].str.strip(), parts[2].str.strip()
    value = table["Label"].str.strip().replace({"0.0": "0", "1.0": "1"})
    if not (known := kind.isin(LABELS) & (image != "")).all():
        got = repr(table["ID"][~known].iloc[0])
        raise InputError(f"{path.name} column ID", got, f"<image>_<{'|'.join(LABELS)}>", "Mend the csv.")
    if not (valid := value.isin(["0", "1"])).all():
        got = f"{value[~valid].iloc[0]!r} for {table['ID'][~valid].iloc[0]}"
        raise InputError(f"{path.name} column Label", got, "0 or 1", "Mend the csv.")
    rows = pd.DataFrame({"image": image, "kind": kind, "value": value.astype("int8")})
    unique = rows.drop_duplicates()
    twice = len(rows) - len(unique)
    if (contrary := unique.duplicated(["image", "kind"])).any():
        names = sorted(set(unique["image"][contrary]))
        raise InputError(f"{path.name}", f"0 and 1 for the same label of {some(names)}", "one value", "Mend the csv.")
    wide = unique.pivot(index="image", columns="kind", values="value").reindex(columns=list(LABELS))
    subtypes = wide[list(LABELS[1:])].max(axis=1)
    if (contrary := (wide["any"] == 0) & (subtypes == 1)).any():
        got = f"any = 0 with a subtype = 1 for {some(sorted(wide.index[contrary]))}"
        raise InputError(f"{path.name}", got, "any = 1 where a subtype is 1", "Mend the csv.")
    wide[wide.isna().any(axis=1)] = -1
    return wide.astype("int8"), twice


def read_study(raw: Path, study: Study) -> Volume:
    """Reads the images of one series; see `read_series`."""
    return read_series(raw, study)
