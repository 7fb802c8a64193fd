"""AdamW, its learning rate over time, and the head that may learn first."""

import math

import torch
from torch import nn

from hgisam.config.profile import Train

FLOOR = 0.01  # share of the learning rate at which the warm-up begins and the cosine ends


def make_optimizer(network: nn.Module, settings: Train) -> torch.optim.AdamW:
    """AdamW; norms, biases and relative position tables do not decay."""
    decayed = [p for name, p in network.named_parameters() if p.ndim > 1 and "relative_position" not in name]
    chosen = {id(p) for p in decayed}
    others = [p for p in network.parameters() if id(p) not in chosen]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def learning_rate(settings: Train, epoch: float) -> float:
    """The head's own rate while it learns alone; then a linear warm-up, then a cosine down to one percent.

    Args:
        settings: The section of the profile.
        epoch: Counted from 0, with its fraction.
    """
    if epoch < settings.head_epochs:
        return settings.head_learning_rate
    epoch, epochs = epoch - settings.head_epochs, settings.epochs - settings.head_epochs
    if epoch < settings.warmup_epochs:
        return settings.learning_rate * (FLOOR + (1 - FLOOR) * epoch / settings.warmup_epochs)
    done = (epoch - settings.warmup_epochs) / max(epochs - settings.warmup_epochs, 1e-9)
    return settings.learning_rate * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def set_trunk_frozen(network: nn.Module, frozen: bool) -> None:
    """Whether the head alone learns.

    Args:
        network: A timm classifier, or, if nothing is frozen, any network.
        frozen: If so, all weights but the head's stay as they are.
    """
    head = {id(p) for p in network.get_classifier().parameters()} if frozen else set()  # type: ignore[operator]
    for parameter in network.parameters():
        parameter.requires_grad_(not frozen or id(parameter) in head)
