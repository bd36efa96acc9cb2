"""Resumable uploads: in parts, across cuts, kills and processes, and stored completely or not at all."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from resource_api.accounts import Role, Users
from resource_api.data_directory import DataDirectory, DataDirectoryError
from resource_api.storage import directory_uploads
from resource_api.storage.directory_uploads import MIN_PART_BYTES, DirectoryUploads
from resource_api.storage.interface import (
    TooManyUploadsError,
    Upload,
    UploadMissingError,
)
from resource_api.storage.upload_rules import (
    OBJECT_BYTES,
    PART_BYTES,
    PARTS,
    UPLOAD_SECONDS,
    USER_UPLOADS,
    part_sizes_of,
)
from tests.resource_api.conftest import EMAIL, PASSWORD, Api, Reply, new_data

NAME = "models/day/x.big"
LAST = 1000
CONTENT = b"first part".ljust(PART_BYTES, b".") + b"second part".ljust(LAST, b"-")
# The number of the second part, if the first one is as large as possible.
TWO = PART_BYTES // MIN_PART_BYTES + 1
FIRST, SECOND = CONTENT[:PART_BYTES], CONTENT[PART_BYTES:]
Bearer = dict[str, str]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def post(api: Api, bearer: Bearer, path: str, document: object) -> Reply:
    return api.call("POST", path, {**bearer, "Content-Type": "application/json"}, json.dumps(document).encode())


def begin(api: Api, bearer: Bearer, name: str = NAME, size: int = len(CONTENT)) -> str:
    """Begin an upload and return its path."""
    reply = post(api, bearer, "/uploads", {"name": name, "size": size})
    assert reply.status == 201, reply.body
    return f"/uploads/{json.loads(reply.body)['upload']}"


def part_headers(bearer: Bearer, content: bytes) -> Bearer:
    return {**bearer, "Content-MD5": base64.b64encode(bytes.fromhex(md5(content))).decode()}


def send(api: Api, bearer: Bearer, upload: str, number: int, content: bytes) -> Reply:
    """Ask where the part belongs, and put it there."""
    asked = post(api, bearer, f"{upload}/urls", {"parts": [number]})
    (address,) = json.loads(asked.body)["urls"]
    assert address["number"] == number
    assert address["headers"] == ["Authorization", "Content-Length"]
    return api.call("PUT", address["url"], part_headers(bearer, content), content)


def parts(api: Api, bearer: Bearer, upload: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = json.loads(api.call("GET", upload, bearer).body)["parts"]
    return parts


def complete(api: Api, bearer: Bearer, upload: str) -> Reply:
    return post(api, bearer, f"{upload}/complete", {"parts": [dict(part) for part in parts(api, bearer, upload)]})


@pytest.fixture
def upload(api: Api, bearer: Bearer) -> Iterator[str]:
    """Yield the path of a new upload of CONTENT; nothing of it stays."""
    path = begin(api, bearer)
    yield path
    api.call("DELETE", path, bearer)
    api.call("DELETE", f"/resources/{NAME}", bearer)


def test_an_upload_in_parts_becomes_the_object(api: Api, bearer: Bearer) -> None:
    created = post(api, bearer, "/uploads", {"name": NAME, "size": len(CONTENT)})
    described = json.loads(created.body)
    assert (described["name"], described["size"], described["part_size"]) == (NAME, len(CONTENT), PART_BYTES)
    assert described["expires"].endswith("Z")
    upload = f"/uploads/{described['upload']}"
    for number, content in ((TWO, SECOND), (1, FIRST)):
        reply = send(api, bearer, upload, number, content)
        assert (reply.status, reply.headers["ETag"]) == (200, f'"{md5(content)}"')
        assert api.call("GET", f"/resources/{NAME}", bearer).status == 404
    assert json.loads(api.call("GET", upload, bearer).body) == {
        **described,
        "parts": [
            {"number": 1, "size": PART_BYTES, "etag": md5(FIRST)},
            {"number": TWO, "size": LAST, "etag": md5(SECOND)},
        ],
    }
    for _ in range(2):
        assert complete(api, bearer, upload).status == 204
        assert api.call("GET", f"/resources/{NAME}", bearer).body == CONTENT
    assert send(api, bearer, upload, 1, FIRST).status == 400
    assert api.call("DELETE", upload, bearer).status == 204
    assert api.call("GET", upload, bearer).status == 404
    assert api.call("GET", f"/resources/{NAME}", bearer).body == CONTENT
    assert list(api.data.uploads.iterdir()) == []
    assert (api.data.resources / NAME).stat().st_mode & 0o777 == 0o600
    api.call("DELETE", f"/resources/{NAME}", bearer)


def test_a_part_that_is_cut_or_damaged_leaves_the_one_that_was_there(api: Api, bearer: Bearer, upload: str) -> None:
    send(api, bearer, upload, TWO, SECOND)
    path = f"{upload}/parts/{TWO}"
    damaged = api.call("PUT", path, part_headers(bearer, SECOND), b"x" * LAST)
    assert damaged.status == 400
    assert "MD5" in str(damaged.problem()["detail"])
    head = [f"PUT {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {LAST}"]
    head += [f"{name}: {value}" for name, value in part_headers(bearer, b"x" * LAST).items()]
    cut = api.send_and_close("\r\n".join([*head, "", ""]).encode() + b"x" * (LAST - 1))
    assert cut.startswith(b"HTTP/1.1 400")
    assert parts(api, bearer, upload) == [{"number": TWO, "size": LAST, "etag": md5(SECOND)}]
    assert list(api.data.temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "size"),
    [
        *((0, LAST), (-1, LAST), (TWO, LAST - 1), (TWO, LAST + 1), (TWO + 1, LAST), (1, 0)),
        *((1, PART_BYTES - 1), (1, PART_BYTES + MIN_PART_BYTES), (1, LAST), (TWO - 1, MIN_PART_BYTES + LAST - 1)),
    ],
)
def test_a_part_has_a_size_that_fits(api: Api, bearer: Bearer, upload: str, number: int, size: int) -> None:
    content = b"x" * size
    refused = api.call("PUT", f"{upload}/parts/{number}", part_headers(bearer, content), content)
    assert refused.status in (400, 404)
    assert parts(api, bearer, upload) == []


def test_a_part_needs_a_length_and_an_md5_that_is_one(api: Api, bearer: Bearer, upload: str) -> None:
    path = f"{upload}/parts/{TWO}"
    for value in ("", "AAAA", "no base64 at all", md5(SECOND)):
        assert api.call("PUT", path, {**bearer, "Content-MD5": value}, SECOND).status == 400
    assert api.call("PUT", path, part_headers(bearer, SECOND), iter([SECOND])).status == 411
    assert parts(api, bearer, upload) == []


def test_a_part_without_an_md5_gets_another_etag_each_time(api: Api, bearer: Bearer, upload: str) -> None:
    path = f"{upload}/parts/{TWO}"
    replies = [api.call("PUT", path, bearer, SECOND) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 200]
    first, last = (reply.headers["ETag"] for reply in replies)
    assert first != last
    assert parts(api, bearer, upload) == [{"number": TWO, "size": LAST, "etag": last.strip('"')}]


def test_the_last_put_of_a_part_counts(api: Api, bearer: Bearer, upload: str) -> None:
    send(api, bearer, upload, 1, FIRST)
    stale = {"number": TWO, "etag": send(api, bearer, upload, TWO, b"x" * LAST).headers["ETag"]}
    send(api, bearer, upload, TWO, SECOND)
    first = {"number": 1, "etag": md5(FIRST)}
    assert post(api, bearer, f"{upload}/complete", {"parts": [first, stale]}).status == 400
    assert post(api, bearer, f"{upload}/complete", {"parts": [first]}).status == 400
    assert complete(api, bearer, upload).status == 204
    assert api.call("GET", f"/resources/{NAME}", bearer).body == CONTENT


def test_parts_of_several_sizes_become_the_object(api: Api, bearer: Bearer, upload: str) -> None:
    half = PART_BYTES // 2
    send(api, bearer, upload, 1, FIRST[: 2 * MIN_PART_BYTES])
    send(api, bearer, upload, 3, FIRST[2 * MIN_PART_BYTES : half])
    assert complete(api, bearer, upload).status == 400
    send(api, bearer, upload, half // MIN_PART_BYTES + 1, CONTENT[half:])
    assert [part["size"] for part in parts(api, bearer, upload)] == [
        2 * MIN_PART_BYTES,
        half - 2 * MIN_PART_BYTES,
        half + LAST,
    ]
    assert complete(api, bearer, upload).status == 204
    assert api.call("GET", f"/resources/{NAME}", bearer).body == CONTENT


def test_a_part_replaces_those_that_it_overlaps(api: Api, bearer: Bearer, upload: str) -> None:
    for number in (1, 2, 4, 5):
        send(api, bearer, upload, number, b"x" * MIN_PART_BYTES)
    send(api, bearer, upload, 2, b"y" * (3 * MIN_PART_BYTES))
    assert [(part["number"], part["size"] // MIN_PART_BYTES) for part in parts(api, bearer, upload)] == [
        (1, 1),
        (2, 3),
        (5, 1),
    ]
    send(api, bearer, upload, 3, b"z" * MIN_PART_BYTES)
    assert [part["number"] for part in parts(api, bearer, upload)] == [1, 3, 5]
    send(api, bearer, upload, 1, FIRST)
    send(api, bearer, upload, TWO, SECOND)
    assert complete(api, bearer, upload).status == 204
    assert api.call("GET", f"/resources/{NAME}", bearer).body == CONTENT


def test_a_part_that_stands_twice_in_the_list_is_refused(api: Api, bearer: Bearer, upload: str) -> None:
    send(api, bearer, upload, 1, FIRST)
    send(api, bearer, upload, TWO, SECOND)
    listed = parts(api, bearer, upload)
    reply = post(api, bearer, f"{upload}/complete", {"parts": [*listed, listed[0]]})
    assert reply.status == 400
    assert reply.problem()["detail"] == "A part must stand in the list once."
    assert api.call("GET", f"/resources/{NAME}", bearer).status == 404
    assert complete(api, bearer, upload).status == 204


def test_simultaneous_puts_of_one_part_store_one_of_them(api: Api, bearer: Bearer, upload: str) -> None:
    contents = [bytes([number]) * PART_BYTES for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda content: send(api, bearer, upload, 1, content), contents))
    assert {reply.status for reply in replies} == {200}
    send(api, bearer, upload, TWO, SECOND)
    assert complete(api, bearer, upload).status == 204
    stored = api.call("GET", f"/resources/{NAME}", bearer).body
    assert stored[:PART_BYTES] in contents


def test_an_upload_that_lacks_a_part_is_not_completed(api: Api, bearer: Bearer, upload: str) -> None:
    send(api, bearer, upload, 1, FIRST)
    reply = complete(api, bearer, upload)
    assert reply.status == 400
    assert "without gaps" in str(reply.problem()["detail"])
    assert api.call("GET", f"/resources/{NAME}", bearer).status == 404


def test_of_two_uploads_of_a_name_the_last_one_counts(api: Api, bearer: Bearer, upload: str) -> None:
    other = begin(api, bearer, size=LAST)
    assert other != upload
    send(api, bearer, upload, 1, FIRST)
    send(api, bearer, upload, TWO, SECOND)
    send(api, bearer, other, 1, SECOND)
    assert complete(api, bearer, upload).status == 204
    assert complete(api, bearer, other).status == 204
    assert api.call("GET", f"/resources/{NAME}", bearer).body == SECOND
    api.call("DELETE", other, bearer)


def test_names_that_collide_are_refused_at_the_beginning_and_at_the_end(api: Api, bearer: Bearer) -> None:
    api.call("PUT", "/resources/taken/object", bearer, b"object")
    for name in ("taken", "taken/object/x", "taken/object/x/y"):
        assert post(api, bearer, "/uploads", {"name": name, "size": 1}).status == 409
    late = begin(api, bearer, "b", LAST)
    send(api, bearer, late, 1, SECOND)
    api.call("PUT", "/resources/b/object", bearer, b"object")
    assert complete(api, bearer, late).status == 409
    api.call("DELETE", "/resources/b/object", bearer)
    (api.data.resources / "b").rmdir()
    assert complete(api, bearer, late).status == 204
    for path in (late, "/resources/b", "/resources/taken/object"):
        api.call("DELETE", path, bearer)


@pytest.mark.parametrize(
    "document",
    [
        *([], {}, {"name": "a"}, {"size": 1}, {"name": 1, "size": 1}, {"name": "a", "size": "1"}),
        *({"name": "a", "size": True}, {"name": "a", "size": 1.5}, {"name": "a", "size": 0}, {"name": "a", "size": -1}),
        *({"name": "a", "size": OBJECT_BYTES + 1}, {"name": "../a", "size": 1}, {"name": "", "size": 1}),
        *({"name": "a/.b", "size": 1}, {"name": "a" * 252, "size": 1}, {"name": "\ud800", "size": 1}),
    ],
)
def test_what_cannot_be_uploaded_is_refused(api: Api, bearer: Bearer, document: object) -> None:
    before = sorted(api.data.uploads.iterdir())
    reply = post(api, bearer, "/uploads", document)
    assert reply.status == 400
    reply.problem()
    assert sorted(api.data.uploads.iterdir()) == before


MALFORMED: dict[str, list[object]] = {
    "urls": [[], {}, {"parts": 1}, {"parts": ["1"]}, {"parts": [True]}],
    "complete": [
        {"parts": [1]},
        {"parts": [{}]},
        {"parts": [{"number": 1}]},
        {"parts": [{"number": True, "etag": "0"}]},
    ],
}
MALFORMED["urls"] += [{"parts": [0]}, {"parts": [TWO + 1]}, {"parts": [-1]}, {"parts": [1] * (PARTS + 1)}]
MALFORMED["complete"] += [{"parts": []}, {"parts": [{"number": 1, "etag": "../../x"}]}]


@pytest.mark.parametrize("action", MALFORMED)
def test_malformed_requests_are_refused(api: Api, bearer: Bearer, upload: str, action: str) -> None:
    for document in MALFORMED[action]:
        reply = post(api, bearer, f"{upload}/{action}", document)
        assert reply.status == 400, document
        reply.problem()


def test_a_body_that_is_too_large_or_no_json_is_refused(api: Api, bearer: Bearer) -> None:
    json_type = {**bearer, "Content-Type": "application/json"}
    assert api.call("POST", "/uploads", json_type, b" " * ((1 << 20) + 1)).status == 413
    assert api.call("POST", "/uploads", json_type, b"[" * 100_000).status == 400
    assert api.call("POST", "/uploads", bearer, b"{}").status == 415


def test_an_upload_is_found_by_its_user_and_its_id_alone(api: Api, bearer: Bearer, upload: str) -> None:
    Users(api.data).set_password("other@example.com", PASSWORD, Role.PUBLISHER)
    other = api.bearer("other@example.com")
    assert api.call("GET", upload, other).status == 404
    assert api.call("DELETE", upload, other).status == 404
    assert api.call("PUT", f"{upload}/parts/{TWO}", part_headers(other, SECOND), SECOND).status == 404
    for unknown in ("0" * 32, "x", "..", "%2e%2e", "upload.json", upload[9:].upper()):
        assert api.call("GET", f"/uploads/{unknown}", bearer).status == 404, unknown
    assert api.call("GET", upload, bearer).status == 200


def test_a_part_of_a_user_who_was_disabled_meanwhile_is_refused(api: Api) -> None:
    users, email = Users(api.data), "leaving@example.com"
    users.set_password(email, PASSWORD, Role.PUBLISHER)
    bearer = api.bearer(email)
    upload = begin(api, bearer, size=LAST)
    head = [f"PUT {upload}/parts/1 HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {LAST}"]
    head += [f"{name}: {value}" for name, value in part_headers(bearer, SECOND).items()]
    with socket.create_connection(("127.0.0.1", api.port), 10) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + SECOND[:-1])
        users.disable(email)
        connection.sendall(SECOND[-1:])
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
    assert api.call("POST", f"{upload}/complete", bearer).status == 401
    assert DirectoryUploads(api.data).parts(DirectoryUploads(api.data).find(upload[9:], email)) == []


def test_another_process_goes_on_after_a_kill(tmp_path: Path) -> None:
    """The first process is killed between two parts, in the middle of one, and after the completion."""
    data = new_data(tmp_path)
    with Api(data) as first, Api(data) as second:
        bearer = first.bearer()
        upload = begin(first, bearer)
        send(first, bearer, upload, 1, FIRST)
        head = [f"PUT {upload}/parts/{TWO} HTTP/1.1", "Host: x", f"Content-Length: {LAST}"]
        head += [f"{name}: {value}" for name, value in part_headers(bearer, SECOND).items()]
        with socket.create_connection(("127.0.0.1", first.port), 10) as connection:
            connection.sendall("\r\n".join([*head, "", ""]).encode() + SECOND[:-1])
            first.process.kill_tree()
        assert [part["number"] for part in parts(second, bearer, upload)] == [1]
        assert send(second, bearer, upload, TWO, SECOND).status == 200
        assert complete(second, bearer, upload).status == 204
        second.process.kill_tree()
    with Api(data) as third:
        assert complete(third, bearer, upload).status == 204
        assert third.call("GET", f"/resources/{NAME}", bearer).body == CONTENT
        assert third.call("DELETE", upload, bearer).status == 204
    assert list(data.uploads.iterdir()) == []


# What follows needs no server.


@pytest.fixture
def uploads(data: DataDirectory) -> DirectoryUploads:
    return DirectoryUploads(data)


def put(uploads: DirectoryUploads, upload: Upload, number: int, content: bytes) -> str:
    return uploads.put_part(upload, number, len(content), bytes.fromhex(md5(content)), [content])


def test_an_upload_expires_with_its_parts(
    uploads: DirectoryUploads, data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = uploads.create("a", LAST, EMAIL)
    put(uploads, upload, 1, SECOND)
    (data.uploads / ("0" * 32)).mkdir()  # a process was killed before it wrote the record
    monkeypatch.setattr("resource_api.storage.directory_uploads.time.time", lambda: upload.expires - 1)
    assert DirectoryUploads(data).find(upload.id, EMAIL) == upload
    monkeypatch.setattr("resource_api.storage.directory_uploads.time.time", lambda: upload.expires)
    with pytest.raises(UploadMissingError):
        uploads.find(upload.id, EMAIL)
    monkeypatch.setattr("resource_api.storage.directory_uploads.time.time", lambda: upload.expires + 60)
    new = uploads.create("b", LAST, EMAIL)
    assert [path.name for path in data.uploads.iterdir()] == [new.id]
    assert new.expires == upload.expires + 60 + UPLOAD_SECONDS


def test_open_uploads_of_a_user_are_limited(uploads: DirectoryUploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_uploads, "USER_UPLOADS", 3)
    assert USER_UPLOADS > 3
    made = [uploads.create("a", LAST, EMAIL) for _ in range(3)]
    with pytest.raises(TooManyUploadsError):
        uploads.create("a", LAST, EMAIL)
    uploads.create("a", LAST, "other@example.com")
    put(uploads, made[0], 1, SECOND)
    uploads.complete(made[0], {1: md5(SECOND)})  # a completed one is not open
    uploads.create("a", LAST, EMAIL)
    uploads.abort(made[1])
    uploads.create("a", LAST, EMAIL)


def test_uploads_that_begin_at_the_same_time_keep_the_limit(
    uploads: DirectoryUploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_uploads, "USER_UPLOADS", 1)
    both_ask = threading.Barrier(2)
    sweep = uploads._sweep

    def slow_sweep() -> list[Upload]:
        found = sweep()
        with suppress(threading.BrokenBarrierError):  # under the lock the other one does not come
            both_ask.wait(0.5)
        return found

    monkeypatch.setattr(uploads, "_sweep", slow_sweep)
    with ThreadPoolExecutor(2) as pool:
        begun = [pool.submit(uploads.create, "a", LAST, EMAIL) for _ in range(2)]
    assert sorted(type(each.exception()).__name__ for each in begun) == ["NoneType", "TooManyUploadsError"]


def test_an_upload_that_was_aborted_takes_no_part(uploads: DirectoryUploads) -> None:
    upload = uploads.create("a", LAST, EMAIL)

    def pieces() -> Iterator[bytes]:
        yield SECOND
        uploads.abort(upload)

    with pytest.raises(UploadMissingError):
        uploads.put_part(upload, 1, LAST, bytes.fromhex(md5(SECOND)), pieces())


@pytest.mark.parametrize(
    ("size", "smallest", "largest"),
    [
        (1, MIN_PART_BYTES, PART_BYTES),
        (PARTS * MIN_PART_BYTES, MIN_PART_BYTES, PART_BYTES),
        (PARTS * MIN_PART_BYTES + 1, 2 * MIN_PART_BYTES, PART_BYTES),
        (PARTS * PART_BYTES, PART_BYTES, PART_BYTES),
        (PARTS * PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES),
        (OBJECT_BYTES, 1 << 30, 1 << 30),
    ],
)
def test_parts_grow_so_that_there_are_never_too_many(size: int, smallest: int, largest: int) -> None:
    assert part_sizes_of(size, MIN_PART_BYTES) == (smallest, largest)
    upload = Upload("", "a", size, largest, smallest, EMAIL, 0)
    assert upload.part_count <= PARTS
    last = size - upload.begin_of(upload.part_count)
    assert 0 < last <= smallest
    upload.require_part(upload.part_count, last)


@pytest.mark.parametrize("record", ["", '{"name": "a", "size": 1}', "[]"])
def test_a_record_that_cannot_be_read_costs_its_upload_only(
    uploads: DirectoryUploads, data: DataDirectory, record: str
) -> None:
    # Such as one that the disk has damaged, or that another version has written.
    lost, kept = uploads.create("a", 1, EMAIL), uploads.create("b", 1, EMAIL)
    (data.uploads / lost.id / "upload.json").write_text(record)
    started_again = DirectoryUploads(data)
    with pytest.raises(UploadMissingError):
        started_again.find(lost.id, EMAIL)
    assert started_again.find(kept.id, EMAIL) == kept
    assert started_again.create("c", 1, EMAIL).name == "c"


def test_a_data_directory_of_an_earlier_version_gets_its_folder(data: DataDirectory) -> None:
    data.uploads.rmdir()
    assert DirectoryUploads(data).create("a", 1, EMAIL).part_count == 1


def test_too_many_uploads_are_a_conflict(data: DataDirectory) -> None:
    uploads = DirectoryUploads(data)
    made = data.uploads / uploads.create("a", 1, EMAIL).id
    for number in range(1, USER_UPLOADS):  # copies, because it takes seconds to create so many
        shutil.copytree(made, data.uploads / f"{number:032x}")
    with Api(data) as api:
        reply = post(api, api.bearer(), "/uploads", {"name": "a", "size": 1})
        assert reply.status == 409
        assert "too many" in str(reply.problem()["detail"])
    assert len(list(data.uploads.iterdir())) == USER_UPLOADS


def test_uploads_on_another_file_system_are_one_clear_line(data: DataDirectory) -> None:
    memory = Path("/dev/shm")  # nothing is written there
    assert memory.stat().st_dev != data.resources.stat().st_dev
    data.uploads.rmdir()
    data.uploads.symlink_to(memory)
    with pytest.raises(DataDirectoryError, match="must be on one file system"):
        DataDirectory.open(data.root).require_storage()
