import json
from pathlib import Path

import measure_real_heads
import numpy as np
import pytest

from hgisam_book.figures import METHOD_NAMES
from hgisam_book.studies import real_heads
from hgisam_book.studies.real_values import read_real_heads

ROOT = Path(__file__).resolve().parents[2]


def test_a_tiny_measurement(prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(real_heads, "MIN_BRAIN_CM2", 0.0)
    monkeypatch.setattr(measure_real_heads, "measure_normal", lambda *_: ({"slices": 1}, np.array([0.5])))
    out = tmp_path / "real.json"
    sets = ["--bleeding", f"window-36={prepared.path}", "--normal", f"cranium={prepared.path}"]
    measure_real_heads.main([*sets, "--training", str(prepared.path), "--json", str(out)])
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["bleeding"]["name"] == read_real_heads().sources["window-36"].name
    assert found["normal"][0]["licence"] == "GPL-2"
    assert len(found["checkpoint"]["sha256"]) == 64
    assert 0 <= found["auroc"] <= 1
    assert [*found["bleeding"]["calibrated"]] == ["hgi_sam", "hgi_sam_density"]
    assert 36 <= found["density_threshold_hu"] < 65
    assert str(tmp_path) not in out.read_text(encoding="utf-8")  # no path is kept


@pytest.mark.parametrize("given", ["window-36", "nobody=here", "window-36=/no/such/set"])
def test_a_wrong_set_is_one_line(given: str) -> None:
    with pytest.raises(SystemExit) as ended:
        measure_real_heads.main(["--bleeding", given, "--normal", given, "--training", "/no/such/set"])
    assert str(ended.value).startswith("measure_real_heads: ")
    assert "\n" not in str(ended.value)


def test_the_record_can_be_read() -> None:
    record = json.loads((ROOT / "book/recorded/real_heads.json").read_text(encoding="utf-8"))
    assert (
        len(real_heads.dice_table(record, METHOD_NAMES)) == len(record["bleeding"]["methods"]) > len(real_heads.METHODS)
    )
    assert len(real_heads.score_table(record)) == 1 + len(record["normal"])
    assert len(real_heads.reading(record, METHOD_NAMES)) == 3 + len(record["bleeding"]["calibrated"])
