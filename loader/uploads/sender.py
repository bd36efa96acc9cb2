"""Sends a file to the API in parts while it is written, and continues after whatever interrupts that."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

from loader import logs
from loader.api_client.uploads import PartsRefused, UploadLost, Uploads
from loader.errors import ApiError, ApiUnreachable, Checkpoint
from loader.patience import Patience, pause
from loader.uploads.body import FilePieces
from loader.uploads.current import CurrentSession
from loader.uploads.parts import Part
from loader.uploads.session import Link, Session

log = logging.getLogger(__name__)

# One part travels while the other waits for its response, which takes long over a satellite.
SENDERS = 2
CHECK_SECONDS = 0.5
# A sender that is in a call looks every half second whether it must end, once the call has taken five.
STOP_SECONDS = 10.0


class _Ended(Exception):
    """The upload has ended, so nothing of it is sent any more."""


class PartSender:
    """The upload of one object in parts, read from a file that grows. Bytes that were written must not change.

    In a `with` block: one that is left before `finish` has returned abandons the upload.
    """

    def __init__(
        self,
        api: Uploads,
        name: str,
        size: int,
        source: tuple[BinaryIO, Path],
        patience: float,
        checkpoint: Checkpoint,
    ) -> None:
        """Send the object `name`, which seems to have `size` bytes, from an open file, with the path that errors name.

        What the API interrupts is tried again for `patience` seconds. `checkpoint` ends everything early.
        """
        self._size = size
        self._file, self._path = source
        self._patience, self._checkpoint = patience, checkpoint
        self._label = f"the upload of {name}"
        self._changed = threading.Condition()
        self._current = CurrentSession(api, (name, size), Link(self._go_on), patience, self._changed)
        self._written = 0
        self._whole = self._ended = self._refused = False
        self._failure: Exception | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._open)
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(STOP_SECONDS)
        self._current.abandon()

    def written(self, count: int) -> None:
        """Note that the file has `count` bytes more. Raises why the upload has failed, if it has."""
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._written += count
            self._changed.notify_all()

    def finish(self) -> bool:
        """Send what is left, and return once the API has the object.

        False if the API takes no parts at all, or if the object has another size than it seemed. Raises NotLoggedIn,
        Forbidden, StorageError and ApiFault.
        """
        with self._changed:
            if self._written != self._size:
                return False
            self._whole = True
            self._changed.notify_all()
        while (session := self._sent()) is not None:
            try:
                session.complete(session.plan.arrived())
            except UploadLost:
                self._current.replace(session)
            except PartsRefused as exc:
                self._current.compare(session, exc.error)
            else:
                self._current.session = None
                return True
        return False

    def _sent(self) -> Session | None:
        """Return the session once the API has all parts; None if it takes no parts."""
        with self._changed:
            while not self._refused:
                if self._failure is not None:
                    raise self._failure
                session = self._current.session
                if session is not None and session.plan.sent == self._written:
                    return session
                self._checkpoint()
                self._changed.wait(CHECK_SECONDS)
        return None

    def _open(self) -> None:
        if not self._current.begin():
            with self._changed:
                self._refused = True
                self._changed.notify_all()
            return
        for _ in range(SENDERS - 1):
            self._start(self._send_all)
        self._send_all()

    def _send_all(self) -> None:
        """Send one part after another until the upload ends."""
        patience: Patience | None = None
        while True:
            session, part = self._next_part()
            try:
                etag: str | None = session.send(part, self._body(part))
                patience = None
            except UploadLost:
                self._current.replace(session)
                continue
            except (ApiUnreachable, ApiError) as exc:
                # Count from the first failure, because the attempt before it may have sent for an hour.
                patience = patience or Patience(self._patience)
                etag = self._after(exc, patience, session, part)
            with self._changed:
                if etag is None:
                    session.plan.give_back(part)
                else:
                    session.plan.acknowledge(part, etag)
                self._changed.notify_all()

    def _next_part(self) -> tuple[Session, Part]:
        with self._changed:
            while True:
                self._go_on()
                session = self._current.session
                if session is not None:
                    # What is beyond the announced size has no part.
                    part = session.plan.take(min(self._written, self._size), whole=self._whole)
                    if part is not None:
                        return session, part
                self._changed.wait(CHECK_SECONDS)

    def _body(self, part: Part) -> FilePieces:
        return FilePieces(self._file, self._path, self._go_on, part.begin, part.end)

    def _after(
        self, failure: ApiUnreachable | ApiError, patience: Patience, session: Session, part: Part
    ) -> str | None:
        """Wait after a failure, and return the ETag of the part if it has arrived nevertheless.

        Raises `failure` if it makes no sense to try again.
        """
        wait = None if isinstance(failure, ApiError) and failure.lasting else patience.wait_after(failure)
        if wait is None:
            raise failure
        log.info("%s: part %d failed, continues in %.2f s: %s", self._label, part.number, wait, failure)
        pause(wait, self._go_on)
        try:
            return session.arrived(part)
        except UploadLost:
            self._current.replace(session)
            return None

    def _go_on(self) -> None:
        if self._ended or self._failure is not None:
            raise _Ended
        self._checkpoint()

    def _start(self, work: Callable[[], None]) -> None:
        # A daemon, because a call that hangs must not keep the process from ending.
        thread = threading.Thread(target=self._run, args=(work, logs.current_request_id()), name="upload", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, work: Callable[[], None], request_id: str | None) -> None:
        with logs.request_id(request_id), suppress(_Ended):
            try:
                work()
            except _Ended:
                raise
            except Exception as exc:  # noqa: BLE001  # the thread whose upload it is raises it
                with self._changed:
                    self._failure = self._failure or exc
                    self._changed.notify_all()
                # Now, because after a lock the token must not wait until a slow client sends its next piece.
                self._current.abandon()
