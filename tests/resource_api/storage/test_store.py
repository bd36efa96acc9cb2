"""What only a store does: redirects, its two buckets, and what happens when it fails."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from resource_api.storage import s3_uploads
from resource_api.storage.interface import (
    ResourceMissingError,
    StoreError,
    TooManyUploadsError,
    UploadMissingError,
    UploadRefusedError,
)
from resource_api.storage.s3_bucket import Bucket
from resource_api.storage.s3_client import StoreClient
from resource_api.storage.s3_objects import PUT_BYTES, BucketStorage
from resource_api.storage.s3_uploads import S3Uploads
from resource_api.storage.upload_rules import UPLOAD_SECONDS
from tests.resource_api.conftest import EMAIL, Api
from tests.resource_api.storage.conftest import followed, send_to
from tests.support.swift_store import BIG, SMALL, SwiftStore

CONTENT = bytes(range(256)) * 10
NAMES = (f"models/x.{'ab' * 16}.big", "models/x.big", f"images/{'c' * 64}.blob")
SMALL_NAMES = ("models/x.small", "images/1.head", "images/sub/x.blob", "x.blob", "other")
Bearer = dict[str, str]


@pytest.fixture(scope="module", params=["two-buckets"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return the only kind of these tests."""
    return str(request.param)


@pytest.fixture
def uploads(swift: SwiftStore) -> Iterator[S3Uploads]:
    """Yield the uploads to the big bucket, without a server."""
    yield S3Uploads(swift.bucket(BIG), b"key", 60)
    swift.clear()


@pytest.mark.parametrize("name", NAMES)
def test_a_big_object_is_put_through_and_got_from_the_store(
    api: Api, bearer: Bearer, swift: SwiftStore, name: str
) -> None:
    path = f"/resources/{name}"
    assert [api.call("PUT", path, bearer, CONTENT).status for _ in range(2)] == [201, 204]
    redirect = api.call("GET", path, bearer)
    assert (redirect.status, redirect.body, redirect.headers["Cache-Control"]) == (307, b"", "no-store")
    url = urlsplit(redirect.headers["Location"])
    assert (f"http://{url.netloc}", url.path) == (swift.url, f"/{BIG}/{name}")
    assert parse_qs(url.query)["X-Amz-Expires"] == ["600"]
    assert followed(api, "GET", path, bearer).body == CONTENT
    part = followed(api, "GET", path, bearer, {"Range": "bytes=100-"})
    assert (part.status, part.body) == (206, CONTENT[100:])
    head = api.call("HEAD", path, bearer)
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(CONTENT)))
    assert api.call("HEAD", path, {**bearer, "If-None-Match": head.headers["ETag"]}).status == 304
    assert [each.name for each in swift.bucket(SMALL).find("")] == []
    assert api.call("DELETE", path, bearer).status == 204


@pytest.mark.parametrize("name", SMALL_NAMES)
def test_everything_else_is_served_by_this_server_from_the_other_bucket(
    api: Api, bearer: Bearer, swift: SwiftStore, name: str
) -> None:
    path = f"/resources/{name}"
    assert api.call("PUT", path, bearer, CONTENT).status == 201
    got = api.call("GET", path, bearer)
    assert (got.status, got.body) == (200, CONTENT)
    assert [each.name for each in swift.bucket(BIG).find("")] == []
    assert [each.name for each in swift.bucket(SMALL).find("")] == [name]
    assert api.call("DELETE", path, bearer).status == 204


def test_the_keys_of_one_bucket_open_nothing_of_the_other(swift: SwiftStore) -> None:
    swift.bucket(SMALL).put("secret.small", 1, [b"x"])
    with_big_keys = Bucket(StoreClient(swift.signer(BIG), None), SMALL)
    with pytest.raises(StoreError):
        list(with_big_keys.find(""))
    # Swift has the buckets of each account apart, and others say 403.
    with pytest.raises((StoreError, ResourceMissingError)):
        with_big_keys.head("secret.small")
    swift.clear()


def test_the_server_writes_nothing_to_its_data_directory(api: Api, bearer: Bearer) -> None:
    before = snapshot(api.data.root)
    for name in (*NAMES, *SMALL_NAMES):
        api.call("PUT", f"/resources/{name}", bearer, CONTENT)
        upload = post(api, bearer, "/uploads", {"name": name, "size": 5})
        api.call("DELETE", f"/uploads/{json.loads(upload)['upload']}", bearer)
        followed(api, "GET", f"/resources/{name}", bearer)
        api.call("DELETE", f"/resources/{name}", bearer)
    assert snapshot(api.data.root) == before


@pytest.mark.parametrize("name", [NAMES[0], SMALL_NAMES[0]])
@pytest.mark.parametrize("sent", [0, 1, 3_999_999])
def test_a_cut_upload_changes_nothing(api: Api, bearer: Bearer, name: str, sent: int) -> None:
    path = f"/resources/{name}"
    api.call("PUT", path, bearer, b"kept")
    lines = [f"PUT {path} HTTP/1.1", "Host: x", "Connection: close", f"Authorization: {bearer['Authorization']}"]
    head = "\r\n".join([*lines, "Content-Length: 4000000", "", ""])
    assert api.send_and_close(head.encode() + b"x" * sent).startswith(b"HTTP/1.1 400")
    assert followed(api, "GET", path, bearer).body == b"kept"
    api.call("DELETE", path, bearer)


