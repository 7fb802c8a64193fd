"""Errors of the user: one line, also from a worker process."""

import pickle

import pytest

from hgisam.errors import InputError, MissingExtraError, check_choice

ERRORS = [InputError("x", 1, "2", "Set\n  it."), MissingExtraError("zarr", "train")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_after_pickling(error: InputError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


def test_an_error_is_one_line() -> None:
    assert str(ERRORS[0]) == "x: got 1, expected 2. Set it."
    assert str(ERRORS[1]).startswith("package zarr: got not installed, expected the extra [train] of hgisam.")
    assert isinstance(ERRORS[1], ImportError)


def test_a_choice_is_one_of_those() -> None:
    check_choice("at", "norm1", ("norm1", "norm2"))
    with pytest.raises(InputError, match="at: got 'norm3', expected norm1 or norm2"):
        check_choice("at", "norm3", ("norm1", "norm2"))
