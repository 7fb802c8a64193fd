"""What training holds in memory, counted on the network itself instead of on paper."""

import copy

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def training_memory(network: nn.Module, images: Tensor) -> dict[str, float]:
    """What weights, gradients, AdamW and one image hold while a network learns.

    Autocast counts where the caller enters it. What a checkpointed block keeps is not seen: give a network without.

    Args:
        network: On the device of `images`; left as it is.
        images: [2, C, H, W]: what the second adds is what an image needs.

    Returns:
        MB of weights, gradients, moments (of AdamW), and image (what the forward pass of one keeps for its way back).
    """
    weights, gradients = (
        sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad or not learning)
        for learning in (False, True)
    )
    image = _kept_bytes(network, images) - _kept_bytes(network, images[:1].clone())
    counted = {"weights": weights, "gradients": gradients, "moments": _moment_bytes(network), "image": image}
    return {name: count / 1e6 for name, count in counted.items()}


def _moment_bytes(network: nn.Module) -> int:
    """What AdamW keeps after its first step, made on a copy that has shapes and no contents."""
    shapes = copy.deepcopy(network).to("meta")
    optimizer = torch.optim.AdamW(shapes.parameters())
    for parameter in shapes.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    kept = (value for state in optimizer.state.values() for value in state.values())
    return sum(value.numel() * value.element_size() for value in kept)


def _kept_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes that the graph of a forward pass holds; several views of one storage count once."""
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        logits = network(images)  # noqa: F841 (as long as it lives, so does what it was made from)
    return sum(held.values())
