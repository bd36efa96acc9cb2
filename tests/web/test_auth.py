"""POST /login."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.faulty_api import Fault
from tests.support.http_calls import CREDENTIALS, EMAIL, PASSWORD, call, load, login
from tests.support.sites import BareSite, FaultySite, Site, bare_site

LONGEST = {"email": "e" * 254, "password": "p" * 1024}


def test_a_login_reaches_the_api_and_allows_loads(site: Site, tmp_path: Path) -> None:
    with bare_site(tmp_path / "new", site.api.url) as fresh:
        load(fresh.url, "m", "x").problem(401, "NOT_LOGGED_IN")
        reply = login(fresh.url)
        assert (reply.status, reply.json()) == (200, {"status": "ok"})
        assert call(fresh.url, "GET", "/status").json()["authenticated"] is True
        load(fresh.url, "m", "x").problem(404, "RESOURCE_NOT_FOUND")


def test_rejected_login_keeps_the_earlier_one(site: Site) -> None:
    login(site.url, {"email": EMAIL, "password": "wrong"}).problem(401, "LOGIN_REJECTED")
    assert call(site.url, "GET", "/status").json()["authenticated"] is True
    load(site.url, "m", "nothing").problem(404, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize("credentials", [CREDENTIALS, LONGEST, {"email": "\u00e9 @\u2603", "password": " \U0001f511 "}])
def test_credentials_reach_the_api_unchanged(faulty: FaultySite, credentials: dict[str, str]) -> None:
    assert login(faulty.url, credentials).status == 200
    (seen,) = faulty.api.requests("POST", "/login")
    assert seen.headers["content-type"] == "application/json"
    assert "authorization" not in seen.headers
    assert seen.query == ""
    assert json.loads(seen.body) == credentials


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({}, {"email", "password"}),
        ({"email": EMAIL}, {"password"}),
        ({"email": "", "password": ""}, {"email", "password"}),
        ({"email": "e" * 255, "password": PASSWORD}, {"email"}),
        ({"email": EMAIL, "password": "p" * 1025}, {"password"}),
        ({"email": None, "password": 5}, {"email", "password"}),
        ({**CREDENTIALS, "remember": True}, {"remember"}),
        ({"email": "\ud800", "password": "\udfff"}, {"email", "password"}),
        ([EMAIL, PASSWORD], {"body"}),
        ("text", {"body"}),
        (None, {"body"}),
    ],
)
def test_malformed_credentials_are_reported_by_field_and_not_sent(
    faulty: FaultySite, document: object, fields: set[str]
) -> None:
    errors = login(faulty.url, document).problem(422, "VALIDATION_FAILED")["errors"]
    assert set(errors) == fields
    assert all(complaints and all(isinstance(text, str) for text in complaints) for complaints in errors.values())
    assert faulty.api.requests() == []


@pytest.mark.parametrize(
    "token", [b"null", b"17", b'""', b'"two\\nlines"', b'"s\\u00e9cret"', b'{"a": 1}'], ids=lambda token: token.decode()
)
def test_token_that_cannot_be_sent_in_a_header_is_refused(faulty: FaultySite, token: bytes) -> None:
    faulty.api.answer("POST", "/login", Fault(body=b'{"token": ' + token + b"}"))
    login(faulty.url).problem(502, "API_PROTOCOL")


def test_login_without_an_api_is_unreachable(lonely: BareSite) -> None:
    login(lonely.url).problem(503, "API_UNREACHABLE")
    assert call(lonely.url, "GET", "/status").json()["authenticated"] is False
