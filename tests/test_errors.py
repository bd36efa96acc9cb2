"""The exception tree, its drawing, and the one table of statuses."""

from __future__ import annotations

import re

from loader import errors
from loader.errors import LoaderError, LoaderProblem
from loader.web.replies import STATUS_BY_CODE

FAMILIES = {"CallerError", "ApiFault", "ArchiveFault", "DeviceFault", "CommandFault"}
# What no request is answered with.
OF_COMMANDS = {"ImageNotFound", "LoaderUnreachable", "LoaderProblem", "AnswerCut"}


def subclasses(kind: type[LoaderError]) -> set[type[LoaderError]]:
    direct = {cls for cls in kind.__subclasses__() if cls.__module__ == errors.__name__}
    return direct.union(*(subclasses(cls) for cls in direct))


LEAVES = {cls for cls in subclasses(LoaderError) if cls.__name__ not in FAMILIES}


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in LEAVES - {LoaderProblem}]
    assert len(set(codes)) == len(codes)
    assert LoaderError.code not in codes


def test_a_code_is_the_name_of_its_class() -> None:
    for cls in LEAVES - {LoaderProblem}:
        assert cls.code == re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper()


def test_every_code_has_a_status_and_every_status_a_code() -> None:
    assert STATUS_BY_CODE.keys() == {cls.code for cls in LEAVES if cls.__name__ not in OF_COMMANDS} | {LoaderError.code}


def test_the_drawing_shows_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert set(drawn) == {cls.__name__ for cls in subclasses(LoaderError)}


def test_each_error_stands_under_one_family() -> None:
    for cls in LEAVES:
        assert {base.__name__ for base in cls.__mro__} & FAMILIES, cls
