"""Gate: print a rendered site and its notebooks to PDF, EPUB and slides, and check the files.

    python ci/check_print.py _build/html runs/smoke

Without Chromium the gate is not run; on a CI machine (CI=true) it then fails.
"""

import os
import posixpath
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright
from pptx import Presentation
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from hgisam_book.browser import ARGUMENTS
from hgisam_book.doctor import INSTALL, find_browser

BOOK = Path(__file__).resolve().parent.parent / "book"
sys.path.insert(0, str(BOOK))

from slides import HEIGHT_PX, WIDTH_PX  # noqa: E402
from steps import PRINTED, PRINTS, SLIDES  # noqa: E402

PRINTER = BOOK / "printing.py"
XHTML = "{http://www.w3.org/1999/xhtml}"
BYTES = 15_000_000  # maximum size of each file
# shows each slide in turn
OVERFLOWS = """() => [...document.querySelectorAll('section')].flatMap((slide) => {
    dispatchEvent(new KeyboardEvent('keydown', { key: slide.previousElementSibling ? 'ArrowRight' : 'Home' }));
    const text = slide.querySelector('ul'), whole = slide.getBoundingClientRect();
    const beyond = [...slide.querySelectorAll('header, ul, img, footer')].filter((part) => {
        const box = part.getBoundingClientRect();
        return box.top < whole.top - 1 || box.bottom > whole.bottom + 1 || box.right > whole.right + 1;
    });
    const high = whole.height > innerHeight + 1 || beyond.length || text.scrollHeight > text.clientHeight + 1;
    return whole.height && !high ? [] : [`${slide.id} is ${whole.height ? 'larger than the screen' : 'not shown'}`];
})"""


def figures_in(page: Path) -> tuple[str, int]:
    """Title and number of interactive figures of a rendered page."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    heading = soup.h1
    if heading is None:
        return page.stem, len(soup.select(".figure-plotly"))
    for mark in heading.select(".headerlink, .section-number"):
        mark.decompose()
    return " ".join(heading.get_text().split()), len(soup.select(".figure-plotly"))


def pdf_problems(path: Path, chapters: dict[str, int]) -> Iterator[str]:
    """Problems with a PDF.

    Args:
        path: The file.
        chapters: Title of each chapter → number of its figures.
    """
    try:
        reader = PdfReader(path)
        bookmarks = {re.sub(r"^\d+\. ", "", str(entry.title)) for entry in _flat(reader.outline)}
        pictures = sum(len(page.images) for page in reader.pages)
    except (OSError, PyPdfError) as error:
        yield f"{path.name}: not a PDF ({error})"
        return
    yield from (f"{path.name}: no bookmark for {title!r}" for title in chapters if title not in bookmarks)
    if pictures < sum(chapters.values()):
        yield f"{path.name}: {pictures} pictures of {sum(chapters.values())} figures"
    if not any(page.extract_text().strip() for page in reader.pages):
        yield f"{path.name}: no text"


def _flat(bookmarks: list) -> Iterator:  # type: ignore[type-arg]  # pypdf nests lists in lists
    for entry in bookmarks:
        yield from _flat(entry) if isinstance(entry, list) else [entry]


def epub_problems(path: Path, chapters: dict[str, int]) -> Iterator[str]:
    """Problems with an EPUB; arguments as for `pdf_problems`."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        yield f"{path.name}: not an EPUB ({error})"
        return
    names = archive.namelist()
    if names[:1] != ["mimetype"] or archive.read("mimetype").strip() != b"application/epub+zip":
        yield f"{path.name}: does not start with its mimetype"
    titles, pictures = set(), 0
    for name in names:
        if not name.endswith(".xhtml"):
            continue
        try:
            root = ElementTree.fromstring(archive.read(name))
        except ElementTree.ParseError as error:
            yield f"{path.name}, {name}: not XML ({error})"
            continue
        headings = (" ".join("".join(h.itertext()).split()) for h in root.iter(f"{XHTML}h1"))
        titles |= {re.sub(r"^\d+\. ", "", heading) for heading in headings}
        pictures += len(list(root.iter(f"{XHTML}img")))
        yield from (f"{path.name}, {name}: {problem}" for problem in _page_problems(name, root, set(names)))
    yield from (f"{path.name}: no chapter {title!r}" for title in chapters if title not in titles)
    if pictures < sum(chapters.values()):
        yield f"{path.name}: {pictures} pictures of {sum(chapters.values())} figures"


