"""The rendered book as PDF and EPUB, each live figure as the picture that its page shows of it.

    python book/printing.py _build/html --logs runs/laptop/logs --notebooks runs/laptop/notebooks/*.ipynb

Both are put beside the pages, and the first page links to them. Needs a Chromium, and no network.
"""

import base64
import html
import logging
import re
import shutil
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import yaml
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from playwright.sync_api import Browser, Error, sync_playwright
from pypdf import PdfWriter
from pypdf.generic import DictionaryObject, NameObject, TextStringObject

from epub import mend
from facts import read_chapter
from hgisam.doctor import INSTALL, find_browser
from hgisam.errors import InputError
from hgisam_book.browser import ARGUMENTS, UNFOLD, in_theme
from render import build, read_arguments, stage
from steps import PRINTED

PAGE_OF_SITE = re.compile(r"^[\w-]+\.html")
FIGURE = re.compile(r'<div class="figure-plotly" role="img" aria-label="(?P<alt>[^"]*)"')
LINKS = f'To take along: <a href="{PRINTED}.pdf">PDF</a>, <a href="{PRINTED}.epub">EPUB</a>.'
MARK = re.compile(r'<p class="print-links">.*?</p>')  # `index.md` has it empty
SLIDES = re.compile(r"\s*Slides: (?:\{doc\}`slides_\w+`[,.]\s*)+")  # of them only the pages of the web know
# in print all that is folded is open, but the answers of a quiz: the key has them
OPEN = "() => document.querySelectorAll('.cell details').forEach((hidden) => { hidden.open = true; })"
HEADINGS = """() => [...document.querySelectorAll('h1, h2, h3, h4, h5, h6, [role=heading]')]
    .filter((h) => h.getClientRects().length)
    .map((h) => [...h.childNodes].filter((n) => !(n.classList && n.classList.contains('headerlink')))
        .map((n) => n.textContent).join('').trim().replace(/\\s+/g, ' '))"""
BARE = ":is(.bd-header, .bd-header-article, .bd-sidebar-secondary, .skip-link) { display: none !important; }"
WAIT_MS = 120_000
PAGE: dict[str, Any] = {
    "format": "A4",
    "margin": {"top": "18mm", "bottom": "20mm", "left": "18mm", "right": "18mm"},
    "display_header_footer": True,
    "header_template": "<span></span>",
    "footer_template": '<div style="width: 100%; text-align: center; font-size: 8px" class="pageNumber"></div>',
    "outline": True,
    "tagged": True,
    "print_background": True,
}
READER = {
    "epub_basename": PRINTED,
    "epub_description": "Weakly supervised segmentation of intracranial hemorrhage, to read, rerun and teach",
    "epub_show_urls": "no",
    "epub_tocdepth": 2,
    "epub_use_index": False,
    "version": version("hgisam"),
}


def figures_of(chapter: NotebookNode) -> Iterator[tuple[NotebookNode, str]]:
    """Each output of an executed chapter that is a live figure, and its text for those who don't see it."""
    for cell in chapter.cells:
        for output in cell.get("outputs", []):
            if found := FIGURE.search("".join(output.get("data", {}).get("text/html", ""))):
                yield output, html.unescape(found["alt"])


def photograph(browser: Browser, page_of: Path) -> list[bytes]:
    """A PNG of every live figure of a page, in order, in the light theme with half as many pixels again as a screen."""
    page = browser.new_page(viewport={"width": 1280, "height": 3000}, device_scale_factor=1.5)  # none is taller
    page.add_init_script(in_theme("light"))
    page.goto(page_of.absolute().as_uri(), wait_until="load", timeout=WAIT_MS)
    page.add_style_tag(content=BARE)
    page.evaluate(UNFOLD)
    page.wait_for_timeout(300)
    pictures = [figure.screenshot(timeout=WAIT_MS) for figure in page.locator(".figure-plotly").all()]
    page.close()
    return pictures


def for_print(page: str) -> str:
    """The HTML of an output as XML, in which every element is closed, without styles and links between pages."""
    soup = BeautifulSoup(page, "html.parser")
    for style in soup("style"):
        style.decompose()
    for link in soup("a", href=PAGE_OF_SITE):
        link.unwrap()
    return soup.decode(formatter="minimal")


