"""Thin archives: what they leave out, what joins them again, and what neither command takes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loader import files
from loader.errors import (
    ArchiveCorrupt,
    ArchiveIncomplete,
    DiskSpace,
    Interrupted,
    LoaderError,
    StorageError,
    ValidationFailed,
)
from loader.packing.rewrap import rewrap
from loader.packing.thin import join, thin
from loader.packing.verify import verify
from tests.packing.packs import unwatched
from tests.support.flips import flip_in_file, flipped
from tests.support.handmade_image import FRAGMENT
from tests.support.small_disk import small_disk
from tests.support.thin_archives import MIB, OTHER_ROOT, damaged, holding, index_of, release, thin_of


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(tmp_path_factory.mktemp("releases") / "old.enc", 1)


@pytest.fixture(scope="module")
def new(old: Path) -> Path:
    return release(old.with_name("new.enc"), 2)


@pytest.fixture(scope="module")
def delta(old: Path, new: Path) -> Path:
    path = old.with_name("delta.enc")
    path.write_bytes(thin_of(new, old))
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path for an archive, in an empty directory."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "images.enc"


def refused(output: Path, work: Callable[[], None]) -> LoaderError:
    """Return the error of `work`, which leaves what it was to replace as it was, and nothing else."""
    output.write_bytes(b"former")
    with pytest.raises(LoaderError) as raised:
        work()
    assert output.read_bytes() == b"former"
    assert os.listdir(output.parent) == [output.name]  # noqa: PTH208  # hidden files count
    return raised.value


def test_a_thin_archive_has_what_the_base_lacks_and_joins_to_the_same_bytes(
    old: Path, new: Path, delta: Path, output: Path
) -> None:
    thin(new, old, output, unwatched)
    assert output.read_bytes() == delta.read_bytes()
    assert output.stat().st_size < new.stat().st_size / 20
    assert stat.S_IMODE(output.stat().st_mode) == 0o644
    whole = output.with_name("whole.enc")
    join(output, old, whole, unwatched)
    assert whole.read_bytes() == new.read_bytes()
    assert verify(whole, FRAGMENT, unwatched).stored == index_of(new).stored
    assert sorted(os.listdir(output.parent)) == ["images.enc", "whole.enc"]  # noqa: PTH208  # hidden files count


def test_an_archive_that_is_its_own_base_leaves_only_its_head(new: Path, output: Path) -> None:
    thin(new, new, output, unwatched)
    assert index_of(output).offsets == {}
    join(output, new, output, unwatched)
    assert output.read_bytes() == new.read_bytes()


def test_a_whole_archive_joins_to_itself_with_any_base(old: Path, new: Path, output: Path) -> None:
    join(new, old, output, unwatched)
    assert output.read_bytes() == new.read_bytes()


def test_a_base_of_which_only_the_head_is_there_thins_too(old: Path, new: Path, delta: Path, output: Path) -> None:
    head = rewrap(old, FRAGMENT, b"x" * 32, None, unwatched)
    thin(new, head, output, unwatched)
    assert output.read_bytes() == delta.read_bytes()
    error = refused(output, lambda: join(delta, head, output, unwatched))
    assert isinstance(error, ArchiveIncomplete)


def test_blobs_in_the_directory_of_either_archive_are_used(old: Path, new: Path, tmp_path: Path, output: Path) -> None:
    third = release(tmp_path / "third.enc", 3)
    base = holding(tmp_path / "base.enc", new, old)
    (tmp_path / "delta.enc").write_bytes(thin_of(third, new))
    join(tmp_path / "delta.enc", base, output, unwatched)
    assert output.read_bytes() == third.read_bytes()
    # Release 1 shares less with release 3 than is in the file of `base`.
    thin(holding(tmp_path / "again.enc", third, new), old, output, unwatched)
    assert output.read_bytes() == thin_of(third, old)


@pytest.mark.parametrize("carry", [thin, join])
def test_releases_of_different_roots_share_nothing(
    carry: Callable[..., None], new: Path, delta: Path, tmp_path: Path, output: Path
) -> None:
    other = release(tmp_path / "other.enc", 1, root=OTHER_ROOT)
    for path in (new, delta):
        error = refused(output, partial(carry, path, other, output, unwatched))
        assert isinstance(error, ValidationFailed)
        assert "different roots" in str(error)


def test_a_wrong_base_is_told_with_what_it_lacks(old: Path, tmp_path: Path, output: Path) -> None:
    third = release(tmp_path / "third.enc", 3)
    thin(third, third, tmp_path / "head.enc", unwatched)
    error = refused(output, lambda: join(tmp_path / "head.enc", old, output, unwatched))
    assert isinstance(error, ArchiveIncomplete)
    assert "is not the base of" in str(error)
    assert "lacks 3 blobs of" in str(error)


def test_a_thin_archive_is_not_thinned_to_less_than_it_must_have(delta: Path, tmp_path: Path, output: Path) -> None:
    third = release(tmp_path / "third.enc", 3)
    thin(delta, third, output, unwatched)  # what the two do not share is in the file
    assert index_of(output).offsets.keys() == index_of(delta).offsets.keys()
    only_head = release(tmp_path / "empty.enc", 4)
    thin(only_head, only_head, tmp_path / "head.enc", unwatched)
    error = refused(output, lambda: thin(tmp_path / "head.enc", third, output, unwatched))
    assert isinstance(error, ArchiveIncomplete)


def test_no_damaged_thin_archive_is_joined(old: Path, delta: Path, tmp_path: Path, output: Path) -> None:
    path = tmp_path / "damaged.enc"
    for what, data in damaged(delta.read_bytes()).items():
        path.write_bytes(data)
        error = refused(output, partial(join, path, old, output, unwatched))
        assert error.code == "ARCHIVE_CORRUPT", what


def test_no_damaged_archive_is_thinned(old: Path, delta: Path, tmp_path: Path, output: Path) -> None:
    path = tmp_path / "damaged.enc"
    for what, data in damaged(delta.read_bytes()).items():
        path.write_bytes(data)
        error = refused(output, partial(thin, path, old, output, unwatched))
        assert error.code == "ARCHIVE_CORRUPT", what


@pytest.mark.parametrize("place", [0, 1, MIB - 1, MIB, 2 * MIB, -1])
def test_a_flip_in_a_shared_blob_of_the_base_is_detected(
    place: int, old: Path, delta: Path, tmp_path: Path, output: Path
) -> None:
    base = tmp_path / "base.enc"
    base.write_bytes(old.read_bytes())
    blob = max(index_of(old).head.blobs, key=lambda blob: blob.stored_size)
    flip_in_file(base, index_of(old).offsets[blob.digest] + place % blob.stored_size)
    error = refused(output, lambda: join(delta, base, output, unwatched))
    assert isinstance(error, ArchiveCorrupt)
    assert str(base) in str(error)


@given(position=st.integers(0, 5000) | st.integers(0, 1 << 20), size=st.integers(0, 1 << 20))
@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_changed_or_cut_thin_archive_is_refused_or_joins_to_sound_blobs(
    position: int, size: int, old: Path, delta: Path, tmp_path: Path
) -> None:
    """Without the key, a changed head may pass. The blobs of the result are then still those that it names."""
    data = delta.read_bytes()
    path, joined = tmp_path / "changed.enc", tmp_path / "joined.enc"
    joined.unlink(missing_ok=True)
    path.write_bytes(flipped(data, position % len(data)) if position % 2 else data[: size % len(data)])
    try:
        join(path, old, joined, unwatched)
    except LoaderError:
        assert sorted(os.listdir(tmp_path)) == ["changed.enc"]  # noqa: PTH208  # hidden files count
    else:
        assert not verify(joined, None, unwatched).absent


@pytest.mark.parametrize("which", ["thin", "join"])
@pytest.mark.parametrize("moment", ["before", "within"])
def test_an_interrupt_leaves_nothing(which: str, moment: str, old: Path, new: Path, delta: Path, output: Path) -> None:
    @contextmanager
    def interrupted(_label: str, _total: int) -> Iterator[Callable[[int], None]]:
        def advance(_count: int) -> None:
            raise Interrupted("told to stop")

        if moment == "before":
            advance(0)
        yield advance

    carry, path = (thin, new) if which == "thin" else (join, delta)
    assert isinstance(refused(output, lambda: carry(path, old, output, interrupted)), Interrupted)


def test_a_base_that_shrinks_meanwhile_is_corrupt(old: Path, delta: Path, tmp_path: Path, output: Path) -> None:
    base = tmp_path / "base.enc"
    base.write_bytes(old.read_bytes())

    @contextmanager
    def shrinking(_label: str, _total: int) -> Iterator[Callable[[int], None]]:
        os.truncate(base, MIB)
        yield lambda _: None

    assert isinstance(refused(output, lambda: join(delta, base, output, shrinking)), ArchiveCorrupt)


def test_a_full_disk_leaves_no_file(old: Path, delta: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MIB) as disk:
        with pytest.raises(DiskSpace, match=f"{disk}/whole.enc needs"):
            join(delta, old, disk / "whole.enc", unwatched)
        assert os.listdir(disk) == []  # noqa: PTH208  # hidden files count


def test_the_progress_counts_each_byte_once(old: Path, delta: Path, output: Path) -> None:
    counted: list[int] = []

    @contextmanager
    def watched(_label: str, total: int) -> Iterator[Callable[[int], None]]:
        yield counted.append
        assert sum(counted) == total

    join(delta, old, output, watched)
    assert sum(counted) == sum(blob.stored_size for blob in index_of(delta).head.blobs)


@pytest.mark.parametrize("size", [1, MIB])
def test_a_disk_that_fails_to_sync_is_named(
    size: int, old: Path, delta: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This stands for a disk that fails; with 1 MiB it is noticed while the rest is copied."""

    def failing(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "SYNC_SIZE", size)
    monkeypatch.setattr(os, "fsync", failing)
    error = refused(output, lambda: join(delta, old, output, unwatched))
    assert isinstance(error, StorageError)
    assert str(error).startswith(f"{output} cannot be used")
