"""Where a Chromium is: pages are checked, photographed and printed with it."""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL = "install it (Debian, Ubuntu: apt install chromium) or run .venv/bin/playwright install chromium"
ARGUMENTS = ("--no-sandbox", "--disable-gpu")  # pages are our own, and containers know no sandbox


def find_browser() -> str | None:
    """Path of an installed Chromium: of the system, or playwright's own; None where there is none."""
    for name in PROGRAMS:
        if program := shutil.which(name):
            return program
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).is_file() else None
