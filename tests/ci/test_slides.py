"""The slides: eighteen for ninety minutes, each with a figure of the run, no typed result, none beyond the screen."""

import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import check_print
import nbformat
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from pptx import Presentation

import printing
import slides
import teaching
from hgisam.errors import InputError
from hgisam_book.browser import ARGUMENTS
from hgisam_book.doctor import find_browser
from hgisam_book.ledger import read_summary
from steps import SLIDES

BOOK = Path(slides.__file__).parent
TEXT = slides.SOURCE.read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"<!-- figure: (\w+) ", TEXT)))
CHAPTERS = {name: nbformat.read(BOOK / f"{name}.ipynb", as_version=4) for name in NAMES}
SUMMARY = read_summary(BOOK / "recorded" / "laptop-2-cores")
SHAPES = ((700, 250), (700, 1400))  # of the figures of the tests: one is wide, one is high
needs_browser = pytest.mark.skipif(find_browser() is None, reason="no Chromium installed")


@cache
def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "navy").save(buffer, "PNG")
    return buffer.getvalue()


def shown() -> dict[str, list[tuple[str, str, bytes]]]:
    """A picture for every code cell of the chapters, in turn wide and high."""
    return {
        name: [
            (cell.id, f"figure “{cell.id}” <a>", png(*SHAPES[n % 2]))
            for n, cell in enumerate(chapter.cells)
            if cell.cell_type == "code"
        ]
        for name, chapter in CHAPTERS.items()
    }


@pytest.fixture(scope="module")
def pictures() -> slides.Pictures:
    return slides.pictures_of(CHAPTERS, shown())


@pytest.fixture(scope="module")
def deck(pictures: slides.Pictures) -> list[slides.Slide]:
    return slides.read_slides(TEXT, SUMMARY, CHAPTERS, pictures)


def test_eighteen_slides_take_ninety_minutes_and_have_tasks_and_notes(deck: list[slides.Slide]) -> None:
    assert len(deck) == 18
    assert sum(slide.minutes for slide in deck) == 90
    assert {slide.task for slide in deck} == {"", *teaching.KINDS}
    for slide in deck:
        assert len(slide.notes) > 40, slide.title
        assert 3 <= len(slide.points) <= 5, slide.title


def test_every_figure_is_one_that_its_chapter_plots() -> None:
    for found in re.finditer(r"<!-- figure: (\w+) ([\w-]+) -->", TEXT):
        cell = next(cell for cell in CHAPTERS[found[1]].cells if cell.id == found[2])
        assert "figures." in cell.source, found[0]


def test_results_come_from_the_run_and_none_is_typed(deck: list[slides.Slide]) -> None:
    typed = re.findall(r"\b0\.\d+", re.sub(r"0\.75 and 0\.975", "", TEXT))  # the answer of an exercise, not a result
    assert typed == []
    words = " ".join(" ".join((*slide.points, slide.notes)) for slide in deck)
    assert "{{" not in words
    assert "–" not in words
    dice = SUMMARY["segmentation"]["hgi_sam"]["dice_slice"]
    assert f"HGI-SAM: Dice {dice['mean']:.2f} ({dice['ci95'][0]:.2f} to {dice['ci95'][1]:.2f})." in words


def test_a_number_that_the_run_lacks_is_a_dash(pictures: slides.Pictures) -> None:
    summary = SUMMARY | {"comparisons": [], "segmentation": {}}
    words = [point for slide in slides.read_slides(TEXT, summary, CHAPTERS, pictures) for point in slide.points]
    assert "HGI-SAM: Dice –." in words


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("06_results judge-figure", "06_results nothing", "no figure 06_results nothing"),
        ("<!-- figure: 06_results judge-figure -->", "", "no figure"),
        ("<!-- minutes: 8 -->", "", "minutes"),
        ("<!-- task: code -->", "<!-- task: guess -->", "a task of predict, code, judge or none"),
    ],
)
def test_a_faulty_slide_is_one_line(pictures: slides.Pictures, old: str, new: str, expected: str) -> None:
    assert old in TEXT
    with pytest.raises(InputError, match=expected) as caught:
        slides.read_slides(TEXT.replace(old, new), SUMMARY, CHAPTERS, pictures)
    assert "\n" not in str(caught.value)


