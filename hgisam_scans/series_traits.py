"""What speaks against a series for this job, by the text of its headers and its geometry."""

import re

FEW_SLICES = 5
THICK_MM = (2.0, 6.5)  # slices of the training data, with a margin
TYPICAL_MM = 5.0
SHARP = re.compile(r"bone|edge|lung|sharp|knochen|\bos\b|\bya\b|\byb\b|ultra|detail", re.IGNORECASE)
SHARP_FROM = {"H": 50, "J": 50, "U": 50, "HR": 50, "FC": 30}  # letters of a kernel → the number from which it is sharp
CONTRAST = re.compile(r"contrast|angio|\bcta\b|perfusion|\bpost\b|\+\s?c\b|with iv|venous|arterial", re.IGNORECASE)
PLAIN = re.compile(r"non.?contrast|without|w/o|unenhanced|\bplain\b|no contrast", re.IGNORECASE)
DERIVED = re.compile(r"REFORMAT|MPR|PROJECTION|\bMIP\b|MINIP|AVERAGE|CSA|SCREEN", re.IGNORECASE)
WEIGHTS = {  # what speaks against a series → its weight
    "not axial": 7, "fewer than 5 slices": 6, "contrast medium": 5, "a reformatted or derived series": 4,
    "a sharp kernel": 3, "thin slices": 2, "thick slices": 2,
}  # fmt: skip


def traits_of(
    description: str, kernel: str, agent: str, image_type: str, slices: int, slice_mm: float, *, axial: bool
) -> tuple[str, ...]:
    """What speaks against a series, in the words of `WEIGHTS`, the worst first."""
    enhanced = bool(agent and not PLAIN.search(agent)) or bool(
        CONTRAST.search(description) and not PLAIN.search(description)
    )
    found = {
        "not axial": not axial,
        "fewer than 5 slices": slices < FEW_SLICES,
        "contrast medium": enhanced,
        "a reformatted or derived series": bool(DERIVED.search(f"{image_type} {description}")),
        "a sharp kernel": _is_sharp(kernel) or bool(SHARP.search(description)),
        "thin slices": 0 < slice_mm < THICK_MM[0],
        "thick slices": slice_mm > THICK_MM[1],
    }
    return tuple(sorted((trait for trait, holds in found.items() if holds), key=lambda trait: -WEIGHTS[trait]))


def _is_sharp(kernel: str) -> bool:
    """True for a kernel for bone: by its name, or by a number in the manner of Siemens (H60s) or Toshiba (FC30)."""
    for part in kernel.split("\\"):
        if SHARP.search(part):
            return True
        if coded := re.match(r"([A-Z]{1,2})(\d{2})", part.strip().upper()):
            return int(coded[2]) >= SHARP_FROM.get(coded[1], 100)
    return False
