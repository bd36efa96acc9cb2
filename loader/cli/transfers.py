"""Loads and uploads through a running loader. Both are streamed: no model is held in memory."""

from __future__ import annotations

import http.client
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from loader.cli.client import LoaderClient
from loader.errors import AnswerCut, BodyTruncated
from loader.files import storage

READ_SIZE = 1 << 18
LOADED = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.NOT_MODIFIED)
_FILE_FIELD = b'"file"; filename="file"\r\n\r\n'


class OpenLoad:
    """A load that has started: an iterator over pieces of the plaintext, from `begin` to `size`. Raises AnswerCut.

    `etag` names the edition, None if the response does not tell. `arrived` is the offset behind the last piece.
    """

    def __init__(self, response: http.client.HTTPResponse, begin: int, size: int) -> None:
        self.begin = begin
        self.size = size
        self.arrived = begin
        self.etag = response.headers.get("ETag")
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        while self.arrived < self.size:
            try:
                piece = self._response.read1(READ_SIZE)
            except TimeoutError as exc:
                raise AnswerCut(f"The loader fell silent after {self.arrived} of {self.size} bytes.") from exc
            except (OSError, http.client.HTTPException):
                piece = b""
            if not piece:
                raise AnswerCut(f"The load was cut after {self.arrived} of {self.size} bytes.")
            self.arrived += len(piece)
            yield piece


@contextmanager
def open_load(
    client: LoaderClient, folder: str, filename: str, *, known: str | None = None, here: tuple[str, int] | None = None
) -> Iterator[OpenLoad | None]:
    """Start to load a model. Waits until the loader has fetched and verified the first bytes.

    Yields None if the model is still the edition with the ETag `known`. `here` is the ETag of an edition and how many
    bytes of it are here already: the load continues there if it is still the same. Raises LoaderUnreachable and
    LoaderProblem.
    """
    headers = {} if known is None else {"If-None-Match": known}
    if here is not None:
        headers |= {"If-Range": here[0], "Range": f"bytes={here[1]}-"}
    path = "/models/" + "/".join(map(_quoted, [*folder.split("/"), filename] if folder else [filename]))
    with client.request("GET", path, (), headers, patient=True, expected=LOADED) as response:
        yield None if response.status == HTTPStatus.NOT_MODIFIED else _opened(client, response, here)


def _opened(client: LoaderClient, response: http.client.HTTPResponse, here: tuple[str, int] | None) -> OpenLoad:
    begin, length = 0, response.length
    if length is None or response.headers.get("Content-Type") != "application/octet-stream":
        raise client.not_a_loader()
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        begin = here[1] if here is not None else 0
        if response.headers.get("Content-Range") != f"bytes {begin}-{begin + length - 1}/{begin + length}":
            raise client.not_a_loader()
    return OpenLoad(response, begin, begin + length)


def send_file(client: LoaderClient, path: Path, folder: str, on_sent: Callable[[int], None]) -> None:
    """Upload a regular file under its own name. `on_sent` is called with the number of bytes of each piece sent.

    Returns when the loader has uploaded the file to the resource API, which may be long after the last piece. Raises
    StorageError, BodyTruncated if the file changes meanwhile, LoaderUnreachable and LoaderProblem.
    """
    form = _Form(path, folder, on_sent)
    with client.request("POST", f"/upload/{_quoted(path.name)}", form, form.headers, patient=True) as response:
        client.document(response)


class _Form:
    """The multipart form of an upload. The folder comes first, because the loader then encrypts in one pass."""

    def __init__(self, path: Path, folder: str, on_sent: Callable[[int], None]) -> None:
        self._path = path
        self._on_sent = on_sent
        boundary = secrets.token_hex(16)
        part = f"--{boundary}\r\nContent-Disposition: form-data; name=".encode()
        self._head = b"".join((part, b'"folder"\r\n\r\n', os.fsencode(folder), b"\r\n", part, _FILE_FIELD))
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
        """Yield the file. A changed file raises before the form ends, because the loader then stores nothing."""
        size, sent = self._status.st_size, 0
        with storage(self._path, 0), self._path.open("rb", buffering=0) as file:
            while piece := file.read(min(READ_SIZE, size - sent)):
                sent += len(piece)
                self._on_sent(len(piece))
                yield piece
            now = os.fstat(file.fileno())
        if sent < size or (now.st_size, now.st_mtime_ns) != (size, self._status.st_mtime_ns):
            raise BodyTruncated(f"{self._path} was changed while it was read, {sent} of {size} bytes were sent.")


def _quoted(filename: str) -> str:
    return quote(os.fsencode(filename), safe="")