def _page_problems(name: str, root: ElementTree.Element, names: set[str]) -> Iterator[str]:
    for element in root.iter():
        kind = str(element.tag).removeprefix(XHTML)
        if kind == "script":
            yield "a script"
        if "figure-plotly" in element.get("class", ""):
            yield "an interactive figure"
        address = urlsplit(element.get("src", ""))
        if address.scheme in ("http", "https") or address.netloc:
            yield f"<{kind}> fetches {element.get('src')}"
        elif kind == "img":
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(address.path)))
            if target not in names:
                yield f"image that is not in the file: {element.get('src')}"
            if not element.get("alt", "").strip():
                yield f"image without alternative text: {element.get('src')}"


def slide_problems(site: Path) -> Iterator[str]:
    """Problems with the slides of a site: the three files agree, and no slide is larger than the screen."""
    pages = len(PdfReader(site / f"{SLIDES}.pdf").pages)
    deck = Presentation(str(site / f"{SLIDES}.pptx"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": HEIGHT_PX})
        page.goto((site / f"{SLIDES}.html").absolute().as_uri())
        sections = page.locator("section").count()
        yield from (f"{SLIDES}.html: {text}" for text in page.evaluate(OVERFLOWS))
        browser.close()
    if not sections == pages == len(deck.slides):
        yield f"{SLIDES}: {sections} slides as HTML, {pages} as PDF, {len(deck.slides)} as PPTX"
    for number, slide in enumerate(deck.slides, start=1):
        if not (slide.has_notes_slide and slide.notes_slide.notes_text_frame.text.strip()):
            yield f"{SLIDES}.pptx: slide {number} has no notes"


def main(arguments: list[str]) -> int:
    """Command line."""
    if len(arguments) != 2:
        print("usage: python ci/check_print.py _build/html runs/smoke")
        return 2
    site, run = map(Path, arguments)
    if find_browser() is None:
        print(f"check_print: NOT RUN, no Chromium found; {INSTALL}")
        return 1 if os.environ.get("CI", "").lower() in ("1", "true") else 0
    notebooks = sorted((run / "notebooks").glob("*.ipynb"))
    if not notebooks:
        print(f"check_print: no executed notebooks in {run / 'notebooks'}; run make book first")
        return 1
    command = [
        sys.executable,
        str(PRINTER),
        str(site),
        "--run",
        str(run),
        "--notebooks",
        *map(str, notebooks),
    ]
    if code := subprocess.run(command, check=False).returncode:
        print("check_print: not printed")
        return code
    chapters = dict(figures_in(site / f"{path.stem}.html") for path in notebooks)
    files = {"pdf": pdf_problems, "epub": epub_problems}
    found = [problem for kind, check in files.items() for problem in check(site / f"{PRINTED}.{kind}", chapters)]
    found += slide_problems(site)
    linked = "".join((site / f"{name}.html").read_text(encoding="utf-8") for name in ("index", "teaching"))
    for name in PRINTS:
        found += [f"no link to {name}"] * (f'href="{name}"' not in linked)
        size = (site / name).stat().st_size
        found += [f"{name}: {size / 1e6:.0f} MB, more than {BYTES / 1e6:.0f} MB"] * (size > BYTES)
    print(*found, sep="\n", end="\n" if found else "")
    print(f"check_print: {f'{len(found)} problems' if found else 'ok'}, {len(chapters)} chapters")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
