"""Building blocks of all figures: the plotly renderer, the shared style, alternative texts, slices and maps as PNG."""

import base64
import hashlib
import io
import json
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from PIL import Image
from plotly.colors import hex_to_rgb, sample_colorscale
from plotly.io.base_renderers import MimetypeRenderer
from scipy.ndimage import binary_dilation
from scipy.stats import rankdata
from skimage.transform import resize

from hgisam.data.labels import SUBTYPES

Grey = npt.NDArray[np.uint8]

# the palette of Okabe and Ito: safe for colour-blind readers, on light and dark pages
BLUE, ORANGE, GREEN, PINK, VERMILION, SKY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"
VIOLET, BROWN = "#7B5FC0", "#9C6A30"  # two more for the averaged maps
METHOD_COLOURS = {
    "hgi_sam": BLUE,
    "hgi_sam_averaged": VIOLET,
    "swin_sam": ORANGE,
    "swin_sam_averaged": BROWN,
    "grad_cam": PINK,
    "unet": SKY,
    "hu_threshold": GREEN,
    "smooth_hu_threshold": VERMILION,
}
METHOD_NAMES = {
    "hgi_sam": "HGI-SAM",
    "swin_sam": "Swin-SAM",
    "hgi_sam_averaged": "HGI-SAM, averaged",
    "swin_sam_averaged": "Swin-SAM, averaged",
    "grad_cam": "GradCAM",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "ablation_cam": "AblationCAM",
    "score_cam": "ScoreCAM",
    "rollout": "attention rollout",
    "relevance": "gradient-weighted relevance",
    "attn_lrp": "AttnLRP",
    "gradient_input": "gradient × input",
    "integrated_gradients": "integrated gradients",
    "hgi_sam_otsu": "HGI-SAM, Otsu",
    "hgi_sam_mass": "HGI-SAM, half the mass",
    "density_alone": "density alone",
    "hgi_sam_density": "HGI-SAM × density",
    "hgi_sam_averaged_density": "HGI-SAM, averaged × density",
    "hgi_sam_self_trained": "HGI-SAM, self-trained",
    "hgi_sam_refined": "HGI-SAM, refined",
    "exam_hgi_sam": "HGI-SAM, exam labels",
    "exam_hgi_sam_otsu": "HGI-SAM, exam labels, Otsu",
    "exam_swin_sam": "Swin-SAM, exam labels",
    "exam_grad_cam": "GradCAM, exam labels",
    "self_trained_half": "HGI-SAM, self-trained, at one half",
    "unet": "U-Net",
    "box": "U-Net, boxes",
    "ball": "U-Net, balls",
    "exam_mil": "attention MIL of exams",
    "slice_mil": "attention MIL of slices",
    "resnet_slices": "ResNet, Grad-CAM",
    "resnet_lstm": "ResNet-LSTM, Grad-CAM",
    "resnet_lstm_pseudo": "ResNet-LSTM, pseudo-masks",
    "rule_alone": "pseudo-masks, no network",
    "resnet_lstm_unet": "ResNet-LSTM, U-Net",
    "box_otsu": "detected boxes, Otsu",
    "sam_box": "detected boxes, SAM",
    "sam_point": "detected points, SAM",
    "sam_point_box": "detected boxes and points, SAM",
    "sam_box_mean": "perturbed boxes, SAM",
    "sam_rectified": "perturbed boxes, SAM, rectified",
    "focal_segnet": "FocalSegNet",
    "focal_segnet_crf": "FocalSegNet, CRF",
    "swin_unetr": "Swin-UNETR",
    "unet_published": "U-Net, published",
    "hu_threshold": "HU threshold",
    "smooth_hu_threshold": "HU threshold, smoothed",
}
HU_METHODS = ("hu_threshold", "smooth_hu_threshold")  # their thresholds are in HU
SUBTYPE_COLOURS = dict(zip(SUBTYPES, (ORANGE, VERMILION, SKY, GREEN, PINK), strict=True))
TRUTH = "#F0E442"
SHOWN_SHARE = 0.2  # of the pixels of a map, the highest
GREY_LEVELS = 64  # per displayed slice; finer steps disappear in the noise of CT and only cost bytes

# keyboard control of a focused figure: left and right move the slider, with Shift the second slider; up and down change
# the menu, Enter cycles through the second menu
KEYBOARD_SCRIPT = """
const figure = document.getElementById("{plot_id}"), box = figure.closest(".figure-plotly");
const move = (name, entries, by, round = false) => {
  const [list, number] = name.match(/[a-z]+|[0-9]/g), chosen = (figure.layout[list] || [])[number];
  if (!chosen) return false;
  const last = chosen[entries].length - 1, target = (chosen.active || 0) + by;
  const next = round && target > last ? 0 : Math.min(Math.max(target, 0), last);
  const { method, args } = chosen[entries][next];
  Plotly[method](figure, ...args).then(() => Plotly.relayout(figure, { [`${name}.active`]: next }));
  return true;
};
box.addEventListener("keydown", (event) => {
  const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key], across = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const moved = along ? move(event.shiftKey ? "sliders[1]" : "sliders[0]", "steps", along)
    : across ? move("updatemenus[0]", "buttons", across)
    : event.key === "Enter" && move("updatemenus[1]", "buttons", 1, true);
  if (moved) event.preventDefault();
});
"""


