"""Imports point one way: what the design of the packages promises, held by a test."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EVERYWHERE = {"hgisam.errors"}
# what else of our own each module of hgisam may import
ALLOWED = {
    "folders": {"errors"},
    "slice_arrays": set(),
    "prepared": {"folders", "slice_arrays"},
    "networks": set(),
    "keys": set(),
    "profile": {"keys", "networks"},
    "windows": {"profile"},
    "compute": {"profile"},
    "parallel": set(),
    "parameters": set(),
    "recipes": set(),
    "data": {"prepared", "profile", "recipes", "windows"},
    "augment": {"data", "profile"},
    "tasks": {"data", "prepared", "profile", "recipes"},
    "optimise": {"profile"},
    "memory": set(),
    "local_weights": set(),
    "models": {"local_weights", "profile", "segmenters", "tasks"},
    "segmenters": {"profile", "tasks"},
    "swin": set(),
    "watch": {"swin"},
    "attention": {"swin", "watch"},
    "maps": {"attention", "maps", "swin"},
    "segment": set(),
    "metrics": set(),
    "heads": {"attention", "maps", "swin"},
    "values": {"prepared", "segment"},
    "thresholds": {"prepared", "segment", "values"},
    "surface": set(),
    "localize": {"metrics", "prepared", "segment", "values"},
    "scans": {"prepared", "segment", "values"},
    "evaluate": {"metrics", "prepared", "scans", "surface", "values"},
    "summary": {"metrics", "prepared"},
    "label_study": {"metrics", "prepared"},
    "diagnosis": {"metrics", "prepared"},
    "failure_causes": {"metrics", "prepared", "scans", "values"},
    "folds": {"checkpoint", "compute", "extract", "prepared", "profile", "values"},
    "label_budget": {
        "checkpoint",
        "compare",
        "compute",
        "extract",
        "folds",
        "metrics",
        "prepared",
        "profile",
        "segment",
    },
    "figures": {"diagnosis", "figures", "prepared", "windows"},
    "benchmark": {"maps", "run", "sources", "swin"},
    "records": {"figures", "run"},
    "export": {"checkpoint", "folders", "model_card", "prepared", "pretrained", "report", "run"},
    "model_card": {"checkpoint", "models"},
    "load_or_train": {"checkpoint", "prepared", "pretrained", "profile", "run", "session", "validate"},
    "recorded_runs": {"export", "folders", "load_or_train", "prepared", "run"},
    "summary_query": {"run"},
    "ledger": {"keys", "summary_query"},
    "ledger_tables": {"ledger", "report"},
    "browser": set(),
    "doctor": {"browser", "prepared"},
}
WITHOUT_TORCH = {
    "browser",
    "folders",
    "parallel",
    "parameters",
    "prepared",
    "diagnosis",
    "figures",
    "metrics",
    "segment",
    "summary",
    "values",
}
WITHOUT_TORCH |= {"slice_arrays", "failure_causes", "localize", "label_study", "scans"}


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def files_of(module: str) -> list[Path]:
    """The files of a module or package of hgisam."""
    single = ROOT / "hgisam" / f"{module}.py"
    return [single] if single.is_file() else sorted((ROOT / "hgisam" / module).glob("*.py"))


def test_hgisam_knows_neither_data_prep_nor_raw_formats() -> None:
    for path in (ROOT / "hgisam").rglob("*.py"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert roots.isdisjoint({"data_prep", "pydicom", "nibabel", "nilearn"}), path


def test_data_prep_knows_only_the_contract_and_no_torch() -> None:
    for path in (ROOT / "data_prep").rglob("*.py"):
        names = imported(path)
        assert "torch" not in {name.split(".")[0] for name in names}, path
        own = {".".join(name.split(".")[:2]) for name in names if name.startswith("hgisam")} - {"hgisam"}
        assert own <= {"hgisam.data.prepared", "hgisam.errors", "hgisam.runs.folders", "data_prep.parallel"}, path


@pytest.mark.parametrize("module", ALLOWED)
def test_modules_import_downwards(module: str) -> None:
    paths = files_of(module)
    assert paths
    for path in paths:
        own = {".".join(name.split(".")[:2]) for name in imported(path) if name.startswith("hgisam.")} - EVERYWHERE
        assert own <= {f"hgisam.{name}" for name in ALLOWED[module] | {module}}, path
        if module in WITHOUT_TORCH:
            assert "torch" not in {name.split(".")[0] for name in imported(path)}, path
