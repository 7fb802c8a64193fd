"""The weakly labelled cohort of a run: whole, or an excerpt where every network that trains on it is recorded."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from data_prep import write_phantom
from hgisam.config.profile import Profile
from hgisam.data.labels import LABELS
from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.pipeline import OWN
from hgisam.runs.files import read_json
from hgisam.runs.folders import partial_of, whole_file
from hgisam.runs.steps import Run
from hgisam_book.recorded.excerpt import COHORT, read_excerpt, record_of
from hgisam_book.recorded.reuse import recorded_training
from hgisam_book.studies.classifiers import trainings_of_study

SYSTEMS = ("exam_mil", "slice_mil", "resnet_lstm", "resnet_slices", "resnet_lstm_unet")  # that learn from its labels
VARIANTS: Mapping[str, str] = MappingProxyType(  # step → name in `study.trainings`
    {
        "classifiers/shuffled": "shuffled",
        "refined/self_trained": "hgi_sam_refined",
        "price/exam/swin": "exam",
        **{f"price/{name}/network": name for name in SYSTEMS},
    }
)


def weak_trainings(profile: Profile) -> dict[str, Profile]:
    """All trainings on the weakly labelled cohort, or on a set that is made from it: step → profile of the training."""
    variants = {step: profile.variant(name, ["train.checkpoint=null"]) for step, name in VARIANTS.items()}
    return {OWN: profile, **dict(trainings_of_study(profile).values()), **variants}


def recorded_cohort(profile: Profile, take_from: str | Path | None) -> Path | None:
    """The record that has every network of `weak_trainings`, and their scores on the excerpt of the profile.

    Args:
        profile: Of the run.
        take_from: Folder of recorded runs; None or "" to train.

    Returns:
        Folder of the recorded run; None if a network is missing or was trained with other settings, or if the profile
        has no excerpt.
    """
    if not take_from or profile.phantom.excerpt is None:
        return None
    records: set[Path | None] = set()
    trainings = weak_trainings(profile)
    for step, variant in trainings.items():
        source = recorded_training(variant, take_from, step)
        records.add(None if source is None else record_of(source, step))
    record = records.pop()
    excerpt = None if records or record is None else read_excerpt(record)
    if excerpt is None or excerpt.patients != profile.phantom.excerpt or trainings.keys() - excerpt.networks.keys():
        return None
    return record


def write_training_cohort(profile: Profile, out: str | Path, take_from: str | Path | None) -> Path:
    """Write the phantom of the training cohort, or of its excerpt, in place of the other one; a whole one stays.

    Args:
        profile: Of the run.
        out: Folder of the phantom.
        take_from: Folder of recorded runs; None or "" to train, which needs all patients.

    Returns:
        `out`.
    """
    out, sizes, patients = Path(out), profile.phantom, profile.phantom.training_patients
    if _patients_of(out / "phantom.json") != patients and recorded_cohort(profile, take_from) is not None:
        patients = min(patients, sizes.excerpt or patients)
    other = {sizes.training_patients, sizes.excerpt} - {patients, None}
    for folder, about in ((out, "phantom.json"), (partial_of(out), "parameters.json")):
        if _patients_of(folder / about) in other:
            shutil.rmtree(folder)
    options = {"seed": profile.seed, "matrix": sizes.matrix, "jobs": profile.compute.jobs}
    return write_phantom(out, layout="rsna", patients=patients, **options)


def _patients_of(about: Path) -> int | None:
    """Number of patients of a phantom cohort, from its record; None if there is none."""
    return read_json(about).get("patients") if about.is_file() else None


def splits_of_excerpt(profile: Profile, raw: str | Path, take_from: str | Path | None) -> Path | None:
    """The recorded split of the whole cohort, if the run made an excerpt; None if it made all patients.

    Args:
        profile: Of the run.
        raw: The phantom of the training cohort, from `write_training_cohort`.
        take_from: Folder of recorded runs, or None.

    Raises:
        InputError: If the record of the excerpt is gone.
    """
    sizes = profile.phantom
    if _patients_of(Path(raw) / "phantom.json") not in {sizes.excerpt} - {None, sizes.training_patients}:
        return None
    record = recorded_cohort(profile, take_from)
    if record is None:
        remedy = "Run chapter 1 again, which then makes all patients."
        raise InputError(f"phantom {raw}", "an excerpt of its cohort", "all patients, or their recorded split", remedy)
    return record / COHORT


def write_cohort_table(run: Run, data: PreparedDataset, splits: str | Path | None) -> Path:
    """Write the table of the whole training cohort beside the prepared sets of a run.

    Args:
        run: The run.
        data: The prepared set.
        splits: The recorded table, if the set is an excerpt.

    Returns:
        The table: patient, study, split, fold, slices, and the number of slices with each label.
    """
    out = run.folder("prepared") / COHORT
    with whole_file(out) as scratch:
        if splits is not None:
            shutil.copyfile(splits, scratch)
        else:
            exams = data.slices.groupby(["patient", "study", "split", "fold"], sort=False)
            labels = (data.slices[list(LABELS)] == 1).groupby(data.slices["study"], sort=False).sum()
            table = exams.size().rename("slices").reset_index().join(labels, on="study")
            table.to_csv(scratch, index=False)
    return out


def read_cohort_table(run: Run) -> pd.DataFrame:
    """The table of `write_cohort_table`.

    Raises:
        InputError: If it is not there.
    """
    path = run.folder("prepared") / COHORT
    if not path.is_file():
        raise InputError(str(path), "no such file", "the table of the training cohort", "Run chapter 2 again.")
    return pd.read_csv(path, dtype={"patient": str, "study": str})