def test_a_refusal_after_the_last_byte_changes_nothing(swift: SwiftStore) -> None:
    bucket = swift.bucket(BIG)
    bucket.put("kept.big", 4, [b"kept"])

    def pieces() -> Iterator[bytes]:
        yield b"ne"
        yield b"w!"
        raise UploadRefusedError("the account was changed meanwhile")

    with pytest.raises(UploadRefusedError):
        bucket.put("kept.big", 4, pieces())
    assert bucket.head("kept.big")[0] == 4
    assert swift.presigned("GET", BIG, "kept.big").content == b"kept"
    swift.clear()


def test_what_stores_do_not_take_as_a_whole_is_refused_before_it_is_sent(swift: SwiftStore) -> None:
    storage = BucketStorage(swift.bucket(BIG), b"key", 60)
    with pytest.raises(UploadRefusedError, match="POST /uploads"):
        storage.put("x.big", PUT_BYTES + 1, iter(()))


def test_uploads_that_have_expired_are_aborted_at_the_store(
    uploads: S3Uploads, swift: SwiftStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned = uploads.create("x.big", 5, EMAIL)
    later = time.time() + UPLOAD_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(UploadMissingError):
        uploads.find(abandoned.id, EMAIL)
    uploads.create("y.big", 5, EMAIL)
    assert [each.key for each in swift.bucket(BIG).uploads()] == ["y.big"]


def test_too_many_open_uploads_are_refused(uploads: S3Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_uploads, "OPEN_UPLOADS", 2)
    made = [uploads.create("x.big", 5, EMAIL) for _ in range(2)]
    with pytest.raises(TooManyUploadsError):
        uploads.create("x.big", 5, EMAIL)
    uploads.abort(made[0])
    assert uploads.create("x.big", 5, EMAIL).part_count == 1


def test_more_uploads_and_more_parts_than_a_page_are_listed(swift: SwiftStore) -> None:
    """The store of the tests lists 20 in a page."""
    bucket = swift.bucket(BIG)
    names = [f"a-{number}.big" for number in range(25)]
    ids = [bucket.create_upload(name) for name in names]
    assert sorted(each.key for each in bucket.uploads()) == sorted(names)
    for number in range(1, 26):
        bucket.put_part(names[0], ids[0], number, 1, [b"x"], None)
    assert [part.number for part in bucket.parts(names[0], ids[0])] == list(range(1, 26))
    swift.clear()


def test_an_upload_that_one_process_has_started_is_completed_by_another(
    api: Api, bearer: Bearer, swift: SwiftStore
) -> None:
    name = NAMES[0]
    path = f"/uploads/{json.loads(post(api, bearer, '/uploads', {'name': name, 'size': len(CONTENT)}))['upload']}"
    with Api(api.data, **swift.settings()) as other:
        # The token is good at both, too.
        (address,) = json.loads(post(other, bearer, f"{path}/urls", {"parts": [1]}, http.client.OK))["urls"]
        url = urlsplit(address["url"])
        etag = send_to(url.netloc, "PUT", f"{url.path}?{url.query}", {}, CONTENT).headers["ETag"]
        post(other, bearer, f"{path}/complete", {"parts": [{"number": 1, "etag": etag}]}, http.client.NO_CONTENT)
    assert followed(api, "GET", f"/resources/{name}", bearer).body == CONTENT
    api.call("DELETE", f"/resources/{name}", bearer)


@pytest.mark.parametrize("behaviour", ["refuses", "silent", "no-http", "endless"])
def test_a_store_that_fails_is_503_with_a_time_to_come_back(behaviour: str, swift: SwiftStore, api: Api) -> None:
    responses = {
        "no-http": b"hello\r\n\r\n",
        "silent": b"",
        "endless": b"HTTP/1.1 500 No\r\nContent-Length: 99999999\r\n\r\nhello",
        "refuses": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=respond, args=(listener, responses[behaviour]), daemon=True)
        thread.start()
        settings = swift.settings() | {"RESOURCE_API_STORE": f"http://127.0.0.1:{listener.getsockname()[1]}"}
        with Api(api.data, **settings) as failing:
            bearer = failing.bearer()
            for method, path in (("GET", "/resources"), ("GET", "/resources/x.small"), ("HEAD", "/resources/x.big")):
                reply = failing.call(method, path, bearer)
                assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
                assert b"127.0.0.1" not in reply.body
            assert failing.call("PUT", "/resources/x.big", bearer, b"x" * 3_000_000).status == 503
            assert failing.call("GET", "/health").status == 200
            log = failing.process.stderr()
        assert "store" in log
        assert "X-Amz-Signature" not in log
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def respond(listener: socket.socket, response: bytes) -> None:
    """Respond to every connection with these bytes, and close it."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with closing(connection):
            connection.recv(1 << 16)
            connection.sendall(response)


def snapshot(root: Path) -> dict[str, float]:
    """Return every path with the time of its last change."""
    return {str(path): path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}


def post(api: Api, bearer: Bearer, path: str, document: object, status: int = http.client.CREATED) -> bytes:
    reply = api.call("POST", path, {**bearer, "Content-Type": "application/json"}, json.dumps(document).encode())
    assert reply.status == status
    return reply.body
