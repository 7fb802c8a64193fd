"""Public ids: those of public data sets stay, others are hashed with a salt that only its owner can read."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from data_prep.preparation import prepare
from data_prep.privacy import public_ids, read_salt
from hgisam.data.labels import LABELS
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError

SMALL: dict[str, Any] = {"image_px": 32, "folds": 2, "field_of_view_mm": 240.0}


def test_ids_of_public_sets_stay_and_others_are_hashed(tmp_path: Path) -> None:
    name, other = (public_ids(tmp_path / salt, public=True) for salt in ("one", "other"))
    assert [name(i) for i in ("ID_0a1b2c3d", "049", "CQ500-CT-427")] == ["ID_0a1b2c3d", "049", "CQ500-CT-427"]
    assert not list(tmp_path.iterdir())  # no salt is made if no id is hashed
    assert name("Miller^Jane").startswith("h_")
    assert name("12345678") == name("12345678") != name("12345679")
    assert name("12345678") != other("12345678")


def test_the_salt_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ids.salt"
    salt = read_salt(path)
    assert len(salt) == 64
    assert read_salt(path) == salt
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short\n")
    with pytest.raises(InputError, match="16 or more"):
        read_salt(path)
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match="can't be read"):
        read_salt(path)


def test_data_sets_with_the_same_salt_share_patients(
    tmp_path: Path, head: Any, write_dicom: Callable[..., None]
) -> None:
    raw = tmp_path / "scans"
    raw.mkdir()
    for s in range(8):
        write_dicom(raw / f"{s}", head[0][s] + 1024, [-124, -124, s * 15.0], PatientID="12345678")

    def patient(out: Path, **options: Any) -> str:
        return str(open_prepared(prepare("folder", raw, out, **SMALL, **options)).slices["patient"].iloc[0])

    first = patient(tmp_path / "a" / "one")
    assert (
        first == patient(tmp_path / "a" / "two") == patient(tmp_path / "b" / "three", salt=tmp_path / "a" / "ids.salt")
    )
    assert first != patient(tmp_path / "c" / "four")
    assert "12345678" not in (tmp_path / "a" / "one" / "dataset.json").read_text()
    (tmp_path / "a" / "ids.salt").unlink()
    assert first != patient(tmp_path / "a" / "one")  # another salt: made again, not up to date


TEXTS = {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
NEEDED = {  # fields that the reader needs; the ids among them are planted separately
    "ImageType", "Modality", "PhotometricInterpretation", "SOPClassUID", "PatientID", "StudyInstanceUID",
    "SeriesInstanceUID", "SpecificCharacterSet",
}  # fmt: skip
PLANTED = "ZZ77Miller"


def planted_tags() -> dict[str, str]:
    """Every text field of the DICOM dictionary, each with a different string."""
    dictionary = pydicom.datadict.DicomDictionary
    known = {entry[4]: entry[0] for tag, entry in dictionary.items() if entry[4] and tag > 0x00080000}
    return {
        keyword: f"{PLANTED}^{number}"
        for number, (keyword, kind) in enumerate(known.items())
        if kind in TEXTS and keyword not in NEEDED and not keyword.startswith(("FileSet", "Referenced", "Directory"))
    }


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("kind", ["folder", "rsna"])
def test_no_text_of_a_header_leaves_it(
    kind: str, broken: bool, tmp_path: Path, head: Any, write_dicom: Callable[..., None],
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    raw = tmp_path / "raw"
    images = raw / ("stage_2_train" if kind == "rsna" else f"{PLANTED} of ward 3")
    images.mkdir(parents=True)
    tags, lines = planted_tags(), ["ID,Label"]
    assert len(tags) > 1500
    for patient in range(2):
        ids = {tag: f"{PLANTED}-{tag}-{patient}" for tag in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")}
        for s in range(8):
            name = f"ID_{patient}{s}0000abc" if kind == "rsna" else f"{PLANTED} {patient} {s}"
            path = images / (f"{name}.dcm" if kind == "rsna" else name)
            write_dicom(path, head[0][s] + 1024, [-77.0625, -124, s * 15.0], **(tags | ids))
            if broken and s == 3:
                path.write_bytes(path.read_bytes().replace(b"-77.0625", PLANTED[:8].encode()))
            lines += [f"{name}_{label},{int(patient == 0)}" for label in ("any", "subdural")]
            lines += [f"{name}_{label},0" for label in LABELS if label not in ("any", "subdural")]
    if kind == "rsna":
        (raw / "stage_2_train.csv").write_text("\n".join(lines) + "\n")
    out = prepare(kind, raw, tmp_path / "set", **SMALL)
    data = open_prepared(out)
    assert len(data.slices) == 16 - 2 * broken
    names = "\n".join(str(path.relative_to(out)) for path in out.rglob("*"))
    texts = names + caplog.text + "".join(capfd.readouterr()) + data.slices.to_csv()
    assert PLANTED[:8] not in texts
    for path in out.rglob("*"):
        assert path.is_dir() or PLANTED[:8].encode() not in path.read_bytes(), path
