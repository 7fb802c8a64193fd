"""Fixes for EPUB files of Sphinx: MathML properties, duplicate ids, collapsed admonitions, missing style sheets."""

import posixpath
import re
import zipfile
from pathlib import Path

SHEET = re.compile(r'<link rel="stylesheet"[^>]*href="(?P<href>[^"?]+)[^"]*"[^>]*/>')
# a collapsed admonition has two titles, and only the style sheet of the web hides one of them
COLLAPSED = re.compile(
    r'<p class="collapsed admonition-title">(?P<closed>.*?)</p>\s*<p class="expanded admonition-title">.*?</p>',
    re.DOTALL,
)
# ids that the extensions repeat for each exercise and definition
DUPLICATE_IDS = (' id="exercise-content"', ' id="proof-content"')
ITEM = re.compile(r'<item id="[^"]+" href="(?P<href>[^"]+\.xhtml)" media-type="application/xhtml\+xml" />')


def fix_epub(path: Path) -> None:
    """Rewrite an EPUB file so that it conforms to the standard.

    Args:
        path: File from the EPUB builder of Sphinx.
    """
    with zipfile.ZipFile(path) as archive:
        entries = {info: archive.read(info) for info in archive.infolist()}
    names = {info.filename for info in entries}
    with_math = {info.filename for info, data in entries.items() if b"<math" in data}
    for info, data in entries.items():
        if info.filename.endswith(".xhtml"):
            entries[info] = _page(data.decode(), info.filename, names).encode()
        elif info.filename.endswith(".opf"):
            entries[info] = _package(data.decode(), with_math).encode()
    scratch = path.with_name(f".{path.name}.tmp")
    with zipfile.ZipFile(scratch, "w") as archive:
        for info, data in entries.items():  # each entry keeps its compression
            archive.writestr(info, data)
    scratch.replace(path)


def _page(text: str, name: str, names: set[str]) -> str:
    def existing(sheet: re.Match[str]) -> str:
        return sheet[0] if posixpath.normpath(posixpath.join(posixpath.dirname(name), sheet["href"])) in names else ""

    for attribute in DUPLICATE_IDS:
        text = text.replace(attribute, "")
    return SHEET.sub(existing, COLLAPSED.sub(r"\g<closed>", text))


def _package(text: str, with_math: set[str]) -> str:
    def with_property(item: re.Match[str]) -> str:
        return item[0].replace(" />", ' properties="mathml" />') if item["href"] in with_math else item[0]

    return ITEM.sub(with_property, text)
