"""What a report says of a set: what was read, left out and mended, and what looks odd."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.inputs import Listing, counted

PLAUSIBLE_BRAIN_HU = (5.0, 70.0)  # median over the brain
MISSING_SLICE = 1.5  # a gap this many times wider than the usual one of its scan
TILTED_DEG = 1.0


def report_on(
    parts: Sequence[tuple[Path, dict[str, Any]]], listing: Listing, files: int, numbers: Mapping[str, int]
) -> dict[str, Any]:
    """What was read and what was odd about it.

    Names of files are relative to the raw folder; those that may name a person give way to their number in the sorted
    list of all files.
    """

    def said(file: str) -> str:
        return f"file {numbers[file]}" if file in numbers else file

    contents_ = [content for _, content in parts]
    used = [content for content in contents_ if content["rows"].get("patient")]
    remarks = [content["remarks"] for content in contents_]
    mended: Counter[str] = Counter()
    disagreements: Counter[str] = Counter()
    for remark in remarks:
        mended.update(remark["mended"])
        disagreements.update(remark["disagreements"])
    skipped = [*listing.skipped, *(tuple(entry) for remark in remarks for entry in remark["skipped"])]
    lesion = sum(content.get("lesion_voxels", 0) for content in used)
    low, high = PLAUSIBLE_BRAIN_HU
    return {
        "files": files,
        "studies": len(used),
        "skipped": [{"file": said(file), "reason": reason} for file, reason in skipped],
        "vendors": dict(sorted(Counter(content["remarks"]["vendor"] for content in used).items())),
        "mended": dict(sorted(mended.items())),
        "duplicates": sum(remark["duplicates"] for remark in remarks),
        "unlabelled": counted([said(file) for remark in remarks for file in remark["unlabelled"]]),
        "disagreements": dict(sorted(disagreements.items())),
        "no_brain": counted([c["study"] for c in used if not c["brain_voxels"]]),
        "odd_hu": counted([c["study"] for c in used if c["brain_voxels"] and not low <= c["brain_median_hu"] <= high]),
        "uneven_slices": counted([c["study"] for c in used if c["widest_gap"] > MISSING_SLICE]),
        "tilted": counted([c["study"] for c in used if c["tilt_deg"] > TILTED_DEG]),
        "brain_outside_field": counted([c["study"] for c in used if c["brain_outside_field"] > 0]),
        "head_outside_field": counted([c["study"] for c in used if c["head_outside_field"] > 0.02]),
        "boxes_outside_field": sum(c.get("boxes_outside_field", 0) for c in used),
        "lesion_outside_field": counted([c["study"] for c in used if c.get("lesion_outside_field", 0) > 1e-4]),
        "lesion_removed_fraction": (
            sum(c.get("lesion_voxels_outside_brain", 0) for c in used) / lesion if lesion else None
        ),
        **listing.counts,
    }
