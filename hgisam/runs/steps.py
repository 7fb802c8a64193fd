"""The second contract: a run directory, `runs/<profile>/<step>/`, with the manifest of what made it.

A step works in `<step>.partial` and is renamed when it is whole, so that what stands under its name is never half
written, and a step that was stopped goes on in the folder that it left.
"""

import inspect
import json
import logging
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hgisam.config.profile import Profile
from hgisam.errors import InputError
from hgisam.runs.files import check_content, read_json, write_json
from hgisam.runs.folders import MARK, partial_of, replace_folder, resumed_folder, sha256_of
from hgisam.runs.sources import fingerprint, hash_of, package_sources, sources_of

log = logging.getLogger(__name__)

PACKAGES = ("torch", "timm", "lightning", "numpy", "scipy", "scikit-learn", "zarr", "pandas", "plotly")
# which step of the pipeline each folder of a run comes from, for "run this first"
NOTEBOOK_OF_STEP = {
    "phantom": "01_problem_and_data",
    "prepared": "02_data_preparation",
    "train": "04_training",
    "maps": "05_hgi_sam",
    "evaluate": "06_results",
    "classifiers": "10_binary_or_subtype",
    "baselines": "11_baselines",
    "refined": "12_refined_maps",
    "ablations": "13_ablations",
    "results": "14_all_results",
}


def step_dir(profile: Profile, runs_dir: Path, step: str) -> Path:
    """Folder of a step, there or not: `runs_dir/<profile>/<step>`."""
    return runs_dir / profile.name / step


def require_step(profile: Profile, runs_dir: Path, step: str) -> Path:
    """Folder of a finished step.

    Raises:
        InputError: If it is not there; says which notebook makes it.
    """
    folder = step_dir(profile, runs_dir, step)
    kind = step.split("/", maxsplit=1)[0]
    proof = {"phantom": "phantom.json", "prepared": "dataset.json"}.get(kind, "manifest.json")
    if not (folder / proof).is_file():
        remedy = f"Run book/{NOTEBOOK_OF_STEP[kind]}.ipynb with this profile and runs_dir first."
        raise InputError(str(folder), f"no {proof} there", "a finished step", remedy)
    return folder


def run_step(
    profile: Profile,
    runs_dir: Path,
    step: str,
    work: Callable[[Path], object],
    *,
    code: Sequence[str],
    sections: Sequence[str],
    inputs: Mapping[str, str],
) -> Path:
    """Makes a step's folder, goes on where it was stopped, or finds it done.

    Args:
        profile: The resolved profile.
        runs_dir: Where runs live.
        step: Name of the folder, e.g. "train".
        work: Fills the folder it is given; may find there what an earlier, stopped call left.
        code: Modules that do the work; the step is made again when one of them, what they import, or the file of
            `work` itself changed.
        sections: Sections of the profile that the result depends on.
        inputs: Name → hash of what the step reads.

    Returns:
        The finished folder.
    """
    settings = {key: value for key, value in profile.model_dump(mode="json").items() if key in {"seed", *sections}}
    sources = sources_of("\n".join(f"import {module}" for module in code))
    code_files = [*sources, Path(inspect.getfile(work))]
    made_from = fingerprint(settings=settings, inputs=inputs, code=code_files)
    folder = step_dir(profile, runs_dir, step)
    if _is_done(folder, made_from):
        return folder
    with resumed_folder(partial_of(folder), made_from) as partial:
        if _is_done(folder, made_from):  # by a process that was waited for
            shutil.rmtree(partial)
            return folder
        started = datetime.now(UTC)
        clock = time.perf_counter()
        work(partial)
        (partial / MARK).unlink()
        manifest = {
            "step": step,
            "fingerprint": made_from,
            "profile": profile.model_dump(mode="json"),
            "seed": profile.seed,
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
    """Whether a step is finished; its manifest then is as young as if it had been made now."""
    manifest = folder / "manifest.json"
    try:
        done = bool(json.loads(manifest.read_text())["fingerprint"] == made_from)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if done:
        log.info("%s is done already", folder)
        os.utime(manifest)
    return done


def environment() -> dict[str, Any]:
    """Code and machine: git revision, package versions, hardware. No user, host or path names."""
    import psutil
    import torch

    hardware = {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
    return {
        "git_revision": _git_revision(),
        "code_hash": hash_of(package_sources()),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "hardware": hardware,
    }


def hardware_words(hardware: Mapping[str, Any]) -> str:
    """A manifest's `hardware` in one line."""
    gpu = ", ".join(hardware["gpu"]) or "none"
    return f"{hardware['processor']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB, GPU: {gpu}"


class _Profile(BaseModel):
    name: str
    train: dict[str, Any]
    model: dict[str, Any]
    compute: dict[str, Any]


class _Hardware(BaseModel):
    processor: str
    cores: int | None
    memory_gib: float
    gpu: list[str]


class _Manifest(BaseModel):
    """What readers of a manifest count on."""

    step: str
    profile: _Profile
    inputs: dict[str, str]
    outputs: dict[str, str]
    hardware: _Hardware
    packages: dict[str, str]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished step.

    Raises:
        InputError: If it is absent, broken or none.
    """
    path = folder / "manifest.json"
    manifest: dict[str, Any] = read_json(path)
    check_content(_Manifest, manifest, str(path), "the manifest of a finished step", "Make the step again.")
    return manifest


def manifests_of_one_run(run: Path, steps: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Manifests of finished steps, each of which must have read what the one before it wrote.

    Args:
        run: `runs/<profile>`.
        steps: Names of their folders: "train", "maps", and others that were made from the maps.

    Raises:
        InputError: If one is not finished, or read something else.
    """
    for step in steps:
        if not (run / step / "manifest.json").is_file():
            raise InputError(f"run {run}", f"no finished {step} in it", "the folder of a whole run", "Finish it first.")
    manifests = {step: read_manifest(run / step) for step in steps}
    for step in steps[1:]:
        before, file = ("train", "model.safetensors") if step == "maps" else ("maps", "maps.zarr")
        wrote = manifests[before]["outputs"].get(file)
        if wrote is None or manifests[step]["inputs"].get(before) != wrote:
            got = f"a step {step} that read another {before}"
            raise InputError(f"run {run}", got, "steps of one run", "Finish it: run its notebooks again.")
    return manifests


def _git_revision() -> str | None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
