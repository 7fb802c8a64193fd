"""Examples in docstrings: each runs, and each public name of the core has one."""

import ast
import doctest
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "hgisam", "hgisam.attention", "hgisam.config", "hgisam.data", "hgisam.evaluation", "hgisam.inference",
    "hgisam.maps", "hgisam.models", "hgisam.runs", "hgisam.training",
)  # fmt: skip
CONSTANT, TRAINING, RUN = "a constant has no docstring", "needs a training", "needs a run directory"
SCAN = "needs a scan; book/segment_a_scan.md has one"
WITHOUT_EXAMPLE = {
    "hgisam.config.Profile": "in the example of load_profile",
    "hgisam.data.LABELS": CONSTANT,
    "hgisam.data.SUBTYPES": CONSTANT,
    "hgisam.inference.evaluate_external": RUN,
    "hgisam.inference.map_external": RUN,
    "hgisam.maps.METHODS": CONSTANT,
    "hgisam.maps.SLOW": CONSTANT,
    "hgisam.models.TASKS": CONSTANT,
    "hgisam.runs.read_json": "in the example of write_json",
    "hgisam.runs.read_manifest": RUN,
    "hgisam.runs.read_table": RUN,
    "hgisam.runs.sha256_of": RUN,
    "hgisam.segment": SCAN,
    "hgisam.training.TrainingSetup": TRAINING,
    "hgisam.training.fit": TRAINING,
    "hgisam.training.set_up_training": TRAINING,
}


def modules() -> list[str]:
    """Names of the modules with examples; found in the text, so that pytest need not import them to collect tests."""
    paths = [
        path for package in ("hgisam", "data_prep", "hgisam_scans") for path in sorted((ROOT / package).rglob("*.py"))
    ]
    names = [path.relative_to(ROOT).with_suffix("").parts for path in paths if ">>> " in path.read_text()]
    return [".".join(parts).removesuffix(".__init__") for parts in names]


def examples(name: str) -> Iterator[doctest.DocTest]:
    """Examples of a module by its source: `doctest.DocTestFinder` skips functions with a decorator."""
    module = import_module(name)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ">>> " in (text := ast.get_docstring(node) or ""):
            globs = {**vars(module), "__name__": "__main__"}
            yield doctest.DocTestParser().get_doctest(text, globs, f"{name}.{node.name}", module.__file__, node.lineno)


@pytest.mark.parametrize("module", modules())
def test_examples_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    runner, report = doctest.DocTestRunner(), []
    for example in examples(module):
        runner.run(example, out=report.append)
    assert runner.tries > 0
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_public_name_has_an_example(package: str) -> None:
    public = import_module(package)
    without = {name for name in public.__all__ if ">>> " not in (inspect.getdoc(getattr(public, name)) or "")}
    assert {f"{package}.{name}" for name in without} == {
        name for name in WITHOUT_EXAMPLE if name.rpartition(".")[0] == package
    }


def test_no_example_is_skipped() -> None:
    for path in ROOT.glob("hgisam/**/*.py"):
        assert "doctest: +SKIP" not in path.read_text(), path
