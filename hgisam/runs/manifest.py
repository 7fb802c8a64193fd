"""Manifests: what made a step, on which machine, from which inputs. No user, host or path names."""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel

from hgisam.errors import InputError
from hgisam.runs.files import check_content, read_json
from hgisam.runs.sources import hash_of, package_sources

PACKAGES = ("torch", "timm", "lightning", "numpy", "scipy", "scikit-learn", "zarr", "pandas", "plotly")


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
    """What readers of a manifest rely on."""

    step: str
    profile: _Profile
    inputs: dict[str, str]
    outputs: dict[str, str]
    hardware: _Hardware
    packages: dict[str, str]


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a finished step.

    Raises:
        InputError: If it is absent, broken or something else.
    """
    path = Path(folder) / "manifest.json"
    manifest: dict[str, Any] = read_json(path)
    check_content(_Manifest, manifest, str(path), "the manifest of a finished step", "Make the step again.")
    return manifest


def manifests_of_one_run(run: str | Path, steps: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Manifests of finished steps, each of which must have read what the one before it wrote.

    Args:
        run: `runs/<profile>`.
        steps: Names of their folders: "train", "maps", and others that were made from the maps.

    Raises:
        InputError: If one is not finished, or read something else.
    """
    run = Path(run)
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


def environment() -> dict[str, Any]:
    """Code and machine: git revision, package versions, hardware."""
    import torch  # takes seconds

    return {
        "git_revision": _git_revision(),
        "code_hash": hash_of(package_sources()),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "hardware": {
            "processor": _processor_name(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


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
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
