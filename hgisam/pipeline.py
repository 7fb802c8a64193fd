"""The steps of a run: train, map, evaluate, each from one folder of the run to the next.

Notebooks and the command line call these, so that both make the same files.
"""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.evaluation.outputs import write_evaluation
from hgisam.evaluation.score_maps import candidates, read_score_maps
from hgisam.evaluation.thresholds import choose_thresholds
from hgisam.inference.extraction import extract_maps, methods_of
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import load_checkpoint
from hgisam.models.weights import weight_files
from hgisam.runs.files import read_table, write_json
from hgisam.runs.folders import partial_of, sha256_of
from hgisam.runs.steps import read_manifest, require_step, run_step, step_dir
from hgisam.training.distributed import launch, node_rank

log = logging.getLogger(__name__)

OWN = "train"  # the step of the run's own training


def open_step_data(profile: Profile, runs_dir: Path, name: str) -> PreparedDataset:
    """Opens the prepared set "rsna" or "ct-ich" of a run.

    Raises:
        InputError: If it is not there; says which notebook makes it.
    """
    return open_prepared(require_step(profile, runs_dir, f"prepared/{name}"))


def training_set_of(task: str) -> str:
    """Name of the prepared set that a network of a task trains on."""
    return "ct-ich" if task == "segmentation" else "rsna"


def train_step(
    profile: Profile,
    runs_dir: Path,
    step: str = OWN,
    data: PreparedDataset | None = None,
    *,
    instead: Callable[[PreparedDataset, Path], bool] | None = None,
    inputs: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Trains, or adopts `train.checkpoint`; returns `runs/<profile>/<step>`.

    Classifiers train on the slice labels of the prepared `rsna` set, segmenters on the masks of all but two folds of
    `ct-ich`, unless other `data` are given.

    A machine that is not the first of `compute.nodes` joins the training and leaves the folder to the first.

    Args:
        profile: Of the training.
        runs_dir: Where runs live.
        step: Name of the folder to make.
        data: The prepared set.
        instead: Fills the folder with an equal training, and returns whether it did; else the network is trained.
        inputs: Name → hash of what `instead` reads.
    """
    data = data or open_step_data(profile, runs_dir, training_set_of(profile.task))
    folder = step_dir(profile, runs_dir, step)
    if profile.compute.nodes > 1 and node_rank() > 0:
        launch(profile, data.path, partial_of(folder))
        return folder

    def work(folder: Path) -> None:
        if instead is None or not instead(data, folder):
            launch(profile, data.path, folder)

    return run_step(
        profile,
        runs_dir,
        step,
        work,
        code=["hgisam.training.distributed"],
        sections=("task", "data", "windows", "model", "segmenter", "train", "compute"),
        inputs={
            f"prepared/{data.path.name}": data.fingerprint,
            **{key: sha256_of(file) for key, file in weight_files(profile).items()},
            **inputs,
        },
    )


def map_step(profile: Profile, runs_dir: Path) -> Path:
    """Maps and scores of the prepared `ct-ich` set; returns `runs/<profile>/maps`."""
    data = open_step_data(profile, runs_dir, "ct-ich")
    trained = require_step(profile, runs_dir, "train")

    def work(folder: Path) -> None:
        predictor = SlicePredictor.of(load_checkpoint(trained), profile)
        extract_maps(predictor, methods_of(profile.maps), data, folder)

    return run_step(
        profile,
        runs_dir,
        "maps",
        work,
        code=["hgisam.inference.extraction"],
        sections=("maps", "compute"),
        inputs={"prepared/ct-ich": data.fingerprint, "train": read_manifest(trained)["outputs"]["model.safetensors"]},
    )


def evaluate_step(profile: Profile, runs_dir: Path) -> Path:
    """Thresholds and figures of the classifier's maps on `ct-ich`, every patient at a threshold chosen on others.

    Returns:
        `runs/<profile>/evaluate`; `summary.json` is copied to `runs/<profile>`.
    """
    return measure_step(profile, runs_dir, "evaluate", {"maps": require_step(profile, runs_dir, "maps")})


def measure_step(
    profile: Profile,
    runs_dir: Path,
    step: str,
    sources: Mapping[str, Path],
    *,
    also: Callable[[Path], None] | None = None,
    code: Sequence[str] = (),
    inputs: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Thresholds and figures of all maps that some steps wrote.

    Args:
        profile: Of the run.
        runs_dir: Where runs live.
        step: Name of the folder to make.
        sources: Name → folder of each step with a `maps.zarr`; "maps" holds the classifier's scores, the detection.
        also: Further work in the folder, with `code` and `inputs` of its own, see `run_step`.

    Returns:
        `runs/<profile>/<step>`; `summary.json` is copied to `runs/<profile>`.
    """
    data = open_step_data(profile, runs_dir, "ct-ich")
    trained = require_step(profile, runs_dir, "train")
    written = {name: read_manifest(folder)["outputs"] for name, folder in sources.items()}

    def work(folder: Path) -> None:
        found = read_score_maps(*(source / "maps.zarr" for source in sources.values()))
        score_maps = {name: found[name] for name in dict.fromkeys((*profile.maps.methods, *found))}
        chosen = choose_thresholds(data, score_maps, candidates(score_maps), count=profile.evaluate.thresholds)
        thresholds = {"dataset": data.fingerprint, "split": "folds", "methods": chosen}
        write_json(folder / "thresholds.json", thresholds)
        scores = read_table(sources["maps"] / "scores.parquet")
        write_evaluation(
            folder, data, score_maps, scores, thresholds,
            detection_threshold=load_checkpoint(trained).detection_threshold, profile_name=profile.name,
            bootstrap=profile.evaluate.bootstrap, seed=profile.seed,
        )  # fmt: skip
        if also is not None:
            also(folder)

    folder = run_step(
        profile,
        runs_dir,
        step,
        work,
        code=["hgisam.evaluation.outputs", *code],
        sections=("maps", "evaluate"),
        inputs={
            "prepared/ct-ich": data.fingerprint,
            "scores": written["maps"]["scores.parquet"],
            **{name: outputs["maps.zarr"] for name, outputs in written.items()},
            **inputs,
        },
    )
    shutil.copyfile(folder / "summary.json", folder.parent / "summary.json")
    return folder
