"""Sphinx extension: plotly.js once for the site, loaded only by pages that show a figure.

Figures come as `<div class="figure-plotly" …>` without the library in them. The library is copied out of the installed
plotly wheel, so pages need no other host.
"""

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

FIGURE_CLASS = "figure-plotly"
SCRIPTS = ("plotly.min.js", "plotly-theme.js")  # the second lies in book/_static


def add_scripts(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Adds the scripts to a page with a figure; not deferred, because the figures draw as the page is read."""
    if FIGURE_CLASS in context.get("body", ""):
        for script in SCRIPTS:
            app.add_js_file(script)


def copy_library(app: Sphinx, failure: Exception | None) -> None:
    """Copies plotly.js beside the other static files."""
    if failure is None and app.builder.format == "html":
        static = Path(app.outdir) / "_static"
        static.mkdir(exist_ok=True)
        with resources.as_file(resources.files("plotly") / "package_data" / SCRIPTS[0]) as library:
            shutil.copyfile(library, static / SCRIPTS[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connects both."""
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", copy_library)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
