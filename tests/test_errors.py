"""The errors: their families, their codes, and the files that must list each code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loader import errors
from loader.errors import BY_CODE, CommandFault, ImageNotFound, LoaderError, LoaderProblem, hint_of, kind_of
from loader.web.replies import STATUS_BY_CODE
from tools.openapi import tables
from tools.openapi.document import application, codes_of
from tools.openapi.operations import UNLOCK_CODES
from tools.openapi.problems import meaning_of

FAMILIES = {"CallerError", "ApiFault", "ArchiveFault", "DeviceFault", "CommandFault"}
BASES = FAMILIES | {"TooEarly"}
CLI_MANUAL = Path(__file__).parents[1] / "docs" / "cli.md"


def subclasses(kind: type[LoaderError]) -> set[type[LoaderError]]:
    direct = {cls for cls in kind.__subclasses__() if cls.__module__ == errors.__name__}
    return direct.union(*(subclasses(cls) for cls in direct))


LEAVES = {cls for cls in subclasses(LoaderError) if cls.__name__ not in BASES}
HTTP_CODES = {
    code for code, kind in BY_CODE.items() if not issubclass(kind, CommandFault) and not issubclass(kind, ImageNotFound)
}


def places() -> dict[str, set[str]]:
    """Return the codes in each file, by the file's name. Each file must have every code of an HTTP response."""
    exit_codes = re.findall(r"^\| \d \|[^|]*\| ([A-Z_, ]*) \|$", CLI_MANUAL.read_text(), re.MULTILINE)
    manuals = tables.HTTP_API.read_text() + tables.OPERATIONS_MANUAL.read_text()
    return {
        "loader/web/replies.py (STATUS_BY_CODE)": set(STATUS_BY_CODE),
        "tools/openapi/operations.py": codes_of(application()) | set(UNLOCK_CODES),
        "docs/http-api.md or docs/operations.md": set(re.findall(r"^\| ([A-Z_]+) \|", manuals, re.MULTILINE)),
        "docs/cli.md (exit codes)": {code for row in exit_codes for code in row.split(", ")},
    }


def test_each_file_lists_every_code() -> None:
    missing = [f"{file} lacks {code}" for file, codes in places().items() for code in sorted(HTTP_CODES - codes)]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("path", list(tables.tables()), ids=lambda path: path.name)
def test_the_table_in_each_document_is_generated_from_the_code(path: Path) -> None:
    text = path.read_text()
    assert text == tables.with_table(text, tables.tables()[path]), "run python -m tools.openapi"


def test_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        tables.with_table("no table here", "| a |")


def test_every_error_has_a_meaning_and_a_hint() -> None:
    for code, kind in BY_CODE.items():
        assert re.fullmatch(r"[A-Z].*\.", meaning_of(code)), code
        assert kind.hint.endswith("."), code


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in LEAVES - {LoaderProblem}]
    assert len(set(codes)) == len(codes)
    assert LoaderError.code not in codes
    assert set(codes) | {LoaderError.code} == set(BY_CODE)


def test_a_code_is_the_name_of_its_class() -> None:
    for cls in LEAVES - {LoaderProblem}:
        assert cls.code == re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper()


def test_every_code_has_a_status_and_every_status_a_code() -> None:
    assert STATUS_BY_CODE.keys() == HTTP_CODES


def test_only_classes_of_loader_errors_are_found_by_their_code() -> None:
    class Foreign(LoaderError):
        code = "FOREIGN"

    assert kind_of(Foreign.code) is None
    assert hint_of(Foreign.code) == ""
    for code, kind in BY_CODE.items():
        assert kind_of(code) is kind
        assert hint_of(code) == kind.hint


def test_each_error_belongs_to_one_family() -> None:
    for cls in LEAVES:
        assert len({base.__name__ for base in cls.__mro__} & FAMILIES) == 1, cls
