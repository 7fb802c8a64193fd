"""How a figure gets onto a page: our own plotly renderer, a quiet style, alt texts, slices as PNG."""

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
import plotly.graph_objects as go
import plotly.io as pio
from PIL import Image
from plotly.colors import hex_to_rgb, sample_colorscale
from plotly.io.base_renderers import MimetypeRenderer
from scipy.ndimage import binary_dilation
from skimage.transform import resize

from hgisam.data.prepared import SUBTYPES

Grey = npt.NDArray[np.uint8]

# Okabe and Ito's colours, told apart by colour-blind readers, on light and dark pages
BLUE, ORANGE, GREEN, PINK, VERMILION, SKY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"
METHOD_COLOURS = {
    "hgi_sam": BLUE,
    "swin_sam": ORANGE,
    "grad_cam": PINK,
    "unet": SKY,
    "hu_threshold": GREEN,
    "smooth_hu_threshold": VERMILION,
}
METHOD_NAMES = {
    "hgi_sam": "HGI-SAM",
    "swin_sam": "Swin-SAM",
    "grad_cam": "GradCAM",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "rollout": "attention rollout",
    "relevance": "gradient-weighted relevance",
    "gradient_input": "gradient × input",
    "hgi_sam_otsu": "HGI-SAM, Otsu",
    "hgi_sam_mass": "HGI-SAM, half the mass",
    "density_alone": "density alone",
    "hgi_sam_density": "HGI-SAM × density",
    "hgi_sam_self_trained": "HGI-SAM, self-trained",
    "hgi_sam_refined": "HGI-SAM, refined",
    "unet": "U-Net",
    "swin_unetr": "Swin-UNETR",
    "unet_published": "U-Net, published",
    "hu_threshold": "HU threshold",
    "smooth_hu_threshold": "HU threshold, smoothed",
}
HU_METHODS = ("hu_threshold", "smooth_hu_threshold")  # whose thresholds are in HU
SUBTYPE_COLOURS = dict(zip(SUBTYPES, (ORANGE, VERMILION, SKY, GREEN, PINK), strict=True))
TRUTH = "#F0E442"
GREY_LEVELS = 64  # of a shown slice; finer steps drown in the noise of a CT and only cost bytes

# left and right move the slider, with Shift a second one, up and down the menu, Enter goes round a second menu; the
# figure takes the focus
KEYS = """
const figure = document.getElementById("{plot_id}"), box = figure.closest(".figure-plotly");
const move = (name, entries, by, round = false) => {
  const [list, number] = name.match(/[a-z]+|[0-9]/g), chosen = (figure.layout[list] || [])[number];
  if (!chosen) return false;
  const last = chosen[entries].length - 1, wanted = (chosen.active || 0) + by;
  const next = round && wanted > last ? 0 : Math.min(Math.max(wanted, 0), last);
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
    """Writes a figure as HTML without plotly.js, which the site loads once, and with its alt text.

    Nothing but HTML: Jupyter Book warns of every other form of a figure.
    """

    def to_mimebundle(self, fig_dict: dict[str, Any]) -> dict[str, Any]:
        """Renders a figure that went through `finish`.

        Raises:
            ValueError: If the figure has no alt text.
        """
        meta = fig_dict["layout"].get("meta") or {}
        if not meta.get("alt"):
            raise ValueError("a figure without alt text: pass it through finish()")
        moves = bool(fig_dict["layout"].get("sliders") or fig_dict["layout"].get("updatemenus"))
        digest = hashlib.sha256(json.dumps(fig_dict, sort_keys=True, default=str).encode()).hexdigest()
        html = pio.to_html(
            fig_dict,
            include_plotlyjs=False,
            include_mathjax=False,
            full_html=False,
            config={"responsive": True, "displayModeBar": False},
            default_height=meta["height"],
            div_id=f"figure-{digest[:12]}",
            post_script=KEYS if moves else None,
        )
        alt = meta["alt"].replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        focus = ' tabindex="0"' if moves else ""
        return {"text/html": f'<div class="figure-plotly" role="img" aria-label="{alt}"{focus}>{html}</div>'}


def use_book_renderer() -> None:
    """Makes plotly show every figure of this session by `BookRenderer`."""
    pio.renderers["book"] = BookRenderer()
    pio.renderers.default = "book"


def finish(figure: go.Figure, alt: str, height: str = "420px", **layout: Any) -> go.Figure:
    """Gives a figure the book's style.

    Args:
        figure: Changed in place.
        alt: What the figure shows, for those who can't see it.
        height: CSS; the width is the page's.
        layout: Further layout settings.
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
        dragmode=False,  # a finger that scrolls the page shall not zoom
        meta={"alt": alt, "height": height},
    )
    figure.for_each_xaxis(lambda axis: axis.update(title_text=_lines(axis.title.text)))
    return figure.update_layout(**layout)


