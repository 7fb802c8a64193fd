"""One study: read, resampled to the prepared grid, its brain mask computed, and stored as a part of the data set."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from numcodecs import Blosc

from data_prep import bhsd, cq500, ct_ich, folder, instance, rsna
from data_prep.brain import brain_mask, fit_to_bone
from data_prep.grid import Grid, Resampler, pixel_weights
from data_prep.hounsfield import unlike_hu
from data_prep.imported_brain_masks import read_brain_mask
from data_prep.volume import AIR_HU, Bools, Floats, Study, UnusableError, Volume
from hgisam.data.labels import LABELS, MASK_VALUES
from hgisam.runs.folders import whole_file

# Each has NAME, LICENCE, ANNOTATIONS ("masks", "boxes" or None), MAIN_SPLIT (split of the patients who are not in the
# validation split), PUBLIC (True if a report may give names of files), and the functions tables, images, list_studies
# and read_study.
READERS: dict[str, ModuleType] = {reader.NAME: reader for reader in (rsna, ct_ich, bhsd, instance, cq500, folder)}
WORK_PX_MM = 2.0  # grid on which the brain mask is computed
TYPICAL_SLICE_MM = 5.0
CODEC: Any = Blosc(cname="lz4", clevel=5, shuffle=Blosc.SHUFFLE)
PART_TYPES = {"hu": np.int16, "brain": np.uint8, "mask": np.uint8}
HEAD_HU = -300.0


@dataclass(frozen=True)
class Settings:
    """Reader, prepared grid, and whether slices without labels are dropped.

    Attributes:
        kind: Name of the reader.
        image_px: Rows and columns of a slice.
        field_of_view_mm: Side of the square field of view.
        labelled: Drop slices without labels.
    """

    kind: str
    image_px: int
    field_of_view_mm: float
    labelled: bool = True

    @property
    def pixel_mm(self) -> float:
        """Pixel pitch of the prepared grid in mm."""
        return self.field_of_view_mm / self.image_px


def prepare_study(raw: str | Path, study: Study, stem: str | Path, settings: Settings) -> None:
    """Reads one study, resamples it, computes its brain mask, and writes its part.

    Args:
        raw: Raw folder.
        study: The listed study.
        stem: The part's path without suffix; `.npz` is written before `.json`, each under a temporary name first.
        settings: The prepared grid.
    """
    stem = Path(stem)
    try:
        volume: Volume = READERS[settings.kind].read_study(raw, study)
        if reason := unlike_hu(volume.hu):
            raise UnusableError(reason, volume.remarks)
        imported = read_brain_mask(study.brain, Path(raw, study.files[0]), volume) if study.brain else None
        arrays, rows, statistics = prepare_volume(volume, settings, imported)
    except UnusableError as error:
        skipped = [*error.remarks.skipped, (study.files[0], str(error))]
        remarks = asdict(error.remarks) | {"skipped": skipped}
        _write_json(stem.with_suffix(".json"), {"rows": {}, "remarks": remarks, "study": study.study})
        return
    ids = {"patient": [study.patient] * len(rows), "study": [study.study] * len(rows)}
    _write_part(stem.with_suffix(".npz"), arrays)
    content = {
        "rows": ids | {column: rows[column].tolist() for column in rows},
        "remarks": asdict(volume.remarks), "study": study.study, **statistics,
    }  # fmt: skip
    _write_json(stem.with_suffix(".json"), content)


def prepare_volume(
    volume: Volume, settings: Settings, imported: Bools | None = None
) -> tuple[dict[str, npt.NDArray[Any]], pd.DataFrame, dict[str, Any]]:
    """Resamples a study to the prepared grid and computes its brain mask.

    Args:
        volume: The study.
        settings: The prepared grid.
        imported: Brain mask [slice, row, col] to use instead of computing one.

    Returns:
        Arrays hu, brain and, if the data set has masks, mask [slice, px, px] of the labelled slices; their rows of the
        slice table without ids, split and fold; and statistics for the report.

    Raises:
        UnusableError: If no slice has a label.
    """
    selected = (volume.labels[:, 0] >= 0) | (not settings.labelled)
    if not selected.any():
        raise UnusableError("none of its slices has a label", volume.remarks)
    work_grid = Grid.covering(volume, WORK_PX_MM)
    working = Resampler(volume, work_grid)
    work_hu = working.hu()
    spacing_mm = float(np.median(np.diff(volume.positions_mm))) if len(volume.hu) > 1 else volume.slice_mm
    if spacing_mm <= 0:
        spacing_mm = TYPICAL_SLICE_MM
        volume.remarks.fixes["slice_mm_assumed"] = 1
    work_mm = (spacing_mm, work_grid.pixel_mm, work_grid.pixel_mm)
    work_brain = brain_mask(work_hu, work_mm) if imported is None else working.mask(imported)
    head = work_hu > HEAD_HU
    grid = Grid.centred(_centre_mm(work_brain, head, work_grid), settings.image_px, settings.pixel_mm)
    kept = volume.keep(selected)
    resampler = Resampler(kept, grid)
    hu = resampler.hu()
    if imported is None:
        coarse = _on_grid(work_brain[selected], work_grid, grid)
        brain = fit_to_bone(hu, coarse, (spacing_mm, grid.pixel_mm, grid.pixel_mm))
    else:
        brain = resampler.mask(imported[selected])
    arrays: dict[str, npt.NDArray[Any]] = {
        "hu": np.clip(np.rint(hu), AIR_HU, 32767).astype(np.int16), "brain": brain.astype(np.uint8)
    }  # fmt: skip
    gaps = np.diff(volume.positions_mm)
    statistics: dict[str, Any] = {
        "widest_gap": float(gaps.max() / spacing_mm) if len(gaps) else 1.0,
        "tilt_deg": _tilt_deg(volume),
        "brain_voxels": int(brain.sum()),
        "brain_median_hu": float(np.median(hu[brain])) if brain.any() else None,
        "brain_section_mm2": float(work_brain.sum(axis=(1, 2)).max()) * work_grid.pixel_mm**2,
        "brain_outside_field": _fraction_outside(work_brain, work_grid, grid),
        "head_outside_field": _fraction_outside(head & work_brain.any(axis=(1, 2), keepdims=True), work_grid, grid),
    }
    if kept.mask is not None:
        lesion = resampler.lesion()
        arrays["mask"] = lesion
        statistics |= {
            "lesion_voxels": int((lesion > 0).sum()),
            "lesion_voxels_outside_brain": int(((lesion > 0) & ~brain).sum()),
            "lesion_outside_field": resampler.lost_fraction_of_lesion(),
        }
    if len(kept.boxes):
        statistics |= _boxes_on(grid, kept)
    return arrays, _rows(kept, grid, spacing_mm), statistics


def _boxes_on(grid: Grid, volume: Volume) -> dict[str, Any]:
    """Boxes in pixels of the grid, clipped to its field of view; and the number of boxes outside of it."""
    first, *steps = grid.native(volume)
    slices = volume.boxes[:, 0].astype(int)
    native = volume.boxes[:, 2:].reshape(-1, 2, 2)  # [box, corner, axis]
    edges = (native - 0.5 - first[slices][:, None]) / steps + 0.5
    edges = np.clip(edges, 0, (grid.rows, grid.cols))
    inside = (edges[:, 0] < edges[:, 1]).all(axis=1)
    names = {value: name for name, value in MASK_VALUES.items()}
    boxes = [
        [int(slice_), names[int(value)], *np.round(corners.ravel(), 3).tolist()]
        for slice_, value, corners in zip(slices[inside], volume.boxes[inside, 1], edges[inside], strict=True)
    ]
    return {"boxes": boxes, "boxes_outside_field": int((~inside).sum())}


def _tilt_deg(volume: Volume) -> float:
    """Gantry tilt in degrees, from the drift of the slices."""
    if len(volume.hu) < 2:
        return 0.0
    tilt_mm = np.hypot(*(volume.drift_px[-1] * (volume.row_mm, volume.col_mm)))
    return float(np.rad2deg(np.arctan2(tilt_mm, volume.positions_mm[-1])))


def _centre_mm(brain: Bools, head: Bools, grid: Grid) -> tuple[float, float]:
    """Centre (row, col) of the bounding box of the brain, else of the head, else of the image, in mm."""
    shadow = next((np.asarray(m.any(axis=0)) for m in (brain, head) if m.any()), np.ones(head.shape[1:], bool))
    rows, cols = np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0))
    return (
        grid.row0_mm + (int(rows[0]) + int(rows[-1])) / 2 * grid.pixel_mm,
        grid.col0_mm + (int(cols[0]) + int(cols[-1])) / 2 * grid.pixel_mm,
    )


def _on_grid(mask: Bools, source: Grid, target: Grid) -> Bools:
    """Resamples a mask from one grid to another: linear interpolation, threshold one half."""
    step = target.pixel_mm / source.pixel_mm
    by_row = pixel_weights((target.row0_mm - source.row0_mm) / source.pixel_mm, step, target.rows, source.rows)
    by_col = pixel_weights((target.col0_mm - source.col0_mm) / source.pixel_mm, step, target.cols, source.cols)
    out = np.zeros((len(mask), target.rows, target.cols), bool)
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        image: Floats = mask[index].astype(np.float32)
        out[index] = (by_col @ (by_row @ image).T).T >= 0.5 - 1e-6
    return out


def _fraction_outside(mask: Bools, source: Grid, field: Grid) -> float:
    """Fraction of a mask outside the field of view of another grid."""
    total = int(mask.sum())
    if not total:
        return 0.0
    rows = source.row0_mm + source.pixel_mm * np.arange(source.rows)
    cols = source.col0_mm + source.pixel_mm * np.arange(source.cols)
    half = field.pixel_mm / 2
    inside_rows = (rows >= field.row0_mm - half) & (rows <= field.row0_mm + field.pixel_mm * (field.rows - 0.5))
    inside_cols = (cols >= field.col0_mm - half) & (cols <= field.col0_mm + field.pixel_mm * (field.cols - 0.5))
    return 1 - int(mask[:, inside_rows][:, :, inside_cols].sum()) / total


def _rows(volume: Volume, grid: Grid, spacing_mm: float) -> pd.DataFrame:
    """The slice table of a study, one row per slice, without ids, split and fold."""
    count, native_rows, native_cols = volume.hu.shape
    first, step_row, step_col = grid.native(volume)
    gaps = np.diff(volume.positions_mm)
    return pd.DataFrame(
        {
            "slice_index": np.arange(count),
            "source_index": volume.source_index,
            "position_mm": np.round(volume.positions_mm - volume.positions_mm[:1], 4),
            "slice_mm": np.round(np.append(gaps, gaps[-1:] if len(gaps) else [spacing_mm] * count), 4),
            **{label: volume.labels[:, column].astype(np.int64) for column, label in enumerate(LABELS)},
            "pixel_mm": grid.pixel_mm,
            "native_rows": native_rows,
            "native_cols": native_cols,
            "native_row0": first[:, 0],
            "native_col0": first[:, 1],
            "native_step_row": step_row,
            "native_step_col": step_col,
        }
    )


def read_part(path: str | Path, px: int) -> dict[str, npt.NDArray[Any]]:
    """Reads the arrays of a part, each [slice, px, px]."""
    with np.load(path, allow_pickle=False) as packed:
        return {
            name: np.frombuffer(CODEC.decode(packed[name]), PART_TYPES[name]).reshape(-1, px, px)
            for name in packed.files
        }


def _write_part(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Writes a part, compressed with LZ4, which is many times faster than numpy's zip."""
    packed: dict[str, Any] = {name: np.frombuffer(CODEC.encode(array), np.uint8) for name, array in arrays.items()}
    with whole_file(path) as scratch, scratch.open("wb") as file:
        np.savez(file, **packed)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as scratch:
        scratch.write_text(json.dumps(content))
