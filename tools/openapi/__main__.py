"""`python -m tools.openapi` writes the description into the package, from where the loader serves it."""

from __future__ import annotations

from loader.web.page import OPENAPI_PATH

from .document import document_text


def main() -> None:
    """Write the file."""
    OPENAPI_PATH.write_text(document_text())
    print(f"{OPENAPI_PATH} is written")


if __name__ == "__main__":
    main()
