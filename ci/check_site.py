"""Gate: check the files of the rendered site: pages, links, numbers, alternative texts, sizes, no remote resources.

python ci/check_site.py _build/html
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup, Tag

from hgisam.config.overrides import read_yaml

BOOK = Path(__file__).resolve().parent.parent / "book"
sys.path.insert(0, str(BOOK))

from numbering import numbers_of  # noqa: E402
from steps import SLIDES  # noqa: E402

PAGE_BYTES = 1_500_000  # a page with its images, without plotly.js, which all pages share
SLIDES_BYTES = 10_000_000  # the slides, which have all their pictures in one file
TOC = BOOK / "_toc.yml"
LIBRARY = "plotly.min.js"
FETCHING = {  # element → attributes from which a browser loads resources
    "script": ("src",), "img": ("src", "srcset"), "iframe": ("src",), "source": ("src", "srcset"), "video": ("src",),
    "audio": ("src",), "embed": ("src",), "object": ("data",),
}  # fmt: skip
FETCHING_RELATIONS = {
    "stylesheet",
    "preload",
    "modulepreload",
    "icon",
    "shortcut",
    "preconnect",
    "dns-prefetch",
    "prefetch",
}
CSS_URL = re.compile(r"(?:@import\s+[\"']|url\(\s*[\"']?)((?:https?:)?//[^\"')\s]+)")


def toc_pages(toc: Path) -> list[str]:
    """Names of the pages in the table of contents."""

    def walk(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (node[key] for key in ("root", "file") if key in node)
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    return list(walk(read_yaml(toc, toc.name)))


def is_remote(address: str) -> bool:
    """True if an address is on another host."""
    return address.startswith("//") or urlsplit(address).scheme in ("http", "https")


def page_problems(page: Path, soup: BeautifulSoup, anchors: dict[Path, set[str]]) -> list[str]:
    """Problems with one page."""
    return [*_remote(soup), *_texts(soup), *_plotly(soup), *_links(page, soup, anchors), *_size(page, soup)]


def _remote(soup: BeautifulSoup) -> Iterator[str]:
    for name, attributes in FETCHING.items():
        for element in soup.find_all(name):
            for attribute in attributes:
                if is_remote(str(element.get(attribute, ""))):
                    yield f"<{name}> fetches {element[attribute]}"
    for link in soup.find_all("link"):
        if FETCHING_RELATIONS & set(link.get("rel") or []) and is_remote(str(link.get("href", ""))):
            yield f"<link> fetches {link['href']}"
    for style in soup.find_all("style"):
        yield from (f"<style> fetches {address}" for address in CSS_URL.findall(style.get_text()))


def _texts(soup: BeautifulSoup) -> Iterator[str]:
    if soup.title is None or not soup.title.get_text(strip=True):
        yield "no title"
    for image in soup.find_all("img"):
        alt = str(image.get("alt", "")).strip()
        if not alt or alt.startswith(("_images/", "../_images/")):
            yield f"image without alternative text: {str(image.get('src', ''))[:60]}"
    for cell in soup.select("table.dataframe td"):
        if (text := cell.get_text()).endswith("...") and len(text) > 40:
            yield f"text of a table is cut off: {text}"
    for figure in soup.select(".figure-plotly"):
        if not str(figure.get("aria-label", "")).strip():
            yield "plotly figure without aria-label"


def _plotly(soup: BeautifulSoup) -> Iterator[str]:
    figures, graphs = soup.select(".figure-plotly"), soup.select(".plotly-graph-div")
    loads = [script for script in soup.find_all("script") if LIBRARY in str(script.get("src", ""))]
    if len(loads) != (1 if figures else 0):
        yield f"{LIBRARY} loaded {len(loads)} times on a page with {len(figures)} figures"
    if len(graphs) != len([graph for graph in graphs if graph.find_parent(class_="figure-plotly")]):
        yield "plotly figure outside of .figure-plotly: not written by our renderer"
    if any(len(script.get_text()) > 3_000_000 for script in soup.find_all("script")):
        yield "plotly.js inside the page"


def _links(page: Path, soup: BeautifulSoup, anchors: dict[Path, set[str]]) -> Iterator[str]:
    for element, attribute in ((e, a) for a in ("href", "src") for e in soup.find_all(attrs={a: True})):
        parts = urlsplit(str(element[attribute]))
        if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve()
        if not target.exists():
            yield f"broken link: {element[attribute]}"
        elif parts.fragment and target in anchors and unquote(parts.fragment) not in anchors[target]:
            yield f"missing anchor: {element[attribute]}"


def _numbers(soup: BeautifulSoup, numbers: dict[str, str]) -> Iterator[str]:
    """Numbers that differ between the page and the exercise notebook; see `numbering`."""
    for label, number in numbers.items():
        place = soup.find(id=f"equation-{label}" if label.startswith("eq-") else label)
        shown = place and place.select_one(".eqno, .caption-number")
        if shown and number not in re.findall(r"[\d.]+\d", shown.get_text()):
            yield f"{label} is {shown.get_text(strip=True)} here, and {number} in the exercise notebook"


def _size(page: Path, soup: BeautifulSoup) -> Iterator[str]:
    sources = {urlsplit(str(image.get("src", ""))) for image in soup.find_all("img")}
    images = [page.parent / unquote(source.path) for source in sources if source.scheme != "data"]
    size = page.stat().st_size + sum(image.stat().st_size for image in images if image.is_file())
    limit = SLIDES_BYTES if page.stem == SLIDES else PAGE_BYTES
    if size > limit:
        yield f"{size / 1e6:.2f} MB, more than {limit / 1e6} MB"


def _anchors(soup: BeautifulSoup) -> set[str]:
    names = {str(element["id"]) for element in soup.find_all(id=True)}
    names |= {str(element["name"]) for element in soup.find_all("a", attrs={"name": True}) if isinstance(element, Tag)}
    return names | {"", "top"}


def site_problems(site: Path, toc: Path = TOC) -> tuple[list[str], int]:
    """Problems with a site, and its number of pages."""
    found = [f"{name}.html: missing" for name in toc_pages(toc) if not (site / f"{name}.html").is_file()]
    pages = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    soups = {page: BeautifulSoup(page.read_bytes(), "html.parser", from_encoding="utf-8") for page in pages}
    anchors = {page.resolve(): _anchors(soup) for page, soup in soups.items()}
    for page, soup in soups.items():
        found += [f"{page.relative_to(site)}: {problem}" for problem in page_problems(page, soup, anchors)]
    for path in sorted(toc.parent.glob("[0-9]*.ipynb")):
        numbers = numbers_of({path.stem: nbformat.read(path, as_version=4)})
        if page := soups.get(site / f"{path.stem}.html"):
            found += [f"{path.stem}.html: {problem}" for problem in _numbers(page, numbers)]
    for sheet in sorted(site.rglob("*.css")):
        addresses = CSS_URL.findall(sheet.read_text(encoding="utf-8", errors="replace"))
        found += [f"{sheet.relative_to(site)}: fetches {address}" for address in addresses]
    if any(soup.select_one(".figure-plotly") for soup in soups.values()) and not (site / "_static" / LIBRARY).is_file():
        found.append(f"_static/{LIBRARY}: missing")
    return found, len(pages)


def main(arguments: list[str]) -> int:
    """Command line."""
    if len(arguments) != 1:
        print("usage: python ci/check_site.py _build/html")
        return 2
    found, pages = site_problems(Path(arguments[0]))
    print(*found, sep="\n", end="\n" if found else "")
    print(f"check_site: {f'{len(found)} problems' if found else 'ok'}, {pages} pages")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
