"""Gate: the field's words. A short list of phrases that readers would not search for, and what to say instead.

python ci/check_language.py
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PHRASES = {
    r"drawn": "annotated (by a person), sampled (at random), shown",
    r"outlines?|outlined": "mask, annotation, contour",
    r"rivals?": "baseline, other methods",
    r"elsewhere": "external validation, in other places",
    r"home and away": "domain shift",
    r"mend(?:ed|s|ing)?": "fix",
    r"(?:made|make|making|begin|begun) anew": "rerun, start again",
    r"as young as": "up to date",
    r"nobody said|said of no type": "not annotated",
    r"said to bleed|says? to bleed": "predicted bleeding",
    r"an? (?:row|line|column|task|method|seed|fold|array|file|point) an? \w+": "one … per …",
    r"(?:ms|images|slices|steps|seconds|MB|GFLOP) an? (?:slice|image|second|step|scan|core-second)": "… per …",
    r"it travels|travels? to": "generalises",
    r"bent grey values|grey values bent": "gamma transform",
    r"asked for too little|wanted and got": "target",
    r"learns? to say nothing": "predicts all background",
    r"teach(?:es)? (?:the|a) network": "train",
    r"the floors?|a (?:weak )?floor": "threshold baseline",
}
NAMES = re.compile(  # of formats and of other libraries, which stay
    r"""["']mended["']|\bmended=|["']outline["']|/Outlines\b|\.outline\b|`elsewhere`"""
)
SUFFIXES = {".py", ".md", ".ipynb", ".yaml", ".yml", ".toml", ".cff", ".sh", ""}
LEFT_OUT = ("LICENSE", "requirements.lock", "ci/check_language.py", "tests/ci/test_check_language.py", "book/recorded/")
PATTERNS = {re.compile(rf"(?<![\w-])(?:{phrase})(?![\w-])", re.IGNORECASE): say for phrase, say in PHRASES.items()}


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """Place and text of every line of a file; of a notebook, those of its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        yield from ((str(number), line) for number, line in enumerate(text.splitlines(), start=1))
        return
    for index, cell in enumerate(json.loads(text)["cells"]):
        yield from ((f"cell {index}", line) for line in "".join(cell["source"]).splitlines())


def problems(path: Path) -> Iterator[str]:
    """Banned phrases of a file, with their place and what to say instead."""
    for place, line in lines_of(path):
        for pattern, say in PATTERNS.items():
            if found := pattern.search(NAMES.sub("", line)):
                yield f"{place}: “{found[0]}”; say: {say}"


def main() -> int:
    """Command line."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split("\0") if name and not name.startswith(LEFT_OUT)]
    paths = [ROOT / name for name in names if Path(name).suffix in SUFFIXES and (ROOT / name).is_file()]
    found = [f"{path.relative_to(ROOT)}:{problem}" for path in paths for problem in problems(path)]
    print(*found, sep="\n", end="\n" if found else "")
    print(f"check_language: {f'{len(found)} problems' if found else 'ok'}, {len(paths)} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
