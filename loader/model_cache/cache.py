"""The cache of big parts: content-addressed, resumable, shared by all who load the same resource at the same time."""

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
from loader.errors import LoaderError, StorageError
from loader.files import storage, sync_beside
from loader.model_cache.directory import CacheDirectory
from loader.model_cache.download import Download
from loader.model_cache.part_file import BigFile, CacheReader, Fetch
from loader.model_cache.upkeep import CacheUpkeep

log = logging.getLogger(__name__)

# Downloads that may continue without a reader. A further one without a reader stops; the next load resumes it.
MAX_ORPHANS = 4


@dataclass
class _Entry:
    """A part in use. `users` are its readers and its download; at zero it is settled and forgotten."""

    file: BigFile
    download: Download | None = None
    users: int = 0
    forgotten: bool = False
    settling: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class DownloadStatus:
    """A download as `/status` shows it: bytes, and bytes a second."""

    filename: str
    bytes_done: int
    bytes_total: int
    rate: int


@dataclass(frozen=True)
class CacheStatus:
    """Whole parts on the disk, their bytes together, and what is on its way."""

    entries: int
    bytes: int
    downloads: list[DownloadStatus]


class ModelCache:
    """Safe to share between threads. One lock guards which parts are in use; no download and no read holds it."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Nothing is touched yet. `max_bytes` 0 means no limit."""
        self._directory = CacheDirectory(path, max_bytes)
        self.upkeep = CacheUpkeep(self._directory, self._held)
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        # Counts running downloads and parts that are being settled; `_idle` is notified whenever one of them ends.
        self._working = 0
        self._idle = threading.Condition(self._lock)

    def remove_leftovers(self) -> None:
        """Remove what a killed process has left. For the start, before anything else."""
        self._directory.remove_leftovers()

    def require_writable(self) -> None:
        """Raises StorageError if the directory is missing and cannot be made, or cannot be written to."""
        self._directory.prepare()
        if not os.access(self._directory.path, os.W_OK | os.X_OK):
            raise StorageError(f"{self._directory.path} cannot be written to.")

    def open(self, part: BigPart, label: str, fetch: Fetch) -> CacheReader:
        """A reader of the part: from the disk, or behind the one download that brings it here.

        `label` names the resource for people. Raises StorageError and DiskSpace; the reader raises what `fetch` does.
        """
        with self._lock:
            entry = self._entries.get(part.sha256)
            if entry is None or entry.file.failure is not None:
                entry = self._new_entry(part, label, fetch)
            self._directory.touch(part.sha256)
            entry.users += 1
        return CacheReader(entry.file, fetch, lambda: self._leave(entry))

    @contextmanager
    def upload(self, size: int) -> Iterator[BinaryIO]:
        """A file for the big part of an upload, about `size` bytes; gone afterwards unless it was adopted.

        Raises StorageError.
        """
        self._directory.prepare()
        self.free_disk_space(size)
        with storage(self._directory.path, size):
            file = self._directory.new_upload()
        try:
            yield file
        finally:
            with suppress(OSError):
                file.close()
                Path(file.name).unlink(missing_ok=True)

    def free_disk_space(self, size: int) -> None:
        """Remove old parts until `size` bytes are free on the disk, if that can be reached. Raises StorageError."""
        with self._lock:
            self._directory.free_disk_space(size, self._entries.keys())

    @contextmanager
    def adopting(self, upload: BinaryIO, part: BigPart) -> Iterator[None]:
        """Keep a part that was written and hashed here, if the block, which sends it elsewhere, ends well.

        Meanwhile it goes to the disk, which can take as long. To fail to keep it is no harm: it can be fetched again.
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
            if part.sha256 not in self._entries:
                self._directory.keep_limit(part.size, self._entries.keys())
                upload.replace(self._directory.big(part.sha256))

    def discard(self, sha256: str) -> None:
        """Remove a part that is not in use, so that it is fetched anew."""
        with self._lock:
            if sha256 not in self._entries:
                with storage(self._directory.path, 0):
                    self._directory.remove(sha256)

    def status(self) -> CacheStatus:
        """What is here and what is on its way; raises StorageError."""
        with self._lock:
            running = [entry.download for entry in self._entries.values() if entry.download is not None]
        whole = [file for file in self._directory.files() if file.whole]
        downloads = [
            DownloadStatus(download.label, download.file.available, download.file.part.size, round(download.rate))
            for download in running
        ]
        return CacheStatus(len(whole), sum(file.size for file in whole), downloads)

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until no download runs and no part is being settled or evicted. Return whether that was reached.

        `timeout` is in seconds. Open readers do not count, because a reader may stay open for as long as its client
        likes. Afterwards the directory shows the result of all work that was started before the call.
        """
        with self._idle:
            return self._idle.wait_for(lambda: self._working == 0, timeout)

    @contextmanager
    def _held(self) -> Iterator[Collection[str]]:
        with self._lock:
            yield self._entries.keys()

    def _new_entry(self, part: BigPart, label: str, fetch: Fetch) -> _Entry:
        self._directory.prepare()
        entry = _Entry(BigFile(self._directory, part))
        try:
            if not entry.file.verified:
                self._directory.keep_limit(part.size - entry.file.available, {part.sha256, *self._entries})
                self._start_download(entry, label, fetch)
        except BaseException:
            entry.file.close()
            raise
        # Publish the entry only once its download runs, because readers of an entry without one would wait forever.
        self._entries[part.sha256] = entry
        return entry

    def _start_download(self, entry: _Entry, label: str, fetch: Fetch) -> None:
        entry.users += 1
        entry.download = Download(
            entry.file,
            label,
            fetch,
            self._directory,
            evict_one=self._evict_one,
            wanted=lambda: self._is_wanted(entry),
        )
        arguments = (entry, entry.download, logs.current_request_id())
        # The thread is a daemon, because a later one resumes the file and a shutdown must not wait for a slow line.
        threading.Thread(target=self._run, args=arguments, name="download", daemon=True).start()
        self._working += 1

    def _run(self, entry: _Entry, download: Download, request_id: str | None) -> None:
        with logs.request_id(request_id):
            download.run()
        with self._lock:
            entry.download = None
            entry.users -= 1
        self._settle_if_unused(entry)

    def _is_wanted(self, entry: _Entry) -> bool:
        with self._lock:
            orphans = [other for other in self._entries.values() if other.download is not None and other.users == 1]
            # Only the oldest orphans continue, because a rule that is the same for all would stop all of them at once.
            return entry.users > 1 or any(other is entry for other in orphans[:MAX_ORPHANS])

    def _evict_one(self) -> bool:
        with self._lock:
            return self._directory.evict_one(self._entries.keys())

    def _leave(self, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
            self._working += 1
        self._settle_if_unused(entry)

    def _settle_if_unused(self, entry: _Entry) -> None:
        """Settle the part if nobody uses it, and end the work that the caller counted in `_working`."""
        try:
            with entry.settling:
                if self._is_unused(entry):
                    self._settle(entry)
        finally:
            with self._idle:
                self._working -= 1
                self._idle.notify_all()

    def _is_unused(self, entry: _Entry) -> bool:
        with self._lock:
            return entry.users == 0 and not entry.forgotten

    def _settle(self, entry: _Entry) -> None:
        """Verify the part, and forget it unless a new reader has joined.

        Runs without the lock, because hashing a large file takes long and other threads must be able to join meanwhile.
        """
        try:
            entry.file.settle()
        except LoaderError as exc:
            log.warning("a part of the cache could not be settled: %s", exc)
        with self._lock:
            if entry.users:
                return
            entry.forgotten = True
            if self._entries.get(entry.file.part.sha256) is entry:
                del self._entries[entry.file.part.sha256]
            entry.file.close()
            with suppress(LoaderError):
                self._directory.keep_limit(0, self._entries.keys())
