from pathlib import Path

import check_site
import nbformat
import pytest

FIGURE = '<div class="figure-plotly" role="img" aria-label="sines"><div class="plotly-graph-div" id="g"></div></div>'
LOAD = '<script src="_static/plotly.min.js"></script>'


def page(body: str, head: str = "") -> str:
    return f"<html><head><title>A page</title>{head}</head><body><h1 id='top-title'>A</h1>{body}</body></html>"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static/plotly.min.js").write_text("//")
    (tmp_path / "_static/a.css").write_text("a { background: url(data:image/png;base64,xx) }")
    (tmp_path / "index.html").write_text(page('<a href="one.html#top-title">one</a> <a href="https://x.org">x</a>'))
    (tmp_path / "one.html").write_text(page(FIGURE + '<img src="_static/a.css" alt="a slice">', LOAD))
    return tmp_path


@pytest.fixture
def toc(tmp_path: Path) -> Path:
    path = tmp_path / "_toc.yml"
    path.write_text("format: jb-book\nroot: index\nparts:\n- caption: A\n  chapters:\n  - file: one\n")
    return path


def test_a_good_site_passes(site: Path, toc: Path) -> None:
    assert check_site.site_problems(site, toc) == ([], 2)


def test_a_picture_inside_a_page_is_no_file(site: Path, toc: Path) -> None:
    """Slides hold their pictures; as the name of a file such a text is too long for the system."""
    (site / "one.html").write_text(page(f'<img src="data:image/png;base64,{"x" * 5000}" alt="a slice">'))
    assert check_site.site_problems(site, toc) == ([], 2)


@pytest.mark.parametrize(
    ("body", "head", "expected"),
    [
        (FIGURE, "", "loaded 0 times"),
        (FIGURE, LOAD + LOAD, "loaded 2 times"),
        ("", LOAD, "on a page with 0 figures"),
        (FIGURE.replace("sines", " "), LOAD, "without aria-label"),
        ('<div class="plotly-graph-div"></div>', "", "outside of .figure-plotly"),
        ('<img src="_static/a.css">', "", "without alternative text"),
        (f'<table class="dataframe"><tr><td>{"x" * 47}...</td></tr></table>', "", "text of a table is cut off: xxx"),
        ('<a href="two.html">two</a>', "", "broken link: two.html"),
        ('<a href="index.html#nowhere">there</a>', "", "missing anchor"),
        ('<a href="#nowhere">there</a>', "", "missing anchor"),
        ("", '<script src="https://cdn.org/x.js"></script>', "fetches https://cdn.org/x.js"),
        ("", '<script src="//cdn.org/x.js"></script>', "fetches //cdn.org"),
        ("", '<link rel="stylesheet" href="https://fonts.org/x.css">', "fetches https://fonts.org"),
        ('<iframe src="https://video.org/1"></iframe>', "", "fetches https://video.org"),
        ("", "<style>@import 'https://fonts.org/y.css';</style>", "fetches https://fonts.org/y.css"),
        ("x" * 1_600_000, "", "more than 1.5 MB"),
        ("<script>" + "x" * 3_100_000 + "</script>", "", "plotly.js inside the page"),
    ],
)
def test_what_is_wrong_is_found(site: Path, toc: Path, body: str, head: str, expected: str) -> None:
    (site / "one.html").write_text(page(body, head))
    found, _ = check_site.site_problems(site, toc)
    assert expected in " | ".join(found)


def test_missing_page_title_library_and_remote_style_sheet(site: Path, toc: Path) -> None:
    (site / "index.html").write_text("<html><body>x</body></html>")
    (site / "_static/a.css").write_text("@font-face { src: url('https://fonts.org/z.woff') }")
    (site / "_static/plotly.min.js").unlink()
    toc.write_text(toc.read_text() + "  - file: 02_gone\n")
    found = " | ".join(check_site.site_problems(site, toc)[0])
    for expected in ("no title", "fetches https://fonts.org/z.woff", "plotly.min.js: missing", "02_gone.html: missing"):
        assert expected in found


def test_the_books_own_table_of_contents_is_read() -> None:
    assert check_site.toc_pages(check_site.TOC)[:2] == ["index", "what_we_found"]


def test_a_number_that_differs_in_the_exercise_notebook_is_found(site: Path, toc: Path) -> None:
    cells = [
        nbformat.v4.new_markdown_cell("$$a$$ (eq-a)\n\n$$b$$ (eq-b)"),
        nbformat.v4.new_code_cell("plot()", metadata={"mystnb": {"figure": {"name": "fig-01-x", "caption": "Seen."}}}),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), toc.parent / "01_x.ipynb")
    shown = (
        '<div id="equation-eq-a"><span class="eqno">(1.1)#</span></div>'
        '<div id="equation-eq-b"><span class="eqno">(1.3)#</span></div>'
        '<figure id="fig-01-x"><span class="caption-number">Figure 1.1 </span></figure>'
    )
    (site / "01_x.html").write_text(page(shown))
    assert check_site.site_problems(site, toc)[0] == [
        "01_x.html: eq-b is (1.3)# here, and 1.2 in the exercise notebook"
    ]
