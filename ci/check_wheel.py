"""Gate: the wheel holds everything, and makes maps in an environment with the core dependencies alone.

python ci/check_wheel.py
"""

import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))

from build_wheel import PACKAGES, build_wheel  # noqa: E402

EXTRA = "hgisam[train]"
LIGHT = """
import sys
import hgisam
heavy = sorted({"torch", "pandas"} & set(sys.modules))
if heavy:
    sys.exit(f"it imports {' and '.join(heavy)}")
"""
MAP = """
import sys
import torch
from timm.models.swin_transformer import SwinTransformer
from hgisam import hgi_sam

torch.manual_seed(0)
swin = SwinTransformer(img_size=32, patch_size=2, window_size=2, embed_dim=16, depths=(2, 2, 2, 2),
                       num_heads=(1, 2, 2, 4), num_classes=3).eval()
maps = hgi_sam(swin, torch.randn(2, 3, 32, 32), target=1)
if maps.shape != (2, 32, 32) or not maps.isfinite().all() or maps.min() < 0 or maps.max() > 1 or maps.max() == 0:
    sys.exit(f"a map [{', '.join(map(str, maps.shape))}] between {maps.min():.3g} and {maps.max():.3g}")
"""
PROFILE = """
import sys
try:
    from hgisam import load_profile
except ImportError as error:
    sys.exit(str(error))
"""


def missing_files(wheel: Path, root: Path) -> Iterator[str]:
    """Files of the packages that the wheel lacks: modules, profiles, checkpoints."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    for package, folder in PACKAGES.items():
        for path in sorted((root / folder).rglob("*")):
            name = PurePosixPath(package, path.relative_to(root / folder).as_posix())
            hidden = any(part == "__pycache__" or part.startswith(".") for part in name.parts)
            if path.is_file() and not hidden and str(name) not in held:
                yield f"the wheel lacks {name}"


def core_requirements(wheel: Path) -> list[Requirement]:
    """Dependencies of a wheel without its extras."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    requirements = map(Requirement, metadata.get_all("Requires-Dist", []))
    return [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]


def closure(requirements: list[Requirement]) -> dict[str, Distribution]:
    """Name → distribution of all that some requirements need, as installed in the running environment.

    Raises:
        RuntimeError: If one isn't installed.
    """
    found: dict[str, Distribution] = {}
    waiting, seen = list(requirements), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for other, extra in seen if other == name}:
            seen.add((name, extra))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                raise RuntimeError(f"{name}, which the core needs, is not installed here") from None
            needed = map(Requirement, found[name].requires or ())
            waiting += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})]
    return found


def link(installed: dict[str, Distribution], site: Path) -> None:
    """Links distributions into another site-packages; a folder that others share with them is linked in parts."""
    shared = {
        parent
        for other in distributions()
        if canonicalize_name(other.name) not in installed
        for file in other.files or ()
        for parent in file.parents
    }
    for each in installed.values():
        for file in each.files or ():
            if ".." in file.parts:  # programs
                continue
            part = next(part for part in (*reversed(file.parents), file) if part.parts and part not in shared)
            target = site / part
            if part.name != "__pycache__" and not target.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(Path(str(each.locate_file(part))))


def core_problems(wheel: Path, folder: Path) -> list[str]:
    """Problems of a wheel that is installed with its core dependencies alone into a new environment."""
    venv.create(folder, with_pip=False, symlinks=True)
    paths = {name: sysconfig.get_path(name, "venv", {"base": str(folder)}) for name in ("purelib", "scripts")}
    python, program = Path(paths["scripts"], "python"), Path(paths["scripts"], "hgisam")
    link(closure(core_requirements(wheel)), Path(paths["purelib"]))
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet")
    _run(*pip, "--disable-pip-version-check", "--no-deps", "--no-index", "--no-compile", str(wheel))
    found = []
    for what, code in {"import hgisam": LIGHT, "a map of a Swin": MAP}.items():
        result = _try(folder, python, "-I", "-c", code)
        if result.returncode:
            found.append(f"{what}: {_last(result)}")
    refusals = {
        "hgisam train": (2, _try(folder, program, "train")),
        "from hgisam import load_profile": (1, _try(folder, python, "-I", "-c", PROFILE)),
    }
    for what, (expected, result) in refusals.items():
        said = (result.stdout + result.stderr).strip()
        if result.returncode != expected or EXTRA not in said or "\n" in said:
            found.append(f"{what}: exit code {result.returncode}, expected {expected} and a line with {EXTRA}: {said}")
    return found


def _try(folder: Path, *command: Path | str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command[1:4])} failed: {_last(result)}")


def _last(result: subprocess.CompletedProcess[str]) -> str:
    return ((result.stderr or result.stdout).strip().splitlines() or [f"exit code {result.returncode}"])[-1]


def main() -> int:
    """Command line."""
    with tempfile.TemporaryDirectory(prefix="check_wheel-") as temporary:
        folder = Path(temporary)
        try:
            wheel = build_wheel(ROOT, folder)
            found = [*missing_files(wheel, ROOT), *core_problems(wheel, folder / "environment")]
        except RuntimeError as error:
            found = [str(error)]
    print(*found, sep="\n", end="\n" if found else "")
    print(f"check_wheel: {f'{len(found)} problems' if found else 'ok'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
