"""Profiles: everything that a run depends on, in one validated YAML file that holds every key."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hgisam.config.networks import Model, Segmenter
from hgisam.config.overrides import apply_override, first_error, put, read_yaml, unknown_key
from hgisam.errors import InputError

SHIPPED = Path(__file__).with_name("profiles")
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
MethodName = Literal[
    "hgi_sam", "swin_sam", "hgi_sam_averaged", "swin_sam_averaged", "grad_cam", "hires_cam", "layer_cam",
    "ablation_cam", "score_cam", "rollout", "relevance", "attn_lrp", "gradient_input", "integrated_gradients",
]  # fmt: skip


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Phantom(_Section):
    """Synthetic studies, made only where no real ones are given."""

    training_patients: Positive
    excerpt: Positive | None = None  # training patients to make where every network is recorded; null: all
    evaluation_patients: Positive
    matrix: Annotated[int, Field(ge=64)]


class Data(_Section):
    """Prepared grid and split."""

    image_px: Positive
    field_of_view_mm: PositiveFloat
    validation_fraction: Fraction
    folds: Annotated[int, Field(ge=3)]  # one test, one validation, the others training


class Window(_Section):
    """CT window, level (center) and width in HU; the same in training and test."""

    name: str
    center_hu: float
    width_hu: PositiveFloat


class Augment(_Section):
    """Ranges of the random augmentation of training slices; zero turns one off."""

    flip: Probability
    rotate_deg: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    shift: Annotated[float, Field(ge=0, lt=1)]
    gain: Annotated[float, Field(ge=0, lt=1)]
    noise_hu: Annotated[float, Field(ge=0, le=1000)]
    blur_px: Annotated[float, Field(ge=0, le=20)]
    hide: Annotated[float, Field(ge=0, lt=1)]  # share of the cells of a slice that are hidden (hide-and-seek)
    hide_cells: Annotated[int, Field(gt=0, le=256)]  # along a side
    gamma: Annotated[float, Field(ge=0, le=5)]  # 0.3: gamma transform with exponents from exp(-0.3) to exp(0.3)
    low_resolution: Annotated[float, Field(ge=0, lt=1)]  # 0.3: half of the slices are downsampled by up to 0.3
    rim_hu: Annotated[float, Field(ge=0, le=500)] = 0  # brightness of the rim under the skull, at the skull


class Train(_Section):
    """Optimisation; `batch_size` is that of one step, however many processes and accumulated parts share it."""

    checkpoint: str | None  # adopted instead of training: name of a shipped checkpoint, or folder of a training
    recipe: Literal[
        "corrected", "published"
    ]  # "published" trains as the released code does, "corrected" without its defects
    start_from: str | None  # checkpoint whose backbone the training starts from
    fold: Annotated[int, Field(ge=0)]  # of the set with masks, held out from a segmenter
    patients: Positive | None  # random subset: so many bleeding patients, and as many others; null is all
    shuffle_labels: bool  # sanity check: each training slice gets the labels of another
    crop_px: Positive | None  # side of the random crops that a segmenter trains on; null is whole slices
    passes: Positive  # over the training slices per epoch
    head_epochs: Annotated[int, Field(ge=0)]  # linear probing: first epochs with a frozen backbone
    head_learning_rate: PositiveFloat
    epochs: Positive
    batch_size: Positive
    accumulate: Positive  # gradient accumulation: parts of a batch
    learning_rate: PositiveFloat
    weight_decay: NonNegative
    warmup_epochs: NonNegative
    clip_norm: NonNegative  # gradient clipping; 0 is none
    monitor: Literal["auroc", "loss", "dice"]  # validation metric of the best epoch and early stopping
    patience: Positive
    focal_gamma: NonNegative  # focal loss; 0 is cross entropy
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    save_minutes: PositiveFloat  # between two saved states
    tensorboard: bool
    augment: Augment

    @property
    def softmax_before_loss(self) -> bool:
        """Whether the loss, which takes logits, is given probabilities: it cannot fall below 0.313 then."""
        return self.recipe == "published"

    @property
    def scale(self) -> Literal["brain", "slice"]:
        """What the network sees, see `hgisam.data.preprocess.Preprocessor`."""
        return "slice" if self.recipe == "published" else "brain"


class Maps(_Section):
    """From attention to maps; see `hgisam.maps`."""

    methods: Annotated[list[MethodName], Field(min_length=1)]
    gradient_at: Literal["scores", "weights"]
    stages: list[Annotated[int, Field(ge=0, le=3)]]
    batch_size: Positive


class Evaluate(_Section):
    """Thresholds and intervals."""

    thresholds: Annotated[int, Field(ge=2)]
    bootstrap: Annotated[int, Field(ge=100)]


class Study(_Section):
    """Trainings of the book's studies, besides the run's own."""

    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]  # of binary versus subtype
    label_budget: Annotated[list[Positive], Field(min_length=1)]  # annotated scans that a segmenter is trained on
    trainings: dict[str, dict[str, Any]]  # name → key → value, see `Profile.variant`


class Compute(_Section):
    """Hardware and precision."""

    accelerator: Literal["auto", "cpu", "gpu"]
    devices: Positive  # processes per node, one per GPU
    nodes: Positive
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    compile: bool  # torch.compile
    checkpointing: bool  # activation checkpointing
    jobs: Positive
    trainings: Positive  # of a study in parallel, each on its share of the cores
    chapters: Positive = 1  # of the book side by side, each on its share of the cores; light ones take one core


class Profile(_Section):
    """A resolved profile.

    Attributes: the sections, each with its keys; see the shipped files in `hgisam/config/profiles`.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    task: Literal["binary", "subtype", "segmentation"]
    phantom: Phantom
    data: Data
    windows: Annotated[list[Window], Field(min_length=1)]
    model: Model
    segmenter: Segmenter
    train: Train
    maps: Maps
    evaluate: Evaluate
    study: Study
    compute: Compute

    def variant(self, training: str, overrides: Sequence[str] = ()) -> "Profile":
        """The profile of one of `study.trainings`, with further overrides `section.key=value`.

        Raises:
            InputError: If there is none of that name, or its settings do not fit.
        """
        if training not in self.study.trainings:
            expected = f"one of {', '.join(self.study.trainings)}"
            raise InputError(f"training {training!r}", "not in study.trainings", expected, "Add it to the profile.")
        values, own = self.model_dump(mode="json"), self.study.trainings[training]
        if own.get("task", self.task) == "segmentation":  # not for MONAI's networks
            put(values, "compute.checkpointing", False)
        for key, value in own.items():
            put(values, key, value)
        return _validated(values, overrides)

    @property
    def pixel_mm(self) -> float:
        """Pixel pitch of the prepared grid in mm."""
        return self.data.field_of_view_mm / self.data.image_px

    @model_validator(mode="after")
    def _fits(self) -> Self:
        patch_px, window = self.model.shape.patch_px, self.model.window_tokens
        smallest, coarsest = 8 * patch_px * window, 2**self.segmenter.halvings
        if self.data.image_px % smallest:
            expected = f"a multiple of 8 × {patch_px} × {window} = {smallest}, so that windows tile every stage"
            remedy = "Change it, model.window_tokens, or the patch size of the model."
            raise InputError("profile key data.image_px", self.data.image_px, expected, remedy)
        if self.data.image_px % coarsest or self.data.image_px < 2 * coarsest:  # a norm needs more than one value
            expected = f"a multiple of {coarsest}, at least {2 * coarsest}, for a {self.segmenter.architecture}"
            remedy = "Change it, or the section segmenter."
            raise InputError("profile key data.image_px", self.data.image_px, expected, remedy)
        return self

    @model_validator(mode="after")
    def _trains(self) -> Self:
        train, processes = self.train, self.compute.devices * self.compute.nodes
        if train.batch_size < 2 * processes * train.accumulate:
            parts = f"compute.devices × compute.nodes × train.accumulate = {processes * train.accumulate} parts"
            raise ValueError(f"train.batch_size = {train.batch_size} leaves less than two slices for each of {parts}")
        if (train.monitor == "dice") != (self.task == "segmentation") and train.monitor != "loss":
            raise ValueError(f"train.monitor: {train.monitor} is not measured for the task {self.task}")
        if self.task == "segmentation" and (train.head_epochs or train.start_from or train.focal_gamma):
            raise ValueError("train.head_epochs, start_from and focal_gamma are for classifiers, not for segmentation")
        if self.task == "segmentation" and train.shuffle_labels:
            raise ValueError("train.shuffle_labels is for classifiers; a segmenter trains on masks")
        if self.task != "segmentation" and train.crop_px:
            raise ValueError("train.crop_px is for segmentation; classifiers see whole slices")
        coarsest = 2**self.segmenter.halvings
        if train.crop_px and (train.crop_px % coarsest or not 2 * coarsest <= train.crop_px <= self.data.image_px):
            raise ValueError(
                f"train.crop_px = {train.crop_px} must be a multiple of {coarsest} for a "
                f"{self.segmenter.architecture}, at least {2 * coarsest}, "
                f"and at most data.image_px = {self.data.image_px}"
            )
        if self.task != "segmentation" and train.fold:
            raise ValueError("train.fold is for segmentation; classifiers train on a set of its own, so it must be 0")
        if train.fold >= self.data.folds:
            raise ValueError(f"train.fold = {train.fold} is not one of data.folds = {self.data.folds}, counted from 0")
        if train.head_epochs >= train.epochs:
            raise ValueError(f"train.head_epochs = {train.head_epochs} leaves none of train.epochs = {train.epochs}")
        if train.recipe == "published" and train.augment.hide:
            raise ValueError("train.recipe: published sees whole slices; train.augment.hide must be 0")
        if train.recipe == "published" and (self.task != "binary" or train.focal_gamma or train.label_smoothing):
            raise ValueError("train.recipe: published is for the binary task, without focal_gamma and label_smoothing")
        return self


