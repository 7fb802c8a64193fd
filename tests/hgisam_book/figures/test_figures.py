"""Figures: alternative texts, PNGs that decode to the right pixels, sliders and menus that change the right traces."""

import base64
import io
import re
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from PIL import Image

from hgisam.data.windows import to_uint8
from hgisam_book import figures
from hgisam_book.figures import page, slices


def decoded(source: str) -> Any:
    """RGBA pixels [H, W, 4] of a data URI."""
    head, data = source.split(",", 1)
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def alt_of(figure: go.Figure) -> str:
    return str(figure.layout.meta["alt"])


@pytest.fixture
def grey() -> Any:
    return np.arange(4 * 16 * 16, dtype=np.uint8).reshape(4, 16, 16)


@pytest.fixture
def square() -> Any:
    mask = np.zeros((4, 16, 16), dtype=bool)
    mask[:, 4:6, 8:10] = True
    return mask


def test_renderer_wraps_a_figure_with_its_alt_text_and_without_the_library() -> None:
    figure = page.apply_style(go.Figure(go.Scatter(x=[1], y=[2])), 'curve <a> & "b"')
    html = page.BookRenderer().to_mimebundle(figure.to_dict())["text/html"]
    opening = '<div class="figure-plotly" role="img" aria-label="curve &lt;a> &amp; &quot;b&quot;">'
    assert html.startswith(opening)
    assert len(html) < 10_000
    assert "MathJax" not in html
    assert "Plotly.newPlot" in html


def test_renderer_writes_the_same_figure_the_same_way() -> None:
    figure = page.apply_style(go.Figure(go.Scatter(x=[1], y=[2])), "a point")
    renderer = page.BookRenderer()
    assert renderer.to_mimebundle(figure.to_dict()) == renderer.to_mimebundle(figure.to_dict())


def test_renderer_refuses_a_figure_without_alt_text() -> None:
    with pytest.raises(ValueError, match="alternative text"):
        page.BookRenderer().to_mimebundle(go.Figure().to_dict())


def test_only_interactive_figures_take_the_focus(grey: Any) -> None:
    static = figures.contact_sheet(grey, list("abcd"), "four", columns=2)
    interactive = figures.slice_viewer({"brain": grey}, list("abcd"), "a scan")
    html = [page.BookRenderer().to_mimebundle(f.to_dict())["text/html"] for f in (static, interactive)]
    assert ['tabindex="0"' in text for text in html] == [False, True]
    assert ["ArrowLeft" in text for text in html] == [False, True]


def test_use_book_renderer_becomes_the_default() -> None:
    before = pio.renderers.default
    try:
        figures.use_book_renderer()
        assert pio.renderers.default == "book"
    finally:
        pio.renderers.default = before


def test_grey_png_keeps_greys_to_a_step() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = decoded(page.grey_png(image))
    assert np.abs(pixels[..., 0].astype(int) - image).max() < 256 // page.GREY_LEVELS
    assert (pixels[..., 3] == 255).all()


def test_map_png_is_transparent_at_zero_and_opaque_at_one() -> None:
    alpha = decoded(page.map_png(np.array([[0.0, 0.5, 1.0]])))[0, :, 3]
    assert alpha[0] == 0
    assert alpha[0] < alpha[1] < alpha[2]


def test_contour_is_just_outside_the_mask() -> None:
    mask = np.zeros((5, 5), dtype=bool)
    mask[2, 2] = True
    pixels = decoded(page.contour_png(mask, "#102030"))
    visible = pixels[..., 3] > 0
    expected = np.zeros((5, 5), dtype=bool)
    expected[[1, 3, 2, 2], [2, 2, 1, 3]] = True
    np.testing.assert_array_equal(visible, expected)
    assert pixels[1, 2, :3].tolist() == [0x10, 0x20, 0x30]


def test_contour_of_an_empty_mask_is_transparent() -> None:
    assert not decoded(page.contour_png(np.zeros((4, 4), dtype=bool), "#ffffff"))[..., 3].any()


def test_downsample_keeps_small_slices_and_bounds_large_ones() -> None:
    small = np.zeros((2, 8, 8), dtype=np.uint8)
    assert page.downsample(small, 16) is small
    half = page.downsample(np.full((1, 32, 32), 100, dtype=np.uint8), 16)
    assert half.shape == (1, 16, 16)
    np.testing.assert_array_equal(half, 100)
    mask = np.zeros((1, 32, 32), dtype=bool)
    mask[0, :16] = True
    assert page.downsample(mask, 16)[0].sum() == 8 * 16


