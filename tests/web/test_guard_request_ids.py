"""The id of a request: the client's own if it is valid; in the response, in the log and in requests to the API."""

from __future__ import annotations

import re

import pytest

from tests.support.http_calls import call, login, post_json, upload
from tests.support.sites import BareSite, Site

OURS = re.compile(r"[0-9a-f]{32}")


def sent_ids(site: Site) -> set[str | None]:
    """Return the request ids that reached the API."""
    return {request.headers.get("X-REQUEST-ID") for request in site.api.requests()}


@pytest.mark.parametrize("sane", ["a", "A-b_c.7", "0" * 128, "5e0ed3b8-3a51-4f5a-9df4-0d8d0c4ba4a1"])
def test_a_valid_id_is_kept_and_sent_to_the_api(site: Site, sane: str) -> None:
    site.api.forget_requests()
    reply = post_json(site.url, "/load/x", {"filename": "x", "folder": "ids"}, {"X-Request-ID": sane})
    assert reply.headers.get_all("X-Request-ID") == [sane]
    assert sent_ids(site) == {sane}
    assert any(line["request_id"] == sane for line in site.audit_lines("load"))


@pytest.mark.parametrize("insane", ["", "0" * 129, "two words", "a/b", 'a"b', "{}", "\xe9", "a;b", "${jndi:x}"])
def test_an_invalid_id_is_replaced(site: Site, insane: str) -> None:
    site.api.forget_requests()
    reply = post_json(site.url, "/load/x", {"filename": "x", "folder": "ids"}, {"X-Request-ID": insane})
    (made,) = reply.headers.get_all("X-Request-ID") or []
    assert OURS.fullmatch(made)
    assert sent_ids(site) == {made}


def test_each_request_without_an_id_gets_one_of_its_own(site: Site) -> None:
    replies = [call(site.url, "GET", path) for path in ("/health", "/health", "/status", "/nothing")]
    made = [reply.headers["X-Request-ID"] for reply in replies]
    assert all(OURS.fullmatch(each) for each in made)
    assert len(set(made)) == len(made)


def test_refused_requests_carry_their_id_too(lonely: BareSite) -> None:
    reply = call(lonely.url, "GET", "/status", headers={"Host": "example.com", "X-Request-ID": "refused-1"})
    reply.problem(400, "UNTRUSTED_HOST")
    assert reply.headers["X-Request-ID"] == "refused-1"


def test_every_line_about_a_request_carries_its_id(site: Site) -> None:
    before = len(site.loader.log_lines())
    reply = upload(site.url, "ids", "logged", bytes(3 << 20))
    site.next_audit_line("upload", 0)
    lines = [line for line in site.loader.log_lines()[before:] if "upload" in line["message"]]
    assert {line["logger"] for line in lines} >= {"loader.audit"}
    assert {line["request_id"] for line in lines} == {reply.headers["X-Request-ID"]}


def test_the_id_of_a_request_is_not_used_for_the_next_one(site: Site) -> None:
    site.api.forget_requests()
    for number in range(10):
        assert login(site.url).status == 200, number
    assert len(sent_ids(site)) == 10
