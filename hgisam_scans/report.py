"""The report of a scan: one HTML file that opens offline, with slices, scores, volume, doubts, and a volume viewer.

It holds no name of a patient or file. The viewer is NiiVue (BSD 2-clause, `assets/niivue.LICENSE`), embedded; it needs
WebGL 2 and runs on phones too. All else works without JavaScript.
"""

import base64
import gzip
import html
import io
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from hgisam.data.windows import to_uint8
from hgisam.models.checkpoint import shipped_checkpoints
from hgisam_scans.segmented_scan import SegmentedScan

WINDOW_HU = 40, 80  # level and width of the pictures
STATEMENT = "For research and teaching only, never for diagnosis. No medical device."
NOT_COMPARED = "nothing tells whether the scan is like the data of the training; run hgisam calibrate"
MASK_RGB, MAP_RGB = (230, 70, 60), (250, 180, 40)
CONTOUR_PX = 2  # of the mask: one pixel breaks up where a phone shows two slices side by side
STYLE = """
:root { color-scheme: light dark; --line: #8886; --bad: #b3261e; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.statement { border: 2px solid var(--bad); border-radius: .5rem; padding: .6rem 1rem; }
.volume { font-size: 2rem; margin: .5rem 0; }
.doubt { color: var(--bad); font-weight: 600; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid var(--line); padding: .2rem .8rem .2rem 0;
  text-align: left; vertical-align: top; }
.table { overflow-x: auto; }
.slices { margin-top: .6rem; display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .6rem; }
figure { margin: 0; } figcaption { font-size: .85rem; }
.slice { position: relative; background: #000; } .slice img { width: 100%; display: block; image-rendering: auto; }
.slice img + img { position: absolute; inset: 0; }
#show-mask:not(:checked) ~ .slices .mask, #show-map:not(:checked) ~ .slices .map { display: none; }
.bleeds figcaption { font-weight: 700; }
.viewer { height: 60vh; min-height: 20rem; background: #000; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; } }
"""
VIEWER = """
const bytes = (id) => Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
const text = async (id) => new Response(
  new Blob([bytes(id)]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
(async () => {
  const said = document.getElementById("viewer-said");
  try {
    const script = document.createElement("script");
    script.textContent = await text("niivue");
    document.head.append(script);
    const view = new niivue.Niivue({ show3Dcrosshair: true, backColor: [0, 0, 0, 1], dragAndDropEnabled: false,
      isRadiologicalConvention: true, logLevel: "warn" });
    await view.attachToCanvas(document.getElementById("viewer"));
    const volume = async (id, options) => niivue.NVImage.loadFromBase64(
      { base64: document.getElementById(id).textContent, name: id + ".nii.gz", ...options });
    view.addVolume(await volume("scan", { colormap: "gray", cal_min: 0, cal_max: 255 }));
    view.addVolume(await volume("mask", { colormap: "red", opacity: 0.5, cal_min: 0.5, cal_max: 1 }));
    view.setSliceType(view.sliceTypeMultiplanar);
    document.getElementById("opacity").addEventListener("input", (event) =>
      view.setOpacity(1, Number(event.target.value)));
    said.textContent = "Drag to move through the slices, wheel or pinch to zoom. Patient's right on the left.";
    document.body.dataset.viewer = "shown";
  } catch (error) { said.textContent = "No viewer here: this browser lacks WebGL 2 (" + error.message + ")."; }
})();
"""


def render_report(scan: SegmentedScan, ident: str = "") -> str:
    """The report of a scan as HTML.

    Args:
        scan: The segmented scan.
        ident: Public id of the scan in a batch.
    """
    parts = [
        f"<p class='statement'><strong>{STATEMENT}</strong> {html.escape(trained_on(scan))}</p>",
        "<h2>Volume</h2>", _volume(scan), "<h2>What was read</h2>", _table(_facts(scan)), "<h2>Slices</h2>",
        _slices(scan), "<h2>Volume viewer</h2>", _viewer(scan), "<h2>Scores</h2>", _scores(scan),
    ]  # fmt: skip
    title = f"Segmentation of a head CT{f' ({html.escape(ident)})' if ident else ''}"
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>{''.join(parts)}</body></html>\n"
    )


