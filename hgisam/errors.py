"""The one error that means: the user can fix this; and one line for what the system refuses."""

import errno
from collections.abc import Sequence

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


class MissingExtraError(InputError, ImportError):
    """A package that is not installed since its extra was not asked for.

    Args:
        module: The package.
        extra: Which extra of hgisam brings it.
    """

    def __init__(self, module: str, extra: str) -> None:
        self.module, self.extra = module, extra
        super().__init__(
            f"package {module}",
            "not installed",
            f"the extra [{extra}] of hgisam",
            f"Run pip install 'hgisam[{extra}]'.",
        )

    def __reduce__(self) -> tuple[type["MissingExtraError"], tuple[str, str]]:  # type: ignore[override]
        return MissingExtraError, (self.module, self.extra)


def exit_line(error: OSError) -> tuple[int, str]:
    """Exit code and one line for a place that can't be used, which is the user's to mend, or a disk that fails."""
    reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error) or type(error).__name__
    if error.errno in PLACES:
        return 2, f"{error.filename}: got “{reason}”, expected what can be read and written. Mend it or name another."
    where = f" ({error.filename})" if error.filename else ""
    return 1, f"Stopped: {reason}{where}; nothing half-written stands as whole, the same command goes on from here."


def check_choice(what: str, got: str, choices: Sequence[str]) -> None:
    """Refuses what is not one of the choices.

    Raises:
        InputError: If so.
    """
    if got not in choices:
        raise InputError(what, repr(got), " or ".join(choices), "Choose one.")
