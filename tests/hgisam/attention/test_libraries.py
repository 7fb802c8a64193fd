"""Every library and both dimensions: recorded attention, its place, its gradient; the model left as it was."""

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torchvision.models import resnet18, vit_b_32
from transformers import Swinv2Model, SwinModel

from hgisam.attention import attention_gradients, find_swin, record_attention
from hgisam.attention.hooks import SOFTMAX
from hgisam.attention.inspection import FLAGS
from hgisam.errors import InputError
from hgisam.maps import METHODS, hgi_sam
from hgisam.maps.combine import to_token_grid, to_windows
from tests import libraries
from tests.libraries import LIBRARIES, build

STAGES = (0, 1, 2, 3)


def logits_of(model: nn.Module, images: Tensor, logit: Callable[[Any], Tensor] | None) -> Tensor:
    output = model(images)
    return logit(output) if logit else getattr(output, "logits", output)


def eager(model: nn.Module) -> nn.Module:
    """The model without fused attention, which rounds in another way."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
        if hasattr(module, "config"):
            module.config._attn_implementation = "eager"
    return model


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_block_is_recorded_once_and_logits_stay_bit_equal(name: str) -> None:
    model, images, logit = build(name)
    with torch.no_grad():
        expected = logits_of(eager(model), images, logit)
        with record_attention(model, STAGES) as records:
            found = logits_of(model, images, logit)
    assert torch.equal(found, expected)
    assert [(b.stage, b.block) for b in records] == [(s, b) for s in STAGES for b in (0, 1)]
    for block in records:
        torch.testing.assert_close(block.attention.sum(dim=-1), torch.ones(block.attention.shape[:-1]))
        torch.testing.assert_close(block.scores.softmax(dim=-1), block.attention)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_token_of_a_window_is_where_the_map_puts_it(name: str) -> None:
    """A score depends on its query and its key alone: the token that two scores of a query share is the query's."""
    model, images, logit = build(name)
    inputs: list[Tensor] = []
    for blocks in find_swin(model).stages:
        for block in blocks:
            block.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with record_attention(model, STAGES) as records:
        logits_of(model, images[:1].requires_grad_(), logit)
    generator = torch.Generator().manual_seed(2)
    for record, tokens in zip(records, inputs, strict=True):
        windows, _, n, _ = record.attention.shape
        for _ in range(4):
            window, query = (int(torch.randint(most, (), generator=generator)) for most in (windows, n))
            place = torch.ones(1, *record.grid, dtype=torch.bool)
            for key in ((query + 1) % n, (query + 2) % n):
                (moved,) = torch.autograd.grad(record.scores[window, 0, query, key], tokens, retain_graph=True)
                place &= moved.reshape(1, *record.grid, -1).abs().sum(dim=-1) > 0
            one = torch.zeros(windows, n)
            one[window, query] = 1
            assert torch.equal(place, to_token_grid(one, record) > 0), (record.stage, record.block, window, query)
        grid = torch.rand(1, *record.grid, generator=generator)
        torch.testing.assert_close(to_token_grid(to_windows(grid, record), record), grid)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("gradient_at", ["scores", "weights"])
