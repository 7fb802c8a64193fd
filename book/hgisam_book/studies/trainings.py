"""The trainings of a study, side by side on the cores of one machine."""

from collections.abc import Mapping
from pathlib import Path

import torch

from data_prep.parallel import run_all
from hgisam.config.profile import Profile
from hgisam.pipeline import OWN, open_step_data, training_set_of
from hgisam_book.recorded.reuse import train_or_reuse

COPIES_BYTES = 2**30  # of HU, in all copies that trainings at the same time hold


def train_all(
    trainings: Mapping[str, Profile], runs_dir: Path, label: str, take_from: Path | None = None
) -> list[Path]:
    """Trains several networks or finds them done, `compute.trainings` at a time, each on its share of the cores.

    A small network does not keep two cores busy: two networks at a time, a core each, learn faster than one by one.
    Each holds the data in memory, so fewer learn at a time where the copies would take more than `COPIES_BYTES`.

    Args:
        trainings: Name of the step → profile of the training, all of one kind of task.
        runs_dir: Where runs live.
        label: For the progress bar.
        take_from: See `train_or_reuse`. The run's own training is never reused: all else is compared with it.

    Returns:
        The finished folders, in the order of the trainings.
    """
    profile = next(iter(trainings.values()))
    data = open_step_data(profile, runs_dir, training_set_of(profile.task))
    at_once = min(profile.compute.trainings, max(1, COPIES_BYTES // data.hu.nbytes))
    threads = max(1, torch.get_num_threads() // at_once)
    tasks = [
        (profile, runs_dir, step, None if step == OWN else take_from, threads) for step, profile in trainings.items()
    ]
    return run_all(_train, tasks, at_once, label)


def _train(profile: Profile, runs_dir: Path, step: str, take_from: Path | None, threads: int) -> Path:
    torch.set_num_threads(threads)
    return train_or_reuse(profile, runs_dir, step, take_from)
