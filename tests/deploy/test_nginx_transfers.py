"""Models through nginx: no plaintext in files, cuts stay visible, and silent clients hold nobody up."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import Fronted, fronted_range, receive_all
from tests.deploy.plaintext_watch import MARKER, PlaintextWatch
from tests.deploy.raw_upstream import RawUpstream
from tests.support.http_calls import BOUNDARY, Reply, call, form, login, open_socket, parse_reply, part
from tests.support.loads import OpenLoad
from tests.support.nginx_server import NginxServer, nginx
from tests.support.processes import poll
from tests.support.procfs import children, open_descriptors, peak_rss_bytes
from tests.support.stored_resources import FOLDER, MIB, store_resource

SECONDS = 20
LARGE_MIB = 256
MAX_NGINX_BYTES = 32 * MIB
PIECE = (MARKER * (MIB // len(MARKER) + 1))[:MIB]
BEGIN, END = form(part("folder", FOLDER.encode()), part("file", b"\0", filename="x")).split(b"\0")
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
IMPATIENT = {
    "client_header_timeout 15s": "client_header_timeout 1s",
    "client_body_timeout 60s": "client_body_timeout 1s",
    "send_timeout 60s": "send_timeout 1s",
}
BUFFERED = {"proxy_request_buffering off": "proxy_request_buffering on"}


def upload_of(url: str, name: str, count: int) -> Reply:
    """Upload `count` times PIECE, never held in memory."""
    length = len(BEGIN) + count * MIB + len(END)
    pieces = [BEGIN, *[PIECE] * count, END]
    return call(url, "POST", f"/upload/{name}", pieces, {**FORM, "Content-Length": str(length)})


def begin_upload(url: str, count: int) -> socket.socket:
    """An upload of twice as much, of which `count` times PIECE are sent."""
    connection = open_socket(url)
    head = f"POST /upload/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2 * count * MIB}\r\n"
    connection.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode() + BEGIN + PIECE * count)
    return connection


def watched(site: Fronted, front: NginxServer) -> PlaintextWatch:
    """Watch all files that nginx and the loader could write."""
    return PlaintextWatch(
        lambda: [*front.pids, site.loader.master_pid, site.loader.worker_pid], [front.directory, site.models.parents[1]]
    )


def test_uploads_and_loads_leave_plaintext_in_no_file(site: Fronted) -> None:
    with watched(site, site.nginx) as watch:
        assert upload_of(site.url, "large", LARGE_MIB).status == 200
        with OpenLoad(site.url, "large") as opened:
            done = opened.finish()
    digest = hashlib.sha256()
    for _ in range(LARGE_MIB):
        digest.update(PIECE)
    assert (done.arrived, done.sha256) == (LARGE_MIB * MIB, digest.hexdigest())
    assert watch.samples >= 5
    assert watch.found == set()
    assert all(peak_rss_bytes(pid) < MAX_NGINX_BYTES for pid in site.nginx.pids)


def test_plaintext_that_nginx_buffers_would_be_found(site: Fronted, tmp_path: Path) -> None:
    with (
        nginx(tmp_path / "nginx", site.upstream, BUFFERED) as buffering,
        watched(site, buffering) as watch,
        begin_upload(buffering.url, 8),
    ):
        poll(lambda: watch.found, SECONDS, "the file in which nginx keeps the upload")
    assert all("/body/" in name for name in watch.found)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, site: Fronted) -> Iterator[NginxServer]:
    """nginx that disconnects silent clients after 1 second instead of 60; the loader still waits for 60."""
    assert upload_of(site.url, "larger", 48).status == 200
    with nginx(tmp_path_factory.mktemp("impatient") / "nginx", site.upstream, IMPATIENT) as front:
        yield front


def test_a_client_that_does_not_end_its_headers_is_disconnected(impatient: NginxServer) -> None:
    with open_socket(impatient.url) as connection:
        connection.sendall(b"GET /status HTTP/1.1\r\nHost: localh")
        assert receive_all(connection) == b""


def test_a_client_that_stops_sending_is_disconnected(impatient: NginxServer, site: Fronted) -> None:
    before = len(site.audit_lines("upload"))
    with begin_upload(impatient.url, 4) as connection:
        line = site.next_audit_line("upload", before)
        assert (line["outcome"], line["code"]) == ("failed", "BODY_TRUNCATED")
        assert receive_all(connection) == b""


def test_a_client_that_stops_reading_is_disconnected(impatient: NginxServer, site: Fronted) -> None:
    before = len(site.audit_lines("load"))
    with OpenLoad(impatient.url, "larger", receive_buffer=1 << 16) as opened:
        assert opened.read(1) == 1
        line = site.next_audit_line("load", before)
        assert (line["outcome"], line["code"]) == ("disconnected", None)
        assert opened.finish().cut


def test_a_client_that_disconnects_frees_the_loader(site: Fronted, impatient: NginxServer) -> None:
    for url in (site.url, impatient.url):
        before = len(site.audit_lines("load"))
        with OpenLoad(url, "larger", receive_buffer=1 << 16) as opened:
            assert opened.read(1) == 1
        assert site.next_audit_line("load", before)["outcome"] == "disconnected"


@pytest.mark.parametrize(("version", "cut"), [("1.1", True), ("1.0", False)], ids=["as it is", "twin"])
def test_a_cut_response_without_a_length_looks_cut(tmp_path: Path, version: str, *, cut: bool) -> None:
    """nginx uses HTTP/1.1, so it sees that the last chunk is missing; with HTTP/1.0, its default, it could not."""
    changes = {"proxy_http_version 1.1": f"proxy_http_version {version}"}
    with (
        RawUpstream(tmp_path / "raw.sock") as upstream,
        nginx(tmp_path / "nginx", tmp_path / "raw.sock", changes) as up,
    ):
        upstream.answers = {
            b"HTTP/1.1": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
            b"HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\npart",
        }
        if cut:
            with pytest.raises(http.client.IncompleteRead):
                call(up.url, "GET", "/status")
        else:
            assert call(up.url, "GET", "/status").body == b"part"


def test_a_killed_worker_cuts_its_transfers(tmp_path: Path) -> None:
    resource = store_resource(tmp_path, "larger", 48 * MIB)
    with fronted_range(tmp_path / "killed") as site:
        resource.publish(site.api)
        with OpenLoad(site.url, "larger", receive_buffer=1 << 16) as opened:
            assert opened.read(1) == 1
            kill_worker(site)
            assert opened.finish().cut
        assert login(site.url).status == 200
        with begin_upload(site.url, 8) as connection:
            worker = site.loader.worker_pid
            poll(lambda: str(site.models) in str(open_descriptors(worker)), SECONDS, "the upload is sealed")
            kill_worker(site)
            parse_reply(receive_all(connection)).problem(502, "LOADER_UNREACHABLE")


def kill_worker(site: Fronted) -> None:
    """Kill the worker, and wait for the next one."""
    killed = site.loader.worker_pid
    os.kill(killed, signal.SIGKILL)
    poll(lambda: children(site.loader.master_pid) not in ([], [killed]), SECONDS, "a new worker")
