"""The one error that means: the user can fix this; and one line for what the system refuses."""

import errno
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Content = TypeVar("Content", bound=BaseModel)
PLACES = {errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS}


class InputError(ValueError):
    """A mistake in what the user gave; the command line prints it as one line and exits with 2.

    Args:
        what: The thing that is wrong, e.g. "profile key train.epoch".
        got: What was found.
        expected: What would have been right.
        remedy: What to do about it.
    """

    def __init__(self, what: str, got: object, expected: str, remedy: str) -> None:
        self.what, self.got, self.expected, self.remedy = what, got, expected, remedy
        super().__init__(" ".join(f"{what}: got {got}, expected {expected}. {remedy}".split()))

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, object, str, str]]:
        """Keep the four parts when a worker process hands the error to its parent."""
        return InputError, (self.what, self.got, self.expected, self.remedy)


def exit_line(error: OSError) -> tuple[int, str]:
    """Exit code and one line for a place that can't be used, which is the user's to mend, or a disk that fails."""
    reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error) or type(error).__name__
    if error.errno in PLACES:
        return 2, f"{error.filename}: got “{reason}”, expected what can be read and written. Mend it or name another."
    where = f" ({error.filename})" if error.filename else ""
    return 1, f"Stopped: {reason}{where}; nothing half-written stands as whole, the same command goes on from here."


def check_content(model: type[Content], content: Any, what: str, expected: str, remedy: str) -> Content:
    """Holds what a JSON file says to what its readers count on.

    Args:
        model: What they count on.
        content: Of the file.
        what, expected, remedy: As in `InputError`.

    Raises:
        InputError: Names the first thing that is absent or of another type.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        got = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        raise InputError(what, got, expected, remedy) from None


def check_choice(what: str, got: str, choices: Sequence[str]) -> None:
    """Refuses what is not one of the choices.

    Raises:
        InputError: If so.
    """
    if got not in choices:
        raise InputError(what, repr(got), " or ".join(choices), "Choose one.")
