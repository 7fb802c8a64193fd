"""Build the book (`make book`): check the options, run what is not up to date with Snakemake, report the result.

python book/build.py --profile smoke --runs-dir runs --set "train.epochs=3"
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hgisam.config.profile import load_profile
from hgisam.errors import InputError, exit_line
from hgisam.runs.files import write_json
from hgisam.runs.folders import held
from hgisam_book.doctor import INSTALL, find_browser
from run_notebook import PARENT_ENV, exit_with, is_alive
from steps import BOOK, PRINTS, STEPS, products

NOTHING = "Nothing to be done"


def incomplete_notebooks(run: Path, *, rsna: str, ct_ich: str) -> list[str]:
    """Executed notebooks with missing output files, which have to be rerun."""
    notebooks = {name: run / "notebooks" / f"{name}.ipynb" for name in STEPS}
    return [
        str(path)
        for name, path in notebooks.items()
        if path.is_file() and not all((run / output).is_file() for output in products(name, rsna=rsna, ct_ich=ct_ich))
    ]


def check_raw(kind: str, folder: str) -> None:
    """Check that a folder of real studies exists and has the layout of its data set.

    Args:
        kind: "rsna" or "ct-ich".
        folder: The folder; "" for phantoms.

    Raises:
        InputError: If it does not.
    """
    if not folder:
        return
    if not Path(folder).is_dir():
        name = kind.upper().replace("-", "_")
        raise InputError(name, folder, "a folder of raw studies", f"Set {name}=/path, or leave it out for phantoms.")
    from data_prep.study import READERS  # slow import, not needed for phantoms

    READERS[kind].tables(Path(folder))


def writable_home(scratch: Path) -> dict[str, str]:
    """Variables for a home and a cache that can be written, where they can't: Snakemake and Jupyter keep files there.

    Args:
        scratch: Folder to use in their place.
    """
    home = Path(os.environ.get("HOME") or "/nonexistent")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    there = next(path for path in (cache, *cache.parents) if path.exists())
    places = {"HOME": (home, scratch), "XDG_CACHE_HOME": (there, scratch / ".cache")}
    found = {name: str(mine.resolve()) for name, (place, mine) in places.items() if not os.access(f"{place}/", os.W_OK)}
    for path in found.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    return found


def snakemake(arguments: argparse.Namespace, run: Path, log: Path) -> int:
    """Run the notebooks that are not up to date; Snakemake writes to the log, notebooks to the terminal."""
    config = {  # in a file, since --config reads 2024_05 as a number
        "profile": arguments.profile, "runs_dir": arguments.runs_dir, "site": arguments.site,
        "overrides": arguments.set, "rsna": arguments.rsna, "ct_ich": arguments.ct_ich,
        "take_from": "" if arguments.train else arguments.take_from, "print": "yes" if arguments.print else "",
        "key": arguments.key,
        "first_pages": "yes" if arguments.first_pages and not Path(arguments.site, "index.html").exists() else "",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(BOOK / "Snakefile"), "--cores", "all",
        "--nolock", "--rerun-incomplete", "--nocolor", "--configfile", str(log.parent / "config.json"),
    ]  # fmt: skip
    if shutil.which("nvidia-smi"):  # notebooks that can use a GPU must not share its memory
        command += ["--resources", "gpu_notebook=1"]
    if rerun := incomplete_notebooks(run, rsna=arguments.rsna, ct_ich=arguments.ct_ich):
        command += ["--forcerun", *rerun]
    log.parent.mkdir(parents=True, exist_ok=True)
    with held(run / ".lock") as lock, log.open("w", encoding="utf-8") as output:
        write_json(log.parent / "config.json", config)
        parent = int(os.environ.get(PARENT_ENV, os.getpid()))
        exit_with(parent)
        environment = {**os.environ, **writable_home(log.parent / "home"), PARENT_ENV: str(os.getpid())}
        process = subprocess.Popen(command, stderr=output, env=environment, pass_fds=[lock.fileno()])
        stopped = False
        while True:
            try:
                code = process.wait()
                return 130 if stopped else code
            except KeyboardInterrupt:
                if not is_alive(parent):  # make was killed: the notebook exits with this process
                    return 130
                stopped = True  # Snakemake got the signal too and ends its jobs


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--site", default="_build/html")
    parser.add_argument("--print", action="store_true", help="also write PDF, EPUB and slides; needs Chromium")
    parser.add_argument(
        "--first-pages", action="store_true", help="render the first chapters early, if no site is there"
    )
    parser.add_argument("--key", default="", help="yes: add a page with the solutions of all chapters, for teachers")
    parser.add_argument("--set", default="", metavar="'A.B=C …'", help="overrides of the profile")
    parser.add_argument("--rsna", default="", help="folder of the RSNA 2019 studies instead of phantoms")
    parser.add_argument("--ct-ich", default="", help="folder of the CT-ICH studies instead of phantoms")
    parser.add_argument("--train", default="", help="all: train every network, reuse none of a recorded run")
    parser.add_argument(
        "--take-from", default=str(BOOK / "recorded"), help="folder of recorded runs whose networks are reused"
    )
    arguments = parser.parse_args()
    try:
        profile = load_profile(arguments.profile, arguments.set.split())
        for training in profile.study.trainings:
            profile.variant(training)  # finds a mistake now instead of after hours
        if arguments.key not in ("", "yes"):
            raise InputError("KEY", arguments.key, "yes", "Leave it out for a site without the solutions' own page.")
        if arguments.train not in ("", "all"):
            remedy = "Leave it out to take networks from recorded runs."
            raise InputError("TRAIN", arguments.train, "all", remedy)
        if not arguments.take_from or not Path(arguments.take_from).is_dir():
            remedy = "Leave it out for those of the book; TRAIN=all trains every network."
            raise InputError("TAKE_FROM", arguments.take_from or "nothing", "a folder of recorded runs", remedy)
        check_raw("rsna", arguments.rsna)
        check_raw("ct-ich", arguments.ct_ich)
        if arguments.print and find_browser() is None:
            raise InputError("browser", "no Chromium", "one that prints the book", f"To get one, {INSTALL}.")
        run = Path(arguments.runs_dir) / profile.name
        log = run / "logs" / "snakemake.log"
        free = shutil.disk_usage(Path.cwd()).free / 2**30
        if free < 1:
            raise InputError("free disk space", f"{free:.1f} GiB", "at least 1 GiB", "Free some space.")
        code = snakemake(arguments, run, log)
    except InputError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 2
    except OSError as error:
        code, line = exit_line(error)
        print(f"✗ {line}", file=sys.stderr)
        return code
    if code == 130:
        print("✗ stopped; the same command resumes from here", file=sys.stderr)
        return code
    output = log.read_text(encoding="utf-8")
    page = Path(arguments.site) / "index.html"
    written = f"{page}, and beside it {', '.join(PRINTS)}" if arguments.print else page
    if code == 0 and NOTHING in output:
        print(f"Nothing to do: the book of profile {profile.name} is up to date: {written}")
    elif code == 0:
        print(f"The book of profile {profile.name} is ready: {written}")
    elif "Error in rule" not in output:
        print(f"✗ Snakemake failed; end of {log}:", *output.strip().splitlines()[-8:], sep="\n  ", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
