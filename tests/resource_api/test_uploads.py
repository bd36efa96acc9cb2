"""PUT of objects: whole or not at all."""

import fcntl
import shutil
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest

from resource_api.data_directory import DataDirectory
from tests.resource_api.conftest import Api
from tests.support.processes import poll


def put_head(bearer: dict[str, str], path: str, *headers: str) -> bytes:
    """The head of a PUT to be sent by hand."""
    lines = [f"PUT {path} HTTP/1.1", "Host: x", "Connection: close", f"Authorization: {bearer['Authorization']}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


@pytest.fixture(autouse=True)
def empty(api: Api) -> None:
    """Remove what the tests before have stored: these look at all that there is."""
    for path in api.data.resources.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_created_then_replaced(api: Api, bearer: dict[str, str]) -> None:
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
        answer = api.send_and_close(put_head(bearer, path, "Content-Length: 4000000") + b"x" * sent)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"application/problem+json" in answer
        assert api.stored() == before
    assert api.send_and_close(put_head(bearer, "/resources/b", "Content-Length: 4") + b"full").startswith(
        b"HTTP/1.1 201"
    )


def test_a_client_that_vanishes_leaves_nothing(api: Api, bearer: dict[str, str]) -> None:
    with socket.create_connection(("127.0.0.1", api.port), 10) as connection:
        connection.sendall(put_head(bearer, "/resources/a", "Content-Length: 9000000") + b"x" * 5_000_000)
        poll(lambda: any(name.startswith("tmp/") for name in api.stored()), 10, "the upload begins")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
    poll(lambda: api.stored() == {}, 10, "the upload is dropped")


def test_an_upload_needs_a_length(api: Api, bearer: dict[str, str]) -> None:
    assert api.send_and_close(put_head(bearer, "/resources/a")).startswith(b"HTTP/1.1 411")
    chunked = api.call("PUT", "/resources/a", bearer, iter([b"some", b"body"]))
    assert chunked.status == 411
    chunked.problem()


def test_a_part_of_an_object_is_not_taken_for_the_whole(api: Api, bearer: dict[str, str]) -> None:
    reply = api.call("PUT", "/resources/a", {**bearer, "Content-Range": "bytes 0-3/8"}, b"part")
    assert reply.status == 400
    reply.problem()
    assert api.stored() == {}


def test_a_name_is_either_a_folder_or_an_object(api: Api, bearer: dict[str, str]) -> None:
    api.call("PUT", "/resources/folder/object", bearer, b"object")
    before = api.stored()
    for path in ("/resources/folder", "/resources/folder/object/x", "/resources/folder/object/x/y"):
        reply = api.call("PUT", path, bearer, b"other")
        assert reply.status == 409, path
        reply.problem()
    assert api.stored() == before


def test_an_object_that_cannot_fit_is_refused_before_it_is_sent(api: Api, bearer: dict[str, str]) -> None:
    size = shutil.disk_usage(api.data.root).total * 2
    answer = api.send_and_close(put_head(bearer, "/resources/huge", f"Content-Length: {size}") + b"beginning")
    assert answer.startswith(b"HTTP/1.1 507")
    assert b"application/problem+json" in answer
    assert api.stored() == {}


def test_a_refused_client_sees_the_answer_while_it_is_still_sending(api: Api) -> None:
    reply = api.call("PUT", "/resources/a", {"Authorization": "Bearer expired"}, b"x" * 30_000_000)
    assert reply.status == 401
    assert api.stored() == {}


def test_of_uploads_at_the_same_time_one_stays_whole(api: Api, bearer: dict[str, str]) -> None:
    contents = [bytes([number]) * 2_000_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda content: api.call("PUT", "/resources/a/b", bearer, content), contents))
    assert {reply.status for reply in replies} <= {201, 204}
    assert api.stored().keys() == {"resources/a/", "resources/a/b"}
    assert api.stored()["resources/a/b"] in contents


def test_a_start_removes_left_overs_but_not_what_is_being_written(data: DataDirectory) -> None:
    left_over, in_use = data.temporary / "left-over", data.temporary / "in-use"
    left_over.write_bytes(b"x")
    with in_use.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as another process on the same directory does
        with Api(data) as api:
            assert api.stored() == {"tmp/in-use": b""}
