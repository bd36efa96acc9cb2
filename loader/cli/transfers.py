"""Loads through a running loader, streamed: no model is held in memory."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import quote

from loader.cli.client import LoaderClient
from loader.errors import AnswerCut

READ_SIZE = 1 << 18
LOADED = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.NOT_MODIFIED)


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
    client: LoaderClient, folder: str, filename: str, *, known: str | None = None, here: tuple[str, int] | None
) -> Iterator[OpenLoad | None]:
    """Start to load a model. Waits until the loader has fetched and verified the first bytes.

    Yields None if the model is still the edition with the ETag `known`. `here` is the ETag of an edition and how many
    bytes of it are here already: the load continues there if it is still the same. Raises LoaderUnreachable and
    LoaderProblem.
    """
    headers = {} if known is None else {"If-None-Match": known}
    if here is not None:
        headers |= {"If-Range": here[0], "Range": f"bytes={here[1]}-"}
    path = "/models/" + "/".join(map(quoted, [*folder.split("/"), filename] if folder else [filename]))
    with client.request("GET", path, (), headers, patient=True, expected=LOADED) as response:
        yield None if response.status == HTTPStatus.NOT_MODIFIED else _opened(client, response, here)


def _opened(client: LoaderClient, response: http.client.HTTPResponse, here: tuple[str, int] | None) -> OpenLoad:
    begin, length = 0, response.length
    if length is None or response.headers.get("Content-Type") != "application/octet-stream":
        raise client.not_a_loader()
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        etag, begin = here if here is not None else (None, 0)
        # A cache on the way may know nothing of If-Range, and two editions must never be joined.
        if etag is not None and response.headers.get("ETag") != etag:
            raise client.not_a_loader()
        if response.headers.get("Content-Range") != f"bytes {begin}-{begin + length - 1}/{begin + length}":
            raise client.not_a_loader()
    return OpenLoad(response, begin, begin + length)


def quoted(filename: str) -> str:
    return quote(os.fsencode(filename), safe="")
