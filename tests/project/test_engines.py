"""The table of engines in docs/operations.md against the engines that the tests can start."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.engine_kinds import KINDS

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
ROW = re.compile(
    r"^\| ((?:Docker|podman) \d+\.\d+) \| (\w+)[^|]* \| `(\w+)`: the package of (Debian \d+) \|", re.MULTILINE
)


def rows(text: str) -> dict[str, tuple[str, str, str]]:
    """Return version, store and origin of each engine that the table calls tested, by its fixture."""
    found = ROW.findall(text)
    assert len({fixture for _, _, fixture, _ in found}) == len(found)
    return {fixture: (version, store, origin) for version, store, fixture, origin in found}


def test_the_table_names_exactly_the_engines_of_the_tests() -> None:
    assert rows(TEXT).keys() == KINDS.keys()


def test_the_versions_and_stores_are_those_of_the_kinds() -> None:
    newer = {name: kind.title for name, kind in KINDS.items() if any(map(str.isdigit, kind.title))}
    assert {name for name, row in rows(TEXT).items() if row[2] == "Debian 13"} == newer.keys()
    for name, title in newer.items():
        version, store, _ = rows(TEXT)[name]
        assert title in (f"{version} with the {store} store", version)


def test_a_row_that_is_missing_is_noticed() -> None:
    less = re.sub(r"^.*`podman_5`: the package.*\n", "", TEXT, flags=re.MULTILINE)
    assert rows(less).keys() == KINDS.keys() - {"podman_5"}
