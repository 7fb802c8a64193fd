"""Evaluation of all methods of a run together, with the results of its studies and a failure analysis."""

from pathlib import Path

from hgisam.config.profile import Profile
from hgisam.evaluation.score_maps import read_score_maps
from hgisam.evaluation.thresholds import thresholds_by_slice
from hgisam.pipeline import measure_step, open_step_data
from hgisam.runs.files import read_json, read_table, write_json
from hgisam.runs.folders import sha256_of
from hgisam.runs.steps import Run
from hgisam_book.studies.failure_causes import failures

STUDIES = {"binary_vs_subtype": "classifiers/study/study.json"}  # name in the summary → file of the run
OTHER_MAPS = ("baselines/*/maps", "refined/maps")  # steps besides "maps" with score maps


def results_step(profile: Profile, runs_dir: str | Path) -> Path:
    """Evaluates all methods whose score maps the run has (classifier, baselines, refinement), with a failure analysis.

    Returns:
        `runs/<profile>/results`: the files of `evaluate_step`, with the studies in `summary.json`, and
        `failures.parquet`; `summary.json` is copied to `runs/<profile>`.
    """
    run = Run(profile, runs_dir)
    run_dir = run.folder("")
    maps = run.require("maps")
    others = sorted(path.parent for kind in OTHER_MAPS for path in run_dir.glob(f"{kind}/manifest.json"))
    sources = {folder.relative_to(run_dir).as_posix(): folder for folder in (maps, *others)}
    studies = {name: run_dir / file for name, file in STUDIES.items() if (run_dir / file).is_file()}

    def explain(folder: Path) -> None:
        data, summary = open_step_data(run, "ct-ich"), read_json(folder / "summary.json")
        if studies:
            summary["studies"] = {name: read_json(path) for name, path in studies.items()}
        write_json(folder / "summary.json", summary)
        score_maps = read_score_maps(*(source / "maps.zarr" for source in sources.values()))
        thresholds = thresholds_by_slice(data, read_json(folder / "thresholds.json"))
        causes = failures(data, score_maps, thresholds, read_table(folder / "predictions.parquet"))
        causes.to_parquet(folder / "failures.parquet", index=False)

    inputs = {name: sha256_of(path) for name, path in studies.items()}
    code = ["hgisam_book.studies.failure_causes"]
    return measure_step(profile, runs_dir, "results", sources, also=explain, code=code, inputs=inputs)
