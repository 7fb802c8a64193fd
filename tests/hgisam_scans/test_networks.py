"""Networks by name or folder, with their thresholds and calibration; and the shipped one on a scan."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

import hgisam
from hgisam.config.profile import Profile, load_profile
from hgisam.data.labels import SUBTYPES
from hgisam.errors import InputError
from hgisam.inference.predictor import PROBABILITY
from hgisam.models.checkpoint import save_checkpoint, shipped_checkpoints
from hgisam.models.networks import build_network
from hgisam_scans.blood_density import density_of_scan, with_density
from hgisam_scans.calibration import CALIBRATED, calibrate
from hgisam_scans.networks import BEST_WEAK, HALF, PLAIN, REFINED, load_networks
from tests.conftest import TINY, untrained
from tests.data_prep.conftest import make_ct_ich

ROWS = pd.DataFrame({"pixel_mm": [7.5] * 2, "slice_mm": [5.0] * 2})


def save(folder: Path, profile: Profile) -> Path:
    """Writes an untrained checkpoint as a training does."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    save_checkpoint(folder, untrained(build_network(profile).eval(), profile), {})
    (folder / "manifest.json").write_text("{}")
    return folder


@pytest.fixture
def run(tiny: Profile, tmp_path: Path) -> Path:
    """A run with a classifier, a segmenter, refined maps, and thresholds of its evaluation."""
    save(tmp_path / "run" / "train", tiny)
    save(tmp_path / "run" / "baselines" / "unet" / "fold-0", tiny.variant("unet"))
    save(tmp_path / "run" / "refined" / "self_trained", tiny.variant("hgi_sam_refined"))
    (tmp_path / "run" / "refined" / "pseudo").mkdir()
    (tmp_path / "run" / "refined" / "pseudo" / "density.json").write_text('{"threshold_hu": 5.0}')
    (tmp_path / "run" / "results").mkdir()
    methods = {"hgi_sam": {"threshold": 0.2, "folds": []}, REFINED: {"threshold": 0.3, "folds": []}}
    content = json.dumps({"dataset": "test", "methods": methods})
    (tmp_path / "run" / "results" / "thresholds.json").write_text(content)
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("part", "method", "expected"),
    [
        ("", None, ("hgi_sam", 0.2, "run/train")),
        ("train", None, ("hgi_sam", 0.2, "run/train")),
        ("", REFINED, (REFINED, 0.3, "run/train")),
        ("baselines/unet/fold-0", None, (PROBABILITY, HALF, "unet/fold-0")),
    ],
)
def test_a_run_its_segmenter_and_its_refined_method_are_read_with_their_thresholds(
    part: str, method: str | None, expected: tuple[str, float, str], run: Path
) -> None:
    (network,) = load_networks(run / part, method=method)
    assert (network.method, network.threshold, network.name) == expected
    rng = np.random.default_rng(0)
    hu, brain = rng.normal(35, 5, (2, 32, 32)).astype(np.int16), np.ones((2, 32, 32), np.uint8)
    maps, scores = network.predict(hu, brain, ROWS)
    assert maps.shape == hu.shape
    assert 0 <= maps.min() <= maps.max() <= 1
    assert scores.shape == (2,)


def test_a_method_without_a_threshold_needs_one(run: Path) -> None:
    with pytest.raises(InputError, match=r"threshold of grad_cam: got none beside train.*--threshold"):
        load_networks(run, method="grad_cam")
    assert load_networks(run, method="grad_cam", threshold=0.5)[0].threshold == 0.5


def test_members_of_an_ensemble_read_one_field_of_view(run: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "wide", load_profile("smoke", [*TINY, "data.field_of_view_mm=300"]))
    assert len(load_networks([run, run])) == 2
    with pytest.raises(InputError, match=r"fields of view of \d+ mm and 300 mm"):
        load_networks([run, other], threshold=0.5)


def test_a_run_recorded_without_weights_is_named(run: Path) -> None:
    (run / "train" / "model.json").unlink()
    with pytest.raises(InputError, match="recorded without weights"):
        load_networks(run)


