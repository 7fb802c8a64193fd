"""A detector of bleeds that learns from boxes, and masks from its boxes, after Spiegler et al.

Their system is a YOLO detector whose boxes prompt Segment Anything, with a correction by uncertainty. Network, size and
training are not known in detail, and are our choice: FCOS with a small ResNet-18, one class, from random weights. So
are the boxes, which are those around the bleeds of the masks; no step sees more of a mask than its boxes. The masks are
what is dense in a box, or, with Segment Anything, one map per kind of prompt (`segment_anything`). All are masks of
probability 0.5, so no threshold is chosen on masks; the threshold of the detector is chosen on boxes.

Source: Spiegler et al., arXiv 2407.20461, 2024; Tian et al., FCOS, ICCV 2019; torchvision.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import box_iou

from hgisam.config.profile import Profile
from hgisam.data.augmentation import sample_augmentation
from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam_book.studies.coarse_labels import Box, boxes, dense_in_boxes
from hgisam_book.systems.segment_anything import SAM_MAPS, SHA256, SegmentAnything, prompted_maps
from hgisam_book.systems.training import Maps, Rows, read_slices

SIZE_PX = 192  # longest side of a slice for the network; about 1 mm per pixel
MAGNIFY = 2  # at most, of smaller slices
STRIDES = (4, 8, 16, 32)  # pixels per cell of the levels of the pyramid: boxes up to 32 to 64, 64 to 128 … px
WIDTH, CONVS, GROUPS = 64, 2, 8  # channels of pyramid and heads, their convolutions, groups of a norm in the backbone
LEAST_SIDE_PX = 6.0  # of a box, as the network sees it: a smaller one may lie between the cells of the finest level
LEAST_SCORE, MOST_BOXES = 0.05, 30  # of the detections of a slice
OVERLAP = 0.3  # intersection over union of two detections of one bleed
HIT = 0.3  # least intersection over union of a detection and its bleed: 0.5 is one pixel of the smallest boxes
Detections = tuple[Tensor, Tensor]  # boxes [k, 4] as x0, y0, x1, y1 in pixels, and their scores [k], best first


class Turn(NamedTuple):
    """Rows [n] of a batch, and the number of the pass over the data, counted over all epochs."""

    rows: Rows
    number: int


class Batch(NamedTuple):
    """Slices [n, windows, row, col] and the boxes [k, 4] of each."""

    images: Tensor
    boxes: list[Tensor]


class Detector(nn.Module):
    """FCOS of one class, with ResNet-18 up to its third stage and group norm, which needs no large batches.

    Args:
        channels: Windows of a slice.
        size_px: Longest side to which slices are resampled.

    Attributes:
        score_threshold: Least score of a bleed; 1 until validation has chosen it. It is stored with the weights.
    """

    score_threshold: Tensor

    def __init__(self, channels: int, size_px: int) -> None:
        super().__init__()
        body = resnet18(weights=None, norm_layer=lambda width: nn.GroupNorm(GROUPS, width))
        body.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        stages = {"layer1": "0", "layer2": "1", "layer3": "2"}
        head = FCOSHead(WIDTH, num_anchors=1, num_classes=1, num_convs=CONVS)
        head.register_forward_hook(_as_float32)
        self.fcos = FCOS(
            BackboneWithFPN(body, stages, [64, 128, 256], WIDTH),
            num_classes=1,
            min_size=size_px,
            max_size=size_px,
            image_mean=[0.0] * channels,
            image_std=[1.0] * channels,
            anchor_generator=AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES)),
            head=head,
            score_thresh=LEAST_SCORE,
            nms_thresh=OVERLAP,
            detections_per_img=MOST_BOXES,
        )
        self.register_buffer("score_threshold", torch.ones(()))

    def forward(self, images: Tensor, true_boxes: list[Tensor] | None = None) -> dict[str, Tensor] | list[Detections]:
        """Losses of a batch in training, else its detections."""
        targets = None
        if true_boxes is not None:
            labels = [torch.zeros(len(each), dtype=torch.int64, device=each.device) for each in true_boxes]
            targets = [{"boxes": each, "labels": label} for each, label in zip(true_boxes, labels, strict=True)]
        found = self.fcos(list(images), targets)
        return found if self.training else [(each["boxes"], each["scores"]) for each in found]


@dataclass(frozen=True)
class BoxDetector:
    """The system `box_detector`.

    Its maps are `box_otsu`, brain above Otsu's threshold of a detected box, and with Segment Anything `SAM_MAPS`, for
    test slices only: they take seconds per slice, and need no validation.

    Attributes:
        sam: Folder of the two graphs of Segment Anything, from `make sam`; None to do without.
        name: Of the system.
    """

    sam: str | Path | None = None
    name: str = "box_detector"

    @cached_property
    def segmenter(self) -> SegmentAnything | None:
        """Segment Anything, loaded once."""
        return None if self.sam is None else SegmentAnything(self.sam)

    def inputs(self) -> dict[str, str]:
        """SHA-256 of what its maps depend on beside the trained network."""
        return {} if self.sam is None else dict(SHA256)

    def network(self, profile: Profile) -> nn.Module:
        """A detector with random weights."""
        return Detector(len(profile.windows), _size(profile))

    def examples(self, data: PreparedDataset, profile: Profile, epoch: int) -> Iterator[Turn]:
        """Batches of all bleeding slices and as many others, `train.passes` times."""
        rows, settings = data.rows("train"), profile.train
        bleeds = data.slices["any"].to_numpy()[rows] == 1
        for number in range(epoch * settings.passes, (epoch + 1) * settings.passes):
            rng = np.random.default_rng((profile.seed, number))
            others = rng.permutation(rows[~bleeds])[: bleeds.sum()]
            mixed = rng.permutation(np.concatenate([rows[bleeds], others]))
            for start in range(0, len(mixed), settings.batch_size):
                yield Turn(mixed[start : start + settings.batch_size], number)

    def read(self, example: Turn, data: PreparedDataset, profile: Profile, epoch: int) -> Batch:
        """Slices and their boxes, each augmented on its own, in another way in each pass of the epoch."""
        rows, number = example
        images = read_slices(data, rows, profile, number, alike=False).images
        affines = sample_augmentation(rows, profile.train.augment, profile.seed, number).affine
        annotated = zip(true_boxes(data, rows, profile), affines, strict=True)
        size_px = data.hu.shape[1]
        return Batch(images, [move(each, affine, size_px).to(images.device) for each, affine in annotated])

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Sum of FCOS's losses: focal loss of the cells, generalized IoU of the boxes, centre-ness."""
        losses: dict[str, Tensor] = network(batch.images, batch.boxes)
        return torch.stack(list(losses.values())).sum()

    def validate(self, network: nn.Module, data: PreparedDataset, profile: Profile) -> float:
        """Average precision of the boxes at IoU 0.3; sets the detector's score threshold to that of the best F1."""
        rows = data.rows("val")
        found = []
        for start in range(0, len(rows), profile.train.batch_size):
            chosen = rows[start : start + profile.train.batch_size]
            found += detect(network, read_slices(data, chosen, profile).images)
        precision, threshold = average_precision(found, true_boxes(data, rows, profile))
        network.get_buffer("score_threshold").fill_(threshold)
        return precision

    def maps(self, network: nn.Module, data: PreparedDataset, rows: Rows, profile: Profile) -> dict[str, Maps]:
        """`box_otsu` and, of test slices, `SAM_MAPS` [n, row, col]; empty where nothing is detected."""
        least = float(network.get_buffer("score_threshold"))
        found = detect(network, read_slices(data, rows, profile).images)
        hu, brain = data.hu[rows], data.brain[rows]
        pixel_mm = float(data.slices["pixel_mm"].iloc[rows[0]])
        segmenter = self.segmenter if data.slices["split"].iloc[rows[0]] == "test" else None
        names = ("box_otsu", *(SAM_MAPS if segmenter else ()))
        maps = {name: np.zeros(hu.shape, np.float32) for name in names}
        for index, (each, scores) in enumerate(found):
            chosen = each[scores >= least].cpu().numpy()
            pixels = [pixels_of(box, hu.shape[1]) for box in chosen]
            maps["box_otsu"][index] = dense_in_boxes(hu[index], brain[index], pixels, pixel_mm)
            if segmenter and len(chosen):
                rng = np.random.default_rng((profile.seed, int(rows[index])))
                prompted = prompted_maps(segmenter, hu[index], brain[index], chosen, pixels, pixel_mm, rng)
                for name in SAM_MAPS:
                    maps[name][index] = prompted[name]
        return maps


