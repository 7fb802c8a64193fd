from types import SimpleNamespace
from xml.etree import ElementTree

import mathml
import one_page
import pytest
from docutils.utils.math import MathError


def test_formulas_become_mathml() -> None:
    inline = mathml.to_mathml(r"A_h \in \mathbb{R}^{N \times N}", block=False)
    assert inline.startswith("<math")
    assert "<msub>" in inline
    assert "ℝ" in inline


def test_aligned_lines_become_a_table() -> None:
    block = mathml.to_mathml("\\begin{aligned}\na &= b \\\\ c &= d\n\\end{aligned}", block=True)
    assert block.count("<mtr>") == 2
    assert 'display="block"' in block


def test_an_unknown_command_is_an_error() -> None:
    with pytest.raises(MathError):
        mathml.to_mathml(r"\nosuchcommand{x}", block=True)


def test_a_formula_is_xml_without_html_entities() -> None:
    ElementTree.fromstring(mathml.to_mathml(r"\arg\max_{p} M(p), \log(x)", block=True))


def test_the_single_page_has_the_visitors_of_html() -> None:
    visitors = {"html": {"card": (1, 2), "exercise": (3, 4)}, "singlehtml": {"exercise": (5, 6)}}
    for name, expected in (("html", {"exercise": (5, 6)}), ("singlehtml", {"card": (1, 2), "exercise": (5, 6)})):
        app = SimpleNamespace(
            registry=SimpleNamespace(translation_handlers=visitors), builder=SimpleNamespace(name=name, format="html")
        )
        one_page.merge_visitors(app)  # type: ignore[arg-type]
        assert visitors["singlehtml"] == expected
