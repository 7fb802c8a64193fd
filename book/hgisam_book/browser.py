"""Settings for pages opened in headless Chromium, to check, capture and print them."""

ARGUMENTS = ("--no-sandbox", "--disable-gpu")  # the pages are our own, and containers lack a sandbox
UNFOLD = "() => document.querySelectorAll('details').forEach((details) => { details.open = true; })"


def theme_script(theme: str) -> str:
    """JavaScript that opens a page in the theme "light" or "dark", as if the reader had selected it before."""
    return f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
