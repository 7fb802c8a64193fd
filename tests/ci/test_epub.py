"""Fixes of an EPUB; everything else stays unchanged."""

import zipfile
from pathlib import Path

import epub

PAGE = (
    '<head><link rel="stylesheet" type="text/css" href="_static/a.css?v=1" />'
    '<link rel="stylesheet" type="text/css" href="_static/gone.css?v=2" /></head>'
    '<summary><p class="collapsed admonition-title">Show</p>\n<p class="expanded admonition-title">Hide</p></summary>'
    '<section id="exercise-content"><math>x</math></section><section id="exercise-content" class="y"></section>'
)
PACKAGE = (
    '<item id="epub-0" href="a.xhtml" media-type="application/xhtml+xml" />'
    '<item id="epub-1" href="b.xhtml" media-type="application/xhtml+xml" />'
)


def test_math_is_declared_ids_are_unique_and_style_sheets_exist(tmp_path: Path) -> None:
    path = tmp_path / "x.epub"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        for name, data in {
            "a.xhtml": PAGE,
            "b.xhtml": "<p>x</p>",
            "content.opf": PACKAGE,
            "_static/a.css": "a",
        }.items():
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)
    epub.fix_epub(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist()[0] == "mimetype"
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED
        page, package = (archive.read(name).decode() for name in ("a.xhtml", "content.opf"))
        assert archive.read("b.xhtml") == b"<p>x</p>"
    assert "a.css" in page
    assert "gone.css" not in page
    assert "<summary>Show</summary>" in page
    assert page.endswith('<section><math>x</math></section><section class="y"></section>')
    assert 'href="a.xhtml" media-type="application/xhtml+xml" properties="mathml" />' in package
    assert 'href="b.xhtml" media-type="application/xhtml+xml" />' in package
