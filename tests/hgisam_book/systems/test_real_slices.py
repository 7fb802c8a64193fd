"""The ladder on another set than that of its networks: every method that a record has, and where its maps are cut."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam.errors import InputError
from hgisam.evaluation.masks import HU_GRID, smoothed_hu
from hgisam_book.studies import real_heads
from hgisam_book.studies.real_heads import best_dice, bleeding_rows
from hgisam_book.systems import real_slices
from hgisam_book.systems.real_slices import measure_ladder

RECORD = Path(__file__).resolve().parents[3] / "book" / "recorded" / "laptop-2-cores"
NETWORKS = (
    "train", "price/exam/swin", "refined/self_trained", "price/box/fold-0", "price/box/fold-1", "price/slice_mil",
    "baselines/label_budget/1-scans/fold-0", "baselines/unet/fold-0",
)  # fmt: skip


@pytest.fixture(autouse=True)
def any_brain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_heads, "MIN_BRAIN_CM2", 0.0)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A record with some of the networks."""
    for name in NETWORKS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(RECORD / name)
    return tmp_path


def test_methods_of_the_networks_that_are_there(record: Path, prepared: PreparedDataset) -> None:
    found = measure_ladder(record, prepared, 50.0)
    assert set(found) == {
        "smooth_hu_threshold", "rule_alone", "density_alone", "hgi_sam", "hgi_sam_otsu", "swin_sam", "grad_cam",
        "hgi_sam_density", "exam_hgi_sam", "exam_hgi_sam_otsu", "exam_swin_sam", "exam_grad_cam", "self_trained_half",
        "hgi_sam_refined", "box", "unet_1", "mixed_1", "unet_all", "slice_mil",
    }  # fmt: skip
    assert {method for method, one in found.items() if one["networks"] == 2} == {"box"}
    assert all(0 <= one["dice"] <= 1 for one in found.values())
    rows = bleeding_rows(prepared)
    truth, brain, pixel_mm = require_masks(prepared)[rows] > 0, prepared.brain[rows], prepared.slices["pixel_mm"][0]
    smooth = best_dice(smoothed_hu(prepared.hu[rows], brain, pixel_mm), truth, brain, HU_GRID)
    assert found["smooth_hu_threshold"]["dice"] == smooth["dice"]


def test_maps_have_a_threshold_and_masks_have_none(prepared: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = bleeding_rows(prepared)
    truth = (require_masks(prepared)[rows] > 0).astype(np.float32)

    def score_maps(*_: object) -> Iterator[tuple[str, np.ndarray]]:
        for method in ("hgi_sam", "box_otsu"):
            yield method, 0.4 * truth
            yield method, 0.6 * truth

    monkeypatch.setattr(real_slices, "_score_maps", score_maps)
    found = measure_ladder("anything", prepared, 50.0)
    assert found["hgi_sam"] == {"dice": 1.0, "networks": 2}
    assert found["box_otsu"] == {"dice": 0.5, "networks": 2}  # at one half: nothing of the first, all of the second


def test_another_folder_is_one_line(tmp_path: Path, prepared: PreparedDataset) -> None:
    with pytest.raises(InputError, match=r"record|train"):
        measure_ladder(tmp_path, prepared, 50.0)