def test_the_html_is_one_file_with_one_described_figure_per_slide(deck: list[slides.Slide]) -> None:
    page = slides.html_of("A deck & more", deck)
    assert "<title>A deck &amp; more</title>" in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|@import|<link""", page)
    sections = re.findall(r"<section.*?</section>", page, re.DOTALL)
    assert len(sections) == len(deck)
    for section, slide in zip(sections, deck, strict=True):
        assert section.count("<img ") == 1
        assert "&lt;a&gt;" in section
        assert section.count('class="task ') == bool(slide.task)


def test_marks_of_markdown_become_html() -> None:
    assert slides._inline("a **b** *c* `d < e` f") == "a <strong>b</strong> <em>c</em> <code>d &lt; e</code> f"


def test_the_pptx_has_figures_with_alternative_texts_and_notes_inside_its_slides(
    deck: list[slides.Slide], tmp_path: Path
) -> None:
    slides.write_pptx(tmp_path / "x.pptx", "A deck", deck)
    opened = Presentation(str(tmp_path / "x.pptx"))
    assert len(opened.slides) == len(deck)
    for page, slide in zip(opened.slides, deck, strict=True):
        assert page.shapes.title.text_frame.text == slide.title
        assert page.notes_slide.notes_text_frame.text == slide.notes
        (figure,) = (shape for shape in page.shapes if shape.name == "figure")
        assert figure._element.nvPicPr.cNvPr.get("descr") == slide.picture.alt
        with Image.open(io.BytesIO(slide.picture.png)) as picture:
            assert figure.width / figure.height == pytest.approx(picture.width / picture.height, rel=0.01)
        for shape in page.shapes:
            assert 0 <= shape.left <= shape.left + shape.width <= opened.slide_width
            assert 0 <= shape.top <= shape.top + shape.height <= opened.slide_height


@needs_browser
def test_no_slide_is_larger_than_the_screen_and_keys_move_through_them(tmp_path: Path, pictures: Any) -> None:
    notebooks = []
    for name, chapter in CHAPTERS.items():
        notebooks.append(tmp_path / f"{name}.ipynb")
        nbformat.write(chapter, notebooks[-1])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(ARGUMENTS))
        printing.write_slides(browser, tmp_path, notebooks, SUMMARY, pictures)
        page = browser.new_page(viewport={"width": slides.WIDTH_PX, "height": slides.HEIGHT_PX})
        page.goto((tmp_path / f"{SLIDES}.html").as_uri())
        current = "() => document.querySelector('section.current').id"
        found = [page.evaluate(current)]
        for key in ("ArrowRight", " ", "PageUp", "End", "ArrowDown", "Home"):
            page.keyboard.press(key)
            found.append(page.evaluate(current))
        assert found == [f"slide-{n}" for n in (1, 2, 3, 2, 18, 18, 1)]
        assert not page.locator(".current .notes").is_visible()
        page.keyboard.press("n")
        assert page.locator(".current .notes p").is_visible()
        narrow = browser.new_page(viewport={"width": 390, "height": 844})
        narrow.goto((tmp_path / f"{SLIDES}.html").as_uri())
        assert narrow.evaluate("document.documentElement.scrollWidth") <= 390
        assert narrow.locator("section").last.is_visible()
        browser.close()
    assert list(check_print.slide_problems(tmp_path)) == []
    page_of = tmp_path / f"{SLIDES}.html"
    page_of.write_text(page_of.read_text().replace("</ul>", "<li>more</li></ul>".replace("more", "word " * 200)))
    assert "slide-1 is larger than the screen" in " | ".join(check_print.slide_problems(tmp_path))
