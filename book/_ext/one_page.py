"""Sphinx extension for the single-page book, which is printed to PDF.

Sphinx looks up the node visitors of a builder by its name, and uses those of its format only if there are none. So an
extension with visitors for `singlehtml` hides the HTML visitors of all other extensions. This extension merges both.
"""

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

BUILDER = "singlehtml"


def merge_visitors(app: Sphinx) -> None:
    """Add the HTML visitors to those of the single-page builder, which take precedence."""
    visitors = app.registry.translation_handlers
    if app.builder.name == BUILDER:
        visitors[BUILDER] = visitors.get(app.builder.format, {}) | visitors.get(BUILDER, {})


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect the event handler."""
    app.connect("builder-inited", merge_visitors)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