def lay_out(folder: Path, notebooks: list[Path], pictures: dict[str, list[bytes]]) -> None:
    """The sources of the printed book: those of the site, with a picture for each live figure and without slides.

    Raises:
        InputError: If the pages are not those of these notebooks.
    """
    stage(folder, notebooks)
    for path in notebooks:
        staged = folder / "book" / path.name
        chapter = read_chapter(staged)
        figures, shown = list(figures_of(chapter)), pictures[path.stem]
        if len(figures) != len(shown):
            got = f"{len(shown)} figures on the page {path.stem}, {len(figures)} in the notebook"
            raise InputError("site", got, "pages of these notebooks", "Run `make book` again.")
        for (output, alt), picture in zip(figures, shown, strict=True):
            output.data = {"image/png": base64.b64encode(picture).decode()}
            output.metadata = {"image/png": {"alt": alt, "width": "100%"}}
        for output in (output for cell in chapter.cells for output in cell.get("outputs", [])):
            if page := output.get("data", {}).get("text/html"):
                output.data["text/html"] = for_print("".join(page))
        nbformat.write(chapter, staged)
    guide = folder / "book" / "teaching.md"
    guide.write_text(SLIDES.sub("\n\n", guide.read_text(encoding="utf-8")), encoding="utf-8")
    contents = yaml.safe_load((folder / "book" / "_toc.yml").read_text(encoding="utf-8"))
    for part in contents["parts"]:
        part["chapters"] = [entry for entry in part["chapters"] if not entry["file"].startswith("slides_")]
    (folder / "book" / "_toc.yml").write_text(yaml.safe_dump(contents, sort_keys=False), encoding="utf-8")
    config = yaml.safe_load((folder / "_config.yml").read_text(encoding="utf-8"))
    config["sphinx"]["config"] |= READER | {"epub_title": config["title"], "epub_publisher": config["author"]}
    (folder / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def write_pdf(browser: Browser, page_of: Path, target: Path) -> None:
    """The book as one page, printed."""
    page = browser.new_page()
    page.add_init_script(in_theme("light"))
    page.goto(page_of.absolute().as_uri(), wait_until="load", timeout=WAIT_MS)
    page.emulate_media(media="print", color_scheme="light")
    page.evaluate(OPEN)
    page.pdf(path=str(target), **PAGE)
    headings = page.evaluate(HEADINGS)
    page.close()
    name_bookmarks(target, headings)


def name_bookmarks(path: Path, headings: list[str]) -> None:
    """Gives each bookmark of a PDF the words of its heading: browsers repeat or join those that a line break divides.

    Args:
        path: The file, written anew.
        headings: In their order on the page, which is that of the bookmarks.
    """
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # what it mends in a browser's PDF is no news
    writer = PdfWriter(clone_from=path)
    outline = writer.root_object.get("/Outlines")
    bookmarks = list(_bookmarks(outline.get_object())) if outline else []
    if len(bookmarks) != len(headings):
        got = f"{len(bookmarks)} bookmarks for {len(headings)} headings"
        raise InputError("browser", got, "one each", "Take a newer Chromium.")
    for bookmark, heading in zip(bookmarks, headings, strict=True):
        bookmark[NameObject("/Title")] = TextStringObject(heading)
    writer.write(path)


def _bookmarks(parent: DictionaryObject) -> Iterator[DictionaryObject]:
    bookmark = parent.get("/First")
    while bookmark is not None:
        yield (node := bookmark.get_object())
        yield from _bookmarks(node)
        bookmark = node.get("/Next")


def print_book(site: Path, notebooks: list[Path], logs: Path) -> bool:
    """Writes PDF and EPUB into a rendered site and, once both are there, links them from its first page.

    Returns:
        Whether all went well; what did not was said.

    Raises:
        InputError: If there is no site, no Chromium, or the pages are not those of the notebooks.
    """
    absent = [name for name in ("index", *(path.stem for path in notebooks)) if not (site / f"{name}.html").is_file()]
    if absent:
        raise InputError(f"site {site}", f"no {absent[0]}.html", "the rendered book", "Run `make book` first.")
    program = find_browser()
    if program is None:
        raise InputError("browser", "no Chromium", "one to print with", f"To get one, {INSTALL}.")
    folder = site.parent / "print"
    work, pdf, epub = (
        folder / "source",
        folder / f"{PRINTED}.pdf",
        folder / "source" / "_build" / "epub" / f"{PRINTED}.epub",
    )
    shutil.rmtree(folder, ignore_errors=True)  # of one that was stopped
    _link(site / "index.html", "")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
            pictures = {path.stem: photograph(browser, site / f"{path.stem}.html") for path in notebooks}
            lay_out(work, notebooks, pictures)
            if not build(work, logs / "epub.log", "--builder", "custom", "--custom-builder", "epub"):
                return False
            if not build(work, logs / "pdf.log", "--builder", "singlehtml"):
                return False
            write_pdf(browser, work / "_build" / "singlehtml" / "index.html", pdf)
            browser.close()
        except Error as error:
            said = str(error).splitlines()[0]
            raise InputError("browser", said, "one that prints", f"See what {program} says by itself.") from None
    mend(epub)
    for made in (epub, pdf):
        made.replace(site / made.name)
    _link(site / "index.html", LINKS)
    shutil.rmtree(folder)
    return True


def _link(index: Path, links: str) -> None:
    """Puts the links, or none, where `index.md` has a place for them."""
    page, places = MARK.subn(f'<p class="print-links">{links}</p>', index.read_text(encoding="utf-8"))
    if places != 1:
        raise InputError(f"page {index}", f"{places} places for links", "one", "Run `make book` again.")
    scratch = index.with_name(".index.html.tmp")
    scratch.write_text(page, encoding="utf-8")
    scratch.replace(index)


def main() -> int:
    """Command line."""
    arguments = read_arguments(__doc__.splitlines()[0])
    clock = time.perf_counter()
    print("▶ PDF and EPUB", flush=True)
    try:
        if not print_book(arguments.site, arguments.notebooks, arguments.logs):
            print(f"✗ PDF and EPUB: not written; all that was said is in {arguments.logs}", flush=True)
            return 1
    except InputError as error:
        print(f"✗ PDF and EPUB: {error}", flush=True)
        return 2
    except OSError as error:
        print(f"✗ PDF and EPUB: {error.strerror or error}: {error.filename or ''}", flush=True)
        return 1
    except KeyboardInterrupt:
        print("✗ PDF and EPUB: stopped", flush=True)
        return 130
    sizes = ", ".join(
        f"{(arguments.site / f'{PRINTED}.{kind}').stat().st_size / 1e6:.1f} MB" for kind in ("pdf", "epub")
    )
    print(f"✓ PDF and EPUB ({sizes}, {time.perf_counter() - clock:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
