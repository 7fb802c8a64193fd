"""The program `hgisam`: runs the command line; what the user can fix is one line and an exit code."""

import logging
import sys
import warnings
from importlib import import_module

from hgisam.errors import InputError, exit_line
from hgisam.lazy import require_extra


def run(command: str, module: str, extra: str) -> None:
    """Runs a command line; exits with 2 for the user's mistakes, 1 for what the system refuses, 130 after Ctrl-C.

    Args:
        command: Its name, for the messages.
        module: Holds its typer `app`.
        extra: What it needs besides the core.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    try:
        require_extra(extra, "typer")
        import_module(module).app()
    except InputError as error:
        code, line = 2, str(error)
    except KeyboardInterrupt:
        code, line = 130, "Stopped; start the same command again, finished steps are not run again."
    except OSError as error:
        code, line = exit_line(error)
    else:
        return
    sys.stderr.write(f"{command}: {line}\n")
    sys.exit(code)


def main() -> None:
    """`hgisam`."""
    run("hgisam", "hgisam.cli", "train")


if __name__ == "__main__":
    main()