def test_window_slider_has_one_step_per_window_and_names_it() -> None:
    hu = np.linspace(-1000, 1000, 64 * 64).astype(np.int16).reshape(64, 64)
    figure = figures.window_slider(hu, [("brain", 40, 80), ("bone", 600, 2800)])
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == ["brain 40/80", "bone 600/2800"]
    change, traces = steps[1].args
    assert [type(figure.data[i]).__name__ for i in traces] == ["Image", "Scatter"]
    assert change["x"][1] == [-200, -800, 2000, 2000]
    assert decoded(change["source"][0]).shape == (64, 64, 4)
    assert "bone 600/2800" in alt_of(figure)


def test_contact_sheet_places_slices_in_reading_order() -> None:
    slices = np.stack([np.full((4, 4), value, dtype=np.uint8) for value in (40, 80, 120)])
    figure = figures.contact_sheet(slices, ["a", "b", "c"], "three", columns=2)
    pixels = decoded(figure.data[0].source)[..., 0]
    assert pixels.shape == (12, 12)
    assert [int(pixels[r, c]) for r, c in ((1, 1), (1, 7), (7, 1), (7, 7))] == [40, 80, 120, 0]
    assert [note.text for note in figure.layout.annotations] == ["a", "b", "c"]


def test_contact_sheet_names_its_contours(grey: Any, square: Any) -> None:
    figure = figures.contact_sheet(grey, list("abcd"), "four", columns=4, contours={"bleed": (square, "#ff0000")})
    assert [trace.name for trace in figure.data if trace.name] == ["bleed"]
    assert figure.layout.showlegend


def test_slice_viewer_slider_and_menus_change_different_things(grey: Any, square: Any) -> None:
    maps, masks = {"A map": grey / 255.0}, {"A mask": square}
    figure = figures.slice_viewer(
        {"brain": grey}, list("abcd"), "a scan", maps=maps, masks=masks, truth=square, active=2
    )
    slice_c, overlays, contour = figure.layout.sliders[0].steps[2].args, *figure.layout.updatemenus
    assert list(slice_c[0]) == ["source"]
    assert list(slice_c[1]) == [0, 1, 2, 3]
    assert [trace.source for trace in figure.data] == list(slice_c[0]["source"])
    assert [trace.visible for trace in figure.data] == [True, True, False, True]
    assert [button.label for button in overlays.buttons] == ["A map", "A mask", "no overlay"]
    assert [button.args[0]["visible"] for button in overlays.buttons] == [[True, False], [False, True], [False, False]]
    assert [list(button.args[1]) for button in contour.buttons] == [[3], [3]]


def test_slice_viewer_has_windows_on_a_second_slider(grey: Any, square: Any) -> None:
    windows = {"brain": grey, "bone": 255 - grey}
    figure = figures.slice_viewer(windows, list("abcd"), "a scan", masks={"A mask": square}, truth=square)
    assert [trace.visible for trace in figure.data] == [True, False, True, True]
    slices, views = figure.layout.sliders
    assert [len(step.args[0]["source"]) for step in slices.steps] == [4] * 4
    assert [(step.label, step.args[0]["visible"], list(step.args[1])) for step in views.steps] == [
        ("brain", [True, False], [0, 1]), ("bone", [False, True], [0, 1]),
    ]  # fmt: skip
    assert figure.data[0].source != figure.data[1].source
    overlays, contour = figure.layout.updatemenus
    assert [list(button.args[1]) for button in (*overlays.buttons, *contour.buttons)] == [[2], [2], [3], [3]]


