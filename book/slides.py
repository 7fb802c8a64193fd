"""The slides for ninety minutes: `slides.md` with the figures and numbers of a run, as HTML, and as PPTX.

Each slide has one figure: a picture from the rendered page of its chapter. `printing.py` takes the pictures, and prints
the HTML to PDF.
"""

import base64
import html
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from PIL import Image
from pptx import Presentation
from pptx.dml.color import RGBColor
from pptx.util import Emu, Pt

from hgisam.errors import InputError
from hgisam_book.ledger import find_value
from hgisam_book.report import estimate
from numbering import figure_of
from teaching import KINDS, title_of

SOURCE, TEMPLATE = (Path(__file__).with_name(name) for name in ("slides.md", "slides.html"))
WIDTH_PX, HEIGHT_PX = 1280, 720
EMU_PER_PX = 9525  # of PPTX, at 96 px per inch
SECTION = re.compile(r"^## (?P<title>[^\n]+)\n(?P<body>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
FACT = re.compile(r"<!-- (?P<name>figure|task|minutes): (?P<value>.+?) -->")
NUMBER = re.compile(r"\{\{(?P<path>[\w.]+)\}\}")
INLINE = re.compile(r"\*\*(?P<strong>.+?)\*\*|\*(?P<em>.+?)\*|`(?P<code>.+?)`")
BOX = {  # left, top, width, height in px of what a slide of the PPTX holds
    "title": (48, 28, 1000, 64),
    "task": (1060, 36, 172, 44),
    "text": (48, 120, 400, 520),
    "figure": (472, 112, 760, 540),
    "foot": (48, 668, 1184, 32),
}
INK, ACCENT = RGBColor(0x24, 0x29, 0x2F), RGBColor(0x00, 0x5A, 0x8F)


@dataclass(frozen=True)
class Picture:
    """A figure of an executed chapter as a picture.

    Attributes:
        alt: Its alternative text.
        caption: Its caption in the chapter.
        png: The picture.
    """

    alt: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Slide:
    """A slide.

    Attributes:
        title: Its heading.
        chapter: Name of the chapter of its figure.
        source: Title of that chapter.
        picture: Its figure.
        points: Lines of text, with **, * and ` as in Markdown.
        notes: For the speaker.
        minutes: How long it takes.
        task: "predict", "code", "judge", or "".
    """

    title: str
    chapter: str
    source: str
    picture: Picture
    points: tuple[str, ...]
    notes: str
    minutes: int
    task: str


Pictures = Mapping[tuple[str, str], Picture]  # chapter and cell → figure


def pictures_of(chapters: Mapping[str, NotebookNode], shown: Mapping[str, list[tuple[str, str, bytes]]]) -> Pictures:
    """Figures of chapters by chapter and cell.

    Args:
        chapters: Name → executed notebook.
        shown: Name → (cell, alternative text, PNG) of each figure.
    """
    captions = {
        (name, cell.id): str(figure_of(cell).get("caption", "")) for name, nb in chapters.items() for cell in nb.cells
    }
    return {
        (name, cell): Picture(alt, captions[name, cell], png)
        for name, figures in shown.items()
        for cell, alt, png in figures
    }


def read_slides(
    text: str, summary: Mapping[str, Any], chapters: Mapping[str, NotebookNode], pictures: Pictures
) -> list[Slide]:
    """Slides of a deck.

    Args:
        text: Content of `slides.md`.
        summary: `summary.json` of the run; a number that it lacks is shown as "–".
        chapters: Name → executed notebook.
        pictures: See `pictures_of`.

    Raises:
        InputError: If a slide has no figure of the run, no minutes, or another task than those of the book.
    """
    slides = []
    for match in SECTION.finditer(text):
        facts = {fact["name"]: fact["value"] for fact in FACT.finditer(match["body"])}
        chapter, _, cell = facts.get("figure", "").partition(" ")
        if (chapter, cell) not in pictures:
            raise _invalid(match["title"], f"no figure {chapter} {cell}".strip(), "one that the run has")
        if not facts.get("minutes", "").isdigit() or facts.get("task", KINDS[0]) not in KINDS:
            raise _invalid(match["title"], str(facts), f"minutes, and a task of {', '.join(KINDS)} or none")
        body = NUMBER.sub(lambda number: _number(summary, number["path"]), FACT.sub("", match["body"]))
        lines = [line.strip() for line in body.splitlines()]
        slides.append(
            Slide(
                match["title"],
                chapter,
                title_of(chapters[chapter]),
                pictures[chapter, cell],
                tuple(line.removeprefix("- ") for line in lines if line.startswith("- ")),
                " ".join(line.removeprefix("> ") for line in lines if line.startswith("> ")),
                int(facts["minutes"]),
                facts.get("task", ""),
            )
        )
    return slides


def _invalid(title: str, got: str, expected: str) -> InputError:
    return InputError(f"slide {title!r}", got, expected, f"Correct {SOURCE.name}, or run the chapter again.")


def _number(summary: Mapping[str, Any], path: str) -> str:
    found = find_value(summary, path)
    return estimate({"mean": found.mean, "ci95": found.ci95} if found else None)


def title_in(text: str) -> str:
    """Title of the deck."""
    return text.splitlines()[0].removeprefix("# ")


def html_of(title: str, slides: list[Slide]) -> str:
    """The deck as one HTML file that needs no network.

    Args:
        title: Title of the deck.
        slides: Its slides.
    """
    shown = "\n".join(_section(number, slide, len(slides)) for number, slide in enumerate(slides, start=1))
    return TEMPLATE.read_text(encoding="utf-8").replace("TITLE", html.escape(title)).replace("SLIDES", shown)


def _section(number: int, slide: Slide, count: int) -> str:
    heading = "h1" if number == 1 else "h2"
    task = f'<span class="task {slide.task}">{slide.task}</span>' if slide.task else ""
    points = "".join(f"<li>{_inline(point)}</li>" for point in slide.points)
    source = f"data:image/png;base64,{base64.b64encode(slide.picture.png).decode()}"
    return f"""<section id="slide-{number}" aria-label="Slide {number} of {count}">
<header><{heading}>{_inline(slide.title)}</{heading}>{task}</header>
<ul>{points}</ul>
<img src="{source}" alt="{html.escape(slide.picture.alt, quote=True)}">
<footer><span>Figure and more: <a href="{slide.chapter}.html">{html.escape(slide.source)}</a></span>
<span>{slide.minutes} min · {number} / {count}</span></footer>
<details class="notes"><summary>Speaker notes</summary><p>{_inline(slide.notes)}</p></details>
</section>"""


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """Runs of a line of Markdown: ("strong", "em", "code" or "", text)."""
    end = 0
    for match in INLINE.finditer(text):
        yield "", text[end : match.start()]
        yield str(match.lastgroup), match[str(match.lastgroup)]
        end = match.end()
    yield "", text[end:]


def _inline(text: str) -> str:
    return "".join(f"<{kind}>{html.escape(run)}</{kind}>" if kind else html.escape(run) for kind, run in _parts(text))


def write_pptx(path: str | Path, title: str, slides: list[Slide]) -> None:
    """Write the deck as PPTX with notes, one picture per slide."""
    deck = Presentation()
    deck.core_properties.title, deck.core_properties.author = title, ""
    deck.slide_width, deck.slide_height = Emu(WIDTH_PX * EMU_PER_PX), Emu(HEIGHT_PX * EMU_PER_PX)
    layout = next(each for each in deck.slide_layouts if each.name == "Title Only")
    for number, slide in enumerate(slides, start=1):
        page = deck.slides.add_slide(layout)
        heading = page.shapes.title
        heading.left, heading.top, heading.width, heading.height = _emu(*BOX["title"])
        _write(heading.text_frame, [slide.title], 28, bold=True)
        _write(page.shapes.add_textbox(*_emu(*BOX["text"])).text_frame, slide.points, 20)
        foot = f"{slide.source} · {slide.minutes} min · {number} / {len(slides)}"
        _write(page.shapes.add_textbox(*_emu(*BOX["foot"])).text_frame, [foot], 12)
        if slide.task:
            _write(page.shapes.add_textbox(*_emu(*BOX["task"])).text_frame, [slide.task], 20, bold=True, colour=ACCENT)
        shown = page.shapes.add_picture(io.BytesIO(slide.picture.png), *_emu(*_fitted(slide.picture.png)))
        shown.name = "figure"
        shown._element.nvPicPr.cNvPr.set("descr", slide.picture.alt)  # python-pptx has no other way
        page.notes_slide.notes_text_frame.text = slide.notes
    deck.save(str(path))


def _emu(*px: float) -> list[Emu]:
    return [Emu(round(each * EMU_PER_PX)) for each in px]


def _fitted(png: bytes) -> tuple[float, float, float, float]:
    """Left, top, width and height in px of a picture in the middle of the box of the figure."""
    left, top, width, height = BOX["figure"]
    with Image.open(io.BytesIO(png)) as picture:
        scale = min(width / picture.width, height / picture.height)
        shown = picture.width * scale, picture.height * scale
    return left + (width - shown[0]) / 2, top + (height - shown[1]) / 2, *shown


def _write(
    frame: Any, lines: tuple[str, ...] | list[str], size_pt: int, *, bold: bool = False, colour: RGBColor = INK
) -> None:
    """Write lines of Markdown into a text frame, one paragraph each."""
    frame.word_wrap = True
    for number, line in enumerate(lines):
        paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()
        paragraph.space_after = Pt(size_pt / 2)
        for kind, text in _parts(line):
            run = paragraph.add_run()
            run.text, run.font.size, run.font.color.rgb = text, Pt(size_pt), colour
            run.font.bold, run.font.italic = bold or kind == "strong", kind == "em"
            if kind == "code":
                run.font.name = "Courier New"
