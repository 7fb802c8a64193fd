"""Record what the networks of a record score on the excerpt of its training cohort, which `make book` then compares.

python ci/record_excerpt.py book/recorded/laptop-2-cores --cohort runs/laptop/prepared/cohort.csv --scratch scratch

The record's networks are measured as they are: run it where they reach their recorded scores, which `make book` of a
whole cohort shows (TRAIN=all for the table, then without).
"""

import argparse
import sys
from pathlib import Path

from data_prep import prepare, write_phantom
from hgisam.config import load_profile
from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam.models.checkpoint import load_checkpoint
from hgisam.models.tasks import TASKS
from hgisam.pipeline import OWN, open_step_data, train_step
from hgisam.runs import Run
from hgisam.training.adopt import copy_training, validate_checkpoint
from hgisam.training.setup import training_facts, training_split
from hgisam_book.recorded.excerpt import COUNTS, Check, Excerpt
from hgisam_book.recorded.reuse import recorded_training
from hgisam_book.recorded.runs import add_excerpt
from hgisam_book.studies.coarse_labels import coarse_set, coarse_set_step
from hgisam_book.studies.refinement import SELF_TRAINED, pseudo_mask_step
from hgisam_book.systems.exam_mil import ExamMil
from hgisam_book.systems.sequence_steps import ALONE, UNET, WITH_LSTM, pseudo_set_step
from hgisam_book.systems.slice_mil import SliceMil
from hgisam_book.systems.training import SCORE, load_system, validation_score
from hgisam_book.training_cohort import weak_trainings

SYSTEMS = {f"price/{system.name}/network": system for system in (ExamMil(), SliceMil(), WITH_LSTM, ALONE)}


def excerpt_set(profile: Profile, cohort: Path, scratch: Path) -> PreparedDataset:
    """The prepared excerpt, in the split of the whole cohort."""
    run = Run(profile, scratch)
    options = {"seed": profile.seed, "matrix": profile.phantom.matrix, "jobs": profile.compute.jobs}
    if (patients := profile.phantom.excerpt) is None:
        raise InputError(f"phantom.excerpt of {profile.name}", "null", "a number of patients", "Use another profile.")
    raw = write_phantom(run.folder("phantom/rsna"), layout="rsna", patients=patients, **options)
    sizes = {**profile.data.model_dump(), "seed": profile.seed, "workers": profile.compute.jobs}
    return open_prepared(prepare("rsna", raw, run.folder("prepared/rsna"), splits=cohort, **sizes))


def training_set(step: str, profile: Profile, sources: dict[str, Path], record: Path, scratch: Path) -> PreparedDataset:
    """The set that a network of the record trained on, as far as it is in the excerpt."""
    if step == "price/exam/swin":
        return coarse_set(coarse_set_step(profile, scratch, "exam"))
    if step == SELF_TRAINED:
        return open_prepared(pseudo_mask_step(profile, scratch, record.parent) / "dataset")
    if step == f"price/{UNET}/network":
        trained = sources[f"price/{WITH_LSTM.name}/network"]
        return open_prepared(pseudo_set_step(profile, scratch, trained) / "dataset")
    return open_step_data(Run(profile, scratch), "rsna")


def check_of(step: str, variant: Profile, source: Path, data: PreparedDataset) -> Check:
    """Numbers of slices, and the score of a recorded network on the validation patients."""
    if step in SYSTEMS:
        split, metric = data, SCORE
        network, _ = load_system(SYSTEMS[step], source)
        value = validation_score(SYSTEMS[step], network, data, variant)
    else:
        split, metric = training_split(variant, data)[0], f"val_{variant.train.monitor}"
        value = validate_checkpoint(load_checkpoint(source), variant, data)[1][metric]
    facts = training_facts(split, TASKS[variant.task])["data"]
    return Check(**{key: facts[key] for key in COUNTS}, metric=metric, value=value)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path)
    parser.add_argument("--cohort", type=Path, required=True, help="cohort.csv of a run with the whole cohort")
    parser.add_argument("--scratch", type=Path, required=True, help="folder of the excerpt and of sets made from it")
    parser.add_argument("--profile", default="laptop")
    arguments = parser.parse_args()
    try:
        profile = load_profile(arguments.profile)
        excerpt_set(profile, arguments.cohort, arguments.scratch)
        trainings = weak_trainings(profile)
        found = {step: recorded_training(own, arguments.record.parent, step) for step, own in trainings.items()}
        if missing := [step for step, source in found.items() if source is None]:
            raise InputError(f"record {arguments.record}", f"no {missing[0]}", "every network", "Record it first.")
        sources = {step: source for step, source in found.items() if source is not None}

        def copy(data: PreparedDataset, folder: Path) -> bool:
            copy_training(sources[OWN], validate_checkpoint(load_checkpoint(sources[OWN]), profile, data)[0], folder)
            return True

        train_step(profile, arguments.scratch, instead=copy)  # whose maps the pseudo-masks are made from
        checks = {}
        for step, variant in trainings.items():
            data = training_set(step, profile, sources, arguments.record, arguments.scratch)
            checks[step] = check_of(step, variant, sources[step], data)
            print(f"{step}: {checks[step].metric} {checks[step].value:.4f}, {checks[step].slices}", flush=True)
        assert profile.phantom.excerpt is not None
        excerpt = Excerpt(patients=profile.phantom.excerpt, networks=checks)
        print(add_excerpt(arguments.record, arguments.cohort, excerpt))
    except InputError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