class BookRenderer(MimetypeRenderer):  # type: ignore[misc]  # plotly is untyped
    """Plotly renderer that writes a figure as HTML with its alternative text and without plotly.js.

    The site loads plotly.js once. HTML is the only format, because Jupyter Book warns about any other.
    """

    def to_mimebundle(self, fig_dict: dict[str, Any]) -> dict[str, Any]:
        """Render a figure that went through `apply_style`.

        Raises:
            ValueError: If the figure has no alternative text.
        """
        meta = fig_dict["layout"].get("meta") or {}
        if not meta.get("alt"):
            raise ValueError("a figure without alternative text: pass it through apply_style()")
        interactive = bool(fig_dict["layout"].get("sliders") or fig_dict["layout"].get("updatemenus"))
        digest = hashlib.sha256(json.dumps(fig_dict, sort_keys=True, default=str).encode()).hexdigest()
        html = pio.to_html(
            fig_dict,
            include_plotlyjs=False,
            include_mathjax=False,
            full_html=False,
            config={"responsive": True, "displayModeBar": False},
            default_height=meta["height"],
            div_id=f"figure-{digest[:12]}",
            post_script=KEYBOARD_SCRIPT if interactive else None,
        )
        alt = meta["alt"].replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        focus = ' tabindex="0"' if interactive else ""
        return {"text/html": f'<div class="figure-plotly" role="img" aria-label="{alt}"{focus}>{html}</div>'}


def use_book_renderer() -> None:
    """Make `BookRenderer` the default renderer of plotly in this session, and show the texts of tables as a whole."""
    pd.set_option("display.max_colwidth", None)
    pio.renderers["book"] = BookRenderer()
    pio.renderers.default = "book"


def apply_style(figure: go.Figure, alt: str, height: str = "420px", **layout: Any) -> go.Figure:
    """Apply the style of the book to a figure, and attach its alternative text.

    Args:
        figure: Changed in place.
        alt: Alternative text: what the figure shows, for readers with a screen reader.
        height: CSS height; the width is that of the page.
        layout: Further settings of the plotly layout.
    """
    grid = {
        "gridcolor": "rgba(128,128,128,0.3)",
        "zerolinecolor": "rgba(128,128,128,0.5)",
        "automargin": True,
        "ticklabelstandoff": 4,
    }
    template = {"layout": {"xaxis": grid, "yaxis": grid, "colorway": [BLUE, ORANGE, GREEN, PINK, VERMILION, SKY]}}
    figure.update_layout(
        template=template,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"size": 13, "color": "#777777"},
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        dragmode=False,  # scrolling the page with a finger must not zoom the figure
        meta={"alt": alt, "height": height},
    )
    figure.for_each_xaxis(lambda axis: axis.update(title_text=_lines(axis.title.text)))
    return figure.update_layout(**layout)


def _lines(title: str | None) -> str | None:
    """Axis title wrapped into lines that fit on a phone beside the labels of the other axis."""
    return title and "<br>".join(textwrap.wrap(title, 22))


def image_height(rows: float, cols: float, *, max_width_px: int = 640, extra_px: int = 60) -> str:
    """CSS height of a figure with an image of rows × cols and `extra_px` of controls, from phone to desktop."""
    ratio = rows / cols
    return f"min(calc({92 * ratio:.1f}vw + {extra_px}px), {round(max_width_px * ratio) + extra_px}px)"


