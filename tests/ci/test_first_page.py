"""The first page: a figure of the run and its results, and errors where one of them is missing."""

from pathlib import Path

import nbformat
import pytest

import first_page as pages
from hgisam.errors import InputError
from hgisam_book.headline import results
from hgisam_book.ledger import read_summary

BOOK = Path(pages.__file__).parent
SUMMARY = read_summary(BOOK / "recorded" / "laptop-2-cores")
INDEX = BOOK / "index.md"


def test_the_page_has_the_figure_between_its_texts_and_the_results_of_the_run() -> None:
    chapter = nbformat.read(BOOK / "06_results.ipynb", as_version=4)
    cell = next(cell for cell in chapter.cells if cell.id == "viewer-show")
    cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": "<div class='figure-plotly'></div>"})]
    page = pages.first_page(INDEX, {"06_results": chapter}, SUMMARY)
    nbformat.validate(page, version=4)
    before, figure, after = page.cells
    assert before.source.startswith("# The HGI-SAM book")
    assert figure.outputs == cell.outputs
    assert figure.metadata.tags == ["remove-input"]
    assert results(SUMMARY) in after.source


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("# A\n<!-- numbers: results -->\n<!-- end -->\n", "index.md: got no figure"),
        ("# A\n<!-- figure: 06_results nowhere -->\n", "index.md: got no cell 06_results nowhere"),
        ("# A\n<!-- figure: 99_none viewer-show -->\n", "index.md: got no cell 99_none viewer-show"),
        ("# A\n<!-- numbers: result -->\n<!-- end -->\n", "index.md: got a block result"),
    ],
)
def test_a_page_without_its_figure_is_one_line(page: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text(page)
    chapter = nbformat.read(BOOK / "06_results.ipynb", as_version=4)
    with pytest.raises(InputError, match=error):
        pages.first_page(tmp_path / "index.md", {"06_results": chapter}, SUMMARY)