def _lines(title: str | None) -> str | None:
    """The title of a number axis in lines that a phone has room for beside the labels of the other axis."""
    return title and "<br>".join(textwrap.wrap(title, 22))


def image_height(rows: float, cols: float, *, widest_px: int = 640, extra_px: int = 60) -> str:
    """CSS height for an image of rows × cols with `extra_px` of controls, from phone to desktop."""
    ratio = rows / cols
    return f"min(calc({92 * ratio:.1f}vw + {extra_px}px), {round(widest_px * ratio) + extra_px}px)"


def png(index: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8] | None = None) -> str:
    """A PNG as data URI.

    Args:
        index: [H, W] grey values, or indices into `palette`.
        palette: [n, 4] red, green, blue, alpha.
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
    """[H, W] grey values 0-255 as data URI."""
    step = 256 // GREY_LEVELS
    return png((grey // step * step).astype(np.uint8))


def map_png(values: npt.NDArray[np.floating], levels: int = 32) -> str:
    """[H, W] in [0, 1] as data URI: plasma colours, the more opaque the higher."""
    colours = [[int(v) for v in c[4:-1].split(",")] for c in sample_colorscale("Plasma", np.linspace(0.15, 1, levels))]
    alpha = np.linspace(0, 0.85, levels) * 255
    palette = np.column_stack([np.array(colours), alpha]).astype(np.uint8)
    index = np.clip(np.asarray(values, dtype=np.float32), 0, 1) * (levels - 1)
    return png(np.round(index).astype(np.uint8), palette)


def outline_png(mask: npt.NDArray[Any], colour: str) -> str:
    """The outline just outside a mask [H, W] as data URI, transparent elsewhere."""
    inside = mask > 0
    palette = np.array([(0, 0, 0, 0), (*hex_to_rgb(colour), 255)], dtype=np.uint8)
    return png((binary_dilation(inside) & ~inside).astype(np.uint8), palette)


def shrink(images: npt.NDArray[Any], most_px: int) -> npt.NDArray[Any]:
    """Slices [n, H, W] with sides of at most `most_px`: numbers are averaged, masks (bool) take the nearest pixel."""
    factor = most_px / max(images.shape[1:])
    if factor >= 1:
        return images
    shape = tuple(round(side * factor) for side in images.shape[1:])
    smooth = images.dtype != np.bool_
    options = {"order": int(smooth), "anti_aliasing": smooth, "preserve_range": True}
    small = [resize(image, shape, **options) for image in images]  # type: ignore[no-untyped-call]
    return np.stack(small).astype(images.dtype)


def picture(source: str, rows: int, cols: int, *, visible: bool = True, **where: Any) -> go.Image:
    """An image trace from a data URI, in pixel coordinates."""
    size = {"x0": 0, "y0": 0, "dx": 1, "dy": 1}
    return go.Image(source=source, zsmooth="fast", hoverinfo="skip", visible=visible, **size, **where)


def show_pixels(figure: go.Figure, rows: float, cols: float, **where: Any) -> None:
    """Sets axes to an image: row 0 above, square pixels, nothing drawn."""
    figure.update_xaxes(visible=False, range=[-0.5, cols - 0.5], constrain="domain", fixedrange=True, **where)
    figure.update_yaxes(visible=False, range=[rows - 0.5, -0.5], constrain="domain", fixedrange=True, **where)
    for axis in figure.select_yaxes(**where):
        axis.scaleanchor = axis.anchor or "x"


def wrapped(title: str, columns: int) -> str:
    """A title over one of `columns` images, in lines for which an image on a phone has room; longer words are cut."""
    most = max(8, 52 // columns)
    halves = re.sub(rf"\S{{{most + 1},}}", lambda word: f"{word[0][: most - 1]}- {word[0][most - 1 :]}", title)
    return "<br>".join(textwrap.wrap(halves, most, break_on_hyphens=False))


def slider(
    prefix: str, labels: Sequence[str], steps: Sequence[tuple[str, list[Any]]], active: int = 0, **where: Any
) -> dict[str, Any]:
    """One plotly slider.

    Args:
        prefix: Shown before the current label.
        labels: One a step.
        steps: (method of Plotly, its arguments) of each step.
        active: The step that the figure is drawn with.
        where: Another place than below the figure.
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
        "font": {"size": 1},  # hides the labels along the slider, which collide; the current one stands above it
        "bgcolor": "rgba(128,128,128,0.35)",
        "activebgcolor": BLUE,
        "steps": entries,
        **where,
    }


def menu(labels: Sequence[str], steps: Sequence[tuple[str, list[Any]]], **where: Any) -> dict[str, Any]:
    """One plotly dropdown above the figure; arguments as in `slider`."""
    entries = [
        {"label": label, "method": method, "args": arguments}
        for label, (method, arguments) in zip(labels, steps, strict=True)
    ]
    place = {"x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "pad": {"b": 6}} | where
    return {"buttons": entries, "showactive": False, "bgcolor": "rgba(128,128,128,0.2)", "font": {"size": 12}, **place}