def test_a_calibration_of_other_weights_is_ignored(run: Path, tmp_path: Path) -> None:
    """Thresholds, interval and reference of small heads; then the weights change."""
    make_ct_ich(tmp_path / "raw", patients=12)
    path = calibrate(run / "train", data=tmp_path / "raw", methods=["hgi_sam"])
    content = json.loads(path.read_text())
    assert content["cohort"] == "8 scans of ct-ich"
    assert set(content["intervals"]) == {"hgi_sam"}
    assert content["density_threshold_hu"] is None
    (network,) = load_networks(run / "train")
    assert network.method == PLAIN
    assert network.calibration is not None
    chosen = json.loads((run / "train" / "thresholds.json").read_text())["methods"]["hgi_sam"]["threshold"]
    assert network.threshold == chosen
    reference = network.calibration.reference
    assert reference["slice_mm"][0] <= 15 <= reference["slice_mm"][1]
    found = hgisam.segment(tmp_path / "raw" / "ct_scans" / "050.nii", run / "train")
    assert found.doubts == ()
    assert found.calibrated
    torch.manual_seed(1)
    profile = network.predictor.checkpoint.profile
    save_checkpoint(run / "train", untrained(build_network(profile), profile), {})
    assert load_networks(run / "train")[0].calibration is None


def test_where_a_density_threshold_is_calibrated_the_fusion_is_the_default(run: Path, tmp_path: Path) -> None:
    """Its maps are those of HGI-SAM and the density; a calibration of an earlier version has none, and is read."""
    with pytest.raises(InputError, match=r"method hgi_sam_density of .*: got no density threshold.*hgisam calibrate"):
        load_networks(run, method=BEST_WEAK)
    make_ct_ich(tmp_path / "raw", patients=12)
    path = calibrate(run, data=tmp_path / "raw")
    content = json.loads(path.read_text())
    assert set(content["intervals"]) == set(CALIBRATED)
    assert 36 <= content["density_threshold_hu"] <= 64
    (fused,), (plain,) = load_networks(run), load_networks(run, method=PLAIN)
    assert (fused.method, plain.method) == (BEST_WEAK, PLAIN)
    chosen = json.loads((run / "train" / "thresholds.json").read_text())["methods"]
    assert fused.threshold == chosen[BEST_WEAK]["threshold"]
    rng = np.random.default_rng(0)
    hu, brain = rng.normal(45, 15, (2, 32, 32)).astype(np.int16), np.ones((2, 32, 32), np.uint8)
    expected = with_density(plain.predict(hu, brain, ROWS)[0], density_of_scan(hu, brain, ROWS), 50.0)
    at_50 = replace(fused, density_threshold_hu=50.0)
    np.testing.assert_allclose(at_50.predict(hu, brain, ROWS)[0], expected, atol=1e-6)
    assert expected.max() > 0.1
    segmenter = run / "baselines" / "unet" / "fold-0"
    assert [each.method for each in load_networks([run, segmenter])] == [BEST_WEAK, PROBABILITY]
    found = hgisam.segment(tmp_path / "raw" / "ct_scans" / "050.nii", [run, segmenter])
    assert found.method == "hgi_sam_density + probability"
    del content["density_threshold_hu"], content["intervals"][BEST_WEAK]
    path.write_text(json.dumps(content))
    (old,) = load_networks(run)
    assert old.calibration is not None
    assert old.method == PLAIN


def test_methods_that_cannot_be_calibrated_are_one_line(run: Path, tmp_path: Path) -> None:
    make_ct_ich(tmp_path / "raw", patients=2)
    with pytest.raises(InputError, match="--method: got 'gradcam'"):
        calibrate(run, data=tmp_path / "raw", methods=["gradcam"])


@pytest.mark.parametrize("name", ["phantom-binary", "phantom-subtype"])
def test_a_shipped_network_segments_a_scan(name: str, head: Any, tmp_path: Path) -> None:
    affine = np.diag([-4.0, -4.0, 15.0, 1.0])
    nib.save(nib.Nifti1Image(head[0].transpose(2, 1, 0), affine), tmp_path / "scan.nii")
    scan = hgisam.segment(tmp_path / "scan.nii", name, gate=False, threshold=0.5)
    assert scan.mask.shape == scan.map.shape == head[0].shape
    assert scan.scores.shape == (8,)
    assert scan.spacing == (15.0, 4.0, 4.0)
    assert 0 < scan.ml < 4000
    assert bool(scan.ml_by_subtype) == (name == "phantom-subtype")
    if scan.ml_by_subtype:
        assert set(scan.ml_by_subtype) == set(SUBTYPES)
        assert sum(scan.ml_by_subtype.values()) == pytest.approx(scan.ml)
    assert [path.name for path in scan.save_nifti(tmp_path / "out")][:2] == ["mask.nii.gz", "map.nii.gz"]


@pytest.mark.parametrize("name", shipped_checkpoints())
def test_a_shipped_checkpoint_is_calibrated(name: str) -> None:
    """Of other weights, a calibration is ignored: it is measured again with each new network."""
    (network,) = load_networks(name)
    assert network.calibration is not None
    assert network.calibration.weights == network.sha256
    assert network.calibration.intervals[network.method].of(10.0) is not None
