"""Window geometry read from the forward pass, and errors for inputs that do not fit."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hgisam.attention.gradients import record_attention
from hgisam.attention.adapters import find_swin
from hgisam.attention.inspection import FLAGS, inspection_mode, target_logit
from hgisam.errors import InputError
from hgisam.maps.combine import to_token_grid, to_windows, upsample
from tests.swins import GEOMETRIES, V1, blocks, build


@pytest.mark.parametrize("name", GEOMETRIES)
def test_window_reverse_undoes_the_window_partition_of_every_block(name: str) -> None:
    """The input of a block's attention, reversed to the grid, is the input of its window partition."""
    model, images = build(name)
    partitioned: list[Tensor] = []
    whole: list[Tensor] = []
    for _, _, block in blocks(model):
        block.attn.register_forward_pre_hook(lambda _, given: partitioned.append(given[0][..., 0]))
        if isinstance(model, V1):  # version 1 is pre-norm
            block.norm1.register_forward_hook(lambda _, __, output: whole.append(output[..., 0]))
        else:
            block.register_forward_pre_hook(lambda _, given: whole.append(given[0][..., 0]))
    with torch.no_grad(), record_attention(model, (0, 1, 2, 3)) as records:
        model(images)
    assert len(records) == len(partitioned) == len(whole)
    for record, windows, grid in zip(records, partitioned, whole, strict=True):
        assert record.grid == tuple(grid.shape[1:])
        torch.testing.assert_close(to_token_grid(windows, record), grid)
        torch.testing.assert_close(to_token_grid(to_windows(grid, record), record), grid)
        assert to_windows(grid, record).shape == windows.shape


def test_extent_of_a_padded_grid_exceeds_the_image() -> None:
    model, images = build("v1 padded")  # 36 px: 18, 9, 5 and 3 tokens of 2, 4, 8 and 16 px
    with torch.no_grad(), record_attention(model, (0, 1, 2, 3)) as records:
        model(images)
    assert [r.grid for r in records[::2]] == [(18, 18), (9, 9), (5, 5), (3, 3)]
    assert [r.extent[0] * 36 for r in records[::2]] == [36, 36, 40, 48]


def test_upsampling_keeps_padded_tokens_in_place() -> None:
    grid = torch.tensor([[[0.0, 1.0, 2.0]]])  # tokens of 8 px on an image of 20: 24 with padding
    whole = upsample(grid, (8, 20), (1.0, 1.2))
    assert whole.shape == (1, 8, 20)
    torch.testing.assert_close(whole, upsample(grid, (8, 24))[:, :, :20])
    wider = upsample(grid, (8, 26), (1.0, 24 / 26))  # the Swin did not see the last two columns
    assert wider[0, :, 24:].abs().sum() == 0
    torch.testing.assert_close(wider[:, :, :24], upsample(grid, (8, 24)))


def test_blocks_are_indexed_from_either_end() -> None:
    model, _ = build("v1 odd depth")
    swin = find_swin(model)
    assert swin.block_indices((3, 0, 0)) == [(0, 0), (0, 1), (0, 2), (3, 0)]
    assert swin.resolve_index(-1, -1) == (3, 0)
    assert swin.resolve_index(0, -1) == (0, 2)
    for where, message in [((4, 0), "stage: got 4"), ((-5, 0), "stage: got -5"), ((1, 1), "block: got 1")]:
        with pytest.raises(InputError, match=message):
            swin.resolve_index(*where)
    with pytest.raises(InputError, match="stages: got"):
        swin.block_indices(())


def test_inspection_mode_restores_a_model_of_mixed_modes() -> None:
    model, _ = build("v1")
    model.layers[1].train()
    model.layers[0].blocks[0].attn.fused_attn = True
    model.layers[2].grad_checkpointing = True
    model.norm.weight.requires_grad_(False)

    def state() -> list[Any]:
        flags = [[getattr(m, name, None) for name in FLAGS] for m in model.modules()]
        return [*flags, *[(p.requires_grad, p.grad) for p in model.parameters()]]

    before = state()
    with inspection_mode(model):
        assert not any(m.training for m in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
        assert state() != before
    assert state() == before
    with pytest.raises(KeyError), inspection_mode(model):
        raise KeyError
    assert state() == before


def test_find_swin_inside_a_model_and_an_error_for_none_or_two() -> None:
    model, _ = build("v2")
    assert find_swin(nn.Sequential(nn.Identity(), model)).module is model
    with pytest.raises(InputError, match="0 Swin transformers in Linear"):
        find_swin(nn.Linear(2, 2))
    with pytest.raises(InputError, match="2 Swin"):
        find_swin(nn.ModuleList([model, build("v1")[0]]))


class _Returns(nn.Module):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, images: Tensor) -> Any:
        return self.output


@pytest.mark.parametrize(
    ("output", "target", "message"),
    [
        (torch.zeros(2, 3, 4, 4), 0, r"logits: got shape \[2, 3, 4, 4\]"),
        (torch.zeros(1, 3), 0, r"expected \[2, classes\]"),
        ({"logits": torch.zeros(2, 3)}, 0, "logits: got dict"),
        (torch.full((2, 3), torch.nan), 0, "logits: got values that are not finite"),
        (torch.zeros(2, 3), 3, "target: got 3, expected an integer from 0 to 2"),
        (torch.zeros(2, 3), -1, "target: got -1"),
        (torch.zeros(2, 3), 1.0, "target: got 1.0"),
        (torch.zeros(2, 3), True, "target: got True"),
        (torch.zeros(2), 1, "target: got 1, expected 0, since the head has one logit"),
    ],
)
def test_logits_and_target_are_checked(output: Any, target: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        target_logit(_Returns(output), torch.zeros(2, 3, 8, 8), target)


def test_one_logit_is_class_zero() -> None:
    for output in (torch.tensor([1.0, 2.0]), torch.tensor([[1.0], [2.0]])):
        assert target_logit(_Returns(output), torch.zeros(2, 3, 8, 8), 0).tolist() == [1.0, 2.0]
