"""Steps of a run, called by notebooks and command line: train, map, evaluate. Each reads the folder of the last."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, open_prepared, warn_of_odd_hu
from hgisam.evaluation.outputs import write_evaluation
from hgisam.evaluation.score_maps import candidates, read_score_maps
from hgisam.evaluation.thresholds import choose_thresholds
from hgisam.inference.extraction import extract_maps, methods_of
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import load_checkpoint
from hgisam.models.weights import weight_files
from hgisam.runs.files import read_table, write_json
from hgisam.runs.folders import partial_of, sha256_of, whole_file
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam.training.distributed import launch, node_rank

OWN = "train"  # step of the run's own training
NO_INPUTS: Mapping[str, str] = MappingProxyType({})


def open_step_data(run: Run, name: str) -> PreparedDataset:
    """The prepared set "rsna" or "ct-ich" of a run.

    Raises:
        InputError: If it is not there; names the notebook that makes it.
    """
    return open_prepared(run.require(f"prepared/{name}"))


def training_set_of(task: str) -> str:
    """Name of the prepared set on which a network of a task trains."""
    return "ct-ich" if task == "segmentation" else "rsna"


def train_step(
    profile: Profile, runs_dir: str | Path, step: str = OWN, data: PreparedDataset | None = None,
    *, instead: Callable[[PreparedDataset, Path], bool] | None = None, inputs: Mapping[str, str] = NO_INPUTS,
) -> Path:  # fmt: skip
    """Train, or adopt `train.checkpoint`; return `runs/<profile>/<step>`.

    Classifiers train on the slice labels of the prepared `rsna` set, segmenters on the masks of `ct-ich` outside the
    test and the validation fold. Of several machines (`compute.nodes`), the first one makes the folder.

    Args:
        profile: Profile of the training.
        runs_dir: Folder of all runs.
        step: Name of the step.
        data: Another prepared set.
        instead: Fills the folder with an equal training and returns True, or returns False: then the network trains.
        inputs: Name → hash of what `instead` reads.
    """
    run = Run(profile, runs_dir)
    data = data or open_step_data(run, training_set_of(profile.task))
    folder = run.folder(step)
    if profile.compute.nodes > 1 and node_rank() > 0:
        launch(profile, data.path, partial_of(folder))
        return folder
    weights = {key: sha256_of(file) for key, file in weight_files(profile.train, profile.model).items()}

    def work(folder: Path) -> None:
        if instead is None or not instead(data, folder):
            launch(profile, data.path, folder)

    return run.make(step, work, code=["hgisam.training.distributed"],
        sections=("task", "data", "windows", "model", "segmenter", "train", "compute"),
        inputs={f"prepared/{data.path.name}": data.fingerprint, **weights, **inputs},
    )  # fmt: skip


def map_step(profile: Profile, runs_dir: str | Path) -> Path:
    """Extract maps and scores of the prepared `ct-ich` set; return `runs/<profile>/maps`."""
    run = Run(profile, runs_dir)
    data = open_step_data(run, "ct-ich")
    warn_of_odd_hu(data)
    trained = run.require("train")

    def work(folder: Path) -> None:
        predictor = SlicePredictor.of(load_checkpoint(trained), profile)
        extract_maps(predictor, methods_of(profile.maps), data, folder)

    weights = read_manifest(trained)["outputs"]["model.safetensors"]
    return run.make("maps", work, code=["hgisam.inference.extraction"], sections=("maps", "compute"),
        inputs={"prepared/ct-ich": data.fingerprint, "train": weights},
    )  # fmt: skip


def evaluate_step(profile: Profile, runs_dir: str | Path) -> Path:
    """Evaluate the classifier's maps on `ct-ich`; every patient's threshold is chosen on other patients.

    Returns:
        `runs/<profile>/evaluate`; `summary.json` is copied to `runs/<profile>`.
    """
    return measure_step(profile, runs_dir, "evaluate", {"maps": Run(profile, runs_dir).require("maps")})


def measure_step(
    profile: Profile, runs_dir: str | Path, step: str, sources: Mapping[str, Path],
    *, also: Callable[[Path], None] | None = None, code: Sequence[str] = (), inputs: Mapping[str, str] = NO_INPUTS,
) -> Path:  # fmt: skip
    """Choose thresholds for the maps of several steps, and evaluate them.

    Args:
        profile: Profile of the run.
        runs_dir: Folder of all runs.
        step: Name of the step.
        sources: Name → folder of each step with a `maps.zarr`; "maps" also has the classifier's scores, for detection.
        also: Further work in the folder; `code` and `inputs` are what it adds to those of `Run.make`.

    Returns:
        `runs/<profile>/<step>`; `summary.json` is copied to `runs/<profile>`.
    """
    run = Run(profile, runs_dir)
    data = open_step_data(run, "ct-ich")
    warn_of_odd_hu(data)
    trained = run.require("train")
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

    read = {"prepared/ct-ich": data.fingerprint, "scores": written["maps"]["scores.parquet"]}
    read |= {name: outputs["maps.zarr"] for name, outputs in written.items()}
    folder = run.make(step, work, code=["hgisam.evaluation.outputs", *code], sections=("maps", "evaluate"),
        inputs={**read, **inputs},
    )  # fmt: skip
    with whole_file(folder.parent / "summary.json") as scratch:
        shutil.copyfile(folder / "summary.json", scratch)
    return folder
