"""Problems: the status of each code, its meaning, and an example of its response."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from loader.errors import BY_CODE, CallerError, LoaderError, TooEarly
from loader.web.replies import STATUS_BY_CODE, title_of
from loader.web.service_schemas import Problem

WITH_RETRY_AFTER = frozenset(code for code, kind in BY_CODE.items() if issubclass(kind, TooEarly))

# What Flask itself refuses has the name of its HTTP status as its code.
FLASK_MEANINGS = {
    "NOT_FOUND": "There is no such path.",
    "METHOD_NOT_ALLOWED": "The path does not support this method.",
}

_WITH_ERRORS = "VALIDATION_FAILED"
_RANGE = "RANGE_NOT_SATISFIABLE"


def status_of(code: str) -> int:
    """Return the HTTP status of `code`. Raises KeyError for a code that does not exist."""
    return STATUS_BY_CODE[code] if code in STATUS_BY_CODE else HTTPStatus[code].value


def meaning_of(code: str) -> str:
    """Return the meaning of `code`, which is the first paragraph of its error's docstring."""
    return FLASK_MEANINGS[code] if code in FLASK_MEANINGS else _first_paragraph(BY_CODE[code])


def responses(codes: Iterable[str]) -> dict[str, Any]:
    """Return the responses that have these codes, by status."""
    by_status: dict[int, list[str]] = {}
    for code in sorted(set(codes)):
        by_status.setdefault(status_of(code), []).append(code)
    return {str(status): _response(found) for status, found in sorted(by_status.items())}


def example(code: str) -> dict[str, Any]:
    """Return a response with this code."""
    meaning = meaning_of(code)
    status = status_of(code)
    document = {
        "title": title_of(status),
        "status": status,
        "detail": meaning,
        "code": code,
        "retryable": code in BY_CODE and BY_CODE[code].retryable,
        "hint": BY_CODE[code].hint if code in BY_CODE else CallerError.hint,
    }
    if code == _WITH_ERRORS:
        document["errors"] = {"filename": ["Missing data for required field."]}
    return {"summary": meaning, "value": document}


def _response(codes: list[str]) -> dict[str, Any]:
    narrowed: dict[str, Any] = {"properties": {"code": {"enum": codes}}}
    if codes == [_WITH_ERRORS]:
        narrowed["required"] = ["errors"]
    response: dict[str, Any] = {
        "description": " ".join(f"`{code}`: {meaning_of(code)}" for code in codes),
        "content": {
            "application/problem+json": {
                "schema": {"allOf": [Problem, narrowed]},
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
            }
        },
    }
    if codes == [_RANGE]:
        response["headers"] = {
            "Content-Range": {
                "description": "`bytes */` and the size of the model.",
                "required": True,
                "schema": {"type": "string"},
            }
        }
    if WITH_RETRY_AFTER.intersection(codes):
        response["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait before the same request is sent again.",
                "required": WITH_RETRY_AFTER.issuperset(codes),
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return response


def _first_paragraph(kind: type[LoaderError]) -> str:
    return " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
