"""Errors that the user can fix, as one line each, and exit codes for errors of the file system."""

import errno
import os
import re
from collections.abc import Sequence

PATH_ERRORS = {errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS}


class InputError(ValueError):
    """A mistake in the input; the command line prints it as one line and exits with code 2.

    Args:
        what: The thing that is wrong, e.g. "profile key train.epoch".
        got: The value found.
        expected: The valid values.
        remedy: A way to fix it.

    Example:
        >>> print(InputError("train.epochs", -1, "1 or more", "Set train.epochs=30."))
        train.epochs: got -1, expected 1 or more. Set train.epochs=30.
    """

    def __init__(self, what: str, got: object, expected: str, remedy: str) -> None:
        # without super().__init__(), so that `args` stay the arguments: workers pickle the error for their parent
        self.what, self.got, self.expected, self.remedy = what, got, expected, remedy

    def __str__(self) -> str:
        return " ".join(f"{self.what}: got {self.got}, expected {self.expected}. {self.remedy}".split())


class MissingExtraError(InputError, ImportError):
    """A package that is missing because its extra was not installed.

    Args:
        module: The package.
        extra: The extra of hgisam that brings it.

    Example:
        >>> print(MissingExtraError("zarr", "train"))
        package zarr: got not installed, expected the extra [train] of hgisam. Run pip install 'hgisam[train]'.
    """

    def __init__(self, module: str, extra: str) -> None:
        self.module, self.extra = module, extra
        remedy = f"Run pip install 'hgisam[{extra}]'."
        super().__init__(f"package {module}", "not installed", f"the extra [{extra}] of hgisam", remedy)


def exit_line(error: OSError) -> tuple[int, str]:
    """Exit code and one line: 2 for a path that the user can fix, 1 for a disk that is full or fails."""
    reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error) or type(error).__name__
    if error.errno in PATH_ERRORS:
        return 2, f"{error.filename}: got “{reason}”, expected a path to read and write. Fix it or choose another."
    where = f" ({error.filename})" if error.filename else ""
    return 1, f"Stopped: {reason}{where}; no partial result counts as complete. Run the same command to resume."


def system_error(error: Exception) -> Exception:
    """The OSError, such as a full disk, that a library of compiled code wraps in another; else the error itself."""
    code = re.search(r"os[_ ]error(?:_code=')? ?(\d+)", str(error))
    return OSError(int(code[1]), os.strerror(int(code[1]))) if code else error


def check_choice(what: str, got: str, choices: Sequence[str]) -> None:
    """Raise an InputError unless `got` is one of the choices."""
    if got not in choices:
        raise InputError(what, repr(got), " or ".join(choices), "Choose one.")
