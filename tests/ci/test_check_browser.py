import shutil
from importlib import resources
from pathlib import Path

import check_browser
import plotly.graph_objects as go
import pytest

needs_browser = pytest.mark.skipif(check_browser.find_browser() is None, reason="no Chromium installed")
THEME = Path(check_browser.__file__).parent.parent / "book" / "_static" / "plotly-theme.js"


def figure(*, dead_slider: bool = False, layout: dict[str, object] | None = None) -> str:
    traces = [go.Scatter(y=[i, 1, i * 2], visible=i == 0) for i in range(3)]
    steps = [
        {
            "method": "update",
            "args": [{"visible": [(j == i) or (dead_slider and j == 0) for j in range(3)]}],
            "label": str(i),
        }
        for i in ([0, 0, 0] if dead_slider else range(3))
    ]
    html = go.Figure(traces, {"sliders": [{"steps": steps}], **(layout or {})}).to_html(
        include_plotlyjs=False, full_html=False, config={"responsive": True, "displayModeBar": False}
    )
    return f'<div class="figure-plotly" role="img" aria-label="lines">{html}</div>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "html"
    (folder / "_static").mkdir(parents=True)
    with resources.as_file(resources.files("plotly") / "package_data" / "plotly.min.js") as library:
        shutil.copy(library, folder / "_static")
    shutil.copy(THEME, folder / "_static")
    return folder


def write(site: Path, body: str) -> None:
    style = (
        "<style>html[data-theme=dark] body { background: #111; color: #eee } body { color: #222; margin: 8px }</style>"
    )
    scripts = '<script src="_static/plotly.min.js"></script><script src="_static/plotly-theme.js"></script>'
    icon = '<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">'
    html = f"<!doctype html><html lang=en><head><title>x</title>{icon}{style}{scripts}</head><body>{body}</body></html>"
    (site / "index.html").write_text(html)


@needs_browser
def test_a_page_with_a_figure_passes(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(site, figure())
    assert check_browser.main([str(site)]) == 0, capsys.readouterr().out
    shots = sorted(path.name for path in (site.parent / "screenshots").iterdir())
    assert shots == ["index-narrow-dark.jpg", "index-narrow-light.jpg", "index-wide-dark.jpg", "index-wide-light.jpg"]


# grey on grey, and a figure that is not rendered, in collapsed content
UNREADABLE = (
    '<p style="color: #999; background: #888">faint</p>'
    '<details><summary>more</summary><div class="figure-plotly" aria-label="collapsed"></div></details>'
)


@needs_browser
def test_problems_are_found(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = '<div class="figure-plotly" aria-label="blank"></div>'
    faults = "<script>console.error('ouch'); nothing.at.all</script><img src='gone.png'>"
    write(site, f'{empty}{faults}{figure(dead_slider=True)}<div style="width: 2000px">wide</div>{UNREADABLE}')
    assert check_browser.main([str(site)]) == 1
    output = capsys.readouterr().out
    for expected in (
        "ouch",
        "nothing is not defined",
        "figure not rendered: blank",
        "px too wide",
        "could not load",
        "slider has no effect",
        "color-contrast (serious)",
        "figure not rendered: collapsed",
    ):
        assert expected in output


@needs_browser
def test_unreadable_text_is_found(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "an axis whose title has far more words than any phone has room for"
    write(site, figure(layout={"xaxis": {"title": long, "tickangle": 45}, "yaxis": {"title": "count"}}))
    assert check_browser.main([str(site)]) == 1
    output = capsys.readouterr().out
    assert f"index.html (390 px): light: text is cut off: “{long}” (lines)" in output
    assert "1280 px" not in output
    assert "overlaps" not in output

    notes = [{"text": text, "x": 1, "y": 1, "showarrow": False} for text in ("first", "second")]
    write(site, figure(layout={"annotations": notes}))
    assert check_browser.main([str(site)]) == 1
    assert "text overlaps: “first” and “second” (lines)" in capsys.readouterr().out


@needs_browser
def test_remote_resources_and_a_figure_without_theme_are_found(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(site, figure() + '<img src="http://192.0.2.1:9/x.png" loading="eager" alt="x">')
    (site / "_static" / "plotly-theme.js").write_text("")
    page = site / "index.html"
    page.write_text(page.read_text().replace("192.0.2.1", "localhost"))
    shutil.copy(page, site / "other.html")  # for a second browser
    assert check_browser.main([str(site)]) == 1
    output = capsys.readouterr().out
    found = {line.partition("px)")[0] for line in output.splitlines() if "fetches" in line}
    assert found == {f"{name}.html ({width} " for name in ("index", "other") for width in (390, 1280)}
    assert "fetches http://localhost:9" in output
    assert "figure ignores the theme: lines" in output


def test_without_a_browser_the_gate_is_not_run(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(site, "")
    monkeypatch.setattr(check_browser, "find_browser", lambda: None)
    monkeypatch.delenv("CI", raising=False)
    assert check_browser.main([str(site)]) == 0
    monkeypatch.setenv("CI", "true")
    assert check_browser.main([str(site)]) == 1
    assert "NOT RUN" in capsys.readouterr().out


def test_no_pages_is_a_failure(tmp_path: Path) -> None:
    assert check_browser.main([str(tmp_path)]) == 1
