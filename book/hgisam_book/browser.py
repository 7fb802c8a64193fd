"""How pages are opened in a Chromium: checked, photographed and printed."""

ARGUMENTS = ("--no-sandbox", "--disable-gpu")  # pages are our own, and containers know no sandbox
UNFOLD = "() => document.querySelectorAll('details').forEach((hidden) => { hidden.open = true; })"


def in_theme(theme: str) -> str:
    """A script by which a page opens in a theme, "light" or "dark", as if its button had been pressed before."""
    return f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
