"""The sealed spool writes no plaintext to the disk, has no file name and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pytest

from loader.crypto.sealed_spool import Region, SealedSpool
from loader.crypto.segments import ciphertext_size
from loader.crypto.streaming_aead import encrypt
from loader.errors import CorruptCiphertext
from tests.crypto.reference import MIB, pattern
from tests.crypto.streams import BOUNDARY_SIZES, read_all, read_to_failure
from tests.support.procfs import open_descriptors

PROJECT = Path(__file__).parents[2]
MARKER = b"this is plaintext, which no disk may ever see. "


@contextmanager
def spool_of(directory: Path, *plaintext: bytes) -> Iterator[tuple[SealedSpool, Region]]:
    """Yield a spool of one plaintext in a file without a name, as the loader uses it."""
    with tempfile.TemporaryFile(dir=directory) as file:
        spool = SealedSpool(file)
        yield spool, spool.add(plaintext)


def descriptors_below(directory: Path) -> list[int]:
    """Return the descriptors of all files that this process has open in `directory`, named or not."""
    return [number for number, name in open_descriptors(os.getpid()).items() if name.startswith(str(directory))]


def raw_content(directory: Path) -> bytes:
    """Return the bytes of the one unnamed file in `directory`, read from the file and not from a buffer."""
    (number,) = descriptors_below(directory)
    return Path(f"/proc/self/fd/{number}").read_bytes()


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
def test_a_spool_returns_its_plaintext(size: int, tmp_path: Path) -> None:
    with spool_of(tmp_path, pattern(size)) as (spool, region):
        assert region.size == size
        reader = spool.read(region)
        assert reader.plaintext_size == size
        assert read_all(reader) == pattern(size)


def test_a_spool_can_be_read_again_even_after_a_partial_read(tmp_path: Path) -> None:
    with spool_of(tmp_path, pattern(3 * MIB), b"", b"end") as (spool, region):
        next(spool.read(region))
        assert read_all(spool.read(region)) == pattern(3 * MIB) + b"end"
        assert read_all(spool.read(region)) == pattern(3 * MIB) + b"end"


def test_the_disk_holds_only_ciphertext_in_an_unnamed_file(tmp_path: Path) -> None:
    plaintext = MARKER * 50_000
    with spool_of(tmp_path, plaintext) as (spool, region):
        assert list(tmp_path.iterdir()) == []
        read_all(spool.read(region))
        raw = raw_content(tmp_path)
        assert len(raw) == ciphertext_size(len(plaintext))
        assert not any(MARKER[begin : begin + 8] in raw for begin in range(len(MARKER) - 8))
    assert list(tmp_path.iterdir()) == []
    assert descriptors_below(tmp_path) == []


def test_every_spool_has_a_key_of_its_own(tmp_path: Path) -> None:
    raws = []
    for _ in range(2):
        with spool_of(tmp_path, bytes(100_000)) as (spool, region):
            next(spool.read(region))
            raws.append(raw_content(tmp_path))
    assert raws[0][40:1000] != raws[1][40:1000]


def test_a_file_changed_from_outside_is_refused(tmp_path: Path) -> None:
    with spool_of(tmp_path, pattern(100_000)) as (spool, region):
        spool.read(region)
        (number,) = descriptors_below(tmp_path)
        os.pwrite(number, b"\0\0\0\0", 50_000)
        failed = read_to_failure(lambda: spool.read(region))
    assert isinstance(failed.failure, CorruptCiphertext)
    assert failed.released == []


@pytest.mark.parametrize("before", [0, 10, 3 * MIB])
def test_a_plaintext_that_fails_leaves_no_file(before: int, tmp_path: Path) -> None:
    torn = OSError("the sender is gone")

    def failing() -> Iterator[bytes]:
        yield pattern(before)
        assert len(descriptors_below(tmp_path)) == 1
        raise torn

    with pytest.raises(OSError, match="the sender is gone") as caught, tempfile.TemporaryFile(dir=tmp_path) as file:
        SealedSpool(file).add(failing())
    assert caught.value is torn
    assert list(tmp_path.iterdir()) == []
    assert descriptors_below(tmp_path) == []


def test_plaintexts_lie_one_after_the_other(tmp_path: Path) -> None:
    sizes = [0, 1, MIB, 3 * MIB + 1, 0, 7]
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        spool = SealedSpool(file)
        regions = [spool.add([pattern(size)]) for size in sizes]
        assert [region.size for region in regions] == sizes
        ends = [region.offset + region.sealed_size for region in regions]
        assert [0, *ends] == [*(region.offset for region in regions), os.fstat(file.fileno()).st_size]
        for size, region in reversed([*zip(sizes, regions, strict=True)]):
            assert read_all(spool.read(region)) == pattern(size)
        assert read_all(spool.read(spool.add([b"later"]))) == b"later"


def test_equal_plaintexts_have_different_ciphertexts(tmp_path: Path) -> None:
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        spool = SealedSpool(file)
        regions = [spool.add([bytes(1000)]) for _ in range(2)]
        raw = [os.pread(file.fileno(), region.sealed_size, region.offset) for region in regions]
        assert raw[0][40:] != raw[1][40:]


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
@pytest.mark.parametrize("begin", [0, 1, 5_000, 3 * MIB])
def test_a_spool_is_overwritten_by_content_made_from_it(size: int, begin: int, tmp_path: Path) -> None:
    """This also works where the new content is far ahead of the reader."""
    path = tmp_path / "file"
    with path.open("w+b") as file:
        spool = SealedSpool(file)
        regions = [spool.add([pattern(size)]), spool.add([b"dropped" * 1000]), spool.add([pattern(MIB)])]
        spool.overwrite(map(bytes, chain(spool.read(regions[0]), spool.read(regions[2]))), begin)
    assert path.read_bytes()[begin:] == pattern(size) + pattern(MIB)


def test_overwriting_with_shorter_content_truncates_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w+b") as file:
        spool = SealedSpool(file)
        region = spool.add([pattern(3 * MIB)])
        spool.overwrite((bytes(piece[:10]) for piece in spool.read(region)), 7)
    assert path.stat().st_size == 47


def test_the_file_never_grows_beyond_the_new_content(tmp_path: Path) -> None:
    """The limit also holds during the overwriting, because an archive must need its disk space only once."""
    path, sizes = tmp_path / "file", []
    with path.open("w+b") as file:
        spool = SealedSpool(file)
        region = spool.add([pattern(8 * MIB)])
        sealed = map(bytes, encrypt(spool.read(region), bytes(32), b""))
        spool.overwrite(_calling(lambda: sizes.append(path.stat().st_size), sealed), 1000)
    assert max(sizes) <= path.stat().st_size == ciphertext_size(8 * MIB) + 1000


def _calling(note: Callable[[], None], pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        note()
        yield piece


KILLED = """
import sys, tempfile
from loader.crypto.sealed_spool import SealedSpool

with tempfile.TemporaryFile(dir=sys.argv[1]) as file:
    SealedSpool(file).add([bytes(3_000_000)])
    print("spooled", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"spooled\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_plaintexts_that_change_places_do_not_authenticate(tmp_path: Path) -> None:
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        spool = SealedSpool(file)
        first, second = spool.add([pattern(1000)]), spool.add([pattern(1000)[::-1]])
        one, other = (os.pread(file.fileno(), region.sealed_size, region.offset) for region in (first, second))
        os.pwrite(file.fileno(), other + one, 0)
        for region in (first, second):
            with pytest.raises(CorruptCiphertext):
                next(spool.read(region))
