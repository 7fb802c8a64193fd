"""Gate: check the rendered site in a real browser, narrow and wide, light and dark.

    python ci/check_browser.py _build/html

Pages are opened from disk. Screenshots go to `screenshots/` beside the site. Without Chromium the gate is not run; on a
CI machine (CI=true) it then fails.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, Request, sync_playwright

from hgisam_book.browser import ARGUMENTS, UNFOLD, theme_script
from hgisam_book.doctor import INSTALL, find_browser

MOST_BROWSERS = 4  # each takes about 1 GB
WIDTHS = {"narrow": (390, 844), "wide": (1280, 900)}
SERIOUS = ("serious", "critical")
AXE: dict[str, Any] = {"preload": False, "resultTypes": ["violations"]}
# docutils gives bibliography entries the role doc-biblioentry, which axe does not accept as list items
EXCLUDED = {"exclude": [[".js-plotly-plot"], [".citation-list"]]}
NOT_RENDERED = """() => [...document.querySelectorAll('.figure-plotly')].filter((figure) => {
    const content = figure.querySelector('.main-svg, canvas');
    const box = content && content.getBoundingClientRect();
    return !(box && box.width > 50 && box.height > 50);
}).map((figure) => figure.getAttribute('aria-label'))"""
TOO_WIDE = """() => {
    const root = document.documentElement, wide = root.scrollWidth - root.clientWidth;
    if (wide <= 1) return [];
    const beyond = (e) => e.getBoundingClientRect().right > root.clientWidth + 1;
    const scrolls = (e) => e !== document.body
        && (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
    const guilty = [...document.body.querySelectorAll('*')].find((e) => beyond(e) && !scrolls(e.parentElement));
    return [`${wide} px too wide, first: ${guilty ? guilty.tagName + '.' + guilty.className : 'unknown'}`];
}"""
CLIPPED = """() => [...document.querySelectorAll('.figure-plotly')].filter((f) => f.scrollWidth > f.clientWidth + 1)
    .map((f) => `${f.getAttribute('aria-label')}: ${f.scrollWidth} px in ${f.clientWidth} px`)"""
CUT_CODE = """() => [...document.querySelectorAll('.cell_input pre')]
    .filter((code) => code.scrollWidth > code.clientWidth + 1)
    .map((code) => code.innerText.split('\\n').reduce((a, b) => a.length < b.length ? b : a))"""
# horizontal text only: the boxes of rotated labels overlap even if the labels do not
HIDDEN_TEXT = """() => [...document.querySelectorAll('.figure-plotly')].flatMap((figure) => {
    const name = figure.getAttribute('aria-label'), whole = figure.getBoundingClientRect();
    const level = (text) => !/rotate\\((?!0[,)])/.test(text.getAttribute('transform') || '');
    const texts = [...figure.querySelectorAll('.main-svg text')]
        .filter((text) => text.textContent.trim() && text.checkVisibility({ checkVisibilityCSS: true }) && level(text))
        .map((text) => ({ text: text.textContent, box: text.getBoundingClientRect() }));
    const cut = texts.filter(({ box }) => box.left < whole.left - 2 || box.right > whole.right + 2
        || box.top < whole.top - 2 || box.bottom > whole.bottom + 2);
    const both = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
    const pairs = texts.flatMap((a, i) => texts.slice(i + 1).filter((b) => both(a.box, b.box)).map((b) => [a, b]));
    return [...cut.map(({ text }) => `is cut off: “${text}” (${name})`),
        ...pairs.map(([a, b]) => `overlaps: “${a.text}” and “${b.text}” (${name})`)];
})"""
UNTHEMED = """() => {
    const text = getComputedStyle(document.body).color.match(/[0-9.]+/g).map(Number);
    const bright = (rgb) => rgb[0] + rgb[1] + rgb[2] > 382;
    return [...document.querySelectorAll('.figure-plotly .js-plotly-plot')].filter((graph) => {
        const probe = document.body.appendChild(document.createElement('i'));
        probe.style.color = graph._fullLayout.font.color;
        const own = getComputedStyle(probe).color.match(/[0-9.]+/g).map(Number);
        probe.remove();
        return bright(own) !== bright(text);
    }).map((graph) => graph.closest('.figure-plotly').getAttribute('aria-label'));
}"""
# clicks at the far end of each slider of each figure: the figure without its sliders must change
MOVE_SLIDERS = """async () => {
    const dead = [];
    for (const graph of document.querySelectorAll('.figure-plotly .js-plotly-plot')) {
        const picture = () => [...graph.querySelectorAll('.main-svg')].map((s) => {
            const copy = s.cloneNode(true);
            copy.querySelectorAll('.slider-container').forEach((c) => c.remove());
            return copy.innerHTML;
        }).join('');
        for (const [number, slider] of (graph.layout.sliders || []).entries()) {
            if (slider.steps.length < 2) continue;
            graph.scrollIntoView({ block: 'center' });
            const last = (slider.active || 0) === slider.steps.length - 1 ? 0 : slider.steps.length - 1;
            const before = picture(), began = performance.now();
            const touched = graph.querySelectorAll('.slider-rail-touch-rect')[number];
            const rail = touched.getBoundingClientRect();
            const x = last ? rail.right - 2 : rail.left + 2, y = rail.top + rail.height / 2;
            const event = (type) => new MouseEvent(type, { bubbles: true, clientX: x, clientY: y, view: window });
            touched.dispatchEvent(event('mousedown'));
            document.dispatchEvent(event('mouseup'));
            graph.dispatchEvent(event('mouseup'));
            let changed = false;
            while (!changed && performance.now() - began < 600) {
                await new Promise((done) => setTimeout(done, 20));
                changed = picture() !== before;
            }
            if (!changed) dead.push(graph.closest('.figure-plotly').getAttribute('aria-label'));
        }
    }
    return dead;
}"""


def accessibility_problems(page: Page, **rules: list[str]) -> list[str]:
    """Serious and critical accessibility problems that axe-core finds, outside of figures.

    To a screen reader, a figure is one image with its alternative text.

    Args:
        page: The open page.
        rules: Options of axe; `runOnly` restricts the rules.
    """
    return [
        f"{found['id']} ({found['impact']}): {node['html'][:120]}"
        for found in Axe().run(page, context=EXCLUDED, options=AXE | rules).response["violations"]
        if found["impact"] in SERIOUS
        for node in found["nodes"][:3]
    ]


def listen(page: Page) -> list[str]:
    """List that collects console errors, script errors and requests of a page from now on."""
    problems: list[str] = []

    def request(sent: Request) -> None:
        if urlsplit(sent.url).scheme not in ("file", "data", "blob"):
            problems.append(f"fetches {sent.url[:120]}")

    page.on("console", lambda message: problems.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
    page.on("requestfailed", lambda failed: problems.append(f"could not load {failed.url[:120]}"))
    page.on("request", request)
    return problems


def layout_problems(page: Page) -> list[str]:
    """Problems with the layout of the page in its current state."""
    return [
        *(f"figure not rendered: {label}" for label in page.evaluate(NOT_RENDERED)),
        *page.evaluate(TOO_WIDE),
        *(f"figure too wide: {text}" for text in page.evaluate(CLIPPED)),
        *(f"text {text}" for text in page.evaluate(HIDDEN_TEXT)),
        *(f"figure ignores the theme: {label}" for label in page.evaluate(UNTHEMED)),
    ]


def lab_problems(page: Page) -> list[str]:
    """Problems with the lab, if the page has it: it has to answer, and to answer something else after a stroke."""
    if page.query_selector("#lab") is None:
        return []
    page.wait_for_selector("#lab[data-score]", state="attached", timeout=60_000)
    before = page.get_attribute("#lab", "data-score")
    page.focus("[data-lab=image]")
    page.keyboard.press("Space")
    page.wait_for_function(f"document.getElementById('lab').dataset.score !== '{before}'", timeout=60_000)
    text = page.inner_text("[data-lab=status]")
    return [] if text.startswith("Score") else [f"lab: {text}"]


def visit(browser: Browser, site: Path, names: list[str], screenshots: Path, size: str) -> Iterator[str]:
    """Problems of some pages at one size, in one theme and then after switching to the other."""
    width, height = WIDTHS[size]
    first, second = ("light", "dark") if size == "narrow" else ("dark", "light")
    context = browser.new_context(viewport={"width": width, "height": height})
    context.add_init_script(theme_script(first))
    for name in names:
        page = context.new_page()
        problems = listen(page)
        try:
            page.goto((site / name).as_uri(), wait_until="load", timeout=120_000)
            page.evaluate(UNFOLD)
            for theme in (first, second):
                page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
                page.wait_for_timeout(250)
                problems += [f"{theme}: {problem}" for problem in layout_problems(page)]
                if size == "wide":  # in the second theme only the colours differ
                    rules = {} if theme == first else {"runOnly": ["color-contrast"]}
                    problems += [f"{theme}: {problem}" for problem in accessibility_problems(page, **rules)]
                shot = screenshots / f"{Path(name).stem}-{size}-{theme}.jpg"  # a PNG would take six times as long
                page.screenshot(path=str(shot), full_page=True, quality=80)
            if size == "wide":
                problems += [f"code is cut off: {line}" for line in page.evaluate(CUT_CODE)]
            problems += [f"slider has no effect: {label}" for label in page.evaluate(MOVE_SLIDERS)]
            problems += lab_problems(page)
        except Error as error:
            problems.append(str(error).splitlines()[0])
        yield from (f"{name} ({width} px): {problem}" for problem in problems)
        page.close()
    context.close()


def check_pages(program: str, site: Path, names: list[str], screenshots: Path) -> list[str]:
    """Problems of some pages at all sizes, in a separate browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        found = [problem for size in WIDTHS for problem in visit(browser, site, names, screenshots, size)]
        browser.close()
    return found


def main(arguments: list[str]) -> int:
    """Command line."""
    if len(arguments) != 1:
        print("usage: python ci/check_browser.py _build/html")
        return 2
    site = Path(arguments[0])
    names = sorted(path.name for path in site.glob("*.html"))
    if not names:
        print(f"check_browser: no pages in {site}")
        return 1
    program = find_browser()
    if program is None:
        print(f"check_browser: NOT RUN, no Chromium found; {INSTALL}")
        return 1 if os.environ.get("CI", "").lower() in ("1", "true") else 0
    screenshots = site.parent / "screenshots"
    shutil.rmtree(screenshots, ignore_errors=True)
    screenshots.mkdir(parents=True)
    browsers = min(os.cpu_count() or 1, MOST_BROWSERS, len(names))
    with ProcessPoolExecutor(browsers, mp_context=get_context("spawn")) as pool:  # each checks its share of the pages
        shares = [names[first::browsers] for first in range(browsers)]
        jobs = [pool.submit(check_pages, program, site.resolve(), share, screenshots) for share in shares]
        found = [problem for job in jobs for problem in job.result()]
    print(*found, sep="\n", end="\n" if found else "")
    verdict = f"{len(found)} problems" if found else "ok"
    print(f"check_browser: {verdict}, {len(names)} pages, screenshots in {screenshots}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
