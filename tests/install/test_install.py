"""The installation of full and thin archives: what is there afterwards, and what is refused."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loader.binary_split import open_archive
from loader.errors import (
    ArchiveIncomplete,
    ArchiveNotFound,
    LoaderError,
    StorageError,
    UntrustedPublisher,
    VersionMismatch,
)
from loader.install import install
from loader.packing.sign import sign
from loader.packing.verify import verify
from loader.publisher_keys import PublisherKeys
from tests.install.device import Device
from tests.packing.packs import contents, unwatched
from tests.support.flips import flip_in_file, flipped
from tests.support.handmade_image import FRAGMENT
from tests.support.processes import poll
from tests.support.procfs import open_descriptors
from tests.support.publishers import BEN, EVE, TRUSTED
from tests.support.thin_archives import MIB, OTHER_ROOT, damaged, index_of, release

WAIT_SECONDS = 30.0
# The fixtures are the same for all examples of a test, each of which leaves them as it found them.
EXAMPLES = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def refused(device: Device, path: Path, trusted: PublisherKeys | None = None) -> LoaderError:
    """Return the error of the installation of `path`, which changes nothing on the device."""
    before, had_blobs = device.snapshot(), device.blobs.exists()
    with pytest.raises(LoaderError) as raised:
        device.install(path, trusted)
    assert device.snapshot() == before
    assert device.blobs.exists() == had_blobs
    return raised.value


def test_a_full_archive_is_installed_where_there_is_none(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.install(device.full(1))
    device.require_release(1)
    assert device.place.read_bytes() == device.full(1).read_bytes()
    assert stat.S_IMODE(device.place.stat().st_mode) == 0o644


def test_a_full_archive_replaces_another(device: Device) -> None:
    device.install(device.full(2))
    device.require_release(2)


def test_thin_archives_are_installed_one_after_another(device: Device) -> None:
    """Also back to an earlier release, and in the end a full one."""
    for number, base in ((2, 1), (3, 2), (4, 3), (5, 4), (2, 5), (6, 1)):
        device.install(device.thin(number, base))
        device.require_release(number)
    device.install(device.full(7))
    device.require_release(7)
    assert device.listing() == []


def test_the_loader_may_run_as_another_user(device: Device) -> None:
    device.install(device.thin(2, 1))
    assert stat.S_IMODE(device.blobs.stat().st_mode) == 0o755
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (device.place, *device.blobs.iterdir())}
    assert modes == {0o644}


def test_a_reader_of_the_former_archive_reads_it_to_the_end(device: Device) -> None:
    device.install(device.thin(2, 1))
    with open_archive(device.place) as archive:
        for path in (device.thin(3, 2), device.full(4)):
            device.install(path)
        opened = archive.unseal(FRAGMENT, lambda: None)
        for blob in archive.head.blobs:
            for _ in opened.authenticate(blob.digest):
                pass
            assert sum(map(len, opened.content(blob.digest))) == blob.size
    device.require_release(4)


def test_the_carried_file_stays_as_it_is(device: Device) -> None:
    path = device.thin(2, 1)
    before = path.read_bytes()
    device.install(path)
    assert path.read_bytes() == before


def test_a_link_stays_and_its_target_is_replaced(device: Device) -> None:
    link = device.carried / "images.enc"
    link.symlink_to(device.place)
    install(device.thin(2, 1), link, "2", unwatched)
    assert link.is_symlink()
    device.require_release(2)
    assert contents(link) == contents(device.full(2))


def test_another_version_than_the_device_wants_is_refused(device: Device) -> None:
    with pytest.raises(VersionMismatch):
        install(device.full(2), device.place, "1", unwatched)
    device.require_release(1)


def test_only_what_a_trusted_publisher_has_signed_is_installed(device: Device) -> None:
    path = device.thin(2, 1)
    assert refused(device, path, TRUSTED).code == "UNTRUSTED_PUBLISHER"
    sign(path, EVE, unwatched)
    assert refused(device, path, TRUSTED).code == "UNTRUSTED_PUBLISHER"
    sign(path, BEN, unwatched)
    device.install(path, TRUSTED)
    device.require_release(2)
    assert index_of(device.place).seals.signatures == index_of(path).seals.signatures


def test_an_untrusted_archive_is_refused_before_its_version(device: Device) -> None:
    with pytest.raises(UntrustedPublisher):
        install(device.full(2), device.place, "1", unwatched, TRUSTED)


def test_the_installed_archive_itself_is_refused(device: Device) -> None:
    assert refused(device, device.place).code == "VALIDATION_FAILED"
    os.link(device.place, device.carried / "linked.enc")
    assert refused(device, device.carried / "linked.enc").code == "VALIDATION_FAILED"


def test_a_thin_archive_of_another_base_is_refused(device: Device) -> None:
    error = refused(device, device.thin(2, 2))
    assert isinstance(error, ArchiveIncomplete)
    assert "lacks 3 blobs" in str(error)


def test_a_thin_archive_of_another_root_is_refused_and_a_full_one_is_not(device: Device) -> None:
    device.install(release(device.carried / "other.enc", 9, root=OTHER_ROOT))
    assert device.listing() == []
    assert isinstance(refused(device, device.thin(2, 1)), ArchiveIncomplete)


def test_a_thin_archive_is_refused_where_there_is_none(tmp_path: Path) -> None:
    device = Device(tmp_path)
    assert isinstance(refused(device, device.thin(2, 1)), ArchiveIncomplete)


def test_a_thin_archive_that_was_copied_over_the_installed_one_is_incomplete(device: Device) -> None:
    """What it lacks is lost with the former archive. Only a full archive helps."""
    device.place.write_bytes(device.thin(2, 1).read_bytes())
    with open_archive(device.place) as archive, pytest.raises(ArchiveIncomplete):
        archive.require_complete()
    assert isinstance(refused(device, device.thin(3, 2)), ArchiveIncomplete)
    device.install(device.full(3))
    device.require_release(3)


def test_a_thin_archive_that_was_copied_over_a_thin_one_may_be_complete(device: Device) -> None:
    """The directory has what both releases share. An installation then removes the rest."""
    device.install(device.thin(2, 1))
    third = device.thin(3, 2)
    device.place.write_bytes(third.read_bytes())
    with open_archive(device.place) as archive:
        archive.require_complete()
    device.install(device.thin(4, 3))
    device.require_release(4)


@pytest.mark.parametrize("content", [b"", b"AZIMAGE2", b"x" * 5000])
def test_a_damaged_archive_is_replaced_by_a_full_one(content: bytes, device: Device) -> None:
    device.place.write_bytes(content)
    assert isinstance(refused(device, device.thin(2, 1)), ArchiveIncomplete)
    device.install(device.full(2))
    device.require_release(2)


def test_a_missing_file_and_a_missing_place_are_told(device: Device, tmp_path: Path) -> None:
    with pytest.raises(ArchiveNotFound):
        install(device.carried / "absent.enc", device.place, "1", unwatched)
    with pytest.raises(StorageError):
        install(device.full(1), tmp_path / "absent" / "images.enc", "1", unwatched)
    device.require_release(1)


@pytest.mark.parametrize("form", ["thin", "full"])
def test_no_damaged_archive_is_installed(form: str, device: Device) -> None:
    good = device.thin(2, 1)
    path = device.carried / "damaged.enc"
    if form == "full":
        device.install(device.thin(2, 1))
    for what, data in damaged(good.read_bytes()).items():
        path.write_bytes(data)
        before = device.snapshot()
        with pytest.raises(LoaderError) as raised:
            install(path, device.place, "2", unwatched)
        assert raised.value.code == "ARCHIVE_CORRUPT", what
        assert device.snapshot() == before, what


@pytest.mark.parametrize("place", [0, MIB, -1])
def test_a_damaged_blob_of_the_installed_archive_is_not_taken_over(place: int, device: Device) -> None:
    index = index_of(device.place)
    blob = max(index.head.blobs, key=lambda blob: blob.stored_size)
    flip_in_file(device.place, index.offsets[blob.digest] + place % blob.stored_size)
    error = refused(device, device.thin(2, 1))
    assert error.code == "ARCHIVE_CORRUPT"
    assert str(device.place) in str(error)


def damage(path: Path) -> None:
    flip_in_file(path, path.stat().st_size // 2)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("change", [damage, cut, os.unlink])
def test_a_lost_blob_of_the_directory_makes_a_thin_archive_incomplete_or_corrupt(
    change: Callable[[Path], None], device: Device
) -> None:
    device.install(device.thin(2, 1))
    path = max(device.blobs.iterdir(), key=lambda path: path.stat().st_size)
    change(path)
    assert refused(device, device.thin(3, 2)).code in ("ARCHIVE_CORRUPT", "ARCHIVE_INCOMPLETE")
    device.install(device.full(3))
    device.require_release(3)


def test_a_damaged_leftover_is_replaced_by_the_blob_of_the_installed_archive(device: Device) -> None:
    blob = max(index_of(device.place).head.blobs, key=lambda blob: blob.stored_size)
    device.blobs.mkdir()
    (device.blobs / blob.stored).write_bytes(bytes(blob.stored_size))
    (device.blobs / ("0" * 64)).touch()
    device.install(device.thin(2, 1))
    device.require_release(2)


def test_what_is_no_blob_stays(device: Device) -> None:
    device.blobs.mkdir()
    (device.blobs / "notes").touch()
    device.install(device.thin(2, 1))
    device.install(device.full(3))
    assert device.listing() == ["notes"]


def test_no_descriptor_stays_open(device: Device) -> None:
    before = open_descriptors(os.getpid())
    device.install(device.thin(2, 1))
    refused(device, device.thin(5, 5))
    assert open_descriptors(os.getpid()) == before


def test_two_installations_come_one_after_the_other(device: Device) -> None:
    """The second waits, and then finds the archive of the first installed."""
    held, go_on = threading.Event(), threading.Event()

    @contextmanager
    def slowly(_label: str, _total: int) -> Iterator[Callable[[int], None]]:
        held.set()
        assert go_on.wait(WAIT_SECONDS)
        yield lambda _: None

    second, third = device.thin(2, 1), device.thin(3, 2)
    first = threading.Thread(target=install, args=(second, device.place, "2", slowly))
    first.start()
    assert held.wait(WAIT_SECONDS)
    other = threading.Thread(target=device.install, args=(third,))
    other.start()
    poll(lambda: is_waiting_for_lock(device.blobs), WAIT_SECONDS, "the second installation waits")
    go_on.set()
    for thread in (first, other):
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()
    device.require_release(3)


def is_waiting_for_lock(directory: Path) -> bool:
    """Return whether /proc/locks has a process that waits for the lock of `directory`."""
    inode = directory.stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f":{inode} " in line for line in lines)


def test_the_progress_counts_each_byte_once(device: Device) -> None:
    counted: list[int] = []

    @contextmanager
    def watched(_label: str, total: int) -> Iterator[Callable[[int], None]]:
        counted.clear()
        yield counted.append
        assert total - 4096 < sum(counted) <= total

    install(device.thin(2, 1), device.place, "2", watched)
    install(device.thin(3, 2), device.place, "3", watched)
    install(device.full(4), device.place, "4", watched)


@given(position=st.integers(0, 5000) | st.integers(0, 1 << 20), size=st.integers(0, 1 << 20))
@EXAMPLES
def test_any_changed_or_cut_archive_is_refused_or_installed_with_sound_blobs(
    position: int, size: int, device: Device
) -> None:
    """Without the key, a changed head may pass. All blobs that it names are then there."""
    data = device.thin(2, 1).read_bytes()
    path = device.carried / "changed.enc"
    path.write_bytes(flipped(data, position % len(data)) if position % 2 else data[: size % len(data)])
    before = device.snapshot()
    try:
        device.install(path)
    except LoaderError:
        assert device.snapshot() == before
    else:
        verify(device.place, None, unwatched)
        with open_archive(device.place) as archive:
            archive.require_complete()
        device.install(device.full(1))
