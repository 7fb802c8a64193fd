"""Initial weights of a network: a local file of pretrained weights, or another training. Nothing is downloaded."""

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from timm.models import adapt_input_conv
from timm.models.swin_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from hgisam.config.networks import Model
from hgisam.config.profile import Profile, Train, Window
from hgisam.errors import InputError
from hgisam.models.checkpoint import checkpoint_folder, load_pretrained, load_tensors

log = logging.getLogger(__name__)

PATCHES = "patch_embed.proj.weight"  # [channels, windows, rows, cols]
TABLE = "relative_position_bias_table"  # [(2·window - 1)², heads]
FETCH = (
    "Nothing is downloaded here: fetch weights where there is a network, e.g. `hf download "
    "timm/swin_base_patch4_window12_384.ms_in22k model.safetensors --local-dir weights`, compare `sha256sum "
    "weights/model.safetensors` with the hub's page, and set model.pretrained to the file's path, or to null."
)


def load_initial_weights(network: nn.Module, profile: Profile) -> None:
    """Load the initial weights that a profile names into a new network: `model.pretrained`, then `train.start_from`.

    Raises:
        InputError: As in `load_local_weights`; or if `train.start_from` is no checkpoint, has another architecture, or
            was trained on other windows.
    """
    if profile.task != "segmentation" and profile.model.pretrained is not None:
        load_local_weights(network, profile.model.pretrained, profile.model.pretrained_sha256)
    if profile.train.start_from is not None:
        _load_from_training(network, profile.train.start_from, windows=profile.windows, task=profile.task)


def load_local_weights(model: nn.Module, path: str | Path, sha256: str | None = None) -> None:
    """Load a Swin's backbone from a safetensors file in place, and log what was adapted and what is new.

    As in timm: the patch embedding is repeated, cut or summed to the model's windows and scaled, and resampled to
    another patch size; relative position tables are interpolated to another window size. Checkpoints of the Swin
    authors, which hold buffers and merge patches at the end of a stage, are read too. The head keeps its weights.

    Args:
        model: A timm Swin, unchanged after an error.
        path: A local safetensors file.
        sha256: Expected SHA-256 of the file, in hexadecimal; None for any.

    Raises:
        InputError: If the file does not exist, has another hash, or belongs to another architecture.

    Source: timm, `swin_transformer.checkpoint_filter_fn`, `adapt_input_conv`. Unlike timm, refuses tensors that the
        model lacks.
    """
    path = Path(path)
    if sha256 is not None and path.is_file():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            remedy = "Fetch the file again, or fix the hash if you meant this one."
            raise InputError("profile key model.pretrained_sha256", f"{path} of hash {found}", sha256, remedy)
    weights = load_tensors(path, remedy=FETCH)
    own = {key: value for key, value in model.state_dict().items() if not key.startswith("head.")}
    for key, value in weights.items():
        if not _adaptable(key, value, own):
            raise _misfit(path, key, weights, own)
    fitted = {k: v for k, v in checkpoint_filter_fn(weights, model).items() if not k.startswith("head.")}
    if PATCHES in fitted:
        windows = own[PATCHES].shape[1]
        fitted[PATCHES] = adapt_input_conv(windows, fitted[PATCHES], base_chans=fitted[PATCHES].shape[1])
    if misfits := _misfits(fitted, own):
        raise _misfit(path, misfits[0], fitted, own)
    new = model.load_state_dict(fitted, strict=False).missing_keys
    adapted = [key for key, value in fitted.items() if key in weights and weights[key].shape != value.shape]
    log.info("%s: adapted %s; new %s", path, ", ".join(adapted) or "nothing", ", ".join(new))


def _adaptable(key: str, value: Tensor, own: Mapping[str, Tensor]) -> bool:
    """Return whether timm, which does not check, can resize a tensor: patches have sides, tables are square."""
    if key == PATCHES:
        return value.ndim == 4
    if key.endswith(TABLE):
        side = math.isqrt(len(value))
        return key in own and value.shape[1:] == own[key].shape[1:] and side**2 == len(value) and side % 2 == 1
    return True


def _misfits(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Tensors outside the head that only one of the two has, or whose shapes differ."""
    shapes, own_shapes = ({key: value.shape for key, value in side.items()} for side in (given, own))
    keys = (key for key in {**own, **given} if not key.startswith("head."))
    return [key for key in keys if shapes.get(key) != own_shapes.get(key)]


def _misfit(path: Path, key: str, given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> InputError:
    """Error that names a tensor that does not fit, with both shapes."""
    got, expected = (str(list(side[key].shape)) if key in side else "absent" for side in (given, own))
    remedy = "Set model.architecture, or its numbers, to the Swin of the file, or model.pretrained to null."
    what = f"{path}, where {key} is {got}"
    return InputError("profile key model.pretrained", what, f"{expected}, as in the profile's Swin", remedy)


def _load_from_training(network: nn.Module, name: str, *, windows: Sequence[Window], task: str) -> None:
    """Copy the weights of a checkpoint in place; a head with other classes keeps its own."""
    source = load_pretrained(name)
    if source.profile.windows != windows:
        remedy = "Give the profile the same windows."
        raise InputError("train.start_from", "a network trained on other windows", "those of this profile", remedy)
    own, weights = network.state_dict(), source.model.state_dict()
    if source.profile.task != task:
        weights = {key: value for key, value in weights.items() if not key.startswith("head.")}
        log.info("the head is new: it has other classes than that of %s", name)
    if misfits := _misfits(weights, own):
        got = f"another network: {len(misfits)} tensors differ, first {misfits[0]}"
        remedy = "Start from a checkpoint with the same sections model and data."
        raise InputError("train.start_from", got, "the profile's own", remedy)
    network.load_state_dict(weights, strict=False)


def weight_files(train: Train, model: Model) -> dict[str, Path]:
    """Name → weight file of everything that a training starts from, for its manifest.

    Raises:
        InputError: If a checkpoint does not exist.
    """
    names = {"checkpoint": train.checkpoint, "start_from": train.start_from}
    files = {key: checkpoint_folder(name) / "model.safetensors" for key, name in names.items() if name}
    if (local := model.pretrained) is not None and local.is_file():
        files["pretrained"] = local
    return files
