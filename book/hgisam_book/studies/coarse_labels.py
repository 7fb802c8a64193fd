"""Coarser labels made from the masks and slice labels of a prepared set, with the masks that they stand for.

- "exam": one label per scan; each slice inherits it.
- "box": a box around each bleed of a slice. Its mask is what is denser than Otsu's threshold in the box.
- "ball": a ball around each bleed of a scan, after the spheres of FocalSegNet (Rasoulian et al., arXiv 2308.03001). Its
  mask is the ball, as far as it is brain.

An annotator would give such labels without a mask; here they are derived from masks, and are as good as labels can be.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage
from skimage.filters import threshold_otsu

from data_prep.prepared_set import StudyArrays, write_prepared
from hgisam.config.profile import Profile
from hgisam.data.labels import LABELS, MASK_VALUES
from hgisam.data.masked_blur import masked_blur
from hgisam.data.prepared import PreparedDataset, open_prepared, require_masks
from hgisam.evaluation.masks import BONE_HU
from hgisam.pipeline import open_step_data
from hgisam.runs.steps import Run

COARSE = ("box", "ball")  # labels that stand for masks
Bools = npt.NDArray[np.bool_]
Box = tuple[slice, ...]  # rows and columns of a slice
TOUCHING = np.ones((3, 3))  # pixels that share a corner belong to one bleed
SMOOTHING_MM = 1.0  # standard deviation of the Gaussian in boxes; 2 loses thin and small bleeds, none the faint ones
MARGIN_PX = 2  # around a box, for its threshold: a bleed that fills its box leaves Otsu nothing to compare it with


def coarse_set_step(profile: Profile, runs_dir: str | Path, label: str) -> Path:
    """The prepared set with coarser labels: of `rsna` for exams, else of `ct-ich`.

    Args:
        profile: Of the run.
        runs_dir: Folder of all runs.
        label: "exam", "box" or "ball".

    Returns:
        `runs/<profile>/price/<label>/labels`, with the prepared set in `dataset`; open it with `coarse_set`.

    Raises:
        InputError: If the set is not there, or has no masks for boxes or balls.
    """
    run = Run(profile, runs_dir)
    data = open_step_data(run, "rsna" if label == "exam" else "ct-ich")

    def work(folder: Path) -> None:
        order = np.concatenate(list(rows_by_study(data)))
        slices = (exam_labels(data.slices) if label == "exam" else data.slices).iloc[order]
        write_set_of(data, slices, _blocks(data, label), folder, name=label, with_mask=label != "exam")

    return run.make(
        f"price/{label}/labels",
        work,
        code=["hgisam.evaluation.masks", "data_prep.prepared_set"],
        sections=(),
        inputs={f"prepared/{data.path.name}": data.fingerprint},
    )


def coarse_set(labels: str | Path) -> PreparedDataset:
    """The prepared set of a finished `coarse_set_step`."""
    return open_prepared(Path(labels, "dataset"))


def write_set_of(
    data: PreparedDataset, slices: pd.DataFrame, blocks: Iterable[StudyArrays], folder: str | Path, *, name: str,
    with_mask: bool = True,
) -> None:  # fmt: skip
    """Write a prepared set that a study makes from another one, in `folder/dataset`.

    Args:
        data: The set that it is made from, whose source and licence it keeps.
        slices, blocks, with_mask: As for `write_prepared`; the index of the slices is ignored.
        folder: Of the step.
        name: Of the set.
    """
    info = {"name": name, **{key: data.meta.get(key, "unknown") for key in ("source", "licence")}, "skipped": []}
    info["absent_patients"] = data.meta.get("absent_patients", 0)
    write_prepared(
        Path(folder, "dataset"),
        slices=slices.reset_index(drop=True),
        blocks=blocks,
        size_px=data.hu.shape[1],
        with_mask=with_mask,
        info=info,
    )


def rows_by_study(data: PreparedDataset) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of each study, ascending."""
    yield from map(np.sort, data.slices.groupby("study", sort=False).indices.values())


def exam_labels(slices: pd.DataFrame) -> pd.DataFrame:
    """The table of slices, each with the labels of its whole study."""
    exams = slices.groupby("study")[list(LABELS)].transform("max")
    return slices.assign(**{label: exams[label] for label in LABELS})


