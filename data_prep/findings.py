"""Findings of a preparation: their table on the terminal, and the list of files beside the prepared set."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.raw_folder import Listing
from data_prep.report import Part, flagged_studies
from hgisam.runs.folders import whole_file

FINDINGS = {  # entry of the report → what was found, and what to do
    "skipped": ("files or studies skipped", "read the reasons in the list"),
    "unlabelled": ("images or slices without a label", "complete the table, if it has labels of others"),
    "labels_without_image": ("label rows without an image", "check the names in the table"),
    "readings_without_images": ("readings without images", "check the folders of the scans"),
    "boxes_without_image": ("boxes without an image", "check that all images are there"),
    "series_not_chosen": ("series of a scan that has several", "nothing, unless another one is meant"),
    "no_files": ("broken links or pipes", "restore or remove them"),
    "volumes_in_one_series": ("volumes that share a series", "they are kept apart: leave out what is not meant"),
    "duplicates": ("copies of an image", "nothing: one of them was taken"),
    "mended": ("files, slices or studies fixed", "check in dataset.json what was assumed"),
    "no_patient_id": ("studies without a patient id", "a patient may be in two splits: give ids in a table"),
    "shared_patient_id": ("studies under an id of several people?", "they stay in one split: give ids in a table"),
    "duplicate_label_rows": ("label rows that repeat another one", "nothing: they agree"),
    "slices_chronic_only": ("slices with old bleeds alone", "nothing: they stay unlabelled"),
    "disagreements": ("slices whose label and mask disagree", "check the annotation of these scans"),
    "no_hemorrhage_contradicts_subtypes": ("slices labelled healthy and bleeding", "check the table"),
    "boxes_against_readers": ("boxes in scans that readers found healthy", "check the readings"),
    "no_brain": ("studies without a brain", "look at them: is it a head, in HU?"),
    "odd_hu": ("studies whose brain has implausible HU", "correct their rescaling, or leave them out"),
    "uneven_slices": ("studies with gaps between slices", "look for missing files"),
    "tilted": ("studies with tilted slices", "nothing: they are aligned"),
    "brain_outside_field": ("studies with brain outside the field", "raise --field-of-view-mm"),
    "head_outside_field": ("studies with head outside the field", "nothing, unless brain is cut off too"),
    "lesion_outside_field": ("studies with a bleed outside the field", "raise --field-of-view-mm"),
    "boxes_outside_field": ("boxes outside the field", "raise --field-of-view-mm"),
}


def summary(out: str | Path) -> str:
    """Files and studies read and skipped, slices written; the table of findings; the path of the list of files."""
    meta = json.loads(Path(out, "dataset.json").read_text())
    counts, report, names = meta["counts"], meta["report"], list_of_files(out)
    left_out = f", {count} patients left out" if (count := report["left_out"]["patients"]) else ""
    line = (
        f"{meta['name']}: {report['files']} files, {report['studies']} studies read, {len(report['skipped'])} skipped"
        f"{left_out}; {counts['slices']} slices of {counts['patients']} patients written to {out}"
    )
    private = f"Names of the files: {names} (keep it on this machine: they may identify patients)"
    return "\n".join(filter(None, (line, findings_table(report), private if names.is_file() else "")))


def findings_table(report: Mapping[str, Any]) -> str:
    """Table of what a report counts, one line per finding with its remedy; empty if there is none."""
    rows = [(str(_count(report.get(name, 0))), *texts) for name, texts in FINDINGS.items()]
    rows = [("count", "finding", "what to do"), *(row for row in rows if row[0] != "0")]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{count:>{widths[0]}}  {finding:<{widths[1]}}  {remedy}" for count, finding, remedy in rows]
    return "\n".join(lines) if len(lines) > 1 else ""


def _count(entry: Any) -> int:
    if isinstance(entry, Mapping):
        return int(entry["count"] if "count" in entry else sum(entry.values()))
    return entry if isinstance(entry, int) else len(entry)


def list_of_files(out: str | Path) -> Path:
    """The list beside a prepared set: its names may identify people, so it stays where the raw studies are."""
    out = Path(out)
    return out.with_name(f"{out.name}.files.csv")


def write_list_of_files(out: str | Path, parts: Sequence[Part], listing: Listing, *, trusted: bool) -> None:
    """Writes each skipped file, label row without an image, and study with a finding, by its name, with the reason.

    Args:
        out: The prepared set.
        parts: Of its studies.
        listing: Of the reader.
        trusted: As in `flagged_studies`.
    """
    rows = [*listing.skipped, *((name, "a label without an image") for name in listing.without_image)]
    for _, content in parts:
        remarks, labels = content["remarks"], content["rows"].get("any", ())
        rows += [(file, reason) for file, reason in remarks["skipped"]]
        rows += [(file, "no label") for file in remarks["unlabelled"] if labels and min(labels) >= 0]
    file_of = {study.study: study.files[0] for study in listing.studies}
    for name, studies in flagged_studies(parts, listing, trusted=trusted).items():
        rows += [(file_of[study], f"{FINDINGS[name][0]}: {study}") for study in studies]
    path = list_of_files(out)
    if not rows:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as scratch:
        scratch.touch(mode=0o600)
        with scratch.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            csv.writer(file).writerows([("file", "reason"), *rows])
