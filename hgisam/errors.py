"""The one error that means: the user can fix this."""

from collections.abc import Sequence


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


def check_choice(what: str, got: str, choices: Sequence[str]) -> None:
    """Refuses what is not one of the choices.

    Raises:
        InputError: If so.
    """
    if got not in choices:
        raise InputError(what, repr(got), " or ".join(choices), "Choose one.")
