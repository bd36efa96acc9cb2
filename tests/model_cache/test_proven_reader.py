"""A big part that is released only as its small part names it: other bytes under the same key never get out."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from loader.crypto.pieces import DIGEST_SIZE
from loader.errors import ApiUnreachable, CorruptCiphertext
from loader.model_cache.cache import ModelCache
from loader.model_cache.proven_reader import ProvenReader
from tests.model_cache.memory_upstream import CONTENT, MIB, MemoryPart, memory_part, wait_until_idle
from tests.support.flips import flip_in_file
from tests.support.special_files import SPECIAL_FILES


def reader_of(cache: ModelCache, part: MemoryPart) -> ProvenReader:
    reader = cache.open(part.big, part.name.path, part.fetch)
    try:
        return ProvenReader(reader)
    except BaseException:
        reader.close()
        raise


def read(reader: ProvenReader, step: int = 100_000) -> bytes:
    found, buffer = bytearray(), memoryview(bytearray(step))
    while count := reader.readinto(buffer):
        found += buffer[:count]
    return bytes(found)


@pytest.fixture
def warm(cache: ModelCache, part: MemoryPart) -> Path:
    """Let the part be whole and proven on the disk, and return its file."""
    with closing(reader_of(cache, part)) as reader:
        assert read(reader) == part.data
    wait_until_idle(cache)
    part.fetches = part.sent = 0
    return cache._directory.big(part.big.digest)


def pieces(warm: Path) -> Path:
    return warm.with_suffix(".pieces")


def forged(part: MemoryPart) -> MemoryPart:
    """Return a part of the same size with other bytes under the name of `part`."""
    other = memory_part("part", CONTENT[::-1])
    return MemoryPart(part.name, other.content, part.small, other.data)


@pytest.mark.parametrize("size", [1, 65_481, MIB + 65_480, 3 * MIB])
@pytest.mark.parametrize("step", [1000, MIB, 5 * MIB])
def test_all_bytes_come_and_then_the_end(cache: ModelCache, size: int, step: int) -> None:
    part = memory_part("part", CONTENT[: max(size, 65_481)])
    with closing(reader_of(cache, part)) as reader:
        assert read(reader, step) == part.data
        assert reader.readinto(memoryview(bytearray(10))) == 0


@pytest.mark.parametrize("offset", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB + 77])
def test_reading_starts_anywhere(cache: ModelCache, part: MemoryPart, offset: int) -> None:
    with closing(reader_of(cache, part)) as reader:
        assert read(reader) == part.data
        assert reader.seek(offset) == offset
        assert read(reader) == part.data[offset:]


def test_the_digests_of_the_pieces_are_kept_beside_the_part(warm: Path, part: MemoryPart) -> None:
    assert pieces(warm).stat().st_mode & 0o777 == 0o600
    assert pieces(warm).stat().st_size == -(-len(part.data) // MIB) * DIGEST_SIZE


def test_forged_bytes_of_the_upstream_are_refused_before_the_first_byte(cache: ModelCache, part: MemoryPart) -> None:
    with pytest.raises(CorruptCiphertext, match="is not the one that its small part names"):
        reader_of(cache, forged(part))
    wait_until_idle(cache)
    assert list(cache._directory.path.iterdir()) == []


def test_the_next_reader_gets_a_new_download_while_the_refused_one_is_in_use(
    cache: ModelCache, part: MemoryPart
) -> None:
    with closing(cache.open(part.big, "part", forged(part).fetch)):
        with pytest.raises(CorruptCiphertext):
            reader_of(cache, part)
        with closing(reader_of(cache, part)) as reader:
            assert read(reader) == part.data
    wait_until_idle(cache)


def test_a_piece_that_was_changed_on_the_disk_is_downloaded_again_alone(
    cache: ModelCache, warm: Path, part: MemoryPart
) -> None:
    flip_in_file(warm, MIB + 5)
    with closing(reader_of(cache, part)) as reader:
        assert read(reader) == part.data
    assert (part.fetches, part.sent) == (1, MIB)


def test_a_piece_that_changes_after_the_proof_is_not_released(cache: ModelCache, warm: Path, part: MemoryPart) -> None:
    with closing(reader_of(cache, part)) as reader:
        buffer = memoryview(bytearray(MIB))
        assert reader.readinto(buffer) == MIB
        flip_in_file(warm, 2 * MIB)
        assert read(reader) == part.data[MIB:]


@pytest.mark.parametrize("upstream", ["lies", "is down"])
def test_a_piece_that_cannot_be_repaired_is_not_released(
    cache: ModelCache, warm: Path, part: MemoryPart, upstream: str
) -> None:
    flip_in_file(warm, MIB + 5)
    part.damage_once, part.down = {MIB + 6}, upstream == "is down"
    with closing(reader_of(cache, part)) as reader:
        assert reader.readinto(memoryview(bytearray(MIB))) == MIB
        with pytest.raises(ApiUnreachable if part.down else CorruptCiphertext):
            reader.readinto(memoryview(bytearray(MIB)))


def test_after_a_failure_nothing_of_the_wrong_piece_comes(cache: ModelCache, warm: Path, part: MemoryPart) -> None:
    with closing(reader_of(cache, part)) as reader:
        flip_in_file(warm, 5)
        part.down = True
        for _ in range(2):
            with pytest.raises(ApiUnreachable):
                reader.readinto(memoryview(bytearray(10)))


@pytest.mark.parametrize("damage", ["missing", "other", "empty", "too long", *SPECIAL_FILES])
def test_wrong_digests_of_the_pieces_cost_one_more_pass_and_prove_nothing(
    cache: ModelCache, warm: Path, part: MemoryPart, damage: str
) -> None:
    right = pieces(warm).read_bytes()
    pieces(warm).unlink()
    if damage in SPECIAL_FILES:
        SPECIAL_FILES[damage](pieces(warm))
    elif damage != "missing":
        pieces(warm).write_bytes({"other": right[::-1], "empty": b"", "too long": right + bytes(32)}[damage])
    with closing(reader_of(cache, part)) as reader:
        assert read(reader) == part.data
    assert part.fetches == 0


def test_digests_that_fit_forged_bytes_do_not_make_them_right(cache: ModelCache, warm: Path, part: MemoryPart) -> None:
    other = forged(part)
    with closing(reader_of(cache, memory_part("other", other.content))):
        pass
    warm.write_bytes(other.data)
    pieces(warm).unlink()
    with pytest.raises(CorruptCiphertext):
        reader_of(cache, part)


def test_the_digests_go_with_their_part(cache: ModelCache, warm: Path) -> None:
    cache.upkeep.clear()
    assert list(warm.parent.iterdir()) == []


def test_digests_without_a_part_go_at_the_start(cache: ModelCache, warm: Path) -> None:
    cache.remove_leftovers()
    assert pieces(warm).exists()
    warm.unlink()
    cache.remove_leftovers()
    assert list(warm.parent.iterdir()) == []


def test_unfinished_digests_go_at_the_start(cache: ModelCache, warm: Path) -> None:
    unfinished = warm.with_name(f".{pieces(warm).name}.a_c4efgh")
    unfinished.touch()
    cache.remove_leftovers()
    assert set(warm.parent.iterdir()) == {warm, pieces(warm)}


def test_a_part_is_proven_while_it_comes_once_its_digests_are_known(
    cache: ModelCache, warm: Path, part: MemoryPart
) -> None:
    """A repair of a large part over a slow line then delays nothing that is right."""
    os.truncate(warm, 0)
    part.gate = 2 * MIB
    with closing(reader_of(cache, part)) as reader:
        buffer = memoryview(bytearray(MIB))
        assert reader.readinto(buffer) == MIB
        assert buffer == part.data[:MIB]
        part.opened.set()
