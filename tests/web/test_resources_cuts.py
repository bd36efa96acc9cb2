"""Transfers that are cut: no client takes a part for the whole, and nothing is left behind."""

from __future__ import annotations

import http.client
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from loader.crypto.segments import FIRST_PLAINTEXT_SIZE
from tests.support.faulty_api import Fault
from tests.support.flips import flipped
from tests.support.http_calls import BOUNDARY, call, form, load, open_socket, part, upload
from tests.support.processes import poll
from tests.support.procfs import open_descriptors, thread_count
from tests.support.sealed_objects import SealedObjects, debris, seal
from tests.support.sites import FaultySite, faulty_site

MIB = 1 << 20
CONTENT = bytes(range(251)) * (48 * MIB // 251)  # more than all socket buffers on the way hold
CUT_AT = 20 * MIB
SECONDS = 10
REPETITIONS = 3


@pytest.fixture
def sealed() -> SealedObjects:
    """A resource of 48 MiB, sealed for each test, because the loader remembers which object was damaged."""
    return seal("m", "x", CONTENT)


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultySite]:
    """A loader with two threads, which all tests of this module share through `site`."""
    directory = tmp_path_factory.mktemp("site")
    (directory / "tmp").mkdir()
    with faulty_site(directory, LOADER_THREADS="2", TMPDIR=str(directory / "tmp")) as running:
        yield running


@pytest.fixture
def site(shared_site: FaultySite, sealed: SealedObjects) -> Iterator[FaultySite]:
    """A loader with an empty cache, and a healthy API that has the resource."""
    shared_site.api.reset()
    shared_site.api.objects.update(sealed.as_objects())
    yield shared_site
    shared_site.api.resume()
    shared_site.empty_cache()


def load_partly(site: FaultySite) -> bytes:
    """Return what arrives of a load that is cut."""
    with pytest.raises(http.client.IncompleteRead) as caught:
        load(site.url, "m", "x")
    return caught.value.partial


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(cut_after=CUT_AT), "API_UNREACHABLE"),
        (Fault(cut_after=CUT_AT, announced=-1), "API_UNREACHABLE"),
        (Fault(cut_after=CUT_AT, headers={"Transfer-Encoding": "chunked"}), "API_UNREACHABLE"),
    ],
    ids=["cut", "cut without a length", "broken chunks"],
)
def test_a_failed_download_cuts_the_load(site: FaultySite, sealed: SealedObjects, fault: Fault, code: str) -> None:
    before = len(site.audit_lines("load"))
    body = sealed.big
    if "Transfer-Encoding" in fault.headers:
        body = b"".join(b"%x\r\n" % MIB + body[start : start + MIB] + b"\r\n" for start in range(0, CUT_AT, MIB))
        fault = replace(fault, cut_after=len(body))
    site.api.answer("GET", sealed.big_path, replace(fault, body=body))
    arrived = load_partly(site)
    assert CONTENT.startswith(arrived)
    assert FIRST_PLAINTEXT_SIZE <= len(arrived) < CUT_AT + MIB
    line = site.next_audit_line("load", before)
    assert (line["outcome"], line["code"], line["file"]) == ("cut", code, "m/x")
    assert line["bytes"] == len(arrived)
    poll(lambda: site.api.open_connections == 0, SECONDS, "the download is given up")