def test_gradients_are_finite_differences_of_the_logit(name: str, gradient_at: str) -> None:
    model, images, logit = build(name)
    model, images = eager(model).double(), images[:1].double()
    options: dict[str, Any] = {"stages": STAGES, "gradient_at": gradient_at, "logit": logit}
    records, gradients = attention_gradients(model, images, 1, **options)
    step = 1e-4

    class Changed(torch.overrides.TorchFunctionMode):
        """Changes one entry of the n-th softmax."""

        def __init__(self, number: int, index: tuple[int, ...], by: float) -> None:
            super().__init__()
            self.left, self.index, self.by = number, index, by

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func not in SOFTMAX:
                return func(*args, **(kwargs or {}))
            self.left -= 1
            change = torch.zeros_like(args[0])
            if self.left == -1:
                change[self.index] = self.by
            if gradient_at == "scores":
                return func(args[0] + change, *args[1:], **(kwargs or {}) | {"dtype": torch.float64})
            return func(*args, **(kwargs or {}) | {"dtype": torch.float64}) + change

    def score(number: int, index: tuple[int, ...], by: float) -> float:
        with torch.no_grad(), Changed(number, index, by):
            return float(logits_of(model, images, logit)[0, 1])

    for number in (3,) if name == "SwinUNETR 3-D" else (0, 3, 5):
        windows, heads, n, _ = gradients[number].shape
        index = (windows // 2, heads - 1, n // 3, n // 2)
        expected = (score(number, index, step) - score(number, index, -step)) / (2 * step)
        # transformers computes its softmax in float32, also of doubles
        assert float(gradients[number][index]) == pytest.approx(expected, rel=2e-3, abs=1e-7)
    assert len(records) == 8


def state(model: nn.Module) -> list[Any]:
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    names = (*FLAGS, "window_size", "shift_size")
    flags = [[copy.copy(getattr(m, name, None)) for name in names] for m in model.modules()]
    implementations = [m.config._attn_implementation for m in model.modules() if hasattr(m, "config")]
    return [hooks, flags, implementations, [(p.requires_grad, p.grad) for p in model.parameters()]]


@pytest.mark.parametrize("name", LIBRARIES)
def test_nothing_is_left_on_the_model(name: str) -> None:
    model, images, logit = build(name)
    model.train()
    before, weights = state(model), copy.deepcopy(model.state_dict())
    for target in (1, 9):
        try:
            hgi_sam(model, images, target, logit=logit)
        except InputError as error:
            assert "target" in str(error)
        assert state(model) == before
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert images.grad is None


def test_an_image_whose_last_grid_is_smaller_than_a_window_is_an_error_in_version_1_of_transformers() -> None:
    """It shrinks the window, but not its table of position biases, and fails."""
    model, images, _ = build("transformers")
    with pytest.raises(RuntimeError):
        model(images[..., :48])
    model, images, _ = build("transformers")  # that call has shrunk the windows for good
    with pytest.raises(InputError, match=r"expected \[B, 3, > 48, > 48\]"):
        hgi_sam(model, images[..., :48], 1)
    assert hgi_sam(model, images[..., :49], 1).shape == (2, 64, 49)


def test_a_library_is_imported_only_if_a_model_comes_from_it() -> None:
    code = (
        "import sys, torch, hgisam.maps\n"
        "others = {'timm', 'torchvision', 'transformers', 'monai'}\n"
        "print(*sorted(others & set(sys.modules)))\n"
        "from torchvision.models import swin_t\n"
        "hgisam.maps.swin_sam(swin_t(), torch.rand(1, 3, 32, 32), 0)\n"
        "print(*sorted(others & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "torchvision"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(resnet18()), "0 Swin transformers in Sequential.*GradCAM, e.g. of pytorch-grad-cam"),
        (lambda: vit_b_32(), "0 Swin transformers in VisionTransformer.*A ViT has no windows"),
        (lambda: nn.ModuleList([libraries.timm_swin(), libraries.torchvision_swin()]), "2 Swin transformers"),
        (lambda: nn.Linear(2, 2), "one Swin of timm, torchvision, transformers or MONAI"),
    ],
    ids=["CNN", "ViT", "two", "neither"],
)
def test_what_is_no_swin_is_one_line_with_what_to_do(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(InputError, match=message):
        hgi_sam(make(), torch.zeros(1, 3, 64, 64), 0)


def headless(name: str) -> nn.Module:
    if name == "timm":
        model = libraries.timm_swin()
        model.reset_classifier(0)
        return model
    if name == "torchvision":
        model = libraries.torchvision_swin()
        model.head = nn.Identity()
        return model
    if name == "transformers":
        return libraries.transformers_swin().swin
    if name == "transformers v2":
        return libraries.transformers_swin(version=2).swinv2
    return libraries.monai_swin().swin


@pytest.mark.parametrize("name", ["timm", "torchvision", "transformers", "transformers v2", "MONAI 3-D"])
def test_an_encoder_without_a_head_is_an_error_that_a_head_or_logit_fixes(name: str) -> None:
    encoder, (_, given, _) = headless(name), build(name)
    with pytest.raises(InputError, match=r"a Swin without a head, which returns features.*logit="):
        hgi_sam(encoder, given, 0)

    def features(output: Any) -> Tensor:
        pooled = getattr(output, "pooler_output", output)
        tensor: Tensor = pooled[-1].flatten(2).mean(dim=2) if isinstance(pooled, list) else pooled
        return tensor[:, :2]

    assert hgi_sam(encoder, given, 1, logit=features).max() == 1
    assert isinstance(encoder, SwinModel | Swinv2Model) == name.startswith("transformers")


@pytest.mark.parametrize("name", ["timm", "torchvision", "transformers", "MONAI 2-D", "MONAI 3-D", "SwinUNETR 3-D"])
def test_images_that_do_not_fit_are_one_line(name: str) -> None:
    model, images, logit = build(name)
    for bad, message in [
        (images[0], "images: got shape"),
        (images[:0], "B ≥ 1"),
        (images.to(torch.uint8), "uint8"),
        (images.where(images > -1, torch.nan), "not finite"),
        (torch.cat([images, images], dim=1), r"images: got shape .* at the Swin, expected \[B, "),
        (images[..., 0] if images.ndim == 5 else images[..., None], "2-D Swin, volumes to a 3-D one"),
        (images[..., :0], "images: got shape"),
    ]:
        with pytest.raises(InputError, match=message):
            hgi_sam(model, bad, 1, logit=logit)
    with pytest.raises(InputError, match="target: got 7"):
        hgi_sam(model, images, 7, logit=logit)
    with pytest.raises(InputError, match="brain: got shape"):
        hgi_sam(model, images, 1, logit=logit, brain=torch.ones(1, 2, 3))


def test_a_segmenter_needs_a_logit_and_a_size_that_it_takes() -> None:
    model, volumes, logit = build("SwinUNETR 3-D")
    with pytest.raises(InputError, match=r"logits: got shape \[2, 2, 32, 32, 64\].*Give logit="):
        hgi_sam(model, volumes, 1)
    with pytest.raises(InputError, match="images: got shape .*SwinUNETR says .*must be divisible by"):
        hgi_sam(model, volumes[..., :24], 1, logit=logit)


def test_flash_attention_and_checkpointing_of_monai_are_off_while_recording() -> None:
    model, volumes, logit = build("SwinUNETR 3-D")
    other = libraries.swin_unetr(use_flash_attention=True, use_checkpoint=True)
    other.load_state_dict(model.state_dict())
    for method in ("hgi_sam", "swin_sam"):
        torch.testing.assert_close(
            METHODS[method](other, volumes, 1, logit=logit), METHODS[method](model, volumes, 1, logit=logit)
        )
    assert other.swinViT.layers1[0].blocks[0].use_checkpoint
    assert other.swinViT.layers1[0].blocks[0].attn.use_flash_attention


def test_hidden_blocks_of_another_kind_are_named() -> None:
    model, volumes, _ = build("MONAI 3-D")
    model.swin.layers2[0].blocks[1].attn = nn.Identity()
    with pytest.raises(InputError, match="attention of stage 1, block 1: got Identity"):
        hgi_sam(model, volumes, 1)


@pytest.fixture
def one_process() -> Any:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


UNDERSTOOD = {
    "torch.compile": lambda model: torch.compile(model, backend="eager"),
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": nn.parallel.DistributedDataParallel,
}


@pytest.mark.parametrize("how", UNDERSTOOD)
@pytest.mark.parametrize("name", ["timm", "torchvision", "transformers", "MONAI 3-D"])
def test_maps_of_a_wrapped_model_are_those_of_the_model(one_process: Any, name: str, how: str) -> None:
    model, images, logit = build(name)
    expected = hgi_sam(model, images, 1, logit=logit)
    torch.testing.assert_close(hgi_sam(UNDERSTOOD[how](model), images, 1, logit=logit), expected)


def test_peft_is_understood() -> None:
    peft = pytest.importorskip("peft")
    model, images, _ = build("transformers")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    torch.testing.assert_close(hgi_sam(adapted, images, 1), hgi_sam(model, images, 1))  # LoRA starts at zero
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_B" in key:
                parameter.normal_()
    merged = copy.deepcopy(adapted).merge_and_unload()
    changed = hgi_sam(adapted, images, 1)
    torch.testing.assert_close(changed, hgi_sam(merged, images, 1), rtol=0, atol=1e-4)
    assert (changed - hgi_sam(model, images, 1)).abs().max() > 0.01


def test_gradient_checkpointing_of_transformers_is_off_while_recording() -> None:
    model, images, _ = build("transformers")
    expected = hgi_sam(model, images, 1)
    model.train()
    model.gradient_checkpointing_enable()
    torch.testing.assert_close(hgi_sam(model, images, 1), expected)
    assert model.is_gradient_checkpointing


def scripted() -> nn.Module:
    return torch.jit.trace(libraries.timm_swin(), torch.zeros(1, 3, 64, 64), check_trace=False)


def quantised() -> nn.Module:
    model = libraries.torchvision_swin()
    with torch.no_grad():
        model.head.weight = nn.Parameter(model.head.weight.to(torch.int8), requires_grad=False)
    return model


def checkpointed() -> nn.Module:
    model = libraries.timm_swin()
    model.layers[0].blocks[0] = checkpoint_wrapper(model.layers[0].blocks[0])
    return model


REFUSED = {
    "scripted": (scripted, "model: got a scripted or traced one"),
    "graph": (lambda: torch.fx.symbolic_trace(libraries.torchvision_swin()), "torch.fx"),
    "quantised": (quantised, "model: got a quantised one"),
    "checkpoint_wrapper": (checkpointed, "model: got checkpoint_wrapper"),
    "meta": (lambda: libraries.timm_swin().to("meta"), "model: got weights on the meta device"),
    "inner DataParallel": (lambda: nn.Sequential(nn.DataParallel(libraries.timm_swin())), "wrapped as a whole"),
}


@pytest.mark.parametrize("how", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_hides_blocks_or_weights_is_refused_by_name(how: str) -> None:
    make, message = REFUSED[how]
    with pytest.raises(InputError, match=message):
        hgi_sam(make(), torch.zeros(1, 3, 64, 64), 0)
