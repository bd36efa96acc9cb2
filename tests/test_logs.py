"""Log lines: they are JSON with fixed fields, and texts of other programs bring no secret into them."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest

from loader import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    logging.config.dictConfig(logs.config("INFO"))
    written = io.StringIO()
    for name in ("", "gunicorn.access", "gunicorn.error"):
        for handler in logging.getLogger(name).handlers:
            assert isinstance(handler, logging.StreamHandler)
            handler.setStream(written)
    yield written
    root.handlers[:], root.level = before
    for name in ("gunicorn.access", "gunicorn.error"):
        logging.getLogger(name).handlers.clear()


def only_line(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    return dict(json.loads(line))


def test_a_line_has_the_fixed_fields(stream: io.StringIO) -> None:
    with logs.request_id("r-1"):
        logging.getLogger("x").warning("one\ntwo")
    line = only_line(stream)
    assert list(line)[:5] == ["timestamp", "level", "logger", "message", "request_id"]
    assert (line["level"], line["logger"], line["message"], line["request_id"]) == ("WARNING", "x", "one\ntwo", "r-1")


def test_an_audit_line_has_its_own_fields(stream: io.StringIO) -> None:
    logs.audit("load", "cut", code="API_UNREACHABLE", file="day/m", size=5, seconds=1.23456)
    line = only_line(stream)
    fields = {key: line[key] for key in ("event", "outcome", "code", "file", "bytes", "seconds")}
    assert fields == {
        "event": "load",
        "outcome": "cut",
        "code": "API_UNREACHABLE",
        "file": "day/m",
        "bytes": 5,
        "seconds": 1.235,
    }


def test_an_access_line_has_the_path_without_its_query(stream: io.StringIO) -> None:
    atoms = {
        "m": "GET",
        "U": "/x",
        "s": "200",
        "B": 5,
        "L": "0.1",
        "h": "1.2.3.4",
        "r": "GET /x?token=planted-in-a-query HTTP/1.1",
    }
    logging.getLogger("gunicorn.access").info('%(h)s "%(r)s"', atoms)
    line = only_line(stream)
    assert line["message"] == "GET /x 200"
    assert "planted-in-a-query" not in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("GET https://cdn/x?sig=TOPSECRET failed", "GET https://cdn/x?[redacted] failed"),
        ("Authorization: Bearer TOPSECRET.abc-_~+/=", "Authorization: Bearer [redacted]"),
        ("Authorization: Basic TOPSECRET==", "Authorization: Basic [redacted]"),
    ],
)
def test_text_that_looks_like_a_secret_is_redacted(stream: io.StringIO, text: str, kept: str) -> None:
    logging.getLogger("x").error("%s", text)
    assert only_line(stream)["message"] == kept


def test_a_traceback_is_one_line_and_redacted(stream: io.StringIO) -> None:
    try:
        raise ValueError("at https://cdn/x?sig=TOPSECRET")  # noqa: TRY301  # The test needs the traceback.
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert "ValueError" in only_line(stream)["exc_info"]
    assert "TOPSECRET" not in stream.getvalue()


def test_the_http_libraries_never_log_at_debug(stream: io.StringIO) -> None:
    logging.config.dictConfig(logs.config("DEBUG"))
    assert not logging.getLogger("urllib3.connectionpool").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("docker.utils.config").isEnabledFor(logging.DEBUG)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("proposed", ["a", "0f-A_.", "x" * 128])
def test_a_valid_request_id_is_kept(proposed: str) -> None:
    assert logs.sane_request_id(proposed) == proposed


@pytest.mark.parametrize("proposed", [None, "", "x" * 129, "a b", "a\n", "é", '"'])
def test_an_invalid_request_id_is_replaced(proposed: str | None) -> None:
    made = logs.sane_request_id(proposed)
    assert made != proposed
    assert len(made) == 32
