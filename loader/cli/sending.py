"""Uploads through a running loader. They go on where they were after a cut, and also in a later run of the command."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from loader.cli.client import LoaderClient, json_body
from loader.cli.output import size_text
from loader.cli.transfers import READ_SIZE, quoted
from loader.errors import (
    BodyTruncated,
    Busy,
    LoaderError,
    LoaderProblem,
    LoaderUnreachable,
    NotLoggedIn,
    UploadMismatch,
)
from loader.files import storage
from loader.patience import Patience

# How long an upload that was cut tries to go on without getting further.
PATIENCE_SECONDS = 300.0
# How often an upload starts again because the loader has other bytes. Without a limit, two commands that upload
# different files under one name would replace each other forever.
MAX_RESTARTS = 3
_FILE_FIELD = b'"file"; filename="file"\r\n\r\n'


class FileUpload:
    """The upload of a regular file under its own name.

    `on_sent` is called with the number of bytes of each piece sent, and with that of bytes that need not be sent;
    with a negative one when bytes must be sent again. `on_event` is called with a sentence for a person.
    """

    def __init__(
        self,
        client: LoaderClient,
        path: Path,
        folder: str,
        on_sent: Callable[[int], None],
        on_event: Callable[[str], None],
    ) -> None:
        self._client = client
        self._path = path
        self._folder = folder
        self._on_sent = on_sent
        self._on_event = on_event
        self._shown = 0

    def send(self) -> None:
        """Return when the loader has uploaded the file to the resource API, maybe long after the last piece.

        Raises StorageError, BodyTruncated if the file changes meanwhile, LoaderUnreachable and LoaderProblem.
        """
        offset, complete = self._place()
        # What an earlier run has completed says nothing about this one.
        offset = 0 if complete else offset
        if offset:
            self._on_event(f"goes on after {size_text(offset)}")
        patience: Patience | None = None
        was_cut = False
        restarts = 0
        while True:
            try:
                return self._send_from(offset)
            except LoaderUnreachable as exc:
                failure: LoaderError = exc
            except LoaderProblem as exc:
                if exc.code == UploadMismatch.code and restarts < MAX_RESTARTS:
                    restarts += 1
                    self._on_event(f"starts again: {exc}")
                    offset = 0
                    continue
                # The connection that was cut may still have the slot, and the loader may have started again since.
                if exc.code != BodyTruncated.code and not (was_cut and exc.code in (Busy.code, NotLoggedIn.code)):
                    raise
                failure = exc
            was_cut = True
            patience = patience or Patience(PATIENCE_SECONDS)
            before, offset = offset, self._come_back(failure, patience)
            if offset > before:
                patience = None
            self._on_event(f"goes on after {size_text(offset)}" if offset else "starts again")

    def _come_back(self, failure: LoaderError, patience: Patience) -> int:
        """Wait until the loader says where to go on. Raises the last failure once patience has ended."""
        while True:
            wait = patience.wait_after(failure)
            if wait is None:
                raise failure
            time.sleep(wait)
            try:
                return self._place()[0]
            except LoaderUnreachable as exc:
                failure = exc
            except LoaderProblem as exc:
                # Somebody may log in to a loader that has started again.
                if not exc.retryable and exc.code != NotLoggedIn.code:
                    raise
                failure = exc

    def _place(self) -> tuple[int, bool]:
        """Return how many bytes the loader has of this upload, and whether it has completed it."""
        body, headers = json_body({"filename": self._path.name, "folder": self._folder})
        with self._client.request("POST", f"/upload/{quoted(self._path.name)}/offset", body, headers) as response:
            match self._client.document(response):
                case {"offset": int(offset), "complete": bool(complete)}:
                    return offset, complete
        raise self._client.not_a_loader()

    def _send_from(self, offset: int) -> None:
        """Send the file from an offset on. Raises UploadMismatch as a LoaderProblem if it must begin again."""
        form = _Form(self._path, self._folder, offset, self._count)
        self._count(offset - self._shown)
        headers = {**form.headers, "Upload-Offset": str(offset)}
        if offset:
            headers["Upload-Prefix-SHA256"] = form.prefix()
        path = f"/upload/{quoted(self._path.name)}"
        with self._client.request("POST", path, form, headers, patient=True) as response:
            self._client.document(response)

    def _count(self, size: int) -> None:
        self._shown += size
        self._on_sent(size)


class _Form:
    """The multipart form of an upload. The folder comes first, because the loader then encrypts in one pass."""

    def __init__(self, path: Path, folder: str, offset: int, on_sent: Callable[[int], None]) -> None:
        self._path = path
        self._offset = offset
        self._on_sent = on_sent
        boundary = secrets.token_hex(16)
        part = f"--{boundary}\r\nContent-Disposition: form-data; name=".encode()
        self._head = b"".join((part, b'"folder"\r\n\r\n', os.fsencode(folder), b"\r\n", part, _FILE_FIELD))
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        with storage(path, 0):
            self._status = path.stat()
        # A file that has become shorter has another beginning than the loader has, whatever its bytes are.
        rest = max(0, self._status.st_size - offset)
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(self._head) + rest + len(self._tail)),
        }

    def prefix(self) -> str:
        """Return the SHA-256 of what is before the offset, in hex. Raises StorageError."""
        digest = hashlib.sha256()
        with storage(self._path, 0), self._path.open("rb", buffering=0) as file:
            left = self._offset
            while left and (piece := file.read(min(READ_SIZE, left))):
                digest.update(piece)
                left -= len(piece)
        return digest.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        yield from self._content()
        yield self._tail

    def _content(self) -> Iterator[bytes]:
        """Yield the file. A changed file raises before the form ends, because the loader then stores nothing."""
        size, sent = self._status.st_size, self._offset
        with storage(self._path, 0), self._path.open("rb", buffering=0) as file:
            file.seek(self._offset)
            while sent < size and (piece := file.read(min(READ_SIZE, size - sent))):
                sent += len(piece)
                self._on_sent(len(piece))
                yield piece
            now = os.fstat(file.fileno())
        if sent < size or (now.st_size, now.st_mtime_ns) != (size, self._status.st_mtime_ns):
            raise BodyTruncated(f"{self._path} was changed while it was read, {sent} of {size} bytes were sent.")
