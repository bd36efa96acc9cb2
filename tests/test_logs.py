"""Log lines: they are JSON with fixed fields, and texts of other programs bring no secret into them."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loader import logs
from loader.server.log_handler import LogHandler
from loader.settings import Settings, variables
from loader.version import VERSION

LOGGERS = ("", "gunicorn.access", "gunicorn.error", "loader.audit")


@pytest.fixture
def configure() -> Iterator[Callable[[str], io.StringIO]]:
    """Yield a function that sets the log up for a LOG_LEVEL, and returns what is written from then on."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers[:], logger.level, logger.propagate, logger.filters[:]) for logger in loggers]

    def configured(level: str) -> io.StringIO:
        logging.config.dictConfig(logs.config(level, "device-7"))
        written = io.StringIO()
        collecting = logging.StreamHandler(written)
        for logger in loggers:
            (handler,) = logger.handlers
            assert isinstance(handler, LogHandler)
            collecting.setFormatter(handler.formatter)
            logger.handlers[:] = [collecting]
        return written

    yield configured
    for logger, (handlers, level, propagate, filters) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.level, logger.propagate, logger.filters[:] = handlers, level, propagate, filters


@pytest.fixture
def stream(configure: Callable[[str], io.StringIO]) -> io.StringIO:
    return configure("INFO")


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
    before = logs.Origin.current()
    with logs.Origin("r-1", "192.0.2.7").applied():
        written = logs.Audit("load", "day/m", 5, "1.4", "a@example.com").write("cut", "API_UNREACHABLE", "A reason.")
    line = only_line(stream)
    assert 0 <= line.pop("seconds") < 5
    assert {key: line[key] for key in line.keys() - {"timestamp", "logger", "message"}} == {
        "level": "WARNING",
        "request_id": "r-1",
        "device": "device-7",
        "event": "load",
        "outcome": "cut",
        "code": "API_UNREACHABLE",
        "reason": "A reason.",
        "user": "a@example.com",
        "client": "192.0.2.7",
        "file": "day/m",
        "version": "1.4",
        "bytes": 5,
    }
    assert written.items() >= {"event": "load", "user": "a@example.com", "request_id": "r-1"}.items()
    assert logs.Origin.current() == before


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_an_audit_line_is_written_at_every_level(configure: Callable[[str], io.StringIO], level: str) -> None:
    stream = configure(level)
    logs.Audit("login").write("ok")
    line = only_line(stream)
    assert (line["event"], line["level"], line["reason"]) == ("login", "INFO", None)


def test_the_start_line_has_version_settings_and_device(
    configure: Callable[[str], io.StringIO], tmp_path: Path
) -> None:
    stream = configure("CRITICAL")
    key = tmp_path / "signing.key"
    key.write_text("a private key")
    key.chmod(0o600)
    settings = Settings.from_env({"SIGNING_KEY": str(key), "EXPECTED_IMAGES": "a,b:1", "FETCH_AT": "02:30"})
    logs.start_line(VERSION, settings.told())
    line = only_line(stream)
    assert (line["event"], line["version"], line["device"]) == ("start", VERSION, "device-7")
    assert line["settings"].keys() == {variable.name for variable in variables().values()}
    told = {
        name: line["settings"][name] for name in ("API_VERSION", "SIGNING_KEY", "EXPECTED_IMAGES", "PUBLISHER_KEYS")
    }
    assert told == {"API_VERSION": "latest", "SIGNING_KEY": "set", "EXPECTED_IMAGES": "a,b:1", "PUBLISHER_KEYS": ""}
    assert "a private key" not in stream.getvalue()


def log_access(path: str, status: str) -> None:
    atoms = {
        "m": "GET",
        "U": path,
        "s": status,
        "B": 5,
        "L": "0.1",
        "h": "1.2.3.4",
        "r": f"GET {path}?token=planted-in-a-query HTTP/1.1",
    }
    logging.getLogger("gunicorn.access").info('%(h)s "%(r)s"', atoms)


@pytest.mark.parametrize(
    ("level", "path", "status", "written"),
    [
        ("INFO", "/health", "200", False),
        ("INFO", "/health", "500", True),
        ("INFO", "/health", "400", True),
        ("INFO", "/healthy", "404", True),
        ("INFO", "/status", "200", True),
        ("DEBUG", "/health", "200", True),
        ("WARNING", "/status", "200", False),
    ],
)
def test_a_good_probe_has_no_access_line(
    configure: Callable[[str], io.StringIO], level: str, path: str, status: str, written: bool
) -> None:
    stream = configure(level)
    log_access(path, status)
    assert bool(stream.getvalue()) == written


def test_an_access_line_has_the_path_without_its_query(stream: io.StringIO) -> None:
    log_access("/x", "200")
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


def test_the_http_libraries_never_log_at_debug(configure: Callable[[str], io.StringIO]) -> None:
    stream = configure("DEBUG")
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
