"""Errors of the user: one line, also from a worker process; errors of the system that a library wraps."""

import errno
import pickle

import pytest

from hgisam.errors import InputError, MissingExtraError, check_choice, system_error

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


@pytest.mark.parametrize(
    "text",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",  # safetensors
        "RESOURCE_EXHAUSTED: Error writing: No space left on device [os_error_code='28'] [source locations='x']",
    ],  # the second: TensorStore
)
def test_a_full_disk_is_known_from_the_text_of_a_library(text: str) -> None:
    found = system_error(ValueError(text))
    assert isinstance(found, OSError)
    assert found.errno == errno.ENOSPC
    other = ValueError("a bad shape")
    assert system_error(other) is other
