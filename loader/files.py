"""Files: opened, read and written in pieces, replaced whole or not at all; and what a failing disk raises."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from loader.errors import DeviceFault, DiskSpace, StorageError

SEND_SIZE = 1 << 20
WRITE_SIZE = 1 << 17
SYNC_SIZE = 16 << 20
# Gets how many bytes were read or written.
OnBytes = Callable[[int], None]
# The suffix that `tempfile` adds. It is matched exactly, because a file of the operator may have a similar name.
TEMPORARY_SUFFIX = "[a-z0-9_]" * 8
INODES_HINT = "Remove files from that disk, many small ones, because their number is what counts; then try again."
# What open(2) says about a socket, a device without a driver, and a link that must not be followed.
_NOT_OPENED = (errno.ENXIO, errno.ENODEV, errno.ELOOP)
# What a disk says about bytes that it has lost, and a file system about a checksum or a structure that is wrong.
LOST = (errno.EIO, errno.EBADMSG, errno.EUCLEAN)


@dataclass(frozen=True)
class FileIdentity:
    """Identifies a file and its content, so that a file that was replaced or rewritten is noticed."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """Return the identity of the file with this `status`."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Unreadable(StorageError):
    """The disk has lost bytes of a file: reading them fails again and again, while other bytes may be sound."""

    hint = "That disk is failing: replace it soon. Then try again."


class NotRegular(OSError):
    """There is no regular file under a name, but a pipe, a device, a socket, a directory or a link."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file", str(path))


def open_regular(path: Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """Open a regular file, which gets mode 0600 if O_CREAT makes it, and return its descriptor.

    Never waits, because anybody who may write to a directory can put a pipe there, which would stop the loader. Follows
    a link only if `follow` is set. Raises NotRegular, and OSError.
    """
    link = 0 if follow else os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags | link | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
    except OSError as exc:
        if exc.errno in _NOT_OPENED and not (follow and exc.errno == errno.ELOOP):
            raise NotRegular(path) from exc
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegular(path)
    return descriptor


def make_writable(descriptor: int) -> None:
    """Make the descriptor of an open file, which may have lost its name, one for reading and writing. Raises OSError.

    Other threads may use the descriptor meanwhile: it names the same file before and after.
    """
    writable = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.dup2(writable, descriptor, inheritable=False)
    finally:
        os.close(writable)


def remove_if_there(path: Path) -> None:
    """Remove a file if there is one. Raises OSError.

    The name is looked up first, because a read-only disk refuses to remove what does not exist as well.
    """
    with suppress(FileNotFoundError):
        path.lstat()
        path.unlink()


def read_small(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes, without following a link. Raises OSError."""
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


def read_pieces(file: BinaryIO, begin: int, size: int) -> Iterator[memoryview]:
    """Yield `size` bytes from offset `begin` on, in pieces of at most 1 MiB; each is valid until the next is taken.

    Raises OSError, also if the file ends before.
    """
    buffer = memoryview(bytearray(min(SEND_SIZE, size)))
    end = begin + size
    while begin < end:
        count = os.preadv(file.fileno(), [buffer[: end - begin]], begin)
        if not count:
            raise OSError(errno.EIO, "it was cut short while it was read")
        yield buffer[:count]
        begin += count


