"""Logins, and how long their tokens are valid."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from resource_api.accounts import Users
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.resource_api.conftest import EMAIL, FRAGMENT, PASSWORD, Api
from tests.support.processes import poll
from tests.support.procfs import peak_rss_bytes

JSON = {"Content-Type": "application/json"}
KEY = "/binary-split/key-fragment"


def test_a_login_returns_a_token_that_other_requests_accept(api: Api) -> None:
    reply = api.login()
    assert reply.status == 200
    assert list(json.loads(reply.body)) == ["token"]
    assert reply.headers["Cache-Control"] == "no-store"
    assert api.call("GET", KEY, api.bearer()).body == FRAGMENT


def test_upper_and_lower_case_differ_in_a_password_but_not_in_an_address(api: Api) -> None:
    assert api.login(EMAIL.upper(), PASSWORD).status == 200
    assert api.login(EMAIL, PASSWORD.upper()).status == 401


@pytest.mark.parametrize(
    ("email", "password"),
    [(EMAIL, "wrong"), (EMAIL, ""), (EMAIL, PASSWORD + " "), ("nobody@example.com", PASSWORD), ("", "")],
)
def test_all_wrong_credentials_get_the_same_401(api: Api, email: str, password: str) -> None:
    reply = api.login(email, password)
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert reply.problem()["detail"] == "The e-mail address or the password is wrong."


def test_the_response_time_does_not_reveal_whether_an_address_exists(api: Api) -> None:
    def fastest(email: str) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            assert api.login(email, "wrong").status == 401
            times.append(time.perf_counter() - start)
        return min(times)

    # An unknown address would need about a fiftieth of the time if the server did not hash its password too.
    assert fastest("nobody@example.com") > fastest(EMAIL) / 10


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"\xff\xfe", 400),
        (b"null", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"email": "a@b", "password": 1}', 400),
        (b'{"email": null, "password": "x"}', 400),
        (b'{"email": "a@b", "password": "\\ud800"}', 400),
        (b'{"email": "\\ud800", "password": "x"}', 400),
        (b"[" * 10_000, 400),
        (b" " * (16 << 10) + b"{}", 413),
    ],
)
def test_an_invalid_login_body_is_refused(api: Api, body: bytes, status: int) -> None:
    reply = api.call("POST", "/login", JSON, body)
    assert reply.status == status
    reply.problem()


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}])
def test_another_content_type_is_refused(api: Api, headers: dict[str, str]) -> None:
    body = json.dumps({"email": EMAIL, "password": PASSWORD}).encode()
    reply = api.call("POST", "/login", headers, body)
    assert reply.status == 415
    reply.problem()


def test_a_token_with_a_changed_character_is_refused(api: Api, bearer: dict[str, str]) -> None:
    token = bearer["Authorization"]
    assert api.call("GET", KEY, {"Authorization": token}).status == 200
    # Skip the last character, because base64 ignores some of its bits; try a few in each of the three parts.
    for place in range(len("Bearer "), len(token) - 1, 9):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert api.call("GET", KEY, {"Authorization": changed}).status == 401, place


def test_tokens_expire_after_their_time_and_survive_a_restart(data: DataDirectory) -> None:
    Fragments(data).set(FRAGMENT)
    with Api(data) as long:
        old = long.bearer()
    with Api(data, RESOURCE_API_TOKEN_SECONDS="1") as short:
        new = short.bearer()
        assert short.call("GET", KEY, new).status == 200
        poll(lambda: short.call("GET", KEY, new).status == 401, 10, "the token expires")
    with Api(data) as long:
        assert long.call("GET", KEY, old).status == 200


def test_tokens_expire_when_the_password_changes_or_the_user_is_removed(api: Api) -> None:
    users = Users(api.data)
    email = "second@example.com"

    def bearer(password: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {json.loads(api.login(email, password).body)['token']}"}

    users.set_password(email, "first")
    before = bearer("first")
    assert api.call("GET", KEY, before).status == 200
    users.set_password(email, "other")
    assert api.call("GET", KEY, before).status == 401
    after = bearer("other")
    assert api.call("GET", KEY, after).status == 200
    users.remove(email)
    assert api.call("GET", KEY, after).status == 401
    assert api.login(email, "other").status == 401


def test_the_fragment_is_404_until_it_is_set(data: DataDirectory) -> None:
    with Api(data) as api:
        bearer = api.bearer()
        reply = api.call("GET", KEY, bearer)
        assert reply.status == 404
        reply.problem()
        Fragments(data).set(FRAGMENT)
        reply = api.call("GET", KEY, bearer)
    assert (reply.status, reply.body) == (200, FRAGMENT)
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["Content-Length"] == "32"
    assert reply.headers["Cache-Control"] == "no-store"


def test_users_added_at_the_same_time_are_all_kept(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    # Replace the hash, because it takes so long that two writes would hardly ever happen at the same time.
    monkeypatch.setattr("resource_api.accounts.generate_password_hash", lambda _: "hash")
    emails = [f"user{number}@example.com" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda email: Users(data).set_password(email, "x"), emails))
    assert [user.email for user in Users(data).all()] == sorted([EMAIL, *emails])


def test_many_logins_at_once_take_little_memory_and_a_good_one_succeeds(data: DataDirectory) -> None:
    """A hash takes 32 MiB; eight at once would take 256 MiB."""
    with Api(data) as api, ThreadPoolExecutor(16) as pool:
        assert api.login().status == 200
        before = peak_rss_bytes(api.worker())
        refused = [pool.submit(api.login, EMAIL, "wrong") for _ in range(12)]
        assert api.login().status == 200
        assert {each.result().status for each in refused} == {401}
        assert peak_rss_bytes(api.worker()) - before < 64 << 20
