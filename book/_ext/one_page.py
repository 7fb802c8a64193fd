"""Sphinx extension: the book as one page, for print, with the nodes of every extension.

Sphinx looks for a node's writers under the builder's name, and only if nothing at all stands there under its format. An
extension that registers writers for `singlehtml` hides those that all others have for HTML: here they are joined.
"""

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

BUILDER = "singlehtml"


def join_writers(app: Sphinx) -> None:
    """Gives the builder of one page what HTML has, where it has nothing of its own."""
    writers = app.registry.translation_handlers
    if app.builder.name == BUILDER:
        writers[BUILDER] = writers.get(app.builder.format, {}) | writers.get(BUILDER, {})


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connects it."""
    app.connect("builder-inited", join_writers)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
