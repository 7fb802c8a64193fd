"""Sphinx extension that renders formulas as MathML at build time.

All current browsers render MathML, so pages need no MathJax, no remote font and no script. docutils translates the
formulas; an unknown command is a warning, which the build turns into an error.
"""

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

ENVIRONMENTS = ("align", "align*", "aligned", "equation", "equation*", "split", "gather", "gather*")


def to_mathml(tex: str, *, block: bool) -> str:
    """Translate a formula from LaTeX to MathML.

    Args:
        tex: LaTeX source.
        block: True for a displayed formula.

    Raises:
        MathError: If docutils does not know a command in it.
    """
    tex = tex.strip()
    for name in ENVIRONMENTS:  # docutils aligns at & and \\ without an environment
        begin, end = rf"\begin{{{name}}}", rf"\end{{{name}}}"
        if tex.startswith(begin) and tex.endswith(end):
            tex = tex.removeprefix(begin).removesuffix(end).strip()
    mathml: str = latex2mathml.tex2mathml(tex, as_block=block)
    return mathml.replace("&ApplyFunction;", "\u2061")  # docutils writes an entity that XHTML, and so EPUB, lacks


def _formula(node: nodes.math | nodes.math_block, *, block: bool) -> str:
    try:
        return to_mathml(node.astext(), block=block)
    except (MathError, SyntaxError) as error:
        logger.warning("formula without MathML translation: %s in %s", error, node.astext(), location=node)
        return f"<code>{nodes.unescape(node.astext())}</code>"


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write an inline formula."""
    self.body.append(f'<span class="formula">{_formula(node, block=False)}</span>')
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a displayed formula, with its number if it has a label."""
    self.body.append(self.starttag(node, "div", CLASS="formula-block"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(f'<div class="formula-scroll">{_formula(node, block=True)}</div></div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the renderer for `html_math_renderer: mathml`."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
