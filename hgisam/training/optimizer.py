"""AdamW, its learning-rate schedule, and the frozen backbone of linear probing."""

import math

import torch
from torch import nn

from hgisam.config.profile import Train

MIN_FRACTION = 0.01  # of the peak learning rate, where the warm-up begins and the cosine decay ends


def make_optimizer(network: nn.Module, settings: Train) -> torch.optim.AdamW:
    """AdamW without weight decay on norms, biases and relative position tables."""
    decayed = [p for name, p in network.named_parameters() if p.ndim > 1 and "relative_position" not in name]
    chosen = {id(p) for p in decayed}
    others = [p for p in network.parameters() if id(p) not in chosen]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def learning_rate(settings: Train, epoch: float) -> float:
    """Learning rate at an epoch, counted from 0 with its fraction: linear warm-up, then cosine decay to one percent.

    During linear probing it is the constant `head_learning_rate`; the schedule starts afterwards.
    """
    if epoch < settings.head_epochs:
        return settings.head_learning_rate
    epoch, epochs = epoch - settings.head_epochs, settings.epochs - settings.head_epochs
    if epoch < settings.warmup_epochs:
        return settings.learning_rate * (MIN_FRACTION + (1 - MIN_FRACTION) * epoch / settings.warmup_epochs)
    done = (epoch - settings.warmup_epochs) / max(epochs - settings.warmup_epochs, 1e-9)
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return settings.learning_rate * (MIN_FRACTION + (1 - MIN_FRACTION) * cosine)


def freeze_backbone(network: nn.Module, frozen: bool) -> None:
    """Freeze all weights except those of the head, or unfreeze all weights; only timm classifiers can be frozen."""
    head = {id(p) for p in network.get_classifier().parameters()} if frozen else set()  # type: ignore[operator]
    for parameter in network.parameters():
        parameter.requires_grad_(not frozen or id(parameter) in head)