def boxes(mask: Bools) -> list[Box]:
    """Bounding boxes of the bleeds of a mask [row, col]."""
    found, _ = ndimage.label(mask, TOUCHING)
    return ndimage.find_objects(found)


def masks_of_boxes(hu: npt.NDArray[np.number], brain: npt.NDArray[np.uint8], mask: Bools, pixel_mm: float) -> Bools:
    """What the boxes of a study's bleeds stand for: brain above Otsu's threshold of the box, in smoothed HU.

    Args:
        hu, brain, mask: [slice, row, col]; the mask gives the boxes and nothing else.
        pixel_mm: Pixel pitch.

    Returns:
        [slice, row, col].

    Source: Otsu, A threshold selection method from gray-level histograms, 1979; scikit-image.
    """
    slices = zip(hu, brain, mask, strict=True)
    return np.stack([dense_in_boxes(image, inside, boxes(bleeds), pixel_mm) for image, inside, bleeds in slices])


def dense_in_boxes(
    hu: npt.NDArray[np.number], brain: npt.NDArray[np.uint8], found: Sequence[Box], pixel_mm: float
) -> Bools:
    """Brain above Otsu's threshold of its box, in smoothed HU, in any of the boxes of a slice.

    Args:
        hu, brain: [row, col].
        found: Boxes within the slice.
        pixel_mm: Pixel pitch.

    Returns:
        [row, col].
    """
    tissue, dense = (brain > 0) & (hu < BONE_HU), np.zeros(hu.shape, bool)
    smooth, _ = masked_blur(
        hu.astype(np.float32),
        tissue.astype(np.float32),
        lambda a: ndimage.gaussian_filter(a, SMOOTHING_MM / pixel_mm),
    )
    for box in found:
        around = tuple(slice(max(side.start - MARGIN_PX, 0), side.stop + MARGIN_PX) for side in box)
        values = smooth[around][tissue[around]]
        if values.size:  # a bleed may lie outside a brain mask
            threshold = threshold_otsu(values)  # type: ignore[no-untyped-call]
            dense[box] |= tissue[box] & (smooth[box] >= threshold)
    return dense


def masks_of_balls(mask: Bools, brain: npt.NDArray[np.uint8], position_mm: npt.ArrayLike, pixel_mm: float) -> Bools:
    """The smallest balls around the middle of each bleed of a study that hold it, as far as they are brain.

    Args:
        mask, brain: [slice, row, col].
        position_mm: [slice] along the table.
        pixel_mm: Pixel pitch.

    Returns:
        [slice, row, col].
    """
    sides = [np.asarray(position_mm, float), *(np.arange(size) * pixel_mm for size in mask.shape[1:])]
    bleeds, count = ndimage.label(mask, np.ones((3, 3, 3)))
    balls = np.zeros(mask.shape, bool)
    for number in range(1, count + 1):
        at = np.stack([side[index] for side, index in zip(sides, np.nonzero(bleeds == number), strict=True)])
        middle = (at.min(axis=1) + at.max(axis=1)) / 2
        radius = np.sqrt(((at - middle[:, None]) ** 2).sum(axis=0).max()) + pixel_mm / 2
        squares = [(side - centre) ** 2 for side, centre in zip(sides, middle, strict=True)]
        balls |= squares[0][:, None, None] + squares[1][:, None] + squares[2] <= radius**2
    return balls & (brain > 0)


def _blocks(data: PreparedDataset, label: str) -> Iterator[StudyArrays]:
    pixel_mm, position_mm = float(data.slices["pixel_mm"].iloc[0]), data.slices["position_mm"].to_numpy()
    for rows in rows_by_study(data):
        hu, brain = data.hu[rows], data.brain[rows]
        if label == "exam":
            yield hu, brain, None
            continue
        truth = require_masks(data)[rows] > 0
        if label == "box":
            mask = masks_of_boxes(hu, brain, truth, pixel_mm)
        else:
            mask = masks_of_balls(truth, brain, position_mm[rows], pixel_mm)
        yield hu, brain, mask.astype(np.uint8) * MASK_VALUES["unspecified"]
