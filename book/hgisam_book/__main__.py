"""The program `hgisam-book`."""

from hgisam.__main__ import run


def main() -> None:
    """`hgisam-book`."""
    run("hgisam-book", "hgisam_book.cli", "book")


if __name__ == "__main__":
    main()
