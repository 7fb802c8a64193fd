"""What an EPUB of Sphinx lacks by the standard: declared formulas, ids given once, folds and sheets of its own."""

import posixpath
import re
import zipfile
from pathlib import Path

SHEET = re.compile(r'<link rel="stylesheet"[^>]*href="(?P<href>[^"?]+)[^"]*"[^>]*/>')
# of the two texts of a fold a style sheet of the web hides one
FOLD = re.compile(
    r'<p class="collapsed admonition-title">(?P<closed>.*?)</p>\s*<p class="expanded admonition-title">.*?</p>',
    re.DOTALL,
)
REPEATED = (' id="exercise-content"', ' id="proof-content"')  # extensions give it to each exercise and each definition
ITEM = re.compile(r'<item id="[^"]+" href="(?P<href>[^"]+\.xhtml)" media-type="application/xhtml\+xml" />')


def mend(path: Path) -> None:
    """Writes an EPUB anew as the standard wants it.

    Args:
        path: The file, of Sphinx's builder.
    """
    with zipfile.ZipFile(path) as archive:
        entries = {info: archive.read(info) for info in archive.infolist()}
    names = {info.filename for info in entries}
    with_formulas = {info.filename for info, data in entries.items() if b"<math" in data}
    for info, data in entries.items():
        if info.filename.endswith(".xhtml"):
            entries[info] = _page(data.decode(), info.filename, names).encode()
        elif info.filename.endswith(".opf"):
            entries[info] = _package(data.decode(), with_formulas).encode()
    scratch = path.with_name(f".{path.name}.tmp")
    with zipfile.ZipFile(scratch, "w") as archive:
        for info, data in entries.items():  # each compressed, or not, as it was
            archive.writestr(info, data)
    scratch.replace(path)


def _page(text: str, name: str, names: set[str]) -> str:
    def kept(sheet: re.Match[str]) -> str:
        return sheet[0] if posixpath.normpath(posixpath.join(posixpath.dirname(name), sheet["href"])) in names else ""

    for attribute in REPEATED:
        text = text.replace(attribute, "")
    return SHEET.sub(kept, FOLD.sub(r"\g<closed>", text))


def _package(text: str, with_formulas: set[str]) -> str:
    def declared(item: re.Match[str]) -> str:
        return item[0].replace(" />", ' properties="mathml" />') if item["href"] in with_formulas else item[0]

    return ITEM.sub(declared, text)
