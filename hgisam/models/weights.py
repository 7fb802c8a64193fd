"""Where a network's first weights come from: a local file of pretrained weights, or another training.

Nothing is downloaded.
"""

import hashlib
import logging
import math
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from timm.models import adapt_input_conv
from timm.models.swin_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from hgisam.config.profile import Profile
from hgisam.errors import InputError
from hgisam.models.checkpoint import checkpoint_folder, load_pretrained

log = logging.getLogger(__name__)

PATCHES = "patch_embed.proj.weight"  # [channels, windows, rows, cols]
TABLE = "relative_position_bias_table"  # [(2·window - 1)², heads]
FETCH = (
    "Nothing is downloaded here: fetch weights where there is a network, e.g. `hf download "
    "timm/swin_base_patch4_window12_384.ms_in22k model.safetensors --local-dir weights`, compare `sha256sum "
    "weights/model.safetensors` with the hub's page, and set model.pretrained to the file's path, or to null."
)


def load_local_weights(model: nn.Module, path: Path, sha256: str | None = None) -> None:
    """Loads all of a Swin but its head from a safetensors file; says in the log what was adapted and what is new.

    As timm does for its own weights: the patch embedding is repeated, cut or summed to the model's windows and scaled,
    and resampled to another patch; relative position tables are interpolated to another window. Checkpoints of the
    Swin authors, which hold buffers and merge patches at the end of a stage, are read too. The head stays new.

    Args:
        model: Changed in place.
        path: A local safetensors file.
        sha256: What the file must hash to, in hexadecimal; None for any.

    Raises:
        InputError: If the file is not there, is another than its hash says, or belongs to another architecture; the
            model is as it was then.

    Source: timm, `swin_transformer.checkpoint_filter_fn`, `adapt_input_conv`. Departs from timm, which
        lets tensors that the model lacks go unheard.
    """
    weights = _read(path, sha256)
    own = {key: value for key, value in model.state_dict().items() if not key.startswith("head.")}
    for key, value in weights.items():
        if not _adaptable(key, value, own):
            raise _misfit(path, key, weights, own)
    fitted = {k: v for k, v in checkpoint_filter_fn(weights, model).items() if not k.startswith("head.")}
    if PATCHES in fitted:
        windows = own[PATCHES].shape[1]
        fitted[PATCHES] = adapt_input_conv(windows, fitted[PATCHES], base_chans=fitted[PATCHES].shape[1])
    for key in {**own, **fitted}:
        if key not in own or key not in fitted or fitted[key].shape != own[key].shape:
            raise _misfit(path, key, fitted, own)
    new = model.load_state_dict(fitted, strict=False).missing_keys
    adapted = [key for key, value in fitted.items() if key in weights and weights[key].shape != value.shape]
    log.info("%s: adapted %s; new %s", path, ", ".join(adapted) or "nothing", ", ".join(new))


def _read(path: Path, sha256: str | None) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError("profile key model.pretrained", f"{path}, no file here", "a local safetensors file", FETCH)
    if sha256 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            remedy = "Fetch the file again, or mend the hash if you meant this one."
            raise InputError("profile key model.pretrained_sha256", f"{path} of hash {found}", sha256, remedy)
    try:
        weights: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        got = f"{path} ({error})"
        raise InputError("profile key model.pretrained", got, "a readable safetensors file", FETCH) from None
    return weights


def _adaptable(key: str, value: Tensor, own: Mapping[str, Tensor]) -> bool:
    """Whether timm, which does not ask, can resize a tensor: patches have sides, tables have a block and a square."""
    if key == PATCHES:
        return value.ndim == 4
    if key.endswith(TABLE):
        side = math.isqrt(len(value))
        return key in own and value.shape[1:] == own[key].shape[1:] and side**2 == len(value) and side % 2 == 1
    return True


def _misfit(path: Path, key: str, given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> InputError:
    """Names the first tensor that does not fit, with both shapes."""
    got, expected = (str(list(side[key].shape)) if key in side else "absent" for side in (given, own))
    remedy = "Set model.architecture, or its numbers, to the Swin of the file, or model.pretrained to null."
    what = f"{path}, where {key} is {got}"
    return InputError("profile key model.pretrained", what, f"{expected}, as in the profile's Swin", remedy)


def weight_files(profile: Profile) -> dict[str, Path]:
    """Name → file of everything that a training takes weights from, for its manifest.

    Raises:
        InputError: If a checkpoint is not there.
    """
    names = {"checkpoint": profile.train.checkpoint, "start_from": profile.train.start_from}
    files = {key: checkpoint_folder(name) / "model.safetensors" for key, name in names.items() if name}
    if (local := profile.model.pretrained) is not None and local.is_file():
        files["pretrained"] = local
    return files


def load_initial_weights(network: nn.Module, profile: Profile) -> None:
    """Gives a new network the weights that its training starts from, if the profile names some.

    Args:
        network: From `build_network`, changed in place.
        profile: `model.pretrained` is loaded first, then `train.start_from`.

    Raises:
        InputError: As `load_local_weights` and `start_from` do.
    """
    if profile.task != "segmentation" and profile.model.pretrained is not None:
        load_local_weights(network, profile.model.pretrained, profile.model.pretrained_sha256)
    if profile.train.start_from is not None:
        start_from(network, profile.train.start_from, profile)


def start_from(network: nn.Module, name: str, profile: Profile) -> None:
    """Copies the weights of a checkpoint in place; a head with other classes stays as it is.

    Args:
        network: Changed in place.
        name: Of a shipped checkpoint, or the folder of a training.
        profile: Of the network.

    Raises:
        InputError: If there is no such checkpoint, or it is of another network or reads other channels.
    """
    source = load_pretrained(name)
    if source.profile.windows != profile.windows:
        remedy = "Give the profile the same windows."
        raise InputError("train.start_from", "a network trained on other windows", "those of this profile", remedy)
    own, weights = network.state_dict(), source.model.state_dict()
    if source.profile.task != profile.task:
        weights = {key: value for key, value in weights.items() if not key.startswith("head.")}
        log.info("the head is new: it has other classes than that of %s", name)
    unfit = [key for key, value in weights.items() if key not in own or own[key].shape != value.shape]
    unfit += [key for key in own if key not in weights and not key.startswith("head.")]
    if unfit:
        raise InputError(
            "train.start_from", f"another network: {len(unfit)} tensors differ, first {unfit[0]}",
            "the profile's own", "Start from a checkpoint with the same sections model and data.",
        )  # fmt: skip
    network.load_state_dict(weights, strict=False)
