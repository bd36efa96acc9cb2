"""The downloads of blobs into the directory of an archive: several at a time, each resumed where it stopped."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loader.background import start_daemon
from loader.blob_directory import PARTIAL_SUFFIX
from loader.crypto.archive_head import Blob
from loader.errors import ApiFault, ApiUnreachable, Checkpoint, ResourceCorrupt, ResourceNotFound, StorageError
from loader.fetch.right_of_way import RightOfWay
from loader.fetch.sources import Api, Source
from loader.model_cache.directory import PartDirectory
from loader.model_cache.download import Download
from loader.model_cache.part_file import BigFile, Stream

log = logging.getLogger(__name__)

DOWNLOADS_AT_A_TIME = 4
# A blob that is wrong twice is wrong where it is stored.
ATTEMPTS = 2
POLL_SECONDS = 0.1


class BlobParts(PartDirectory):
    """The directory of blobs, as downloads see it. A whole blob has no suffix."""

    def big(self, digest: str) -> Path:
        """Return the path of a whole blob."""
        return self.path / digest

    def promote(self, digest: str) -> None:
        """Give a partial blob its final name. Everybody may read it, because it is ciphertext."""
        self.partial(digest).chmod(0o644)
        super().promote(digest)

    def missing(self, blob: Blob) -> int:
        """Return how many bytes of a blob that is not whole are still to come."""
        with suppress(FileNotFoundError):
            here = (self.path / (blob.stored + PARTIAL_SUFFIX)).lstat().st_size
            return blob.stored_size - here if here <= blob.stored_size else blob.stored_size
        return blob.stored_size


@dataclass(frozen=True)
class _Stored:
    """The stored bytes of a blob, as a part of the model cache is described."""

    size: int
    digest: str


class _Stream:
    """Reads `stream` as the right of way permits."""

    def __init__(self, stream: Stream, right_of_way: RightOfWay, is_wanted: Callable[[], bool]) -> None:
        self.begin, self.total = stream.begin, stream.total
        self.close, self.ended_early = stream.close, stream.ended_early
        self._stream = stream
        self._right_of_way = right_of_way
        self._is_wanted = is_wanted

    def readinto(self, buffer: memoryview, /) -> int | None:
        self._right_of_way.wait(self._is_wanted)
        count = self._stream.readinto(buffer)
        self._right_of_way.count(count or 0)
        return count


class _BlobInUse:
    """A blob, as its download sees it: nothing else reads it, and nothing is removed for it."""

    def __init__(self, file: BigFile, is_wanted: Callable[[], bool]) -> None:
        self.file = file
        self.is_wanted = is_wanted

    def leave(self) -> None:
        self.file.close()

    def evict_one(self) -> bool:
        return False


class BlobDownloads:
    """Downloads blobs until all are here, or one fails, or the caller is told to stop."""

    def __init__(
        self, parts: BlobParts, right_of_way: RightOfWay, patience: float, source: Source | None = None
    ) -> None:
        """Ask `source` first, and the API for what it does not have, or has wrong.

        A download from the API that gets no byte is given up after `patience` seconds.
        """
        self._parts = parts
        self._source = source
        self._right_of_way = right_of_way
        self._patience = patience
        self._waiting: deque[Blob] = deque()
        self._is_ended = False

    def run(self, blobs: Iterable[Blob], on_poll: Checkpoint) -> None:
        """Download the blobs, the largest first. `on_poll` is called again and again, and what it raises ends it.

        What has come then stays, and the next run goes on with it. Raises ResourceNotFound, ResourceCorrupt, DiskSpace,
        StorageError and ApiFault.
        """
        self._waiting.extend(sorted(blobs, key=lambda blob: -blob.stored_size))
        try:
            running = {start_daemon(self._work, "fetch") for _ in range(min(DOWNLOADS_AT_A_TIME, len(self._waiting)))}
            while running:
                done, running = wait(running, POLL_SECONDS, FIRST_COMPLETED)
                # First, because what ended the run may have made a download fail too.
                on_poll()
                for ended in done:
                    ended.result()
        finally:
            # The other downloads end at their next byte. Nobody waits for them, because a silent API may keep them.
            self._is_ended = True

    def _is_wanted(self) -> bool:
        return not self._is_ended

    def _work(self) -> None:
        while not self._is_ended:
            try:
                blob = self._waiting.popleft()
            except IndexError:
                return
            self._download(blob)

    def _download(self, blob: Blob) -> None:
        if (source := self._source) is not None and self._has_helped(source, blob):
            return
        for _ in range(ATTEMPTS):
            if self._attempt(blob, Api(), self._patience):
                return
        raise ResourceCorrupt(f"The blob {blob.digest} is damaged where the resource API stores it.")

    def _has_helped(self, source: Source, blob: Blob) -> bool:
        """Return whether `source` had the blob. After anything else but not having it, it is not asked again."""
        try:
            if self._attempt(blob, source, 0):
                return True
            log.warning("the source of the fetch sent a wrong blob, and is not asked again")
        except ResourceNotFound:
            return False
        except (ApiFault, StorageError) as exc:
            log.warning("the source of the fetch failed, and is not asked again: %s", exc)
        self._source = None
        return False

    def _attempt(self, blob: Blob, source: Source, patience: float) -> bool:
        """Download what is missing of a blob. Return False, and remove all of it, if its digest is wrong."""
        use = _BlobInUse(BigFile(self._parts, _Stored(blob.stored_size, blob.stored)), self._is_wanted)
        try:
            if not use.file.verified:
                Download(use, f"the blob {blob.digest}", self._fetch(blob, source), patience).run()
            if use.file.failure is not None:
                raise use.file.failure
            if not use.file.verified:
                use.file.remove()
            return use.file.verified
        finally:
            use.leave()

    def _fetch(self, blob: Blob, source: Source) -> Callable[[int, int | None], Stream]:
        def fetch(begin: int, end: int | None) -> Stream:
            if self._is_ended:
                raise ApiUnreachable("The download is no longer wanted.")
            return _Stream(source.open(blob, begin, end), self._right_of_way, self._is_wanted)

        return fetch
