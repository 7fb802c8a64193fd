"""The gate of the printed book finds problems."""

import zipfile
from pathlib import Path

import check_print
import pytest
from pypdf import PdfWriter

PAGE = '<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>5. Maps</h1>{}</body></html>'
IMAGE = '<img src="_images/a.png" alt="a map"/>'


def epub(path: Path, body: str = IMAGE, *, first: str = "mimetype") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(first, "application/epub+zip")
        archive.writestr("text/05.xhtml", PAGE.format(body.replace("_images", "../_images")))
        archive.writestr("_images/a.png", b"x")
    return path


def test_a_complete_epub_passes(tmp_path: Path) -> None:
    assert list(check_print.epub_problems(epub(tmp_path / "x.epub"), {"Maps": 1})) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<br>", "not XML"),
        ("<p>&ApplyFunction;</p>", "not XML"),
        (IMAGE + "<script>x</script>", "a script"),
        (IMAGE + '<div class="output figure-plotly"/>', "an interactive figure"),
        ('<img src="https://x.org/a.png" alt="a"/>', "fetches https"),
        ('<img src="_images/b.png" alt="a"/>', "not in the file"),
        ('<img src="_images/a.png" alt=" "/>', "without alternative text"),
        ("", "0 pictures of 1 figures"),
    ],
)
def test_problems_of_an_epub_are_found(tmp_path: Path, body: str, expected: str) -> None:
    assert expected in " | ".join(check_print.epub_problems(epub(tmp_path / "x.epub", body), {"Maps": 1}))


def test_an_epub_without_a_chapter_or_its_mimetype_is_found(tmp_path: Path) -> None:
    path = epub(tmp_path / "x.epub", first="META-INF/container.xml")
    found = " | ".join(check_print.epub_problems(path, {"Maps": 1, "Masks": 0}))
    assert "does not start with its mimetype" in found
    assert "no chapter 'Masks'" in found


def test_problems_of_a_pdf_are_found(tmp_path: Path) -> None:
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.add_outline_item("5. Maps", page_number=0)
    writer.write(tmp_path / "x.pdf")
    found = list(check_print.pdf_problems(tmp_path / "x.pdf", {"Maps": 1, "Masks": 0}))
    assert found == [
        "x.pdf: no bookmark for 'Masks'",
        "x.pdf: 0 pictures of 1 figures",
        "x.pdf: no text",
    ]


@pytest.mark.parametrize("check", [check_print.pdf_problems, check_print.epub_problems])
def test_an_invalid_file_is_one_line(tmp_path: Path, check: object) -> None:
    (tmp_path / "x").write_bytes(b"nothing")
    assert callable(check)
    (found,) = check(tmp_path / "x", {})
    assert found.startswith("x: not a")


def test_a_run_without_notebooks_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_print, "find_browser", lambda: Path("chromium"))
    assert check_print.main([str(tmp_path), str(tmp_path / "smoke")]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"check_print: no executed notebooks in {tmp_path / 'smoke' / 'notebooks'}")
