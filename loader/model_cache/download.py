"""The download of one part: appends to its file until the part is whole; retries after cuts and timeouts."""

from __future__ import annotations

import logging
import time
from contextlib import closing, suppress

from loader.crypto.pieces import PieceHash
from loader.errors import UNEXPECTED, ApiError, ApiUnreachable, DiskSpace, LoaderError, ResourceCorrupt
from loader.model_cache.part_file import Fetch, PartInUse, skip
from loader.patience import Patience

log = logging.getLogger(__name__)

RECEIVE_SIZE = 1 << 18


class Download:
    """One download. `run` never raises: an error becomes the failure of the file, which the readers raise."""

    def __init__(self, use: PartInUse, label: str, fetch: Fetch, patience_seconds: float) -> None:
        """`label` names the resource for people. The download asks `use` now and then whether it is still wanted.

        It gives up after `patience_seconds` without a new byte.
        """
        self.file = use.file
        self.label = label
        self._use = use
        self._fetch = fetch
        self._patience_seconds = patience_seconds
        self._digest = PieceHash()
        self._start_offset = self.file.available
        self._started = time.monotonic()

    @property
    def rate(self) -> float:
        """The average rate since the start, in bytes per second."""
        return self.received / max(time.monotonic() - self._started, 1e-3)

    @property
    def received(self) -> int:
        """The bytes that came since the start."""
        return max(0, self.file.available - self._start_offset)

    def run(self) -> None:
        """Download the part, verify its digest and give the file its final name. The body of a thread."""
        try:
            self.file.update(self._digest)
            self._append_all()
            if not self.file.prove(self._digest):
                log.warning("the digest of %s is not the one that names it", self.label)
        except LoaderError as exc:
            log.warning("the download of %s ended at %d bytes: %s", self.label, self.file.available, exc)
            self._end(exc)
        except Exception:
            log.exception("the download of %s failed with an unexpected error", self.label)
            self._end(LoaderError(UNEXPECTED))

    def _append_all(self) -> None:
        furthest, patience = self.file.available, Patience(self._patience_seconds)
        retried_size = False
        while not self.file.whole:
            try:
                self._attempt()
            except ResourceCorrupt:
                # Retry once, because a wrong size may be a passing fault of a proxy; a second one will stay.
                if retried_size:
                    raise
                retried_size = True
            except (ApiUnreachable, ApiError) as exc:
                if self.file.available > furthest:
                    furthest = self.file.available
                    patience.renew()
                wait = patience.wait_after(exc)
                if wait is None or not self._use.is_wanted():
                    raise
                done = self.file.available
                log.info("the download of %s stopped at %d bytes, retry in %.2f s: %s", self.label, done, wait, exc)
                time.sleep(wait)

    def _attempt(self) -> None:
        with closing(self._fetch(self.file.available, None)) as stream:
            if stream.total not in (None, self.file.part.size):
                raise ResourceCorrupt(f"The stored bytes of {self.label} do not have the size that they should have.")
            # Keep what is here whatever version the API names, because the digest decides what the right bytes are.
            skip(stream, self.file.available)
            buffer = memoryview(bytearray(RECEIVE_SIZE))
            while not self.file.whole and self._use.is_wanted():
                count = stream.readinto(buffer[: self.file.part.size - self.file.available])
                if not count:
                    raise stream.ended_early()
                self._append(buffer[:count])
                self._digest.update(buffer[:count])
        if not self.file.whole:
            raise ApiUnreachable("The download has no reader left, and too many such downloads run.")

    def _append(self, piece: memoryview) -> None:
        """Append `piece`; on a full disk evict other parts until it fits."""
        while True:
            try:
                return self.file.append(piece)
            except DiskSpace:
                if not self._use.evict_one():
                    raise

    def _end(self, failure: LoaderError) -> None:
        if isinstance(failure, DiskSpace):
            # Remove the partial file, because on a full disk it takes space that others need.
            with suppress(LoaderError):
                self.file.remove()
        self.file.fail(failure)
