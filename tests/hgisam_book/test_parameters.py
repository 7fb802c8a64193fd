from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from hgisam.errors import InputError
from hgisam_book.parameters import check_parameters, has_type


@pytest.mark.parametrize(
    ("value", "kind", "right"),
    [
        ("a", "str", True), (1, "str", False), (1, "int", True), (True, "int", False), (1, "float", True),
        (0.5, "int", False), (False, "bool", True), (0, "bool", False), (True, "float", False), ([1], "list", True),
    ],
)  # fmt: skip
def test_type_of_a_value(value: object, kind: str, right: bool) -> None:
    assert has_type(value, kind) is right


def namespace(**assigned: Any) -> dict[str, Any]:
    injected = "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in assigned.items())
    values = {"profile": "laptop", "most": 3} | assigned
    return {"In": ["", "profile: str = ...", injected], "__annotations__": {"profile": str, "most": int}, **values}


def test_declared_parameters_pass_and_later_cells_are_not_parameters() -> None:
    check_parameters(namespace(profile="smoke", most=4) | {"row": 1})
    check_parameters({})


@pytest.mark.parametrize(
    ("assigned", "words"),
    [
        ({"profle": "smoke"}, r"got profle=smoke, expected one of profile, most\. Did you mean profile\?"),
        ({"zzz": 1}, "Leave it out"),
        ({"most": "four"}, "parameter most of this notebook: got 'four', expected int"),
        ({"profile": 7}, "parameter profile of this notebook: got 7, expected str"),
    ],
)
def test_unknown_names_and_wrong_types_are_errors(assigned: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_parameters(namespace(**assigned))


def test_a_misspelt_parameter_stops_papermill(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    parameters = nbformat.v4.new_code_cell("epochs: int = 3")
    parameters.metadata.tags = ["parameters"]
    body = "from hgisam_book.parameters import check_parameters\ncheck_parameters(globals())\nreached = True"
    notebook.cells = [parameters, nbformat.v4.new_code_cell(body)]
    nbformat.write(notebook, tmp_path / "in.ipynb")
    given = (str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb"))
    papermill.execute_notebook(*given, parameters={"epochs": 5}, progress_bar=False)
    with pytest.raises(PapermillExecutionError, match="Did you mean epochs"):
        papermill.execute_notebook(*given, parameters={"epoch": 5}, progress_bar=False)
