"""External validation refuses runs that are not finished; whole runs are in the tests of the pipeline."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hgisam.errors import InputError
from hgisam.inference.external import evaluate_external, map_external


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("command", [map_external, evaluate_external])
def test_paths_may_be_text_and_a_run_must_be_finished(
    command: Callable[..., Path], kind: Callable[[Path], str | Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="expected one of phantom-binary, phantom-subtype, or a folder with"):
        command(kind(tmp_path / "run"), kind(tmp_path / "data"), kind(tmp_path / "out"))
    assert not list(tmp_path.iterdir())