def test_slice_viewer_fits_the_page_budget() -> None:
    rng = np.random.default_rng(0)
    grey = {"brain": rng.integers(0, 255, (24, 384, 384), dtype=np.uint8)}
    maps = {name: np.stack([np.outer(*(np.hanning(384),) * 2)] * 24) for name in ("a", "b", "c")}
    figure = figures.slice_viewer(grey, [str(i) for i in range(24)], "a scan", maps=maps)
    assert decoded(figure.data[0].source).shape[:2] == (160, 160)
    assert len(page.BookRenderer().to_mimebundle(figure.to_dict())["text/html"]) < 1_500_000
    inside = np.hypot(*np.indices((160, 160)) - 79.5) < 70  # a large head, all of it noisy
    hu = np.where(inside, rng.normal(30, 8, (24, 160, 160)), -1000)
    grey = {str(width): to_uint8(hu, 40, width) for width in (80, 200, 2800)}
    figure = figures.slice_viewer(grey, [str(i) for i in range(24)], "a scan", maps=maps)
    assert len(page.BookRenderer().to_mimebundle(figure.to_dict())["text/html"]) < 1_500_000


def test_stage_views_shift_only_where_the_stage_shifts() -> None:
    figure = figures.stage_views(np.zeros((16, 16), dtype=np.uint8), [(8, 4, 2), (4, 4, 0)])
    labels = [step.label for step in figure.layout.sliders[0].steps]
    assert labels == ["1 · W-MSA · 8×8 tokens", "1 · SW-MSA · 8×8 tokens", "2 · W-MSA · 4×4 tokens"]
    plain, shifted = (step.args[0]["x"][1] for step in figure.layout.sliders[0].steps[:2])
    assert 7.5 in plain  # 4 tokens of 2 pixels, from -0.5
    assert 3.5 in shifted
    assert 11.5 in shifted


def test_attention_rows_show_the_row_of_each_query() -> None:
    attention = np.array([[0.7, 0.1, 0.1, 0.1], [0.25] * 4, [0, 0, 0, 1.0], [1.0, 0, 0, 0]])
    figure = figures.attention_rows(np.zeros((16, 16), dtype=np.uint8), attention, (2, 2), 2, 4)
    steps = figure.layout.sliders[0].steps
    assert len(steps) == 4
    assert np.ravel(steps[2].args[0]["z"][0]).tolist() == [0, 0, 0, 1]
    assert list(steps[3].args[0]["x"][2]) == [3.5, 7.5, 7.5, 3.5, 3.5]  # the lower right token of the window


def test_small_multiples_scale_each_panel_on_demand() -> None:
    values = np.array([[[0.0, 1.0]], [[2.0, 6.0]], [[5.0, 5.0]]])
    figure = figures.small_multiples(values, list("abc"), "maps", columns=3, unit="u", shared=False)
    assert [np.ravel(trace.z).tolist() for trace in figure.data] == [[0, 1], [0, 1], [0, 0]]


def test_intervals_leave_out_what_was_not_measured() -> None:
    table = pd.DataFrame(
        [
            {"label": "a", "method": "hgi_sam", "mean": 0.5, "low": 0.4, "high": 0.7},
            {"label": "b", "method": "hgi_sam", "mean": None, "low": None, "high": None},
        ]
    ).astype({"mean": float, "low": float, "high": float})
    figure = figures.intervals(table, "intervals", title="Dice")
    assert len(figure.data[0].x) == 1
    assert figure.data[0].error_x.array[0] == pytest.approx(0.2)
    assert list(figure.layout.yaxis.ticktext) == ["a", "b"]


def test_threshold_curves_keep_hu_apart() -> None:
    curve = {"grid": [0.1, 0.5], "dice": [0.2, 0.4], "threshold": 0.5, "validation_dice": 0.4}
    figure = figures.threshold_curves({"hgi_sam": curve, "hu_threshold": curve | {"grid": [40, 50]}}, "curves")
    axes = {trace.name: trace.xaxis for trace in figure.data if trace.name}
    assert axes == {"HGI-SAM": "x", "HU threshold": "x2"}


def test_density_threshold_marks_the_selected_one() -> None:
    found = {"grid_hu": [40.0, 41.0, 42.0], "auroc": [0.6, 0.9, 0.7], "threshold_hu": 41.0}
    figure = figures.density_threshold(found)
    assert list(figure.data[0].y) == [0.6, 0.9, 0.7]
    assert (figure.data[1].x[0], figure.data[1].y[0]) == (41.0, 0.9)
    assert "best 0.90 at 41 HU" in alt_of(figure)


def test_distributions_thin_out_large_groups() -> None:
    table = pd.DataFrame({"dice": np.linspace(0, 1, 1000), "method": "hgi_sam"})
    figure = figures.distributions(table, "dice", value="dice", by="method", title="Dice")
    assert len(figure.data[0].x) == 300
    assert figure.data[0].name == "HGI-SAM"
    assert not figure.layout.shapes


