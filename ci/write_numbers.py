"""Write the numbers of README and "What was tried" from the recorded run, so that no number is typed.

python ci/write_numbers.py            writes them
python ci/write_numbers.py --check    gate: an error for each page that differs
"""

import argparse
import sys
from pathlib import Path

from hgisam.errors import InputError
from hgisam.runs.files import read_json
from hgisam_book import headline
from hgisam_book.ledger import read_summary

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "book" / "recorded"
RUN = RECORDED / "laptop-2-cores"
PAGES = (ROOT / "README.md", *(ROOT / "book" / f"{name}.md" for name in ("what_we_found", "what_was_tried")))


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    try:
        summary = read_summary(RUN)
        blocks = {
            "results": headline.results(summary),
            "targets": headline.targets(summary),
            "findings": headline.findings(summary),
            "real heads": headline.real_heads(read_json(RECORDED / "real_heads.json")),
        }
        stale = []
        for page in PAGES:
            text = page.read_text(encoding="utf-8")
            filled = headline.fill(text, blocks, page=page.name)
            if filled != text:
                stale.append(page.name)
                if not check:
                    page.write_text(filled, encoding="utf-8")
    except InputError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 2
    if check and stale:
        remedy = "run ci/write_numbers.py"
        print(f"✗ {', '.join(stale)}: other numbers than in {RUN.relative_to(ROOT)}; {remedy}", file=sys.stderr)
        return 1
    print(f"✓ numbers of {len(PAGES)} pages are those of the recorded run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
