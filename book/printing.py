"""PDF and EPUB of the rendered book with a screenshot in place of each interactive figure, and the slides.

    python book/printing.py _build/html --run runs/laptop --notebooks runs/laptop/notebooks/*.ipynb

All files are written beside the pages; the first page and that for teachers link to them. Needs Chromium, but no
network.
"""

import base64
import html
import io
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from pikepdf import Object, ObjectStreamMode, Pdf, String, settings
from PIL import Image
from playwright.sync_api import Browser, Error, sync_playwright

from epub import fix_epub
from facts import read_chapter
from hgisam.config.overrides import read_yaml
from hgisam.errors import InputError
from hgisam_book.browser import ARGUMENTS, UNFOLD, theme_script
from hgisam_book.doctor import INSTALL, find_browser
from hgisam_book.ledger import read_summary
from render import build, command_line, stage, write_yaml
from slides import HEIGHT_PX, SOURCE, WIDTH_PX, Pictures, html_of, pictures_of, read_slides, title_in, write_pptx
from steps import PRINTED, PRINTS, SLIDES

PAGE_OF_SITE = re.compile(r"^[\w-]+\.html")
FIGURE = re.compile(r'<div class="figure-plotly" role="img" aria-label="(?P<alt>[^"]*)"')
RAW_HTML = re.compile(r"^```\{raw\} html\n.*?^```$", re.MULTILINE | re.DOTALL)
NO_LAB = "*On paper there is no lab: open this page on the site of the book.*"
LINKS = {  # page → what is put into its placeholder
    "index": f'Download: <a href="{PRINTED}.pdf">PDF</a>, <a href="{PRINTED}.epub">EPUB</a>.',
    "teaching": f'The slides: <a href="{SLIDES}.html">in the browser</a>, <a href="{SLIDES}.pdf">PDF</a>, '
    f'<a href="{SLIDES}.pptx">PPTX</a>.',
}
MARK = re.compile(r'<p class="print-links">.*?</p>')  # empty in the sources of these pages
# print opens collapsed content except quiz answers, which are in the answer key
OPEN = "() => document.querySelectorAll('.cell details').forEach((details) => { details.open = true; })"
HEADINGS = """() => [...document.querySelectorAll('h1, h2, h3, h4, h5, h6, [role=heading]')]
    .filter((h) => h.getClientRects().length)
    .map((h) => [...h.childNodes].filter((n) => !(n.classList && n.classList.contains('headerlink')))
        .map((n) => n.textContent).join('').trim().replace(/\\s+/g, ' '))"""
BARE = ":is(.bd-header, .bd-header-article, .bd-sidebar-secondary, .skip-link) { display: none !important; }"
WAIT_MS = 120_000
JPEG_QUALITY = 85
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


def figures_of(chapter: NotebookNode) -> Iterator[tuple[NotebookNode, str, str]]:
    """Interactive figures of an executed chapter: each output with its alternative text and the id of its cell."""
    for cell in chapter.cells:
        for output in cell.get("outputs", []):
            if found := FIGURE.search("".join(output.get("data", {}).get("text/html", ""))):
                yield output, html.unescape(found["alt"]), cell.get("id", "")


def screenshots_of(browser: Browser, page_of: Path) -> list[bytes]:
    """Screenshots (PNG) of all interactive figures of a page, in order, in the light theme at a scale of 1.1."""
    page = browser.new_page(viewport={"width": 1280, "height": 3000}, device_scale_factor=1.1)  # higher than figures
    page.add_init_script(theme_script("light"))
    page.goto(page_of.absolute().as_uri(), wait_until="load", timeout=WAIT_MS)
    page.add_style_tag(content=BARE)
    page.evaluate(UNFOLD)
    page.wait_for_timeout(300)
    pictures = [figure.screenshot(timeout=WAIT_MS) for figure in page.locator(".figure-plotly").all()]
    page.close()
    return pictures


