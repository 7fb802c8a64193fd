"""Sphinx extension that loads plotly.js on pages with figures, from a single copy on the site.

Figures are `<div class="figure-plotly" …>` without the library. The library is copied from the installed plotly
package, so pages load nothing from other hosts.
"""

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

FIGURE_CLASS = "figure-plotly"
SCRIPTS = ("plotly.min.js", "plotly-theme.js")  # the second is in book/_static


def add_scripts(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Add the scripts to a page with a figure; not deferred, because figures are rendered while the page loads."""
    if FIGURE_CLASS in context.get("body", ""):
        for script in SCRIPTS:
            app.add_js_file(script)


def copy_library(app: Sphinx, failure: Exception | None) -> None:
    """Copy plotly.js to the static files."""
    if failure is None and app.builder.format == "html":
        static = Path(app.outdir) / "_static"
        static.mkdir(exist_ok=True)
        with resources.as_file(resources.files("plotly") / "package_data" / SCRIPTS[0]) as library:
            shutil.copyfile(library, static / SCRIPTS[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect the event handlers."""
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", copy_library)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
