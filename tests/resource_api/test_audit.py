"""The audit lines: who did what, from where, and how it ended; with nothing secret and nothing forged."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resource_api.accounts import Users
from resource_api.client_address import ClientAddresses
from resource_api.fragments import Fragments, check_of
from tests.resource_api.conftest import EMAIL, FRAGMENT, PASSWORD, Api, new_data
from tests.support.processes import poll

SECONDS = 20
LARGE = 32 << 20
CLAIMS = {"X-Request-ID": "id-7", "Azaion-Device": "orin-7", "Azaion-Release": "1.4"}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with a log file, a publisher, a disabled account, a fragment and a large object."""
    data = new_data(tmp_path_factory.mktemp("audited"))
    Fragments(data).set(FRAGMENT)
    Users(data).set_password("gone@example.com", PASSWORD)
    Users(data).disable("gone@example.com")
    with (data.resources / "large").open("wb") as file:
        file.truncate(LARGE)
    (data.resources / "x.small").write_bytes(b"small part")
    with Api(data, RESOURCE_API_LOG=str(data.root.parent / "api.log")) as running:
        yield running


@pytest.fixture(scope="module")
def token(audited: Api) -> dict[str, str]:
    return audited.bearer()


def log_file(api: Api) -> Path:
    return api.data.root.parent / "api.log"


def line_of(api: Api, request_id: str) -> dict[str, Any]:
    """Wait for the audit line of a request, and return it."""
    poll(lambda: f'"request_id": "{request_id}"' in log_file(api).read_text(), SECONDS, "the audit line")
    lines = [json.loads(line) for line in log_file(api).read_text().splitlines()]
    (found,) = [line for line in lines if line.get("request_id") == request_id]
    return dict(found)


