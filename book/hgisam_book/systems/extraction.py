"""Maps of the systems of the ladder on a prepared set, scan by scan."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from tqdm import tqdm

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, by_fold
from hgisam.evaluation.score_maps import VALIDATION
from hgisam.models.device import autocast, choose_device
from hgisam.pipeline import NO_INPUTS, open_step_data
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam_book.systems.training import System, load_system, scans


class SystemsRun(NamedTuple):
    """Networks, name or name/fold → folder, and maps, name → folder with a `maps.zarr` of the prepared `ct-ich` set."""

    networks: dict[str, Path]
    maps: dict[str, Path]


def system_maps_step(
    system: System,
    profile: Profile,
    runs_dir: str | Path,
    trained: Mapping[int | None, Path],
    inputs: Mapping[str, str] = NO_INPUTS,
) -> Path:
    """Score maps of a trained system on the prepared `ct-ich` set.

    Args:
        system: Of the networks.
        profile: Of the run.
        runs_dir: Folder of all runs.
        trained: Fold that a network held out → its folder, from `train_system`; None → one that saw no slice of the
            set.
        inputs: Name → hash of what else the maps depend on, e.g. the files of another network.

    Returns:
        `runs/<profile>/price/<system>/maps`: `maps.zarr`, with an array [slice, row, col] for each of its maps, and for
        networks of folds another with the suffix `VALIDATION`, as `hgisam.evaluation.score_maps` describes. Slices that
        no network may be asked about are 0.
    """
    run = Run(profile, runs_dir)
    data = open_step_data(run, "ct-ich")

    def work(folder: Path) -> None:
        extract_system(system, profile, data, trained, folder)

    return run.make(
        f"price/{system.name}/maps",
        work,
        code=["hgisam.evaluation.score_maps", type(system).__module__],
        sections=("maps", "compute"),
        inputs={
            "prepared/ct-ich": data.fingerprint,
            **inputs,
            **{f"network {fold}": read_manifest(at)["outputs"]["model.safetensors"] for fold, at in trained.items()},
        },
    )


def extract_system(
    system: System, profile: Profile, data: PreparedDataset, trained: Mapping[int | None, Path], folder: str | Path
) -> None:
    """Write `maps.zarr`, as described for `system_maps_step`, to a folder."""
    root: Any = zarr.open_group(Path(folder) / "maps.zarr", mode="w")
    size = data.hu.shape[1:]
    device = choose_device(profile.compute.accelerator)
    for fold, path in trained.items():
        network, own = load_system(system, path)
        for role, suffix in ((None, ""),) if fold is None else (("test", ""), ("val", VALIDATION)):
            split = data if fold is None else by_fold(data, fold)
            for rows in tqdm(scans(split, role), desc=f"{system.name} {fold or ''}", unit="scan", leave=False):
                with autocast(profile.compute.precision, device):
                    found = system.maps(network, split, rows, own)
                for name, maps in found.items():
                    options = {"shape": data.hu.shape, "dtype": "float16", "chunks": (1, *size)}
                    root.require_array(name + suffix, **options).oindex[rows] = np.asarray(maps, np.float16)
