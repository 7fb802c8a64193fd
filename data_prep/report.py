"""The report in `dataset.json`: files read, skipped and fixed, and implausible studies."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.raw_folder import Listing, count_and_first

PLAUSIBLE_BRAIN_HU = (5.0, 70.0)  # range of the median over the brain
MISSING_SLICE = 1.5  # a gap of this many times the median gap of its scan
TILTED_DEG = 1.0
MANY_STUDIES, UNLIKE = 3, 1.15  # studies under one id, and a ratio of their largest brain sections beyond one person's
Part = tuple[Path, dict[str, Any]]  # stem, and content of its JSON file


def build_report(parts: Sequence[Part], listing: Listing, files: int, numbers: Mapping[str, int]) -> dict[str, Any]:
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
    flagged = flagged_studies(parts, listing, trusted=not numbers)
    lesion = sum(content.get("lesion_voxels", 0) for content in used)
    return {
        "files": files,
        "studies": len(used),
        "skipped": [{"file": public_name(file), "reason": reason} for file, reason in skipped],
        "vendors": dict(sorted(Counter(content["remarks"]["vendor"] for content in used).items())),
        "mended": dict(sorted(fixes.items())),
        "duplicates": sum(remark["duplicates"] for remark in remarks),
        "unlabelled": count_and_first([public_name(file) for remark in remarks for file in remark["unlabelled"]]),
        "disagreements": dict(sorted(disagreements.items())),
        **{name: count_and_first(studies) for name, studies in flagged.items()},
        "boxes_outside_field": sum(c.get("boxes_outside_field", 0) for c in used),
        "lesion_removed_fraction": (
            sum(c.get("lesion_voxels_outside_brain", 0) for c in used) / lesion if lesion else None
        ),
        **listing.counts,
    }


def flagged_studies(parts: Sequence[Part], listing: Listing, *, trusted: bool) -> dict[str, list[str]]:
    """Implausible studies by finding.

    Args:
        parts: Of all studies.
        listing: Of the reader.
        trusted: The ids are those of a public data set: only those that name nobody are doubted.
    """
    used = [content for _, content in parts if content["rows"].get("patient")]
    low, high = PLAUSIBLE_BRAIN_HU
    unknown, shared = _unsure_patients(used, {s.study for s in listing.studies if not s.patient_known}, trusted)
    return {
        "no_patient_id": unknown,
        "shared_patient_id": shared,
        "no_brain": [c["study"] for c in used if not c["brain_voxels"]],
        "odd_hu": [c["study"] for c in used if c["brain_voxels"] and not low <= c["brain_median_hu"] <= high],
        "uneven_slices": [c["study"] for c in used if c["widest_gap"] > MISSING_SLICE],
        "tilted": [c["study"] for c in used if c["tilt_deg"] > TILTED_DEG],
        "brain_outside_field": [c["study"] for c in used if c["brain_outside_field"] > 0],
        "head_outside_field": [c["study"] for c in used if c["head_outside_field"] > 0.02],
        "lesion_outside_field": [c["study"] for c in used if c.get("lesion_outside_field", 0) > 1e-4],
    }


def _unsure_patients(used: Sequence[dict[str, Any]], unsure: set[str], trusted: bool) -> tuple[list[str], list[str]]:
    """Studies without a patient id, and studies under one id that seem to be of several people."""
    of_patient: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for content in used:
        of_patient[content["rows"]["patient"][0]].append(content)
    unknown, shared = list[str](), list[str]()
    for contents in of_patient.values():
        names = [content["study"] for content in contents]
        several = len({name.partition(".")[0] for name in names}) > 1  # not several series of one study
        sections = [content["brain_section_mm2"] for content in contents if content["brain_section_mm2"]]
        unlike = len(sections) >= MANY_STUDIES and max(sections) > UNLIKE * min(sections)
        if several and (unsure & set(names) or (unlike and not trusted)):
            shared += names
        else:
            unknown += [name for name in names if name in unsure]
    return unknown, shared
