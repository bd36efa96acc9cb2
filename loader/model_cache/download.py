"""The download of one big part: appends to its file until the part is whole; retries after cuts and timeouts."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import closing, suppress

from loader.errors import ApiError, ApiProtocol, ApiUnreachable, DiskSpace, LoaderError, ResourceCorrupt, StorageError
from loader.files import write_whole
from loader.model_cache.directory import CacheDirectory
from loader.model_cache.part_file import BigFile, Fetch

log = logging.getLogger(__name__)

# Attempts in a row that bring no byte; one that does starts the count anew.
MAX_FRUITLESS_ATTEMPTS = 6
FIRST_BACKOFF_SECONDS = 0.25
# How long the process before this one may take to end, say after a reload.
LOCK_SECONDS = 60.0
LOCK_POLL_SECONDS = 0.2
RECEIVE_SIZE = 1 << 18


class Download:
    """`run` is the body of a thread. It never raises: an error becomes the file's failure, which its readers raise."""

    def __init__(
        self,
        file: BigFile,
        label: str,
        fetch: Fetch,
        directory: CacheDirectory,
        *,
        evict_one: Callable[[], bool],
        wanted: Callable[[], bool],
    ) -> None:
        """`label` names the resource for people; `wanted` says whether it may go on, asked now and then."""
        self.file = file
        self.label = label
        self._fetch = fetch
        self._directory = directory
        self._evict_one = evict_one
        self._wanted = wanted
        self._digest = hashlib.sha256()
        self._begun_at = file.available
        self._begun = time.monotonic()

    @property
    def rate(self) -> float:
        """Bytes a second since it began."""
        return max(0, self.file.available - self._begun_at) / max(time.monotonic() - self._begun, 1e-3)

    def run(self) -> None:
        """Bring the part here, verify its digest and give it its name."""
        try:
            self._lock()
            self.file.update(self._digest)
            self._bring()
            if not self.file.prove(self._digest.hexdigest()):
                log.warning("%s does not have the digest that its small part names", self.label)
        except LoaderError as exc:
            log.warning("the download of %s ended at %d bytes: %s", self.label, self.file.available, exc)
            self._end(exc)
        except Exception:
            log.exception("the download of %s failed with an unexpected error", self.label)
            self._end(LoaderError("The loader itself failed; its log says why."))
        finally:
            self.file.unlock()

    def _lock(self) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while not self.file.try_lock():
            if time.monotonic() > deadline:
                raise StorageError(f"Another process holds {self._directory.partial(self.file.part.sha256)}.")
            time.sleep(LOCK_POLL_SECONDS)
        self._begun_at = self.file.available

    def _bring(self) -> None:
        # Count progress from the furthest offset so far, because a server without ranges sends the same bytes again.
        furthest, fruitless, backoff = self.file.available, 0, FIRST_BACKOFF_SECONDS
        asked_again = False
        while not self.file.whole:
            try:
                self._attempt()
            except ResourceCorrupt:
                # The wrong size may be a passing fault on the way; where it stays, to wait is no use.
                if asked_again:
                    raise
                asked_again = True
            except (ApiUnreachable, ApiError) as exc:
                if self.file.available > furthest:
                    furthest, fruitless, backoff = self.file.available, 0, FIRST_BACKOFF_SECONDS
                fruitless += 1
                if fruitless == MAX_FRUITLESS_ATTEMPTS or not self._wanted():
                    raise
                log.info("%s is at %d bytes, going on in %.2f s: %s", self.label, self.file.available, backoff, exc)
                time.sleep(backoff)
                backoff *= 2

    def _attempt(self) -> None:
        with closing(self._fetch(self.file.available, None, self._known_etag())) as stream:
            if stream.total not in (None, self.file.part.size):
                raise ResourceCorrupt(f"The big part of {self.label} has not the size that its small part names.")
            if stream.begin != self.file.available:
                self._start_over(stream.begin)
            self._remember_etag(stream.etag)
            buffer = memoryview(bytearray(RECEIVE_SIZE))
            while not self.file.whole and self._wanted():
                count = stream.readinto(buffer[: self.file.part.size - self.file.available])
                if not count:
                    raise ApiUnreachable("The transfer ended before the part did.")
                self.file.append(buffer[:count], self._evict_one)
                self._digest.update(buffer[:count])
        if not self.file.whole:
            raise ApiUnreachable("The download has no reader left, and too many such downloads run.")

    def _start_over(self, begin: int) -> None:
        if begin != 0:
            raise ApiProtocol("The resource API answered with a range that nobody asked for.")
        self.file.restart()
        self._digest = hashlib.sha256()

    def _known_etag(self) -> str | None:
        # One that the disk has spoiled is none: no header could hold it, and the digest decides anyway.
        with suppress(OSError, UnicodeDecodeError):
            etag = self._directory.etag(self.file.part.sha256).read_text("ascii")
            return etag if etag and etag.isprintable() else None
        return None

    def _remember_etag(self, etag: str | None) -> None:
        if etag != self._known_etag():
            # Without the ETag, a later download asks for the range alone, and the digest decides.
            with suppress(OSError):
                write_whole(self._directory.etag(self.file.part.sha256), (etag or "").encode())

    def _end(self, failure: LoaderError) -> None:
        if isinstance(failure, DiskSpace):
            # Remove the partial file, because on a full disk it takes space that others need.
            with suppress(LoaderError):
                self.file.remove()
        self.file.fail(failure)
