"""Steps of a run directory, `runs/<profile>/<step>/`: made, resumed where they were stopped, or found done.

A step works in `<step>.partial` and is renamed when it is whole, so that what has its name is never half written.
"""

import inspect
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hgisam.config.profile import Profile
from hgisam.errors import InputError
from hgisam.runs.files import write_json
from hgisam.runs.folders import MARK, partial_of, replace_folder, resumed_folder, sha256_of
from hgisam.runs.manifest import environment
from hgisam.runs.sources import fingerprint, sources_of

log = logging.getLogger(__name__)

NOTEBOOK_OF_STEP = {  # for "run this first"
    "phantom": "01_problem_and_data",
    "prepared": "02_data_preparation",
    "train": "04_training",
    "maps": "05_hgi_sam",
    "evaluate": "06_results",
    "classifiers": "10_binary_or_subtype",
    "baselines": "11_baselines",
    "refined": "12_refined_maps",
    "ablations": "13_ablations",
    "explanations": "13_ablations",
    "results": "14_all_results",
}


@dataclass(frozen=True)
class Run:
    """A run directory, `runs_dir/<profile>/`: each step is made, resumed where it was stopped, or found done.

    Example:
        >>> from hgisam.config import load_profile
        >>> Run(load_profile("smoke"), "runs").folder("train").as_posix()
        'runs/smoke/train'
    """

    profile: Profile
    runs_dir: str | Path

    def folder(self, step: str = "") -> Path:
        """Folder of a step, there or not; without a step, that of the run."""
        return Path(self.runs_dir) / self.profile.name / step

    def require(self, step: str) -> Path:
        """Folder of a finished step.

        Raises:
            InputError: If it is not there; names the notebook that makes it.
        """
        folder, kind = self.folder(step), step.split("/", maxsplit=1)[0]
        proof = {"phantom": "phantom.json", "prepared": "dataset.json"}.get(kind, "manifest.json")
        if not (folder / proof).is_file():
            remedy = f"Run book/{NOTEBOOK_OF_STEP[kind]}.ipynb with this profile and runs_dir first."
            raise InputError(str(folder), f"no {proof} there", "a finished step", remedy)
        return folder

    def make(
        self,
        step: str,
        work: Callable[[Path], object],
        *,
        code: Sequence[str],
        sections: Sequence[str],
        inputs: Mapping[str, str],
    ) -> Path:
        """Makes a step's folder, resumes it where it was stopped, or finds it done; returns the folder.

        Args:
            step: Name of the folder, e.g. "train".
            work: Fills the folder it is given, which may hold what a stopped call left.
            code: Modules that do the work; the step is stale when one of them, what they import, or the file of `work`
                changed.
            sections: Sections of the profile that the result depends on.
            inputs: Name → hash of what the step reads.
        """
        values = self.profile.model_dump(mode="json")
        settings = {key: value for key, value in values.items() if key in {"seed", *sections}}
        sources = sources_of("\n".join(f"import {module}" for module in code))
        made_from = fingerprint(settings=settings, inputs=inputs, code=[*sources, Path(inspect.getfile(work))])
        folder = self.folder(step)
        if _is_done(folder, made_from):
            return folder
        with resumed_folder(partial_of(folder), made_from) as partial:
            if _is_done(folder, made_from):  # by a process that was waited for
                shutil.rmtree(partial)
                return folder
            started, clock = datetime.now(UTC), time.perf_counter()
            work(partial)
            (partial / MARK).unlink()
            manifest = {
                "step": step,
                "fingerprint": made_from,
                "profile": values,
                "seed": self.profile.seed,
                "inputs": dict(inputs),
                "started": started.isoformat(timespec="seconds"),
                "duration_s": round(time.perf_counter() - clock, 1),
                **environment(),
                "outputs": {path.name: sha256_of(path) for path in sorted(partial.iterdir())},
            }
            write_json(partial / "manifest.json", manifest)
            replace_folder(partial, folder)
        return folder


def _is_done(folder: Path, made_from: str) -> bool:
    """Whether a step is finished and up to date; its manifest is then touched."""
    manifest = folder / "manifest.json"
    try:
        done = bool(json.loads(manifest.read_text())["fingerprint"] == made_from)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if done:
        log.info("%s is done already", folder)
        os.utime(manifest)
    return done
