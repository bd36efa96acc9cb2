"""One audit line for each login, load, upload and refused unlock, however it ends."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from loader.last_events import NAME
from loader.settings import variables
from loader.version import VERSION
from tests.support.http_calls import CREDENTIALS, Reply, call, form, load, login, part, post_form, post_json, upload
from tests.support.loads import get_status
from tests.support.sites import Site, bare_site

SIZE = 3_000_000
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def audited(site: Site, event: str, request: Callable[[], Reply]) -> dict[str, Any]:
    """Return the one audit line of `request`, after checks that hold for every line."""
    before = len(site.audit_lines())
    reply = request()
    line = site.next_audit_line(event, len([line for line in site.audit_lines()[:before] if line["event"] == event]))
    assert len(site.audit_lines()) == before + 1
    assert {"timestamp", "level", "logger", "message", "request_id"} <= set(line)
    assert line["request_id"] == reply.headers["X-Request-ID"]
    assert line["event"] == event
    assert 0 <= line["seconds"] < 30
    return line


def ended(line: dict[str, Any]) -> tuple[object, ...]:
    """How an audit line describes the end of a request."""
    return line["outcome"], line["code"], line["file"], line["bytes"]


def test_a_success_is_audited_with_name_and_size(site: Site) -> None:
    assert ended(audited(site, "login", lambda: login(site.url))) == ("ok", None, None, None)
    line = audited(site, "upload", lambda: upload(site.url, "audited", "x", bytes(SIZE)))
    assert ended(line) == ("ok", None, "audited/x", SIZE)
    assert ended(audited(site, "load", lambda: load(site.url, "audited", "x"))) == ("ok", None, "audited/x", SIZE)
    line = audited(site, "upload", lambda: upload(site.url, "", "empty", b"", file_first=True))
    assert ended(line) == ("ok", None, "empty", 0)
    assert ended(audited(site, "load", lambda: load(site.url, "", "empty"))) == ("ok", None, "empty", 0)


@pytest.mark.parametrize(
    ("event", "code", "file", "request_"),
    [
        ("login", "LOGIN_REJECTED", None, lambda url: login(url, {**CREDENTIALS, "password": "wrong"})),
        (
            "login",
            "NOT_JSON",
            None,
            lambda url: call(url, "POST", "/login", b"{", {"Content-Type": "application/json"}),
        ),
        ("login", "UNSUPPORTED_MEDIA_TYPE", None, lambda url: call(url, "POST", "/login")),
        ("load", "RESOURCE_NOT_FOUND", "m/nothing", lambda url: load(url, "m", "nothing")),
        ("load", "VALIDATION_FAILED", "x", lambda url: load(url, "..", "x")),
        ("upload", "VALIDATION_FAILED", "x", lambda url: post_form(url, "/upload/x", form(part("folder", b"m")))),
        ("upload", "LENGTH_REQUIRED", "x", lambda url: call(url, "POST", "/upload/x", iter([form()]), FORM)),
    ],
)
def test_a_failure_is_audited_with_its_code(
    site: Site, event: str, code: str, file: str | None, request_: Callable[[str], Reply]
) -> None:
    assert ended(audited(site, event, lambda: request_(site.url))) == ("failed", code, file, None)


@pytest.mark.parametrize(
    ("code", "document"), [("ARCHIVE_NOT_FOUND", CREDENTIALS), ("VALIDATION_FAILED", {"email": "e"})]
)
def test_a_refused_unlock_is_audited(site: Site, code: str, document: object) -> None:
    line = audited(site, "unlock", lambda: post_json(site.url, "/unlock", document))
    assert ended(line) == ("failed", code, str(site.models.parent / "images.enc"), None)


REFUSED_BY_THE_GUARD = {
    "UNTRUSTED_HOST": {"Host": "evil.example"},
    "CROSS_ORIGIN": {"Origin": "http://evil.example"},
}
AUDITED = {
    "/login": "login",
    "/lock": "lock",
    "/load/x": "load",
    "/upload/x": "upload",
    "/unlock": "unlock",
    "/unlock/back": "back",
    "/images/fetch": "fetch",
    "/images/fetch/cancel": "cancel",
    "/unlock/cancel": "cancel",
}


@pytest.mark.parametrize("code", REFUSED_BY_THE_GUARD)
@pytest.mark.parametrize("path", AUDITED)
def test_a_request_that_is_refused_before_its_view_is_audited(site: Site, path: str, code: str) -> None:
    line = audited(site, AUDITED[path], lambda: call(site.url, "POST", path, b"", REFUSED_BY_THE_GUARD[code]))
    assert (line["outcome"], line["code"], line["client"]) == ("failed", code, "127.0.0.1")


def test_a_line_says_who_from_where_and_on_which_device(site: Site) -> None:
    line = audited(site, "login", lambda: login(site.url))
    assert (line["user"], line["client"]) == (CREDENTIALS["email"], "127.0.0.1")
    assert line["device"] == get_status(site.url)["device"] != ""
    assert (line["version"], line["reason"]) == (None, None)
    requests: dict[str, Callable[[], Reply]] = {
        "load": lambda: load(site.url, "m", "nothing"),
        "upload": lambda: upload(site.url, "audited", "who", b"x"),
        "cancel": lambda: call(site.url, "POST", "/images/fetch/cancel"),
        "lock": lambda: call(site.url, "POST", "/lock"),
    }
    for event, request in requests.items():
        line = audited(site, event, request)
        assert (line["user"], line["client"]) == (CREDENTIALS["email"], "127.0.0.1"), event
    assert audited(site, "lock", requests["lock"])["user"] is None
    assert login(site.url).status == HTTPStatus.OK


def test_the_first_line_of_a_loader_says_what_starts(site: Site) -> None:
    (line,) = site.audit_lines("start")
    assert (line["version"], line["device"]) == (VERSION, get_status(site.url)["device"])
    assert line["settings"]["RESOURCE_API_URL"] == site.api.url
    assert line["settings"].keys() == {variable.name for variable in variables().values()}


def test_the_last_login_survives_a_restart(site: Site, tmp_path: Path) -> None:
    assert login(site.url).status == HTTPStatus.OK
    assert login(site.url, {**CREDENTIALS, "password": "a wrong one"}).status == HTTPStatus.UNAUTHORIZED
    before = get_status(site.url)
    kept = (site.models / NAME).read_text()
    assert CREDENTIALS["password"] not in kept
    assert "a wrong one" not in kept
    models = tmp_path / "models"
    models.mkdir()
    (models / NAME).write_text(kept)
    with bare_site(tmp_path / "site", MODEL_CACHE_DIR=str(models)) as restarted:
        after = get_status(restarted.url)
    assert (before["authenticated"], after["authenticated"]) == (True, False)
    assert after["last"] == before["last"]
    told = {"outcome": "failed", "code": "LOGIN_REJECTED", "user": CREDENTIALS["email"], "client": "127.0.0.1"}
    assert after["last"]["login"].items() >= told.items()
    assert login(site.url).status == HTTPStatus.OK


def test_the_log_contains_neither_password_nor_token(site: Site) -> None:
    login(site.url)
    token = str(site.api.requests("GET")[-1].headers["AUTHORIZATION"]) if site.api.requests("GET") else "Bearer"
    log = site.loader.process.stderr()
    assert CREDENTIALS["password"] not in log
    assert token not in log
