"""The plaintext of a running upload is in memory only: in no file, named or unnamed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disk_search import contains, files_below, open_files
from tests.support.http_calls import BOUNDARY, form, load, open_socket, parse_reply, part
from tests.support.loader_server import REPOSITORY
from tests.support.processes import poll
from tests.support.procfs import children
from tests.support.sites import Site, real_site

MIB = 1 << 20
# Short enough to be whole in any written piece, and found nowhere else on this machine.
MARKER = b"planted plaintext" + bytes(range(200, 247))
CONTENT = MARKER * (12 * MIB // len(MARKER))
STEP = 3 * MIB
SECONDS = 10
TEMPORARY = [Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
NOT_OF_THE_LOADER = frozenset(
    {".venv", ".git", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__", ".hypothesis"}
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A loader with its own TMPDIR."""
    directory = tmp_path_factory.mktemp("plaintext")
    (directory / "tmp").mkdir()
    with real_site(directory, TMPDIR=str(directory / "tmp")) as running:
        yield running


def plaintext_on_disk(site: Site, since: float) -> list[Path]:
    """Return every file with the marker, among all files that the loader could have written."""
    home = site.models.parents[1]
    found = [*files_below([home, REPOSITORY], changed_since=since, skip=NOT_OF_THE_LOADER)]
    for directory in TEMPORARY:
        found += [path for path in directory.glob("*") if path.is_file() and path.stat().st_mtime >= since]
    for pid in [site.loader.master_pid, *children(site.loader.master_pid)]:
        found += open_files(pid)
    return [path for path in found if contains(path, MARKER)]


def sealed_bytes(site: Site) -> int:
    """Return the size of all temporary files that the loader has open."""
    temporary = [path for path in open_files(site.loader.worker_pid) if is_temporary(str(path.readlink()))]
    return sum(path.stat().st_size for path in temporary)


def is_temporary(name: str) -> bool:
    return "(deleted)" in name or "/.upload-" in name


@pytest.mark.parametrize("file_first", [False, True], ids=["folder first", "file first"])
def test_plaintext_of_an_upload_is_in_no_file(site: Site, *, file_first: bool) -> None:
    since = time.time() - 2  # file systems round
    parts = [part("folder", b"plain"), part("file", CONTENT, filename="x")]
    body = form(*(reversed(parts) if file_first else parts))
    head = f"POST /upload/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    with open_socket(site.url) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
        for start in range(0, len(body), STEP):
            connection.sendall(body[start : start + STEP])
            # A few segments wait in memory for those that follow; the rest must have reached the disk, sealed.
            expected = start + STEP - 5 * MIB
            if start + STEP < len(body):
                poll(lambda expected=expected: sealed_bytes(site) >= expected, SECONDS, "the upload is sealed")  # type: ignore[misc]
            assert plaintext_on_disk(site, since) == []
        reply = parse_reply(b"".join(iter(lambda: connection.recv(1 << 16), b"")))
    assert reply.status == 200
    assert plaintext_on_disk(site, since) == []
    assert load(site.url, "plain", "x").body == CONTENT
    assert plaintext_on_disk(site, since) == []


def test_the_search_finds_plaintext_in_a_file(site: Site) -> None:
    since = time.time() - 2
    for directory in (site.models, site.models.parents[1] / "tmp"):
        planted = directory / "planted"
        planted.write_bytes(bytes(MIB - 7) + MARKER)
        assert plaintext_on_disk(site, since) == [planted]
        planted.unlink()
    with tempfile.TemporaryFile() as nameless:
        nameless.write(bytes(MIB - 7) + MARKER)
        nameless.flush()
        assert [path for path in open_files(_own_pid()) if contains(path, MARKER)]


def _own_pid() -> int:
    return int(Path("/proc/self").readlink().name)