def detect(network: nn.Module, images: Tensor) -> list[Detections]:
    """Boxes [k, 4] and scores [k] of each slice of images [n, windows, row, col], in float32, without gradients.

    In lower precision the scores of equal slices would differ between batches, and so what passes the threshold.
    """
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        found: list[Detections] = network(images)
    return found


def true_boxes(data: PreparedDataset, rows: Rows, profile: Profile) -> list[Tensor]:
    """Boxes [k, 4] around the bleeds of each slice, from its mask; each side is at least `LEAST_SIDE_PX` long."""
    masks = require_masks(data)
    least = LEAST_SIDE_PX * data.hu.shape[1] / _size(profile)
    found = []
    for row in rows:
        sides = [(across.start, down.start, across.stop, down.stop) for down, across in boxes(masks[row] > 0)]
        low, high = torch.tensor(sides, dtype=torch.float32).reshape(-1, 2, 2).unbind(dim=1)
        middle, half = (low + high) / 2, ((high - low) / 2).clamp(min=least / 2)
        found.append(torch.cat([middle - half, middle + half], dim=1))
    return found


def move(annotated: Tensor, affine: Tensor, size_px: int) -> Tensor:
    """Boxes [k, 4] of a slice after augmentation; those that it moves out of the slice are left out.

    Args:
        annotated: Before it.
        affine: [2, 3], from `sample_augmentation`: new coordinates to old ones, from -1 to 1. After a rotation the
            boxes are those around the rotated boxes, not around the bleeds: an annotator gives no more.
        size_px: Of the slice.
    """
    corners = annotated[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2) * 2 / size_px - 1
    moved = (corners - affine[:, 2]) @ torch.linalg.inv(affine[:, :2]).T
    pixels = ((moved + 1) / 2 * size_px).clamp(0, size_px)
    around = torch.cat([pixels.amin(dim=1), pixels.amax(dim=1)], dim=1)
    return around[(around[:, 2:] > around[:, :2]).all(dim=1)]


