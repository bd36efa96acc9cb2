"""Uploads in parts on every kind of storage: with addresses at this server, or in the store."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from resource_api.accounts import Role, Users
from resource_api.storage.upload_rules import PART_BYTES
from tests.resource_api.conftest import PASSWORD, Api, Reply
from tests.resource_api.storage.conftest import ALL_KINDS, followed, send_to

LAST = 1000
FIRST, SECOND = b"first part".ljust(PART_BYTES, b"."), b"second part".ljust(LAST, b"-")
BIG = f"models/day/x.{'ab' * 16}.big"
Bearer = dict[str, str]


@pytest.fixture(scope="module", params=ALL_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return a kind of storage."""
    return str(request.param)


def post(api: Api, bearer: Bearer, path: str, document: object) -> Reply:
    return api.call("POST", path, {**bearer, "Content-Type": "application/json"}, json.dumps(document).encode())


def begin(api: Api, bearer: Bearer, name: str) -> str:
    """Begin an upload and return its path."""
    reply = post(api, bearer, "/uploads", {"name": name, "size": len(FIRST) + LAST})
    assert reply.status == 201, reply.body
    return f"/uploads/{json.loads(reply.body)['upload']}"


def send(api: Api, bearer: Bearer, upload: str, number: int, content: bytes) -> Reply:
    """Ask where the part belongs, and put it there; a store gets no token."""
    asked = post(api, bearer, f"{upload}/urls", {"parts": [number]})
    (address,) = json.loads(asked.body)["urls"]
    if address["url"].startswith("/"):
        assert address["headers"] == ["Authorization", "Content-Length"]
        return api.call("PUT", address["url"], bearer, content)
    assert address["headers"] == ["Content-Length"]
    url = urlsplit(address["url"])
    return send_to(url.netloc, "PUT", f"{url.path}?{url.query}", {}, content)


def parts(api: Api, bearer: Bearer, upload: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = json.loads(api.call("GET", upload, bearer).body)["parts"]
    return parts


def complete(api: Api, bearer: Bearer, upload: str, listed: list[dict[str, Any]]) -> Reply:
    return post(api, bearer, f"{upload}/complete", {"parts": listed})


def second_of(api: Api, bearer: Bearer, upload: str) -> int:
    """Return the number of the second part, if the first one is as large as possible."""
    return PART_BYTES // int(json.loads(api.call("GET", upload, bearer).body)["min_part_size"]) + 1


def both_sent(api: Api, bearer: Bearer, upload: str) -> list[dict[str, Any]]:
    """Send both parts, the last one first, and return what `complete` wants."""
    contents = ((second_of(api, bearer, upload), SECOND), (1, FIRST))
    replies = [(number, send(api, bearer, upload, number, content)) for number, content in contents]
    assert {reply.status for _, reply in replies} == {200}
    return [{"number": number, "etag": reply.headers["ETag"]} for number, reply in sorted(replies)]


@pytest.mark.parametrize("name", [BIG, "models/day/x.part"])
def test_parts_become_the_object_and_completing_again_changes_nothing(api: Api, bearer: Bearer, name: str) -> None:
    upload = begin(api, bearer, name)
    sent = both_sent(api, bearer, upload)
    assert followed(api, "GET", f"/resources/{name}", bearer).status == 404
    listed = parts(api, bearer, upload)
    assert [(part["number"], part["size"]) for part in listed] == [(1, PART_BYTES), (sent[1]["number"], LAST)]
    assert [part["etag"] for part in listed] == [part["etag"].strip('"') for part in sent]
    for _ in range(2):
        assert complete(api, bearer, upload, sent).status == 204
        assert followed(api, "GET", f"/resources/{name}", bearer).body == FIRST + SECOND
    assert api.call("DELETE", f"/resources/{name}", bearer).status == 204


def test_the_last_put_of_a_part_counts_and_all_parts_are_needed(api: Api, bearer: Bearer) -> None:
    upload = begin(api, bearer, BIG)
    number = second_of(api, bearer, upload)
    stale = {"number": number, "etag": send(api, bearer, upload, number, b"x" * LAST).headers["ETag"]}
    first, second = both_sent(api, bearer, upload)
    for wrong in (
        [first, stale],
        [first],
        [second],
        [],
        [first, second, {"number": number + 1, "etag": second["etag"]}],
    ):
        assert complete(api, bearer, upload, wrong).status == 400
        assert followed(api, "GET", f"/resources/{BIG}", bearer).status == 404
    assert complete(api, bearer, upload, [second, first]).status == 204
    assert followed(api, "GET", f"/resources/{BIG}", bearer).body == FIRST + SECOND
    api.call("DELETE", f"/resources/{BIG}", bearer)


@pytest.mark.parametrize("size", [0, LAST - 1, LAST + 1])
def test_a_part_of_another_size_is_refused(api: Api, bearer: Bearer, size: int) -> None:
    upload = begin(api, bearer, BIG)
    assert send(api, bearer, upload, second_of(api, bearer, upload), b"x" * size).status in (400, 403)
    assert parts(api, bearer, upload) == []
    assert api.call("DELETE", upload, bearer).status == 204


def test_an_upload_that_was_aborted_is_gone(api: Api, bearer: Bearer) -> None:
    upload = begin(api, bearer, BIG)
    send(api, bearer, upload, second_of(api, bearer, upload), SECOND)
    assert api.call("DELETE", upload, bearer).status == 204
    assert api.call("GET", upload, bearer).status == 404
    assert api.call("DELETE", upload, bearer).status == 404
    assert complete(api, bearer, upload, [{"number": n, "etag": "0" * 32} for n in (1, 2)]).status == 404


def test_an_upload_belongs_to_its_user_and_its_id_cannot_be_made_up(api: Api, bearer: Bearer) -> None:
    Users(api.data).set_password("other@example.com", PASSWORD, Role.PUBLISHER)
    upload, other = begin(api, bearer, BIG), api.bearer("other@example.com")
    text, _, mac = upload.removeprefix("/uploads/").partition(".")
    forged = [
        f"/uploads/{each}" for each in (text, f"{text}.", f"{text}.AAAA", f"A{text}.{mac}", f".{mac}", "-", "a b")
    ]
    for path, user in [(upload, other), *((path, bearer) for path in forged if path != upload)]:
        assert api.call("GET", path.replace(" ", "%20"), user).status == 404
        assert post(api, user, f"{path}/urls".replace(" ", "%20"), {"parts": [1]}).status == 404
        assert api.call("DELETE", path.replace(" ", "%20"), user).status == 404
    assert api.call("DELETE", upload, bearer).status == 204


@pytest.mark.parametrize("number", [0, PART_BYTES, -1, 10_001])
def test_a_part_that_the_upload_lacks_has_no_address(api: Api, bearer: Bearer, number: int) -> None:
    upload = begin(api, bearer, BIG)
    assert post(api, bearer, f"{upload}/urls", {"parts": [1, number]}).status == 400
    assert api.call("DELETE", upload, bearer).status == 204


@pytest.mark.parametrize("name", ["../x.big", "/x.big", "a//x.big", "", "a/.x.big"])
def test_a_name_that_is_none_is_refused(api: Api, bearer: Bearer, name: str) -> None:
    assert post(api, bearer, "/uploads", {"name": name, "size": 1}).status == 400
