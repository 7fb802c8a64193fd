"""Segment Anything: what its graphs are fed, prompts and maps. The real graphs are tested where `make sam` was run."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hgisam import lazy
from hgisam.data.windows import to_uint8
from hgisam.errors import InputError, MissingExtraError
from hgisam_book.studies.coarse_labels import boxes, dense_in_boxes
from hgisam_book.systems import segment_anything
from hgisam_book.systems.segment_anything import (
    DECODER,
    ENCODER,
    MEAN,
    SAM_MAPS,
    SHA256,
    STD,
    WINDOW_HU,
    SegmentAnything,
    interior_point,
    prompted_maps,
    rectify,
    shifted_boxes,
)
from tests.sam_graphs import QUALITY, write_sam

REAL = Path(__file__).parents[3] / "sam"
needs_sam = pytest.mark.skipif(not all((REAL / name).is_file() for name in SHA256), reason="needs make sam")
Image = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Recorder:
    """A session that notes what it is fed."""

    def __init__(self, session: Any) -> None:
        self.session, self.fed = session, []

    def run(self, outputs: list[str] | None, feeds: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        self.fed.append(feeds)
        return self.session.run(outputs, feeds)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins, and their hashes in place of the real ones."""
    monkeypatch.setattr(segment_anything, "SHA256", write_sam(tmp_path / "sam"))
    return tmp_path / "sam"


@pytest.fixture
def sam(folder: Path) -> SegmentAnything:
    found = SegmentAnything(folder)
    found._encoder, found._decoder = Recorder(found._encoder), Recorder(found._decoder)
    return found


def head(lesion: str, size_px: int = 192, brain_hu: float = 35.0) -> tuple[Image, npt.NDArray[np.uint8], Bools]:
    """HU, brain and bleed of a disc of a head with a skull: a round bleed, or a thin crescent under the skull."""
    rows, cols = np.mgrid[:size_px, :size_px] / size_px - 0.5
    radius = np.hypot(rows / 1.2, cols)
    brain = radius < 0.36
    if lesion == "round":
        mask = np.hypot(rows + 0.05, cols - 0.1) < 0.07
    else:
        mask = brain & (radius > 0.35) & (cols > 0.1) & (np.abs(rows) < 0.28)
    hu = np.where(brain, np.where(mask, 65.0, brain_hu), -10.0)
    hu += np.random.default_rng(0).normal(0, 4, hu.shape)
    hu[(radius >= 0.36) & (radius < 0.4)] = 900
    return hu, brain.astype(np.uint8), mask


def box_of(mask: Bools) -> npt.NDArray[np.float32]:
    (down, across), *_ = boxes(mask)
    return np.array([across.start, down.start, across.stop, down.stop], np.float32)


def dice(found: Bools, truth: Bools) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def test_an_image_is_enlarged_normalized_and_padded(sam: SegmentAnything) -> None:
    image = np.tile(np.linspace(0, 1, 64), (48, 1))
    embedding = sam.embed(image)
    fed = sam._encoder.fed[0]["input"]
    assert embedding.shape == (48, 64)
    assert fed.shape == (1, 3, 1024, 1024)
    assert fed.dtype == np.float32
    assert not fed[:, :, 768:].any()  # 48 of 64 rows of 16 pixels
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        np.testing.assert_allclose(fed[0, channel, 0, [0, -1]], [-mean / std, (255 - mean) / std], rtol=1e-5)


def test_prompts_are_points_with_labels_in_the_pixels_of_the_encoder(sam: SegmentAnything) -> None:
    embedding = sam.embed(np.zeros((32, 64)))
    sam.masks(embedding, box=[2, 4, 10, 20])
    sam.masks(embedding, points=[(3, 5)])
    logits, quality = sam.masks(embedding, box=[2, 4, 10, 20], points=[(3, 5), (6, 7)])
    assert logits.shape == (32, 64)
    assert quality == QUALITY
    expected = [
        ([[32, 64], [160, 320]], [2, 3]),
        ([[48, 80], [0, 0]], [1, -1]),
        ([[48, 80], [96, 112], [32, 64], [160, 320]], [1, 1, 2, 3]),
    ]
    for fed, (coordinates, labels) in zip(sam._decoder.fed, expected, strict=True):
        assert {value.dtype for value in fed.values()} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(fed["point_coords"], [coordinates])
        np.testing.assert_array_equal(fed["point_labels"], [labels])
        np.testing.assert_array_equal(fed["orig_im_size"], [32, 64])
        assert not fed["has_mask_input"].any()


