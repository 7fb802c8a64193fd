"""Where a Chromium is: pages are checked, photographed and printed with it."""

import shutil
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL = "install it (Debian, Ubuntu: apt install chromium) or run .venv/bin/playwright install chromium"
ARGUMENTS = ("--no-sandbox", "--disable-gpu")  # pages are our own, and containers know no sandbox
UNFOLD = "() => document.querySelectorAll('details').forEach((hidden) => { hidden.open = true; })"


def find_browser() -> str | None:
    """Path of an installed Chromium: of the system, or playwright's own; None where there is none."""
    for name in PROGRAMS:
        if program := shutil.which(name):
            return program
    from playwright.sync_api import sync_playwright  # takes a while; most machines have their own

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).is_file() else None


def in_theme(theme: str) -> str:
    """A script by which a page opens in a theme, "light" or "dark", as if its button had been pressed before."""
    return f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