def profile_names() -> list[str]:
    """Names of the shipped profiles.

    Example:
        >>> profile_names()
        ['laptop', 'paper', 'smoke']
    """
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_profile(name: str | Path, overrides: Sequence[str] = ()) -> Profile:
    """Reads and validates a profile.

    Args:
        name: A shipped profile's name, or the path of a YAML file.
        overrides: `section.key=value`, values in YAML.

    Raises:
        InputError: For an unknown profile or key, naming the nearest known one, or a value that does not fit.

    Example:
        >>> load_profile("smoke", ["train.epochs=3"]).train.epochs
        3
    """
    return _validated(_read(name), overrides)


def _validated(values: dict[str, Any], overrides: Sequence[str]) -> Profile:
    for override in overrides:
        apply_override(values, override)
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        raise _explain(error) from None


def _read(name: str | Path) -> dict[str, Any]:
    path = Path(name)
    if str(name) in profile_names():
        path = SHIPPED / f"{name}.yaml"
    elif path.suffix not in {".yaml", ".yml"} or not path.is_file():
        expected = f"one of {', '.join(profile_names())}, or the path of a .yaml file"
        near = difflib.get_close_matches(str(name), profile_names(), n=1)
        remedy = f"Did you mean {near[0]}?" if near else "Name one of them."
        raise InputError("profile", repr(str(name)), expected, remedy)
    values = read_yaml(path, f"profile {name}")
    if not isinstance(values, dict):
        raise InputError(f"profile {name}", type(values).__name__, "a YAML mapping", "Start from a shipped profile.")
    return values


def _explain(error: ValidationError) -> InputError:
    """One line for the first thing that pydantic found."""
    first = first_error(error)
    if isinstance(own := first.get("ctx", {}).get("error"), InputError):
        return own
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        model: Any = Profile
        for part in location[:-1]:
            annotation = model.model_fields[part].annotation if hasattr(model, "model_fields") else None
            if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
                annotation = Window
            model = annotation
        return unknown_key(key, location[-1], list(model.model_fields))
    if first["type"] == "missing":
        return InputError(f"profile key {key}", "nothing", "a value", "Every profile holds every key; add it.")
    if not location:
        return InputError("profile", "settings that do not fit together", first["msg"], "Change one of them.")
    remedy = "Change it in the profile or with --set."
    return InputError(f"profile key {key}", repr(first["input"]), first["msg"], remedy)
