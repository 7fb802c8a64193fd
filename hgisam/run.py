"""The second contract: a run directory, `runs/<profile>/<step>/`, with the manifest of what made it.

A step works in `<step>.partial` and is renamed when it is whole, so that what stands under its name is never half
written, and a step that was stopped goes on in the folder that it left.
"""

import hashlib
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

import pandas as pd

from hgisam.errors import InputError
from hgisam.folders import replace_folder, sha256_of
from hgisam.profile import Profile
from hgisam.sources import hash_of, package_sources, sources_of

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


def partial_of(folder: Path) -> Path:
    """Where a step works until its folder is whole."""
    return folder.with_name(f"{folder.name}.partial")


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
    fingerprint = _digest(
        {"settings": settings, "inputs": dict(inputs), "code": hash_of([*sources, Path(inspect.getfile(work))])}
    )
    folder = step_dir(profile, runs_dir, step)
    if (folder / "manifest.json").is_file() and read_manifest(folder).get("fingerprint") == fingerprint:
        log.info("%s is done already", folder)
        os.utime(folder / "manifest.json")
        return folder
    partial = partial_of(folder)
    mark = partial / "fingerprint"
    if partial.exists() and not (mark.is_file() and mark.read_text() == fingerprint):
        shutil.rmtree(partial)
    if partial.exists():
        log.info("%s goes on where it was stopped", folder)
    partial.mkdir(parents=True, exist_ok=True)
    mark.write_text(fingerprint)
    started = datetime.now(UTC)
    clock = time.perf_counter()
    work(partial)
    mark.unlink()
    manifest = {
        "step": step,
        "fingerprint": fingerprint,
        "profile": profile.model_dump(mode="json"),
        "seed": profile.seed,
        "inputs": dict(inputs),
        "started": started.isoformat(timespec="seconds"),
        "duration_s": round(time.perf_counter() - clock, 1),
        **environment(),
        "outputs": {
            p.relative_to(partial).as_posix(): sha256_of(p)
            for p in sorted(partial.iterdir())
        },
    }  # fmt: skip
    write_json(partial / "manifest.json", manifest)
    replace_folder(partial, folder)
    return folder


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


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished step."""
    manifest: dict[str, Any] = read_json(folder / "manifest.json")
    return manifest


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: If it is absent or broken.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"unreadable ({error})", "a JSON file of a run", "Make the run again.") from None


def read_table(path: Path) -> pd.DataFrame:
    """Reads a table of a run.

    Raises:
        InputError: If it is absent or broken.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"unreadable ({error})", "a table of a run", "Make the step again.") from None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON under a temporary name and renames it."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")
    scratch.replace(path)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


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
