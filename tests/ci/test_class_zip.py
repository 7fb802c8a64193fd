"""The zip of a class: complete, without solutions, with a spoilt set whose faults can be found, and its key outside."""

import zipfile
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

import class_zip
import spoilt_set
import teaching
from facts import read_chapter
from hgisam.data import SUBTYPES, open_prepared
from hgisam.errors import InputError
from tests.conftest import make_prepared

CHAPTERS = sorted(class_zip.BOOK.glob("[0-9]*.ipynb"))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return make_prepared(tmp_path / "good", patients=16)


def medians(data: Any) -> dict[str, float]:
    """Median HU of the brain of each study."""
    return {
        str(study): float(np.median(data.hu[rows][data.brain[rows] > 0]))
        for study, rows in data.slices.groupby("study").indices.items()
    }


def test_the_spoilt_set_has_each_fault_in_a_scan_of_its_own(good: Path, tmp_path: Path) -> None:
    found = spoilt_set.write_spoilt(good, tmp_path / "spoilt", seed=3)
    names = [fault.__name__ for fault in spoilt_set.FAULTS] + ["leak"]
    at = dict(zip(names, (study for study, _ in found), strict=True))
    before, after = open_prepared(good), open_prepared(tmp_path / "spoilt", verify=True)
    rows = {str(study): rows for study, rows in after.slices.groupby("study").indices.items()}
    assert before.mask is not None
    assert after.mask is not None

    own = rows[at["shift_mask"]]
    assert not np.array_equal(after.mask[own], before.mask[own])
    assert np.array_equal(after.hu[own], before.hu[own])
    own = rows[at["swap_labels"]]
    assert not after.slices.iloc[own][list(SUBTYPES)].equals(before.slices.iloc[own][list(SUBTYPES)])
    assert after.slices["any"].iloc[own].equals(before.slices["any"].iloc[own])
    own = rows[at["turn_upside_down"]]
    assert np.array_equal(after.hu[own], before.hu[own][:, ::-1])
    assert np.array_equal(after.mask[own], before.mask[own])
    own = rows[at["forget_labels"]]
    assert (after.slices["any"].iloc[own] == 0).all()
    assert after.mask[own].any()
    odd = {study for study, median in medians(after).items() if median > 500}
    assert odd == {at["forget_intercept"]}
    original, copy = at["leak"].split(" and ")
    assert np.array_equal(after.hu[rows[original]], after.hu[rows[copy]])
    assert set(after.slices["split"].iloc[rows[original]]) != set(after.slices["split"].iloc[rows[copy]])

    touched = {*at.values(), original, copy}
    for study in before.slices["study"].unique():
        if str(study) not in touched:
            assert np.array_equal(after.hu[rows[str(study)]], before.hu[rows[str(study)]])


def test_the_seed_chooses_the_scans(good: Path, tmp_path: Path) -> None:
    found = [spoilt_set.write_spoilt(good, tmp_path / f"s{n}", seed) for n, seed in enumerate((1, 1, 2))]
    assert found[0] == found[1] != found[2]


def test_too_few_bleeding_scans_or_no_masks_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 bleeding scans, expected at least 6"):
        spoilt_set.write_spoilt(make_prepared(tmp_path / "few", patients=4), tmp_path / "x", 0)
    with pytest.raises(InputError, match="no masks"):
        spoilt_set.write_spoilt(make_prepared(tmp_path / "none", with_mask=False), tmp_path / "x", 0)


def test_a_class_gets_all_but_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_sets(folder: Path, *, seed: int, **_: int) -> list[tuple[str, str]]:
        make_prepared(folder / "prepared", patients=16)
        return spoilt_set.write_spoilt(folder / "prepared", folder / "spoilt", seed)

    def build_wheel(root: Path, out: Path) -> Path:
        (out / "hgisam-1-py3-none-any.whl").write_bytes(b"wheel")
        return out / "hgisam-1-py3-none-any.whl"

    monkeypatch.setattr(class_zip, "write_sets", write_sets)
    monkeypatch.setattr(class_zip, "build_wheel", build_wheel)
    key = class_zip.write_class(tmp_path / "out" / "class.zip", seed=5)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"class.zip", "class-key.md"}
    with zipfile.ZipFile(tmp_path / "out" / "class.zip") as archive:
        archive.extractall(tmp_path)
    folder, text = tmp_path / "class", key.read_text(encoding="utf-8")
    held = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {f"{path.stem}.ipynb" for path in CHAPTERS} | {"debug_a_set.ipynb", "README.md", "requirements.lock"} <= held
    assert "pip install --no-deps hgisam-1-py3-none-any.whl" in (folder / "README.md").read_text()
    assert not [name for name in held if "key" in name]

    open_prepared(folder / "data" / "prepared", verify=True)
    open_prepared(folder / "data" / "spoilt", verify=True)
    faults = [line for line in text.splitlines() if line.startswith("- **")]
    assert len(faults) == len(spoilt_set.FAULTS) + 1
    shown = b"".join(path.read_bytes() for path in folder.rglob("*") if path.suffix in (".md", ".ipynb", ".json"))
    for line in faults:
        assert line.split(": ", 1)[1].split(".")[0].encode() not in shown
    assert "gradient.float().pow(2)" in text
    assert b"gradient.float().pow(2)" not in shown


def test_students_notebooks_have_no_outputs_and_no_solution_and_run_the_quick_profile() -> None:
    notebooks = class_zip.student_notebooks()
    assert set(notebooks) == {path.stem for path in CHAPTERS}
    for path in CHAPTERS:
        code = [cell for cell in notebooks[path.stem].cells if cell.cell_type == "code"]
        source = "\n".join(cell.source for cell in code)
        assert not any(cell.outputs for cell in code)
        assert teaching.BEGINS not in source
        assert source.count(teaching.YOUR_TURN) == 1
        assert class_zip.STUDENT_PROFILE in source
        assert class_zip.PROFILE in "\n".join(cell.source for cell in read_chapter(path).cells)


def test_the_notebook_for_debugging_runs_on_the_spoilt_set(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt_set.write_spoilt(good, tmp_path / "data" / "spoilt", seed=0)
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(class_zip.HANDOUT / "debug_a_set.ipynb", as_version=4)
    scope: dict[str, Any] = {}
    for cell in notebook.cells:
        assert not cell.get("outputs")
        if cell.cell_type == "code":
            exec(cell.source, scope)
    assert len(scope["rows"]) == 17


def test_another_name_than_a_zip_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.zip"):
        class_zip.write_class(tmp_path / "class")
    assert list(tmp_path.iterdir()) == []
