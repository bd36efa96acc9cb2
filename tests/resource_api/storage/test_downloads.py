"""GET and HEAD of objects: ranges, conditions and lengths."""

import hashlib
import socket

import pytest

from tests.resource_api.conftest import Api
from tests.support.processes import poll
from tests.support.procfs import open_descriptors

CONTENT = bytes(range(256)) * 10_000  # 2.56 MB: more than one piece
SIZE = len(CONTENT)
LONG = f"bytes=-{'9' * 5000}"
PATH = "/resources/models/day/net.bin.small"
CLOSED_SECONDS = 20


@pytest.fixture(scope="module", autouse=True)
def stored(api: Api, bearer: dict[str, str]) -> None:
    """Upload the objects of these tests."""
    assert api.call("PUT", PATH, bearer, CONTENT).status == 201
    assert api.call("PUT", "/resources/empty", bearer, b"").status == 201


def test_get_returns_the_object_with_its_length(api: Api, bearer: dict[str, str]) -> None:
    reply = api.call("GET", PATH, bearer)
    assert (reply.status, reply.body) == (200, CONTENT)
    assert reply.headers["Content-Length"] == str(SIZE)
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["Accept-Ranges"] == "bytes"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["Last-Modified"] is None
    assert reply.headers["ETag"].startswith('"')


def test_head_returns_the_headers_of_get_without_a_body(api: Api, bearer: dict[str, str]) -> None:
    head, get = api.call("HEAD", PATH, bearer), api.call("GET", PATH, bearer)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(SIZE)
    assert head.headers["ETag"] == get.headers["ETag"]


