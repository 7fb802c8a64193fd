"""Maps and scores of a whole prepared set, streamed to disk, and resumed where a stopped call left off."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr
from tqdm import tqdm

from hgisam.config.profile import Maps
from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.inference.predictor import HalfMaps, Method, SlicePredictor
from hgisam.maps import METHODS

BLOCK = 64  # slices written at once, one chunk
PROGRESS = "progress.zarr"
Predict = Callable[[slice], tuple[Mapping[str, HalfMaps], npt.NDArray[np.float64]]]


def methods_of(settings: Maps, names: Iterable[str] | None = None) -> dict[str, Method]:
    """Name → method with the options of the section `maps`; without names, the methods it lists."""
    options = {"hgi_sam": {"gradient_at": settings.gradient_at, "stages": tuple(settings.stages)}}
    return {name: partial(METHODS[name], **options.get(name, {})) for name in names or settings.methods}


def extract_maps(
    predictor: SlicePredictor, methods: Mapping[str, Method], prepared: PreparedDataset, folder: Path
) -> None:
    """Writes `maps.zarr` (float16 [slice, row, col], one array per method) and `scores.parquet` (row, score).

    The maps are not restricted to the brain.

    Args:
        predictor: Of a classifier.
        methods: Name → method.
        prepared: Slices to explain; another slice size than the classifier's is resized there and back.
        folder: May hold what a stopped call left.

    Raises:
        InputError: If the set shows another field of view than the classifier was trained on.
    """
    _check_field(predictor, prepared)

    def predict(rows: slice) -> tuple[dict[str, HalfMaps], npt.NDArray[np.float64]]:
        return predictor.predict(prepared.hu[rows], prepared.brain[rows], methods)

    stream_maps(predict, list(methods), prepared, folder, label="maps")


def stream_maps(predict: Predict, names: Iterable[str], prepared: PreparedDataset, folder: Path, *, label: str) -> None:
    """Writes maps and scores of a set block by block, so that memory does not grow with it.

    A stopped call is resumed at the block where it was: a block's scores are written after its maps.

    Args:
        predict: Rows of a block → name → maps [n, H, W], and scores [n].
        names: Of the arrays in `maps.zarr`.
        prepared: The set.
        folder: Gets `maps.zarr` and `scores.parquet`; may hold what a stopped call left.
        label: For the progress bar.
    """
    count, *size = prepared.hu.shape
    root = zarr.open_group(folder / "maps.zarr", mode="a")
    options: dict[str, Any] = {"shape": (count, *size), "dtype": "float16", "chunks": (BLOCK, *size)}
    arrays = {name: root.require_array(name, **options) for name in names}
    scores: Any = zarr.open_array(
        folder / PROGRESS, mode="a", shape=(count,), dtype="float64", chunks=(BLOCK,), fill_value=np.nan
    )
    done = int(np.isfinite(scores[:]).sum())
    with tqdm(total=count, initial=done, desc=label, unit="slice") as bar:
        for start in range(done, count, BLOCK):
            rows = slice(start, min(start + BLOCK, count))
            maps, scored = predict(rows)
            for name, array in arrays.items():
                array[rows] = maps[name]
            scores[rows] = scored
            bar.update(rows.stop - start)
    pd.DataFrame({"row": np.arange(count), "score": scores[:]}).to_parquet(folder / "scores.parquet", index=False)
    shutil.rmtree(folder / PROGRESS)


def _check_field(predictor: SlicePredictor, prepared: PreparedDataset) -> None:
    field_mm = prepared.slices["pixel_mm"].iloc[0] * prepared.meta["size_px"]
    expected_mm = predictor.checkpoint.profile.data.field_of_view_mm
    if abs(field_mm / expected_mm - 1) > 0.01:
        remedy = f"Prepare it again with --field-of-view-mm {expected_mm:g}."
        raise InputError(
            f"field of view of {prepared.path}", f"{field_mm:g} mm", f"{expected_mm:g} mm, as trained", remedy
        )
