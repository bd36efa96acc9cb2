"""PUT of objects: an upload is stored completely or not at all."""

import fcntl
import json
import shutil
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from resource_api.accounts import Role, Users
from resource_api.data_directory import DataDirectory
from tests.resource_api.conftest import PASSWORD, Api
from tests.support.processes import poll


def put_head(bearer: dict[str, str], path: str, *headers: str) -> bytes:
    """Return the head of a PUT, which the test sends over a socket."""
    lines = [f"PUT {path} HTTP/1.1", "Host: x", "Connection: close", f"Authorization: {bearer['Authorization']}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


@pytest.fixture(autouse=True)
def empty(api: Api) -> None:
    """Remove the objects of earlier tests, because these tests compare everything that is stored."""
    for path in api.data.resources.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_an_upload_creates_or_replaces_an_object(api: Api, bearer: dict[str, str]) -> None:
    created = api.call("PUT", "/resources/models/day/a.small", bearer, b"first")
    assert (created.status, created.body) == (201, b"")
    replaced = api.call("PUT", "/resources/models/day/a.small", bearer, b"2nd")
    assert (replaced.status, replaced.body) == (204, b"")
    assert api.call("PUT", "/resources/top", bearer, b"").status == 201
    assert api.stored() == {
        "resources/models/": b"",
        "resources/models/day/": b"",
        "resources/models/day/a.small": b"2nd",
        "resources/top": b"",
    }
    assert (api.data.resources / "top").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("sent", [0, 1, 3_000_000, 3_999_999])
def test_a_cut_upload_changes_nothing(api: Api, bearer: dict[str, str], sent: int) -> None:
    api.call("PUT", "/resources/kept", bearer, b"kept")
    before = api.stored()
    for path in ("/resources/kept", "/resources/new/folder/object"):
        response = api.send_and_close(put_head(bearer, path, "Content-Length: 4000000") + b"x" * sent)
        assert response.startswith(b"HTTP/1.1 400")
        assert b"application/problem+json" in response
        assert api.stored() == before
    assert api.send_and_close(put_head(bearer, "/resources/b", "Content-Length: 4") + b"full").startswith(
        b"HTTP/1.1 201"
    )


def test_an_upload_whose_connection_is_reset_leaves_no_file(api: Api, bearer: dict[str, str]) -> None:
    with socket.create_connection(("127.0.0.1", api.port), 10) as connection:
        connection.sendall(put_head(bearer, "/resources/a", "Content-Length: 9000000") + b"x" * 5_000_000)
        poll(lambda: any(name.startswith("tmp/") for name in api.stored()), 10, "the upload starts")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
    poll(lambda: api.stored() == {}, 10, "the upload is dropped")


def test_an_upload_without_a_content_length_is_refused(api: Api, bearer: dict[str, str]) -> None:
    assert api.send_and_close(put_head(bearer, "/resources/a")).startswith(b"HTTP/1.1 411")
    chunked = api.call("PUT", "/resources/a", bearer, iter([b"some", b"body"]))
    assert chunked.status == 411
    chunked.problem()


def test_an_upload_with_content_range_is_refused(api: Api, bearer: dict[str, str]) -> None:
    reply = api.call("PUT", "/resources/a", {**bearer, "Content-Range": "bytes 0-3/8"}, b"part")
    assert reply.status == 400
    reply.problem()
    assert api.stored() == {}


def test_a_name_cannot_be_both_a_folder_and_an_object(api: Api, bearer: dict[str, str]) -> None:
    api.call("PUT", "/resources/folder/object", bearer, b"object")
    before = api.stored()
    for path in ("/resources/folder", "/resources/folder/object/x", "/resources/folder/object/x/y"):
        reply = api.call("PUT", path, bearer, b"other")
        assert reply.status == 409, path
        reply.problem()
    assert api.stored() == before


def test_an_object_larger_than_the_disk_is_refused_before_the_upload(api: Api, bearer: dict[str, str]) -> None:
    size = shutil.disk_usage(api.data.root).total * 2
    response = api.send_and_close(put_head(bearer, "/resources/huge", f"Content-Length: {size}") + b"beginning")
    assert response.startswith(b"HTTP/1.1 507")
    assert b"application/problem+json" in response
    assert api.stored() == {}


def test_a_client_gets_the_refusal_even_while_it_is_still_sending(api: Api) -> None:
    reply = api.call("PUT", "/resources/a", {"Authorization": "Bearer expired"}, b"x" * 30_000_000)
    assert reply.status == 401
    assert api.stored() == {}


@pytest.mark.parametrize("end", ["disable", "remove", "password", "demote"])
def test_an_upload_of_a_user_who_was_changed_meanwhile_is_refused(api: Api, end: str) -> None:
    users, email = Users(api.data), f"{end}@example.com"
    users.set_password(email, PASSWORD, Role.PUBLISHER)
    bearer = api.bearer(email)
    ends: dict[str, Callable[[], object]] = {
        "disable": lambda: users.disable(email),
        "remove": lambda: users.remove(email),
        "password": lambda: users.set_password(email, f"{PASSWORD}!"),
        "demote": lambda: demote(api, email),
    }
    with socket.create_connection(("127.0.0.1", api.port), 10) as connection:
        connection.sendall(put_head(bearer, "/resources/a", "Content-Length: 8") + b"half")
        poll(lambda: any(name.startswith("tmp/") for name in api.stored()), 10, "the upload starts")
        ends[end]()
        connection.sendall(b"rest")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
    assert api.stored() == {}


def test_an_upload_may_outlast_its_token(data: DataDirectory) -> None:
    with Api(data, RESOURCE_API_TOKEN_SECONDS="1") as api:
        bearer = api.bearer()
        with socket.create_connection(("127.0.0.1", api.port), 10) as connection:
            connection.sendall(put_head(bearer, "/resources/a", "Content-Length: 8") + b"half")
            poll(lambda: any(name.startswith("tmp/") for name in api.stored()), 10, "the upload starts")
            poll(lambda: api.call("GET", "/resources", bearer).status == 401, 10, "the token expires")
            connection.sendall(b"rest")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 201 ")
        assert api.stored() == {"resources/a": b"halfrest"}


def demote(api: Api, email: str) -> None:
    """Make a user a reader in the file alone, so that its tokens stay valid."""
    stored = json.loads(api.data.users_file.read_bytes())
    stored[email]["role"] = Role.READER
    api.data.write_private(api.data.users_file, json.dumps(stored).encode())


def test_one_of_several_simultaneous_uploads_is_stored_completely(api: Api, bearer: dict[str, str]) -> None:
    contents = [bytes([number]) * 2_000_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda content: api.call("PUT", "/resources/a/b", bearer, content), contents))
    assert {reply.status for reply in replies} <= {201, 204}
    assert api.stored().keys() == {"resources/a/", "resources/a/b"}
    assert api.stored()["resources/a/b"] in contents


def test_a_start_removes_leftover_files_but_not_files_being_written(data: DataDirectory) -> None:
    leftover, in_use = data.temporary / "leftover", data.temporary / "in-use"
    leftover.write_bytes(b"x")
    with in_use.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another process that writes a file in the same directory locks it too
        with Api(data) as api:
            assert api.stored() == {"tmp/in-use": b""}