def trained_on(scan: SegmentedScan) -> str:
    """What the networks were trained on, in a sentence."""
    profiles = sorted({network.predictor.checkpoint.profile.name for network in scan.networks})
    shipped = {network.name for network in scan.networks} <= shipped_checkpoints().keys()
    data = "phantoms, that is synthetic head CT" if shipped else f"the data of the profile {' and '.join(profiles)}"
    return f"Segmented by {scan.algorithm}, trained on {data}, and not validated on patients for clinical use."


def _volume(scan: SegmentedScan) -> str:
    """Volume with its interval; or why there is none."""
    if not scan.trusted:
        reasons = "".join(f"<li>{html.escape(doubt)}</li>" for doubt in scan.doubts)
        return (
            "<p class='volume doubt'>not trusted</p><p>No volume is given: this scan is unlike the data that the "
            f"network knows. Mask and map are shown, and mean as little.</p><ul>{reasons}</ul>"
        )
    lines = [f"<p class='volume'>{scan.ml:.1f} ml in the mask</p>"]
    if not scan.calibrated:
        lines.append(f"<p class='doubt'>Not calibrated: {NOT_COMPARED}.</p>")
    if scan.interval_ml and (interval := scan.interval) and (calibration := scan.networks[0].calibration):
        low, high = scan.interval_ml
        outside = "" if low <= scan.ml <= high else " The mask lies outside: it mostly marks too much or too little."
        lines.append(
            f"<p>{interval.level:.0%} interval of the bleed: {low:.1f} to {high:.1f} ml, conformal, calibrated on "
            f"{html.escape(calibration.cohort)}. It says nothing about patients unlike these.{outside}</p>"
        )
    else:
        lines.append("<p>No interval: none is calibrated for this network and method.</p>")
    if scan.spread_ml is not None:
        lines.append(f"<p>Standard deviation over {len(scan.networks)} networks: {scan.spread_ml:.1f} ml.</p>")
    if scan.ml_by_subtype:
        lines.append(_table((name, f"{ml:.1f} ml") for name, ml in scan.ml_by_subtype.items()))
    return "".join(lines)


def _facts(scan: SegmentedScan) -> Iterable[tuple[str, str]]:
    """What was read, skipped, chosen and why."""
    chosen = scan.choice.chosen
    yield "scan", f"{chosen.kind}, {chosen.name}"
    yield "chosen because", scan.choice.reason
    for name, against in scan.choice.others:
        yield "not chosen", f"{name}: {against}"
    rows, cols = scan.mask.shape[1:]
    slice_mm, row_mm, col_mm = scan.spacing
    yield "grid", f"{len(scan.mask)} × {rows} × {cols}, {slice_mm:.3g} × {row_mm:.3g} × {col_mm:.3g} mm"
    yield "slices predicted to bleed", f"{int(scan.bleeds.sum())} of {len(scan.bleeds)}"
    for remark in scan.remarks:
        yield "remark", remark
    yield "threshold of the map", f"{np.mean([network.threshold for network in scan.networks]):.3g}"
    gate = "have no mask" if scan.gated else "may have a mask too (--no-gate)"
    yield "slices not predicted to bleed", gate


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<div class='table'><table>{cells}</table></div>"


def _scores(scan: SegmentedScan) -> str:
    rows = (
        (str(number), f"{score:.3f}{', predicted to bleed' if bleeds else ''}")
        for number, (score, bleeds) in enumerate(zip(scan.scores, scan.bleeds, strict=True), start=1)
    )
    return f"<details><summary>Probability of bleeding per slice</summary>{_table(rows)}</details>"