def average_precision(found: Sequence[Detections], truth: Sequence[Tensor]) -> tuple[float, float]:
    """Average precision of detections at IoU 0.3, and the score from which on their F1 is best.

    A detection takes the bleed that it overlaps most among those that no better detection of the slice has taken. The
    average is over all true boxes, of the precision down to the score that finds it; 0 for those that none finds.

    Args:
        found: Detections of each slice.
        truth: True boxes [k, 4] of each slice.

    Returns:
        Average precision and score; (0, 1) if no detection hits.
    """
    scores, hits = [torch.zeros(0)], [torch.zeros(0, dtype=torch.bool)]
    for (each, score), annotated in zip(found, truth, strict=True):
        overlap = box_iou(each.cpu(), annotated) if len(annotated) else torch.zeros(len(each), 1)
        hit = torch.zeros(len(each), dtype=torch.bool)
        for index, row in enumerate(overlap):
            best = int(row.argmax())
            if row[best] >= HIT:
                hit[index] = True
                overlap[:, best] = 0
        scores.append(score.cpu())
        hits.append(hit)
    score, order = torch.cat(scores).sort(descending=True, stable=True)
    hit = torch.cat(hits)[order]
    if not hit.any():
        return 0.0, 1.0
    total, count = hit.cumsum(0), torch.arange(1, len(hit) + 1)
    bleeds = sum(len(annotated) for annotated in truth)
    precision, f1 = total / count, 2 * total / (count + bleeds)
    return float(precision[hit].sum() / bleeds), float(score[f1.argmax()])


def pixels_of(box: npt.NDArray[np.float32], size_px: int) -> Box:
    """The pixels of a slice that a box [4] touches, at least one."""
    x0, y0 = np.floor(box[:2]).clip(0, size_px - 1).astype(int)
    x1, y1 = np.ceil(box[2:]).clip((x0 + 1, y0 + 1), size_px).astype(int)
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


def _size(profile: Profile) -> int:
    """Longest side of a slice for the network."""
    return min(SIZE_PX, MAGNIFY * profile.data.image_px)


def _as_float32(_: nn.Module, __: tuple[object, ...], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """A hook: the losses of boxes, in pixels, need more digits than autocast leaves."""
    return {name: output.float() for name, output in outputs.items()}
