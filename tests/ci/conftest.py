"""The gates and the book's scripts are programs, not a package: put their folders on the path."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in ("ci", "book", "book/_ext"):
    if str(ROOT / folder) not in sys.path:
        sys.path.append(str(ROOT / folder))