def write_large(file: BinaryIO, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` to `file`, 128 KiB at a time.

    The page cache stores a write of a megabyte in one block of memory. On a machine that has run for long such blocks
    are rare, and a virtual machine must get each from its host, which can take ten times as long as the write.
    """
    rest = memoryview(data)
    while rest:
        file.write(rest[:WRITE_SIZE])
        rest = rest[WRITE_SIZE:]


def write_at(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`, at most 128 KiB at a time as `write_large` does. Raises OSError.

    Each write but the last ends at a multiple of 128 KiB, because a page that two writes share may have to wait until
    the disk has it.
    """
    rest = memoryview(data)
    while rest:
        count = os.pwrite(descriptor, rest[: WRITE_SIZE - offset % WRITE_SIZE], offset)
        rest, offset = rest[count:], offset + count


def sync_beside(file: BinaryIO) -> Future[None]:
    """Sync `file` to the disk in another thread. The future ends when the data is on the disk, or with an OSError.

    The caller may close or remove `file` meanwhile. See fsync(2).
    """
    descriptor = os.dup(file.fileno())

    def sync() -> None:
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    syncer = ThreadPoolExecutor(1, thread_name_prefix="sync")
    try:
        return syncer.submit(sync)
    finally:
        syncer.shutdown(wait=False)


@contextmanager
def synced_along(file: BinaryIO, on_written: OnBytes) -> Iterator[OnBytes]:
    """Yield a function that gets how many bytes were written to `file`, and calls `on_written` with them.

    Each 16 MiB are synced in another thread, because a sync at the end would wait until the disk has written all. The
    function and the end of the block raise OSError of these syncs, because the system tells such an error only once.
    """
    waiting = 0
    syncing: Future[None] | None = None

    def written(count: int) -> None:
        nonlocal waiting, syncing
        waiting += count
        if waiting >= SYNC_SIZE and (syncing is None or syncing.done()):
            if syncing is not None:
                syncing.result()
            waiting, syncing = 0, sync_beside(file)
        on_written(count)

    yield written
    if syncing is not None:
        syncing.result()


@contextmanager
def storage(path: Path, needed: int) -> Iterator[None]:
    """Raise DiskSpace for an OSError of the block that says that the disk is full, and StorageError for any other.

    It raises Unreadable, a StorageError, if the disk has lost the bytes. A BrokenPipeError is raised unchanged, because
    no disk is at fault when a reader has gone.

    The block stores `needed` bytes at `path`. Put only file operations into it: connection errors are OSError too.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise _storage_fault(exc, path, needed) from exc


def _storage_fault(exc: OSError, path: Path, needed: int) -> DeviceFault:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        directory = path if path.is_dir() else path.parent
        free = free_bytes(directory)
        if not has_inodes(directory):
            return out_of_inodes(directory)
        return DiskSpace(f"The disk is full: {path} needs {needed} bytes, {free} bytes are free.")
    kind = Unreadable if exc.errno in LOST else StorageError
    return kind(f"{path} cannot be used: {exc.strerror or type(exc).__name__}.")


def free_bytes(directory: Path) -> int:
    """Return how many bytes can still be written to the disk of `directory`; sys.maxsize if it knows no limit."""
    usage = os.statvfs(directory)
    # A file system without a limit, such as a tmpfs of size 0, tells that it has no blocks at all.
    return sys.maxsize if usage.f_blocks == 0 else usage.f_bavail * usage.f_frsize


def has_inodes(directory: Path) -> bool:
    """Return whether the disk of `directory` can take another file, however many bytes are free."""
    usage = os.statvfs(directory)
    # A file system that makes inodes as it needs them, such as Btrfs, tells that it has none at all.
    return usage.f_files == 0 or usage.f_favail > 0


def out_of_inodes(directory: Path) -> DiskSpace:
    """Return the error for a disk that takes no further file."""
    free = free_bytes(directory)
    sentence = f"The disk of {directory} is out of inodes: it takes no further file, but {free} bytes are free."
    return DiskSpace(sentence, hint=INODES_HINT)


def require_room(path: Path, needed: int) -> None:
    """Raise DiskSpace unless the disk of the directory of `path` has `needed` free bytes, and StorageError."""
    with storage(path, needed):
        if free_bytes(path.parent) < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def make_private_directory(path: Path) -> None:
    """Create `path` and its parents with mode 0700 if they are missing. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` with mode 0600. Readers, also after a power cut, see the old file or the new one.

    Raises OSError.
    """
    with replacement(path) as file:
        file.write(data)


def write_durable(path: Path, data: bytes) -> None:
    """Write `data` as `write_whole` does, so that it stays after a power cut. Make the directory if it is missing.

    Raises OSError.
    """
    make_private_directory(path.parent)
    write_whole(path, data)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk, where the file system can do that. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        # Some network file systems sync files only.
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def replacement(path: Path, start: Path | None = None, keep_as: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a new file with mode 0600, open for writing and reading, that replaces `path` at the end of the block.

    The file is beside `path` until then. It is empty at first, or has the bytes of `start`, which is gone then, unless
    that is not a file of this user or another process has just taken it. If the block raises, the file is removed, or
    gets the name `keep_as` unless it is empty. Of several processes that replace `path` at the same time, the last to
    end wins. What killed processes left is removed first. Raises OSError.
    """
    remove_unfinished(path)
    file, temporary = _locked_file(path)
    try:
        taken = _taken(start, temporary) if start is not None else None
        if taken is not None:
            file.close()
            file = taken
        with file:
            try:
                yield file
            except BaseException:
                if keep_as is not None:
                    _keep(file, temporary, keep_as)
                raise
            file.flush()
            os.fsync(file.fileno())
            # Before the file is closed, because the lock ends then.
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def is_own_file(status: os.stat_result) -> bool:
    """Return whether a file is a regular one of this user without a second name.

    In a directory that others may write to, any other file could have anything in it, or be changed later.
    """
    return stat.S_ISREG(status.st_mode) and (status.st_uid, status.st_nlink) == (os.geteuid(), 1)


def _taken(start: Path, temporary: Path) -> BinaryIO | None:
    """Give the file `start` the name `temporary` and open it; None if it cannot be taken."""
    try:
        descriptor = open_regular(start, os.O_RDWR)
    except OSError:
        return None
    try:
        # The lock is taken before the name, because `remove_unfinished` of another process removes what has none.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        if not is_own_file(status) or not os.path.samestat(status, start.lstat()):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(start))
        start.replace(temporary)
    except OSError:
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "r+b")


def _keep(file: BinaryIO, temporary: Path, kept: Path) -> None:
    """Give the file the name `kept` unless it is empty. A failure does not count, because the block has failed."""
    with suppress(OSError):
        file.flush()
        if os.fstat(file.fileno()).st_size:
            # Sync before renaming, because a power cut must not leave the name on missing data.
            os.fsync(file.fileno())
            temporary.replace(kept)


def _locked_file(path: Path) -> tuple[BinaryIO, Path]:
    """Create a file beside `path` that `remove_unfinished` leaves alone while it is open."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=_unfinished_prefix(path))
        # A file system without locks has no leftovers removed either, because removing needs the lock as well.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return os.fdopen(descriptor, "w+b"), Path(name)
        # Another process removed the file between its creation and its lock.
        os.close(descriptor)


def remove_unfinished(path: Path) -> None:
    """Remove what `replacement` left beside `path` when its process was killed. Never raises."""
    for unfinished in path.parent.glob(glob.escape(_unfinished_prefix(path)) + TEMPORARY_SUFFIX):
        with suppress(OSError):
            descriptor = open_regular(unfinished, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                unfinished.unlink()
            finally:
                os.close(descriptor)


def _unfinished_prefix(path: Path) -> str:
    return f".{path.name}."