def _slices(scan: SegmentedScan) -> str:
    """Every slice on the grid of the network: CT, map and contour of the mask, which two switches show or hide."""
    shown = scan.prepared
    grey = to_uint8(shown.hu, *WINDOW_HU)
    figures = []
    for index, (image, map_, mask, brain) in enumerate(zip(grey, shown.map, shown.mask, shown.brain, strict=True)):
        score, bleeds = float(scan.scores[index]), bool(scan.bleeds[index])
        pixels = int(mask.sum())
        alt = f"Slice {index + 1}: score {score:.2f}, {f'mask of {pixels} pixels' if pixels else 'no mask'}"
        edge = mask.astype(bool) & ~ndimage.binary_erosion(mask, iterations=CONTOUR_PX)
        layers = [f"<img alt='{alt}' src='{_png(image)}'>"]
        opacity = np.sqrt(np.clip(map_, 0, 1)) * (brain > 0) * 0.7
        layers.append(f"<img class='map' alt='' src='{_png(_layer(opacity, MAP_RGB))}'>")
        if pixels:
            layers.append(f"<img class='mask' alt='' src='{_png(_layer(edge.astype(float), MASK_RGB))}'>")
        caption = f"slice {index + 1}, score {score:.2f}"
        kind = " class='bleeds'" if bleeds else ""
        figures.append(
            f"<figure{kind}><div class='slice'>{''.join(layers)}</div><figcaption>{caption}</figcaption></figure>"
        )
    return (
        f"<p>Window {WINDOW_HU[0]}/{WINDOW_HU[1]} HU, on the grid of the network, patient's right on the left. Bold: "
        "predicted to bleed. A map has a maximum also where the score is low: read the score first.</p>"
        "<input type='checkbox' id='show-mask' checked> <label for='show-mask'>mask</label> "
        "<input type='checkbox' id='show-map'> <label for='show-map'>map</label>"
        f"<div class='slices'>{''.join(figures)}</div>"
    )


def _layer(opacity: npt.NDArray[np.floating], rgb: Sequence[int]) -> npt.NDArray[np.uint8]:
    """One colour [row, col, RGBA] with an opacity in [0, 1]."""
    layer = np.empty((*opacity.shape, 4), np.uint8)
    layer[..., :3], layer[..., 3] = rgb, np.rint(255 * opacity) // 16 * 16  # few levels: small files
    return layer


def _png(pixels: npt.NDArray[np.uint8]) -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=False, compress_level=7)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _viewer(scan: SegmentedScan) -> str:
    """The embedded volume viewer with the scan and its mask on the grid of the network."""
    asset = files("hgisam_scans").joinpath("assets", "niivue.umd.js.gz").read_bytes()
    rows = scan.prepared.rows
    order = np.argsort(rows["position_mm"].to_numpy())
    grey, mask = to_uint8(scan.prepared.hu, *WINDOW_HU)[order], scan.prepared.mask[order]
    data = {
        "niivue": base64.b64encode(asset).decode(), "scan": _nifti(grey, scan), "mask": _nifti(mask, scan)
    }  # fmt: skip
    blocks = "".join(f"<script type='text/plain' id='{name}'>{text}</script>" for name, text in data.items())
    return (
        "<p id='viewer-said'>Loading.</p>"
        "<div class='viewer'><canvas id='viewer' aria-label='Scan and mask in three planes'></canvas></div>"
        "<p><label for='opacity'>opacity of the mask</label> "
        "<input type='range' id='opacity' min='0' max='1' step='0.05' value='0.5'></p>"
        "<p><small>Viewer: NiiVue, © 2021 NiiVue, BSD 2-clause, provided as is, without warranty; the whole notice is "
        f"in assets/niivue.LICENSE of hgisam_scans.</small></p>{blocks}<script>{VIEWER}</script>"
    )


def _nifti(array: npt.NDArray[np.uint8], scan: SegmentedScan) -> str:
    """A NIfTI file in base64 of slices [slice, px, px] by ascending position, canonical orientation."""
    rows = scan.prepared.rows
    pixel_mm = float(rows["pixel_mm"].iloc[0])
    extent = float(rows["position_mm"].max() - rows["position_mm"].min())
    step = extent / (len(rows) - 1) if len(rows) > 1 else scan.spacing[0]
    image: Any = nib.Nifti1Image(  # type: ignore[no-untyped-call]
        np.ascontiguousarray(array[:, ::-1].transpose(2, 1, 0)), np.diag([-pixel_mm, pixel_mm, step or 1.0, 1.0])
    )
    return base64.b64encode(gzip.compress(image.to_bytes(), 6, mtime=0)).decode()
