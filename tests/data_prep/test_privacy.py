"""Ids: those of public sets stay, others are hashed with a secret that only the owner can read."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.prepare import prepare
from data_prep.privacy import public_ids, read_salt
from hgisam.errors import InputError
from hgisam.prepared import open_prepared

SMALL: dict[str, Any] = {"image_px": 32, "folds": 2, "field_of_view_mm": 240.0}


def test_ids_of_public_sets_stay_and_others_are_hashed(tmp_path: Path) -> None:
    name, other = public_ids(tmp_path / "one"), public_ids(tmp_path / "other")
    assert [name(i) for i in ("ID_0a1b2c3d", "049", "CQ500-CT-427")] == ["ID_0a1b2c3d", "049", "CQ500-CT-427"]
    assert not list(tmp_path.iterdir())  # no secret where none is needed
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


def test_sets_that_share_a_salt_know_each_others_patients(
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
    assert first != patient(tmp_path / "a" / "one")  # another secret: made again, not taken for done
