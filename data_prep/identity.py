"""Who is who: patient and study of each DICOM image, from a table, its header or its folder.

The patient is that of the table, else PatientID, else the study; the study is StudyInstanceUID, else the series, else
the folder. Ids stay inside the reader until `privacy` hashes them.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from data_prep.dicom_volumes import Header


def known_id(text: str) -> str:
    """An id without blanks around it; empty if it has no letter and no digit."""
    return text.replace("\0", " ").strip() if re.search(r"[^\W_]", text) else ""


def names_nobody(patient: str) -> bool:
    """True for an id such as ANONYMOUS, unknown or 0000, which has no digit from 1 to 9."""
    return re.search(r"[1-9]", patient) is None


def identify(
    headers: Iterable[Header], patients: Mapping[str, str]
) -> tuple[list[Header], set[str], list[tuple[str, str]]]:
    """Completes the ids of images.

    Args:
        headers: Of each image; patient, study and series may be empty.
        patients: File → patient in a table, which goes before PatientID.

    Returns:
        The headers with three ids each; the studies whose patient is not known: without any id, or with one id that
        names nobody and that several studies share; and (file, reason) of each study under several ids.
    """
    studies: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        folder = PurePosixPath(header.file).parent.as_posix()
        patient, study, series = map(known_id, (header.patient, header.study, header.series))
        study = study or series or f"{patient} in {folder}"
        studies[study].append(header._replace(patient=patient, study=study, series=series or folder))
    identified: list[Header] = []
    patient_of: dict[str, str] = {}
    unknown, skipped = set[str](), list[tuple[str, str]]()
    for study, members in studies.items():
        listed = {patients[header.file] for header in members if patients.get(header.file)}
        found = listed or {header.patient for header in members if header.patient}
        if len(found) > 1:
            skipped.append((members[0].file, f"{len(members)} images of one study under {len(found)} patient ids"))
            continue
        patient = next(iter(found), study)
        if not found:
            unknown.add(study)
        elif not listed and names_nobody(patient):
            patient_of[study] = patient
        identified += [header._replace(patient=patient) for header in members]
    shared = Counter(patient_of.values())
    return identified, unknown | {study for study, patient in patient_of.items() if shared[patient] > 1}, skipped
