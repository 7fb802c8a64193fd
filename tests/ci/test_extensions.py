import mathml
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