def test_distributions_shade_a_range() -> None:
    table = pd.DataFrame({"noise": [2.0, 3.0], "cohort": "phantoms"})
    figure = figures.distributions(table, "noise", value="noise", by="cohort", title="HU", band=(2.5, 4.5))
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes] == [(2.5, 4.5)]


def test_rim_profiles_leave_out_what_was_not_measured() -> None:
    table = pd.DataFrame({"mm": [1.5, 2.5], "mean": [np.nan, 27.0], "low": [np.nan, 20.0], "high": [np.nan, 35.0]})
    figure = figures.rim_profiles({"phantoms": table}, {"ge-head": ([1.5, 2.5], [83, 52])}, "rims")
    lines = {line.name: list(line.x) for line in figure.data if line.name}
    assert lines == {"phantoms": [2.5], "ge-head": [1.5, 2.5]}
    assert figure.layout.meta["alt"] == "rims"


@pytest.mark.parametrize("group", ["counts", "hu", "scatter", "sums"])
def test_every_chart_has_alt_text_and_a_height(group: str) -> None:
    numbers = np.linspace(0, 1, 40)
    table = pd.DataFrame({"x": numbers, "y": numbers, "method": "grad_cam"})
    figure = {
        "counts": lambda: figures.counts(pd.DataFrame({"a": [1, 2]}, index=["u", "v"]), "counts", unit="slices"),
        "hu": lambda: figures.hu_histograms({"brain": 40 * numbers, "none": numbers[:0]}, low=0, high=80, title="t"),
        "scatter": lambda: figures.scatter(
            table, "points", x="x", y="y", by="method", titles=("x", "y"), identity=True
        ),
        "sums": lambda: figures.window_sums(np.ones(4), numbers[:4], "sums"),
    }[group]()
    assert alt_of(figure)
    assert re.search(r"\d+px", figure.layout.meta["height"])
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"


def explorer(grey: Any, square: Any, active: int = 0) -> go.Figure:
    """Two kinds of maps, two steps over four slices: two panels of 2 × 2 tokens, then five of 4 × 4, three per row."""
    first = {kind: np.ones((4, 2, 2, 2)) for kind in "ab"}
    second = {kind: np.tile(np.linspace(0, 1, 16).reshape(4, 4), (4, 5, 1, 1)) for kind in "ab"}
    steps = [figures.Panels("one", ["x", "y"], first), figures.Panels("two", list("vwxyz"), second)]
    return figures.map_explorer(grey, square, ["s", "t", "u", "v"], steps, "an explorer", columns=3, active=active)


def test_map_explorer_slider_and_menus_change_different_things(grey: Any, square: Any) -> None:
    figure = explorer(grey, square)
    assert len(figure.data) == 4 + 2 * 4 + 4  # slices, two kinds of maps, contours
    first, second = figure.layout.sliders[0].steps
    assert [first.label, second.label] == ["one", "two"]
    change, layout, traces = second.args
    assert list(change) == ["source"]
    assert list(traces) == list(range(4, 12))
    assert [note["text"] for note in layout["annotations"]] == list("vwxyz")
    assert list(layout["yaxis.range"]) == [2 * 18 - 0.5, -0.5]  # two rows of 16 pixels and a gap of 2
    assert [figure.data[i].source for i in range(4, 12)] == list(first.args[0]["source"])
    slices, kinds = figure.layout.updatemenus
    assert [list(button.args[0]) for button in slices.buttons] == [["visible"]] * 4
    assert [i for i, shown in enumerate(slices.buttons[2].args[0]["visible"]) if shown] == [2, 6, 10, 14]
    assert list(kinds.buttons[1].args[0]["opacity"]) == [0.0] * 4 + [1.0] * 4
    assert [trace.opacity for trace in figure.data[4:12]] == [1] * 4 + [0] * 4
    assert [i for i, trace in enumerate(figure.data) if trace.visible] == [0, 4, 8, 12]


