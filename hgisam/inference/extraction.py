"""Maps and scores of a whole prepared set, streamed to disk, and resumed where a stopped call left off."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from tqdm import tqdm

from hgisam.config.profile import Maps
from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.inference.predictor import Method, Predictions, SlicePredictor
from hgisam.maps import METHODS

BLOCK = 64  # slices written at once, one chunk
PROGRESS = "progress.zarr"


def methods_of(settings: Maps, names: Iterable[str] | None = None) -> dict[str, Method]:
    """Name → method with the options of the section `maps`; without names, the methods it lists."""
    chosen = {"gradient_at": settings.gradient_at, "stages": tuple(settings.stages)}
    options = {"hgi_sam": chosen, "hgi_sam_averaged": chosen}
    return {name: partial(METHODS[name], **options.get(name, {})) for name in names or settings.methods}


def extract_maps(
    predictor: SlicePredictor, methods: Mapping[str, Method], prepared: PreparedDataset, folder: str | Path
) -> None:
    """Writes `maps.zarr` (float16 [slice, row, col], one array per method) and `scores.parquet` (row, score).

    Args:
        predictor: Of a classifier.
        methods: Name → method; the maps are not restricted to the brain.
        prepared: Slices to explain; another slice size than the classifier's is resized there and back.
        folder: May hold what a stopped call left.

    Raises:
        InputError: If the set has another field of view than the training data of the classifier.

    Example:
        >>> import tempfile, numpy as np, pandas as pd
        >>> from hgisam import load_pretrained, swin_sam
        >>> predictor, folder = SlicePredictor(load_pretrained("phantom-binary")), Path(tempfile.mkdtemp())
        >>> image, slices = np.zeros((1, 192, 192), np.uint8), pd.DataFrame({"pixel_mm": [200 / 192]})
        >>> data = PreparedDataset(Path("set"), {"size_px": 192}, slices, image, image + 1, None)
        >>> extract_maps(predictor, {"swin_sam": swin_sam}, data, folder)
        >>> sorted(path.name for path in folder.iterdir())
        ['maps.zarr', 'scores.parquet']
    """
    field_mm = prepared.slices["pixel_mm"].iloc[0] * prepared.meta["size_px"]
    expected_mm = predictor.checkpoint.profile.data.field_of_view_mm
    if abs(field_mm / expected_mm - 1) > 0.01:
        what, expected = f"field of view of {prepared.path}", f"{expected_mm:g} mm, as in training"
        raise InputError(what, f"{field_mm:g} mm", expected, f"Prepare it with --field-of-view-mm {expected_mm:g}.")
    hu, brain, names = prepared.hu, prepared.brain, list(methods)
    stream_maps(lambda at: predictor.predict(hu[at], brain[at], methods), names, prepared, Path(folder), label="maps")


def stream_maps(
    predict: Callable[[slice], Predictions], names: Iterable[str], prepared: PreparedDataset,
    folder: str | Path, *, label: str,
) -> None:  # fmt: skip
    """Writes `maps.zarr` and `scores.parquet` of a set block by block, so that memory does not grow with it.

    A stopped call is resumed at its block: the scores of a block are written after its maps.

    Args:
        predict: Rows of a block → maps by their `names`, those of the arrays in `maps.zarr`, and scores.
        prepared, folder: As in `extract_maps`.
        label: Of the progress bar.
    """
    folder, (count, *size) = Path(folder), prepared.hu.shape
    root = zarr.open_group(folder / "maps.zarr", mode="a")
    options: dict[str, Any] = {"shape": (count, *size), "dtype": "float16", "chunks": (BLOCK, *size)}
    arrays = {name: root.require_array(name, **options) for name in names}
    options = {"shape": (count,), "dtype": "float64", "chunks": (BLOCK,), "fill_value": np.nan}
    scores: Any = zarr.open_array(folder / PROGRESS, mode="a", **options)
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
