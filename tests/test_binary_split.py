"""An archive on the disk: identified, opened, checked and decrypted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loader.binary_split import identify, open_archive
from loader.crypto.archive import ManifestImage
from loader.errors import ArchiveCorrupt, ArchiveNotFound, KeyMismatch, StorageError, VersionMismatch
from tests.support.archives import FRAGMENT, seal
from tests.support.loader_server import REPOSITORY

TAR = os.urandom((5 << 20) + 7)
DIGEST = "sha256:" + "1" * 64
IMAGES = (
    ManifestImage("registry.local:5000/app:1.4", DIGEST, (DIGEST,), "2026-01-02T03:04:05Z"),
    ManifestImage("database", DIGEST, (DIGEST,), "2026-01-02T03:04:05Z"),
)


@pytest.fixture
def archive_path(tmp_path: Path) -> Path:
    return seal(tmp_path / "images.enc", IMAGES, [TAR], len(TAR))


def nothing() -> None:
    """A checkpoint that never raises."""


def test_a_missing_file_has_no_identity(tmp_path: Path) -> None:
    assert identify(tmp_path / "images.enc") is None
    assert identify(tmp_path / "no directory" / "images.enc") is None


def test_a_path_through_a_file_is_a_storage_error(archive_path: Path) -> None:
    with pytest.raises(StorageError, match="Not a directory"):
        identify(archive_path / "images.enc")


def test_a_file_keeps_its_identity_until_it_is_replaced_or_written(archive_path: Path) -> None:
    first = identify(archive_path)
    assert first == identify(archive_path)
    copy = archive_path.with_name("copy")
    copy.write_bytes(archive_path.read_bytes())
    os.utime(copy, ns=(archive_path.stat().st_atime_ns, archive_path.stat().st_mtime_ns))
    copy.replace(archive_path)
    second = identify(archive_path)
    assert second != first
    archive_path.write_bytes(archive_path.read_bytes())
    assert identify(archive_path) != second


def test_an_opened_archive_knows_which_file_it_is(archive_path: Path) -> None:
    before = identify(archive_path)
    with open_archive(archive_path) as archive:
        archive_path.unlink()
        assert archive.identity == before
        assert archive.manifest.images == IMAGES


def test_a_missing_archive_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ArchiveNotFound, match=str(tmp_path)), open_archive(tmp_path / "images.enc"):
        pass


def test_an_archive_of_the_wrong_size_is_refused_at_once(archive_path: Path) -> None:
    with archive_path.open("ab") as file:
        file.write(b"x")
    with (
        pytest.raises(ArchiveCorrupt, match=r"is damaged: it has \d+ bytes instead of \d+"),
        open_archive(archive_path),
    ):
        pass


def test_the_version_is_compared_with_the_tag_and_not_with_a_port(archive_path: Path) -> None:
    with open_archive(archive_path) as archive:
        archive.require_version("1.4")
        for version in ("1", "1.40", "5000/app:1.4", "5000", "latest"):
            with pytest.raises(VersionMismatch, match=r"only registry\.local:5000/app:1\.4, database\."):
                archive.require_version(version)


@pytest.mark.parametrize("other", [b"", FRAGMENT[:-1], FRAGMENT + b"x", b"x" * 32, b"x" * 4097], ids=len)
def test_only_the_fragment_of_the_archive_matches(archive_path: Path, other: bytes) -> None:
    with open_archive(archive_path) as archive:
        archive.require_fragment(FRAGMENT)
        with pytest.raises(KeyMismatch):
            archive.require_fragment(other)


def test_the_plaintext_can_be_read_twice(archive_path: Path) -> None:
    with open_archive(archive_path) as archive:
        for _ in range(2):
            assert b"".join(bytes(segment) for segment in archive.plaintext(FRAGMENT, nothing)) == TAR


DECRYPT_WHILE_PYTHON_ENDS = """
import sys, threading
from pathlib import Path
from loader.binary_split import open_archive
from loader.errors import Interrupted

told_to_stop = threading.Event()

def checkpoint():
    if told_to_stop.is_set():
        raise Interrupted("told to stop")

def decrypt():
    with open_archive(Path(sys.argv[1])) as archive:
        segments = archive.plaintext(sys.argv[2].encode(), checkpoint)
        next(segments)
        threading.main_thread().join()
        told_to_stop.set()
        try:
            list(segments)
        except Exception as exc:
            print(type(exc).__name__)

threading.Thread(target=decrypt).start()
"""


def test_decryption_can_be_interrupted_while_python_exits(archive_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DECRYPT_WHILE_PYTHON_ENDS, str(archive_path), FRAGMENT.decode()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("Interrupted\n", "")


def test_an_archive_cut_while_it_is_open_is_damaged(archive_path: Path) -> None:
    with open_archive(archive_path) as archive:
        os.truncate(archive_path, archive_path.stat().st_size - 1)
        with pytest.raises(ArchiveCorrupt, match="cut short"):
            list(archive.plaintext(FRAGMENT, nothing))
