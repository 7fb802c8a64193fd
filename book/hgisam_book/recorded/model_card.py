"""The card that goes with a checkpoint: what it is, what it saw, how well it did, what it is for and what not."""

from collections.abc import Mapping
from typing import Any

from hgisam.models.checkpoint import Checkpoint
from hgisam.models.networks import network_name

FIGURES = {
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
| Epoch kept | {epoch} of at most {epochs}, seed {seed} |
| Weights | float16 on disk, float32 when loaded |
| Trained with | torch {torch}, timm {timm}, code {code} |

## Validation

Of the epoch kept, which was chosen by these figures; they flatter it a little.

| figure | value |
| --- | --- |
{figures}

Bleeding is said from a probability of {threshold:.3f} on.

## Use

```python
from hgisam import load_pretrained

checkpoint = load_pretrained("{load}")
```

It is for teaching and for tests of software. It is **never for diagnosis**: no part of it has been examined on patients
for that, and it is no medical device.

## Limits

- {limit}
- It expects HU, oriented and cropped as `python -m data_prep` does, and the same windows and pixel pitch.
- Its probabilities were not calibrated, and one validation split stands behind the figures above.

Licence of the weights: {terms}. `manifest.json` says how they were made.
"""
SYNTHETIC_LIMIT = "All its patients are synthetic: it knows phantoms, and what it says about a real head means nothing."
REAL_LIMIT = "Scanners, hospitals and kinds of bleeding that its training data lack are unknown to it."


def model_card(
    checkpoint: Checkpoint, about: Mapping[str, Any], manifest: Mapping[str, Any], *, load: str, synthetic: bool
) -> str:
    """Markdown made from a checkpoint's own files.

    Args:
        checkpoint: The network.
        about: Its `model.json`.
        manifest: That of its training.
        load: What `load_pretrained` is called with.
        synthetic: Whether all patients are phantoms.
    """
    profile, data, measured = checkpoint.profile, about["data"], about["validation"]
    kind = "phantoms" if synthetic else data["name"]
    return CARD.format(
        title=f"Intracranial hemorrhage, {profile.task}, trained on {kind}",
        network=network_name(profile),
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
        figures="\n".join(f"| {text} | {measured[key]:.3f} |" for key, text in FIGURES.items() if key in measured),
        threshold=checkpoint.detection_threshold,
        load=load,
        license="apache-2.0" if synthetic else "other",
        terms="Apache-2.0" if synthetic else "what the licence of the training data leaves open",
        limit=SYNTHETIC_LIMIT if synthetic else REAL_LIMIT,
        **{key: data[key] for key in ("name", "source", "licence")},
        epoch=measured["epoch"],
    )