def as_small_picture(png: bytes) -> tuple[str, bytes]:
    """MIME type and content of a picture: JPEG where it is smaller, as for CT slices, else the PNG, as for charts."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    jpeg = buffer.getvalue()
    return ("image/jpeg", jpeg) if len(jpeg) < len(png) else ("image/png", png)


def for_print(page: str) -> str:
    """HTML of an output as well-formed XML, without styles and links between pages."""
    soup = BeautifulSoup(page, "html.parser")
    for style in soup("style"):
        style.decompose()
    for link in soup("a", href=PAGE_OF_SITE):
        link.unwrap()
    return soup.decode(formatter="minimal")


def lay_out(folder: Path, notebooks: list[Path], summary: Mapping[str, Any], pictures: dict[str, list[bytes]]) -> None:
    """Write the sources of the printed book: those of the site, with pictures of the figures, without the lab.

    Args:
        folder: New folder of the sources.
        notebooks: Executed notebooks.
        summary: `summary.json` of their run.
        pictures: Name of a page, the first one or a chapter → PNG of its figures.

    Raises:
        InputError: If the pictures do not match the figures of the notebooks.
    """
    stage(folder, notebooks, summary)
    for name in pages_of(notebooks):
        staged = folder / "book" / f"{name}.ipynb"
        chapter = read_chapter(staged)
        figures, shown = list(figures_of(chapter)), pictures[name]
        if len(figures) != len(shown):
            got = f"{len(shown)} figures on the page {name}, {len(figures)} in the notebook"
            raise InputError("site", got, "pages of these notebooks", "Run `make book` again.")
        for (output, alt, _), picture in zip(figures, shown, strict=True):
            kind, content = as_small_picture(picture)
            output.data = {kind: base64.b64encode(content).decode()}
            output.metadata = {kind: {"alt": alt, "width": "100%"}}
        for output in (output for cell in chapter.cells for output in cell.get("outputs", [])):
            if page := output.get("data", {}).get("text/html"):
                output.data["text/html"] = for_print("".join(page))
        nbformat.write(chapter, staged)
    lab = folder / "book" / "lab.md"
    lab.write_text(RAW_HTML.sub(NO_LAB, lab.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.rmtree(folder / "book" / "_static" / "lab")
    config = read_yaml(folder / "_config.yml", "_config.yml")
    config["sphinx"]["config"] |= READER | {"epub_title": config["title"], "epub_publisher": config["author"]}
    write_yaml(folder / "_config.yml", config)


def write_pdf(browser: Browser, page_of: Path, target: Path) -> None:
    """Print the single-page HTML of the book to PDF."""
    page = browser.new_page()
    page.add_init_script(theme_script("light"))
    page.goto(page_of.absolute().as_uri(), wait_until="load", timeout=WAIT_MS)
    page.emulate_media(media="print", color_scheme="light")
    page.evaluate(OPEN)
    page.pdf(path=str(target), **PAGE)
    headings = page.evaluate(HEADINGS)
    page.close()
    finish_pdf(target, headings)


def deck_pictures(notebooks: list[Path], pictures: Mapping[str, list[bytes]]) -> Pictures:
    """Figures of the executed notebooks for the slides; arguments as for `lay_out`."""
    chapters = {path.stem: read_chapter(path) for path in notebooks}
    shown = {
        name: [(cell, alt, png) for (_, alt, cell), png in zip(figures_of(chapter), pictures[name], strict=True)]
        for name, chapter in chapters.items()
    }
    return pictures_of(chapters, shown)


def write_slides(
    browser: Browser, folder: Path, notebooks: list[Path], summary: Mapping[str, Any], pictures: Pictures
) -> None:
    """Write the deck into a folder, as HTML, PDF and PPTX.

    Args:
        browser: Prints the HTML to PDF.
        folder: Gets the three files.
        notebooks: Executed notebooks.
        summary: `summary.json` of their run.
        pictures: Their figures.
    """
    text = SOURCE.read_text(encoding="utf-8")
    title = title_in(text)
    slides = read_slides(text, summary, {path.stem: read_chapter(path) for path in notebooks}, pictures)
    deck = folder / f"{SLIDES}.html"
    deck.write_text(html_of(title, slides), encoding="utf-8")
    write_pptx(folder / f"{SLIDES}.pptx", title, slides)
    page = browser.new_page(viewport={"width": WIDTH_PX, "height": HEIGHT_PX})
    page.goto(deck.absolute().as_uri(), wait_until="load", timeout=WAIT_MS)
    page.pdf(path=str(folder / f"{SLIDES}.pdf"), prefer_css_page_size=True, print_background=True, tagged=True)
    page.close()


def finish_pdf(path: Path, headings: list[str]) -> None:
    """Set each bookmark of a browser's PDF to the text of its heading, and compress its objects.

    Browsers corrupt headings with line breaks, and leave tens of thousands of objects of a tagged PDF uncompressed.

    Args:
        path: PDF file; rewritten.
        headings: Headings in the order of the page, which is that of the bookmarks.

    Raises:
        InputError: If the numbers of bookmarks and headings differ.
    """
    settings.set_flate_compression_level(9)
    with Pdf.open(path, allow_overwriting_input=True) as pdf:
        bookmarks = list(_bookmarks(pdf.Root.get("/Outlines")))
        if len(bookmarks) != len(headings):
            got = f"{len(bookmarks)} bookmarks for {len(headings)} headings"
            raise InputError("browser", got, "one each", "Install a newer Chromium.")
        for bookmark, heading in zip(bookmarks, headings, strict=True):
            bookmark.Title = String(heading)
        pdf.save(path, object_stream_mode=ObjectStreamMode.generate, recompress_flate=True)


def _bookmarks(parent: Object | None) -> Iterator[Object]:
    bookmark = None if parent is None else parent.get("/First")
    while bookmark is not None:
        yield bookmark
        yield from _bookmarks(bookmark)
        bookmark = bookmark.get("/Next")


def pages_of(notebooks: list[Path]) -> list[str]:
    """Names of the pages with figures: the first one and the chapters."""
    return ["index", *(path.stem for path in notebooks)]


def print_book(site: Path, notebooks: list[Path], run: Path) -> bool:
    """Write PDF, EPUB and slides into a rendered site, and link them from its pages.

    Args:
        site: Folder of the rendered site.
        notebooks: Executed notebooks of the site.
        run: Folder of their run, with `summary.json`; gets the logs.

    Returns:
        True on success; errors of the builds are printed.

    Raises:
        InputError: If there is no site or no Chromium, or the pages do not match the notebooks.
    """
    missing = [name for name in (*pages_of(notebooks), "teaching") if not (site / f"{name}.html").is_file()]
    if missing:
        raise InputError(f"site {site}", f"no {missing[0]}.html", "the rendered book", "Run `make book` first.")
    program = find_browser()
    if program is None:
        raise InputError("browser", "no Chromium", "one that prints the book", f"To get one, {INSTALL}.")
    folder = site.parent / "print"
    work, pdf = folder / "source", folder / f"{PRINTED}.pdf"
    epub = work / "_build" / "epub" / f"{PRINTED}.epub"
    shutil.rmtree(folder, ignore_errors=True)  # from an interrupted run
    for name in LINKS:
        _link(site / f"{name}.html", "")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
            pictures = {name: screenshots_of(browser, site / f"{name}.html") for name in pages_of(notebooks)}
            summary = read_summary(run)
            lay_out(work, notebooks, summary, pictures)
            write_slides(browser, folder, notebooks, summary, deck_pictures(notebooks, pictures))
            if not build(work, run / "logs" / "epub.log", "--builder", "custom", "--custom-builder", "epub"):
                return False
            if not build(work, run / "logs" / "pdf.log", "--builder", "singlehtml"):
                return False
            write_pdf(browser, work / "_build" / "singlehtml" / "index.html", pdf)
            browser.close()
        except Error as error:
            message = str(error).splitlines()[0]
            raise InputError("browser", message, "one that prints", f"Check that {program} starts.") from None
    fix_epub(epub)
    epub.replace(folder / epub.name)
    for file in PRINTS:
        (folder / file).replace(site / file)
    for name, links in LINKS.items():
        _link(site / f"{name}.html", links)
    shutil.rmtree(folder)
    return True


def _link(page_of: Path, links: str) -> None:
    """Set the links at the placeholder of a page; "" removes them."""
    page, count = MARK.subn(f'<p class="print-links">{links}</p>', page_of.read_text(encoding="utf-8"))
    if count != 1:
        raise InputError(f"page {page_of}", f"{count} placeholders for links", "one", "Run `make book` again.")
    scratch = page_of.with_name(f".{page_of.name}.tmp")
    scratch.write_text(page, encoding="utf-8")
    scratch.replace(page_of)


def main() -> int:
    """Command line."""
    arguments = command_line(__doc__.splitlines()[0]).parse_args()
    clock = time.perf_counter()
    print("▶ PDF, EPUB and slides", flush=True)
    try:
        if not print_book(arguments.site, arguments.notebooks, arguments.run):
            print(f"✗ PDF, EPUB and slides: not written; see the logs in {arguments.run}/logs", flush=True)
            return 1
    except InputError as error:
        print(f"✗ PDF, EPUB and slides: {error}", flush=True)
        return 2
    except OSError as error:
        print(f"✗ PDF, EPUB and slides: {error.strerror or error}: {error.filename or ''}", flush=True)
        return 1
    except KeyboardInterrupt:
        print("✗ PDF, EPUB and slides: stopped", flush=True)
        return 130
    sizes = ", ".join(f"{name} {(arguments.site / name).stat().st_size / 1e6:.1f} MB" for name in PRINTS)
    print(f"✓ PDF, EPUB and slides ({sizes}, {time.perf_counter() - clock:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
