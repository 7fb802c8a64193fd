"""Inference on slices: a trained network with its preprocessing, device and precision, behind one object."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgisam.attention.hooks import record_outputs
from hgisam.config.profile import Profile
from hgisam.models.checkpoint import Checkpoint
from hgisam.models.device import autocast, choose_device

Method = Callable[..., Tensor]  # of `hgisam.maps`, its options bound to it
HalfMaps = npt.NDArray[np.float16]
Predictions = tuple[dict[str, HalfMaps], npt.NDArray[np.float64]]  # name → maps [B, H, W], and scores [B]
PROBABILITY = "probability"  # the only method of a segmenter
HU = npt.NDArray[np.int16]
Brain = npt.NDArray[np.uint8]  # 0 outside


class SlicePredictor:
    """Maps, scores and logits of prepared slices by a trained network.

    Args:
        checkpoint: A classifier or a segmenter; its model is moved to the device.
        device: Where the network computes.
        precision: "32-true", "bf16-mixed" or "16-mixed".
        batch_size: Slices per forward pass.

    Example:
        >>> import numpy as np
        >>> from hgisam import hgi_sam, load_pretrained
        >>> predictor = SlicePredictor(load_pretrained("phantom-binary"))
        >>> hu, brain = np.full((2, 192, 192), 35, np.int16), np.ones((2, 192, 192), np.uint8)
        >>> maps, scores = predictor.predict(hu, brain, {"hgi_sam": hgi_sam})
        >>> maps["hgi_sam"].shape, scores.shape
        ((2, 192, 192), (2,))
    """

    def __init__(
        self, checkpoint: Checkpoint, *,
        device: str | torch.device = "cpu", precision: str = "32-true", batch_size: int = 32,
    ) -> None:  # fmt: skip
        self.checkpoint, self.precision, self.batch_size = checkpoint, precision, batch_size
        self.device = torch.device(device)
        self.model, self.task = checkpoint.model.to(self.device), checkpoint.task

    @classmethod
    def of(cls, checkpoint: Checkpoint, profile: Profile) -> "SlicePredictor":
        """A predictor with the device, precision and batch size of a profile."""
        device = choose_device(profile.compute.accelerator)
        return cls(checkpoint, device=device, precision=profile.compute.precision, batch_size=profile.maps.batch_size)

    def with_checkpoint(self, checkpoint: Checkpoint) -> "SlicePredictor":
        """A predictor of another network, with the same device, precision and batch size."""
        return SlicePredictor(checkpoint, device=self.device, precision=self.precision, batch_size=self.batch_size)

    def images(self, hu: HU, brain: Brain) -> Tensor:
        """Input of the network [B, C, image_px, image_px] on the device, from prepared slices [B, H, W]."""
        size = self.checkpoint.profile.data.image_px
        resized, inside = (resize(torch.from_numpy(array).to(self.device).float(), size) for array in (hu, brain))
        return self.checkpoint.preprocess(resized, inside >= 0.5)

    def maps(self, images: Tensor, method: Method, size: int) -> HalfMaps:
        """Maps [B, size, size] of the bleeding class, from `images`; `size` is the side of the prepared slices."""
        parts = []
        for batch in torch.split(images, self.batch_size):
            with autocast(self.precision, self.device):
                maps = method(self.model, batch, self.task.bleeding)
            parts.append(resize(maps, size).half().cpu())
        return torch.cat(parts).numpy()

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Logits from `images`, in one forward pass."""
        with autocast(self.precision, self.device):
            logits: Tensor = self.model(images)
        return logits

    def predict(self, hu: HU, brain: Brain, methods: Mapping[str, Method]) -> Predictions:
        """Maps by at least one method, and scores (probability of bleeding), of prepared slices [B, H, W].

        The scores come from the forward pass of the first method.
        """
        images = self.images(hu, brain)
        first, *_ = methods
        logits: list[Tensor] = []

        def watched(model: nn.Module, batch: Tensor, target: int) -> Tensor:
            with record_outputs(model) as outputs:
                found = methods[first](model, batch, target)
            logits.append(outputs[0])  # a method may look at the images more than once, first as they are
            return found

        used = {**methods, first: watched}
        maps = {name: self.maps(images, method, hu.shape[1]) for name, method in used.items()}
        return maps, self.task.score(torch.cat(logits)).double().cpu().numpy()


def probability_of_bleeding(model: nn.Module, images: Tensor, target: int) -> Tensor:
    """Softmax [B, H, W] of class `target`, by a segmenter, of images [B, C, H, W]: a method as in `hgisam.maps`."""
    with torch.no_grad():
        logits: Tensor = model(images)  # [B, K, H, W]
    return logits.float().softmax(dim=1)[:, target]


def resize(slices: Tensor, size: int) -> Tensor:
    """Bilinear resampling with antialiasing, [B, H, W] → [B, size, size]."""
    if slices.shape[1] == size:
        return slices
    return F.interpolate(slices[:, None], (size, size), mode="bilinear", align_corners=False, antialias=True)[:, 0]
