"""Model card of a checkpoint: architecture, training data, validation metrics, intended use and limitations."""

from collections.abc import Mapping
from typing import Any

from hgisam.config.networks import Model, Segmenter
from hgisam.models.checkpoint import Checkpoint

METRICS = {
    "val_auroc": "AUROC of slices, any bleeding",
    "val_auroc_types": "AUROC of slices, mean over the types of bleeding",
    "val_dice": "Dice, mean over the bleeding slices",
    "val_loss": "loss, mean over slices",
}
CARD = """---
license: {license}
library_name: hgisam
---
# {title}

{network}, {parameters:,} parameters, trained for the task `{task}` with the profile `{profile}`.

| | |
| --- | --- |
| Classes | {classes} |
| Input | slices of {image_px} × {image_px} pixels over {field_of_view_mm:g} mm; windows {windows} |
| Training data | `{name}`, {source}, licence: {licence} |
| Patients | {patients} |
| Slices | {slices} |
| Selected epoch | {epoch} of at most {epochs}, seed {seed} |
| Weights | float16 on disk, float32 when loaded |
| Trained with | torch {torch}, timm {timm}, code {code} |

## Validation

The epoch was selected by these metrics, so they are slightly too optimistic.

| metric | value |
| --- | --- |
{figures}

A slice is predicted bleeding if its probability is at least {threshold:.3f}.

## Use

```python
from hgisam import load_pretrained

checkpoint = load_pretrained("{load}")
```

Intended use: teaching and software tests. It is **never for diagnosis**: it has no clinical evaluation and is not a
medical device.

## Limitations

- {limit}
- It expects HU, oriented and cropped as `python -m data_prep` does, and the same windows and pixel pitch.
- Its probabilities are not calibrated, and the metrics above come from a single validation split.

Licence of the weights: {terms}. `manifest.json` documents how they were trained.
"""
SYNTHETIC_LIMIT = "It was trained on synthetic patients (phantoms) only: its predictions on real scans mean nothing."
REAL_LIMIT = "It may not generalise to scanners, hospitals and types of bleeding beyond its training data."


def model_card(
    checkpoint: Checkpoint, about: Mapping[str, Any], manifest: Mapping[str, Any], *, load: str, synthetic: bool
) -> str:
    """Model card of a checkpoint as Markdown.

    Args:
        checkpoint: The checkpoint.
        about: Content of its `model.json`.
        manifest: Manifest of its training.
        load: Argument for `load_pretrained` in the example.
        synthetic: True if all patients are phantoms.
    """
    profile, data, measured = checkpoint.profile, about["data"], about["validation"]
    kind = "phantoms" if synthetic else data["name"]
    return CARD.format(
        title=f"Intracranial hemorrhage, {profile.task}, trained on {kind}",
        network=network_name(profile.task, profile.model, profile.segmenter),
        parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        task=profile.task,
        profile=profile.name,
        classes=", ".join(about["classes"]),
        image_px=profile.data.image_px,
        field_of_view_mm=profile.data.field_of_view_mm,
        windows=", ".join(f"{w.name} ({w.center_hu:g}/{w.width_hu:g} HU)" for w in profile.windows),
        patients=", ".join(f"{count:,} {split}" for split, count in data["patients"].items()),
        slices=", ".join(f"{n:,} {split} ({data['bleeding'][split]:,} bleed)" for split, n in data["slices"].items()),
        epochs=profile.train.epochs,
        seed=profile.seed,
        torch=manifest["packages"]["torch"],
        timm=manifest["packages"]["timm"],
        code=f"sha256 {manifest['code_hash'][:16]}",
        figures="\n".join(f"| {text} | {measured[key]:.3f} |" for key, text in METRICS.items() if key in measured),
        threshold=checkpoint.detection_threshold,
        load=load,
        license="apache-2.0" if synthetic else "other",
        terms="Apache-2.0" if synthetic else "as far as the licence of the training data permits",
        limit=SYNTHETIC_LIMIT if synthetic else REAL_LIMIT,
        **{key: data[key] for key in ("name", "source", "licence")},
        epoch=measured["epoch"],
    )


def network_name(task: str, model: Model, segmenter: Segmenter) -> str:
    """Name of the network of a task: timm's or MONAI's, or the numbers of a Swin."""
    if task == "segmentation":
        return segmenter.architecture
    if model.architecture is not None:
        return model.architecture
    shape = model.shape
    depths, heads = ("-".join(map(str, numbers)) for numbers in (shape.depths, shape.heads))
    numbers = f"patch {shape.patch_px}, window {model.window_tokens}, {shape.channels} channels"
    return f"swin ({numbers}, depths {depths}, heads {heads})"
