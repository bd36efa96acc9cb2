"""`python -m tools.openapi` writes openapi.json, which the loader serves, and the tables of error codes in docs/."""

from __future__ import annotations

from loader.web.page import OPENAPI_PATH

from .document import document_text
from .tables import tables, with_table


def main() -> None:
    """Write the files."""
    OPENAPI_PATH.write_text(document_text())
    for path, table in tables().items():
        path.write_text(with_table(path.read_text(), table))
    print(*(f"{path} is written" for path in (OPENAPI_PATH, *tables())), sep="\n")


if __name__ == "__main__":
    main()
