"""What `make book` runs: checks what was asked for, lets Snakemake do what is left to do, says where the book is.

python book/build.py --profile smoke --runs-dir runs --set "train.epochs=3"
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hgisam.config.profile import load_profile
from hgisam.doctor import INSTALL, find_browser
from hgisam.errors import InputError, exit_line
from hgisam.runs.folders import held
from run_notebook import MAKER_ENV, follow, is_alive
from steps import BOOK, PRINTED, STEPS, products

NOTHING = "Nothing to be done"


def lost(run: Path, *, rsna: str, ct_ich: str) -> list[str]:
    """Executed notebooks whose products are gone, so that they must run again."""
    notebooks = {name: run / "notebooks" / f"{name}.ipynb" for name in STEPS}
    return [
        str(path)
        for name, path in notebooks.items()
        if path.is_file() and not all((run / made).is_file() for made in products(name, rsna=rsna, ct_ich=ct_ich))
    ]


def check_raw(kind: str, folder: str) -> None:
    """Refuses a folder of real studies that is not there, or has another layout.

    Raises:
        InputError: If so.
    """
    if not folder:
        return
    if not Path(folder).is_dir():
        name = kind.upper().replace("-", "_")
        raise InputError(name, folder, "a folder of raw studies", f"Give {name}=/path or leave it out for phantoms.")
    from data_prep.study import READERS  # takes a second, and phantoms need no reader

    READERS[kind].tables(Path(folder))


def snakemake(arguments: argparse.Namespace, run: Path, log: Path) -> int:
    """Runs what is not up to date; Snakemake's own words go to the log, the notebooks' to the terminal."""
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(BOOK / "Snakefile"), "--cores", "all",
        "--nolock", "--rerun-incomplete", "--nocolor", "--config",
        f"profile={arguments.profile}", f"runs_dir={arguments.runs_dir}", f"site={arguments.site}",
        f"overrides={arguments.set}", f"rsna={arguments.rsna}", f"ct_ich={arguments.ct_ich}",
        f"take_from={arguments.take_from}", f"print={'yes' if arguments.print else ''}",
    ]  # fmt: skip
    if again := lost(run, rsna=arguments.rsna, ct_ich=arguments.ct_ich):
        command += ["--forcerun", *again]
    log.parent.mkdir(parents=True, exist_ok=True)
    with held(run / ".lock") as lock, log.open("w", encoding="utf-8") as said:
        maker = int(os.environ.get(MAKER_ENV, os.getpid()))
        follow(maker)
        environment = {**os.environ, MAKER_ENV: str(os.getpid())}
        process = subprocess.Popen(command, stderr=said, env=environment, pass_fds=[lock.fileno()])
        stopped = False
        while True:
            try:
                code = process.wait()
                return 130 if stopped else code
            except KeyboardInterrupt:
                if not is_alive(maker):  # make was killed: the notebook follows this process
                    return 130
                stopped = True  # Snakemake heard it too and ends its jobs


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--site", default="_build/html")
    parser.add_argument("--print", action="store_true", help="PDF and EPUB too; needs a Chromium")
    parser.add_argument("--set", default="", metavar="'A.B=C …'", help="overrides of the profile")
    parser.add_argument("--rsna", default="", help="folder of the RSNA 2019 studies instead of phantoms")
    parser.add_argument("--ct-ich", default="", help="folder of the CT-ICH studies instead of phantoms")
    parser.add_argument(
        "--take-from", default=str(BOOK / "recorded"), help="recorded runs, whose trainings are taken; '' to train all"
    )
    arguments = parser.parse_args()
    try:
        profile = load_profile(arguments.profile, arguments.set.split())
        for training in profile.study.trainings:
            profile.variant(training)  # a mistake there should not be found after hours
        if arguments.take_from and not Path(arguments.take_from).is_dir():
            remedy = "Leave it out for those of the book, or empty to train everything."
            raise InputError("TAKE_FROM", arguments.take_from, "a folder of recorded runs", remedy)
        check_raw("rsna", arguments.rsna)
        check_raw("ct-ich", arguments.ct_ich)
        if arguments.print and find_browser() is None:
            raise InputError("browser", "no Chromium", "one to print the book with", f"To get one, {INSTALL}.")
        run = Path(arguments.runs_dir) / profile.name
        log = run / "logs" / "snakemake.log"
        free = shutil.disk_usage(Path.cwd()).free / 2**30
        if free < 1:
            raise InputError("free disk space", f"{free:.1f} GiB", "at least 1 GiB", "Make room.")
        code = snakemake(arguments, run, log)
    except InputError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 2
    except OSError as error:
        code, line = exit_line(error)
        print(f"✗ {line}", file=sys.stderr)
        return code
    if code == 130:
        print("✗ stopped; the same command goes on from here", file=sys.stderr)
        return code
    said = log.read_text(encoding="utf-8")
    page = Path(arguments.site) / "index.html"
    made = f"{page}, and beside it {PRINTED}.pdf and {PRINTED}.epub" if arguments.print else page
    if code == 0 and NOTHING in said:
        print(f"Nothing to do: the book of profile {profile.name} is up to date, {made}")
    elif code == 0:
        print(f"The book of profile {profile.name} is ready: {made}")
    elif "Error in rule" not in said:
        print(f"✗ Snakemake stopped; the end of {log}:", *said.strip().splitlines()[-8:], sep="\n  ", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
