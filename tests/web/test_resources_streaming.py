"""Transfers stream: the first bytes are sent before the last arrive, and memory does not grow with the resource."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from loader.crypto.segments import FIRST_PLAINTEXT_SIZE
from tests.support.faulty_api import Fault
from tests.support.http_calls import BOUNDARY, call, form, load, part, upload
from tests.support.procfs import peak_rss_bytes, reset_peak_rss
from tests.support.sealed_objects import seal
from tests.support.sites import Site, faulty_site, real_site

MIB = 1 << 20
LARGE = 128 * MIB
MAX_GROWTH = 32 * MIB
PIECE = bytes(range(256)) * (MIB // 256)


def test_the_first_segment_is_sent_before_the_rest_has_arrived(tmp_path: Path) -> None:
    content = PIECE * 8
    sealed = seal("m", "x", content)
    with faulty_site(tmp_path / "stalling", API_READ_TIMEOUT="30") as site:
        site.api.objects.update(sealed.as_objects())
        site.api.answer("GET", sealed.big_path, Fault(body=sealed.big, stall_after=2 * MIB))
        connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=10)
        body = json.dumps({"filename": "x", "folder": "m"})
        connection.request("POST", "/load/x", body, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            assert response.status == 200
            first = response.read(FIRST_PLAINTEXT_SIZE)
            assert first == content[:FIRST_PLAINTEXT_SIZE]
            assert site.api.open_connections == 1  # what has arrived did so while the API held the rest back
            site.api.resume()
            assert first + response.read() == content
        connection.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A loader that has done everything once; its disk is emptied at the end."""
    with real_site(tmp_path / "site") as running:
        for file_first in (False, True):
            assert upload(running.url, "m", "warm", PIECE * 16, file_first=file_first).status == 200
        assert load(running.url, "m", "warm").body == PIECE * 16
        yield running
    shutil.rmtree(tmp_path / "site")


def streamed_form(size: int, *, file_first: bool) -> tuple[int, Iterator[bytes]]:
    """Return a form whose file has `size` bytes that are made while they are sent, and its length."""
    marker = b"the content comes here"
    parts = [part("folder", b"m"), part("file", marker, filename="x")]
    begin, _, end = form(*(reversed(parts) if file_first else parts)).partition(marker)

    def pieces() -> Iterator[bytes]:
        yield begin
        for _ in range(size // MIB):
            yield PIECE
        yield end

    return len(begin) + size + len(end), pieces()


@pytest.mark.parametrize("file_first", [False, True], ids=["folder first", "file first"])
def test_memory_does_not_grow_with_the_size(site: Site, *, file_first: bool) -> None:
    pid = site.loader.worker_pid
    reset_peak_rss(pid)
    before = peak_rss_bytes(pid)
    length, pieces = streamed_form(LARGE, file_first=file_first)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str(length)}
    assert call(site.url, "POST", "/upload/large", pieces, headers).status == 200
    assert peak_rss_bytes(pid) - before < MAX_GROWTH
    if not file_first:  # the stored resource is the same in both cases, and so is its load
        assert loaded_pieces(site, "large") == LARGE // MIB
        assert peak_rss_bytes(pid) - before < MAX_GROWTH


def loaded_pieces(site: Site, filename: str) -> int:
    """Return how many copies of PIECE a load consists of, without keeping it in memory."""
    connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=30)
    body = json.dumps({"filename": filename, "folder": "m"})
    connection.request("POST", f"/load/{filename}", body, {"Content-Type": "application/json"})
    count = 0
    with connection.getresponse() as response:
        assert response.status == 200
        while piece := response.read(MIB):
            assert piece == PIECE
            count += 1
    connection.close()
    return count
