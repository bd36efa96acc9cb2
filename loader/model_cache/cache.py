"""The cache of big parts: named by their piece digests, resumable, and shared by simultaneous loads of a resource."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from loader import logs
from loader.crypto.model_parts import BigPart
from loader.errors import DiskSpace, LoaderError, StorageError
from loader.files import free_bytes, has_inodes, out_of_inodes, storage, sync_beside
from loader.model_cache.directory import CacheDirectory
from loader.model_cache.download import Download
from loader.model_cache.part_file import BigFile, Fetch
from loader.model_cache.part_reader import CacheReader
from loader.model_cache.upkeep import CacheUpkeep

log = logging.getLogger(__name__)

# Downloads that may continue without a reader. A further one without a reader stops; the next load resumes it.
MAX_ORPHANS = 4
# The bytes of an upload form that its big part may lack: those of the small part, and of fields around the file.
FORM_MAX_SIZE = 1 << 21
# With less room than this hardly any model fits.
ROOM_SIZE = 1 << 20
# More parts than a cache has. Beyond it the name that was noted first is forgotten.
MAX_NAMES = 4096
NO_GROWTH = "The cache cannot grow: only the models that are whole there can be loaded."


@dataclass
class _PartInUse:
    """A part that a reader or a download uses. `users` counts them; at zero the part is settled and forgotten."""

    cache: ModelCache
    file: BigFile
    download: Download | None = None
    users: int = 0
    forgotten: bool = False
    settling: threading.Lock = field(default_factory=threading.Lock)

    def leave(self) -> None:
        """Take one reader off. The last user settles the part."""
        self.cache.leave(self)

    def is_wanted(self) -> bool:
        """Return whether the download may continue."""
        return self.cache.is_wanted(self)

    def evict_one(self) -> bool:
        """Remove the least recently used part, because the disk is full; False if no removal makes enough room."""
        return self.cache.evict_one(self)


@dataclass(frozen=True)
class DownloadStatus:
    """A download as `/status` shows it: sizes in bytes, `rate` in bytes per second."""

    filename: str
    bytes_done: int
    bytes_total: int
    rate: int


@dataclass(frozen=True)
class CacheStatus:
    """The number of whole parts on the disk, their size in bytes, and the running downloads."""

    entries: int
    bytes: int
    downloads: list[DownloadStatus]


class ModelCache:
    """The cache. Threads may share it.

    One lock guards which parts are in use and what is evicted. No download and no read holds it.
    """

    def __init__(self, path: Path, max_bytes: int, patience: float) -> None:
        """Touch nothing yet. `max_bytes` limits the parts on the disk; 0 means no limit.

        A download that gets no byte is given up after `patience` seconds.
        """
        self._patience = patience
        self._directory = CacheDirectory(path, max_bytes)
        self._lock = threading.Lock()
        self._in_use: dict[str, _PartInUse] = {}
        # Only in memory, because what a captured device has on its disk should not tell the names of its models.
        self._names: dict[str, str] = {}
        self.upkeep = CacheUpkeep(self._directory, self._lock, self._in_use.keys(), self._names)
        # Counts running downloads and parts that are being settled; `_idle` is notified whenever one of them ends.
        self._working = 0
        self._idle = threading.Condition(self._lock)

    def remove_leftovers(self) -> None:
        """Remove what a killed process left. Call this at the start, before anything else."""
        self._directory.remove_leftovers()

    def require_writable(self) -> None:
        """Raise StorageError if the cache cannot grow, because its directory cannot be made or written to.

        Raise DiskSpace if its disk takes no file, or fewer than ROOM_SIZE bytes even if all parts are removed.
        """
        self._directory.prepare()
        if not os.access(self._directory.path, os.W_OK | os.X_OK):
            raise StorageError(f"{self._directory.path} cannot be written to. {NO_GROWTH}")
        with storage(self._directory.path, 0):
            if not has_inodes(self._directory.path):
                raise out_of_inodes(self._directory.path)
        room = self._directory.room(())
        if room < ROOM_SIZE:
            raise DiskSpace(
                f"The disk is full: {self._directory.path} takes {room} bytes even without its parts. {NO_GROWTH}"
            )

    def open(self, part: BigPart, label: str, fetch: Fetch) -> CacheReader:
        """Return a reader of the part, from the disk or from the one download of it. The caller closes the reader.

        `label` names the resource for people. Raises StorageError and DiskSpace; the reader raises what `fetch` raises.
        """
        with self._lock:
            use = self._in_use.get(part.digest)
            if use is None or use.file.failure is not None:
                use = self._start_use(part, label, fetch)
            self._directory.touch(part.digest)
            self._note_name(part, label)
            use.users += 1
        return CacheReader(use, fetch)

    @contextmanager
    def upload(self, size: int) -> Iterator[BinaryIO]:
        """Yield a file for the big part of an upload of about `size` bytes. It is removed unless it was adopted.

        Raises StorageError, and DiskSpace before anything is read or evicted if the disk cannot take that much.
        """
        self._directory.prepare()
        with self._lock:
            self._require_room(size - FORM_MAX_SIZE, self._in_use)
        self.free_disk_space(size)
        with storage(self._directory.path, size):
            file = self._directory.new_upload()
        try:
            yield file
        finally:
            # Closing writes what is buffered, which a full disk refuses; the file must go all the same.
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                Path(file.name).unlink(missing_ok=True)

    def free_disk_space(self, size: int) -> None:
        """Evict parts until `size` bytes of the disk are free, or none if that is impossible. Raises StorageError."""
        with self._lock:
            self._directory.free_disk_space(size, self._in_use.keys())

    @contextmanager
    def adopting(self, upload: BinaryIO, part: BigPart) -> Iterator[None]:
        """Keep the part of an upload if the block, which sends it to the API, does not raise.

        The part is synced to the disk during the block, because both can take long. A failure to keep it is ignored,
        because the part can be downloaded again.
        """
        if not self._directory.fits(part.size):
            yield
            return
        synced = sync_beside(upload)
        yield
        with suppress(LoaderError), storage(self._directory.path, 0):
            # Sync before renaming, because a power cut must not leave the final name on missing data.
            synced.result()
            self._adopt(Path(upload.name), part)

    def _adopt(self, upload: Path, part: BigPart) -> None:
        with self._lock:
            if part.digest not in self._in_use:
                self._directory.keep_limit(part.size, self._in_use.keys())
                upload.replace(self._directory.big(part.digest))

    def has(self, part: BigPart, label: str) -> bool:
        """Return whether the part is here as a whole. `label` is as for `open`."""
        with self._lock:
            is_here = self._directory.has_whole(part.digest, part.size)
            if is_here:
                self._note_name(part, label)
            return is_here

    def discard(self, digest: str) -> None:
        """Remove a part unless it is in use, so that the next load downloads it again."""
        with self._lock:
            if digest not in self._in_use:
                with storage(self._directory.path, 0):
                    self._directory.remove(digest)

    def status(self) -> CacheStatus:
        """Return what is on the disk and which downloads run. Raises StorageError."""
        with self._lock:
            running = [use.download for use in self._in_use.values() if use.download is not None]
        whole = [file for file in self._directory.files() if file.whole]
        downloads = [
            DownloadStatus(download.label, download.file.available, download.file.part.size, round(download.rate))
            for download in running
        ]
        return CacheStatus(len(whole), sum(file.size for file in whole), downloads)

    def received(self) -> int | None:
        """Return how many bytes the running downloads have got so far; None if none runs."""
        with self._lock:
            running = [use.download for use in self._in_use.values() if use.download is not None]
        return sum(download.received for download in running) if running else None

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until no download runs and no part is being settled or evicted. Return whether that was reached.

        `timeout` is in seconds. Open readers do not count, because a reader may stay open for as long as its client
        likes. Afterwards the directory shows the result of all work that was started before the call.
        """
        with self._idle:
            return self._idle.wait_for(lambda: self._working == 0, timeout)

    def leave(self, use: _PartInUse) -> None:
        """Take one reader off a part; see `_PartInUse`."""
        with self._lock:
            use.users -= 1
            self._working += 1
        self._settle_if_unused(use)

    def is_wanted(self, use: _PartInUse) -> bool:
        """Return whether the download of a part may continue: it has a reader, or is one of the oldest without one."""
        with self._lock:
            orphans = [other for other in self._in_use.values() if other.download is not None and other.users == 1]
            # Only the oldest orphans continue, because a rule that is the same for all would stop all of them at once.
            return use.users > 1 or any(other is use for other in orphans[:MAX_ORPHANS])

    def evict_one(self, use: _PartInUse) -> bool:
        """Remove the least recently used part that is not in use; False if `use` would not fit without any of them."""
        with self._lock:
            others = self._in_use.keys()
            return self._directory.room(others) >= _missing(use.file) and self._directory.evict_one(others)

    def _note_name(self, part: BigPart, label: str) -> None:
        self._names[part.digest] = label
        if len(self._names) > MAX_NAMES:
            del self._names[next(iter(self._names))]

    def _start_use(self, part: BigPart, label: str, fetch: Fetch) -> _PartInUse:
        self._directory.prepare()
        use = _PartInUse(self, BigFile(self._directory, part))
        try:
            if not use.file.whole:
                self._require_room(_missing(use.file), {part.digest, *self._in_use})
                # For a part that is larger than the limit no part is removed that may stay without it.
                coming = _missing(use.file) if self._directory.fits(part.size) else 0
                self._directory.keep_limit(coming, {part.digest, *self._in_use})
            if not use.file.verified:
                self._start_download(use, label, fetch)
        except BaseException:
            if not use.file.available:
                use.file.remove()
            use.file.close()
            raise
        # Publish the part only once its download runs, because readers of a part without one would wait forever.
        self._in_use[part.digest] = use
        return use

    def _require_room(self, needed: int, in_use: Collection[str]) -> None:
        """Raise DiskSpace if the disk cannot take `needed` bytes beside what the running downloads bring."""
        coming = sum(_missing(use.file) for use in self._in_use.values() if use.download is not None)
        room = self._directory.room(in_use) - coming
        if needed > room:
            path = self._directory.path
            raise DiskSpace(
                f"The disk is too small: {path} needs at least {needed} bytes, {free_bytes(path)} bytes are free, "
                f"and at most {max(0, room)} bytes if all that may be removed is removed."
            )

    def _start_download(self, use: _PartInUse, label: str, fetch: Fetch) -> None:
        use.users += 1
        use.download = Download(use, label, fetch, self._patience)
        arguments = (use, use.download, logs.current_request_id())
        # The thread is a daemon, because a later one resumes the file and a shutdown must not wait for a slow line.
        threading.Thread(target=self._run, args=arguments, name="download", daemon=True).start()
        self._working += 1

    def _run(self, use: _PartInUse, download: Download, request_id: str | None) -> None:
        with logs.request_id(request_id):
            download.run()
        with self._lock:
            use.download = None
            use.users -= 1
        self._settle_if_unused(use)

    def _settle_if_unused(self, use: _PartInUse) -> None:
        """Settle the part if nobody uses it, and end the work that the caller counted in `_working`."""
        try:
            with use.settling:
                if self._is_unused(use):
                    self._settle(use)
        finally:
            with self._idle:
                self._working -= 1
                self._idle.notify_all()

    def _is_unused(self, use: _PartInUse) -> bool:
        with self._lock:
            return use.users == 0 and not use.forgotten

    def _settle(self, use: _PartInUse) -> None:
        """Verify the part, and forget it unless a new reader has joined.

        Runs without the lock, because hashing a large file takes long and other threads must be able to join meanwhile.
        """
        try:
            use.file.settle()
        except LoaderError as exc:
            log.warning("a part of the cache could not be settled: %s", exc)
        with self._lock:
            if use.users:
                return
            use.forgotten = True
            with suppress(LoaderError):
                if self._in_use.get(use.file.part.digest) is use:
                    del self._in_use[use.file.part.digest]
                    # A part that is larger than the limit goes first, because otherwise all others would go before it.
                    if not self._directory.fits(use.file.available):
                        use.file.remove()
            use.file.close()
            with suppress(LoaderError):
                self._directory.keep_limit(0, self._in_use.keys())


def _missing(file: BigFile) -> int:
    """Return how many bytes of a part are still to come."""
    return file.part.size - file.available
