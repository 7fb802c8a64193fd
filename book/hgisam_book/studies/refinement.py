"""Refinement without pixel annotations: fusion of map and density of blood, then self-training on pseudo-masks.

The weakly labelled scans have slice labels only. There the fusion of map and density gives a pseudo-mask of each
bleeding slice; the mask of any other slice is empty. A U-Net is trained on these pseudo-masks, and evaluated like any
other method.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr
from tqdm import tqdm

from data_prep.prepared_set import StudyArrays
from hgisam.config.profile import Profile
from hgisam.data.labels import MASK_VALUES
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.score_maps import read_score_maps
from hgisam.inference.extraction import methods_of
from hgisam.inference.predictor import Method, SlicePredictor, probability_of_bleeding
from hgisam.models.checkpoint import load_checkpoint
from hgisam.pipeline import open_step_data
from hgisam.runs.files import read_json, write_json
from hgisam.runs.folders import sha256_of
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam_book.recorded.excerpt import DENSITY, is_excerpt, record_of
from hgisam_book.recorded.reuse import recorded_training, train_or_reuse
from hgisam_book.studies.coarse_labels import rows_by_study, write_set_of
from hgisam_scans.blood_density import (
    DENSITY_GRID,
    best_density_threshold,
    dense_areas,
    density_of_scan,
    with_density,
)

# density without a map, fusion of both, the network trained on its pseudo-masks, and the mean of the last two
PARTS = ("density_alone", "hgi_sam_density", "hgi_sam_self_trained", "hgi_sam_refined")
PSEUDO_THRESHOLD = 0.1  # of the fusion of map and density, for pseudo-masks
MAX_BLEEDING = 1500  # slices with pseudo-masks; as many without a bleed are added
TRAINING = "hgi_sam_refined"  # of `study.trainings`
SELF_TRAINED = "refined/self_trained"  # step

Maps = npt.NDArray[np.float32]


def refine_step(profile: Profile, runs_dir: str | Path, take_from: str | Path | None = None) -> Path:
    """Refined score maps of HGI-SAM on the prepared `ct-ich` set, whose masks are not read.

    Args:
        profile: Of the run.
        runs_dir: Folder of all runs.
        take_from: Folder of recorded runs, to reuse the training on pseudo-masks if it is the same; None to train.

    Returns:
        `runs/<profile>/refined/maps`: `maps.zarr` with `PARTS`, float16 [slice, row, col].
    """
    run = Run(profile, runs_dir)
    pseudo = pseudo_mask_step(profile, runs_dir, take_from)
    variant = profile.variant(TRAINING, ["train.checkpoint=null"])
    trained = train_or_reuse(Run(variant, runs_dir), SELF_TRAINED, take_from, open_prepared(pseudo / "dataset"))
    data, mapped = open_step_data(run, "ct-ich"), run.require("maps")
    threshold_hu = read_json(pseudo / "density.json")["threshold_hu"]

    def work(folder: Path) -> None:
        predictor = SlicePredictor.of(load_checkpoint(trained), profile)
        refine(predictor, data, mapped / "maps.zarr", threshold_hu, folder)

    return run.make(
        "refined/maps",
        work,
        code=["hgisam_scans.blood_density", "hgisam.inference.predictor"],
        sections=("maps", "compute"),
        inputs={
            "prepared/ct-ich": data.fingerprint,
            "maps": read_manifest(mapped)["outputs"]["maps.zarr"],
            "density": read_manifest(pseudo)["outputs"]["density.json"],
            "self_trained": read_manifest(trained)["outputs"]["model.safetensors"],
        },
    )


def pseudo_mask_step(profile: Profile, runs_dir: str | Path, take_from: str | Path | None = None) -> Path:
    """Pseudo-masks of the weakly labelled slices.

    Args:
        profile: Of the run.
        runs_dir: Folder of all runs.
        take_from: Folder of recorded runs. If the run has an excerpt of the cohort, the threshold of the density is
            that of the whole cohort, from the record of the training on pseudo-masks.

    Returns:
        `runs/<profile>/refined/pseudo`: `dataset`, a prepared set, and `density.json`: threshold_hu, grid_hu, auroc.
    """
    run = Run(profile, runs_dir)
    data, trained, recorded = open_step_data(run, "rsna"), run.require("train"), None
    if is_excerpt(data) and take_from is not None:
        source = recorded_training(profile.variant(TRAINING, ["train.checkpoint=null"]), take_from, SELF_TRAINED)
        recorded = None if source is None else record_of(source, SELF_TRAINED) / DENSITY

    def work(folder: Path) -> None:
        predictor, method = SlicePredictor.of(load_checkpoint(trained), profile), methods_of(profile.maps, ["hgi_sam"])
        write_pseudo_masks(predictor, method["hgi_sam"], data, folder, seed=profile.seed, recorded=recorded)

    return run.make(
        "refined/pseudo",
        work,
        code=["hgisam_scans.blood_density", "hgisam.inference.extraction"],
        sections=("maps", "compute"),
        inputs={
            "prepared/rsna": data.fingerprint,
            "train": read_manifest(trained)["outputs"]["model.safetensors"],
            **({} if recorded is None else {"recorded": sha256_of(recorded)}),
        },
    )


def write_pseudo_masks(
    predictor: SlicePredictor, method: Method, weak: PreparedDataset, folder: str | Path, *, seed: int,
    recorded: str | Path | None = None,
) -> None:  # fmt: skip
    """Writes the files of `pseudo_mask_step`.

    Args:
        predictor: Of the classifier whose maps are refined.
        method: Of the maps.
        weak: With slice labels.
        folder: Exists.
        seed: Samples the slices.
        recorded: A `density.json` whose threshold is used, in place of one that these slices choose.

    Raises:
        InputError: If all slices bleed, or none does.
    """
    folder, chosen = Path(folder), choose_slices(weak.slices, seed)
    if weak.slices["any"].iloc[chosen].nunique() < 2:
        remedy = "Prepare more patients."
        raise InputError(f"slices of {weak.path}", "one kind at most", "slices with and without a bleed", remedy)
    densities = list(densities_of(weak, chosen))
    order = np.concatenate([rows for rows, _ in densities])
    if recorded is None:
        threshold_hu, auroc = density_threshold_of(weak, densities)
        found = {"threshold_hu": threshold_hu, "grid_hu": DENSITY_GRID.tolist(), "auroc": auroc.tolist()}
    else:
        found = read_json(recorded)
        threshold_hu = found["threshold_hu"]
    write_json(folder / "density.json", found)

    def blocks() -> Iterator[StudyArrays]:
        for rows, density in tqdm(densities, desc="pseudo-masks", unit="scan"):
            hu, brain = weak.hu[rows], weak.brain[rows]
            mask, bleeding = np.zeros(hu.shape, np.uint8), weak.slices["any"].iloc[rows].to_numpy() == 1
            if bleeding.any():
                images = predictor.images(hu[bleeding], brain[bleeding])
                maps = predictor.maps(images, method, hu.shape[1])
                refined = with_density(maps, density[bleeding], threshold_hu)
                mask[bleeding] = (refined >= PSEUDO_THRESHOLD) * MASK_VALUES["unspecified"]
            yield hu, brain, mask

    write_set_of(weak, weak.slices.iloc[order], blocks(), folder, name="pseudo")


def choose_slices(slices: pd.DataFrame, seed: int) -> npt.NDArray[np.int64]:
    """Rows of a balanced random sample: bleeding slices, and as many other slices of the same patients.

    Args:
        slices: `slices.parquet` of the weakly labelled set.
        seed: Of the sample.

    Returns:
        [n] ascending; patients are sampled until `MAX_BLEEDING` slices bleed.
    """
    generator = np.random.default_rng(seed)
    bleeding = slices.groupby("patient")["any"].sum().sample(frac=1, random_state=generator)
    patients = bleeding.index[bleeding.cumsum().shift(fill_value=0) < MAX_BLEEDING]
    bleeds, mine = slices["any"].to_numpy() == 1, slices["patient"].isin(patients).to_numpy()
    positive, negative = (generator.permutation(np.flatnonzero(mine & kind)) for kind in (bleeds, ~bleeds))
    return np.sort(np.concatenate([positive[:MAX_BLEEDING], negative[: len(positive[:MAX_BLEEDING])]]))


def refine(
    self_trained: SlicePredictor, data: PreparedDataset, maps: str | Path, threshold_hu: float, folder: str | Path
) -> None:
    """Writes `PARTS` of every slice to `folder/maps.zarr`, study by study.

    Args:
        self_trained: The segmenter that was trained on pseudo-masks.
        data: The set to segment.
        maps: Group with hgi_sam, rows as in `data`.
        threshold_hu: From `best_density_threshold`.
        folder: Exists.
    """
    hgi_sam, _ = read_score_maps(maps)["hgi_sam"]
    count, *size = data.hu.shape
    root = zarr.open_group(Path(folder, "maps.zarr"), mode="w")
    arrays = [root.create_array(n, shape=(count, *size), dtype="float16", chunks=(1, *size)) for n in PARTS]
    scans = tqdm(densities_of(data, np.arange(count)), total=data.slices["study"].nunique(), desc="refining")
    for rows, density in scans:
        images = self_trained.images(data.hu[rows], data.brain[rows])
        predicted = self_trained.maps(images, probability_of_bleeding, size[0]).astype(np.float32)
        alone, fused = (with_density(m, density, threshold_hu) for m in (np.ones(density.shape), hgi_sam.oindex[rows]))
        parts = np.stack([alone, fused, predicted, (fused + predicted) / 2]).astype(np.float16)
        for array, values in zip(arrays, parts, strict=True):
            array.oindex[rows] = values


def density_threshold_of(
    weak: PreparedDataset, densities: Iterable[tuple[npt.NDArray[np.int64], Maps]]
) -> tuple[float, npt.NDArray[np.float64]]:
    """`best_density_threshold` of slices with labels, from their rows and densities as `densities_of` yields them."""
    rows, areas = zip(*((rows, dense_areas(density)) for rows, density in densities), strict=True)
    bleeds = weak.slices["any"].iloc[np.concatenate(rows)].to_numpy() == 1
    return best_density_threshold(np.concatenate(areas), bleeds)


def densities_of(data: PreparedDataset, chosen: npt.NDArray[np.int64]) -> Iterator[tuple[npt.NDArray[np.int64], Maps]]:
    """The chosen rows, study by study, and their density [n, H, W].

    Whole studies are read, since density is smoothed over neighboring slices.
    """
    for rows in rows_by_study(data):
        mine = np.isin(rows, chosen)
        if mine.any():
            yield rows[mine], density_of_scan(data.hu[rows], data.brain[rows], data.slices.iloc[rows])[mine]