def test_map_explorer_shows_tokens_as_squares_and_covers_empty_cells(grey: Any, square: Any) -> None:
    figure = explorer(grey, square)
    one, two = (decoded(step.args[0]["source"][0]) for step in figure.layout.sliders[0].steps)
    assert one.shape == two.shape == (36, 54, 4)
    assert (one[:16, :16, 3] > 200).all()
    corner = two[:16, :16]
    assert (corner[:4, :4] == corner[0, 0]).all()
    assert corner[0, 0, 3] == 0 < corner[15, 15, 3]
    small, large = (step.args[1] for step in figure.layout.sliders[0].steps)
    assert list(small["xaxis.range"]) == [-0.5, 2 * 18 - 0.5]  # two panels, shown as wide as three
    assert small["shapes"] == []
    assert [large["shapes"][0][key] for key in ("x0", "x1", "y0")] == [2 * 18 - 0.5, 3 * 18 - 0.5, 18 - 0.5]


def test_map_explorer_can_start_at_another_step(grey: Any, square: Any) -> None:
    figure = explorer(grey, square, active=1)
    assert figure.layout.sliders[0].active == 1
    change, layout, traces = figure.layout.sliders[0].steps[1].args
    assert [figure.data[i].source for i in traces] == list(change["source"])
    assert [note.text for note in figure.layout.annotations] == list("vwxyz")
    assert list(figure.layout.yaxis.range) == list(layout["yaxis.range"])


def test_map_explorer_of_one_step_and_kind_has_only_the_menu_of_slices(grey: Any, square: Any) -> None:
    step = figures.Panels("", ["x"], {"map": np.ones((4, 1, 16, 16))})
    figure = figures.map_explorer(grey, square, list("abcd"), [step], "one step", columns=1)
    assert not figure.layout.sliders
    assert len(figure.layout.updatemenus) == 1
    html = page.BookRenderer().to_mimebundle(figure.to_dict())["text/html"]
    assert "Enter" in html


def test_map_explorer_of_the_papers_swin_fits_the_page_budget() -> None:
    """Noise on the grids of two blocks per stage at 384 px; maps compress to half of that."""
    rng = np.random.default_rng(0)
    steps = [
        figures.Panels(f"{tokens}", ["t"] * heads, {k: rng.random((4, heads, tokens, tokens)) for k in ("a", "b")})
        for tokens, heads in ((96, 6), (48, 10), (24, 18), (12, 34))
        for _ in range(2)
    ]
    grey, truth = rng.integers(0, 255, (4, 384, 384), dtype=np.uint8), np.zeros((4, 384, 384), dtype=bool)
    figure = figures.map_explorer(grey, truth, list("abcd"), steps, "noise", columns=6)
    assert len(page.BookRenderer().to_mimebundle(figure.to_dict())["text/html"]) < 1_800_000


def test_mosaic_and_captions_agree_on_positions() -> None:
    images = np.stack([np.full((4, 6), value) for value in (1, 2, 3)])
    sheet = slices.mosaic(images, 2)
    assert sheet.shape == (2 * 6, 2 * 8)
    notes = slices.captions(["a", "b", "c"], 2, 4, 6)
    assert [int(sheet[note["y"], note["x"]]) for note in notes] == [1, 2, 3]
    assert not sheet[6:, 8:].any()
    assert not sheet[4:6].any()


def test_intervals_colour_unknown_methods_differently() -> None:
    table = pd.DataFrame(
        [{"label": "stage 1", "method": m, "mean": 0.5, "low": 0.4, "high": 0.6} for m in ("norm1", "norm2")]
    )
    figure = figures.intervals(table, "two", title="Dice")
    assert figure.data[0].marker.color != figure.data[1].marker.color


def test_maps_are_shown_by_rank_within_the_brain() -> None:
    maps = np.arange(100, dtype=np.float32).reshape(1, 10, 10) ** 9  # a product: all but its maximum is nearly nothing
    shown = figures.by_rank(maps)
    assert (shown > 0).sum() == 20
    assert shown.max() == 1
    np.testing.assert_array_equal(figures.by_rank(maps**2), shown)  # ranks know no scale
    inside = np.zeros((1, 10, 10), dtype=bool)
    inside[0, :5] = True
    within = figures.by_rank(maps, inside)
    assert (within > 0).sum() == 10
    assert not within[~inside].any()
    assert not figures.by_rank(np.zeros((1, 4, 4), np.float32)).any()  # ties are nowhere high
    assert not figures.by_rank(maps, np.zeros_like(inside)).any()