def test_connection_of_a_cut_load_serves_no_further_request(site: FaultySite, sealed: SealedObjects) -> None:
    """A next response on the same connection would look like the rest of the resource."""
    site.api.answer("GET", sealed.big_path, Fault(body=sealed.big, cut_after=CUT_AT))
    with open_socket(site.url) as connection:
        connection.sendall(load_request() + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        arrived = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    head, _, body = arrived.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert FIRST_PLAINTEXT_SIZE <= len(body) < CUT_AT + MIB
    assert CONTENT.startswith(body)


@pytest.mark.parametrize("position", [CUT_AT, -1], ids=["in the middle", "the last byte"])
def test_a_wrong_byte_cuts_the_load_before_its_segment(site: FaultySite, sealed: SealedObjects, position: int) -> None:
    before = len(site.audit_lines("load"))
    site.api.objects[sealed.big_path] = flipped(sealed.big, position)
    arrived = load_partly(site)
    assert CONTENT.startswith(arrived)
    assert len(arrived) < (CUT_AT + MIB if position > 0 else len(CONTENT))
    line = site.next_audit_line("load", before)
    assert (line["outcome"], line["code"], line["bytes"]) == ("cut", "RESOURCE_CORRUPT", len(arrived))


def test_bytes_after_the_last_segment_count_as_damage(site: FaultySite, sealed: SealedObjects) -> None:
    site.api.objects[sealed.big_path] = sealed.big + b"x"
    load(site.url, "m", "x").problem(502, "RESOURCE_CORRUPT")


def test_a_client_that_disconnects_leaves_nothing_behind(site: FaultySite) -> None:
    warm_up(site)
    pid = site.loader.worker_pid
    threads, descriptors = thread_count(pid), sorted(open_descriptors(pid).values())
    before = len(site.audit_lines("load")), len(site.audit_lines("upload"))
    for number in range(REPETITIONS):
        abandon_load(site)
        line = site.next_audit_line("load", before[0] + number)
        assert (line["outcome"], line["code"]) == ("disconnected", None)
        assert line["bytes"] < len(CONTENT)
    for number, file_first in enumerate([False, True] * REPETITIONS):
        abandon_upload(site, file_first=file_first)
        line = site.next_audit_line("upload", before[1] + number)
        assert (line["outcome"], line["code"]) == ("failed", "BODY_TRUNCATED")
    poll(lambda: site.api.open_connections == 0, SECONDS, "the downloads are given up")
    assert site.api.requests("PUT") == []
    poll(lambda: len(open_descriptors(pid)) == len(descriptors), SECONDS, "all descriptors are closed")
    assert sorted(kind(name) for name in open_descriptors(pid).values()) == [kind(name) for name in descriptors]
    assert thread_count(pid) == threads
    assert debris(site.models) == []
    assert [*Path(site.models.parents[1] / "tmp").iterdir()] == []
    assert load(site.url, "m", "x").body == CONTENT


def kind(descriptor: str) -> str:
    """Return what a descriptor names, without the number of a socket."""
    return descriptor.partition("[")[0]


def warm_up(site: FaultySite) -> None:
    """Make the loader start all its threads, and wait until only the listening socket is open."""
    assert upload(site.url, "m", "warm", CONTENT[: 4 * MIB]).status == 200
    with ThreadPoolExecutor(8) as clients:
        for reply in clients.map(lambda _: load(site.url, "m", "warm"), range(16)):
            assert reply.status == 200
    pid = site.loader.worker_pid
    poll(lambda: str(open_descriptors(pid)).count("socket:") == 1, SECONDS, "all connections are closed")
    objects = dict(site.api.objects)
    site.api.reset()
    site.api.objects.update(objects)


def load_request() -> bytes:
    """Return the request of a load."""
    body = b'{"filename": "x", "folder": "m"}'
    head = "POST /load/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def abandon_load(site: FaultySite) -> None:
    """Read one MiB of a load and disconnect."""
    with open_socket(site.url) as connection:
        connection.sendall(load_request())
        arrived = 0
        while arrived < MIB:
            arrived += len(connection.recv(1 << 16))


def abandon_upload(site: FaultySite, *, file_first: bool) -> None:
    """Send half of an upload and disconnect once a part of it is in an unnamed file."""
    parts = [part("folder", b"m"), part("file", CONTENT, filename="x")]
    body = form(*(reversed(parts) if file_first else parts))
    head = f"POST /upload/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    with open_socket(site.url) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:CUT_AT])
        pid = site.loader.worker_pid
        poll(lambda: "(deleted)" in (now := str(open_descriptors(pid))) or ".upload-" in now, SECONDS, "it is sealed")


def test_upload_that_the_api_cuts_is_reported_and_leaves_nothing_behind(site: FaultySite) -> None:
    for fault in (Fault(500, unread=True), Fault(silent=True)):
        site.api.answer_all("PUT", fault)
        reply = upload(site.url, "m", "x", CONTENT[: 8 * MIB])
        assert reply.status in (502, 503)
        assert reply.problem(reply.status, "API_ERROR" if reply.status == 502 else "API_UNREACHABLE")["retryable"]
        assert debris(site.models) == []
    poll(lambda: site.api.open_connections == 0, SECONDS, "the uploads are given up")


def test_signature_of_a_redirect_is_in_no_log(site: FaultySite) -> None:
    before = len(site.audit_lines("load"))
    faults = {"refused": Fault(403), "silent": Fault(silent=True), "cut": Fault(body=CONTENT, cut_after=MIB)}

    def load_in_vain(name: str) -> None:
        resource = seal("m", name, CONTENT[: 3 * MIB])
        site.api.objects.update(resource.as_objects())
        signed = {"Location": f"/bucket/{name}?X-Signature=planted-signature"}
        site.api.answer("GET", resource.big_path, Fault(302, headers=signed))
        site.api.answer("GET", f"/bucket/{name}", faults[name])
        with suppress(http.client.IncompleteRead):
            assert b"planted-signature" not in load(site.url, "m", name).body

    with ThreadPoolExecutor(len(faults)) as clients:
        list(clients.map(load_in_vain, faults))
    poll(lambda: len(site.audit_lines("load")) == before + len(faults), SECONDS, "they have ended")
    for name in faults:
        assert "planted-signature" in str(site.api.requests("GET", f"/bucket/{name}"))
    assert "planted-signature" not in site.loader.process.stderr()


def test_health_responds_while_all_transfers_wait(tmp_path: Path, sealed: SealedObjects) -> None:
    with faulty_site(tmp_path / "busy", API_READ_TIMEOUT="30") as busy:
        busy.api.objects.update(sealed.as_objects())
        busy.api.answer("GET", sealed.big_path, Fault(body=sealed.big, stall_after=CUT_AT))
        with ThreadPoolExecutor(8) as clients:
            loads = [clients.submit(load, busy.url, "m", "x") for _ in range(8)]
            poll(lambda: len(busy.api.requests("GET", sealed.small_path)) == 8, SECONDS, "all loads have begun")
            poll(lambda: busy.api.requests("GET", sealed.big_path), SECONDS, "their one download has begun")
            assert call(busy.url, "GET", "/health").status == 200
            assert call(busy.url, "GET", "/status").status == 200
            busy.api.resume()
            assert all(each.result().body == CONTENT for each in loads)
    shutil.rmtree(tmp_path / "busy")