def png(index: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8] | None = None) -> str:
    """Data URI of a PNG.

    Args:
        index: [H, W] grey values, or indices into `palette`.
        palette: [n, 4] RGBA.
    """
    mode = "L" if palette is None else "P"
    picture = Image.frombytes(mode, index.shape[::-1], np.ascontiguousarray(index).tobytes())
    options: dict[str, Any] = {}
    if palette is not None:
        picture.putpalette(palette[:, :3].tobytes())
        options = {"transparency": palette[:, 3].tobytes(), "bits": max(int(len(palette) - 1).bit_length(), 1)}
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def grey_png(grey: Grey) -> str:
    """Data URI of a slice: [H, W] grey values 0-255, quantised to `GREY_LEVELS`."""
    step = 256 // GREY_LEVELS
    return png((grey // step * step).astype(np.uint8))


def map_png(values: npt.NDArray[np.floating], levels: int = 32) -> str:
    """Data URI of a map: [H, W] in [0, 1] in plasma colours; opacity grows with the value."""
    colours = [[int(v) for v in c[4:-1].split(",")] for c in sample_colorscale("Plasma", np.linspace(0.15, 1, levels))]
    alpha = np.linspace(0, 0.85, levels) * 255
    palette = np.column_stack([np.array(colours), alpha]).astype(np.uint8)
    index = np.clip(np.asarray(values, dtype=np.float32), 0, 1) * (levels - 1)
    return png(np.round(index).astype(np.uint8), palette)


def by_rank(maps: npt.NDArray[np.floating], inside: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.float32]:
    """Maps on the scale on which the book shows them: the rank of a pixel within its map, above the lowest four fifths.

    A product of attention maps has its maximum at one token, and thresholds of a few thousandths of it segment best:
    shown as it is, it looks empty. Ranks show what a threshold sees, the order of the pixels, for each method alike.

    Args:
        maps: [n, H, W].
        inside: [n, H, W] brain, to which ranks refer; None for all pixels.

    Returns:
        [n, H, W] in [0, 1]: 0 outside and in the lowest four fifths of the pixels, 1 at the highest one. Pixels of
        equal value get the lowest of their ranks.
    """
    shown = np.zeros(maps.shape, np.float32)
    for n, values in enumerate(maps):
        where = np.ones(values.shape, bool) if inside is None else inside[n] > 0
        if where.any():
            rank = rankdata(values[where], method="min") / where.sum()
            shown[n][where] = np.clip((rank - (1 - SHOWN_SHARE)) / SHOWN_SHARE, 0, 1)
    return shown


def contour_png(mask: npt.NDArray[Any], colour: str) -> str:
    """Data URI of the contour of a mask [H, W]: the pixels just outside the mask; all others are transparent."""
    inside = mask > 0
    palette = np.array([(0, 0, 0, 0), (*hex_to_rgb(colour), 255)], dtype=np.uint8)
    return png((binary_dilation(inside) & ~inside).astype(np.uint8), palette)


def downsample(images: npt.NDArray[Any], max_px: int) -> npt.NDArray[Any]:
    """Resample slices [n, H, W] to at most `max_px` per side: numbers linearly, masks (bool) by nearest neighbour."""
    factor = max_px / max(images.shape[1:])
    if factor >= 1:
        return images
    shape = tuple(round(side * factor) for side in images.shape[1:])
    smooth = images.dtype != np.bool_
    options = {"order": int(smooth), "anti_aliasing": smooth, "preserve_range": True}
    small = [resize(image, shape, **options) for image in images]  # type: ignore[no-untyped-call]
    return np.stack(small).astype(images.dtype)


def picture(source: str, rows: int, cols: int, *, visible: bool = True, **where: Any) -> go.Image:
    """Image trace from a data URI, in pixel coordinates."""
    size = {"x0": 0, "y0": 0, "dx": 1, "dy": 1}
    return go.Image(source=source, zsmooth="fast", hoverinfo="skip", visible=visible, **size, **where)


def show_pixels(figure: go.Figure, rows: float, cols: float, **where: Any) -> None:
    """Set the axes for an image: row 0 at the top, square pixels, axes hidden."""
    figure.update_xaxes(visible=False, range=[-0.5, cols - 0.5], constrain="domain", fixedrange=True, **where)
    figure.update_yaxes(visible=False, range=[rows - 0.5, -0.5], constrain="domain", fixedrange=True, **where)
    for axis in figure.select_yaxes(**where):
        axis.scaleanchor = axis.anchor or "x"


def wrapped(title: str, columns: int) -> str:
    """Title of one of `columns` images, wrapped to the width of an image on a phone; long words are split."""
    width = max(8, 52 // columns)
    halves = re.sub(rf"\S{{{width + 1},}}", lambda word: f"{word[0][: width - 1]}- {word[0][width - 1 :]}", title)
    return "<br>".join(textwrap.wrap(halves, width, break_on_hyphens=False))


def slider(
    prefix: str, labels: Sequence[str], steps: Sequence[tuple[str, list[Any]]], active: int = 0, **where: Any
) -> dict[str, Any]:
    """Layout entry of a plotly slider.

    Args:
        prefix: Text before the current label.
        labels: One per step.
        steps: (plotly method, its arguments) of each step.
        active: Index of the step shown first.
        where: Position, if not below the figure.
    """
    entries = [
        {"label": label, "method": method, "args": arguments}
        for label, (method, arguments) in zip(labels, steps, strict=True)
    ]
    return {
        "active": active,
        "currentvalue": {"prefix": prefix, "xanchor": "left", "font": {"size": 13}},
        "pad": {"t": 32, "b": 8},
        "len": 1,
        "x": 0,
        "minorticklen": 0,
        "ticklen": 0,
        "font": {"size": 1},  # hides the labels along the slider, which overlap; the current label is above it
        "bgcolor": "rgba(128,128,128,0.35)",
        "activebgcolor": BLUE,
        "steps": entries,
        **where,
    }


def menu(labels: Sequence[str], steps: Sequence[tuple[str, list[Any]]], **where: Any) -> dict[str, Any]:
    """Layout entry of a plotly dropdown above the figure; arguments as for `slider`."""
    entries = [
        {"label": label, "method": method, "args": arguments}
        for label, (method, arguments) in zip(labels, steps, strict=True)
    ]
    place = {"x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "pad": {"b": 6}} | where
    return {"buttons": entries, "showactive": False, "bgcolor": "rgba(128,128,128,0.2)", "font": {"size": 12}, **place}
