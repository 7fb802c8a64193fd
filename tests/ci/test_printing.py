"""The printed book: pictures in place of interactive figures, bookmarks with the text of their headings."""

import base64
import io
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from pypdf import PdfReader, PdfWriter

import printing
from hgisam.errors import InputError
from hgisam_book.doctor import find_browser
from hgisam_book.ledger import read_summary

BOOK = Path(printing.__file__).parent
RESULTS = BOOK / "06_results.ipynb"  # the first page shows a figure of it
SUMMARY = read_summary(BOOK / "recorded" / "laptop-2-cores")
needs_browser = pytest.mark.skipif(find_browser() is None, reason="no Chromium installed")
FIGURE = '<div class="figure-plotly" role="img" aria-label="one &lt; two">a<br>b</div>'


def picture(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(shown: list[bytes]) -> dict[str, list[bytes]]:
    """Pictures of chapter 5; the other pages of these tests have no figure."""
    return {"05_hgi_sam": shown, RESULTS.stem: [], "index": []}


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    """Chapter 5 with outputs: one interactive figure and a pandas table."""
    notebook = nbformat.read(BOOK / "05_hgi_sam.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "mystnb" in cell.metadata)
    cell.outputs = [
        nbformat.v4.new_output("display_data", {"text/html": html})
        for html in (FIGURE, "<style scoped>td { color: red }</style><table><tr><td>1&nbsp;ml</td></tr></table>")
    ]
    path = tmp_path / "05_hgi_sam.ipynb"
    nbformat.write(notebook, path)
    return path


def test_an_interactive_figure_gets_its_picture_and_alternative_text(chapter: Path, tmp_path: Path) -> None:
    printing.lay_out(tmp_path / "source", [chapter, RESULTS], SUMMARY, pictures([picture()]))
    staged = nbformat.read(tmp_path / "source" / "book" / chapter.name, as_version=4)
    assert not list(printing.figures_of(staged))
    shown = next(output for cell in staged.cells for output in cell.get("outputs", []) if "image/png" in output.data)
    assert base64.b64decode(shown.data["image/png"]) == picture()
    assert shown.metadata["image/png"]["alt"] == "one < two"


def test_slices_are_jpeg_and_charts_png() -> None:
    noise = np.random.default_rng(0).normal(128, 30, (200, 200)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    kind, content = printing.as_small_picture(buffer.getvalue())
    assert kind == "image/jpeg"
    assert len(content) < len(buffer.getvalue())
    assert np.abs(np.asarray(Image.open(io.BytesIO(content)).convert("L"), float) - noise).mean() < 5
    assert printing.as_small_picture(picture()) == ("image/png", picture())


def test_html_of_outputs_becomes_well_formed_xml() -> None:
    links = "<a href='06_results.html#a'>there</a> <a href='#b'>b</a>"
    shown = printing.for_print(f"<style scoped>td {{ color: red }}</style><p>1&nbsp;ml<br>{links}</p>")
    ElementTree.fromstring(f"<div>{shown}</div>")
    assert shown == '<p>1\xa0ml<br/>there <a href="#b">b</a></p>'


def test_pages_of_another_run_are_refused(chapter: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 figures on the page 05_hgi_sam, 1 in the notebook"):
        printing.lay_out(tmp_path / "source", [chapter, RESULTS], SUMMARY, pictures([picture(), picture()]))


def test_the_pages_that_link_to_the_files_have_a_placeholder() -> None:
    for name in printing.LINKS:
        assert len(printing.MARK.findall((BOOK / f"{name}.md").read_text(encoding="utf-8"))) == 1


def test_without_a_site_or_a_browser_there_is_one_line(
    chapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"no index\.html"):
        printing.print_book(tmp_path, [chapter], tmp_path)
    for name in ("index", "teaching", chapter.stem):
        (tmp_path / f"{name}.html").write_text("<p>x</p>")
    monkeypatch.setattr(printing, "find_browser", lambda: None)
    with pytest.raises(InputError, match=r"no Chromium.*apt install chromium"):
        printing.print_book(tmp_path, [chapter], tmp_path)


def test_bookmarks_get_the_text_of_their_headings(tmp_path: Path) -> None:
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    first = writer.add_outline_item("What isWhat is", page_number=0)
    writer.add_outline_item("withoutmasks", page_number=0, parent=first)
    writer.add_outline_item("Last", page_number=0)
    writer.write(tmp_path / "x.pdf")
    printing.finish_pdf(tmp_path / "x.pdf", ["What is", "without masks", "Last"])
    assert b"/ObjStm" in (tmp_path / "x.pdf").read_bytes()  # compressed
    bookmarks = PdfReader(tmp_path / "x.pdf").outline
    assert [bookmarks[0].title, bookmarks[1][0].title, bookmarks[2].title] == ["What is", "without masks", "Last"]


@needs_browser
def test_collapsed_figures_are_captured_too(tmp_path: Path) -> None:
    box = '<div class="figure-plotly" style="width: 40px; height: 30px; background: {}">x</div>'
    page = tmp_path / "x.html"
    collapsed = f"<details><summary>y</summary>{box.format('blue')}</details>"
    page.write_text(f"<style>body {{ margin: 0 }}</style>{box.format('red')}{collapsed}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(printing.ARGUMENTS))
        pictures = [Image.open(io.BytesIO(png)) for png in printing.screenshots_of(browser, page)]
        browser.close()
    assert pictures[0].size == (44, 33)
    assert pictures[0].convert("RGB").getpixel((40, 29)) == (255, 0, 0)
    assert pictures[1].convert("RGB").getpixel((40, 29)) == (0, 0, 255)
