"""The trainings of a study, in parallel on the cores of one machine."""

from collections.abc import Mapping
from pathlib import Path

import torch

from data_prep.parallel import run_all
from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.pipeline import open_step_data, training_set_of
from hgisam.runs.steps import Run
from hgisam_book.recorded.reuse import train_or_reuse

COPIES_BYTES = 2**30  # of HU, in all copies of parallel trainings


def train_all(
    trainings: Mapping[str, Profile],
    runs_dir: str | Path,
    label: str,
    take_from: str | Path | None = None,
    data: PreparedDataset | None = None,
) -> list[Path]:
    """Trains several networks or finds them done, `compute.trainings` in parallel, each on its share of the cores.

    A small network does not keep two cores busy: two networks in parallel, on one core each, train faster than one
    after the other. Each has the data in memory, so fewer are trained in parallel if the copies exceed `COPIES_BYTES`.

    Args:
        trainings: Name of the step → profile of the training, all of one kind of task.
        runs_dir: Folder of all runs.
        label: Of the progress bar.
        take_from, data: See `train_or_reuse`.

    Returns:
        The finished folders, in the order of the trainings.
    """
    profile = next(iter(trainings.values()))
    data = data or open_step_data(Run(profile, runs_dir), training_set_of(profile.task))
    parallel = min(profile.compute.trainings, max(1, COPIES_BYTES // data.hu.nbytes))
    threads = max(1, torch.get_num_threads() // parallel)
    tasks = [(Run(profile, runs_dir), step, take_from, data.path, threads) for step, profile in trainings.items()]
    return run_all(_train, tasks, parallel, label)


def _train(run: Run, step: str, take_from: str | Path | None, data: Path, threads: int) -> Path:
    torch.set_num_threads(threads)
    return train_or_reuse(run, step, take_from, open_prepared(data))
