"""`python -m tools.openapi` writes the description into the package, from where the loader serves it."""

from __future__ import annotations

from loader.web.description import DOCUMENT_PATH

from .document import document_text


def main() -> None:
    """Write the file."""
    DOCUMENT_PATH.write_text(document_text())
    print(f"{DOCUMENT_PATH} is written")


if __name__ == "__main__":
    main()
