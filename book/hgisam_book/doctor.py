"""What this machine has, and which profile it can run: environment, processor, memory, GPU, disk, browser, data.

The needs of `smoke` and `laptop` were measured: the environment takes 7 GB of disk, a laptop run 3.5 GB, its trainings
3.9 GiB of memory. Those of `paper` are estimates, for nobody has recorded such a run yet.
"""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL = "install it (Debian, Ubuntu: apt install chromium) or run .venv/bin/playwright install chromium"
GOOD, WARNING, BAD = "ok", "note", "missing"
PYTHON = (3, 11)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Its name.
        state: `GOOD`, `WARNING` for what only some need, `BAD` for what nothing runs without.
        found: What was found.
        remedy: What to do, or "".
    """

    what: str
    state: str
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Need:
    """What a profile asks of a machine; memory and disk in GB."""

    memory_gb: float
    disk_gb: float
    gpu_gb: float = 0.0


NEEDS = {"smoke": Need(4, 1), "laptop": Need(6, 5), "paper": Need(32, 200, 24)}


def examine(folder: str | Path, data: Sequence[str | Path] = ()) -> list[Finding]:
    """Looks at everything once.

    Args:
        folder: Where runs are to live; its disk counts.
        data: Prepared sets to look at too.
    """
    machine = [_python(), _packages(), _processor(), _memory(), _gpu(), _disk(Path(folder)), _browser()]
    return [*machine, *(_set(Path(path)) for path in data)]


def can_run(folder: str | Path) -> dict[str, str]:
    """Profile → "yes", or what is short for it."""
    memory, disk, gpu = psutil.virtual_memory().total / 1e9, _free_gb(Path(folder)), _gpu_gb()
    said = {}
    for name, need in NEEDS.items():
        have = ((memory, need.memory_gb, "memory"), (disk, need.disk_gb, "disk"), (gpu, need.gpu_gb, "GPU memory"))
        short = [f"{what} {got:.0f} of {wanted:.0f} GB" for got, wanted, what in have if got < wanted]
        said[name] = "yes" if not short else f"no: {', '.join(short)}"
    return said


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON:
        return Finding("Python", BAD, version, f"Install {'.'.join(map(str, PYTHON))} or newer.")
    return Finding("Python", GOOD, version)


def _packages() -> Finding:
    """The dependencies of hgisam and of all its extras but [dev], in the versions that they need."""
    requirements = map(Requirement, importlib.metadata.requires("hgisam") or ())
    used = [each for each in requirements if not (each.marker and each.marker.evaluate({"extra": "dev"}))]
    target = {each.name: each for each in used if each.name != "hgisam"}  # extras refer to extras and share packages
    wrong = []
    for requirement in target.values():
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"no {requirement.name}")
            continue
        if version not in requirement.specifier:
            wrong.append(f"{requirement.name} {version}, not {requirement.specifier}")
    if wrong:
        return Finding("packages", BAD, ", ".join(wrong), "Run `make environment`.")
    return Finding("packages", GOOD, f"{len(target)} as required, torch {importlib.metadata.version('torch')}")


def _processor() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        return Finding("processor", WARNING, "1 core", "Times in this book are those of two.")
    return Finding("processor", GOOD, f"{cores} cores")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    found = f"{memory.total / 1e9:.0f} GB, {memory.available / 1e9:.0f} GB of them free"
    if memory.available / 1e9 < NEEDS["laptop"].memory_gb:
        return Finding("memory", WARNING, found, "Close what else runs, or use `--set compute.trainings=1`.")
    return Finding("memory", GOOD, found)


def _gpu_gb() -> float:
    import torch  # takes seconds

    cards = range(torch.cuda.device_count())
    return max((torch.cuda.get_device_properties(i).total_memory / 1e9 for i in cards), default=0.0)


def _gpu() -> Finding:
    import torch  # takes seconds

    count = torch.cuda.device_count()
    if not count:
        return Finding("GPU", WARNING, "none", "smoke and laptop need none.")
    return Finding("GPU", GOOD, f"{count} × {torch.cuda.get_device_name(0)}, {_gpu_gb():.0f} GB")


def _free_gb(folder: Path) -> float:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free / 1e9


def _disk(folder: Path) -> Finding:
    free = _free_gb(folder)
    if free < NEEDS["laptop"].disk_gb:
        remedy = f"A laptop run takes {NEEDS['laptop'].disk_gb:.0f} GB: make room, or give another --runs-dir."
        return Finding("disk", WARNING if free >= NEEDS["smoke"].disk_gb else BAD, f"{free:.1f} GB free", remedy)
    return Finding("disk", GOOD, f"{free:.0f} GB free")


def find_browser() -> str | None:
    """Path of an installed Chromium: of the system, or playwright's own; None where there is none."""
    for name in PROGRAMS:
        if program := shutil.which(name):
            return program
    from playwright.sync_api import sync_playwright  # takes a while; most machines have their own

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).is_file() else None


def _browser() -> Finding:
    if found := find_browser():
        return Finding("browser", GOOD, found)
    return Finding("browser", WARNING, "no Chromium", f"Only `make check` and `make print` need one: {INSTALL}.")


def _set(path: Path) -> Finding:
    try:
        prepared = open_prepared(path)
    except InputError as error:
        return Finding(f"data {path.name}", BAD, str(error))
    counts: dict[str, Any] = prepared.meta["counts"]
    what = "masks" if prepared.mask is not None else "boxes" if prepared.boxes is not None else "labels"
    what = what if prepared.labelled else "no labels"
    return Finding(f"data {path.name}", GOOD, f"{counts['slices']} slices of {counts['patients']} patients, {what}")
