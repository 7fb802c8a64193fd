"""The program `hgisam`: its command line, with one line and an exit code for an error that the user can fix."""

import logging
import sys
import warnings
from importlib import import_module

from hgisam.errors import InputError, exit_line
from hgisam.lazy import require_extra


def main() -> None:
    """Run the command line; exit with 2 after a user's mistake, 1 after an error of the system, 130 after Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    try:
        require_extra("train", "typer")
        import_module("hgisam.cli").app()
    except InputError as error:
        code, line = 2, str(error)
    except KeyboardInterrupt:
        code, line = 130, "Stopped. Run the same command again to resume; finished steps are not rerun."
    except OSError as error:
        code, line = exit_line(error)
    else:
        return
    sys.stderr.write(f"hgisam: {line}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
