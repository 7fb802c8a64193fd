"""A trained network on prepared slices: sizes, batches, scores."""

import numpy as np
import pytest
import torch

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset
from hgisam.inference.predictor import SlicePredictor, probability_of_bleeding, resize
from hgisam.maps import swin_sam, swin_sam_averaged
from hgisam.models.checkpoint import Checkpoint


def test_maps_and_scores_do_not_depend_on_the_batch_size(checkpoint: Checkpoint, prepared: PreparedDataset) -> None:
    hu, brain = prepared.hu[:5], prepared.brain[:5]
    one, all_of = (
        SlicePredictor(checkpoint, batch_size=size).predict(hu, brain, {"swin_sam": swin_sam}) for size in (1, 8)
    )
    np.testing.assert_allclose(one[0]["swin_sam"], all_of[0]["swin_sam"], atol=2e-3)
    np.testing.assert_allclose(one[1], all_of[1], atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_scores_are_of_the_images_as_they_are(checkpoint: Checkpoint, prepared: PreparedDataset, size: int) -> None:
    """Also where the first method shifts and mirrors the images."""
    predictor, hu, brain = SlicePredictor(checkpoint, batch_size=size), prepared.hu[:5], prepared.brain[:5]
    _, scores = predictor.predict(hu, brain, {"swin_sam_averaged": swin_sam_averaged, "swin_sam": swin_sam})
    _, expected = predictor.predict(hu, brain, {"swin_sam": swin_sam})
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_logits_give_the_scores(checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset) -> None:
    predictor = SlicePredictor.of(checkpoint, tiny)
    hu, brain = prepared.hu[:3], prepared.brain[:3]
    logits = predictor.logits(predictor.images(hu, brain))
    assert not logits.requires_grad
    _, scores = predictor.predict(hu, brain, {"swin_sam": swin_sam})
    np.testing.assert_allclose(predictor.task.score(logits).numpy(), scores, atol=1e-6)


def test_another_network_keeps_device_precision_and_batch_size(checkpoint: Checkpoint) -> None:
    predictor = SlicePredictor(checkpoint, precision="bf16-mixed", batch_size=3)
    other = predictor.with_checkpoint(checkpoint)
    assert (other.device, other.precision, other.batch_size) == (torch.device("cpu"), "bf16-mixed", 3)


def test_the_probability_of_a_segmenter_is_its_softmax() -> None:
    logit = float(np.log(0.8 / 0.2))
    predicted = probability_of_bleeding(Conv(logit), torch.zeros(2, 3, 4, 4), 1)
    torch.testing.assert_close(predicted, torch.full((2, 4, 4), 0.8))
    assert not predicted.requires_grad


class Conv(torch.nn.Conv2d):
    """A segmenter with the same logits, 0 and `logit`, in each pixel."""

    def __init__(self, logit: float) -> None:
        super().__init__(3, 2, 1)
        self.bias = torch.nn.Parameter(torch.tensor([0.0, logit]))


@pytest.mark.parametrize("size", [2, 4, 8])
def test_resampling_keeps_size_and_mean(size: int) -> None:
    slices = torch.arange(16.0).view(1, 4, 4)
    resized = resize(slices, size)
    assert resized.shape == (1, size, size)
    assert float(resized.mean()) == pytest.approx(7.5, abs=1e-5)
    torch.testing.assert_close(resize(slices, 4), slices)