def test_bad_input_is_one_line(folder: Path, sam: SegmentAnything, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^prompt: got neither box nor points"):
        sam.masks(sam.embed(np.zeros((16, 16))))
    with (folder / DECODER).open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"sam\.onnx: got SHA-256 .* make sam"):
        SegmentAnything(str(folder))
    (folder / ENCODER).unlink()
    with pytest.raises(InputError, match=r"encoder\.onnx: got no such file"):
        SegmentAnything(folder)
    monkeypatch.setattr(lazy, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hgisam\[sam\]'"):
        SegmentAnything(folder)


def test_the_point_lies_inside_a_crescent_where_its_centroid_does_not() -> None:
    rows, cols = np.mgrid[:96, :96]
    mask = (np.hypot(rows - 48, cols - 48) < 40) & (np.hypot(rows - 48, cols - 40) > 37)
    hu = np.where(mask, 65.0, 30.0) + np.random.default_rng(0).normal(0, 2, mask.shape)
    brain, box = np.ones(mask.shape, np.uint8), boxes(mask)[0]
    assert not mask[tuple(np.argwhere(mask).mean(axis=0).round().astype(int))]
    point = interior_point(hu, brain, box, pixel_mm=1.0)
    assert point is not None
    col, row = (int(value) for value in point)
    assert mask[row, col]
    assert mask[row - 2 : row + 3, col - 2 : col + 3].all(), "not at the edge"
    assert interior_point(hu, 0 * brain, box, pixel_mm=1.0) is None


def test_the_edges_of_shifted_boxes_stay_within_a_tenth_of_the_side() -> None:
    box = np.array([10, 20, 30, 120], np.float32)
    found = shifted_boxes(box, np.random.default_rng(3))
    assert found.shape == (8, 4)
    assert (np.abs(found - box) <= [2, 10, 2, 10]).all()
    assert (np.abs(found - box).max(axis=0) > [1, 5, 1, 5]).all()
    assert np.array_equal(found, shifted_boxes(box, np.random.default_rng(3)))


def test_uncertain_pixels_are_blood_if_they_are_as_dense() -> None:
    mean = np.array([[0.99, 0.95, 0.98, 0.4, 0.6, 0.12, 0.01]], np.float32)
    hu = np.array([[58, 60, 62, 61, 30, 60, 60]])
    # certain blood: 60 ± 1.6 HU; the last is certain tissue, whatever its density
    np.testing.assert_array_equal(rectify(mean, hu), np.float32([[0.99, 0.95, 0.98, 1, 0, 1, 0.01]]))
    unsure = np.full((1, 7), 0.5, np.float32)
    np.testing.assert_array_equal(rectify(unsure, hu), unsure)


def test_a_slice_is_encoded_once_and_has_a_map_for_each_prompt(sam: SegmentAnything) -> None:
    hu, brain, mask = head("round", 64, brain_hu=20)
    found, pixels = np.stack([box_of(mask)] * 2), boxes(mask) * 2
    maps = prompted_maps(sam, hu, brain, found, pixels, 1.0, np.random.default_rng(0))
    assert set(maps) == set(SAM_MAPS)
    assert len(sam._encoder.fed) == 1
    assert len(sam._decoder.fed) == 2 * (8 + 1 + 1 + 1)
    for name, values in maps.items():
        assert values.dtype == np.float32
        assert values.shape == hu.shape
        assert 0 <= values.min() < values.max() <= 1, name
        assert not values[brain == 0].any(), name
        assert dice(values >= 0.5, mask) > 0.8, name


@needs_sam
@pytest.mark.parametrize("lesion", ["round", "crescent"])
def test_the_real_graphs_segment_round_bleeds_but_thin_crescents_worse_than_otsu(lesion: str) -> None:
    sam, (hu, brain, mask) = SegmentAnything(REAL), head(lesion)
    embedding = sam.embed(to_uint8(hu, *WINDOW_HU) / 255)
    point = interior_point(hu, brain, boxes(mask)[0], 1.0)
    of_box, of_point = (
        dice((sam.masks(embedding, **prompt)[0] > 0) & (brain > 0), mask)
        for prompt in ({"box": box_of(mask)}, {"points": [point]})
    )
    if lesion == "round":
        assert min(of_box, of_point) > 0.9
    else:
        assert of_box < dice(dense_in_boxes(hu, brain, boxes(mask), 1.0), mask) - 0.05
        assert of_point < 0.5