def test_a_fragment_is_audited_with_its_check_and_what_the_device_claims(audited: Api, token: dict[str, str]) -> None:
    assert audited.call("GET", "/binary-split/key-fragment", {**token, **CLAIMS}).status == 200
    line = line_of(audited, "id-7")
    assert line["timestamp"].endswith("+00:00")
    wanted = {"event": "fragment", "outcome": "done", "status": 200, "user": EMAIL, "role": "publisher"}
    wanted |= {"device": "orin-7", "release": "1.4", "client": "127.0.0.1", "check": check_of(FRAGMENT), "bytes": 32}
    assert {name: line[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("method", "path", "event", "outcome", "size"),
    [
        ("GET", "/resources/x.small", "small_part", "done", 10),
        ("HEAD", "/resources/x.small", "small_part", "done", 0),
        ("GET", "/resources/large", "object", "done", LARGE),
        ("GET", "/resources/images/none.head", "head", "refused", None),
        ("GET", "/resources", "list", "done", None),
        ("PUT", "/resources/new", "upload", "done", 5),
        ("DELETE", "/resources/none", "deletion", "refused", None),
        ("GET", "/nowhere", "other", "refused", None),
    ],
)
def test_each_kind_of_request_has_its_event(
    audited: Api, token: dict[str, str], method: str, path: str, event: str, outcome: str, size: int | None
) -> None:
    request_id = f"kind-{method}-{event}"
    body = b"12345" if method == "PUT" else None
    audited.call(method, path, {**token, "X-Request-ID": request_id}, body)
    line = line_of(audited, request_id)
    assert (line["event"], line["outcome"]) == (event, outcome)
    assert (line["code"] is None) is (outcome == "done")
    assert line["object"] == (path.removeprefix("/resources/") if event != "list" else None)
    assert size in (None, line["bytes"])


def test_title_and_code_of_a_refusal_do_not_depend_on_the_version_of_python(
    audited: Api, token: dict[str, str]
) -> None:
    headers = {**token, "X-Request-ID": "beyond", "Range": f"bytes={LARGE}-"}
    assert audited.call("GET", "/resources/large", headers).problem()["title"] == "Range Not Satisfiable"
    assert line_of(audited, "beyond")["code"] == "RANGE_NOT_SATISFIABLE"


@pytest.mark.parametrize("ranged", [False, True])
def test_a_cut_download_is_told_from_a_whole_one(audited: Api, token: dict[str, str], ranged: bool) -> None:
    request_id = f"cut-{ranged}"
    lines = [f"{name}: {value}" for name, value in {**token, "X-Request-ID": request_id}.items()]
    lines += ["Range: bytes=1-"] if ranged else []
    with socket.create_connection(("127.0.0.1", audited.port), SECONDS) as client:
        client.sendall("\r\n".join(["GET /resources/large HTTP/1.1", "Host: x", *lines, "", ""]).encode())
        assert client.recv(1 << 16)
    line = line_of(audited, request_id)
    assert line["outcome"] == "cut"
    # Without a range the kernel counts, with one the server: only pieces that went as a whole.
    assert (0 if ranged else 1) <= line["bytes"] < LARGE - 1


def test_a_cut_upload_says_how_much_came(audited: Api, token: dict[str, str]) -> None:
    head = f"PUT /resources/y HTTP/1.1\r\nHost: x\r\nAuthorization: {token['Authorization']}\r\n"
    audited.send_and_close(f"{head}X-Request-ID: cut-up\r\nContent-Length: 10\r\n\r\n1234".encode())
    line = line_of(audited, "cut-up")
    assert (line["outcome"], line["bytes"], line["object"]) == ("cut", 4, "y")
    assert "missing" in line["reason"]


@pytest.mark.parametrize(
    ("email", "password", "user", "reason"),
    [
        (EMAIL, "wrong secret word", EMAIL, "The password is wrong."),
        ("gone@example.com", PASSWORD, "gone@example.com", "The account is disabled."),
        # It may be a password that was typed into the wrong field.
        ("hunter2 hunter2", PASSWORD, None, "There is no such account."),
    ],
)
def test_a_refused_login_says_why_and_no_secret(
    audited: Api, email: str, password: str, user: str | None, reason: str
) -> None:
    request_id = f"login-{reason[-8:-1].replace(' ', '-')}"
    body = json.dumps({"email": email, "password": password}).encode()
    headers = {"Content-Type": "application/json", "X-Request-ID": request_id}
    assert audited.call("POST", "/login", headers, body).problem()["detail"] == (
        "The e-mail address or the password is wrong."
    )
    line = line_of(audited, request_id)
    assert (line["event"], line["outcome"], line["user"], line["reason"]) == ("login", "refused", user, reason)
    log = log_file(audited).read_text()
    assert not [secret for secret in (PASSWORD, "wrong secret word", "hunter2", FRAGMENT.hex()) if secret in log]


@pytest.mark.parametrize("claim", ["two words", "x" * 129, "a;b", "é", ""])
def test_a_hostile_claim_is_not_written(audited: Api, token: dict[str, str], claim: str) -> None:
    request_id = f"claim-{len(claim)}-{ord((claim or 'a')[0])}"
    headers = {**token, "X-Request-ID": request_id, "Azaion-Device": claim, "Azaion-Release": claim}
    audited.call("GET", "/resources", headers)
    line = line_of(audited, request_id)
    assert (line["device"], line["release"]) == (None, None)


def test_a_hostile_name_makes_no_line_and_no_escape(audited: Api, token: dict[str, str]) -> None:
    audited.call("GET", "/resources/a%0a%7b%1b%5b2J" + "z" * 3_000, {**token, "X-Request-ID": "hostile"})
    line = line_of(audited, "hostile")
    assert line["object"].startswith("/resources/a\n{\x1b[2Jzzz")
    assert len(line["object"]) < 1_200
    assert log_file(audited).read_text().isascii()
    assert "\x1b" not in log_file(audited).read_text()


def test_the_log_file_is_for_its_owner_and_may_be_rotated(audited: Api, token: dict[str, str]) -> None:
    audited.call("GET", "/resources", {**token, "X-Request-ID": "before"})
    line_of(audited, "before")
    earlier = log_file(audited).read_bytes()
    log_file(audited).rename(log_file(audited).with_name("api.log.1"))
    audited.call("GET", "/resources", {**token, "X-Request-ID": "after"})
    poll(lambda: log_file(audited).exists(), SECONDS, "a new log file")
    assert line_of(audited, "after")["event"] == "list"
    with gzip.open(log_file(audited).with_name("api.log.2.gz"), "wb") as packed:
        packed.write(earlier)
    log_file(audited).write_bytes(earlier)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", "192.0.2.1, 192.0.2.7", "192.0.2.7"),
        ("", "192.0.2.7", "192.0.2.7"),
        ("10.0.0.9", "192.0.2.7", "192.0.2.7"),
        ("10.1.0.9", "192.0.2.7", "10.1.0.9"),
        ("127.0.0.1", "\x1b[2J", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("", "", "-"),
    ],
)
def test_only_a_known_proxy_may_name_the_client(peer: str, forwarded: str, client: str) -> None:
    addresses = ClientAddresses("127.0.0.1, 10.0.0.0/24")
    assert addresses.client_of({"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": forwarded}) == client