@pytest.mark.parametrize("path", ["/resources/none", "/resources/models", "/resources/models/day/net.bin.small/x"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_path_that_is_not_an_object_is_404(api: Api, bearer: dict[str, str], method: str, path: str) -> None:
    reply = api.call(method, path, bearer)
    assert reply.status == 404
    if method == "GET":
        reply.problem()


@pytest.mark.parametrize(
    ("wanted", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=1000000-1000009", 1_000_000, 1_000_010),
        ("bytes=1048575-2097152", 1_048_575, 2_097_153),
        ("bytes=2000000-", 2_000_000, SIZE),
        ("bytes=-5", SIZE - 5, SIZE),
        (f"bytes=-{SIZE - 1}", 1, SIZE),
        (f"bytes=-{SIZE}", 0, SIZE),
        (f"bytes=-{SIZE + 1}", 0, SIZE),
        (f"bytes=-{'9' * 90}", 0, SIZE),
        ("Bytes=-5", SIZE - 5, SIZE),
        ("bytes= -5 ", SIZE - 5, SIZE),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes=10-{SIZE * 9}", 10, SIZE),
    ],
)
def test_a_range_is_206_with_exactly_its_bytes(
    api: Api, bearer: dict[str, str], wanted: str, first: int, end: int
) -> None:
    reply = api.call("GET", PATH, {**bearer, "Range": wanted})
    assert reply.status == 206
    assert reply.body == CONTENT[first:end]
    assert reply.headers["Content-Range"] == f"bytes {first}-{end - 1}/{SIZE}"
    assert reply.headers["Content-Length"] == str(end - first)
    assert reply.headers["ETag"] == api.call("HEAD", PATH, bearer).headers["ETag"]


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", f"bytes={SIZE * 2}-{SIZE * 3}", "bytes=-0"])
def test_a_range_beyond_the_end_is_416_with_the_length_of_the_object(
    api: Api, bearer: dict[str, str], wanted: str
) -> None:
    reply = api.call("GET", PATH, {**bearer, "Range": wanted})
    assert reply.status == 416
    assert reply.headers["Content-Range"] == f"bytes */{SIZE}"
    assert reply.headers["Content-Length"] == str(len(reply.body))
    reply.problem()


@pytest.mark.parametrize(
    "wanted",
    ["bytes=0-1,5-6", "items=0-1", "bytes=5-2", "bytes=a-b", "bytes=--5", "bytes=-", LONG, "x", ""],
)
def test_a_range_that_is_not_one_byte_range_is_ignored(api: Api, bearer: dict[str, str], wanted: str) -> None:
    reply = api.call("GET", PATH, {**bearer, "Range": wanted})
    assert (reply.status, reply.body) == (200, CONTENT)


def test_an_empty_object_is_200_even_with_a_range(api: Api, bearer: dict[str, str]) -> None:
    for wanted in ("bytes=0-", "bytes=-1", "bytes=-99", "bytes=-0", ""):
        headers = {**bearer, "Range": wanted}
        reply = api.call("GET", "/resources/empty", headers)
        assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")


def test_if_range_returns_the_range_only_of_the_same_object(api: Api, bearer: dict[str, str]) -> None:
    etag = api.call("HEAD", PATH, bearer).headers["ETag"]
    resume = {**bearer, "Range": "bytes=100-"}
    assert api.call("GET", PATH, {**resume, "If-Range": etag}).status == 206
    for other in ('"other"', "Thu, 01 Jan 2099 00:00:00 GMT"):
        reply = api.call("GET", PATH, {**resume, "If-Range": other})
        assert (reply.status, reply.body) == (200, CONTENT)


def test_if_none_match_and_if_match_compare_the_etag(api: Api, bearer: dict[str, str]) -> None:
    etag = api.call("HEAD", PATH, bearer).headers["ETag"]
    unchanged = api.call("GET", PATH, {**bearer, "If-None-Match": etag})
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert unchanged.headers["ETag"] == etag
    assert api.call("GET", PATH, {**bearer, "If-None-Match": '"other"'}).status == 200
    assert api.call("GET", PATH, {**bearer, "If-Match": etag}).status == 200
    mismatch = api.call("GET", PATH, {**bearer, "If-Match": '"other"'})
    assert mismatch.status == 412
    mismatch.problem()


@pytest.mark.parametrize("name", [f"m/x.{'a' * 32}.big", f"m/x.{'b' * 64}.big", f"images/{'c' * 64}.blob"])
def test_the_name_of_a_large_object_is_its_etag(api: Api, bearer: dict[str, str], name: str) -> None:
    api.call("PUT", f"/resources/{name}", bearer, b"content")
    assert api.call("HEAD", f"/resources/{name}", bearer).headers["ETag"].strip('"') in name


@pytest.mark.parametrize("name", [f"m/{'c' * 64}.blob", f"m/x.{'a' * 32}.small"])
def test_the_etag_of_any_other_object_is_its_hash(api: Api, bearer: dict[str, str], name: str) -> None:
    api.call("PUT", f"/resources/{name}", bearer, b"content")
    etag = api.call("HEAD", f"/resources/{name}", bearer).headers["ETag"]
    assert etag == f'"{hashlib.sha256(b"content").hexdigest()}"'


def test_a_download_returns_the_old_object_when_it_is_replaced_meanwhile(api: Api, bearer: dict[str, str]) -> None:
    old, new = b"o" * 20_000_000, b"n" * 10_000_000
    path = "/resources/replaced"
    api.call("PUT", path, bearer, old)
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {bearer['Authorization']}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", api.port), 30) as connection:
        connection.sendall(request.encode())
        response = connection.recv(1000)
        assert api.call("PUT", path, bearer, new).status == 204
        response += b"".join(iter(lambda: connection.recv(1 << 20), b""))
    assert response.startswith(b"HTTP/1.1 200")
    assert response.partition(b"\r\n\r\n")[2] == old
    assert api.call("GET", path, bearer).body == new


def test_no_response_leaves_a_file_open(api: Api, bearer: dict[str, str]) -> None:
    etag = api.call("HEAD", PATH, bearer).headers["ETag"]
    extras = [{}, {"Range": "bytes=5-9"}, {"Range": f"bytes={SIZE}-"}, {"If-None-Match": etag}, {"If-Match": '"x"'}]
    for extra in extras:
        for method in ("GET", "HEAD"):
            api.call(method, PATH, {**bearer, **extra})
    # The client may see the end of a response before the server closes its file.
    poll(
        lambda: str(api.data.resources) not in "".join(open_descriptors(api.worker()).values()),
        CLOSED_SECONDS,
        "all files are closed",
    )
