"""An upload that outlives the connections of its client: a thread stores the model, and waits while no client sends."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Self

from loader import logs
from loader.api_client import get_api_client
from loader.background import start_daemon
from loader.crypto.model_parts import ResourceName
from loader.errors import BodyTruncated, Checkpoint, LoaderError, NotLoggedIn, UploadMismatch
from loader.uploads.model import UploadForm

log = logging.getLogger(__name__)

# How long a client may stay away.
KEEP_SECONDS = 600.0
CHECK_SECONDS = 0.5

Stored = tuple[ResourceName, int]
# `ModelUploads.store`.
Store = Callable[[str, UploadForm, Checkpoint], Stored]


class KeptUpload:
    """One upload, and the form that its thread reads: piece by piece, as connections bring them.

    Only the latest connection may bring pieces; a new one takes the turn of an earlier one, which the network may have
    lost long ago. One piece at a time is in memory.
    """

    def __init__(self, name: ResourceName, form: UploadForm) -> None:
        """Take the sizes from `form`, whose folder was read. Raises NotLoggedIn."""
        self.length = form.length
        self.offset = 0
        self._name = name
        self._user = get_api_client().user
        self._size = form.file_size()
        self._checkpoint = get_api_client().checkpoint()
        self._digest = hashlib.sha256()
        self._piece: bytes | None = None
        self._whole = self._dropped = False
        self._changed = threading.Condition()
        self._turn: Turn | None = None
        self._left = time.monotonic()
        self._earlier: Sequence[KeptUpload] = ()
        self._stored: Future[Stored]

    def start(self, store: Store, earlier: Sequence[KeptUpload]) -> None:
        """Start the thread that stores the model, once those of the `earlier` uploads of it have ended."""
        self._earlier = earlier
        request_id = logs.current_request_id()

        def work() -> Stored:
            with logs.request_id(request_id):
                try:
                    return store(self._name.filename, self, self._require_wanted)
                except LoaderError as exc:
                    # There may be no connection left that could tell anybody.
                    log.info("the upload of %s ended after %d bytes: %s", self._name.path, self.offset, exc)
                    raise
                finally:
                    self._earlier = ()

        self._stored = start_daemon(work, "kept upload")
        self._stored.add_done_callback(lambda _: self._notify())

    @property
    def complete(self) -> bool:
        """Whether the model is stored."""
        return self.done and self._stored.exception() is None

    @property
    def ended(self) -> bool:
        """Whether nobody can go on with it: it has failed, or must."""
        try:
            self._require_wanted()
        except LoaderError:
            return True
        return self._failed

    @property
    def done(self) -> bool:
        """Whether its thread has ended, so that it sends nothing any more."""
        return self._stored.done()

    @property
    def left(self) -> float | None:
        """Since when no connection has the turn, by the monotonic clock; None while one has it."""
        return self._left if self._turn is None else None

    @property
    def goes_alone(self) -> bool:
        """Whether it needs no client any more, because the whole file is being stored."""
        return self._whole and not self.done

    def take_turn(self) -> Turn:
        """Let a new connection bring the next pieces."""
        with self._changed:
            self._turn = Turn(self)
            self._changed.notify_all()
            return self._turn

    def resume(self, offset: int, digest: str) -> Turn:
        """Let a new connection go on after `offset` bytes, whose SHA-256 is `digest`, in hex.

        Raises UploadMismatch unless just these bytes have arrived.
        """
        # In one step, because an earlier connection brings pieces until its turn is taken.
        path = self._name.path
        with self._changed:
            if self.offset != offset:
                raise UploadMismatch(f"The upload of {path} goes on after {self.offset} bytes, not {offset}.")
            if self._digest.hexdigest() != digest:
                raise UploadMismatch(f"The upload of {path} began with other bytes than those that go on.")
            return self.take_turn()

    def end_turn(self, turn: Turn | None = None) -> None:
        """End the turn of this connection, or of any."""
        with self._changed:
            if turn in (None, self._turn):
                # In this order, because `left` is asked without the lock.
                self._left = time.monotonic()
                self._turn = None
                self._changed.notify_all()

    def drop(self) -> None:
        """Let the thread give up, also if the whole file is there."""
        with self._changed:
            self._dropped = True
            self._changed.notify_all()

    def wait(self, checkpoint: Checkpoint) -> None:
        """Wait until the thread has ended. Raises what `checkpoint` raises."""
        while not self.done:
            checkpoint()
            wait([self._stored], timeout=CHECK_SECONDS)

    def bring(self, turn: Turn, pieces: Iterable[bytes]) -> None:
        """Hand pieces to the thread, and raise why it has failed, if it has.

        Raises BodyTruncated once another connection has the turn, and UploadMismatch if the file was whole before.
        """
        for piece in pieces:
            digest = self._digest.copy()
            digest.update(piece)
            with self._changed:
                while self._require_open(turn) and self._piece is not None:
                    self._changed.wait(CHECK_SECONDS)
                if self._whole:
                    raise UploadMismatch("The file has more bytes than those that were the whole file before.")
                self._piece, self._digest, self.offset = piece, digest, self.offset + len(piece)
                self._changed.notify_all()

    def finish(self, turn: Turn) -> Stored:
        """Note that the whole file has arrived. Return once the model is stored, or raise why it is not.

        Raises BodyTruncated once another connection has the turn.
        """
        with self._changed:
            self._require_open(turn)
            self._whole = True
            self._changed.notify_all()
            # A client that came back has another connection, and this one must not keep its transfer slot.
            while not self._stored.done() and self._require_open(turn):
                self._changed.wait(CHECK_SECONDS)
        return self._stored.result()

    def folder_if_first(self) -> str:
        """Return the folder."""
        return self._name.folder

    def file_size(self) -> int | None:
        """Return the size of the file as it seemed at the beginning."""
        return self._size

    def file_pieces(self) -> Iterator[bytes]:
        """Yield the pieces as they come. Raises BodyTruncated if none comes any more, and NotLoggedIn."""
        while (piece := self._next_piece()) is not None:
            yield piece

    def folder_at_end(self) -> str:
        """Return the folder once all earlier uploads have ended, whose last requests could replace this model."""
        for upload in self._earlier:
            upload.wait(self._require_wanted)
        return self._name.folder

    def _next_piece(self) -> bytes | None:
        with self._changed:
            while self._piece is None and not self._whole:
                self._require_wanted()
                self._changed.wait(CHECK_SECONDS)
            piece, self._piece = self._piece, None
            self._changed.notify_all()
            return piece

    def _require_wanted(self) -> None:
        self._checkpoint()
        if get_api_client().user != self._user:
            raise NotLoggedIn("The login with which the upload began has ended.")
        if self._dropped:
            raise BodyTruncated("The upload has made room for another one.")
        left = self.left
        if left is not None and not self.goes_alone and time.monotonic() - left > KEEP_SECONDS:
            raise BodyTruncated(f"The client has not come back for {KEEP_SECONDS:.0f} s.")

    def _require_open(self, turn: Turn) -> bool:
        if self._turn is not turn:
            raise BodyTruncated("Another connection goes on with this upload.")
        if self._failed:
            self._stored.result()
        return True

    @property
    def _failed(self) -> bool:
        return self.done and self._stored.exception() is not None

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Turn:
    """The turn of one connection, which ends with its `with` block."""

    def __init__(self, upload: KeptUpload) -> None:
        self._upload = upload

    def bring(self, pieces: Iterable[bytes]) -> None:
        """Bring pieces: see `KeptUpload.bring`."""
        self._upload.bring(self, pieces)

    def finish(self) -> Stored:
        """Bring no more: see `KeptUpload.finish`."""
        return self._upload.finish(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._upload.end_turn(self)
