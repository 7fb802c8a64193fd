"""The report in `dataset.json`: files read, skipped and fixed, and implausible studies."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.raw_folder import Listing, count_and_first

PLAUSIBLE_BRAIN_HU = (5.0, 70.0)  # range of the median over the brain
MISSING_SLICE = 1.5  # a gap of this many times the median gap of its scan
TILTED_DEG = 1.0


def build_report(
    parts: Sequence[tuple[Path, dict[str, Any]]], listing: Listing, files: int, numbers: Mapping[str, int]
) -> dict[str, Any]:
    """Builds the report of a preparation.

    Args:
        parts: (stem, content of its JSON file) of each part.
        listing: Of the reader.
        files: Number of files in the raw folder.
        numbers: File → number that replaces its name in the report, if names of files may identify a person.
    """

    def public_name(file: str) -> str:
        return f"file {numbers[file]}" if file in numbers else file

    contents = [content for _, content in parts]
    used = [content for content in contents if content["rows"].get("patient")]
    remarks = [content["remarks"] for content in contents]
    fixes: Counter[str] = Counter()
    disagreements: Counter[str] = Counter()
    for remark in remarks:
        fixes.update(remark["fixes"])
        disagreements.update(remark["disagreements"])
    skipped = [*listing.skipped, *(tuple(entry) for remark in remarks for entry in remark["skipped"])]
    lesion = sum(content.get("lesion_voxels", 0) for content in used)
    low, high = PLAUSIBLE_BRAIN_HU
    return {
        "files": files,
        "studies": len(used),
        "skipped": [{"file": public_name(file), "reason": reason} for file, reason in skipped],
        "vendors": dict(sorted(Counter(content["remarks"]["vendor"] for content in used).items())),
        "mended": dict(sorted(fixes.items())),
        "duplicates": sum(remark["duplicates"] for remark in remarks),
        "unlabelled": count_and_first([public_name(file) for remark in remarks for file in remark["unlabelled"]]),
        "disagreements": dict(sorted(disagreements.items())),
        "no_brain": count_and_first([c["study"] for c in used if not c["brain_voxels"]]),
        "odd_hu": count_and_first(
            [c["study"] for c in used if c["brain_voxels"] and not low <= c["brain_median_hu"] <= high]
        ),
        "uneven_slices": count_and_first([c["study"] for c in used if c["widest_gap"] > MISSING_SLICE]),
        "tilted": count_and_first([c["study"] for c in used if c["tilt_deg"] > TILTED_DEG]),
        "brain_outside_field": count_and_first([c["study"] for c in used if c["brain_outside_field"] > 0]),
        "head_outside_field": count_and_first([c["study"] for c in used if c["head_outside_field"] > 0.02]),
        "boxes_outside_field": sum(c.get("boxes_outside_field", 0) for c in used),
        "lesion_outside_field": count_and_first([c["study"] for c in used if c.get("lesion_outside_field", 0) > 1e-4]),
        "lesion_removed_fraction": (
            sum(c.get("lesion_voxels_outside_brain", 0) for c in used) / lesion if lesion else None
        ),
        **listing.counts,
    }
