"""Memory of training, counted from the tensors of the network itself."""

import copy

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def training_memory(network: nn.Module, images: Tensor) -> dict[str, float]:
    """Memory of weights, gradients, optimizer state and the activations of one image during training.

    Autocast counts if the caller enters it. Activation checkpointing is not supported: use a network without it.

    Args:
        network: On the device of `images`; not changed.
        images: [2, C, H, W]; the second image adds the activations of one image.

    Returns:
        MB of weights, gradients, moments (AdamW state), and image (activations that the forward pass of one image saves
        for the backward pass).
    """
    weights, gradients = (
        sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad or not trainable_only)
        for trainable_only in (False, True)
    )
    image = _saved_bytes(network, images) - _saved_bytes(network, images[:1].clone())
    counted = {"weights": weights, "gradients": gradients, "moments": _moment_bytes(network), "image": image}
    return {name: count / 1e6 for name, count in counted.items()}


def _moment_bytes(network: nn.Module) -> int:
    """Bytes of the AdamW state after one step, from a copy of the network on the meta device."""
    shapes = copy.deepcopy(network).to("meta")
    optimizer = torch.optim.AdamW(shapes.parameters())
    for parameter in shapes.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    tensors = (value for state in optimizer.state.values() for value in state.values())
    return sum(value.numel() * value.element_size() for value in tensors)


def _saved_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes that autograd saves in a forward pass; several views of one storage count once."""
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        logits = network(images)  # noqa: F841 (keeps the graph alive)
    return sum(saved.values())
