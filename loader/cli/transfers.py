"""Loads and uploads through a running loader, streamed: nothing of a model is held in memory."""

from __future__ import annotations

import http.client
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from loader.cli.client import DeviceClient, json_body
from loader.errors import AnswerCut, BodyTruncated
from loader.files import storage

PIECE_SIZE = 1 << 18


class OpenLoad:
    """A load that has begun: an iterator over pieces of the plaintext, `size` bytes in all. Raises AnswerCut."""

    def __init__(self, response: http.client.HTTPResponse, size: int) -> None:
        self.size = size
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        arrived = 0
        while arrived < self.size:
            try:
                piece = self._response.read1(PIECE_SIZE)
            except TimeoutError as exc:
                raise AnswerCut(f"The loader fell silent after {arrived} of {self.size} bytes.") from exc
            except (OSError, http.client.HTTPException):
                piece = b""
            if not piece:
                raise AnswerCut(f"The load was cut after {arrived} of {self.size} bytes.")
            arrived += len(piece)
            yield piece


@contextmanager
def open_load(client: DeviceClient, folder: str, filename: str) -> Iterator[OpenLoad]:
    """The plaintext of a resource, which begins as late as the loader has to fetch and prove it first.

    Raises LoaderUnreachable and LoaderProblem.
    """
    body, headers = json_body({"filename": filename, "folder": folder})
    with client.answer("POST", f"/load/{_quoted(filename)}", body, headers, patient=True) as response:
        size = response.length
        if size is None or response.headers.get("Content-Type") != "application/octet-stream":
            raise client.stranger()
        yield OpenLoad(response, size)


def send_file(client: DeviceClient, path: Path, folder: str, progress: Callable[[int], None]) -> None:
    """Upload a regular file under its own name. `progress` gets bytes as they go.

    After the last one the loader takes as long as its own upload does. Raises StorageError, BodyTruncated for a file
    that changes meanwhile, LoaderUnreachable and LoaderProblem.
    """
    form = _Form(path, folder, progress)
    with client.answer("POST", f"/upload/{_quoted(path.name)}", form, form.headers, patient=True) as response:
        client.document(response)


class _Form:
    """The multipart form of an upload, the folder first: the loader then encrypts in one pass."""

    def __init__(self, path: Path, folder: str, progress: Callable[[int], None]) -> None:
        self._path = path
        self._progress = progress
        boundary = secrets.token_hex(16)
        part = f"--{boundary}\r\nContent-Disposition: form-data; name=".encode()
        self._head = b"".join((part, b'"folder"\r\n\r\n', os.fsencode(folder), b"\r\n", part, _FILE))
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        with storage(path, 0):
            self._status = path.stat()
        length = len(self._head) + self._status.st_size + len(self._tail)
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(length),
        }

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        yield from self._content()
        yield self._tail

    def _content(self) -> Iterator[bytes]:
        """Raises before the form ends if this is not what was there at the begin: the loader then stores nothing."""
        size, sent = self._status.st_size, 0
        with storage(self._path, 0), self._path.open("rb", buffering=0) as file:
            while piece := file.read(min(PIECE_SIZE, size - sent)):
                sent += len(piece)
                self._progress(len(piece))
                yield piece
            now = os.fstat(file.fileno())
        if sent < size or (now.st_size, now.st_mtime_ns) != (size, self._status.st_mtime_ns):
            raise BodyTruncated(f"{self._path} was changed while it was read, {sent} of {size} bytes were sent.")


_FILE = b'"file"; filename="file"\r\n\r\n'


def _quoted(filename: str) -> str:
    return quote(os.fsencode(filename), safe="")
