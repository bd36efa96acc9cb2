"""The downloads of blobs into the directory of an archive: several at a time, each resumed where it stopped."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import suppress
from functools import partial
from pathlib import Path

from loader.background import start_daemon
from loader.blob_directory import PARTIAL_SUFFIX
from loader.crypto.archive_head import Blob
from loader.errors import (
    ApiFault,
    ApiUnreachable,
    Checkpoint,
    LoaderError,
    ResourceCorrupt,
    ResourceNotFound,
    StorageError,
)
from loader.fetch.pace import Pace
from loader.fetch.right_of_way import RightOfWay
from loader.fetch.sources import Api, Source
from loader.fetch.streams import NOT_WANTED, BlobInUse, StoredBytes, WantedStream
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


class Turn:
    """The turn of one side, for one download. Once it is over it stays over, whatever other downloads decide.

    Otherwise a download that ended with its turn would look like one that failed, if the next turn has ended as well.
    """

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition = condition
        self.is_over = False

    def lasts(self) -> bool:
        """Return whether the turn lasts."""
        self.is_over = self.is_over or not self._condition()
        return not self.is_over


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
        self._pace = Pace()
        self._right_of_way = right_of_way
        self._patience = patience
        self._waiting: deque[Blob] = deque()
        self._is_ended = False

    def run(self, blobs: Iterable[Blob], on_poll: Checkpoint) -> None:
        """Download the blobs, the largest first. `on_poll` is called again and again, and what it raises ends it.

        What has come then stays, and the next run goes on with it. Raises ResourceNotFound, ResourceCorrupt, DiskSpace,
        StorageError and ApiFault.
        """
        largest_first = sorted(blobs, key=lambda blob: -blob.stored_size)
        try:
            if self._source is not None:
                # The smallest blob comes first and alone, because a source whose bytes are all wrong then costs little.
                self._run(largest_first[-1:], on_poll)
                del largest_first[-1:]
            self._run(largest_first, on_poll)
        finally:
            # The other downloads end at their next byte. Nobody waits for them, because a silent API may keep them.
            self._is_ended = True

    def _run(self, blobs: Sequence[Blob], on_poll: Checkpoint) -> None:
        self._waiting.extend(blobs)
        running = {start_daemon(self._work, "fetch") for _ in range(min(DOWNLOADS_AT_A_TIME, len(blobs)))}
        while running:
            done, running = wait(running, POLL_SECONDS, FIRST_COMPLETED)
            # First, because what ended the run may have made a download fail too.
            on_poll()
            for ended in done:
                ended.result()

    def _work(self) -> None:
        while not self._is_ended:
            try:
                blob = self._waiting.popleft()
            except IndexError:
                return
            self._download(blob)

    def _download(self, blob: Blob) -> None:
        failed, is_at_source = 0, True
        while failed < ATTEMPTS:
            source = self._source if is_at_source else None
            if source is not None and self._pace.asks_source:
                is_whole, is_at_source = self._ask_source(source, blob)
            else:
                answer = self._ask_api(blob, is_in_turns=source is not None)
                is_whole = answer is True
                failed += answer is False
            if is_whole:
                return
        raise ResourceCorrupt(f"The blob {blob.digest} is damaged where the resource API stores it.")

    def _ask_source(self, source: Source, blob: Blob) -> tuple[bool, bool]:
        """Return whether the blob is whole now, and whether the source may have it.

        After anything else but not having a blob, and being slow, a source is not asked again.
        """
        turn = Turn(lambda: self._pace.asks_source)
        try:
            if self._attempt(blob, source, lambda: self._is_wanted() and turn.lasts(), 0):
                return True, True
            log.warning("the source of the fetch sent a wrong blob, and is not asked again")
        except ResourceNotFound:
            return False, False
        except (ApiFault, StorageError) as exc:
            if turn.is_over:
                return False, True
            log.warning("the source of the fetch failed, and is not asked again: %s", exc)
        self._source = None
        return False, True

    def _ask_api(self, blob: Blob, *, is_in_turns: bool) -> bool | None:
        """Return whether the blob is whole and right, None if the turn of the source came before its end."""
        turn = Turn(lambda: not (is_in_turns and self._pace.asks_source))
        is_trial = is_in_turns and self._pace.is_trial
        try:
            is_whole = self._attempt(
                blob, Api(), lambda: self._is_wanted() and turn.lasts(), 0 if is_trial else self._patience
            )
        except LoaderError:
            if is_trial:
                self._pace.end_trial()
            # An API that failed on trial is asked again with all patience, once it is known that it is the faster one.
            if is_trial or turn.is_over:
                return None
            raise
        if not is_whole:
            # The source may have sent a part of it.
            self._source = None
        return is_whole

    def _is_wanted(self) -> bool:
        return not self._is_ended

    def _attempt(self, blob: Blob, source: Source, is_wanted: Callable[[], bool], patience: float) -> bool:
        """Download what is missing of a blob. Return False, and remove all of it, if its digest is wrong."""
        use = BlobInUse(BigFile(self._parts, StoredBytes(blob.stored_size, blob.stored)), is_wanted)
        try:
            if not use.file.verified:
                Download(use, f"the blob {blob.digest}", self._fetch(blob, source, is_wanted), patience).run()
            if use.file.failure is not None:
                raise use.file.failure
            if not use.file.verified:
                use.file.remove()
            return use.file.verified
        finally:
            use.leave()

    def _fetch(self, blob: Blob, source: Source, is_wanted: Callable[[], bool]) -> Callable[[int, int | None], Stream]:
        is_source = not isinstance(source, Api)

        def fetch(begin: int, end: int | None) -> Stream:
            if not is_wanted():
                raise ApiUnreachable(NOT_WANTED)
            stream = source.open(blob, begin, end)
            return WantedStream(stream, self._right_of_way, is_wanted, partial(self._pace.count, is_source=is_source))

        return fetch
