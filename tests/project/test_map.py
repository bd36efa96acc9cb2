"""The map that opens docs/how-it-works.md: it names every Python file of `loader/` once, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADER = ROOT / "loader"
DOCUMENT = (ROOT / "docs" / "how-it-works.md").read_text()


def map_of(document: str) -> dict[str, str]:
    """Return the map as {path below `loader/`: description}; a folder's path ends in `/`.

    The map is the first code block of the document. Its first line is `loader/`. A line is a name, two spaces or more,
    and a description; the files of a folder stand below it, indented by two further spaces. Raises ValueError for any
    other line and for a name that stands there twice.
    """
    block = re.search(r"^```\nloader/\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    if block is None:
        raise ValueError("the document has no map")
    found: dict[str, str] = {}
    folder = ""
    for line in block[1].splitlines():
        parts = re.fullmatch(r"( {2}| {4})(\w+(?:/|\.py)) {2,}(\S.*)", line)
        if parts is None:
            raise ValueError(f"this is no line of a map: {line}")
        indent, name, description = parts.groups()
        if name.endswith("/"):
            folder = name
        elif indent == "  ":
            folder = ""
        path = name if name.endswith("/") else folder + name
        if path in found or (len(indent) == 4) != (bool(folder) and not name.endswith("/")):
            raise ValueError(f"this is at the wrong place or a second time in the map: {line}")
        found[path] = description
    return found


def tree_of(package: Path) -> set[str]:
    """Return the paths of the Python files below `package`, and of their folders, which end in `/`."""
    files = [path.relative_to(package) for path in package.rglob("*.py")]
    folders = {f"{parent}/" for path in files for parent in path.parents if parent != Path()}
    return {str(path) for path in files} | folders


def test_the_map_is_that_of_the_tree() -> None:
    named, there = map_of(DOCUMENT).keys(), tree_of(LOADER)
    assert {"missing in the map": there - named, "missing in the tree": named - there} == {
        "missing in the map": set(),
        "missing in the tree": set(),
    }


def test_the_map_opens_the_document() -> None:
    text_before = DOCUMENT.partition("```\nloader/\n")[0]
    assert "```" not in text_before
    assert text_before.count("\n## ") <= 1


@pytest.mark.parametrize("heading", ["One load, file by file", "One unlock, file by file"])
def test_the_ways_name_files_of_the_map_only(heading: str) -> None:
    section = re.search(rf"^## {heading}\n(.*?)^## ", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert section is not None
    named = set(re.findall(r"`([\w/]+\.py)`", section[1]))
    assert len(named) > 8
    assert named - map_of(DOCUMENT).keys() - {"wsgi.py", "gunicorn.conf.py"} == set()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "web").mkdir()
    for path in ("__init__.py", "app.py", "web/__init__.py", "web/page.py", "web/page.css"):
        (tmp_path / path).write_text("")
    return tmp_path


LINES = (
    "  __init__.py  the package",
    "  app.py       puts it together",
    "  web/         HTTP",
    "    __init__.py  nothing",
    "    page.py      the page",
)


def document_of(*lines: str) -> str:
    return "\n".join(["# Title", "", "```", "loader/", *lines, "```", ""])


def test_a_whole_map_is_that_of_its_tree(package: Path) -> None:
    assert map_of(document_of(*LINES)).keys() == tree_of(package)


@pytest.mark.parametrize("number", range(len(LINES)))
def test_a_map_without_one_line_is_noticed(package: Path, number: int) -> None:
    fewer = [line for place, line in enumerate(LINES) if place != number]
    try:
        assert map_of(document_of(*fewer)).keys() != tree_of(package)
    except ValueError:
        assert LINES[number].strip().startswith("web/")  # its files are indented below no folder


@pytest.mark.parametrize("extra", ["    absent.py  no such file", "  absent/  no such folder"])
def test_a_map_with_one_line_more_is_noticed(package: Path, extra: str) -> None:
    assert map_of(document_of(*LINES, extra)).keys() != tree_of(package)


@pytest.mark.parametrize(
    "line",
    [
        "  app.py  a second time",
        "    page.py  a second time",
        "  undescribed.py",
        "  page.css  no Python file",
        "      deep.py  too far to the right",
        "    inner/  a folder in a folder",
        "",
    ],
)
def test_a_line_that_is_none_of_a_map_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="map"):
        map_of(document_of(*LINES, line))


def test_a_document_without_a_map_is_refused() -> None:
    with pytest.raises(ValueError, match="no map"):
        map_of("# Title\n\n```\nsomething else\n```\n")
