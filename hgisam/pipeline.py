"""The heavy steps, each from one folder of a run to the next: train and map.

Notebooks and command line call these, so that both make the same files. What measures them is in `measurements`.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from hgisam.checkpoint import load_checkpoint
from hgisam.extract import extract_maps
from hgisam.folders import partial_of, sha256_of
from hgisam.launch import launch, node_rank
from hgisam.load_or_train import recorded_training, take_recorded
from hgisam.parallel import run_all
from hgisam.prepared import PreparedDataset, open_prepared
from hgisam.pretrained import checkpoint_folder
from hgisam.profile import Profile
from hgisam.run import read_manifest, require_step, run_step, step_dir

OWN = "train"  # the step of the run's own training
COPIES_BYTES = 2**30  # of HU, in all copies that trainings at the same time hold


def open_step_data(profile: Profile, runs_dir: Path, name: str) -> PreparedDataset:
    """Opens the prepared set "rsna" or "ct-ich" of a run.

    Raises:
        InputError: If it is not there; says which notebook makes it.
    """
    return open_prepared(require_step(profile, runs_dir, f"prepared/{name}"))


def train_step(
    profile: Profile,
    runs_dir: Path,
    step: str = OWN,
    data: PreparedDataset | None = None,
    take_from: Path | None = None,
) -> Path:
    """Trains, or takes `train.checkpoint`; returns `runs/<profile>/<step>`.

    Classifiers learn from the slice labels of the prepared `rsna` set, segmenters from the masks of all but two folds
    of `ct-ich`, unless other `data` are given. What one of the recorded runs in `take_from` holds is taken from there,
    see `hgisam.load_or_train`.

    A machine that is not the first of `compute.nodes` joins the training and leaves the folder to the first.
    """
    data = data or open_step_data(profile, runs_dir, _learns_from(profile))
    folder = step_dir(profile, runs_dir, step)
    if profile.compute.nodes > 1 and node_rank() > 0:
        launch(profile, data.path, partial_of(folder))
        return folder
    others = {"checkpoint": profile.train.checkpoint, "start_from": profile.train.start_from}
    files = {key: checkpoint_folder(name) / "model.safetensors" for key, name in others.items() if name}
    if (local := profile.model.pretrained) is not None and local.is_file():
        files["pretrained"] = local
    recorded = recorded_training(profile, take_from, step) if take_from else None
    if recorded:
        files["recorded"] = recorded / "model.safetensors"

    def work(folder: Path) -> None:
        if recorded and take_recorded(profile, data, recorded, folder):
            return
        launch(profile, data.path, folder)

    return run_step(
        profile,
        runs_dir,
        step,
        work,
        code=["hgisam.launch"],
        sections=("task", "data", "windows", "model", "segmenter", "train", "compute"),
        inputs={
            f"prepared/{data.path.name}": data.fingerprint,
            **{key: sha256_of(file) for key, file in files.items()},
        },
    )


def _learns_from(profile: Profile) -> str:
    return "ct-ich" if profile.task == "segmentation" else "rsna"


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
        take_from: See `train_step`. The run's own training is never taken: it is what everything else is held against.

    Returns:
        The finished folders, in the order of the trainings.
    """
    profile = next(iter(trainings.values()))
    data = open_step_data(profile, runs_dir, _learns_from(profile))
    at_once = min(profile.compute.trainings, max(1, COPIES_BYTES // data.hu.nbytes))
    threads = max(1, torch.get_num_threads() // at_once)
    tasks = [
        (profile, runs_dir, step, None if step == OWN else take_from, threads) for step, profile in trainings.items()
    ]
    return run_all(_train, tasks, at_once, label)


def _train(profile: Profile, runs_dir: Path, step: str, take_from: Path | None, threads: int) -> Path:
    torch.set_num_threads(threads)
    return train_step(profile, runs_dir, step, take_from=take_from)


def map_step(profile: Profile, runs_dir: Path) -> Path:
    """Maps and scores of the prepared `ct-ich` set; returns `runs/<profile>/maps`."""
    data = open_step_data(profile, runs_dir, "ct-ich")
    trained = require_step(profile, runs_dir, "train")
    return run_step(
        profile,
        runs_dir,
        "maps",
        lambda folder: extract_maps(load_checkpoint(trained), profile, data, folder),
        code=["hgisam.extract"],
        sections=("maps", "compute"),
        inputs={"prepared/ct-ich": data.fingerprint, "train": read_manifest(trained)["outputs"]["model.safetensors"]},
    )
